/**
 * Somebody who lost access knows a password, while homes cannot create another: because of what is in the
 * file's place, or because it is not running. The password lets nobody in for longer than ten seconds.
 */
import { chownSync, mkdirSync, renameSync, rmdirSync } from 'node:fs';
import { createConnection } from 'mariadb';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { runCli } from '../../cli/run-cli.ts';
import type { World } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import {
  LEAVING_ROLES,
  type LeavingWorld,
  openLeavingWorld,
  owedOf,
} from '../leaving/leaving-world.ts';
import { type CredentialsSeen, query, readCredentials, settled } from '../outside.ts';
import type { Portal } from '../portal.ts';
import { admit } from '../running.ts';

const SERVERS = ['replica', 'tools'] as const;

let leaving: LeavingWorld;
let world: World;
let portal: Portal;

beforeAll(async () => {
  leaving = await openLeavingWorld('locked out');
  ({ world, portal } = leaving);
  await admit(portal, 'keeper');
  await leaving.stopWork();
  await leaving.startWork(LEAVING_ROLES);
});

afterAll(async () => leaving?.close(), 30_000);

/**
 * Whether a password lets in, by server; a locked account is refused with another number than a wrong password.
 */
async function letsIn({ user, password }: CredentialsSeen): Promise<boolean[]> {
  return Promise.all(
    SERVERS.map(async (server) => {
      const socketPath = world[server].socket;
      try {
        await (await createConnection({ socketPath, user, password })).end();
        return true;
      } catch (error) {
        if (![1045, 4151].includes((error as { errno?: number }).errno ?? 0)) throw error;
        return false;
      }
    }),
  );
}
const isShutOut = async (password: CredentialsSeen) =>
  (await letsIn(password)).join() === 'false,false';

async function connect({ user, password }: CredentialsSeen) {
  const socketPath = world.tools.socket;
  const connection = await createConnection({ socketPath, user, password });
  connection.on('error', () => undefined);
  return connection;
}

const suspend = (person: string) =>
  portal.send({ kind: 'person.suspend', requestedBy: 'steward', person, reason: 'x' });
const cli = (...args: string[]) => runCli(args, { config: world.configFile });

test('is locked on every server, is reported, and is replaced by the new one when homes can create it', async () => {
  const blocked = await leaving.makeTool('blocked', { maintainers: ['keeper'] });
  const away = await leaving.makeTool('away', { requestedBy: 'bob', maintainers: ['keeper'] });
  const [one, other] = [blocked, away].map(({ leaver }) => readCredentials(world, leaver)) as [
    CredentialsSeen,
    CredentialsSeen,
  ];
  const open = await Promise.all([connect(one), connect(other)]);
  // as the tool: a single command, which no suspension undoes
  renameSync(one.path, `${one.path}.kept`);
  mkdirSync(one.path);
  chownSync(one.path, blocked.uid, blocked.uid);

  await suspend('alice');
  await eventually('homes to give up', async () =>
    (await owedOf(world, blocked)).includes('homes parked PATH_FOREIGN'),
  );
  await leaving.stopWork();
  await leaving.startWork(['intake']); // the relay would not leave the row so for longer than it waits
  await suspend('bob');
  await eventually('the databases to be waited for', async () => {
    const [row] = await query(
      world,
      `SELECT FROM convergence WHERE subject = $1 AND role = 'databases' AND state = 'waiting'
         AND next_try_at - since = interval '10 s'`,
      [away.uid],
    );
    return row !== undefined;
  });
  await leaving.stopWork();
  await leaving.startWork(LEAVING_ROLES.filter((role) => role !== 'homes'));
  await eventually('both to lose access', async () => (await isShutOut(one)) && isShutOut(other));
  await eventually('both to wait', async () => {
    const owed = [await owedOf(world, blocked), await owedOf(world, away)];
    return (
      owed.join() === 'databases waiting,homes parked PATH_FOREIGN,databases waiting,homes due'
    );
  });
  for (const connection of open) {
    await eventually('what was open to be ended', () =>
      connection.query('SELECT 1').then(
        () => false,
        () => true,
      ),
    );
  }

  // status says what has happened, and what to do
  const told = 'Somebody who lost access may know the old password';
  const status = await cli('status', 'blocked');
  expect(status.exit).toBe(3);
  for (const text of [told, 'chamberlain repair tools.blocked', 'Move it away']) {
    expect(status.out).toContain(text);
  }
  expect((await cli('status', 'away')).out).toContain(told);
  const { out } = await cli('explain', 'tools.away');
  expect(out).toMatch(
    /password number 1, made .*, is in place but lets nobody in until the role homes has made the wanted one/,
  );
  expect(out).toMatch(/database-account .* locked/);
  expect(out).toContain(told);

  // and a survey of the servers finds nothing to do
  const plan = await cli('plan', '--json', '--role', 'databases', 'tools.blocked', 'tools.away');
  expect(JSON.parse(plan.out)).toMatchObject({ steps: [], findings: [], unreadable: [] });

  await leaving.stopWork();
  await leaving.startWork(LEAVING_ROLES);
  rmdirSync(one.path);
  expect(await cli('repair', '--yes', 'tools.blocked')).toMatchObject({ exit: 0 });
  // the second passwords, whose time may come while the first ones are tried
  await query(world, 'UPDATE credentials SET again_at = NULL, again_by = NULL');
  await settled(world);
  for (const [{ leaver }, old] of [
    [blocked, one],
    [away, other],
  ] as const) {
    expect(await letsIn(old)).toEqual([false, false]);
    expect(await letsIn(readCredentials(world, leaver))).toEqual([true, true]);
  }
  await expect(world.chamberlain('plan', '--all')).resolves.toContain('nothing to do');
});
