/**
 * Looks at homes on the file server. Changes nothing.
 *
 * Needs root or CAP_DAC_READ_SEARCH: homes of people are 0700. Looking uses synchronous calls (four
 * times as fast as promises: 40,000 small files in 0.8 s instead of 3.2), 200 homes at a time.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import {
  CREDENTIALS_MAX_BYTES,
  CREDENTIALS_NAME,
  parseCredentialsFile,
  verifierOf,
} from '../model/credentials.ts';
import type {
  AskedHome,
  CredentialsFileHave,
  CredentialsHave,
  FilesEyes,
  FolderHave,
  HomeHave,
} from '../targets/files-eyes.ts';
import { ChamberlainError } from '../errors.ts';
import { readGroupWrite } from './file-acls.ts';
import {
  AREA_FORBIDS,
  OPEN_DIRECTORY,
  OPEN_SAFELY,
  OPEN_TO_LOOK,
  STAGING_FORBIDS,
  areaPath,
  describeKind,
  errnoOf,
  itself,
  seenOf,
  stagingOf,
  whyUnsafe,
  within,
} from './file-ground.ts';
import type { Area, FileServer } from './file-ground.ts';

const SLICE = 200;

/** Opens the eyes of the role `homes`. */
export function openFilesEyes(files: FileServer): FilesEyes & { close(): Promise<void> } {
  return {
    async readHomes(asked) {
      const haves = await lookAtEach(files, asked, lookAtHome);
      await addGroupWrite(files, asked, haves);
      return haves;
    },
    async readCredentials(asked) {
      return await lookAtEach(files, asked, lookAtCredentials);
    },
    async close() {},
  };
}

/** Opens each area once, and looks at one home after another through its descriptor. */
async function lookAtEach<Have>(
  files: FileServer,
  asked: readonly AskedHome[],
  look: (area: { fd: number }, one: AskedHome) => Have,
): Promise<Have[]> {
  const areas = new Map<Area, { fd: number }>();
  const haves: Have[] = [];
  try {
    for (const one of asked) {
      if (haves.length % SLICE === SLICE - 1) await setImmediate();
      const area = areas.get(one.home.area) ?? openArea(files, one.home.area);
      areas.set(one.home.area, area);
      haves.push(look(area, one));
    }
  } catch (cause) {
    throw unreadable(cause);
  } finally {
    for (const area of areas.values()) closeSync(area.fd);
  }
  return haves;
}

function unreadable(cause: unknown): ChamberlainError {
  return new ChamberlainError('BACKEND_UNREADABLE', 'looking at homes', { cause });
}

function openArea(files: FileServer, name: Area): { fd: number } {
  const area = { fd: openSync(areaPath(files, name), OPEN_DIRECTORY) };
  try {
    const unsafe =
      whyUnsafe(fstatSync(area.fd), AREA_FORBIDS) ??
      whyUnsafe(lstatSync(stagingOf(area)), STAGING_FORBIDS);
    if (unsafe !== undefined) throw new Error(`${areaPath(files, name)} is not used: ${unsafe}`);
    return area;
  } catch (cause) {
    closeSync(area.fd);
    throw cause;
  }
}

function lookAtHome(area: { fd: number }, one: AskedHome): HomeHave {
  return lookInside<HomeHave>(area, one.home.name, (home, stats) => {
    const folders: Record<string, FolderHave> = {};
    if (stats.uid === one.uid) {
      for (const name of one.folders) {
        folders[name] = lookInside<FolderHave>(home, name, (_folder, of) => ({
          kind: 'directory',
          seen: seenOf(of),
          groupWrite: 'unknown',
        }));
      }
    }
    return { kind: 'directory', seen: seenOf(stats), groupWrite: 'unknown', folders };
  });
}

/** Opens a directory by its name in an open one, and says otherwise what stands there instead. */
function lookInside<Have>(
  parent: { fd: number },
  name: string,
  look: (directory: { fd: number }, stats: Stats) => Have,
): Have | { kind: 'absent' } | { kind: 'irregular'; what: string } {
  const path = within(parent, name);
  let fd: number | undefined;
  try {
    const stats = lstatSync(path, { throwIfNoEntry: false });
    if (stats === undefined) return { kind: 'absent' };
    if (!stats.isDirectory()) return { kind: 'irregular', what: describeKind(stats) };
    fd = openSync(path, OPEN_DIRECTORY);
    return look({ fd }, fstatSync(fd));
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return { kind: 'absent' };
    const what = describeHostile(cause);
    if (what === undefined) throw new Error(`looking at ${name}`, { cause });
    return { kind: 'irregular', what };
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/**
 * Errors that a tenant can bring about in a home: by swapping a folder between two of our calls,
 * or by a mount of their own that keeps root out. For eyes without root's rights the latter is a
 * fault of the eyes. All others are the server's: undefined.
 */
function describeHostile(error: unknown): string | undefined {
  const errno = errnoOf(error) ?? '';
  if (['ENOTDIR', 'ELOOP'].includes(errno)) return 'something that was a directory a moment ago';
  const isKeptOut = ['EACCES', 'ENOTCONN'].includes(errno) && process.geteuid?.() === 0;
  return isKeptOut ? `something that cannot be looked at (${errno})` : undefined;
}

function lookAtCredentials(area: { fd: number }, one: AskedHome): CredentialsHave {
  const have = lookInside<CredentialsHave>(area, one.home.name, (home, stats) =>
    stats.uid === one.uid
      ? { home: 'ours', seen: seenOf(stats), file: lookAtFile(home, one.uid) }
      : { home: 'foreign' },
  );
  if ('home' in have) return have;
  return { home: have.kind === 'absent' ? 'absent' : 'foreign' };
}

/** Looks without opening, then opens exactly what was looked at, through its descriptor. */
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
      return { kind: 'irregular', what: `a file of uid ${stats.uid}` };
    }
    if (stats.size > CREDENTIALS_MAX_BYTES) {
      return { kind: 'irregular', what: 'a file of more than 4 KiB' };
    }
    // O_NOFOLLOW would refuse the magic link, which cannot be swapped.
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
    // A lease of the tenant's (fcntl F_SETLEASE): the name can be replaced all the same.
    if (errnoOf(cause) === 'EAGAIN') return { kind: 'irregular', what: 'a file under a lease' };
    const what = describeHostile(cause);
    if (what === undefined) throw new Error(`looking at ${CREDENTIALS_NAME}`, { cause });
    return { kind: 'blocked', what };
  } finally {
    if (opened !== undefined) closeSync(opened.fd);
    if (looked !== undefined) closeSync(looked.fd);
  }
}

function readWhole(file: { fd: number }): string {
  const buffer = Buffer.alloc(CREDENTIALS_MAX_BYTES + 1);
  let sizeBytes = 0;
  for (let got = -1; got !== 0 && sizeBytes < buffer.length; sizeBytes += got) {
    got = readSync(file.fd, buffer, sizeBytes, buffer.length - sizeBytes, null);
  }
  return buffer.toString('latin1', 0, sizeBytes);
}

/** Asks getfacl once, for all homes of tools that are there and theirs. */
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
    // A tenant can take a folder away meanwhile, but not a home: then the answer is short.
    if (answer === undefined && homes.has(path)) throw unreadable(new Error(`no ACL of ${path}`));
    directory.groupWrite = answer ?? 'unknown';
  }
}
