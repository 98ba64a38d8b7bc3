/**
 * Surveys look through accounts that cannot write: tried on the servers, as those accounts. (drift.test.ts checks
 * that a survey changes nothing.)
 */
import { execFile, execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openPool, type Pool, type PostgresRole } from '../../../src/database/connection.ts';
import type { World } from '../../stack.ts';
import { type DriftWorld, openDriftWorld } from './drift-world.ts';
import { query, readDirectory } from '../outside.ts';

const BASE = 'dc=example,dc=org';
const GROUPS = `ou=servicegroups,${BASE}`;

let drift: DriftWorld;
let world: World;

beforeAll(async () => {
  drift = await openDriftWorld('reader');
  ({ world } = drift);
});

afterAll(async () => {
  await drift?.close();
});

describe('in PostgreSQL', () => {
  const READER = ['directory_reader', 'homes_reader', 'databases_reader'] as const;
  /** The tables to which readers report. No worker acts on them. */
  const REPORTS: Record<string, string[]> = {
    unmanaged_sightings: ['INSERT'],
    reports: ['INSERT'],
    survey_progress: ['INSERT', 'UPDATE'],
    unmanaged: ['INSERT', 'UPDATE', 'DELETE'],
    unmanaged_looks: ['INSERT', 'UPDATE'],
    troubles: ['INSERT', 'UPDATE', 'DELETE'],
  };

  test.each(READER)('%s may write reports, and nothing else', async (role) => {
    const rights = await query<{ table: string; right: string }>(
      world,
      `SELECT c.relname AS table, r AS right
       FROM pg_class c, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) r
       WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
         AND (has_table_privilege($1, c.oid, r)
              OR r IN ('INSERT', 'UPDATE') AND has_any_column_privilege($1, c.oid, r))
       ORDER BY 1, 2`,
      [`chamberlain_${role}`],
    );
    for (const { table, right } of rights) expect(REPORTS[table]).toContain(right);
    expect(rights).toContainEqual({ table: 'reports', right: 'INSERT' });
    const sequences = await query(
      world,
      `SELECT seqrelid::regclass AS name FROM pg_sequence
       WHERE has_sequence_privilege($1, seqrelid, 'USAGE, UPDATE')`,
      [`chamberlain_${role}`],
    );
    expect(sequences).toEqual([]);
  });

  test.each(READER)('%s can run only functions that do what it may do anyway', async (role) => {
    const functions = await query(
      world,
      `SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
         AND prorettype <> 'trigger'::regtype AND has_function_privilege($1, oid, 'EXECUTE')
       ORDER BY 1`,
      [`chamberlain_${role}`],
    );
    // its own lease and no other: test/database/leaders; an account looked at again: test/credentials
    const more = role === 'databases_reader' ? ['look_at_passwords'] : [];
    expect(functions.map(({ proname }) => proname)).toEqual([...more, 'renew_lease', 'take_lease']);
    const others = await query(
      world,
      `SELECT rolname FROM pg_roles WHERE rolname <> $1 AND pg_has_role($1, oid, 'MEMBER')`,
      [`chamberlain_${role}`],
    );
    expect(others).toEqual([]);
  });

  test.each(READER)('%s is refused each write that is tried', async (role: PostgresRole) => {
    const pool: Pool = openPool(world.config, role, { max: 1, durable: false });
    try {
      for (const sql of [
        `UPDATE convergence SET state = 'applied'`,
        `UPDATE convergence SET wanted = wanted + 1`,
        `DELETE FROM convergence`,
        `INSERT INTO convergence (subject, role) VALUES (1, 'homes')`,
        `UPDATE people SET state = 'active'`,
        `DELETE FROM maintainers`,
        `INSERT INTO realm_members VALUES (1)`,
        `DELETE FROM ssh_keys`,
        `UPDATE credentials SET wanted_epoch = 9`,
        `DELETE FROM database_verifiers`,
        `INSERT INTO repairs (id, asked_by) VALUES (gen_random_uuid(), 'me')`,
        `DELETE FROM surveys`,
        `DELETE FROM reports`,
        `SELECT touch_generation(1, 'homes')`,
        `CREATE TABLE public.mine ()`,
      ]) {
        const tried = pool.query(sql).then(() => 'done');
        expect([sql, await tried.catch((error: { code: string }) => error.code)]).toEqual([
          sql,
          '42501',
        ]);
      }
    } finally {
      await pool.end();
    }
  });
});

