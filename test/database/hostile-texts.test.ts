/** U+0000, which a directory can store and PostgreSQL cannot: what a role writes is written nevertheless. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { writeOutcomes } from '../../src/reconcile/convergence-table.ts';
import { countUnremembered, rememberUnmanaged } from '../../src/unmanaged/sightings-table.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { withParts } from '../../src/drift/repairs-table.ts';
import { writeReport } from '../../src/drift/surveys-table.ts';
import { wantPerson } from '../laws-world.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let homes: Pool;
let reader: Pool;
let subject: number;

beforeAll(async () => {
  world = await openWorld('hostile', { needs: ['postgres'] });
  const open = (role: 'owner' | 'homes' | 'homes_reader') =>
    openPool(world.config, role, { max: 1, durable: false });
  [owner, homes, reader] = [open('owner'), open('homes'), open('homes_reader')];
  ({ uid: subject } = await wantPerson(owner, world));
  await owner.query(`SELECT touch_generation($1, 'homes')`, [subject]);
});
afterAll(async () => {
  await Promise.all([owner, homes, reader].map((pool) => pool?.end()));
  await world?.close();
});

test('a report', async () => {
  const id = randomUUID();
  await owner.query('INSERT INTO surveys (id) VALUES ($1)', [id]);
  const unreadable = [{ target: 'home-directory', sentence: 'a\0b \\u0000' }];
  const report = { steps: [], findings: [], waiting: [], unreadable, subjects: 1 };
  await writeReport(reader, id, 'homes', report);
  const { rows } = await owner.query('SELECT report FROM reports WHERE survey = $1', [id]);
  expect(rows).toEqual([
    {
      report: {
        ...report,
        unreadable: [{ target: 'home-directory', sentence: 'a\uFFFDb \\u0000' }],
      },
    },
  ]);
});

test('the outcome of a run', async () => {
  await withClient(homes, (client) =>
    writeOutcomes(
      client,
      'homes',
      [{ subject, wanted: '1', attempts: 0 }],
      new Map([[subject, { state: 'parked', code: 'PATH_FOREIGN', sentence: 'x\0' }]]),
    ),
  );
  const { rows } = await owner.query('SELECT state, sentence FROM convergence');
  expect(rows).toEqual([{ state: 'parked', sentence: 'x\uFFFD' }]);
});

test('the outcome of a part of a repair', async () => {
  const repair = randomUUID();
  await owner.query(
    `INSERT INTO repairs (id, asked_by, waited_until) VALUES ($1, 'a test', 'infinity')`,
    [repair],
  );
  await owner.query(
    `INSERT INTO repair_parts (repair, subject, role, digest) VALUES ($1, $2, 'homes', '')`,
    [repair, subject],
  );
  await withParts(homes, 'homes', { subjects: [subject], slow: false }, async () => [
    { repair, subject, state: 'failed', code: 'STEP_FAILED', sentence: 'x\0' },
  ]);
  const { rows } = await owner.query('SELECT state, sentence FROM repair_parts');
  expect(rows).toEqual([{ state: 'failed', sentence: 'x\uFFFD' }]);
});

test('a name that is not ours is skipped, and the others are recorded', async () => {
  await rememberUnmanaged(reader, [{ name: 'a\0', id: 1 }, { name: 'b' }, { id: 7 }] as never);
  const others = [{ name: 'a\0', id: 1 }, { name: 'b' }, { id: 7 }, { name: 'c' }] as never;
  expect(await countUnremembered(owner, others)).toBe(1); // `c`: no request can have a name with U+0000
  const { rows } = await owner.query('SELECT name, id FROM unmanaged_sightings ORDER BY name');
  expect(rows).toEqual([
    { name: '', id: 7 },
    { name: 'b', id: 0 },
  ]);
});
