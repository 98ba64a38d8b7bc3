/**
 * Database servers that are down while a tool leaves: what remains to be done is shown, and done on their
 * return.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { runCli } from '../../cli/run-cli.ts';
import { startServer, stopServer, type World } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { fill, treasureOf } from './leaving-snapshot.ts';
import {
  archivesOf,
  askDeletion,
  isWhole,
  LEAVING_ROLES,
  type LeavingWorld,
  openLeavingWorld,
  owedOf,
  stateOf,
  type Subject,
  withdrawnIn,
} from './leaving-world.ts';
import { query, readAccounts, readDirectory, settled } from '../outside.ts';

let leaving: LeavingWorld;
let world: World;

beforeAll(async () => {
  leaving = await openLeavingWorld('leaving outage', { own: true });
  ({ world } = leaving);
  await leaving.stopWork();
  await leaving.startWork(LEAVING_ROLES);
});

afterAll(async () => leaving?.close(), 60_000);

const status = async (...args: string[]) =>
  (await runCli(['status', ...args], { config: world.configFile })).out;

async function isGone(tool: Subject): Promise<boolean> {
  const entries = [...(await readDirectory(world)).keys()];
  return entries.every((dn) => !dn.includes(tool.name)) && withdrawnIn(world, tool).length === 0;
}

const accountOn = async (server: 'replica' | 'tools', { user }: Subject) =>
  (await readAccounts(world, server)).get(user);

test('a replica that is down for the whole deletion delays nothing, and is done later', async () => {
  const tool = await leaving.makeTool('replica-down');
  await fill(world, tool);
  await stopServer(world.replica);
  try {
    const wish = { kind: 'tool.delete', requestedBy: 'alice', tool: tool.name };
    await leaving.portal.send(wish);
    await leaving.becomes(tool, 'disabled');
    await eventually('it is owed', async () =>
      (await owedOf(world, tool)).includes('databases failing BACKEND_UNREADABLE'),
    );
    await leaving.endGrace(tool);
    await leaving.becomes(tool, 'deleted');
    await eventually('all the rest', async () => {
      return (
        (await isGone(tool)) &&
        (await accountOn('tools', tool)) === undefined &&
        (await treasureOf(world, tool)).databases.length === 0
      );
    });
    await eventually('what is owed', async () => {
      const owed = await owedOf(world, tool);
      return owed.join() === 'databases failing BACKEND_UNREADABLE';
    });
    expect((await archivesOf(world, tool)).map(isWhole)).toEqual([true, true]);
    expect(await status()).toMatch(/^tools\.replica-down +deleted .*databases failing/m);
    expect(leaving.portal.heard.map(({ event }) => event)).not.toContain('tool.deleted');
  } finally {
    await startServer(world.replica);
  }
  await leaving.portal.hear('tool.deleted');
  await settled(world);
  expect(await accountOn('replica', tool)).toBeUndefined();
  await expect(world.chamberlain('plan', '--all')).resolves.toContain('nothing to do');
});

test('a tools server that is down: nothing is dropped before it was archived', async () => {
  const tool = await leaving.makeTool('tools-down');
  await fill(world, tool);
  const { databases } = await treasureOf(world, tool);
  await askDeletion(leaving, tool);
  await stopServer(world.tools);
  try {
    await leaving.endGrace(tool);
    await leaving.becomes(tool, 'archived');
    await eventually('the archive of the home', async () => {
      const archives = await archivesOf(world, tool);
      return archives.length === 1 && archives[0]?.role === 'homes';
    });
    await eventually('it is owed', async () =>
      (await owedOf(world, tool)).includes('databases failing BACKEND_UNREADABLE'),
    );
    expect(await status(tool.name)).toMatch(/archived/);
    expect(await stateOf(world, tool)).toBe('archived');
    // complete, although its archive exists
    expect(withdrawnIn(world, tool)).toHaveLength(1);
  } finally {
    await startServer(world.tools);
  }
  expect((await treasureOf(world, tool)).databases).toEqual(databases);
  await leaving.becomes(tool, 'deleted');
  await settled(world);
  expect((await archivesOf(world, tool)).map(isWhole)).toEqual([true, true]);
  expect((await treasureOf(world, tool)).databases).toEqual([]);
});

test('a tools server that goes down between the archive and the drop: dropped on its return', async () => {
  const tool = await leaving.makeTool('drop-late');
  await fill(world, tool);
  await askDeletion(leaving, tool);
  const release = await leaving.hold(tool, 'homes');
  await leaving.endGrace(tool);
  await eventually('the archive of the databases', async () => {
    return (await archivesOf(world, tool)).length === 1;
  });
  await stopServer(world.tools);
  try {
    await release();
    await leaving.becomes(tool, 'deleted');
    await eventually('the home to be gone', () => withdrawnIn(world, tool).length === 0);
    const [row] = await query(world, 'SELECT FROM archivals WHERE left_at IS NULL');
    expect(row).toBeUndefined();
  } finally {
    await startServer(world.tools);
  }
  await settled(world);
  expect((await treasureOf(world, tool)).databases).toEqual([]);
  expect(await accountOn('tools', tool)).toBeUndefined();
  await expect(world.chamberlain('plan', '--all')).resolves.toContain('nothing to do');
});
