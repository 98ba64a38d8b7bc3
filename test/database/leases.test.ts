import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { withSubjects } from '../../src/reconcile/convergence-table.ts';
import { leaseDue } from '../../src/reconcile/relay-queries.ts';
import { wantTool } from '../laws-world.ts';
import { openWorld, type World } from '../stack.ts';

/** More than there is room for, in any class. */
const MANY = 100;
const ROOM = { urgent: 8, failed: 64, givenUp: 4, other: 64, slow: 2 };

let world: World;
let owner: Pool;
let uids: number[];

beforeAll(async () => {
  world = await openWorld('leases', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  const made: number[] = [];
  for (let n = 0; n < MANY; n += 1) made.push((await wantTool(owner, world, [])).uid);
  uids = made;
  await owner.query(`SELECT touch_generation(s, 'homes') FROM unnest($1::int[]) AS s`, [uids]);
});

afterAll(async () => {
  await owner?.end();
  await world?.close();
});

beforeEach(async () => {
  await owner.query('DELETE FROM archivals');
  await owner.query(`UPDATE convergence SET applied = wanted, urgent = false, state = 'applied',
                       leased_until = NULL, ignored_until = NULL`);
});

/** These became due, one after another, longer ago than what was given up must wait. */
async function become(subjects: readonly number[], { urgent = false, state = 'due' } = {}) {
  await owner.query(
    `UPDATE convergence SET wanted = wanted + 1, state = $2, urgent = $3,
       next_try_at = now() - interval '2 min' + array_position($1::int[], subject) * interval '1 ms'
     WHERE role = 'homes' AND subject = ANY ($1::int[])`,
    [subjects, state, urgent],
  );
}

const lease = async () => (await leaseDue(owner, ['homes'])).map(({ subject }) => subject);
const sorted = (some: readonly number[]) => some.toSorted((a, b) => a - b);

test('few jobs that take access away are in Redis at a time, and the last one comes first', async () => {
  await become(uids.slice(1), { urgent: true });
  expect(sorted(await lease())).toEqual(uids.slice(-ROOM.urgent));
  expect(await lease()).toEqual([]);
  const [late] = uids;
  await owner.query(
    `UPDATE convergence SET wanted = wanted + 1, state = 'due', urgent = true, next_try_at = now()
     WHERE role = 'homes' AND subject = $1`,
    [late],
  );
  // one is done: there is room for one
  await owner.query(
    `UPDATE convergence SET applied = wanted, urgent = false, leased_until = NULL
     WHERE role = 'homes' AND subject = $1`,
    [uids.at(-1)],
  );
  expect(await lease()).toEqual([late]);
});

test('a subject that takes long delays no other that must lose access', async () => {
  await become(uids, { urgent: true });
  expect(sorted(await lease())).toEqual(uids.slice(-ROOM.urgent));
  await owner.query(`UPDATE convergence SET leased_until = leased_until - interval '2 s'`);
  expect(sorted(await lease())).toEqual(uids.slice(-2 * ROOM.urgent, -ROOM.urgent));
});

test('subjects that failed before take no room from those that were not tried yet', async () => {
  await become(uids.slice(0, 80), { urgent: true, state: 'failing' });
  await become(uids.slice(80), { urgent: true });
  const leased = await leaseDue(owner, ['homes']);
  expect(leased.filter(({ failing }) => failing)).toHaveLength(ROOM.failed);
  const fresh = leased.filter(({ failing }) => !failing).map(({ subject }) => subject);
  expect(sorted(fresh)).toEqual(uids.slice(-ROOM.urgent));
});

test('all others come in order, whatever is urgent or slow', async () => {
  const [slow, others, urgent] = [uids.slice(0, 10), uids.slice(10, 90), uids.slice(90)];
  await become(others);
  await become(urgent, { urgent: true });
  await become(slow, { urgent: true });
  await owner.query(
    'INSERT INTO archivals (subject, archival) SELECT s, 1 FROM unnest($1::int[]) AS s',
    [slow],
  );
  const leased = await leaseDue(owner, ['homes']);
  const of = (which: (due: (typeof leased)[number]) => boolean) =>
    sorted(leased.filter(which).map(({ subject }) => subject));
  expect(of((due) => due.slow)).toEqual(slow.slice(0, ROOM.slow));
  expect(of((due) => !due.slow && !due.urgent)).toEqual(others.slice(0, ROOM.other));
  expect(of((due) => !due.slow && due.urgent)).toEqual(urgent.slice(-ROOM.urgent));
  expect(await lease()).toEqual([]);
});

test('a subject whose lease has expired comes after those that had none, and alone', async () => {
  await become(uids, { urgent: true });
  const first = sorted(await lease());
  await owner.query(
    `UPDATE convergence SET leased_until = now() - interval '1 s' WHERE leased_until > now()`,
  );
  expect(sorted(await lease())).toEqual(uids.slice(-2 * ROOM.urgent, -ROOM.urgent));
  await owner.query(
    `UPDATE convergence SET applied = wanted, leased_until = NULL
     WHERE role = 'homes' AND subject <> ALL ($1::int[])`,
    [first],
  );
  const again = await leaseDue(owner, ['homes']);
  expect(sorted(again.map(({ subject }) => subject))).toEqual(first);
  expect(again.map(({ failing }) => failing)).toEqual(first.map(() => true));
});

test('what takes access away is tried a minute after it was given up, a few at a time; nothing else is', async () => {
  const [givenUp, ignored, other] = [uids.slice(0, 10), uids.slice(10, 20), uids.slice(20, 30)];
  await become(givenUp, { urgent: true, state: 'parked' });
  await become(ignored, { urgent: true, state: 'parked' });
  await owner.query(
    `UPDATE convergence SET ignored_until = 'infinity' WHERE role = 'homes' AND subject = ANY ($1::int[])`,
    [ignored],
  );
  await become(other, { state: 'parked' });
  const leased = await leaseDue(owner, ['homes']);
  expect(sorted(leased.map(({ subject }) => subject))).toEqual(givenUp.slice(0, ROOM.givenUp));
  // each has a job of its own
  expect(leased.every(({ failing, urgent }) => failing && urgent)).toBe(true);
  expect(await lease()).toEqual([]);

  const homes = openPool(world.config, 'homes', { max: 1, durable: false });
  const looked: number[] = [];
  const refused = { state: 'parked', code: 'STEP_FAILED', sentence: 'no' } as const;
  await withSubjects(homes, 'homes', [...givenUp, ...ignored, ...other], async (held) => {
    looked.push(...held.map(({ wanted }) => wanted.uid));
    return new Map(
      held.map(({ wanted }, index) => [wanted.uid, index === 0 ? { state: 'applied' } : refused]),
    );
  });
  await homes.end();
  expect(sorted(looked)).toEqual(givenUp);
  // given up again, for another minute
  expect(await lease()).toEqual([]);
  await owner.query(
    `UPDATE convergence SET next_try_at = now() - interval '61 s' WHERE role = 'homes' AND state = 'parked'`,
  );
  expect(await lease()).toHaveLength(ROOM.givenUp);
  const { rows } = await owner.query(
    `SELECT count(*)::int AS n FROM convergence WHERE role = 'homes' AND subject = ANY ($1::int[]) AND applied = wanted`,
    [givenUp],
  );
  expect(rows).toEqual([{ n: 1 }]);
});
