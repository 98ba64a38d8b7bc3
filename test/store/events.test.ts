/** How events get their numbers: those of one statement beside those that come one by one. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type NewEvent, writeEvents } from '../../src/store/events.ts';
import { inTransaction, openPool, type Pool } from '../../src/store/postgres.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let intake: Pool;

beforeAll(async () => {
  world = await openWorld('events', { needs: ['postgres'] });
  intake = openPool(world.config, 'intake', { max: 1, durable: false });
});
afterAll(async () => {
  await intake.end();
  await world.close();
});

const told = (event: string, portal?: string): NewEvent => ({
  portal,
  event,
  subject: undefined,
  request: undefined,
  data: {},
});

test('each portal’s are counted by themselves, in the order given, and go on where the last ended', async () => {
  const many = [told('a', 'two'), told('b', 'one'), told('nobody'), told('c', 'two')];
  await inTransaction(intake, (client) => writeEvents(client, many));
  // one by one, as with a verdict
  await intake.query(`INSERT INTO events (portal, event) VALUES ('two', 'd')`);
  await inTransaction(intake, (client) =>
    writeEvents(client, [told('e', 'two'), told('f', 'one')]),
  );
  const { rows } = await intake.query('SELECT portal, seq::int, event FROM events ORDER BY event');
  expect(rows.map((row: object) => Object.values(row))).toEqual([
    ['two', 1, 'a'],
    ['one', 1, 'b'],
    ['two', 2, 'c'],
    ['two', 3, 'd'],
    ['two', 4, 'e'],
    ['one', 2, 'f'],
    [null, null, 'nobody'],
  ]);
});
