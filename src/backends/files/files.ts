/**
 * Reads the state of homes on the file server. Changes nothing.
 *
 * Needs root or CAP_DAC_READ_SEARCH, because homes of people are 0700. The calls are synchronous (four times as
 * fast as promises: 40,000 small files in 0.8 s instead of 3.2), 200 homes at a time.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs';
import type { Stats } from 'node:fs';
import {
  CREDENTIALS_MAX_BYTES,
  CREDENTIALS_NAME,
  parseCredentialsFile,
  verifierOf,
} from '../../credentials/credentials.ts';
import type {
  AskedHome,
  CredentialsFileHave,
  CredentialsHave,
  FilesReader,
  FolderHave,
  HomeHave,
} from '../../targets/files-reader.ts';
import type { HomePath } from '../../reconcile/action.ts';
import type { SeenDeletion } from '../../archives/deletion.ts';
import type { ErasedPerson } from '../../lifecycle/erased-person.ts';
import type { HomeSighting } from '../../targets/everything.ts';
import { readErasures } from '../../lifecycle/erasure-list.ts';
import { lookInArchives, openArchives } from '../../archives/container.ts';
import { lookAtArchives, readHomeDeletions } from '../../archives/homes/file-archive-reading.ts';
import { readGroupWrite } from './file-acls.ts';
import { homeArchives } from '../../archives/homes/file-archive-mount.ts';
import { type FolderMemory, type ListedPath, listHomes, listUnmanaged } from './file-listing.ts';
import {
  OPEN_DIRECTORY,
  OPEN_SAFELY,
  OPEN_TO_LOOK,
  areaPath,
  describeKind,
  errnoOf,
  itself,
  openArea,
  seenOf,
  unreadable,
  within,
} from './file-mount.ts';
import type { FileServer } from './file-mount.ts';
import { describeHostile, lookAtEach, lookAtFolder, refusalOf } from './file-looking.ts';

/** The reader of the role `homes`; `listHomes` lists everything in both areas, and its owners. */
export interface OpenFilesReader extends FilesReader {
  listHomes(piece: number): AsyncGenerator<HomeSighting[]>;
  /** What is in an area, or in the folder of archives, and is not ours. */
  listUnmanaged(
    where: HomePath['area'] | 'archives',
    isOurs: Parameters<typeof listUnmanaged>[1],
    memory?: FolderMemory,
  ): Promise<ListedPath[]>;
  /** The people who were erased by law, by the list next to the archives. Throws BACKEND_UNREADABLE. */
  readErased(): ErasedPerson[];
  /** The deletions that archives show, except those with these names. Throws BACKEND_UNREADABLE. */
  readDeletions(recorded: ReadonlySet<string>): SeenDeletion[];
  close(): Promise<void>;
}

/**
 * Opens the reader of the role `homes`.
 *
 * @param archives the folder of archives, which belongs to root
 */
export function openFilesReader(files: FileServer, archives: string): OpenFilesReader {
  return {
    listHomes: (piece) => listHomes(files, piece),
    listUnmanaged: (where, isOurs, memory) =>
      listUnmanaged(
        () =>
          where === 'archives' ? openArchives(homeArchives(archives)) : openArea(files, where),
        isOurs,
        memory,
      ).catch((cause: unknown) => {
        throw unreadable(cause);
      }),
    async readHomes(asked) {
      const haves = await lookAtEach(files, asked, lookAtHome);
      await addGroupWrite(files, asked, haves);
      return haves;
    },
    async readCredentials(asked) {
      return await lookAtEach(files, asked, lookAtCredentials);
    },
    readArchives: (asked) => lookAtArchives(files, archives, asked),
    readDeletions: (recorded) => readHomeDeletions(files, archives, recorded),
    readErased() {
      try {
        return lookInArchives(homeArchives(archives), readErasures);
      } catch (cause) {
        throw unreadable(cause);
      }
    },
    async close() {},
  };
}

function lookAtHome(area: { fd: number }, one: AskedHome): HomeHave {
  if (one.folders.length === 0) {
    const have = lookAtFolder(area, one.home.name);
    return have.kind === 'directory' ? { ...have, folders: {} } : have;
  }
  return lookInside<HomeHave>(area, one.home.name, (home, stats) => {
    const folders: Record<string, FolderHave> = {};
    if (stats.uid === one.uid) {
      for (const name of one.folders) {
        folders[name] = lookAtFolder(home, name);
      }
    }
    return { kind: 'directory', seen: seenOf(stats), groupWrite: 'unknown', folders };
  });
}

