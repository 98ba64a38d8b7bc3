/**
 * The accounts that this host knows without a server: `passwd.db` of libnss-db, for people whom sssd has
 * never seen while the directory is away. The keys agent says the lines; here each is checked again, by
 * who has the right to write the file, so that a conquered agent makes no root and takes no local name.
 *
 * A line that does not fit is left out and named; it costs nobody else anything. Whoever is left out is
 * still known by sssd. Two lines with one name or one number are both left out: to be known by sssd alone
 * is better than to be given the files of another.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { lstat, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { ChamberlainError } from '../errors.ts';
import { isShellName, isWithin, toolOf } from './account-names.ts';
import type { LoginHostConfig } from './config.ts';

const NUMBER = /^[1-9][0-9]{0,9}$/;
const GECOS = /^[^:\p{C}\p{Zl}\p{Zp}]{0,200}$/u;
const PEOPLES_SHELLS = /^(\/usr)?\/bin\/(sh|bash|dash|rbash|zsh|fish|ksh|mksh|csh|tcsh)$/;
const TOOLS_SHELLS = /^\/bin\/(bash|disabledtoolshell)$/;

const MAKEDB = '/usr/bin/makedb';
const MAKEDB_TIMEOUT_MS = 20_000;
/** 120,000 lines of input in one piece would be 10 MiB of garbage for each list. */
const PIECE_LENGTH = 65_536;

export interface LocalAccounts {
  names: ReadonlySet<string>;
  uids: ReadonlySet<number>;
}

/** What of a config the accounts of a realm are checked by. */
export type Rules = Pick<LoginHostConfig, 'realm' | 'realmGid' | 'ids' | 'homes'>;

/** Reads the names and uids of a passwd(5) file. */
export function parseLocalAccounts(passwd: string): LocalAccounts {
  const fields = passwd.split('\n').map((line) => line.split(':'));
  return {
    names: new Set(fields.flatMap(([name]) => name || [])),
    uids: new Set(fields.flatMap(([, , uid]) => (uid === undefined ? [] : Number(uid)))),
  };
}

/**
 * Checks lines of passwd(5), `name:x:uid:gid:gecos:home:shell`; the second field may be `*` as well.
 *
 * | account          | uid           | gid        | home                    | shell                         |
 * | ---------------- | ------------- | ---------- | ----------------------- | ----------------------------- |
 * | a person's       | of ids.people | realmGid   | `<homes.people>/<name>` | a common one in (/usr)/bin    |
 * | `<realm>.<tool>` | of ids.tools  | as the uid | `<homes.tools>/<tool>`  | bash, or of a disabled tool's |
 *
 * `taken` are the lines as they go into the db, with `*` in the second field: where it is `x`,
 * pam_unix(8) looks for a line of shadow(5), finds none, and lets nobody in. `leftOut` has a sentence for
 * each other line.
 */
export function checkPasswdList(
  lines: readonly string[],
  rules: Rules,
  local: LocalAccounts,
): { taken: string[]; leftOut: string[] } {
  const good: { name: string; uid: string; line: string }[] = [];
  const leftOut: string[] = [];
  const names = new Map<string, number>();
  const uids = new Map<string, number>();
  for (const line of lines) {
    const wrong = whatIsWrong(line, rules, local);
    if (wrong !== undefined) {
      leftOut.push(`${shown(line)}: ${wrong}`);
      continue;
    }
    const [name = '', , uid = '', ...rest] = line.split(':');
    good.push({ name, uid, line: [name, '*', uid, ...rest].join(':') });
    names.set(name, (names.get(name) ?? 0) + 1);
    uids.set(uid, (uids.get(uid) ?? 0) + 1);
  }
  const taken: string[] = [];
  for (const { name, uid, line } of good) {
    if (names.get(name) !== 1) leftOut.push(`${name}: another line has this name`);
    else if (uids.get(uid) !== 1) leftOut.push(`${name}: another line has its uid ${uid}`);
    else taken.push(line);
  }
  return { taken, leftOut };
}

