/** The audit's hash chain: what is sealed, and what a superuser cannot hide. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Client as PgClient } from 'pg';
import { runCli } from '../cli/run-cli.ts';
import { FIRST_HASH, HASHED_COLUMNS, hashAuditRow } from '../../src/audit/audit-chain.ts';
import { type ChainVerdict, verifyAudit } from '../../src/audit/audit-verify.ts';
import { sealAudit } from '../../src/audit/audit-seals.ts';
import {
  connectionSettings,
  openPool,
  type Pool,
  type PostgresRole,
  withClient,
} from '../../src/database/connection.ts';
import { asSuperuser, openWorld, type World } from '../stack.ts';

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
let relay: Pool;
let admin: Pool;
let owner: Pool;
/** the twelve rows, in the order of the chain */
let ids: string[];
let heads: string[];

const seal = () => sealAudit(relay);
const verify = (head?: string) => withClient(admin, (client) => verifyAudit(client, { head }));
/** Runs statements as the owner of the machine could: no trigger, foreign key or right prevents them. */
const tamper = (...statements: string[]) =>
  asSuperuser(world.postgres, world.config.postgres.database, async (client) => {
    await client.query('SET session_replication_role = replica');
    for (const sql of statements) await client.query(sql);
  });
const write = (
  count: number,
  columns = 'kind, requested_by, approved_by, subject, account, fields, verdict',
) =>
  owner.query(
    `INSERT INTO audit (portal, request, code, ${columns})
     SELECT 'portal', NULL, NULL, 'tool.create', 'alice', 'bob', 50000 + n, 'tools.t' || n, '{name,title}', 'accepted'
     FROM generate_series(1, $1) AS n`,
    [count],
  );
const faultsOf = ({ faults }: ChainVerdict) => faults.map(({ kind, row }) => [kind, row]);

beforeAll(async () => {
  world = await openWorld('audit', { needs: ['postgres'] });
  relay = openPool(world.config, 'relay', { max: 2, durable: false });
  admin = openPool(world.config, 'admin', { max: 2, durable: false });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  for (const count of [5, 4, 3]) {
    await write(count);
    await seal();
  }
  const seals = await admin.query('SELECT audit_id, hash FROM audit_seals ORDER BY position');
  ids = (seals.rows as { audit_id: string }[]).map((row) => row.audit_id);
  heads = (seals.rows as { hash: Buffer }[]).map((row) => row.hash.toString('hex'));
  await tamper(
    'CREATE TABLE kept_audit AS TABLE audit',
    'CREATE TABLE kept_seals AS TABLE audit_seals',
  );
});
afterEach(async () => {
  await tamper(
    'TRUNCATE audit, audit_seals, audit_unsealed CASCADE',
    'INSERT INTO audit OVERRIDING SYSTEM VALUE SELECT * FROM kept_audit',
    'INSERT INTO audit_seals SELECT * FROM kept_seals',
  );
});
afterAll(async () => {
  await Promise.all([relay.end(), admin.end(), owner.end()]);
  await world.close();
});

test('an audit as it was sealed has no fault, and its head is the last hash', async () => {
  const verdict = await verify();
  expect(verdict).toMatchObject({ faultsInAll: 0, sealed: 12, waiting: 0, row: ids[11] });
  expect(verdict.head).toBe(heads[11]);
  expect(verdict.head).toMatch(/^[0-9a-f]{64}$/);
});

test('an empty audit has the head 0, and no given head is in it', async () => {
  await tamper('TRUNCATE audit, audit_seals CASCADE');
  const none = '0'.repeat(64);
  expect(await verify()).toMatchObject({ head: none, sealed: 0, faultsInAll: 0 });
  for (const head of [none, heads[3]]) {
    expect(faultsOf(await verify(head))).toEqual([['head', undefined]]);
  }
});

/** column · another value */
const COLUMNS: [string, string][] = [
  ['at', `at - interval '1 us'`],
  ['request', '77'],
  ['portal', `'admin.mallory'`],
  ['kind', `'tool.delete'`],
  ['requested_by', `'mallory'`],
  ['approved_by', 'NULL'],
  ['subject', 'subject + 1'],
  ['account', `'tools.other'`],
  ['fields', `'{name}'`],
  ['verdict', `'refused'`],
  ['code', `'NAME_TAKEN'`],
  ['key', `'SHA256:other'`],
];

