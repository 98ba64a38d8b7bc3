/**
 * The folder of key files: one for each person who may log in, replaced by rename, so that readers see either
 * the old file or the new one. Root owns the folder and the files; the group (setgid) may read them. Everything
 * is synchronous: 30,000 files take two seconds this way, and five times as long with promises.
 *
 * A file is compared by content. The helper remembers each file as it wrote it (inode, time of change, size); a
 * file that differs is read, and written again. The folder is watched, and checked every minute.
 *
 * | the file, of a person with keys                   | trusted                     | not trusted                      |
 * | ------------------------------------------------- | --------------------------- | -------------------------------- |
 * | holds these keys, and lasts for half of the limit | left                        | left                             |
 * | holds these keys, and lasts for less              | written for the whole limit | left                             |
 * | holds these keys, and lasts for longer than that  | written for the whole limit | written for the whole limit      |
 * | holds something else                              | written for the whole limit | written, for as long as it lasts |
 * | is not there                                      | written for the whole limit | written for what is left of the  |
 * |                                                   |                             | limit since the last heartbeat   |
 *
 * No line lasts longer than the seal. How long a file lasts is judged by its text and the clock, as sshd does
 * it, and not by anything computed before. A clock that jumps therefore makes some files due, and does no other
 * harm.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  watch,
  type FSWatcher,
  type Stats,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate as yieldTurn } from 'node:timers/promises';
import { doing } from '../../shared/errors.ts';
import { START_AGAIN } from './report-socket.ts';
import { grantOf, readKeyLines, renderKeyFile } from './key-lines.ts';
import { removeFile, writeAll } from '../../shared/durable-file.ts';
import type { Troubles } from './troubles.ts';

/** What a file must be. */
export interface KeyWish {
  /** canonical lines separated by line ends; '' if there must be no file */
  list: string;
  /** when the seal ends */
  until: number;
  /** how long a missing file may last if it may not be renewed */
  untrustedUntil: number;
  mayRenew: boolean;
}

export interface KeyFolder {
  readonly root: string;
  readonly gid: number;
  readonly limitMs: number;
  /** the wanted state of a person's file; undefined if nothing is known: an existing file is then left */
  readonly wishOf: (name: string) => KeyWish | undefined;
  readonly troubles: Troubles;
  /** the account of this process */
  readonly self: number;
  /** the path of a file that is being written */
  readonly unfinished: string;
  readonly marks: Map<string, Mark>;
  /** files from before this start that have not been checked */
  readonly present: Set<string>;
  readonly failed: Set<string>;
  /** seen by the watcher, and not checked yet */
  readonly changed: Set<string>;
  watcher: FSWatcher | undefined;
  timer: NodeJS.Timeout | undefined;
}

interface Mark {
  /** the keys in the file */
  list: string;
  /** until when they are granted */
  grant: number;
  ino: number;
  ctimeMs: number;
  size: number;
}

/** No person's name begins like this, so an unfinished file is never used for a login. */
const UNFINISHED = '.new';
/** These names belong to a file system of its own. */
const NOT_OURS = new Set([UNFINISHED, 'lost+found']);
const MODE = 0o640;
/** A clock that is corrected by up to this much makes no file last too long. */
const SLACK_MS = 60_000;
const CHECKED_AT_ONCE = 500;
/** One writing causes several changes. */
const SETTLE_MS = 50;

/** Opens the folder, and makes root its owner. Throws CONFIG_INVALID if that is not possible. */
export function openKeyFolder(
  root: string,
  gid: number,
  limitMs: number,
  wishOf: KeyFolder['wishOf'],
  troubles: Troubles,
): KeyFolder {
  const self = process.getuid?.() ?? 0;
  prepareFolder(root, self, gid);
  return {
    ...{ root, gid, limitMs, wishOf, troubles, self, unfinished: join(root, UNFINISHED) },
    present: new Set(readdirSync(root).filter((name) => !NOT_OURS.has(name))),
    ...{ marks: new Map(), failed: new Set(), changed: new Set() },
    ...{ watcher: undefined, timer: undefined },
  };
}

export function closeKeyFolder({ watcher, timer }: KeyFolder): void {
  watcher?.close();
  clearTimeout(timer);
}

/** Brings a file to its wanted state. */
export function settleKeyFile(folder: KeyFolder, name: string, now: number): void {
  const { root, wishOf, troubles, present, failed } = folder;
  const wish = wishOf(name);
  if (wish === undefined) return;
  if (troubles.attempt(join(root, name), () => bring(folder, name, wish, now))) {
    failed.delete(name);
    return;
  }
  failed.add(name);
  present.add(name); // the next attempt checks whatever is there
}

/** The same for files that no longer last for half of the limit, at most this many. */
export function renewKeyFiles(folder: KeyFolder, now: number, most: number): void {
  const { marks, limitMs } = folder;
  let count = 0;
  for (const [name, { grant }] of marks) {
    if (grant - now > limitMs / 2 && grant <= now + limitMs + SLACK_MS) continue;
    settleKeyFile(folder, name, now);
    if (marks.get(name)?.grant !== grant) count += 1;
    if (count >= most) return;
  }
}

/** Brings the files that existed at the start, and that no call has settled yet, to their wanted state. */
export function settlePresent(folder: KeyFolder, now: number): void {
  for (const name of [...folder.present]) settleKeyFile(folder, name, now);
}

