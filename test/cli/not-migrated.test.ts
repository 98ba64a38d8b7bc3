/** Before `migrate`, every command says the same: what is wrong, and what to do. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { asSuperuser, openWorld, type World } from '../stack.ts';
import { runCli } from './run-cli.ts';

let world: World;

beforeAll(async () => {
  world = await openWorld('not-migrated', { needs: ['postgres', 'slapd'] });
  await asSuperuser(world.postgres, world.config.postgres.database, (client) =>
    client.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public'),
  );
});
afterAll(() => world.close());

test.each([
  ['status'],
  ['status alice'],
  ['requests'],
  ['survey'],
  ['survey alice'],
  ['plan --all'],
  ['repair --all --yes'],
  ['explain alice'],
  ['audit'],
  ['audit verify'],
  ['sweep'],
  ['freeze --reason x'],
  ['thaw'],
  ['bootstrap steward'],
  ['import --from-directory'],
  ['recover'],
])('%s', async (line) => {
  const { exit, out, err } = await runCli(line.split(' '), { config: world.configFile });
  expect({ exit, out, err: err.split('\n').at(-2) }).toEqual({
    exit: 2,
    out: '',
    err: 'CONFIG_INVALID: the database is not migrated to this version. Run `chamberlain migrate`.',
  });
});
