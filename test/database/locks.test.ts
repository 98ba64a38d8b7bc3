/**
 * The locks and connections of the workers belong to them: no other login can stop them, and `status` names a
 * login that tries.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import pg from 'pg';
import { copyDatabase, dropDatabase, LOCKS_SQL } from '../../dev/servers/postgres.ts';
import { lookAtPostgres } from '../../src/doctor/postgres/postgres.ts';
import { lookAtWork } from '../../src/doctor/work.ts';
import {
  connectionSettings,
  LOCK_CLASS,
  openLease,
  openPool,
  type Pool,
  POSTGRES_ROLES,
  type PostgresRole,
  VERDICTS_LOCK,
} from '../../src/database/connection.ts';
import { deleteSurvey, recordSurvey } from '../../src/drift/surveys-table.ts';
import { pretendWork } from '../cli/pretend-work.ts';
import { runCli } from '../cli/run-cli.ts';
import { asSuperuser, openWorld, type World } from '../stack.ts';

const ROOT = join(import.meta.dirname, '../..');
/** a login whose only right is to connect */
const STRANGER = 'stranger';

let world: World;
let open: pg.Client[] = [];

beforeAll(async () => {
  // rights and limits apply to the whole server
  world = await openWorld('locks', { needs: ['postgres', 'redis'], own: true });
  await superuser(`CREATE ROLE ${STRANGER} LOGIN PASSWORD 'x' CONNECTION LIMIT 5`);
  await superuser(`GRANT CONNECT ON DATABASE ${world.config.postgres.database} TO ${STRANGER}`);
});
afterAll(() => world?.close());
afterEach(async () => {
  await Promise.all(open.map((client) => client.end()));
  open = [];
});

async function superuser(
  sql: string,
  database = world.config.postgres.database,
): Promise<pg.QueryResult> {
  return asSuperuser(world.postgres, database, (client) => client.query(sql));
}

/** A connection of one of our roles, or of the other login. */
async function connect(
  as: PostgresRole | typeof STRANGER,
  database = world.config.postgres.database,
): Promise<pg.Client> {
  const { host, port } = world.config.postgres;
  const client = new pg.Client(
    as === STRANGER
      ? { host, port, user: STRANGER, password: 'x', database }
      : { ...connectionSettings(world.config, as), database },
  );
  client.on('error', () => {});
  await client.connect();
  open.push(client);
  return client;
}

/** All of PostgreSQL's own functions that take an advisory lock, in both forms. */
const WAYS = ['lock', 'xact_lock', 'lock_shared', 'xact_lock_shared'].flatMap((way) => [
  `pg_advisory_${way}`,
  `pg_try_advisory_${way}`,
]);

async function takesNoLock(client: pg.Client): Promise<void> {
  for (const way of WAYS) {
    for (const key of ['1', '102, 50001']) {
      await expect(client.query(`SELECT ${way}(${key})`)).rejects.toMatchObject({ code: '42501' });
    }
  }
}

