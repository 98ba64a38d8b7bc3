/**
 * The kinds of things that `install` takes care of. Each is checked without a change, and corrected in one
 * step: a file is written under another name and renamed, with owner and mode set before.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
} from 'node:fs';
import { writeAll } from '../../src/shared/durable-file.ts';

/** The difference of a piece that does not exist, and of one that should not exist. */
export const MISSING = 'is missing';
export const NOT_NEEDED = 'is no longer needed';

export interface Piece {
  /** The beginning of a line about it: a path, or a word. */
  readonly what: string;
  /** What is wrong, in words; undefined if nothing is. Changes nothing. */
  differs(): string | undefined;
  /** Corrects it. If this is absent, only an admin can. */
  mend?(): void;
  /** While this differs, nothing is changed. */
  readonly isCondition?: boolean;
}

export interface Ownership {
  readonly owner?: string;
  readonly group?: string;
  readonly mode: number;
}

export function folder(path: string, wanted: Ownership): Piece {
  return {
    what: path,
    differs() {
      const seen = lstatSync(path, { throwIfNoEntry: false });
      if (seen === undefined) return MISSING;
      if (!seen.isDirectory()) return 'is not a directory';
      return describeOwnership(seen, wanted);
    },
    mend() {
      if (lstatSync(path, { throwIfNoEntry: false }) === undefined) mkdirSync(path, 0o700);
      const { uid, gid } = idsOf(wanted);
      chownSync(path, uid, gid);
      chmodSync(path, wanted.mode);
    },
  };
}

export interface FileOptions extends Ownership {
  /** The whole text; computed from the present text (undefined if there is none) if that is kept in part. */
  readonly contents: Buffer | string | ((present: string | undefined) => string);
  /** Never shown, not even in part. */
  readonly isSecret?: boolean;
  /** Modes that are accepted as well: a service may set its own. */
  readonly otherModes?: readonly number[];
  /** Tests the new file before it replaces the old one; throws if it is not valid. */
  readonly test?: (candidate: string) => void;
}

export function file(path: string, wanted: FileOptions): Piece {
  const contents = (present: Buffer | undefined): Buffer =>
    Buffer.from(
      typeof wanted.contents === 'function'
        ? wanted.contents(present?.toString('utf8'))
        : wanted.contents,
    );
  return {
    what: path,
    differs() {
      const seen = lstatSync(path, { throwIfNoEntry: false });
      if (seen === undefined) return MISSING;
      if (!seen.isFile()) return 'is not a regular file';
      const present = readFileSync(path);
      const should = contents(present);
      if (!present.equals(should)) {
        return wanted.isSecret === true
          ? 'has different content'
          : describeLines(String(present), String(should));
      }
      const isOtherMode = wanted.otherModes?.includes(seen.mode & 0o7777) === true;
      return describeOwnership(
        seen,
        isOtherMode ? { ...wanted, mode: seen.mode & 0o7777 } : wanted,
      );
    },
    mend() {
      const seen = lstatSync(path, { throwIfNoEntry: false });
      if (seen?.isFile() === false && typeof wanted.contents === 'function') {
        throw new Error(
          'it is not a regular file: put one in its place, with whatever must be kept',
        );
      }
      const present = seen?.isFile() === true ? readFileSync(path) : undefined;
      const candidate = `${path}.new`; // it contains a dot and does not end in .conf, so neither sshd nor sudo reads it
      rmSync(candidate, { force: true });
      try {
        write(candidate, contents(present), wanted);
        wanted.test?.(candidate);
        renameSync(candidate, path);
      } finally {
        rmSync(candidate, { force: true });
      }
    },
  };
}

/** A file that an earlier installation left. */
export function absent(path: string, isDue: () => boolean = () => true): Piece {
  return {
    what: path,
    differs: () => (existsSync(path) && isDue() ? NOT_NEEDED : undefined),
    mend: () => rmSync(path),
  };
}

/** A file that a package brings: if the package is not installed, nothing is missing. */
export function presentFile(path: string, wanted: FileOptions): Piece {
  const piece = file(path, wanted);
  const isThere = (): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  return { ...piece, differs: () => (isThere() ? piece.differs() : undefined) };
}

function write(path: string, contents: Buffer, wanted: Ownership): void {
  const { uid, gid } = idsOf(wanted);
  const to = openSync(path, 'wx', 0o600);
  try {
    writeAll(to, contents);
    fchownSync(to, uid, gid);
    fchmodSync(to, wanted.mode);
    fsyncSync(to);
  } finally {
    closeSync(to);
  }
}

const NO_SHELL = '/usr/sbin/nologin';

