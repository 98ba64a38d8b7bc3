/** `chamberlain bootstrap`: what the owner of the database does for admins, because no admin can. */
import { InvalidArgumentError } from 'commander';
import { bootstrap } from '../../requests/bootstrap.ts';
import { approveAsOwner } from '../../requests/owner-answer.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import { operatorName } from '../operator.ts';
import { nameOfServer, openPool } from '../../database/connection.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { whileWaiting } from '../progress.ts';
import { print, printJson } from '../table.ts';

export function define(command: Command): void {
  command
    .description(
      'Creates PERSON as the first admin: the person, with access to the realm, and the admin tool with\n' +
        'this one maintainer. Works only once, in an empty realm, as the owner of the database. The admin\n' +
        'then signs requests with their own key, which the configuration lists under the name `admin.PERSON`.\n\n' +
        'With --approve, the owner of the database approves a request that waits for another admin. That is\n' +
        'refused if an admin can decide: one who has a valid key of their own, and is independent of the\n' +
        'requester ("Another admin" in docs/portals.md).',
    )
    .argument('[PERSON]', 'a shell name')
    .option('--displayName <name>', 'the name that others see (default: PERSON)')
    .option('--email <address>', 'a mail address (default: PERSON@localhost)')
    .option('--key <line>', 'a public SSH key, as in a .pub file')
    .option(
      '--approve <request>',
      'a waiting request: its id or number, as `requests` shows it',
      parseId,
    )
    .examples(
      'bootstrap steward',
      'bootstrap alice --displayName "Alice A." --email alice@example.org',
      'bootstrap --approve 38',
    )
    .exits()
    .action(async (person: string | undefined) => {
      const { approve, ...others } = command.opts<BootstrapOptions>();
      if ((person === undefined) === (approve === undefined)) {
        throw new ChamberlainError('USAGE', 'give either PERSON or --approve');
      }
      if (approve !== undefined) await answer(command, approve);
      else if (person !== undefined) await makeFirstAdmin(command, person, others);
    });
}

interface BootstrapOptions {
  displayName?: string;
  email?: string;
  key?: string;
  approve?: string;
}

function parseId(text: string): string {
  if (/^([0-9]{1,18}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$/iu.test(text)) return text;
  throw new InvalidArgumentError('It must be a UUID or a number.');
}

async function answer(command: Command, request: string): Promise<void> {
  const config = configOf(command);
  const pool = openPool(config, 'owner', { max: 1, durable: true });
  try {
    const of = { by: operatorName(), now: new Date() };
    const approved = await whileWaiting(`writing to ${nameOfServer(config.postgres)}`, () =>
      approveAsOwner(pool, config, request, of),
    );
    const { kind, account, requestedBy } = approved;
    if (wantsJson(command)) printJson(approved);
    else print(`approved: ${kind} of ${requestedBy}, about ${account}`);
  } finally {
    await pool.end();
  }
}

async function makeFirstAdmin(
  command: Command,
  person: string,
  { displayName, email, key }: Omit<BootstrapOptions, 'approve'>,
): Promise<void> {
  const config = configOf(command);
  const pool = openPool(config, 'owner', { max: 1, durable: true });
  try {
    const bootstrapped = await whileWaiting(`writing to ${nameOfServer(config.postgres)}`, () =>
      bootstrap(pool, config, person, {
        displayName: displayName ?? person,
        email: email ?? `${person}@localhost`,
        key,
      }),
    );
    if (wantsJson(command)) printJson(bootstrapped);
    else
      print(
        `${bootstrapped.person.account} is an admin: a maintainer of ${bootstrapped.tool.account}`,
      );
  } finally {
    await pool.end();
  }
}
