/**
 * The programs that archive homes: GNU tar, zstd, find, cmp, rm, and perl where those are too slow.
 *
 * They run at low priority, and end with this process: the kernel kills each when its parent dies
 * (PR_SET_PDEATHSIG, through setpriv), and all are in one process group, which `signal` kills. Scripts are
 * constant. Names and folders are passed as words and as the working directory, which is that of an open
 * descriptor, so no path can be swapped.
 */
import type { Readable, Writable } from 'node:stream';
import { ChamberlainError } from '../../shared/errors.ts';
import { runPrograms } from '../../shared/run-programs.ts';

/** Precedes each program of a script: `$as tar …`. */
const HEAD = `
as='setpriv --pdeathsig KILL --'
renice -n 19 -p $$ >/dev/null 2>&1
set -o pipefail
`;

/** How much of the programs' complaints goes into a sentence. */
const MOST_COMPLAINTS = 500;

export interface Script {
  script: string;
  words?: readonly string[];
  /** an open directory: `/proc/self/fd/<n>` */
  cwd: string;
  /** a descriptor that it writes to; otherwise its output goes to `onOutput` */
  into?: number;
  signal: AbortSignal;
  /** writes its input; if a script ends before it has read everything, only its exit counts */
  feed?: (into: Writable) => Promise<void>;
  onOutput?: (chunk: Buffer) => void;
  /** receives each line of its standard error; returns true if it was not a complaint */
  onLine?: (line: string) => boolean;
}

/**
 * Runs a bash script to its end. If it exits with another code than 0, throws what it complained of, as
 * STILL_CHANGING if the files changed meanwhile, otherwise as STEP_FAILED; and the reason of `signal`.
 */
export async function runScript(act: string, run: Script): Promise<void> {
  const { script, words = [], cwd, into, signal, feed, onOutput, onLine } = run;
  const bash = {
    ...{ name: 'bash', args: ['--norc', '-c', HEAD + script, 'bash', ...words], cwd },
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
    complaints: (from: Readable) => {
      const complaints = collectLines(from, onLine);
      return (ended: string) => failureOf(act, complaints() || `it ended with ${ended}`);
    },
    ...(into === undefined ? {} : { stdout: into }),
  };
  await runPrograms([bash], {
    signal,
    ...(feed && { from: feed }),
    ...(onOutput && { into: onOutput }),
  });
}

/** Flags of chattr(1), which only root can set, and the only thing that stops root. */
export const IMMUTABLE =
  'something in it is immutable or append-only: find it with `lsattr -R`, and run `chattr -R -ia` on it';

/** What tar prints if somebody writes while it reads. */
const CHANGED = /file changed as we read it|File removed before we read it|File shrank by/u;
const WHY: readonly (readonly [RegExp, string])[] = [
  [/No space left on device|Disk quota exceeded/u, 'the disk is full'],
  [/Operation not permitted/u, IMMUTABLE],
];

function failureOf(act: string, complaint: string): ChamberlainError {
  if (CHANGED.test(complaint)) {
    return new ChamberlainError('STILL_CHANGING', act, { cause: new Error(complaint) });
  }
  const why = WHY.find(([complaints]) => complaints.test(complaint))?.[1];
  const cause = why === undefined ? complaint : `${why}: ${complaint}`;
  return new ChamberlainError('STEP_FAILED', act, { cause: new Error(cause) });
}

/** Collects lines up to a limit: names in a hostile home can be megabytes long. */
function collectLines(from: Readable, onLine?: (line: string) => boolean): () => string {
  let complaints = '';
  let line = '';
  const end = () => {
    if (line !== '' && !(onLine?.(line) ?? false) && complaints.length < MOST_COMPLAINTS) {
      complaints += `${complaints === '' ? '' : '; '}${line}`.slice(0, MOST_COMPLAINTS);
    }
    line = '';
  };
  from.setEncoding('utf8').on('data', (text: string) => {
    const [first = '', ...others] = text.split('\n');
    line = shortened(line + first);
    for (const next of others) {
      end();
      line = shortened(next);
    }
  });
  return () => {
    end();
    return complaints;
  };
}

/** The beginning and the end of a line: programs print the name before their complaint. */
function shortened(line: string): string {
  return line.length <= 2 * HALF_LINE
    ? line
    : `${line.slice(0, HALF_LINE)}…${line.slice(-HALF_LINE)}`;
}
const HALF_LINE = 120;

