/** What sweeps write about themselves, and which releases they use. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { Role } from '../../src/reconcile/wanted.ts';
import { touchRows } from '../../src/drift/drifts.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import {
  beginSweep,
  readLastSweeps,
  readLeft,
  readReleases,
  readSweep,
} from '../../src/drift/sweeps-table.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let sweep: Pool;

beforeAll(async () => {
  world = await openWorld('sweeps', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  sweep = openPool(world.config, 'sweep', { max: 1, durable: false });
  await owner.query(
    `INSERT INTO posix_ids (id, kind) SELECT i, 'tool' FROM generate_series(1, 1001) AS i`,
  );
});
afterAll(async () => {
  await Promise.all([owner, sweep].map((pool) => pool?.end()));
  await world?.close();
});
beforeEach(async () => {
  await owner.query('DELETE FROM convergence');
});

const place = (subject: number, role: Role) => ({ subject, role });

test('a subject with rows of many roles counts once, wherever a batch ends', async () => {
  const id = randomUUID();
  // an odd row first, so that every batch would end between two rows of one subject
  const places = Array.from({ length: 1001 }, (_, index): Role[] =>
    index === 0 ? ['homes'] : ['directory', 'homes'],
  ).flatMap((roles, index) => roles.map((role) => place(index + 1, role)));
  const swept = await withClient(sweep, async (client) => {
    await beginSweep(client, id);
    await touchRows(client, id, places);
    return readSweep(client, id);
  });
  expect(swept?.touched).toBe(1001);
  const { rows } = await owner.query('SELECT count(*)::int AS rows FROM convergence');
  expect(rows).toEqual([{ rows: 2001 }]);
});

test('what had been given up is left until it is applied, however long it has been behind', async () => {
  const id = randomUUID();
  await owner.query(
    `INSERT INTO convergence (subject, role, wanted, applied, state, since)
     SELECT i, 'homes', 2, 1, 'parked', now() - interval '9 days' FROM generate_series(1, 3) AS i`,
  );
  // another row that nobody has touched
  const left = async () =>
    withClient(sweep, async (client) => {
      const swept = await readSweep(client, id);
      if (swept === undefined) throw new Error('there is no such sweep');
      const rows = await readLeft(client, swept);
      return rows.map(({ subject, role, state, again }) => [subject, role, state, again]);
    });
  await withClient(sweep, async (client) => {
    await beginSweep(client, id);
    await touchRows(client, id, [place(1, 'homes'), place(2, 'homes')]);
  });
  expect(await left()).toEqual([
    [1, 'homes', 'due', true],
    [2, 'homes', 'due', true],
  ]);
  await owner.query(`UPDATE convergence SET state = 'parked' WHERE subject = 1`);
  await owner.query(`UPDATE convergence SET state = 'applied', applied = wanted WHERE subject = 2`);
  expect(await left()).toEqual([[1, 'homes', 'parked', true]]);
});

test('a release expires if no sweep uses it within an hour', async () => {
  await owner.query(
    `INSERT INTO sweep_releases (digest, by, at) VALUES
       ('fresh', 'unix:root', now() - interval '59 min'), ('stale', 'unix:root', now() - interval '61 min')`,
  );
  const releases = await withClient(sweep, readReleases);
  expect(releases.map(({ digest }) => digest)).toEqual(['fresh']);
});

test.each<[states: string[], last?: string, ended?: string, held?: string]>([
  [[]],
  [['running'], 'running'],
  [['clean', 'running'], 'running', 'clean'],
  [['held'], 'held', 'held', 'held'],
  // these have not judged everything
  [['held', 'unreadable', 'cut', 'frozen', 'moving', 'running'], 'running', 'moving', 'held'],
  [['held', 'touched', 'unreadable'], 'unreadable', 'unreadable'],
])(
  'after %j, the last sweep is known, the last that has ended, and the one that is held',
  async (states, ...expected) => {
    await owner.query('DELETE FROM sweep_releases; DELETE FROM sweeps');
    await owner.query(
      `INSERT INTO sweeps (id, state, began_at, ended_at)
     SELECT gen_random_uuid(), state, now() + n * interval '1 s', CASE WHEN state <> 'running' THEN now() END
     FROM unnest($1::text[]) WITH ORDINALITY AS s (state, n)`,
      [states],
    );
    const { last, ended, held } = await withClient(sweep, readLastSweeps);
    const [a, b, c] = expected;
    expect([last?.state, ended?.state, held?.state]).toEqual([a, b, c]);
  },
);
