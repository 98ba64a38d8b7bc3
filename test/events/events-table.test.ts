/** The numbers of events, and how many events go into one job. */
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { numberEvents, readDeliveries, readEvents } from '../../src/events/deliveries.ts';
import { handOverEvents, type NewEvent, writeEvents } from '../../src/events/events-table.ts';
import { inTransaction, openPool, type Pool } from '../../src/database/connection.ts';
import { openWorld, type World } from '../stack.ts';
import { eventually } from '../scenarios/eventually.ts';
import { query } from '../scenarios/outside.ts';

let world: World;
let intake: Pool;
let relay: Pool;

beforeAll(async () => {
  world = await openWorld('events', { needs: ['postgres'] });
  intake = openPool(world.config, 'intake', { max: 2, durable: false });
  relay = openPool(world.config, 'relay', { max: 2, durable: false });
});
beforeEach(() => query(world, 'TRUNCATE events, event_sequences'));
afterAll(async () => {
  await Promise.all([intake.end(), relay.end()]);
  await world.close();
});

const told = (event: string, portal?: string, data = {}): NewEvent => ({
  portal,
  event,
  subject: undefined,
  request: undefined,
  data,
});
const write = (...events: NewEvent[]) =>
  inTransaction(intake, (client) => writeEvents(client, events));
const numbers = async () =>
  (await query(world, 'SELECT portal, seq::int, event FROM events ORDER BY event')).map(
    (row: object) => Object.values(row),
  );

test('each portal has its own numbers, in the order of the events, which continue after the last one', async () => {
  await write(told('a', 'two'), told('b', 'one'), told('nobody'), told('c', 'two'));
  expect(await numberEvents(relay)).toBe(3);
  await write(told('d', 'two'));
  await write(told('e', 'two'), told('f', 'one'));
  expect(await numberEvents(relay)).toBe(3);
  expect(await numberEvents(relay)).toBe(0);
  expect(await numbers()).toEqual([
    ['two', 1, 'a'],
    ['one', 1, 'b'],
    ['two', 2, 'c'],
    ['two', 3, 'd'],
    ['two', 4, 'e'],
    ['one', 2, 'f'],
    [null, null, 'nobody'],
  ]);
  expect((await readDeliveries(relay)).map(({ portal, last }) => [portal, last])).toEqual([
    ['one', 2],
    ['two', 4],
  ]);
});

test('events that are numbered while they become those of another portal get its numbers', async () => {
  await write(told('a', 'one'), told('b', 'one'));
  let numbering: Promise<number> | undefined;
  await inTransaction(intake, async (client) => {
    expect(await handOverEvents(client, 'one', 'two')).toBe(2);
    numbering = numberEvents(relay);
    await eventually('the relay to wait', async () => {
      const blocked = `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`;
      return (await query(world, blocked)).length > 0;
    });
  });
  expect(await numbering).toBe(0);
  await write(told('c', 'two'));
  expect(await numberEvents(relay)).toBe(3);
  expect(await numbers()).toEqual([
    ['two', 1, 'a'],
    ['two', 2, 'b'],
    ['two', 3, 'c'],
  ]);
});

test('two transactions that write to the same portals in different orders do not deadlock', async () => {
  const [first, second] = await Promise.all([intake.connect(), intake.connect()]);
  await first.query('BEGIN');
  await second.query('BEGIN');
  await writeEvents(first, [told('a', 'one')]);
  await writeEvents(second, [told('b', 'two')]);
  await writeEvents(first, [told('c', 'two')]);
  await writeEvents(second, [told('d', 'one')]);
  await second.query('COMMIT');
  // an event that is not committed yet is numbered later, so none is skipped
  expect(await numberEvents(relay)).toBe(2);
  await first.query('COMMIT');
  expect(await numberEvents(relay)).toBe(2);
  expect(await numbers()).toEqual([
    ['one', 2, 'a'],
    ['two', 1, 'b'],
    ['two', 2, 'c'],
    ['one', 1, 'd'],
  ]);
  first.release();
  second.release();
});

test('two relays that number at once give each event one number, and each number once', async () => {
  for (let n = 0; n < 20; n += 1) await write(...many(50, 'one'), ...many(50, 'two'));
  await Promise.all([numberEvents(relay), numberEvents(relay)]);
  const rows = await query<{ portal: string; seq: string | null }>(
    world,
    'SELECT portal, seq FROM events',
  );
  expect(rows.filter(({ seq }) => seq === null)).toEqual([]);
  expect(new Set(rows.map(({ portal, seq }) => `${portal} ${seq}`)).size).toBe(2000);
});

test('a job contains as many events as fit, in order, and at least one', async () => {
  const large = { text: 'x'.repeat(10_000) };
  await write(...many(5, 'one', large), told('last', 'one'));
  await numberEvents(relay);
  const seqs = async (after: number, mostBytes: number, most = 100) =>
    (await readEvents(relay, 'one', after, { most, mostBytes })).events.map(({ seq }) => seq);
  expect(await seqs(0, 32_000)).toEqual([1, 2, 3]);
  expect(await seqs(0, 32_000, 2)).toEqual([1, 2]);
  expect(await seqs(3, 32_000)).toEqual([4, 5, 6]);
  expect(await seqs(3, 10)).toEqual([4]);
  expect(await seqs(6, 10)).toEqual([]);
});

function many(count: number, portal: string, data = {}): NewEvent[] {
  return Array.from({ length: count }, (_, n) => told(`e${n}`, portal, data));
}