function whatIsWrong(line: string, rules: Rules, local: LocalAccounts): string | undefined {
  const { realm, realmGid, ids, homes } = rules;
  const fields = line.split(':');
  if (fields.length !== 7) return 'it does not have seven fields';
  const [name, password, uid, gid, gecos, home, shell] = fields as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const tool = toolOf(name, realm);
  if (tool === undefined && !isShellName(name)) return 'that is no name of an account of ours';
  if (local.names.has(name)) return 'a local account has this name';
  if (password !== 'x' && password !== '*') return 'its second field is neither x nor *';
  const ranges = tool === undefined ? ids.people : ids.tools;
  if (!NUMBER.test(uid) || !isWithin(Number(uid), ranges)) return 'its uid is out of the ranges';
  if (local.uids.has(Number(uid))) return 'a local account has its uid';
  if (gid !== (tool === undefined ? String(realmGid) : uid)) return 'its gid is another';
  if (!GECOS.test(gecos)) return 'its fifth field is too long, or not printable';
  const wanted = tool === undefined ? `${homes.people}/${name}` : `${homes.tools}/${tool}`;
  if (home !== wanted) return `its home is not ${wanted}`;
  if (!(tool === undefined ? PEOPLES_SHELLS : TOOLS_SHELLS).test(shell)) {
    return 'its shell is none that is allowed';
  }
  return undefined;
}

/** The name of a line as an answer and a log may hold it. */
function shown(line: string): string {
  const name = line.split(':', 1)[0] ?? '';
  return name.slice(0, 40).replace(/[\p{C}\p{Z}]/gu, '?') || 'a line without a name';
}

export interface PasswdDb {
  /**
   * Makes the db of these lines, which must have been checked; one call at a time. False where it was
   * made of the same ones already, and still stands as it was made.
   */
  write(lines: readonly string[]): Promise<boolean>;
}

/**
 * The db at a path, which takes root's folder. It is made beside, as `<path>.new`, and renamed: whoever
 * reads finds the old one or the new one, whole, 0644. Each call that fails throws STEP_FAILED.
 */
export function openPasswdDb(path: string): PasswdDb {
  let last: { digest: string; file: string } | undefined;
  return {
    async write(lines) {
      const hash = createHash('sha256');
      for (const line of lines) hash.update(`${line}\n`);
      const digest = hash.digest('hex');
      if (last?.digest === digest && last.file === (await identify(path))) return false;
      try {
        await make(path, lines);
      } catch (cause) {
        throw new ChamberlainError('STEP_FAILED', `making ${path}`, { cause });
      }
      last = { digest, file: await identify(path) };
      return true;
    },
  };
}

/**
 * What makedb(1) reads, in pieces: a line for each key, the key first: `.<name>` and `=<uid>` to look up
 * by, and `0<n>` to go through all, as in the Makefile of Debian's libnss-db.
 */
function* renderInput(lines: readonly string[]): Generator<string> {
  let piece = '';
  for (const [index, line] of lines.entries()) {
    const [name, , uid] = line.split(':', 3);
    piece += `0${index} ${line}\n.${name} ${line}\n=${uid} ${line}\n`;
    if (piece.length < PIECE_LENGTH) continue;
    yield piece;
    piece = '';
  }
  yield piece;
}

async function make(path: string, lines: readonly string[]): Promise<void> {
  const unfinished = `${path}.new`;
  await rm(unfinished, { force: true }); // of a run that was cut
  try {
    await runMakedb(unfinished, lines);
    const file = await open(unfinished, 'r+');
    try {
      await file.chmod(0o644);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(unfinished, path);
  } catch (cause) {
    await rm(unfinished, { force: true }).catch(() => {}); // the disk may be full
    throw cause;
  }
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function runMakedb(output: string, lines: readonly string[]): Promise<void> {
  const child = spawn(MAKEDB, ['--quiet', '--output', output, '-'], {
    env: {},
    stdio: ['pipe', 'ignore', 'pipe'],
    timeout: MAKEDB_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  const [said, [exit]] = await Promise.all([
    text(child.stderr),
    once(child, 'close'),
    // where it ends early, its exit says why
    pipeline(Readable.from(renderInput(lines)), child.stdin).catch(() => {}),
  ]);
  if (exit === 0) return;
  const [first = ''] = said.split('\n'); // on a full disk, there are three lines for each page
  throw new Error(`makedb: ${first || 'it did not end in time'}`);
}

/** Another file at the same path, or the same one written to, has another identity. */
async function identify(path: string): Promise<string> {
  const stat = await lstat(path, { bigint: true }).catch(() => undefined);
  return stat === undefined ? 'none' : `${stat.ino} ${stat.ctimeNs} ${stat.size}`;
}
