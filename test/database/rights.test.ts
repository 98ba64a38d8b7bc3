/** What each PostgreSQL role may do, and what the database itself refuses. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { PoolClient } from 'pg';
import { openPool, type Pool, type PostgresRole } from '../../src/database/connection.ts';
import { readSurvey } from '../../src/drift/surveys-table.ts';
import { isArchiving, ROLES as ROLE_NAMES } from '../../src/roles/index.ts';
import { openWorld, type World } from '../stack.ts';
import { wantPerson, wantTool } from '../laws-world.ts';

const ROLES: PostgresRole[] = [
  'intake',
  'relay',
  'directory',
  'directory_reader',
  'homes',
  'homes_reader',
  'databases',
  'databases_reader',
  'sweep',
  'api',
  'admin',
];
let world: World;
let owner: Pool;
const pools = new Map<PostgresRole, Pool>();
let person: number;
let tool: number;

beforeAll(async () => {
  world = await openWorld('rights', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  for (const role of ROLES)
    pools.set(role, openPool(world.config, role, { max: 1, durable: false }));
  ({ uid: person } = await wantPerson(owner, world));
  ({ uid: tool } = await wantTool(owner, world, [person]));
  // in the audit, each single row must stay
  await owner.query(
    `WITH row AS (INSERT INTO audit (verdict) VALUES ('accepted') RETURNING id)
     INSERT INTO audit_seals (audit_id, hash, position) SELECT id, '', 1 FROM row`,
  );
  for (const role of ['directory', 'homes', 'databases']) {
    await owner.query('SELECT touch_generation($1, $2)', [tool, role]);
  }
});
afterAll(async () => {
  await Promise.all([...pools.values(), owner].map((pool) => pool.end()));
  await world.close();
});

const as = (role: PostgresRole, sql: string) =>
  pools.get(role)!.query(sql.replaceAll(':person', `${person}`).replaceAll(':tool', `${tool}`));

/** role · what it tries */
const REFUSED: [PostgresRole, string][] = [
  ['homes', `UPDATE people SET state = 'active'`],
  ['homes', `UPDATE credentials SET wanted_epoch = 9`],
  ['homes', `SELECT email FROM people`],
  ['homes', `SELECT * FROM ssh_keys`],
  ['homes', `SELECT touch_generation(:tool, 'databases', true)`],
  [
    'directory',
    `INSERT INTO database_verifiers VALUES (:tool, 1, '*0000000000000000000000000000000000000000')`,
  ],
  ['directory', `SELECT * FROM database_verifiers`],
  ['directory', `UPDATE tools SET state = 'deleted'`],
  ['directory', `INSERT INTO realm_members VALUES (:person)`],
  ['directory', `DELETE FROM maintainers`],
  [
    'databases',
    `UPDATE database_verifiers SET verifier = '*0000000000000000000000000000000000000000'`,
  ],
  ['databases', `UPDATE convergence SET wanted = 99`],
  ['databases', `INSERT INTO convergence (subject, role) VALUES (:person, 'databases')`],
  ['databases', `DELETE FROM convergence`],
  ['databases', `SELECT display_name FROM people`],
  ['relay', `UPDATE convergence SET applied = wanted`],
  ['relay', `UPDATE requests SET verdict = 'accepted'`],
  ['relay', `SELECT * FROM database_verifiers`],
  ['relay', `SELECT * FROM ssh_keys`],
  ['relay', `INSERT INTO audit (verdict) VALUES ('accepted')`],
  ['intake', `SELECT * FROM database_verifiers`],
  ['intake', `UPDATE requests SET verdict = 'accepted'`],
  ['intake', `SELECT * FROM audit`],
  ['intake', `INSERT INTO audit (at, verdict) VALUES ('2020-01-01', 'accepted')`],
  ['admin', `INSERT INTO audit (at, verdict) VALUES ('2020-01-01', 'accepted')`],
  ['admin', `INSERT INTO audit (id, verdict) OVERRIDING SYSTEM VALUE VALUES (-5, 'accepted')`],
  ['api', `SELECT * FROM public.people`],
  ['api', `SELECT * FROM public.requests`],
  ['api', `SELECT * FROM public.ssh_keys`],
  ['api', `SELECT * FROM public.audit`],
  ['api', `SELECT * FROM public.maintainers`],
  ['api', `INSERT INTO names (name) VALUES ('x')`],
  ['api', `SELECT take_lease()`],
  ['sweep', `INSERT INTO events (row_id, event) OVERRIDING SYSTEM VALUE VALUES (9, 'x')`],
  ['sweep', `SELECT email FROM people`],
  ['admin', `SELECT * FROM database_verifiers`],
  ['admin', `UPDATE people SET state = 'active'`],
  ['admin', `UPDATE convergence SET wanted = wanted + 1`],
  ['directory_reader', `UPDATE convergence SET state = 'applied'`],
  [
    'homes_reader',
    `INSERT INTO database_verifiers VALUES (:tool, 1, '*0000000000000000000000000000000000000000')`,
  ],
  ['databases_reader', `UPDATE convergence SET state = 'applied'`],
  // only an admin may freeze, except for what only the directory role can see
  ['intake', `UPDATE frozen SET frozen_at = NULL`],
  ['relay', `UPDATE frozen SET frozen_at = NULL`],
  ['directory', `UPDATE frozen SET frozen_at = NULL`],
  ['homes', `SELECT freeze_older('because', now())`],
  ['databases', `UPDATE directory_heartbeat SET published_at = now()`],
  // nor does the directory role choose the time of its heartbeat
  ['directory', `UPDATE directory_heartbeat SET publishing_at = now() + interval '10 years'`],
  ['directory', `UPDATE directory_heartbeat SET published_at = now(), accepted_at = NULL`],
  ['homes_reader', `SELECT look_at_passwords('{:tool}', '{0}')`],
  ['homes', `SELECT begin_publishing(now())`],
  ['homes', `SELECT end_publishing(now())`],
  ['homes', `UPDATE directory_heartbeat SET marker = ''`],
  // a place's role records what was published to it, and touches nobody by it unless the place is in doubt
  ['homes', `INSERT INTO place_markers (role, place) VALUES ('databases', 'x')`],
  ['directory', `INSERT INTO place_markers (role, place) VALUES ('homes', 'x')`],
  ['homes_reader', `SELECT take_away('toolHomes', '{:tool}', '{home-directory}')`],
  ['directory', `SELECT freeze_older_than('toolHomes', 'because', now())`],
  ['admin', `UPDATE place_markers SET doubt = NULL`],
  ['admin', `INSERT INTO last_backup (made_at) VALUES (now())`],
  // whoever requests a repair does not record its outcome, nor the other way round; the relay does neither
  ['admin', `UPDATE repair_parts SET state = 'done'`],
  ['admin', `UPDATE repairs SET asked_by = 'another'`],
  ['homes', `INSERT INTO repairs (id, asked_by) VALUES (gen_random_uuid(), 'homes')`],
  ['homes', `UPDATE repair_parts SET digest = ''`],
  ['relay', `INSERT INTO repairs (id, asked_by) VALUES (gen_random_uuid(), 'relay')`],
  ['relay', `UPDATE repair_parts SET state = 'done'`],
  ['homes_reader', `SELECT * FROM repair_parts`],
  ['sweep', `INSERT INTO repairs (id, asked_by) VALUES (gen_random_uuid(), 'sweep')`],
  // and the sweep only what an admin has requested
  [
    'sweep',
    `INSERT INTO repair_parts (repair, subject, role, digest) VALUES (gen_random_uuid(), :tool, 'homes', '')`,
  ],
  ['sweep', `UPDATE repairs SET destroy = true`],
  ['sweep', `UPDATE kept_surveys SET expected = ''`],
  [
    'sweep',
    `INSERT INTO kept_surveys (id, portal, kind, asked_by) VALUES (gen_random_uuid(), 'x', 'survey.run', 'x')`,
  ],
  ['sweep', `UPDATE requests SET result = '{}'`],
  ['sweep', `INSERT INTO audit (kind, verdict) VALUES ('repair', 'accepted')`],
  ['intake', `UPDATE kept_surveys SET state = 'done'`],
  ['intake', `INSERT INTO kept_survey_items VALUES (gen_random_uuid(), 'steps', 0, NULL, '{}')`],
  ['homes', `DELETE FROM ignored_findings`],
  ['homes_reader', `UPDATE ignored_findings SET until = NULL`],
  ['sweep', `UPDATE ignored_findings SET until = NULL`],
  ['api', `SELECT FROM public.kept_surveys`],
  ['api', `SELECT FROM public.ignored_findings`],
  // the sweep touches what is wanted already, and wants nothing itself
  ['sweep', `UPDATE people SET state = 'active'`],
  ['sweep', `UPDATE convergence SET applied = wanted`],
  ['sweep', `INSERT INTO convergence (subject, role, applied) VALUES (:person, 'homes', 1)`],
  ['intake', `INSERT INTO convergence (subject, role, applied) VALUES (:person, 'homes', 1)`],
  ['sweep', `SELECT * FROM ssh_keys`],
  ['sweep', `INSERT INTO sweep_releases (digest, by) VALUES ('', 'sweep')`],
  ['sweep', `INSERT INTO reports VALUES (gen_random_uuid(), 'homes', now(), '{}')`],
  ['admin', `UPDATE sweeps SET state = 'clean'`],
  // intake decides who leaves, and each role records its own archives
  ['intake', `INSERT INTO archives VALUES (:tool, 1, 'homes', repeat('0', 64), '/', 0)`],
  ['intake', `UPDATE database_verifiers SET previous_until = NULL`],
  ['intake', `SELECT verifier, previous_verifier FROM database_verifiers`],
  ['homes', `INSERT INTO archivals (subject, archival) VALUES (:tool, 1)`],
  ['homes', `UPDATE archives SET bytes = 1`],
  ['homes', `DELETE FROM archives`],
  ['databases', `UPDATE archivals SET left_at = now()`],
  [
    'databases_reader',
    `INSERT INTO archives VALUES (:tool, 1, 'databases', repeat('0', 64), '/', 0)`,
  ],
  ['admin', `DELETE FROM holds`],
  ['homes', `DELETE FROM holds`],
  ['homes', `SELECT end_overlaps(now(), 1)`],
  ['homes', `SELECT erase_person(:person)`],
  ['admin', `UPDATE approvals SET state = 'approved'`],
  ['relay', `SELECT body FROM approvals`],
  ['homes', `SELECT suspension_reason FROM people`],
  ['directory', `SELECT suspension_reason FROM people`],
  ['directory_reader', `SELECT suspended_by FROM people`],
  // no writer reads what a reader reports
  ['directory', `SELECT * FROM reports`],
  ['homes', `SELECT * FROM reports`],
  ['databases', `SELECT * FROM reports`],
];