describe('a lock', () => {
  test.each([STRANGER, ...POSTGRES_ROLES] as const)(
    'cannot be taken by %s with PostgreSQL’s own functions',
    async (login) => {
      await takesNoLock(await connect(login));
    },
  );

  test.each([STRANGER, ...POSTGRES_ROLES] as const)(
    'cannot be taken by %s, which cannot create a large object either, and so fill the disk',
    async (login) => {
      const client = await connect(login);
      for (const way of [
        'lo_creat(-1)',
        'lo_create(0)',
        `lo_from_bytea(0, 'x')`,
        `lo_import('/x')`,
      ]) {
        await expect(client.query(`SELECT ${way}`)).rejects.toMatchObject({ code: '42501' });
      }
    },
  );

  const LEASE = ['take_lease()', 'renew_lease()'];
  const HOLD_SURVEY = `hold_survey('00000000-0000-4000-8000-000000000001')`;
  const OWN: Partial<Record<PostgresRole, string[]>> = {
    intake: [...LEASE, 'hold_verdicts()'],
    relay: LEASE,
    sweep: [...LEASE, 'hold_verdicts()', HOLD_SURVEY],
    directory_reader: LEASE,
    homes_reader: LEASE,
    databases_reader: LEASE,
    directory: [`lock_subjects('{50001,50002}')`],
    homes: [`lock_subjects('{50001,50002}')`],
    databases: [`lock_subjects('{50001,50002}')`],
    admin: [HOLD_SURVEY],
  };
  const ways = new Set(Object.values(OWN).flat());

  test.each([STRANGER, ...POSTGRES_ROLES] as const)(
    'can be taken by %s only if it is its own',
    async (login) => {
      const client = await connect(login);
      const taken: string[] = [];
      for (const way of ways) {
        const refusal = await client.query(`SELECT ${way}`).then(
          () => taken.push(way),
          (error: unknown) => (error as { code?: string }).code,
        );
        // the other login does not even see that they exist
        if (typeof refusal === 'string')
          expect(refusal).toBe(login === STRANGER ? '42883' : '42501');
      }
      expect(taken.toSorted()).toEqual((OWN[login as PostgresRole] ?? []).toSorted());
    },
  );

  test('of a role has that role’s class, and can be taken only if nobody has it', async () => {
    const [homes, other, databases] = [
      await connect('homes'),
      await connect('homes'),
      await connect('databases'),
    ];
    const lock = async (client: pg.Client, subjects: string) =>
      (await client.query(`SELECT lock_subjects($1) AS s`, [subjects])).rows.map(({ s }) => s);
    expect(await lock(homes, '{50001,50002}')).toEqual([50001, 50002]);
    expect(await lock(other, '{50002,50003}')).toEqual([50003]);
    expect(await lock(databases, '{50001}')).toEqual([50001]);
    const { rows } = await superuser(
      `SELECT classid::int AS class, count(*)::int AS locks FROM pg_locks
       WHERE locktype = 'advisory' GROUP BY 1 ORDER BY 1`,
    );
    expect(rows).toEqual([
      { class: LOCK_CLASS.homes, locks: 3 },
      { class: LOCK_CLASS.databases, locks: 1 },
    ]);
  });

  test('stays reserved in a copy, and in a dump that the superuser restores', async () => {
    const { database } = world.config.postgres;
    await copyDatabase(world.postgres, database, 'locks_copy');
    await superuser('CREATE DATABASE locks_back OWNER chamberlain', 'postgres');
    try {
      const bin = dirname(world.postgres.command()[0] ?? '');
      const at = ['-h', world.postgres.host, '-p', `${world.postgres.port}`, '-U', 'postgres'];
      const dump = execFileSync(join(bin, 'pg_dump'), [...at, '-Fc', database]);
      execFileSync(join(bin, 'pg_restore'), [...at, '-d', 'locks_back', '--exit-on-error'], {
        input: dump,
      });
      for (const copy of ['locks_copy', 'locks_back']) {
        await takesNoLock(await connect('homes_reader', copy));
      }
    } finally {
      await Promise.all(open.map((client) => client.end()));
      open = [];
      for (const copy of ['locks_copy', 'locks_back']) await dropDatabase(world.postgres, copy);
    }
  });
});

