/** What `status` shows further down ends it with 3 too, at the same bounds as in `doctor`. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { EXIT } from '../../../src/cli/exit.ts';
import { openPool, type Pool, withClient } from '../../../src/database/connection.ts';
import { lookAtWork } from '../../../src/doctor/work.ts';
import { openWorld, type World } from '../../stack.ts';
import { pretendWork } from '../pretend-work.ts';
import { runCli } from '../run-cli.ts';

let world: World;
let owner: Pool;
let admin: Pool;

beforeAll(async () => {
  world = await openWorld('alerts', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  admin = openPool(world.config, 'admin', { max: 1, durable: false });
  await runCli(['bootstrap', 'steward'], { config: world.configFile });
  await owner.query(`INSERT INTO event_sequences (portal, last) VALUES ('portal', 1), ('gone', 0)
                     ON CONFLICT (portal) DO UPDATE SET last = excluded.last`);
  await owner.query(`INSERT INTO event_deliveries (portal, completed) VALUES ('portal', 1)`);
});
afterAll(async () => {
  await Promise.all([owner.end(), admin.end()]);
  await world.close();
});

/** The exit code and the output of `status`, and what `doctor` finds of this. */
async function look(named: RegExp) {
  await pretendWork(owner);
  const { exit, out } = await runCli(['status'], { config: world.configFile });
  const lines = await withClient(admin, (client) => lookAtWork(client, world.config, new Date()));
  const wrong = lines.filter(
    ({ state, what, todo = '' }) => state === 'fix' && named.test(what + todo),
  );
  return { exit, out, wrong: wrong.length };
}

const sweep = (state: string, ago: string) =>
  `INSERT INTO sweeps (id, state, began_at, ended_at, sentence)
   SELECT gen_random_uuid(), '${state}', at, at + interval '1 min', 'homes: no answer' FROM (SELECT now() - interval '${ago}' AS at) AS s`;
const deliver = (ago: string) =>
  `INSERT INTO events (portal, event, seq) VALUES ('portal', 'x', 2);
   UPDATE event_deliveries SET since = now() - interval '${ago}'`;
const DELIVERED = `DELETE FROM events WHERE seq IS NOT NULL; UPDATE event_deliveries SET since = NULL, wrong = NULL`;
const REMOVED = `INSERT INTO portals (name, settings, fingerprints, added_by, approved_by, added_at, changed_at, removed_at)
                 VALUES ('gone', '{}', '{}', 'x', 'y', now(), now(), now())`;
const SWEPT = 'DELETE FROM sweeps';

test.each<[what: string, fine: string, make: string, end: string, named: RegExp, shown: RegExp]>([
  [
    'a sweep that could not read everything',
    sweep('clean', '5 min'),
    sweep('unreadable', '4 min'),
    SWEPT,
    /the last sweep/u,
    /^The last sweep could not read everything: homes: no answer\. When it can be read, run `chamberlain sweep now`\.$/mu,
  ],
  [
    'a sweep that was interrupted',
    sweep('touched', '5 min'),
    sweep('cut', '4 min'),
    SWEPT,
    /the last sweep/u,
    /^The last sweep was interrupted: homes: no answer\. The log of /mu,
  ],
  [
    'a sweep that is too old',
    sweep('clean', '60 days'),
    `${SWEPT}; ${sweep('clean', '61 days')}`,
    SWEPT,
    /the last sweep/u,
    /^The last sweep began 61 d ago, though one should begin every 43200 min\. The log of /mu,
  ],
  [
    'a portal that takes no event',
    deliver('9 min'),
    `UPDATE event_deliveries SET since = now() - interval '10 min'`,
    DELIVERED,
    /portal has taken no event/u,
    /^portal +1 +1 +10 min +it takes none: see `chamberlain doctor`$/mu,
  ],
  [
    'a portal whose answers are wrong',
    deliver('9 min'),
    `UPDATE event_deliveries SET wrong = 'it answers nonsense'`,
    DELIVERED,
    /portal does not take its events/u,
    /^portal .* it answers nonsense$/mu,
  ],
  [
    'a portal whose user of Redis is not made yet',
    deliver('9 min'),
    `UPDATE event_deliveries SET wrong = 'WRONGPASS invalid username-password pair'`,
    DELIVERED,
    /portal gets no events, because our programs have no right to its queue: WRONGPASS/u,
    /^portal .* WRONGPASS invalid username-password pair$/mu,
  ],
  [
    'events for a portal that is not in the configuration',
    'SELECT 1',
    `INSERT INTO events (portal, event, seq) VALUES ('gone', 'x', 1)`,
    DELIVERED,
    /gone is no longer in the configuration/u,
    /^gone .* it is no longer in the configuration$/mu,
  ],
  [
    'events for a portal that was removed by request',
    REMOVED,
    `INSERT INTO events (portal, event, seq) VALUES ('gone', 'x', 1)`,
    `${DELIVERED}; DELETE FROM portals`,
    /gone was removed by request/u,
    /^gone .* it was removed by request: portal\.hand-over gives them to another portal$/mu,
  ],
  [
    'invalid jobs',
    `INSERT INTO junk (portal, code, count, last_at) VALUES ('portal', 'SIGNATURE_INVALID', 1, now() - interval '61 min')`,
    'UPDATE junk SET last_at = now()',
    'DELETE FROM junk',
    /invalid jobs/u,
    /^portal +1 +SIGNATURE_INVALID/mu,
  ],
  [
    'invalid jobs of a portal that was removed by request',
    'SELECT 1',
    `${REMOVED};
     INSERT INTO junk (portal, code, count) VALUES ('gone', 'REQUEST_SIGNATURE', 1)`,
    'DELETE FROM junk; DELETE FROM portals',
    /invalid jobs in the queues of gone.*removed by request: no more .* ends an hour after the last one\.$/u,
    /^gone +1 +REQUEST_SIGNATURE/mu,
  ],
  [
    'a request that is not done',
    `UPDATE requests SET at = now() - interval '9 min'`,
    `UPDATE requests SET at = now() - interval '10 min'`,
    'UPDATE requests SET at = now()',
    /is not done after 10 min/u,
    /^oldest unfinished request: bootstrap, 10 min old$/mu,
  ],
])('%s is an alert', async (_, fine, make, end, named, shown) => {
  await owner.query(fine);
  try {
    expect(await look(named)).toMatchObject({ exit: EXIT.done, wrong: 0 });
    await owner.query(make);
    expect(await look(named)).toMatchObject({
      ...{ exit: EXIT.pending, wrong: 1 },
      out: expect.stringMatching(shown),
    });
  } finally {
    await owner.query(end);
  }
  expect(await look(named)).toMatchObject({ exit: EXIT.done, wrong: 0 });
});