describe('the database refuses', () => {
  test.each(REFUSED)('%s: %s', async (role, sql) => {
    await expect(as(role, sql)).rejects.toMatchObject({ code: '42501' });
  });

  test.each(ROLES)('%s a change of an append-only table', async (role) => {
    for (const table of ['audit', 'audit_seals', 'audit_closings', 'posix_ids', 'names']) {
      await expect(as(role, `DELETE FROM public.${table}`)).rejects.toMatchObject({
        code: '42501',
      });
      const column = {
        audit: 'verdict',
        audit_seals: 'hash',
        audit_closings: 'hash',
        posix_ids: 'kind',
        names: 'name',
      }[table];
      await expect(
        as(role, `UPDATE public.${table} SET ${column} = ${column}`),
      ).rejects.toMatchObject({
        code: '42501',
      });
    }
  });

  test('even the owner a change of the audit', async () => {
    await expect(owner.query('DELETE FROM audit')).rejects.toMatchObject({ code: '42501' });
    await expect(owner.query('TRUNCATE audit CASCADE')).rejects.toMatchObject({ code: '42501' });
  });

  // so that it holds even if somebody grants more than was meant, or drops a trigger
  test.each(['audit', 'audit_seals', 'audit_closings', 'posix_ids', 'names'])(
    'a change of %s twice: by a trigger, and by rights that nobody has',
    async (table) => {
      for (const sql of [`DELETE FROM ${table}`, `TRUNCATE ${table} CASCADE`]) {
        await expect(owner.query(sql)).rejects.toThrow('append-only');
      }
      for (const role of ROLES) {
        const { rows } = await owner.query(
          `SELECT has_table_privilege($1, $2, 'DELETE, TRUNCATE')
               OR has_any_column_privilege($1, $2, 'UPDATE') AS may`,
          [`chamberlain_${role}`, table],
        );
        expect([role, rows]).toEqual([role, [{ may: false }]]);
      }
    },
  );
});