describe('each change by a superuser is named once:', () => {
  test('these are all the columns that there are', async () => {
    const { rows } = await owner.query(
      `SELECT attname FROM pg_attribute WHERE attrelid = 'audit'::regclass AND attnum > 0 ORDER BY attnum`,
    );
    expect(rows.map((row: { attname: string }) => row.attname)).toEqual([
      'id',
      ...COLUMNS.map(([column]) => column),
    ]);
  });

  test.each(COLUMNS)('the column %s', async (column, value) => {
    await tamper(`UPDATE audit SET ${column} = ${value} WHERE id = ${ids[5]}`);
    expect(faultsOf(await verify())).toEqual([['edited', ids[5]]]);
  });

  test.each([
    ['the era of the time', 'at', '2026-03-01 12:00Z', '2026-03-01 12:00Z BC'],
    ['the sign of an infinite time', 'at', 'infinity', '-infinity'],
    ['the millennium of the time', 'at', '2026-03-01 12:00Z', '12026-03-01 12:00Z'],
    ['the first index of the fields', 'fields', '{name}', '[2:2]={name}'],
    ['a field that is NULL', 'fields', '{"NULL"}', '{NULL}'],
    ['how the fields are nested', 'fields', '{name,title}', '{{name,title}}'],
  ])('%s', async (_what, column, from, to) => {
    const { rows } = await owner.query(
      `INSERT INTO audit (${column}, verdict) VALUES ('${from}', 'accepted') RETURNING id`,
    );
    await seal();
    expect(faultsOf(await verify())).toEqual([]);
    const { id } = rows[0] as { id: string };
    await tamper(`UPDATE audit SET ${column} = '${to}' WHERE id = ${id}`);
    expect(faultsOf(await verify())).toEqual([['edited', id]]);
  });

  test('the columns of the first and the last row', async () => {
    await tamper(`UPDATE audit SET verdict = 'x' WHERE id IN (${ids[0]}, ${ids[11]})`);
    expect(faultsOf(await verify())).toEqual([
      ['edited', ids[0]],
      ['edited', ids[11]],
    ]);
  });

  /** what is done · the statements · what is named */
  const CASES: [string, (at: (n: number) => string) => string[], [string, number][]][] = [
    [
      'the id of a row: that row is gone, and another was put there',
      (at) => [
        `INSERT INTO audit OVERRIDING SYSTEM VALUE SELECT 9000, at, request, portal, kind, requested_by,
           approved_by, subject, account, fields, verdict, code FROM audit WHERE id = ${at(5)}`,
        `DELETE FROM audit WHERE id = ${at(5)}`,
      ],
      [
        ['missing', 5],
        ['unsealed', 9000],
      ],
    ],
    [
      'a row is deleted with its seal',
      (at) => [
        `DELETE FROM audit_seals WHERE audit_id = ${at(5)}`,
        `DELETE FROM audit WHERE id = ${at(5)}`,
      ],
      [['missing', 5]],
    ],
    [
      'the first row is deleted with its seal',
      (at) => [
        `DELETE FROM audit_seals WHERE audit_id = ${at(0)}`,
        `DELETE FROM audit WHERE id = ${at(0)}`,
      ],
      [['missing', 0]],
    ],
    [
      'a row is deleted with its seal, and the places are closed up',
      (at) => [
        `DELETE FROM audit_seals WHERE audit_id = ${at(5)}`,
        `DELETE FROM audit WHERE id = ${at(5)}`,
        'UPDATE audit_seals SET position = position - 1000 WHERE position > 6',
        'UPDATE audit_seals SET position = position + 999 WHERE position < 0',
      ],
      [['missing', 5]],
    ],
    [
      'a row is deleted, its seal not',
      (at) => [`DELETE FROM audit WHERE id = ${at(5)}`],
      [['missing', 5]],
    ],
    [
      'a seal is deleted',
      (at) => [`DELETE FROM audit_seals WHERE audit_id = ${at(5)}`],
      [['seal-missing', 5]],
    ],
    [
      'the last seal is deleted',
      (at) => [`DELETE FROM audit_seals WHERE audit_id = ${at(11)}`],
      [['unsealed', 11]],
    ],
    [
      'the hash of a seal is edited',
      (at) => [`UPDATE audit_seals SET hash = sha256('x') WHERE audit_id = ${at(5)}`],
      [['seal-edited', 5]],
    ],
    [
      'the row before, as a seal names it, is edited',
      (at) => [`UPDATE audit_seals SET previous = ${at(1)} WHERE audit_id = ${at(5)}`],
      [['seal-edited', 5]],
    ],
    [
      'two rows have each other’s contents',
      (at) => [
        `UPDATE audit a SET (at, subject, account) = (SELECT at, subject, account FROM kept_audit k
           WHERE k.id = CASE a.id WHEN ${at(3)} THEN ${at(7)} ELSE ${at(3)} END)
         WHERE id IN (${at(3)}, ${at(7)})`,
      ],
      [
        ['exchanged', 3],
        ['exchanged', 7],
      ],
    ],
    [
      'a row is sealed at the place of another',
      () => [
        'UPDATE audit_seals SET position = -position WHERE position IN (6, 7)',
        'UPDATE audit_seals SET position = 13 + position WHERE position < 0',
      ],
      [
        ['inserted', 6],
        ['inserted', 5],
      ],
    ],
    [
      'a row is written among old ones, and not marked for sealing',
      () => [
        `INSERT INTO audit (id, at, verdict) OVERRIDING SYSTEM VALUE VALUES (-5, now() - interval '9 d', 'accepted')`,
      ],
      [['unsealed', -5]],
    ],
    [
      'a row is written among old ones, and waits for its seal',
      () => [
        `INSERT INTO audit (id, at, verdict) OVERRIDING SYSTEM VALUE VALUES (-5, now() - interval '9 d', 'accepted')`,
        'INSERT INTO audit_unsealed VALUES (-5)',
      ],
      [['inserted', -5]],
    ],
    [
      'a row is written among old ones with a time before the year 1',
      () => [
        `INSERT INTO audit (id, at, verdict) OVERRIDING SYSTEM VALUE VALUES (-5, '3000-01-01Z BC', 'accepted')`,
        'INSERT INTO audit_unsealed VALUES (-5)',
      ],
      [['inserted', -5]],
    ],
    [
      'a row is gone before it was sealed',
      () => ['INSERT INTO audit_unsealed VALUES (8888)'],
      [['missing', 8888]],
    ],
  ];
  test.each(CASES)('%s', async (_what, statements, expected) => {
    const at = (n: number) => ids[n] ?? String(n);
    await tamper(...statements(at));
    expect(faultsOf(await verify())).toEqual(expected.map(([kind, n]) => [kind, at(n)]));
  });

  test('several faults next to each other, each by itself', async () => {
    await tamper(
      `UPDATE audit SET verdict = 'x' WHERE id IN (${ids[3]}, ${ids[4]}, ${ids[5]})`,
      `DELETE FROM audit_seals WHERE audit_id IN (${ids[8]}, ${ids[9]})`,
      `DELETE FROM audit WHERE id IN (${ids[8]}, ${ids[9]})`,
    );
    const verdict = await verify();
    expect(faultsOf(verdict).map(String).toSorted()).toEqual(
      [
        ['edited', ids[3]],
        ['edited', ids[4]],
        ['edited', ids[5]],
        ['missing', ids[9]],
      ]
        .map(String)
        .toSorted(),
    );
    expect(verdict.faults.find(({ kind }) => kind === 'missing')?.sentence).toContain(
      `1 more before it, back to row ${ids[7]}`,
    );
  });

  test("a row and its seal are edited: the next row's fault mentions that row", async () => {
    await tamper(`UPDATE audit SET requested_by = 'mallory' WHERE id = ${ids[5]}`);
    const { rows } = await owner.query(
      `SELECT ${HASHED_COLUMNS} FROM audit a WHERE id = ${ids[5]}`,
    );
    const before = Buffer.from(heads[4] as string, 'hex');
    const hash = hashAuditRow(before, rows[0] as Record<string, unknown>).toString('hex');
    await tamper(`UPDATE audit_seals SET hash = '\\x${hash}' WHERE audit_id = ${ids[5]}`);
    const { faults } = await verify();
    expect(faults).toMatchObject([
      {
        kind: 'edited',
        row: ids[6],
        sentence: `it is not what was sealed; or row ${ids[5]}, before it, was edited together with its seal`,
      },
    ]);
  });

  test('the row before an edited one is not suspected if it has a fault of its own, or if there is none', async () => {
    await tamper(`UPDATE audit SET verdict = 'x' WHERE id IN (${ids[0]}, ${ids[5]}, ${ids[6]})`);
    const { faults } = await verify();
    expect(faults.map(({ row, sentence }) => [row, /row \d+, before it/u.test(sentence)])).toEqual([
      [ids[0], false],
      [ids[5], true],
      [ids[6], false],
    ]);
  });

  test('a row that was inserted with a seal of its own, with the places after it moved', async () => {
    const before = Buffer.from(heads[4] as string, 'hex');
    await tamper(
      `INSERT INTO audit (id, at, verdict) OVERRIDING SYSTEM VALUE VALUES (-7, now(), 'accepted')`,
      'UPDATE audit_seals SET position = -position WHERE position > 5',
      'UPDATE audit_seals SET position = 1 - position WHERE position < 0',
    );
    const { rows } = await owner.query(`SELECT ${HASHED_COLUMNS} FROM audit a WHERE id = -7`);
    const hash = hashAuditRow(before, rows[0] as Record<string, unknown>).toString('hex');
    await tamper(
      `INSERT INTO audit_seals (audit_id, position, previous, hash) VALUES (-7, 6, ${ids[4]}, '\\x${hash}')`,
    );
    expect(faultsOf(await verify())).toEqual([['inserted', '-7']]);
  });
});

