/** A statement that takes long is ended on the server, too, and whatever happens meanwhile ends no process. */
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { readSecret } from '../../../src/shared/config.ts';
import { usePatiently } from '../../../src/backends/mariadb/mariadb-connections.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { administer, openWorld, type World } from '../../stack.ts';
import { openStatementCutter, type StatementCutter } from './statement-cutter.ts';

const ENDED = new Error('the worker ends');

let world: World;
let proxy: StatementCutter;

beforeAll(async () => {
  world = await openWorld('mariadb connections', { needs: ['mariadb'] });
  proxy = await openStatementCutter(join(world.dir, 'proxy'), world.tools.socket);
});
afterEach(async () => {
  const statements = (await sleeping()).map((id) => `KILL ${id};`).join('');
  if (statements !== '') await administer(world.tools.socket, statements);
});
afterAll(async () => {
  await proxy.close();
  await world.close();
});

/** The connections whose statement sleeps. */
async function sleeping(): Promise<string[]> {
  const rows = await administer(
    world.tools.socket,
    `SELECT id FROM information_schema.processlist WHERE info = 'SELECT SLEEP(1000)'`,
  );
  return rows.split('\n').filter((id) => id !== '');
}

/** Begins a statement that sleeps, and ends it when the server has it. */
async function endSleep(): Promise<void> {
  const login = {
    user: 'chamberlain_databases',
    password: readSecret(world.config, 'mariadb', 'databases'),
  };
  const ending = new AbortController();
  const place = { name: 'toolsdb', socket: proxy.socket };
  const used = usePatiently(place, login, ending.signal, (connection) =>
    connection.query('SELECT SLEEP(1000)'),
  );
  await eventually('the statement to run', async () => (await sleeping()).length === 1);
  ending.abort(ENDED);
  await expect(used).rejects.toBe(ENDED);
}

test('the statement is ended on the server', async () => {
  await endSleep();
  await eventually('the statement to end', async () => (await sleeping()).length === 0);
});

test('the server is lost while it is asked to end the statement: nothing is thrown elsewhere', async () => {
  proxy.cutAt(1, 'before'); // the statement after the SELECT
  const unhandled: unknown[] = [];
  const note = (error: unknown) => unhandled.push(error);
  process.on('unhandledRejection', note);
  try {
    await endSleep();
    await eventually('the KILL to be cut', async () =>
      proxy.came.some((words) => words.startsWith('KILL')),
    );
    // the end of its connection has been noticed before this is answered
    await administer(proxy.socket, 'SELECT 1');
  } finally {
    process.off('unhandledRejection', note);
  }
  expect(unhandled).toEqual([]);
});