test.each(['directory', 'homes', 'databases'] as const)(
  '%s sees and changes the status of its own rows, and of no others',
  async (role) => {
    const seen = await as(role, 'SELECT DISTINCT role FROM convergence');
    expect(seen.rows).toEqual([{ role }]);
    const changed = await as(role, `UPDATE convergence SET attempts = attempts RETURNING role`);
    expect(changed.rows).toEqual([{ role }]);
    await expect(
      as(role, `UPDATE convergence SET role = 'homes' WHERE role = '${role}'`),
    ).rejects.toMatchObject({ code: '42501' });
  },
);

describe('a temporary table with the name of one of our tables', () => {
  // migrations revoke the right to create one in the first place
  beforeAll(() =>
    owner.query(`GRANT TEMPORARY ON DATABASE ${world.config.postgres.database} TO PUBLIC`),
  );

  const session = async (role: PostgresRole, act: (client: PoolClient) => Promise<void>) => {
    const client = await pools.get(role)!.connect();
    try {
      await act(client);
    } finally {
      client.release(true);
    }
  };

  test('gives nobody the rights of a function’s definer', async () => {
    const { rows } = await owner.query(
      `SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
         AND NOT coalesce(proconfig, '{}') && '{"search_path=pg_catalog, public, pg_temp"}'`,
    );
    expect(rows).toEqual([]);
    await session('homes', async (client) => {
      await client.query(
        `CREATE TEMP TABLE convergence (LIKE public.convergence INCLUDING ALL);
         CREATE FUNCTION pg_temp.reach() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN UPDATE public.people SET email = current_user; RETURN NEW; END $$;
         CREATE TRIGGER reach BEFORE INSERT ON pg_temp.convergence
           FOR EACH ROW EXECUTE FUNCTION pg_temp.reach();
         GRANT ALL ON pg_temp.convergence TO PUBLIC`,
      );
      await client.query(
        `INSERT INTO public.database_verifiers VALUES ($1, 1, '*' || repeat('0', 40))
         ON CONFLICT (account) DO UPDATE SET recorded_at = now()`,
        [tool],
      );
    });
    const emails = await owner.query(`SELECT email FROM people WHERE email LIKE 'chamberlain%'`);
    expect(emails.rows).toEqual([]);
  });

  test('makes nobody look archived', async () => {
    await session('intake', async (client) => {
      await client.query(
        `CREATE TEMP TABLE archives AS SELECT ${tool} AS subject, 1 AS archival FROM generate_series(1, 2);
         CREATE TEMP TABLE archivals AS
           SELECT ${tool} AS subject, 1 AS archival, now() AS left_at, NULL::timestamptz AS back_at`,
      );
      await expect(
        client.query(`UPDATE public.tools SET state = 'deleted' WHERE uid = $1`, [tool]),
      ).rejects.toMatchObject({ code: '55000' });
    });
  });
});