describe('a head that was kept elsewhere', () => {
  test('is found when rows were added since', async () => {
    await write(3);
    await seal();
    const verdict = await verify(heads[11]);
    expect(verdict).toMatchObject({ headFound: true, faultsInAll: 0, sealed: 15 });
    expect(verdict.head).not.toBe(heads[11]);
  });

  test('reveals that the end was cut off, which the chain alone does not', async () => {
    await tamper(
      `DELETE FROM audit_seals WHERE audit_id = ${ids[11]}`,
      `DELETE FROM audit WHERE id = ${ids[11]}`,
    );
    expect(faultsOf(await verify())).toEqual([]);
    expect(faultsOf(await verify(heads[11]))).toEqual([['head', undefined]]);
    expect(await verify(heads[10])).toMatchObject({ headFound: true, faultsInAll: 0 });
  });

  test('reveals that everything was rewritten and sealed again, which the chain alone does not', async () => {
    await tamper(
      `UPDATE audit SET requested_by = 'mallory' WHERE id = ${ids[2]}`,
      'TRUNCATE audit_seals',
      'INSERT INTO audit_unsealed SELECT id FROM audit',
    );
    await seal();
    expect(faultsOf(await verify())).toEqual([]);
    expect(faultsOf(await verify(heads[11]))).toEqual([['head', undefined]]);
  });
});