/** Checks all files, and brings those that were changed to their wanted state. */
export async function checkKeyFiles(folder: KeyFolder, clock: () => number): Promise<void> {
  const { root, marks, failed } = folder;
  const unknown = readdirSync(root).filter((name) => !marks.has(name));
  for (const names of [unknown, failed, marks.keys()]) {
    let count = 0;
    for (const name of names) {
      check(folder, name, clock());
      if ((count += 1) % CHECKED_AT_ONCE === 0) await yieldTurn();
    }
  }
}

/** Starts to do the same for each file as soon as it is changed. */
export function watchKeyFolder(
  folder: KeyFolder,
  clock: () => number,
  onError: (error: Error) => void,
): void {
  const { changed } = folder;
  folder.watcher = watch(folder.root, (_event, name) => {
    if (name === UNFINISHED) return;
    changed.add(name ?? '');
    folder.timer ??= setTimeout(() => {
      folder.timer = undefined;
      for (const each of changed) if (each !== '') check(folder, each, clock());
      changed.clear();
    }, SETTLE_MS);
  });
  folder.watcher.on('error', onError);
}

/** When the first and the last file ends; undefined if there is no file. */
export function lastingOf({ marks }: KeyFolder): { first: number; last: number } | undefined {
  let [first, last] = [Infinity, -Infinity];
  for (const { grant } of marks.values()) {
    first = Math.min(first, grant);
    last = Math.max(last, grant);
  }
  return last < first ? undefined : { first, last };
}

function check(folder: KeyFolder, name: string, now: number): void {
  const { root, troubles, marks, present, failed } = folder;
  if (NOT_OURS.has(name)) return;
  const mark = marks.get(name);
  const stat = lstatSync(join(root, name), { throwIfNoEntry: false });
  if (stat === undefined) {
    marks.delete(name);
    present.delete(name);
  } else {
    const { ino, ctimeMs, size } = stat;
    const isSame = mark?.ino === ino && mark.ctimeMs === ctimeMs && mark.size === size;
    if (isSame && !failed.has(name)) return;
    present.add(name);
  }
  settleKeyFile(folder, name, now);
  if (stat === undefined && !marks.has(name) && !failed.has(name)) {
    troubles.remove(join(root, name));
  }
}

function bring(
  folder: KeyFolder,
  name: string,
  { list, until, untrustedUntil, mayRenew }: KeyWish,
  now: number,
): void {
  const { limitMs, marks, present } = folder;
  const isUnknown = present.delete(name);
  if (list === '') {
    if (isUnknown || marks.has(name)) remove(folder, name);
    return;
  }
  const is = isUnknown ? look(folder, name, list) : marks.get(name);
  const most = Math.min(now + limitMs, until);
  if (is?.list === list) {
    const isTooLong = is.grant > most + SLACK_MS;
    const isDue = mayRenew && is.grant - now <= limitMs / 2 && is.grant < most;
    if (!isTooLong && !isDue) return;
  }
  const grant = mayRenew ? most : Math.min(is?.grant ?? untrustedUntil, most);
  if (is === undefined && grant <= now) return;
  try {
    write(folder, name, list, grant);
  } catch (error) {
    // a key that is gone must not stay because there is no room for the others
    if (is?.list !== list) remove(folder, name); // reports its own failure
    throw error;
  }
}

/** What a file grants that this run did not write, or that was changed since. */
function look(
  folder: KeyFolder,
  name: string,
  list: string,
): Pick<Mark, 'list' | 'grant'> | undefined {
  const { root, self, marks } = folder;
  const path = join(root, name);
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isFile()) return undefined;
  // the text of a file that another account wrote says nothing; nor may root read it without CAP_DAC_OVERRIDE
  const isOurs = stat.uid === self && (stat.mode & 0o400) !== 0;
  const text = isOurs ? readFileSync(path, 'utf8') : '';
  const grant = marks.get(name)?.grant ?? grantOf(text);
  marks.delete(name);
  if (grant === undefined) return undefined;
  const isSame = isRight(folder, stat) && renderKeyFile(readKeyLines(list), grant) === text;
  if (!isSame) return { list: '', grant };
  return remember(folder, name, list, grant, stat);
}

function write(folder: KeyFolder, name: string, list: string, grant: number): void {
  const { root, unfinished } = folder;
  const path = join(root, name);
  const text = renderKeyFile(readKeyLines(list), grant);
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  const fd = openSync(unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, MODE);
  try {
    writeAll(fd, text);
  } finally {
    closeSync(fd);
  }
  renameSync(unfinished, path);
  remember(folder, name, list, grant, lstatSync(path));
}

function remove({ root, marks }: KeyFolder, name: string): void {
  removeFile(join(root, name));
  marks.delete(name);
}

function remember(
  { marks }: KeyFolder,
  name: string,
  list: string,
  grant: number,
  stat: Stats,
): Mark {
  const { ino, ctimeMs, size } = stat;
  const mark = { list, grant, ino, ctimeMs, size };
  marks.set(name, mark);
  return mark;
}

function isRight(folder: KeyFolder, { mode, uid, gid }: Stats): boolean {
  return (mode & 0o7777) === MODE && uid === folder.self && gid === folder.gid;
}

function prepareFolder(folder: string, self: number, gid: number): void {
  const prepare = () => {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    // it once belonged to the agent: without CAP_DAC_OVERRIDE, root can open it only as its owner
    lchownSync(folder, self, gid);
    const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
    const fd = openSync(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    try {
      fchmodSync(fd, 0o2750);
    } finally {
      closeSync(fd);
    }
    rmSync(join(folder, UNFINISHED), { recursive: true, force: true });
  };
  doing('CONFIG_INVALID', `preparing ${folder}`, prepare, START_AGAIN);
}
