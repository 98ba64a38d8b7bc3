/** `chamberlain bootstrap`: creates the first admin without a request, because nobody could approve one. */
import { bootstrap } from '../../requests/bootstrap.ts';
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
        'then signs requests with the key that the configuration lists for the portal `admin.PERSON`.',
    )
    .argument('<PERSON>', 'a shell name')
    .option('--displayName <name>', 'the name that others see (default: PERSON)')
    .option('--email <address>', 'a mail address (default: PERSON@localhost)')
    .option('--key <line>', 'a public SSH key, as in a .pub file')
    .examples(
      'bootstrap steward',
      'bootstrap alice --displayName "Alice A." --email alice@example.org',
    )
    .exits()
    .action(async (person: string) => {
      const config = configOf(command);
      const { displayName, email, key } = command.opts<Record<string, string | undefined>>();
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
    });
}
