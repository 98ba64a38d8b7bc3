/** What an admin's commands read does not grow with the number of past requests. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { writeRecovery } from '../../src/recovery/write-recovery.ts';
import { openPool, type Pool, rehearse, withClient } from '../../src/database/connection.ts';
import { runCli } from '../cli/run-cli.ts';
import { wantTool } from '../laws-world.ts';
import { eventually } from '../scenarios/eventually.ts';
import { asSuperuser, openWorld, type World } from '../stack.ts';

/** Of requests, audit and events each; of approvals a fourth. */
const HISTORY = 100_000;
/** In pages: each of the tables has 1,000 and more. */
const MOST_READ = 300;
const GROWING = ['requests', 'audit', 'events', 'approvals'];
/** The first of all: a search that goes back from the end finds it last. */
const FIRST = '00000000-0000-0000-0000-000000000001';

let world: World;
let owner: Pool;
let tool: { uid: number; name: string };

beforeAll(async () => {
  world = await openWorld('history', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  tool = await wantTool(owner, world, []);
  await fill();
});
afterAll(async () => {
  await owner.end();
  await world.close();
});

/** Requests of 500 hours, all done and reported; 33 in the last ten minutes. The first is the tool's. */
async function fill(): Promise<void> {
  const { postgres } = world.config;
  await asSuperuser(world.postgres, postgres.database, async (client) => {
    for (const sql of [
      ...GROWING.map((table) => `ALTER TABLE ${table} SET (autovacuum_enabled = false)`),
      'ALTER TABLE events DISABLE TRIGGER events_notify',
      'ALTER TABLE audit DISABLE TRIGGER audit_unsealed_note',
      `INSERT INTO requests (portal, jti, body_sha256, kind, requested_by, approved_by, subject, verdict, at, done_at)
       SELECT 'portal', lpad(to_hex(n), 32, '0')::uuid, '', 'tool.update', 'alice', 'alice', ${tool.uid},
         'accepted', at, at
       FROM generate_series(1, ${HISTORY}) AS n, LATERAL (
         SELECT now() - (${HISTORY} - n) * interval '18 s' AS at) AS t ORDER BY n`,
      `INSERT INTO audit (at, request, portal, kind, requested_by, approved_by, subject, verdict)
       SELECT at, id, portal, kind, requested_by, approved_by,
         CASE id WHEN 1 THEN subject ELSE 2000000000 + id % 1000 END, verdict
       FROM requests ORDER BY id`,
      `INSERT INTO events (portal, seq, event, request) SELECT portal, id, 'request.done', jti FROM requests`,
      `INSERT INTO event_sequences (portal, last) SELECT 'portal', max(id) FROM requests`,
      'INSERT INTO event_deliveries (portal, completed) SELECT portal, last FROM event_sequences',
      `INSERT INTO approvals (request, portal, kind, subject, requested_by, why, state, decided_at)
       SELECT jti, portal, kind, subject, 'alice', '', 'approved', at FROM requests WHERE id % 4 = 0`,
      `UPDATE tools SET state = 'disabled', disabled_at = now() + interval '1 s'`,
    ]) {
      await client.query(sql);
    }
  });
}

/** How many pages of the growing tables, and of their indexes, were read so far by sessions that have ended. */
async function readSoFar(): Promise<number> {
  return asSuperuser(world.postgres, world.config.postgres.database, async (client) => {
    await eventually('the commands to have ended', async () => {
      const others = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                        AND usename = 'chamberlain_admin'`;
      return (await client.query(others)).rowCount === 0;
    });
    const { rows } = await client.query<{ read: string }>(
      `SELECT sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit) AS read
       FROM pg_statio_user_tables WHERE relname = ANY ($1)`,
      [GROWING],
    );
    return Number(rows[0]?.read);
  });
}
async function readBy(act: () => Promise<void>): Promise<number> {
  const before = await readSoFar();
  await act();
  return (await readSoFar()) - before;
}

// before anything is known of the tables, as after a pg_restore
test('a recovery finds whether one came before, in a database without statistics', async () => {
  const { rows } = await owner.query(
    'UPDATE frozen SET frozen_at = now() RETURNING frozen_at AS at',
  );
  const frozenAt = (rows as { at: Date }[])[0]?.at ?? new Date(0);
  const read = await readBy(() =>
    withClient(owner, async (client) => {
      const seen = {
        ...{ frozenAt, unmanagedNumbers: [], remembered: [], strangePasswords: [], erased: [] },
        ...{ deletions: [], given: [] },
        isOlder: false,
      };
      const terms = {
        by: 'a test',
        portals: ['portal'],
        realm: 'tools',
        admin: 'admin',
        keepDays: 1,
        eventsOfErased: () => [],
        eventsOfTaking: () => [],
        eventsOfDeleted: () => [],
      };
      const nothing = { takings: [], open: [], seenKeys: [] };
      await rehearse(client, () => writeRecovery(client, seen, nothing, terms));
      await client.query('SELECT pg_stat_force_next_flush()');
    }),
  );
  await owner.query('UPDATE frozen SET frozen_at = NULL');
  expect(read).toBeLessThan(MOST_READ);
});

test.each([
  'status',
  'status TOOL',
  'doctor',
  'audit',
  'audit --since 10min',
  'audit --since 90d',
  'audit --subject TOOL',
  'audit --subject TOOL --since 2h',
  'requests',
  `requests ${FIRST}`,
  'explain TOOL',
  'explain nobody',
])('%s reads little of it', async (command) => {
  await owner.query('ANALYZE');
  const args = command.replace('TOOL', tool.name).split(' ');
  const read = await readBy(async () => {
    const { out, err } = await runCli(args, { config: world.configFile });
    expect(out).not.toBe('');
    expect(err).not.toMatch(/^(INTERNAL|USAGE)/mu);
  });
  expect(read).toBeLessThan(MOST_READ);
});

test('the audit since a time, and of a subject, is the end of the matching rows', async () => {
  const json = async (...args: string[]) =>
    JSON.parse((await runCli(['audit', ...args, '--json'], { config: world.configFile })).out) as {
      rows: { id: string }[];
      hasOlder: boolean;
    };
  const since = await json('--since', '1h', '--limit', '5');
  expect(since.hasOlder).toBe(true);
  const { rows } = await owner.query('SELECT id FROM audit ORDER BY id DESC LIMIT 5');
  expect(since.rows.map(({ id }) => id)).toEqual(
    (rows as { id: string }[]).map(({ id }) => id).toReversed(),
  );
  const subject = await json('--subject', tool.name);
  expect(subject).toMatchObject({ rows: [{ id: '1' }], hasOlder: false });
  expect(await json('--subject', tool.name, '--since', '2h')).toMatchObject({ rows: [] });
});
