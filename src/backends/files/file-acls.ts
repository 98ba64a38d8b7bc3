/**
 * Default ACLs, through `getfacl` and `setfacl`, because Node has no getxattr. There is never a process per
 * home: new folders inherit from the staging folder, a survey asks once for all homes, and only a repair costs
 * a process for each.
 */
import { fchmodSync, fchownSync, fstatSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import type { GroupWrite } from '../../targets/files-reader.ts';
import { ChamberlainError, codeOf } from '../../shared/errors.ts';
import { runProgram } from '../../shared/run-programs.ts';
import {
  AREA_FORBIDS,
  OPEN_DIRECTORY,
  STAGING,
  areaPath,
  errnoOf,
  stagingOf,
  whyUnsafe,
  withOpened,
} from './file-mount.ts';
import type { Area, FileServer, Opened } from './file-mount.ts';

/** For a survey of 40,000 homes, getfacl takes about a second. */
const READ_TIMEOUT_MS = 60_000;
const SET_TIMEOUT_MS = 5_000;

/** What to do if an area or the folder of archives cannot be prepared. */
export const PREPARE_AGAIN = 'Correct the fault, and run `chamberlain prepare` again.';

/**
 * Prepares the areas, once, by an admin who knows that they are mounted. It may be called again. Creates the
 * staging folder in each, and gives the one for tools a default ACL, which everything created in it inherits.
 *
 * If the file system has no POSIX ACLs (NFSv4, ramfs), `groupWrite` says `unsupported`: homes are then created
 * and kept without them, and only the maintainer who creates a file with umask 022 can write to it.
 *
 * @param files the paths, and `toolHomeMode` as octal digits; the default ACL repeats its rights for others
 */
export async function prepareFileAreas(
  files: FileServer & { toolHomeMode: string },
): Promise<{ groupWrite: 'kept' | 'unsupported' }> {
  if (files.toolHomes === files.personHomes) {
    throw new ChamberlainError(
      'CONFIG_INVALID',
      'files.toolHomes and files.personHomes are the same folder',
      { action: 'Set them to two folders.' },
    );
  }
  await prepareArea(files, 'personHomes', async () => {});
  const others = Number.parseInt(files.toolHomeMode, 8) & 0o007;
  const acl = `u::rwx,g::rwx,o::${others}`;
  return await prepareArea(files, 'toolHomes', async (staging) => {
    const refused = await runSetfacl(['-d', '--set', acl], staging);
    if (refused === undefined) return { groupWrite: 'kept' as const };
    if (/not supported/iu.test(refused)) return { groupWrite: 'unsupported' as const };
    throw new ChamberlainError('STEP_FAILED', 'setting the default ACL of the staging folder', {
      cause: new Error(refused),
      action: PREPARE_AGAIN,
    });
  });
}

async function prepareArea<Result>(
  files: FileServer,
  area: Area,
  then: (staging: Opened) => Promise<Result>,
): Promise<Result> {
  const path = areaPath(files, area);
  try {
    return await withOpened(path, OPEN_DIRECTORY, async (opened) => {
      const unsafe = whyUnsafe(fstatSync(opened.fd), AREA_FORBIDS);
      if (unsafe !== undefined) throw new Error(unsafe);
      const staging = stagingOf(opened);
      await mkdir(staging, 0o700).catch((error: unknown) => {
        if (errnoOf(error) !== 'EEXIST') throw error;
      });
      return await withOpened(staging, OPEN_DIRECTORY, async (stagingOpened) => {
        fchownSync(stagingOpened.fd, 0, 0);
        fchmodSync(stagingOpened.fd, 0o700);
        const result = await then(stagingOpened);
        await stagingOpened.sync();
        await opened.sync();
        return result;
      });
    });
  } catch (cause) {
    if (codeOf(cause) !== 'INTERNAL') throw cause;
    throw new ChamberlainError('STEP_FAILED', `preparing the area ${path}`, {
      cause,
      action: PREPARE_AGAIN,
    });
  }
}

/** Gives an open directory a default ACL that keeps group write; other entries of the ACL stay. */
export async function keepGroupWrite(directory: Opened): Promise<void> {
  const refused = await runSetfacl(['-d', '-m', 'u::rwx,g::rwx'], directory).catch(
    (cause: unknown) => {
      throw new Error('starting setfacl', { cause });
    },
  );
  if (refused !== undefined) throw new Error(refused);
}

/** Runs setfacl on an inherited descriptor, so on no path that could be swapped. */
async function runSetfacl(words: string[], directory: Opened): Promise<string | undefined> {
  const { code, err } = await runProgram('setfacl', [...words, '/proc/self/fd/3'], {
    fds: [directory.fd],
    timeoutMs: SET_TIMEOUT_MS,
  });
  return code === 0 ? undefined : err.trim() || `setfacl exited with code ${code}`;
}

/**
 * Reads the default ACLs of directories below an area, by paths relative to it, and returns whether each keeps
 * group write. A path that is gone, or has become a link (`-P`), has no answer.
 *
 * The names follow our own grammar, so getfacl quotes none of them. A tenant can swap a folder between our look
 * and this one. The answer is then wrong about the tenant's own folder, which the tenant may change anyway.
 *
 * @returns undefined if the staging folder itself has none: this area keeps no default ACLs
 */
export async function readGroupWrite(
  area: string,
  paths: readonly string[],
): Promise<Map<string, GroupWrite> | undefined> {
  const found = new Map<string, GroupWrite>();
  const { code, out, err } = await runProgram('getfacl', ['-P', '--default', '--numeric', '-'], {
    cwd: area,
    input: [...paths, STAGING].join('\n'),
    timeoutMs: READ_TIMEOUT_MS,
  });
  for (const block of out.split('\n\n')) {
    const name = /^# file: (.*)$/mu.exec(block)?.[1];
    if (name !== undefined) found.set(name, keepsGroupWrite(block) ? 'kept' : 'lost');
  }
  const staging = found.get(STAGING);
  // the staging folder was asked for last: without it the answer is incomplete. Code 1: some paths are gone
  if (staging === undefined || (code !== 0 && code !== 1)) {
    throw new Error(`getfacl exited with code ${code}: ${err.trim()}`);
  }
  return staging === 'kept' ? found : undefined;
}

/** Reads one file's block of `getfacl --default`. A mask limits the rights of the group. acl(5) */
function keepsGroupWrite(block: string): boolean {
  const group = /^group::([rwx-]{3})/mu.exec(block)?.[1];
  const mask = /^mask::([rwx-]{3})/mu.exec(block)?.[1];
  return group === 'rwx' && (mask === undefined || mask === 'rwx');
}
