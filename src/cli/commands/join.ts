/** `chamberlain join`: answers the join request of a new machine. */
import { readBeginning } from '../../shared/durable-file.ts';
import { cannotRead, ChamberlainError } from '../../shared/errors.ts';
import type { Config } from '../../shared/config.ts';
import type { Host } from '../../backends/ldap/directory-hosts.ts';
import { MAX_JOIN_REQUEST, parseJoinRequest } from '../../joining/join-request.ts';
import {
  findJoined,
  type Joining,
  joinHost,
  prepareJoining,
  withHostAccounts,
} from '../../joining/joining.ts';
import { confirm, requireTerminal } from '../confirm.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { startProgress } from '../progress.ts';
import { print, printJson } from '../table.ts';

interface JoinOptions {
  out?: string;
  fingerprint?: string;
}

export function define(command: Command): void {
  command
    .description(
      'Answers the join request in FILE, which `chamberlain-login-host setup --request` has written on a\n' +
        'new login host. Makes an account in the directory for that host alone, and writes one file: all\n' +
        'that the host needs, encrypted to its key. Then run there\n' +
        '`chamberlain-login-host setup --join FILE`.\n\n' +
        'First compare the fingerprint with the one that the new machine shows: whoever can replace FILE\n' +
        'on its way can otherwise join instead. If the same machine has joined before, its account gets a\n' +
        'new password, and the old one ends. Run it as root where the secrets ldap-admin, seal-key and\n' +
        'postgres-admin are. It needs the program `age`.',
    )
    .argument('<FILE>', 'the join request')
    .option('--out <file>', 'where to write the answer (default: NAME.join in this folder)')
    .option(
      '--fingerprint <code>',
      'the fingerprint that the new machine shows; required without a terminal',
    )
    .examples(
      'join login1.json',
      'join login1.json --fingerprint 0123-4567-89ab-cdef --out /root/login1.join',
    )
    .exits({ 1: 'the command failed (see standard error), or the answer was no' })
    .action(async (file: string) => {
      const options = command.opts<JoinOptions>();
      const json = wantsJson(command);
      if (options.fingerprint === undefined) requireTerminal(command, '--fingerprint');
      const config = configOf(command);
      const request = parseJoinRequest(readRequest(file));
      const joining = prepareJoining(config, request);
      const { name, kind, fingerprint } = joining;
      const given = options.fingerprint?.toLowerCase();
      if (given !== undefined && given !== fingerprint) {
        const what = `${file} has the fingerprint ${fingerprint}, and not the one that you have given`;
        throw new ChamberlainError('JOIN_INVALID', what);
      }
      const before = await withHostAccounts(config, (hosts) => findJoined(hosts, joining));
      const out = options.out ?? `${name}.join`;
      if (!json) print(describe(config, joining, before, out));
      const question = '\nDoes the new machine show this fingerprint? [y/N] ';
      if (given === undefined && !(await confirm(question))) return;
      const progress = startProgress({ json });
      const answer = await joinHost(config, joining, { out, say: progress.say }).finally(
        progress.end,
      );
      if (json) printJson({ name, kind, fingerprint, out, answerFingerprint: answer });
      else {
        print(
          `\n${name} may read the directory. Its answer is ${out}, which only that machine can decrypt.\n` +
            `The fingerprint of the answer is ${answer}. Copy the file to the machine, and run there\n` +
            `  chamberlain-login-host setup --join ${out.split('/').at(-1)}`,
        );
      }
    });
}

function describe(
  { realm }: Config,
  joining: Joining,
  before: Host | undefined,
  out: string,
): string {
  const { name, key, fingerprint, ldap } = joining;
  return [
    `${name} is to be a login host of the realm ${realm}:`,
    before === undefined
      ? '- the directory gets an account for it, which may read what login hosts need'
      : '- its account in the directory gets a new password, and the present one ends',
    `- its answer is written to ${out}: it reaches the directory by ${ldap.uris.join(' and ')}`,
    '',
    `key          ${key}`,
    `fingerprint  ${fingerprint}`,
  ].join('\n');
}

function readRequest(file: string): Buffer {
  try {
    return readBeginning(file, MAX_JOIN_REQUEST);
  } catch (cause) {
    throw cannotRead('join request', file, cause, 'USAGE');
  }
}