describe('the sealer misses no row', () => {
  test('of a transaction that ends after later ones were sealed', async () => {
    const late = new PgClient(connectionSettings(world.config, 'owner'));
    await late.connect();
    try {
      await late.query('BEGIN');
      const { rows } = await late.query(
        `INSERT INTO audit (verdict) VALUES ('accepted') RETURNING id`,
      );
      const id = (rows[0] as { id: string }).id;
      await write(2);
      await seal();
      expect(await verify()).toMatchObject({ sealed: 14, waiting: 0, faultsInAll: 0 });
      await late.query('COMMIT');
      expect(await verify()).toMatchObject({ sealed: 14, waiting: 1, faultsInAll: 0 });
      await seal();
      const verdict = await verify();
      expect(verdict).toMatchObject({ sealed: 15, waiting: 0, faultsInAll: 0, row: id });
      const { rows: order } = await admin.query(
        'SELECT audit_id FROM audit_seals ORDER BY position DESC LIMIT 2',
      );
      expect(BigInt((order[1] as { audit_id: string }).audit_id)).toBeGreaterThan(BigInt(id));
    } finally {
      await late.end();
    }
  });

  test('of many that are written around it while it works', async () => {
    const rounds = Array.from({ length: 20 }, async (_, n) => {
      await owner.query(
        `BEGIN; INSERT INTO audit (verdict) VALUES ('a'); SELECT pg_sleep(${(n % 4) * 0.02}); INSERT INTO audit (verdict) VALUES ('b'); COMMIT`,
      );
    });
    let coming = true;
    const done = Promise.all(rounds).finally(() => (coming = false));
    // one after the other: two at once would make one chain, but the second would fail
    while (coming) await seal();
    await done;
    await seal();
    expect(await verify()).toMatchObject({ sealed: 52, waiting: 0, faultsInAll: 0 });
  });

  test('two sealers at once make one chain', async () => {
    await write(40);
    const ends = await Promise.allSettled([seal(), seal(), seal()]);
    expect(ends.some(({ status }) => status === 'fulfilled')).toBe(true);
    await seal();
    expect(await verify()).toMatchObject({ sealed: 52, waiting: 0, faultsInAll: 0 });
  });

  test('rows of a command are marked for sealing, though that role has no right to mark', async () => {
    await admin.query(`INSERT INTO audit (kind, verdict) VALUES ('thaw', 'accepted')`);
    await expect(admin.query('INSERT INTO audit_unsealed VALUES (1)')).rejects.toMatchObject({
      code: '42501',
    });
    expect(await verify()).toMatchObject({ waiting: 1, faultsInAll: 0 });
  });
});

