/** What each PostgreSQL role may, and what the database itself refuses it. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openPool, type Pool, type PostgresRole } from '../../src/store/postgres.ts';
import { readSurvey } from '../../src/store/surveys.ts';
import { openWorld, type World } from '../stack.ts';
import { wantPerson, wantTool } from '../laws-world.ts';

const ROLES: PostgresRole[] = [
  'intake',
  'relay',
  'directory',
  'directory_eyes',
  'homes',
  'homes_eyes',
  'databases',
  'databases_eyes',
  'sweep',
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
  for (const role of ['directory', 'homes', 'databases']) {
    await owner.query('SELECT raise_generation($1, $2)', [tool, role]);
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
  ['homes', `SELECT raise_generation(:tool, 'databases', true)`],
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
  ['sweep', `INSERT INTO events (row_id, event) OVERRIDING SYSTEM VALUE VALUES (9, 'x')`],
  ['sweep', `SELECT email FROM people`],
  ['admin', `SELECT * FROM database_verifiers`],
  ['admin', `UPDATE people SET state = 'active'`],
  ['admin', `UPDATE convergence SET wanted = wanted + 1`],
  ['directory_eyes', `UPDATE convergence SET state = 'applied'`],
  [
    'homes_eyes',
    `INSERT INTO database_verifiers VALUES (:tool, 1, '*0000000000000000000000000000000000000000')`,
  ],
  ['databases_eyes', `UPDATE convergence SET state = 'applied'`],
  // freezing is an admin's, but for what the directory role alone can see
  ['intake', `UPDATE frozen SET frozen_at = NULL`],
  ['relay', `UPDATE frozen SET frozen_at = NULL`],
  ['directory', `UPDATE frozen SET frozen_at = NULL`],
  ['homes', `SELECT freeze_older('because', now())`],
  ['databases', `UPDATE directory_marker SET told_at = now()`],
  // whoever asks for a repair does not say what became of it, and the other way round
  ['admin', `UPDATE repair_parts SET state = 'done'`],
  ['admin', `UPDATE repairs SET asked_by = 'another'`],
  ['homes', `INSERT INTO repairs (id, asked_by) VALUES (gen_random_uuid(), 'homes')`],
  ['homes', `UPDATE repair_parts SET digest = ''`],
  ['homes_eyes', `SELECT * FROM repair_parts`],
  ['sweep', `INSERT INTO repairs (id, asked_by) VALUES (gen_random_uuid(), 'sweep')`],
  // the sweep raises what is wanted already, and wants nothing itself
  ['sweep', `UPDATE people SET state = 'active'`],
  ['sweep', `UPDATE convergence SET applied = wanted`],
  ['sweep', `INSERT INTO convergence (subject, role, applied) VALUES (:person, 'homes', 1)`],
  ['intake', `INSERT INTO convergence (subject, role, applied) VALUES (:person, 'homes', 1)`],
  ['sweep', `SELECT * FROM ssh_keys`],
  ['sweep', `INSERT INTO sweep_releases (digest, by) VALUES ('', 'sweep')`],
  ['sweep', `INSERT INTO reports VALUES (gen_random_uuid(), 'homes', now(), '{}')`],
  ['admin', `UPDATE sweeps SET state = 'clean'`],
  // no hands read what eyes report
  ['directory', `SELECT * FROM reports`],
  ['homes', `SELECT * FROM reports`],
  ['databases', `SELECT * FROM reports`],
];

describe('the database refuses', () => {
  test.each(REFUSED)('%s: %s', async (role, sql) => {
    await expect(as(role, sql)).rejects.toMatchObject({ code: '42501' });
  });

  test.each(ROLES)('%s a change of what is append-only', async (role) => {
    for (const table of ['audit', 'audit_seals', 'posix_ids', 'names']) {
      await expect(as(role, `DELETE FROM ${table}`)).rejects.toMatchObject({ code: '42501' });
      const column = { audit: 'verdict', audit_seals: 'hash', posix_ids: 'kind', names: 'name' }[
        table
      ];
      await expect(as(role, `UPDATE ${table} SET ${column} = ${column}`)).rejects.toMatchObject({
        code: '42501',
      });
    }
  });

  test('even the owner a change of the audit', async () => {
    await expect(owner.query('DELETE FROM audit')).rejects.toMatchObject({ code: '42501' });
    await expect(owner.query('TRUNCATE audit CASCADE')).rejects.toMatchObject({ code: '42501' });
  });

  // so that it holds where somebody grants more than was meant, and where somebody drops a trigger
  test.each(['audit', 'audit_seals', 'posix_ids', 'names'])(
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
  '%s sees and changes how its own rows stand, and no other',
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

test('a report is written by the eyes of its own role alone', async () => {
  await as('admin', `INSERT INTO surveys (id) VALUES ('00000000-0000-4000-8000-000000000001')`);
  const report = (role: string) =>
    `INSERT INTO reports (survey, role, report) VALUES ('00000000-0000-4000-8000-000000000001', '${role}', '{}')`;
  await as('homes_eyes', report('homes'));
  await expect(as('homes_eyes', report('directory'))).rejects.toMatchObject({ code: '42501' });
});

test('a survey is asked for by an admin and the sweep alone, and its reports are seen by no hands', async () => {
  for (const role of ROLES) {
    const { rows } = await owner.query(
      `SELECT has_table_privilege($1, 'surveys', 'INSERT') AS asks,
              has_table_privilege($1, 'surveys', 'UPDATE') AS changes,
              has_table_privilege($1, 'reports', 'SELECT') AS sees,
              has_table_privilege($1, 'reports', 'UPDATE, DELETE') AS forges`,
      [`chamberlain_${role}`],
    );
    const asks = role === 'admin' || role === 'sweep';
    const sees = asks || role.endsWith('_eyes');
    expect([role, rows[0]]).toEqual([role, { asks, changes: false, sees, forges: false }]);
  }
});

test('a role says what became of its own parts of a repair alone', async () => {
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

test('who asks for a survey that there is not is shown nothing', async () => {
  const eyes = pools.get('directory_eyes')!;
  for (const id of ['00000000-0000-4000-8000-000000000009', '', '*', "' OR true --"]) {
    expect(await readSurvey(eyes, id)).toBeUndefined();
  }
});

test('a verifier that the homes role records raises databases, whose row it may not touch', async () => {
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
    `INSERT INTO database_verifiers VALUES (:tool, 1, '*00000000000000000000000000000000000000AA')`,
  );
  expect(Number((await wanted()).wanted)).toBe(Number(before.wanted) + 1);
});
