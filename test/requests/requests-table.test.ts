/** A verdict and everything that is written with it. */
import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { writeEvents } from '../../src/events/events-table.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { type NewVerdict, recordVerdict } from '../../src/requests/requests-table.ts';
import { wantPerson } from '../laws-world.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let intake: Pool;
let uid: number;
let name: string;

beforeAll(async () => {
  world = await openWorld('verdicts', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  intake = openPool(world.config, 'intake', { max: 1, durable: false });
  ({ uid, name } = await wantPerson(owner, world));
});
afterAll(async () => {
  await Promise.all([owner.end(), intake.end()]);
  await world.close();
});

async function record(verdict: Partial<NewVerdict>): Promise<void> {
  await withClient(intake, (client) =>
    recordVerdict(client, {
      portal: 'portal',
      jti: randomUUID(),
      bodySha256: randomBytes(32),
      kind: 'person.suspend',
      requestedBy: 'steward',
      approvedBy: 'steward',
      subject: uid,
      verdict: 'accepted',
      code: undefined,
      sentence: undefined,
      urgent: false,
      onDone: undefined,
      touches: [],
      audit: { account: 'p1', fields: [] },
      ...verdict,
    }),
  );
}

test('a role that is touched twice is touched once, and waits for no other role unless it must', async () => {
  const [of, waits] = [{ subject: uid, role: 'databases' as const }, { waits: true as const }];
  const read = async () =>
    (await owner.query('SELECT wanted, state FROM convergence WHERE role = $1', [of.role])).rows;
  await record({ touches: [{ ...of, ...waits }] });
  expect(await read()).toEqual([{ wanted: '1', state: 'waiting' }]);
  await owner.query(`UPDATE convergence SET applied = wanted, state = 'applied'`);
  await record({ touches: [{ ...of, ...waits }, of] });
  expect(await read()).toEqual([{ wanted: '2', state: 'due' }]);
});

test('many events are all written, for each portal in the given order', async () => {
  const events = Array.from({ length: 5000 }, (_, n) => ({
    portal: n % 2 === 0 ? 'portal' : 'another',
    event: 'credentials.revoked',
    subject: uid,
    request: undefined,
    data: { n },
  }));
  await withClient(intake, (client) => writeEvents(client, events));
  const { rows } = await owner.query(
    `SELECT portal, count(*)::int, bool_and((data->>'n')::int / 2 + 1 = n) AS ordered
     FROM (SELECT *, row_number() OVER (PARTITION BY portal ORDER BY row_id) AS n FROM events) AS e
     GROUP BY portal ORDER BY portal`,
  );
  expect(rows).toEqual([
    { portal: 'another', count: 2500, ordered: true },
    { portal: 'portal', count: 2500, ordered: true },
  ]);
});

test('the audit of a refusal names the requester and the approver only if they are known people', async () => {
  const refused = { verdict: 'refused', code: 'NOT_ALLOWED', subject: undefined } as const;
  const audit = { account: undefined, fields: [] };
  await record({ ...refused, audit, requestedBy: name, approvedBy: 'Jane Doe' });
  await record({ ...refused, audit, requestedBy: 'Jane Doe', approvedBy: name });
  const { rows } = await owner.query(
    `SELECT requested_by AS asked, approved_by AS approved FROM audit WHERE verdict = 'refused' ORDER BY id`,
  );
  expect(rows).toEqual([
    { asked: name, approved: null },
    { asked: null, approved: name },
  ]);
});