test('none of our roles may change, delete or truncate the audit or its seals, or drop the marks of unsealed rows', async () => {
  const { rows } = await owner.query(
    `SELECT rolname FROM pg_roles WHERE rolname LIKE 'chamberlain\\_%' ORDER BY 1`,
  );
  expect(rows.map((row: { rolname: string }) => row.rolname)).toEqual(
    ROLES.map((role) => `chamberlain_${role}`).toSorted(),
  );
  for (const role of ROLES) {
    const pool = openPool(world.config, role, { max: 1, durable: false });
    try {
      for (const sql of [
        `UPDATE public.audit SET verdict = verdict`,
        'DELETE FROM public.audit',
        'TRUNCATE public.audit CASCADE',
        'UPDATE public.audit_seals SET hash = hash',
        'DELETE FROM public.audit_seals',
        'TRUNCATE public.audit_seals',
        'TRUNCATE public.audit_unsealed',
        'ALTER TABLE public.audit DISABLE TRIGGER ALL',
        'SET session_replication_role = replica',
        ...(role === 'relay' ? [] : ['DELETE FROM public.audit_unsealed']),
      ]) {
        expect([role, sql, await codeOf(pool, sql)]).toEqual([role, sql, '42501']);
      }
    } finally {
      await pool.end();
    }
  }
  for (const sql of [
    'UPDATE audit SET verdict = verdict',
    'DELETE FROM audit',
    'TRUNCATE audit CASCADE',
  ]) {
    await expect(owner.query(sql)).rejects.toThrow('append-only');
  }
});

async function codeOf(pool: Pool, sql: string): Promise<string | undefined> {
  return await pool.query(sql).then(
    () => undefined,
    (error: { code?: string }) => error.code,
  );
}

test('6,000 rows are verified page by page', async () => {
  await write(6000);
  await seal();
  const seen: [number, number][] = [];
  const verdict = await withClient(admin, (client) =>
    verifyAudit(client, { onProgress: (done, of) => seen.push([done, of]) }),
  );
  expect(verdict).toMatchObject({ sealed: 6012, faultsInAll: 0 });
  expect(seen).toEqual([2000, 4000, 6000, 6012].map((done) => [done, 6012]));
});

