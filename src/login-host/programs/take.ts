#!/usr/bin/env -S node --disable-sigusr1
/**
 * `take FILE…`: the part that runs as root, started through sudo by a rule that lets everyone run exactly this
 * command. The caller controls the arguments and the working directory; their uid is SUDO_UID, which sudo sets.
 */
import { readFileSync } from 'node:fs';
import { LOGIN_HOST_CONFIG, loadLoginHostConfig } from '../config.ts';
import { isWithin } from '../account-names.ts';
import { showName, take } from '../take.ts';
import type { Taken } from '../take.ts';
import { identifyCaller } from '../caller.ts';
import { EXIT, describeFailure } from '../../cli/exit.ts';

const HELP = `Usage: take FILE…

Makes you the owner of files and directories that others have put into a directory of yours, with
everything in them. For example, after \`scp -r site login:/data/project/mytool/\`:

  $ become mytool
  $ take site

What you take must be in a directory that you own, on the same file system as that directory, and
belong to one of your groups. A file (not a directory) must also have only one hard link, and be
neither setuid nor setgid. Links in a directory that you take become yours too; what they lead to
does not. FIFOs, sockets and devices are left. Groups and modes do not change.

Exit codes:
  0  everything is yours
  1  something could not be taken: standard error names it and the reason
  2  the command line or the configuration is wrong
`;

const PROGRESS_MS = 1000;

function main(): number {
  const asked = ownArguments();
  const first = asked[0]?.toString('latin1');
  if (first === '--help' || first === '-h') {
    process.stdout.write(HELP);
    return EXIT.done;
  }
  const names = first === '--' ? asked.slice(1) : asked;
  if (names.length === 0) return usage('a file name is missing; see `take --help`');
  if (first?.startsWith('-') === true && first !== '--') {
    const shown = showName(asked[0]!);
    return usage(`there is no option ${shown}; for a file of this name, use ./${shown}`);
  }
  const uid = callerUid();
  if (uid === undefined) return usage('run it as /usr/bin/take, which starts it through sudo');
  const { ids } = loadLoginHostConfig(LOGIN_HOST_CONFIG);
  if (!isWithin(uid, [...ids.people, ...ids.tools])) {
    return refuse(
      `only people and tools of the realm may take files, and you (uid ${uid}) are neither`,
    );
  }

  let refused = 0;
  let nextMs = performance.now() + PROGRESS_MS;
  let isLineOpen = false;
  const clear = (): void => {
    if (isLineOpen) process.stderr.write('\r\u001b[K');
    isLineOpen = false;
  };
  const taken = take(names, identifyCaller(uid), {
    refused(path, reason) {
      refused += 1;
      clear();
      process.stderr.write(`take: ${path}: ${reason}\n`);
    },
    progress({ looked }) {
      if (!process.stderr.isTTY || performance.now() < nextMs) return;
      nextMs = performance.now() + PROGRESS_MS;
      process.stderr.write(`\rtake: ${looked} checked`);
      isLineOpen = true;
    },
  });
  clear();
  if (process.stdout.isTTY) process.stdout.write(`${summarize(taken)}\n`);
  return refused === 0 ? EXIT.done : EXIT.failed;
}

/** The arguments as they were given: `process.argv` has no bytes that are not UTF-8. */
function ownArguments(): Buffer[] {
  const count = process.argv.length - 2;
  const words = readFileSync('/proc/self/cmdline').toString('latin1').split('\0').slice(0, -1);
  return words.slice(words.length - count).map((word) => Buffer.from(word, 'latin1'));
}

function callerUid(): number | undefined {
  const uid = process.env['SUDO_UID'] ?? '';
  return process.geteuid?.() === 0 && /^[0-9]{1,10}$/u.test(uid) ? Number(uid) : undefined;
}

function summarize({ files, directories, links }: Taken): string {
  const parts = [
    [files, 'file', 'files'] as const,
    [directories, 'directory', 'directories'] as const,
    [links, 'link', 'links'] as const,
  ].flatMap(([count, one, many]) => (count === 0 ? [] : [`${count} ${count === 1 ? one : many}`]));
  if (parts.length === 0) return 'took nothing: everything was yours already, or was refused';
  return `took ${new Intl.ListFormat('en-GB').format(parts)}`;
}

function usage(sentence: string): number {
  process.stderr.write(`take: ${sentence}\n`);
  return EXIT.usage;
}

function refuse(sentence: string): number {
  process.stderr.write(`take: ${sentence}\n`);
  return EXIT.failed;
}

// the result must not depend on whether anyone reads the output
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

try {
  process.exitCode = main();
} catch (error) {
  const { line, exit } = describeFailure(error);
  process.stderr.write(`take: ${line}\n`);
  process.exitCode = exit;
}
