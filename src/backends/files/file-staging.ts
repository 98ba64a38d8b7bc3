/** Creates directories in the staging folder. Only root can reach it, so paths are safe there. */
import { chmodSync, constants, lchownSync, mkdirSync } from 'node:fs';
import { copyFile, lchown, lstat, mkdir, readdir, readlink, rm, symlink } from 'node:fs/promises';
import { OPEN_SAFELY, errnoOf, withOpened } from './file-mount.ts';

/** What a staged directory gets before it is renamed to its place. */
export interface Staged {
  uid: number;
  gid: number;
  mode: number;
  /** inside it, with the same owner and mode */
  folders: readonly string[];
  /** a directory whose content is copied into it; only root may write there */
  skeleton: string | undefined;
}

/**
 * Creates a directory with everything that belongs in it, with its owners and modes; removes the one of an
 * interrupted run.
 */
export async function stageDirectory(path: string, staged: Staged): Promise<void> {
  await makeAnew(path);
  for (const folder of staged.folders) {
    mkdirSync(`${path}/${folder}`, 0o700);
    own(`${path}/${folder}`, staged);
  }
  if (staged.skeleton !== undefined) {
    await copySkeleton(staged.skeleton, path, staged).catch((cause: unknown) => {
      throw new Error(`copying the skeleton ${staged.skeleton}`, { cause });
    });
  }
  own(path, staged);
}

async function makeAnew(path: string): Promise<void> {
  try {
    mkdirSync(path, 0o700);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    await rm(path, { recursive: true });
    mkdirSync(path, 0o700);
  }
}

/** The mode comes last, because a change of owner may clear setgid. */
function own(path: string, { uid, gid, mode }: Staged): void {
  lchownSync(path, uid, gid);
  chmodSync(path, mode);
}

/**
 * Copies directories, files and symbolic links, with their permission bits but without setuid, setgid and
 * sticky. Anything else in a skeleton is left out.
 */
async function copySkeleton(from: string, to: string, owner: Staged): Promise<void> {
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, copy] = [`${from}/${entry.name}`, `${to}/${entry.name}`];
    if (entry.isSymbolicLink()) {
      await symlink(await readlink(source), copy);
      await lchown(copy, owner.uid, owner.gid);
      continue;
    }
    if (entry.isDirectory()) {
      await mkdir(copy, 0o700);
      await copySkeleton(source, copy, owner);
    } else if (entry.isFile()) {
      await copyFile(source, copy, constants.COPYFILE_EXCL);
      await withOpened(copy, OPEN_SAFELY, (file) => file.sync());
    } else {
      continue;
    }
    const { mode } = await lstat(source);
    own(copy, { ...owner, mode: mode & 0o777 });
  }
}