/** A system account with a group of its own, which nobody can log in as. */
export function account(name: string): Piece {
  const find = (): LocalAccount | undefined => localAccounts().find((each) => each.name === name);
  return {
    what: `account ${name}`,
    differs() {
      const seen = find();
      if (seen === undefined) return MISSING;
      if (seen.uid === 0) return 'is root';
      if (idOfGroup(name) !== seen.gid) return 'has no group of its own';
      return seen.shell === NO_SHELL ? undefined : `has the shell ${seen.shell}`;
    },
    mend() {
      if (find() !== undefined) command('/usr/sbin/usermod', ['--shell', NO_SHELL, name]);
      else {
        command('/usr/sbin/useradd', [
          ...['--system', '--user-group', '--no-create-home', '--home-dir', '/nonexistent'],
          ...['--shell', NO_SHELL, name],
        ]);
      }
    },
  };
}

/** Debian packages. */
export function packages(names: readonly string[]): Piece {
  return {
    what: 'packages',
    differs() {
      const { stdout } = spawnSync(
        '/usr/bin/dpkg-query',
        ['--show', '--showformat=${db:Status-Abbrev} ${Package}\n', ...names],
        { encoding: 'utf8' },
      );
      const installed = new Set(
        stdout.split('\n').flatMap((line) => /^.i\s+(\S+)/.exec(line)?.[1] ?? []),
      );
      const missing = names.filter((name) => !installed.has(name));
      return missing.length === 0 ? undefined : `are not installed: ${missing.join(' ')}`;
    },
    mend() {
      const env = { DEBIAN_FRONTEND: 'noninteractive' };
      command('/usr/bin/apt-get', ['-q', 'update'], env);
      const options = ['-q', '-y', '-o', 'Dpkg::Options::=--force-confold'];
      command(
        '/usr/bin/apt-get',
        [...options, 'install', '--no-install-recommends', ...names],
        env,
      );
    },
  };
}

/** Runs a program to its end; throws an error with its output if it fails. */
export function command(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): string {
  const ended = spawnSync(program, args, {
    encoding: 'utf8',
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (ended.error !== undefined) throw ended.error;
  if (ended.status === 0) return ended.stdout;
  const said = (ended.stderr.trim() || ended.stdout.trim()).split('\n').slice(-5).join('; ');
  throw new Error(`${program} ${args.join(' ')}: ${said}`);
}

export interface LocalAccount {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

/** The accounts of /etc/passwd, and no others. */
export function localAccounts(): LocalAccount[] {
  return readFields('/etc/passwd').map(([name = '', , uid, gid, , home = '', shell = '']) => ({
    ...{ name, uid: Number(uid), gid: Number(gid), home, shell },
  }));
}

/** The account of that name. Throws if there is none. */
export function requireLocalAccount(name: string): LocalAccount {
  const found = localAccounts().find((each) => each.name === name);
  if (found === undefined) throw new Error(`there is no account ${name}`);
  return found;
}

/** The accounts that have a password (shadow(5)) that is not locked. */
export function accountsWithPassword(): Set<string> {
  const hashes = readFields('/etc/shadow').filter(([, hash = '']) => /^[^!*]/.test(hash));
  return new Set(hashes.map(([name = '']) => name));
}

/** The groups of /etc/group. */
export function localGroups(): { name: string; gid: number }[] {
  return readFields('/etc/group').map(([name = '', , gid]) => ({ name, gid: Number(gid) }));
}

function readFields(path: string): string[][] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(':'));
}

function idOfGroup(name: string): number | undefined {
  return localGroups().find((each) => each.name === name)?.gid;
}

function idsOf({ owner = 'root', group = 'root' }: Ownership): { uid: number; gid: number } {
  const uid = localAccounts().find(({ name }) => name === owner)?.uid;
  const gid = idOfGroup(group);
  if (uid === undefined || gid === undefined) throw new Error(`no account ${owner}:${group}`);
  return { uid, gid };
}

function describeOwnership(seen: Stats, wanted: Ownership): string | undefined {
  const { owner = 'root', group = 'root', mode } = wanted;
  const uid = localAccounts().find(({ name }) => name === owner)?.uid;
  if (seen.uid !== uid || seen.gid !== idOfGroup(group)) {
    return `belongs to ${seen.uid}:${seen.gid}, not ${owner}:${group}`;
  }
  const has = seen.mode & 0o7777;
  return has === mode ? undefined : `has the mode ${octal(has)}, not ${octal(mode)}`;
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}

/** The first line that differs, from a little before the difference; `diff` shows the rest. */
function describeLines(present: string, should: string): string {
  const has = present.split('\n');
  const wants = should.split('\n');
  const first = wants.findIndex((line, index) => line !== has[index]);
  const at = first === -1 ? wants.length : first;
  const [seen, wanted] = [has[at], wants[at]];
  let same = 0;
  while (seen?.[same] !== undefined && seen[same] === wanted?.[same]) same += 1;
  const from = Math.max(0, same - 30);
  const show = (line: string): string => {
    const end = line.length > from + 90 ? '…' : '';
    return `\`${from === 0 ? '' : '…'}${line.slice(from, from + 90)}${end}\``;
  };
  if (seen === undefined) return `line ${at + 1} is missing: ${show(wanted ?? '')}`;
  if (wanted === undefined) return `line ${at + 1} must not be there: ${show(seen)}`;
  return `line ${at + 1} is ${show(seen)}, not ${show(wanted)}`;
}