describe('in the directory, directory-reader cannot', () => {
  /** place · an entry that is there · one that would be new */
  const PLACES: [string, string, string][] = [
    ['people', `uid=alice,ou=people,${BASE}`, `uid=eve,ou=people,${BASE}`],
    [
      'tool accounts',
      `uid=tools.neighbour,ou=people,${GROUPS}`,
      `uid=tools.eve,ou=people,${GROUPS}`,
    ],
    ['tool groups', `cn=tools.neighbour,${GROUPS}`, `cn=tools.eve,${GROUPS}`],
    ['groups', `cn=project-tools,ou=groups,${BASE}`, `cn=eve,ou=groups,${BASE}`],
    [
      'sudo rules',
      `cn=runas-tools.neighbour,ou=sudoers,cn=tools,ou=projects,${BASE}`,
      `cn=runas-tools.eve,ou=sudoers,cn=tools,ou=projects,${BASE}`,
    ],
    ['policies', `cn=disabled,ou=ppolicies,${BASE}`, `cn=eve,ou=ppolicies,${BASE}`],
    ['the marker', `cn=chamberlain,${BASE}`, `cn=eve,${BASE}`],
    [
      'bind accounts',
      `cn=directory-reader,ou=chamberlain,${BASE}`,
      `cn=eve,ou=chamberlain,${BASE}`,
    ],
  ];
  /** RFC 4511, appendix A.1: insufficientAccessRights */
  const REFUSED = 50;

  function tryAs(ldif: string): Promise<number> {
    return new Promise((done) => {
      const child = execFile(
        'ldapmodify',
        [
          ...['-x', '-H', world.config.ldap.uri],
          ...['-D', `cn=directory-reader,ou=chamberlain,${BASE}`],
          ...['-y', join(world.config.secrets, 'ldap-directory-reader')],
        ],
        (error) => done(error === null ? 0 : Number(error.code)),
      );
      child.stdin?.end(ldif);
    });
  }

  test.each(PLACES)('add to, change, rename or remove: %s', async (_, there, fresh) => {
    expect((await readDirectory(world)).has(there)).toBe(true);
    const [rdn = '', value = ''] = fresh.split(',')[0]?.split('=') ?? [];
    const tries = {
      add: [
        `dn: ${fresh}`,
        'changetype: add',
        ...['objectClass: device', 'objectClass: uidObject'],
        ...[`uid: ${value}`, `cn: ${value}`, ''],
      ],
      change: [
        ...[`dn: ${there}`, 'changetype: modify', 'replace: description', 'description: eve', ''],
      ],
      rename: [
        ...[`dn: ${there}`, 'changetype: modrdn', `newrdn: ${rdn}=${value}`, 'deleteoldrdn: 0', ''],
      ],
      remove: [`dn: ${there}`, 'changetype: delete', ''],
    };
    for (const [what, lines] of Object.entries(tries)) {
      expect([what, await tryAs(lines.join('\n'))]).toEqual([what, REFUSED]);
    }
  });
});

describe.each(['replica', 'tools'] as const)('on the database server %s', (server) => {
  /** Access denied: to a database, by GRANT, to a table, a column, an account; or a privilege is missing. */
  const DENIED = /^ERROR (1044|1045|1142|1143|1227|1410) /mu;

  test('databases_reader can neither make nor change nor drop', () => {
    const file = join(world.dir, 'reader.cnf');
    const password = readFileSync(join(world.config.secrets, 'mariadb-databases-reader'), 'utf8');
    const login = `[client]\nuser = chamberlain_databases_reader\npassword = ${password.trim()}\n`;
    writeFileSync(file, login, { mode: 0o600 });
    const options = [`--defaults-file=${file}`, `--socket=${world[server].socket}`, '-e'];
    execFileSync('mariadb', [...options, 'SELECT count(*) FROM mysql.global_priv']);
    for (const sql of [
      `CREATE USER 'eve'@'%'`,
      `ALTER USER 'chamberlain_databases'@'%' ACCOUNT LOCK`,
      `DROP USER 'chamberlain_databases'@'%'`,
      `RENAME USER 'chamberlain_databases'@'%' TO 'eve'@'%'`,
      `SET PASSWORD FOR 'chamberlain_databases'@'%' = PASSWORD('eve')`,
      `CREATE ROLE eve`,
      `GRANT SELECT ON mysql.* TO 'chamberlain_databases'@'%'`,
      `GRANT CREATE USER ON *.* TO 'chamberlain_databases_reader'@'%'`,
      `REVOKE ALL, GRANT OPTION FROM 'chamberlain_databases'@'%'`,
      `CREATE DATABASE eve`,
      `CREATE DATABASE s50000__eve`,
      `INSERT INTO mysql.global_priv (Host, User, Priv) VALUES ('%', 'eve', '{}')`,
      `UPDATE mysql.global_priv SET Priv = '{}'`,
      `DELETE FROM mysql.db`,
      `DELETE FROM mysql.roles_mapping`,
      `TRUNCATE mysql.proxies_priv`,
      `SET GLOBAL max_user_connections = 1`,
      `FLUSH PRIVILEGES`,
    ]) {
      let said = 'it was done';
      try {
        execFileSync('mariadb', [...options, sql], { stdio: 'pipe' });
      } catch (error) {
        said = String((error as { stderr: Buffer }).stderr);
      }
      expect([sql, said]).toEqual([sql, expect.stringMatching(DENIED)]);
    }
  });
});