/**
 * Writes to a program until it has taken everything. Once a program has closed its input, nothing more is
 * written.
 */
export async function writeTo(program: Writable, chunk: Buffer): Promise<void> {
  if (program.destroyed || program.closed) return;
  await new Promise<void>((resolve) => program.write(chunk, () => resolve()));
}

/**
 * Every name, with everything that tar can record of it, in one order: two streams of the same tree are the
 * same bytes. Access times and inode change times are left out, because reading changes them; later formats of
 * sparse files contain the process id. ACLs are among the extended attributes: tar's --acls would read them
 * again, and keep them twice.
 */
export const PACKING =
  `--format=posix --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime
  --sort=name --numeric-owner --xattrs --xattrs-include='*' --sparse --sparse-version=0.0 --one-file-system
  --warning=no-file-ignored --blocking-factor=128`.replaceAll(/\s+/gu, ' ');

/** `$as ${WIDE} zstd …`: with pipes of 1 MiB (F_SETPIPE_SZ is 1031): its input, and one that it names last. */
const WIDE = `perl -e 'fcntl STDIN, 1031, 1 << 20;
  $ARGV[-1] =~ m(^/dev/fd/) and open PIPE, "<", $ARGV[-1] and fcntl PIPE, 1031, 1 << 20; exec @ARGV'`;

/**
 * Passes its input on after a delay: tar writes each line of its list separately, and waking a reader for each
 * costs half as much as packing.
 */
const IN_LARGE_PIECES = `perl -e 'fcntl STDIN, 1031, 1 << 20;
  while (sysread STDIN, $_, 1 << 20) { print or die; select undef, undef, undef, 0.02 if 1 << 19 > length }'`;

const UNPACKING = `$as tar -xpf - --numeric-owner --same-owner --xattrs --xattrs-include='*' \\
  --delay-directory-restore --warning=no-timestamp`;

export const SCRIPTS = {
  /**
   * its directory → compressed, on its output. Reports its progress in records of 64 KiB. Small jobs: zstd
   * takes 20 MiB instead of 57, for files 0.7 % larger.
   */
  pack: `$as tar ${PACKING} --checkpoint=100 --checkpoint-action=echo=%u -cf - . |
    $as ${WIDE} zstd -q -T2 -B2MiB -c`,
  /**
   * compressed input, compared with its directory packed again → one line for each entry of both. It waits for
   * both programs, because their output must be complete.
   */
  compare: `exec 3<&0 4> >(exec $as ${WIDE} cmp -- - <($as zstd -qdc <&3) >&2)
    cmp=$!
    $as tar ${PACKING} --utc -cvvf /dev/fd/4 . </dev/null | $as ${IN_LARGE_PIECES}
    tar=$?
    exec 4>&-
    wait $cmp && exit $tar`,
  /** compressed input → one line for each entry */
  list: `$as zstd -qdc | $as tar --numeric-owner --utc -tvf -`,
  /** compressed input → its directory */
  unpack: `$as zstd -qdc | ${UNPACKING} && $as sync -f .`,
  /**
   * The same, in pieces that are in the folder $1 meanwhile; $2 and $3 are Node and the program that names
   * them. Each piece is moved to its place, the innermost first, and the times of folders are as they were.
   */
  unpackDeep: `$as zstd -qdc | $as "$2" "$3" "$1" | ${UNPACKING} || exit
    $as touch -r . "$1/root" && exec 5<"$1/root" || exit
    n=0; while [ -L "$1/$((n + 1)).to" ]; do n=$((n + 1)); done
    for (( ; n > 0; n-- )); do
      $as touch -r "$1/$n.to/." "$1/time" &&
      $as find "$1/$n" -mindepth 1 -maxdepth 1 -exec mv -n -t "$1/$n.to/" -- {} + &&
      $as rmdir "$1/$n" &&
      $as touch -m -r "$1/time" "$1/$n.to/." || exit
    done
    $as rm -rf -- "$1" && $as touch -m -r /dev/fd/5 . && $as sync -f .`,
  /** its directory → a line `type links inode size` for each entry */
  count: `$as find . -xdev -printf '%y %n %i %s\\n'`,
  /** removes the folder of that name in its directory */
  remove: `$as rm -rf --one-file-system -- "$1"`,
  versions: `tar --version | sed q; zstd --version | sed q`,
} as const;
