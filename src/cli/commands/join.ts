/** `chamberlain join`: answers the join request of a new machine. */
import { readBeginning } from '../../shared/durable-file.ts';
import { cannotRead, ChamberlainError } from '../../shared/errors.ts';
import type { Config } from '../../shared/config.ts';
import type { Say } from '../../joining/answer-file.ts';
import {
  type JoinRequest,
  type LoginHostRequest,
  MAX_JOIN_REQUEST,
  parseJoinRequest,
  type RoleRequest,
} from '../../joining/join-request.ts';
import { joinRole, prepareRole, requireNoLoginHost } from '../../joining/role-joining.ts';
import { findJoined, joinHost, prepareJoining, withHostAccounts } from '../../joining/joining.ts';
import { confirm, requireTerminal } from '../confirm.ts';
import type { Command } from '../command.ts';
import { configOf, configPathOf, wantsJson } from '../configuration.ts';
import { withProgress } from '../progress.ts';
import { print, printJson } from '../table.ts';

interface JoinOptions {
  out?: string;
  fingerprint?: string;
}

export function define(command: Command): void {
  command
    .description(
      'Answers the join request in FILE, and writes one file: all that the new machine needs, encrypted to\n' +
        'its key. The request says what the machine is to be:\n\n' +
        '  a login host        written by `chamberlain-login-host setup --request`. The directory gets an\n' +
        '                      account for that host alone. Then run there\n' +
        '                      `chamberlain-login-host setup --join NAME.join`\n' +
        '  a machine of roles  written by `chamberlain setup --role ROLE --request FILE`. The services of\n' +
        '                      these roles stop here, the configuration names the machine, and their secrets\n' +
        '                      are in the answer. Then run there\n' +
        '                      `chamberlain setup --join NAME.join`\n\n' +
        'First compare the fingerprint with the one that the new machine shows: whoever can replace FILE\n' +
        'on its way can otherwise join instead. If the same login host has joined before, its account gets a\n' +
        'new password, and the old one ends. A machine of roles gets the present secrets again. Run it as\n' +
        'root where the secrets ldap-admin, seal-key and postgres-admin are. For a machine of roles, the\n' +
        'secrets of its roles must be there, too. It needs the program `age`.',
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
      const { name, kind, fingerprint } = request;
      const given = options.fingerprint?.toLowerCase();
      if (given !== undefined && given !== fingerprint) {
        const what = `${file} has the fingerprint ${fingerprint}, and not the one that you have given`;
        throw new ChamberlainError('JOIN_INVALID', what);
      }
      const out = options.out ?? `${name}.join`;
      const { shown, join, next } =
        request.kind === 'role'
          ? await roleAct(config, request, { out, configFile: configPathOf(command) })
          : await loginHostAct(config, request, out);
      if (!json) print([...shown, '', ...describeKey(request)].join('\n'));
      const question = '\nDoes the new machine show this fingerprint? [y/N] ';
      if (given === undefined && !(await confirm(question))) return;
      const answer = await withProgress(json, join);
      if (json) printJson({ name, kind, fingerprint, out, answerFingerprint: answer });
      else {
        print(
          `\n${next.done} The answer for ${name} is ${out}, which only that machine can decrypt.\n` +
            `The fingerprint of the answer is ${answer}. Copy the file to the machine, and run there\n` +
            `  ${next.command} --join ${out.split('/').at(-1)}`,
        );
      }
    });
}

/** What is shown, what is then done, and what the operator does next. */
interface Act {
  shown: string[];
  /** returns the fingerprint of the answer */
  join: (say: Say) => Promise<string>;
  next: { done: string; command: string };
}

async function loginHostAct(config: Config, request: LoginHostRequest, out: string): Promise<Act> {
  const joining = prepareJoining(config, request);
  const { name } = joining;
  const before = await withHostAccounts(config, (hosts) => findJoined(hosts, joining));
  return {
    shown: [
      `${name} is to be a login host of the realm ${config.realm}:`,
      before === undefined
        ? '- the directory gets an account for it, which may read what login hosts need'
        : '- its account in the directory gets a new password, and the present one ends',
      `- its answer is written to ${out}; ${name} will reach the directory at ${joining.ldap.uris.join(' and ')}`,
    ],
    join: (say) => joinHost(config, joining, { out, say }),
    next: { done: `${name} may read the directory.`, command: 'chamberlain-login-host setup' },
  };
}

async function roleAct(
  config: Config,
  request: RoleRequest,
  { out, configFile }: { out: string; configFile: string },
): Promise<Act> {
  const { name, roles } = request;
  const joining = prepareRole(config, request);
  await requireNoLoginHost(config, name);
  const all = roles.join(' and ');
  const { postgres } = joining.answer.config;
  const folders = roles.flatMap((role) => foldersOf(config, role));
  return {
    shown: [
      `${name} is to run ${all} of the realm ${config.realm}:`,
      `- ${joining.units.join(' and ')} will stop here, and will not start at boot any more`,
      `- ${configFile} will name the machine, so that \`chamberlain setup\` does not start ${joining.units.join(' and ')} here again`,
      `- its answer is written to ${out}: the secrets of ${all}; ${name} will reach PostgreSQL at ${postgres.host}`,
      ...(folders.length === 0
        ? []
        : [`- not moved: ${folders.join(', ')}. Mount or copy that there before the next step`]),
    ],
    join: (say) => joinRole(config, joining, { out, configFile, say }),
    next: { done: `Stopped here: ${all}.`, command: 'chamberlain setup' },
  };
}

/** What a role works on, where it runs. */
function foldersOf({ files, archives }: Config, role: string): string[] {
  if (role === 'homes') return [files.toolHomes, files.personHomes, archives.homes];
  return role === 'databases' ? [archives.databases] : [];
}

const describeKey = ({ key, fingerprint }: JoinRequest): string[] => [
  `key          ${key}`,
  `fingerprint  ${fingerprint}`,
];

function readRequest(file: string): Buffer {
  try {
    return readBeginning(file, MAX_JOIN_REQUEST);
  } catch (cause) {
    throw cannotRead('join request', file, cause, 'USAGE');
  }
}