describe('on the command line', () => {
  const run = (...args: string[]) => runCli(['audit', ...args], { config: world.configFile });

  test('`audit verify` prints the head, and ends with 1 where something was changed', async () => {
    const good = await run('verify');
    expect(good.exit).toBe(0);
    expect(good.out).toMatch(`head ${heads[11]}\nrow  ${ids[11]}, `);
    await tamper(`UPDATE audit SET account = E'tools.\\x1b[31m' WHERE id = ${ids[5]}`);
    const bad = await run('verify', '--head', heads[11] as string);
    expect(bad.exit).toBe(1);
    expect(bad.err).toMatch(/^AUDIT_BROKEN: one fault in the audit\. Keep a copy/m);
    expect(bad.out).toMatch(
      new RegExp(`^${ids[5]} +\\S+Z +edited +it is not what was sealed; or row ${ids[4]}, `, 'm'),
    );
    const json = await run('verify', '--json');
    expect(JSON.parse(json.out)).toMatchObject({
      head: heads[11],
      faultsInAll: 1,
      faults: [{ row: ids[5] }],
    });
    expect(json.exit).toBe(1);
  });

  test('`audit` shows the last rows, oldest first, by subject and time', async () => {
    await tamper(
      `UPDATE audit SET at = now() - interval '5 h' WHERE id = ${ids[0]}`,
      `INSERT INTO people (uid, shell_name, display_name, display_name_key, email)
       VALUES (50003, 'carol', 'Carol', 'carol', 'c@example.org') ON CONFLICT DO NOTHING`,
    );
    const rowsOf = async (...args: string[]) => {
      const ended = await run(...args, '--json');
      expect(ended.err).toBe('');
      const { rows, hasOlder } = JSON.parse(ended.out) as {
        rows: { id: string }[];
        hasOlder: boolean;
      };
      return [rows.map(({ id }) => id), hasOlder];
    };
    expect(await rowsOf()).toEqual([ids, false]);
    expect(await rowsOf('--limit', '3')).toEqual([ids.slice(-3), true]);
    expect(await rowsOf('--since', '2h')).toEqual([ids.slice(1), false]);
    expect(await rowsOf('--since', '1d')).toEqual([ids, false]);
    expect(await rowsOf('--subject', 'carol')).toEqual([[ids[2], ids[7], ids[11]], false]);
    const shown = await run('--subject', '50003', '--limit', '1');
    expect(shown.out).toMatch(
      /^row +when +requested +approved +portal +kind +subject +fields +verdict +code +key\n/,
    );
    expect(shown.out).toMatch(
      /alice +bob +portal +tool\.create +tools\.t3 +name,title +accepted +- +-\n/,
    );
    expect(shown.out).toContain('older rows are not shown');
    expect((await run('--subject', 'nobody-here')).err).toMatch(/^PERSON_UNKNOWN: /);
  });

  test.each(['verify', 'close'])(
    '`audit %s --help` lists only options that it uses',
    async (name) => {
      const { out } = await run(name, '--help');
      expect(out).not.toMatch(/--subject|--since|--limit/u);
      expect(out).toMatch(/^Global Options:\n +--config .*\n.*\n +--json /mu);
    },
  );

  test.each([
    [['--since', 'yesterday'], 'It must be a time such as 2h'],
    [['--since', '2026-02-30'], 'It must be a time such as 2h'],
    [['--limit', '0'], 'It must be a whole number from 1'],
    [['verify', '--head', 'abc'], 'It must be the 64 hexadecimal digits'],
    [['verify', '--head', '0'.repeat(64)], '64 zeros are the head of an empty audit'],
    [['verfy'], "too many arguments for 'audit'"],
  ])('%j is refused', async (args, words) => {
    const ended = await run(...args);
    expect(ended.exit).toBe(2);
    expect(ended.err).toContain(words);
  });
});

test('the chain begins with 32 bytes of 0', () => {
  expect(FIRST_HASH.toString('hex')).toBe('0'.repeat(64));
});

test.each([
  ['0001-01-01 00:00:00Z', '4a5a29702edb319dae1d45d6268b3d2633c5de40b34538eb505dc2d96850fe14'],
  [
    '2025-12-31 23:59:59.999999Z',
    '31d39433ded48f302af4702ce6150131d05471462c6f55f7422ba81d9d0d28bc',
  ],
  [
    '9999-12-31 23:59:59.999999Z',
    '3c4a13e41d552dfb4223f31564ac52099f9f1c2ac00165c9aabdaa74fe3a8c15',
  ],
])('the hash of a row of %s never changes, because chains were made with it', async (at, hash) => {
  const { rows } = await admin.query(
    `SELECT ${HASHED_COLUMNS} FROM (SELECT 7::bigint AS id, $1::timestamptz AS at, NULL::bigint AS request,
       'portal' AS portal, 'tool.create' AS kind, 'alice' AS requested_by, NULL AS approved_by, 50001 AS subject,
       'tools.t1' AS account, '{name,title}'::text[] AS fields, 'accepted' AS verdict, NULL AS code, NULL AS key) AS a`,
    [at],
  );
  expect(hashAuditRow(FIRST_HASH, rows[0] as Record<string, unknown>).toString('hex')).toBe(hash);
});
