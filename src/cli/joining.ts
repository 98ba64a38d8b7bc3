/** How `chamberlain setup` joins a realm, on a machine that is to run roles. */
import { existsSync, writeFileSync } from 'node:fs';
import { readAnswer } from '../../deploy/login-host/join-files.ts';
import { systemdRuns } from '../../deploy/login-host/services.ts';
import { formatJoinRequest } from '../joining/join-request.ts';
import { parseRoleAnswer, type RoleAnswer } from '../joining/role-answer.ts';
import type { MovableRole } from '../roles/index.ts';
import { ownRoleRequest, parseRoles, requestRoles } from '../setup/joined.ts';
import { printable } from '../shared/printable.ts';
import { ChamberlainError, type Code, codeOf } from '../shared/errors.ts';
import { type Command, CONFIG_FILE } from './command.ts';
import { confirm, requireTerminal } from './confirm.ts';
import { wantsJson } from './configuration.ts';
import { print, printJson } from './table.ts';

export interface JoinOptions {
  role?: string;
  request?: string;
  name?: string;
  join?: string;
  fingerprint?: string;
}

/** Writes the join request of this machine. */
export function askToJoin(command: Command, options: JoinOptions): void {
  const { role, request: file = '', name, ...others } = options;
  if (role === undefined) command.error('error: --request needs --role');
  const other = Object.keys(others)[0];
  if (other !== undefined)
    command.error(`error: --request goes with --role and --name, not --${other}`);
  const roles = parseRoles(role);
  const request = forPeople('USAGE', () => requestRoles(roles, name));
  try {
    writeFileSync(file, formatJoinRequest(request));
  } catch (cause) {
    throw new ChamberlainError('USAGE', `writing the join request to ${file}`, { cause });
  }
  if (wantsJson(command)) return printJson({ ...request, file });
  print(
    `${request.name} has the fingerprint ${request.fingerprint}\n` +
      `Send ${file} to an operator, and tell them this fingerprint in another way. The operator compares it, and runs\n` +
      `\`chamberlain join\` with the file where the realm is.\n` +
      `Then run here \`chamberlain setup --join ${request.name}.join\`, which is the answer.`,
  );
}

/** A machine that has joined to run roles, or now does. */
interface JoinedMachine {
  roles: readonly MovableRole[];
  answer?: RoleAnswer;
}

/** Undefined if this machine is to be a realm of its own. */
export async function joinedMachine(
  command: Command,
  options: JoinOptions & { answers?: string; renew?: true },
): Promise<JoinedMachine | 'declined' | undefined> {
  const { join, fingerprint, answers, renew, role, name } = options;
  if (role !== undefined || name !== undefined) {
    command.error('error: --role and --name go with --request');
  }
  if (join === undefined && fingerprint !== undefined) {
    command.error('error: --fingerprint goes with --join');
  }
  const request = forPeople('JOIN_INVALID', ownRoleRequest);
  if (request === undefined && join === undefined) return undefined;
  if (answers !== undefined || renew === true) {
    command.error('error: a machine that joins takes neither --answers nor --renew');
  }
  if (!systemdRuns()) {
    throw new ChamberlainError(
      'USAGE',
      'a machine of roles needs systemd, which does not run here',
    );
  }
  if (join !== undefined) return await takeAnswer(command, join, fingerprint);
  const { roles = [] } = request ?? {};
  if (existsSync(CONFIG_FILE)) return { roles };
  throw new ChamberlainError(
    'USAGE',
    `this machine has a join request for ${roles.join(' and ')}`,
    {
      action:
        'Give the answer with --join. If this is to be a realm of its own, first remove /etc/chamberlain/join.',
    },
  );
}

/** Whoever has seen the join request can encrypt to its key: so the operator compares the fingerprint. */
async function takeAnswer(
  command: Command,
  file: string,
  given: string | undefined,
): Promise<JoinedMachine | 'declined'> {
  if (given === undefined) requireTerminal(command, '--fingerprint');
  const { answer, fingerprint } = forPeople('JOIN_INVALID', () =>
    readAnswer(file, parseRoleAnswer),
  );
  const { roles, config } = answer;
  if (given !== undefined) {
    if (given.toLowerCase() === fingerprint) return { roles, answer };
    const what = `${file} has the fingerprint ${fingerprint}, and not the one that you have given`;
    throw new ChamberlainError('JOIN_INVALID', what);
  }
  print(
    `${answer.name} is to run ${roles.join(' and ')} of the realm ${config.realm}, whose PostgreSQL is at\n` +
      `  ${printable(config.postgres.host)}\n\nThe answer has the fingerprint\n  ${fingerprint}\n`,
  );
  const question = 'Has `chamberlain join` shown this fingerprint? [y/N] ';
  return (await confirm(question)) ? { roles, answer } : 'declined';
}

/** What a login host says in a sentence has no code. */
function forPeople<T>(code: Code, act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (codeOf(error) !== 'INTERNAL') throw error;
    throw new ChamberlainError(code, (error as Error).message);
  }
}