describe('where the superuser has not reserved the locks for the owner', () => {
  beforeEach(() =>
    superuser(
      `DO $$ DECLARE takes regprocedure; BEGIN
         FOR takes IN SELECT oid FROM pg_proc WHERE proname ~ '^(pg_(try_)?advisory|lo_create$)' LOOP
           EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', takes);
         END LOOP; END $$`,
    ),
  );
  afterEach(() => superuser(readFileSync(LOCKS_SQL, 'utf8')));

  test('everything works as usual, and doctor says how to reserve them', async () => {
    expect(await openLease(world.config, 'intake').then((lease) => end(lease?.client))).toBe(true);
    const line = (await lookAtPostgres(await connect('admin'), ROOT)).find(({ what }) =>
      what.includes('locks of the workers'),
    );
    expect(line).toEqual({
      state: 'fix',
      what: 'these logins can take the locks of the workers, and so stop all work: everybody',
      todo: `As PostgreSQL's superuser: psql -d ${world.config.postgres.database} -f ${LOCKS_SQL}`,
    });
    const both = await lookAtPostgres(await connect('admin'), ROOT);
    expect(both.filter(({ state }) => state === 'fix').map(({ what }) => what)).toEqual([
      line?.what,
      'these logins can fill the disk with large objects, without a right on any table: everybody',
    ]);
    await superuser(readFileSync(LOCKS_SQL, 'utf8'));
    const lines = await lookAtPostgres(await connect('admin'), ROOT);
    expect(lines.map(({ what }) => what)).toContain('only the workers can take their locks');
  });

  test('status and doctor name the login that blocks work', async () => {
    const reader = await connect('homes_reader');
    await reader.query(`SELECT pg_advisory_lock(${LOCK_CLASS.databases}, s)
                        FROM unnest(ARRAY[50001, 50002, 50003]) AS s`);
    const other = await connect(STRANGER);
    await other.query(`SELECT pg_advisory_lock_shared(${VERDICTS_LOCK})`);
    const pid = async (client: pg.Client) =>
      (await client.query('SELECT pg_backend_pid() AS pid')).rows[0].pid as number;
    const [mine, its] = [await pid(reader), await pid(other)];

    const { exit, out } = await runCli(['status'], { config: world.configFile });
    expect(exit).toBe(3);
    const lines = out.split('\n').filter((line) => line.startsWith('In the way'));
    expect(lines).toEqual([
      'In the way: ' +
        `the PostgreSQL user ${STRANGER} (PostgreSQL process ${its}) holds the lock of verdicts: ` +
        `no request gets a verdict. Run, as PostgreSQL's superuser: SELECT pg_terminate_backend(${its}). ` +
        '`chamberlain doctor` says how to deny others the locks.',
      expect.stringMatching(
        new RegExp(
          `the PostgreSQL user chamberlain_homes_reader \\(PostgreSQL process ${mine}, since .*Z\\) ` +
            'holds locks of databases: that role cannot work on 3 of its subjects\\.',
        ),
      ),
    ]);
    // in two lines, if some have had no process for longer than others
    const absent = [...out.matchAll(/^no process works as (.*): start `chamberlain work/gim)];
    expect(absent.flatMap(([, names = '']) => names.split(', ')).toSorted()).toEqual([
      'databases',
      'directory',
      'homes',
      'intake',
      'relay',
      'sweep',
    ]);

    const json = await runCli(['status', '--json'], { config: world.configFile });
    const { holders } = JSON.parse(json.out) as { holders: Record<string, unknown>[] };
    const known = { user: 'chamberlain_homes_reader', pid: mine, address: null, isOwn: false };
    expect(holders).toEqual([
      {
        ...{ lock: 'verdicts', locks: 1, user: STRANGER, pid: its },
        address: null,
        since: null,
        isOwn: false,
      },
      { lock: 'databases', locks: 3, ...known, since: expect.stringMatching(/Z$/) },
    ]);

    const found = await lookAtWork(await connect('admin'), world.config, new Date());
    expect(found.map(({ what }) => what)).toEqual(
      expect.arrayContaining([
        expect.stringContaining('chamberlain_homes_reader'),
        'no process works as intake',
      ]),
    );
  });
});

describe('status says which processes are running, and since when', () => {
  const status = () => runCli(['status'], { config: world.configFile });
  let owner: Pool;
  beforeAll(() => {
    owner = openPool(world.config, 'owner', { max: 1, durable: false });
  });
  afterAll(() => owner.end());

  test('one that has just ended is not an alert', async () => {
    await pretendWork(owner);
    const intake = await openLease(world.config, 'intake');
    const homes = await openLease(world.config, 'homes_reader');
    const survey = '00000000-0000-4000-8000-000000000001';
    const caller = await connect('admin');
    await recordSurvey(caller, survey, []);
    try {
      const { exit, out } = await status();
      expect({ exit, out }).toMatchObject({ exit: 0 });
      expect(out).toMatch(
        /^at work +for +last progress +PostgreSQL process +from\nintake +\d+ s +\d+ s ago +\d+ +-\nhomes +\d+ s /m,
      );
      expect(out).toMatch(
        /^no process works as relay, sweep, directory, databases: start `chamberlain work relay sweep directory databases`$/m,
      );
      expect(out).not.toContain('In the way');
    } finally {
      await deleteSurvey(caller, survey);
      await end(caller);
      await end(intake?.client);
      await end(homes?.client);
    }
  });

  // a reader makes progress only every 20 s
  test.each([
    [16, 'intake, relay, sweep'],
    [91, 'intake, relay, sweep, directory, homes, databases'],
  ])('after %d s without a process, %s are one', async (seconds, names) => {
    await pretendWork(owner, seconds);
    const { exit, out } = await status();
    expect(exit).toBe(3);
    expect(out).not.toContain('\n\n\n');
    const words = names.replaceAll(',', '');
    expect(out).toContain(`No process works as ${names}: start \`chamberlain work ${words}\`.\n`);
    expect(
      JSON.parse((await runCli(['status', '--json'], { config: world.configFile })).out),
    ).toMatchObject({
      absent: { long: names.split(', ') },
    });
  });

  test('a realm whose roles never ran', async () => {
    await owner.query(
      `UPDATE leases SET renewed_at = CASE WHEN name IN ('intake', 'relay', 'sweep') THEN now() END`,
    );
    const { exit, out } = await status();
    expect(exit).toBe(3);
    expect(out).toMatch(/^No process works as directory, homes, databases: start `/m);
  });
});

describe('connections', () => {
  const limitOf = async (role: string) =>
    (await superuser(`SELECT rolconnlimit AS n FROM pg_roles WHERE rolname = '${role}'`)).rows[0]
      .n as number;
  const about = async () =>
    (await lookAtPostgres(await connect('admin'), ROOT)).filter(({ what }) =>
      /connect|limit/u.test(what),
    );

  test('are limited for each role by migrate, which leaves a limit that an operator has set', async () => {
    await superuser('ALTER ROLE chamberlain_homes CONNECTION LIMIT -1');
    await superuser('ALTER ROLE chamberlain_sweep CONNECTION LIMIT 2');
    expect((await about()).filter(({ state }) => state === 'fix')).toEqual([
      {
        state: 'fix',
        what: 'these logins have no connection limit, so they can take all connections of the server: chamberlain_homes',
        todo: expect.stringMatching(/^Run `chamberlain migrate`\./),
      },
    ]);
    await world.chamberlain('migrate');
    expect(await limitOf('chamberlain_homes')).toBe(28);
    expect(await limitOf('chamberlain_sweep')).toBe(2);
    const held = [await connect('sweep'), await connect('sweep')];
    await expect(connect('sweep')).rejects.toMatchObject({ code: '53300' });
    expect(held).toHaveLength(2);
    expect((await about()).filter(({ state }) => state === 'fix')).toEqual([]);
  });

  test('are refused to a login that was granted none', async () => {
    await superuser(`CREATE ROLE nobody_known LOGIN PASSWORD 'x' CONNECTION LIMIT 1`);
    const { host, port, database } = world.config.postgres;
    const client = new pg.Client({ host, port, database, user: 'nobody_known', password: 'x' });
    client.on('error', () => {});
    await expect(client.connect()).rejects.toMatchObject({ code: '42501' });
    await superuser(`GRANT CONNECT ON DATABASE ${database} TO PUBLIC`);
    expect((await about()).filter(({ state }) => state === 'fix')).toEqual([
      {
        state: 'fix',
        what: 'every login of the server can connect to the database',
        todo: 'Run `chamberlain migrate`.',
      },
    ]);
    await world.chamberlain('migrate');
    expect((await about()).filter(({ state }) => state === 'fix')).toEqual([]);
  });

  test('of a login without a limit are told by doctor, and so is a server with too few for all', async () => {
    await superuser(`CREATE ROLE greedy LOGIN`);
    expect((await about()).filter(({ state }) => state === 'fix')).toEqual([
      {
        state: 'fix',
        what: 'these logins have no connection limit, so they can take all connections of the server: greedy',
        todo: "As PostgreSQL's superuser, for each: ALTER ROLE greedy CONNECTION LIMIT 10.",
      },
    ]);
    await superuser('ALTER ROLE greedy CONNECTION LIMIT 1000');
    expect((await about()).filter(({ state }) => state === 'fix')).toEqual([
      expect.objectContaining({
        what: expect.stringMatching(
          /^the limits of all logins add up to \d{4} connections, but the server has only 797$/,
        ),
        todo: expect.stringMatching(/^Raise max_connections by \d+ in postgresql\.conf/),
      }),
    ]);
    await superuser('DROP ROLE greedy');
  });
});

async function end(client: pg.Client | undefined): Promise<boolean> {
  await client?.end();
  return client !== undefined;
}