test('a role records only its own archives', async () => {
  await owner.query('INSERT INTO archivals (subject, archival) VALUES ($1, 1)', [tool]);
  const record = (role: string) =>
    `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
     VALUES (:tool, 1, '${role}', repeat('0', 64), '/', 0)`;
  await as('homes', record('homes'));
  await expect(as('homes', record('databases'))).rejects.toMatchObject({ code: '42501' });
  await expect(as('databases', record('homes'))).rejects.toMatchObject({ code: '42501' });
  await as('databases', record('databases'));
});

test('only the reader of a role can write its report', async () => {
  await as('admin', `INSERT INTO surveys (id) VALUES ('00000000-0000-4000-8000-000000000001')`);
  const report = (role: string) =>
    `INSERT INTO reports (survey, role, report) VALUES ('00000000-0000-4000-8000-000000000001', '${role}', '{}')`;
  await as('homes_reader', report('homes'));
  await expect(as('homes_reader', report('directory'))).rejects.toMatchObject({ code: '42501' });
});

test('only an admin and the sweep can request a survey, and no writer sees its reports', async () => {
  for (const role of ROLES) {
    const { rows } = await owner.query(
      `SELECT has_table_privilege($1, 'surveys', 'INSERT') AS asks,
              has_table_privilege($1, 'surveys', 'UPDATE') AS changes,
              has_table_privilege($1, 'reports', 'SELECT') AS sees,
              has_table_privilege($1, 'reports', 'UPDATE, DELETE') AS forges`,
      [`chamberlain_${role}`],
    );
    const asks = role === 'admin' || role === 'sweep';
    const sees = asks || role.endsWith('_reader');
    expect([role, rows[0]]).toEqual([role, { asks, changes: false, sees, forges: false }]);
  }
});