/** Opens a directory by its name in an open one, or describes what has its place instead. */
function lookInside<Have>(
  parent: { fd: number },
  name: string,
  look: (directory: { fd: number }, stats: Stats) => Have,
): Have | { kind: 'absent' } | { kind: 'irregular'; what: string } {
  const path = within(parent, name);
  let fd: number | undefined;
  try {
    try {
      fd = openSync(path, OPEN_DIRECTORY);
    } catch (cause) {
      // what is not a directory is not opened by this (open(2), O_DIRECTORY), but refused
      const stats = lstatSync(path, { throwIfNoEntry: false });
      if (stats === undefined) return { kind: 'absent' };
      if (!stats.isDirectory()) return { kind: 'irregular', what: describeKind(stats) };
      throw cause;
    }
    return look({ fd }, fstatSync(fd));
  } catch (cause) {
    return refusalOf(name, cause);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function lookAtCredentials(area: { fd: number }, one: AskedHome): CredentialsHave {
  const have = lookInside<CredentialsHave>(area, one.home.name, (home, stats) =>
    stats.uid === one.uid
      ? { home: 'ours', seen: seenOf(stats), file: lookAtFile(home, one.uid) }
      : { home: 'unmanaged' },
  );
  if ('home' in have) return have;
  return { home: have.kind === 'absent' ? 'absent' : 'unmanaged' };
}

/** Examines a file without opening it, then opens exactly that file through its descriptor. */
function lookAtFile(home: { fd: number }, uid: number): CredentialsFileHave {
  let looked: { fd: number } | undefined;
  let opened: { fd: number } | undefined;
  try {
    const path = within(home, CREDENTIALS_NAME);
    looked = { fd: openSync(path, OPEN_TO_LOOK) };
    const stats = fstatSync(looked.fd);
    if (stats.isDirectory()) return { kind: 'blocked', what: 'a directory' };
    if (!stats.isFile()) return { kind: 'irregular', what: describeKind(stats) };
    if (stats.uid !== uid && stats.uid !== 0) {
      return { kind: 'irregular', what: `a file that belongs to uid ${stats.uid}` };
    }
    if (stats.size > CREDENTIALS_MAX_BYTES) {
      return { kind: 'irregular', what: 'a file of more than 4 KiB' };
    }
    // O_NOFOLLOW would refuse the magic link, which cannot be swapped
    opened = { fd: openSync(itself(looked), OPEN_SAFELY & ~constants.O_NOFOLLOW) };
    const credentials = parseCredentialsFile(readWhole(opened));
    if (credentials === undefined) {
      return { kind: 'irregular', what: 'a file that does not hold credentials' };
    }
    const { user, password } = credentials;
    const verifier = verifierOf(password);
    return { kind: 'regular', seen: seenOf(stats), links: stats.nlink, user, verifier };
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return { kind: 'absent' };
    // F_SETLEASE by the tenant: the name can be replaced nevertheless
    if (errnoOf(cause) === 'EAGAIN') {
      return { kind: 'irregular', what: 'a file on which a program holds a file lease (fcntl)' };
    }
    const what = describeHostile(cause);
    if (what === undefined) throw new Error(`examining ${CREDENTIALS_NAME}`, { cause });
    return { kind: 'blocked', what };
  } finally {
    if (opened !== undefined) closeSync(opened.fd);
    if (looked !== undefined) closeSync(looked.fd);
  }
}

/** One buffer for all files: nothing runs between reading and taking the text out. */
const READ_INTO = Buffer.alloc(CREDENTIALS_MAX_BYTES + 1);

function readWhole(file: { fd: number }): string {
  // a regular file is read to its end, or as far as was asked (read(2))
  const sizeBytes = readSync(file.fd, READ_INTO, 0, READ_INTO.length, null);
  const text = READ_INTO.toString('latin1', 0, sizeBytes);
  READ_INTO.fill(0, 0, sizeBytes); // it holds passwords
  return text;
}

/** Asks getfacl once, for all existing homes of tools that belong to them. */
async function addGroupWrite(
  files: FileServer,
  asked: readonly AskedHome[],
  haves: readonly HomeHave[],
): Promise<void> {
  const ours = new Map<string, Extract<FolderHave, { kind: 'directory' }>>();
  const homes = new Set<string>();
  asked.forEach(({ home, uid }, index) => {
    const have = haves[index];
    if (home.area !== 'toolHomes' || have?.kind !== 'directory' || have.seen.uid !== uid) return;
    ours.set(home.name, have);
    homes.add(home.name);
    for (const [name, folder] of Object.entries(have.folders)) {
      if (folder.kind === 'directory') ours.set(`${home.name}/${name}`, folder);
    }
  });
  if (ours.size === 0) return;
  const found = await readGroupWrite(areaPath(files, 'toolHomes'), [...ours.keys()]).catch(
    (cause: unknown) => {
      throw unreadable(cause);
    },
  );
  if (found === undefined) return;
  for (const [path, directory] of ours) {
    const answer = found.get(path);
    // a tenant can remove a folder meanwhile, but not a home: if that is missing, the answer is incomplete
    if (answer === undefined && homes.has(path)) throw unreadable(new Error(`no ACL of ${path}`));
    directory.groupWrite = answer ?? 'unknown';
  }
}
