/** Requests that wait at the same time: decided together, and told together. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openLog } from '../../src/log.ts';
import { found } from '../../src/requests/found.ts';
import { openPool, type Pool } from '../../src/store/postgres.ts';
import { startIntake } from '../../workers/intake.ts';
import type { Worker } from '../../workers/loop.ts';
import { eventually } from '../scenarios/eventually.ts';
import { openPortal, type Portal } from '../scenarios/portal.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let portal: Portal;
let intake: Worker | undefined;

beforeAll(async () => {
  world = await openWorld('intake-batch', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  await found(owner, world.config, 'steward', { displayName: 'Steward', email: 's@example.org' });
  portal = openPortal(world);
});
afterAll(async () => {
  await intake?.close();
  await portal?.close();
  await owner?.end();
  await world?.close();
});

test('32 that wait have their verdicts in one transaction, and all their events in one statement', async () => {
  const people = Array.from({ length: 40 }, (_, n) => `person-${n}`);
  const ids: string[] = [];
  for (const name of people) {
    // what is refused comes among them
    const email = name === 'person-7' ? 'nowhere' : `${name}@example.org`;
    const person = { shellName: name, displayName: name, email };
    ids.push(await portal.send({ kind: 'person.create', requestedBy: name, ...person }));
  }
  intake = startIntake(world.config, openLog('silent'));
  const rows = await eventually('40 verdicts', async () => {
    const seen = await owner.query(
      `SELECT r.jti, r.at, r.verdict, r.code, e.event, e.xmin::text AS written
       FROM requests r JOIN events e ON e.request = r.jti ORDER BY e.row_id`,
    );
    return seen.rows.length >= people.length ? seen.rows : undefined;
  });
  expect(rows.map(({ jti }) => jti)).toEqual(ids);
  for (const [n, { verdict, code, event }] of rows.entries()) {
    expect([n, verdict, code, event]).toEqual(
      n === 7
        ? [n, 'refused', 'REQUEST_INVALID', 'request.refused']
        : [n, 'accepted', null, 'request.accepted'],
    );
  }
  const sizesBy = (of: (row: (typeof rows)[number]) => unknown) =>
    [...Map.groupBy(rows, of).values()].map(({ length }) => length);
  expect(sizesBy(({ at }) => at.getTime())).toEqual([32, 8]);
  expect(sizesBy(({ written }) => written)).toEqual([32, 8]);
});