test('a role records only the outcome of its own parts of a repair', async () => {
  const repair = '00000000-0000-4000-8000-000000000002';
  await as('admin', `INSERT INTO repairs (id, asked_by) VALUES ('${repair}', 'unix:root')`);
  for (const role of ['directory', 'homes']) {
    await as(
      'admin',
      `INSERT INTO repair_parts (repair, subject, role, digest) VALUES ('${repair}', :tool, '${role}', '')`,
    );
  }
  const ended = await as('homes', `UPDATE repair_parts SET state = 'done' RETURNING role`);
  expect(ended.rows).toEqual([{ role: 'homes' }]);
});

test('a survey that does not exist shows nothing', async () => {
  const reader = pools.get('directory_reader')!;
  for (const id of ['00000000-0000-4000-8000-000000000009', '', '*', "' OR true --"]) {
    expect(await readSurvey(reader, id)).toBeUndefined();
  }
});

test('a verifier that the homes role records touches databases, whose row it may not touch', async () => {
  const wanted = async () =>
    (
      await owner.query(
        `SELECT wanted FROM convergence WHERE subject = $1 AND role = 'databases'`,
        [tool],
      )
    ).rows[0] as { wanted: string };
  const before = await wanted();
  await as(
    'homes',
    `UPDATE database_verifiers SET verifier = '*00000000000000000000000000000000000000AA' WHERE account = :tool`,
  );
  expect(Number((await wanted()).wanted)).toBe(Number(before.wanted) + 1);
});

test('the roles are those of the registry, and no table with a column `role` takes another', async () => {
  const { rows: roles } = await owner.query('SELECT name, archives FROM roles ORDER BY lock_class');
  expect(roles).toEqual(ROLE_NAMES.map((name) => ({ name, archives: isArchiving(name) })));
  const { rows } = await owner.query(
    `SELECT c.table_name AS name, k.conname IS NOT NULL AS refers
     FROM information_schema.columns c JOIN pg_class t ON t.oid = to_regclass(c.table_name) AND t.relkind = 'r'
       LEFT JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f'
         AND k.confrelid IN ('roles'::regclass, 'convergence'::regclass)
     WHERE c.table_schema = 'public' AND c.column_name = 'role' ORDER BY 1`,
  );
  expect(rows.filter((row: { refers: boolean }) => !row.refers)).toEqual([
    // of the relay too
    { name: 'troubles', refers: false },
  ]);
  expect(rows.length).toBeGreaterThan(8);
  await expect(
    owner.query(`INSERT INTO convergence (subject, role) VALUES ($1, 'strangers')`, [tool]),
  ).rejects.toMatchObject({ code: '23503' });
});

test('the API may read views, write the log of reads, and has no right on a table', async () => {
  const { rows } = await owner.query(
    `SELECT c.oid::regclass::text AS name, c.relkind AS kind, a.privilege_type AS may
     FROM pg_class c, aclexplode(c.relacl) a
     WHERE a.grantee = 'chamberlain_api'::regrole
     UNION ALL
     SELECT p.proname, 'f', a.privilege_type FROM pg_proc p, aclexplode(p.proacl) a
     WHERE a.grantee = 'chamberlain_api'::regrole
     UNION ALL
     SELECT t.attname, 'c', a.privilege_type FROM pg_attribute t, aclexplode(t.attacl) a
     WHERE a.grantee = 'chamberlain_api'::regrole`,
  );
  const all = rows as { name: string; kind: string; may: string }[];
  const functions = all.filter(({ kind }) => kind === 'f').map(({ name }) => name);
  // but for these, of which some are about the configuration that the API uses, they read what is not in a table
  expect(functions.sort()).toEqual([
    ...['configurations_in_use', 'leaders', 'lock_holders', 'log_api_reads', 'note_configuration'],
    'portals_in_use',
    'vacant_leases',
  ]);
  const views = all.filter(({ kind }) => kind !== 'f');
  expect(views.length).toBeGreaterThan(30);
  for (const view of views) {
    expect(view).toMatchObject({ kind: 'v', may: 'SELECT' });
    expect((await as('api', `SELECT * FROM ${view.name}`)).rowCount).toBeGreaterThanOrEqual(0);
  }
});
