import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import { type Connection, createConnection } from 'mariadb';
import { stateOf } from '../../../dev/servers/processes.ts';
import { readSecret, realmOf } from '../../../src/shared/config.ts';
import { openDatabasesReader, openDatabasesWriter } from '../../../src/backends/mariadb/mariadb.ts';
import { cannotWriteAccounts } from '../../../src/backends/mariadb/mariadb-connections.ts';
import { codeOf, describeError } from '../../../src/shared/errors.ts';
import { limitWhileEnding } from '../../../src/targets/connection-limit.ts';
import type { AccountName, ToolName } from '../../../src/identity/names.ts';
import type { Realm, WantedTool } from '../../../src/reconcile/wanted.ts';
import type { Action } from '../../../src/reconcile/action.ts';
import { apply, survey } from '../../../src/reconcile/engine.ts';
import { databaseAccount } from '../../../src/targets/database-account.ts';
import { eventually } from '../../scenarios/eventually.ts';
import {
  administer,
  openWorld,
  runningPid,
  startServer,
  stopServer,
  type World,
} from '../../stack.ts';

const UID = 51234;
const USER = `s${UID}`;
const PASSWORD = 'correcthorsebatterystaple';
const VERIFIER = verifierOf(PASSWORD);

let world: World;
let realm: Realm;
let reader: ReturnType<typeof openDatabasesReader>;
let writer: ReturnType<typeof openDatabasesWriter>;
/** what the writer read, by uid and epoch */
const recorded = new Map<string, { verifier: string; previous?: string }>([
  [`${UID} 1`, { verifier: VERIFIER }],
]);
const opened: Connection[] = [];

beforeAll(async () => {
  world = await openWorld('mariadb', { needs: ['mariadb'], own: true });
  // lax servers, where GRANT creates accounts without a password: the writer must not rely on the mode
  for (const { socket } of [world.replica, world.tools]) {
    await administer(socket, "SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES'");
  }
  realm = realmOf(world.config);
  reader = openDatabasesReader(world.config.databases.servers, login('databases-reader'));
  writer = openDatabasesWriter(world.config.databases.servers, login('databases'), readVerifier);
});

afterEach(async () => {
  await Promise.all(opened.splice(0).map((connection) => connection.end().catch(() => undefined)));
  for (const { socket } of [world.replica, world.tools]) {
    await administer(
      socket,
      `DROP USER IF EXISTS ${USER}, ${USER}@localhost, ''@localhost, ''@'10.%';`,
    );
  }
});

afterAll(async () => {
  await reader.close();
  await writer.close();
  await world.close();
});

describe('a database account', () => {
  test('lets the tool in with its password, and a second run does nothing', async () => {
    expect(await converge(tool())).toEqual([
      `create ${USER} on replica: absent → present`,
      `create ${USER} on toolsdb: absent → present`,
    ]);
    expect(await converge(tool())).toEqual([]);
    const replica = await connect('replica');
    expect(await replica.query('SELECT page_title FROM enwiki_p.page LIMIT 1')).toHaveLength(1);
    await expect(replica.query('SELECT * FROM enwiki.page')).rejects.toThrow('denied');
    await expect(connect('replica', 'wrong')).rejects.toThrow('denied');
  });

  test('has its own databases on the tools database, and none with similar names', async () => {
    await converge(tool());
    const toolsdb = await connect('toolsdb');
    await toolsdb.query(`CREATE DATABASE ${USER}__own`);
    await toolsdb.query(`CREATE TABLE ${USER}__own.t (a INT)`);
    await toolsdb.query(`DROP DATABASE ${USER}__own`);
    for (const other of [`${USER}5__own`, `${USER}xxown`, `${USER}_own`, 's51235__own', 'own_p']) {
      await expect(toolsdb.query(`CREATE DATABASE ${other}`)).rejects.toThrow('denied');
    }
    await administer(
      world.tools.socket,
      'CREATE DATABASE IF NOT EXISTS s9__x_p; CREATE TABLE IF NOT EXISTS s9__x_p.t (a INT);',
    );
    expect(await toolsdb.query('SELECT * FROM s9__x_p.t')).toEqual([]);
    await expect(toolsdb.query('INSERT INTO s9__x_p.t VALUES (1)')).rejects.toThrow('denied');
  });

  test.each([
    [
      'tools',
      `GRANT SELECT, SHOW VIEW ON \`%\\_p\`.* TO ${USER};
       CREATE DATABASE IF NOT EXISTS s9__y_p; CREATE TABLE IF NOT EXISTS s9__y_p.t (a INT);`,
      'SELECT * FROM s9__y_p.t',
    ],
    [
      'replica',
      `GRANT labsdbuser TO ${USER}; SET DEFAULT ROLE labsdbuser FOR ${USER};`,
      'SELECT 1 FROM enwiki_p.page WHERE false',
    ],
  ] as const)(
    'that itself has the rights of everybody is as wanted; the server’s SQL file removes that row: %s',
    async (key, give, read) => {
      const name = key === 'tools' ? 'toolsdb' : key;
      await converge(tool());
      const right = await grantsOf(name);
      const count = `SELECT (SELECT COUNT(*) FROM mysql.db WHERE User = '${USER}')
        + (SELECT COUNT(*) FROM mysql.roles_mapping WHERE User = '${USER}')`;
      const rows = await administer(world[key].socket, count);
      await administer(world[key].socket, give);
      expect(await grantsOf(name)).not.toBe(right);
      expect(await converge(tool())).toEqual([]);
      const file = new URL(`../../../deploy/mariadb/${name}.sql`, import.meta.url);
      await administer(world[key].socket, readFileSync(file, 'utf8'));
      expect(await administer(world[key].socket, count)).toBe(rows);
      const connection = await connect(name);
      expect(await connection.query(read)).toEqual([]);
      expect(await converge(tool())).toEqual([]);
    },
  );

  test('is not created if its name has rights, as an interrupted DROP USER leaves them', async () => {
    await converge(tool());
    await administer(
      world.tools.socket,
      `DELETE FROM mysql.global_priv WHERE User = '${USER}'; FLUSH PRIVILEGES;`,
    );
    const [found] = await survey([databaseAccount], [tool()], realm, reader);
    expect(found?.steps).toEqual([]);
    expect(found?.findings).toMatchObject([
      {
        code: 'DATABASE_FOREIGN',
        sentence: `There is no such account, but it has rights: ALL on ${USER}\\_\\_%.*. \`DROP USER IF EXISTS ${USER}\` removes them.`,
      },
    ]);
    await administer(world.tools.socket, `DROP USER IF EXISTS ${USER}`);
    expect(await converge(tool())).toEqual([`create ${USER} on toolsdb: absent → present`]);
    expect(await converge(tool())).toEqual([]);
  });

  test('may have as many connections as the configuration says', async () => {
    await converge(tool());
    for (let count = 0; count < realm.maxUserConnections; count += 1) await connect('replica');
    await expect(connect('replica')).rejects.toThrow('max_user_connections');
  });

  test('is created locked for a disabled tool, and unlocked later', async () => {
    await converge(tool({ state: 'disabled' }));
    await expect(connect('replica')).rejects.toThrow('locked');
    await converge(tool());
    await connect('replica');
    expect(await converge(tool())).toEqual([]);
  });

  test.each([
    ['another password', `ALTER USER ${USER} IDENTIFIED BY 'other'`],
    [
      'a second way to log in',
      `ALTER USER ${USER} IDENTIFIED VIA mysql_native_password USING '${VERIFIER}' OR unix_socket`,
    ],
    ['an expired password', `ALTER USER ${USER} PASSWORD EXPIRE`],
    ['another limit', `ALTER USER ${USER} WITH MAX_USER_CONNECTIONS 3`],
    ['a lock', `ALTER USER ${USER} ACCOUNT LOCK`],
    ['a global privilege', `GRANT SUPER ON *.* TO ${USER}`],
    ['the right to grant', `GRANT USAGE ON *.* TO ${USER} WITH GRANT OPTION`],
    ['a database', `GRANT ALL ON mysql.* TO ${USER}`],
    ['a table', `GRANT SELECT ON mysql.global_priv TO ${USER}`],
    ['a column', `GRANT SELECT (User) ON mysql.global_priv TO ${USER}`],
    ['a role', `CREATE ROLE IF NOT EXISTS elders; GRANT elders TO ${USER} WITH ADMIN OPTION`],
  ])('is repaired if it has %s, with the steps of the survey', async (_, drift) => {
    await converge(tool());
    const right = await grantsOf('replica');
    await administer(world.replica.socket, drift);
    expect(await converge(tool())).not.toEqual([]);
    expect(await converge(tool())).toEqual([]);
    expect(await grantsOf('replica')).toBe(right);
    await connect('replica');
  });

  test.each([
    'REQUIRE SSL',
    'REQUIRE X509',
    "REQUIRE SUBJECT '/CN=x'",
    'WITH MAX_QUERIES_PER_HOUR 1',
    'WITH MAX_STATEMENT_TIME 0.5',
  ])('is reported, and left, with %s', async (clause) => {
    await converge(tool());
    await administer(world.replica.socket, `ALTER USER ${USER} ${clause}`);
    const [found] = await survey([databaseAccount], [tool()], realm, reader);
    expect(found).toMatchObject({ steps: [], findings: [{ object: `${USER} on replica` }] });
    const named = clause.startsWith('REQUIRE SUBJECT')
      ? 'REQUIRE ISSUER, SUBJECT or CIPHER'
      : clause;
    expect(found?.findings[0]?.sentence).toContain(`It has ${named.replace('WITH ', '')}, `);
    await administer(
      world.replica.socket,
      `ALTER USER ${USER} REQUIRE NONE WITH MAX_QUERIES_PER_HOUR 0 MAX_STATEMENT_TIME 0`,
    );
    expect((await survey([databaseAccount], [tool()], realm, reader))[0]?.findings).toEqual([]);
  });

  test('loses its connections together with excess rights', async () => {
    await converge(tool());
    const connection = await connect('replica');
    await administer(world.replica.socket, `GRANT SELECT ON mysql.* TO ${USER}`);
    await converge(tool());
    await expect(connection.query('SELECT 1')).rejects.toThrow();
  });

  test('loses its connections when it is locked', async () => {
    await converge(tool());
    const [idle, busy] = [await connect('replica'), await connect('toolsdb')];
    const working = busy.query('SELECT SLEEP(30)');
    const ended = expect(working).rejects.toThrow();
    await converge(tool({ state: 'disabled' }));
    await ended;
    await expect(idle.query('SELECT 1')).rejects.toThrow();
    await expect(connect('replica')).rejects.toThrow('locked');
  });

  test('has no event run or start while it is locked; when unlocked, each goes on as before', async () => {
    await administer(world.tools.socket, 'SET GLOBAL event_scheduler = ON');
    await converge(tool());
    const toolsdb = await connect('toolsdb');
    await toolsdb.query(`CREATE DATABASE ${USER}__own`);
    await toolsdb.query(
      `CREATE TABLE ${USER}__own.log (what TEXT, at TIMESTAMP(6) DEFAULT now(6))`,
    );
    const event = async (name: string, schedule: string, body: string) =>
      toolsdb.query(`CREATE EVENT ${USER}__own.${name} ON SCHEDULE ${schedule} DO ${body}`);
    const writing = (name: string) => `INSERT INTO ${USER}__own.log (what) VALUES ('${name}')`;
    await event('often', 'EVERY 1 SECOND', writing('often'));
    await event(
      'endless',
      'EVERY 1 DAY',
      `WHILE TRUE DO ${writing('endless')}; DO SLEEP(0.1); END WHILE`,
    );
    const logged = (after = '') =>
      administer(
        world.tools.socket,
        `SELECT COUNT(DISTINCT what) FROM ${USER}__own.log ${after === '' ? '' : `WHERE at > '${after}'`}`,
      );
    const events = () =>
      administer(
        world.tools.socket,
        `SELECT EVENT_NAME, DEFINER, STATUS, EVENT_DEFINITION FROM information_schema.EVENTS
         WHERE EVENT_SCHEMA = '${USER}__own' ORDER BY 1`,
      );
    /** when an event of any user was last tried */
    const tried = () =>
      administer(
        world.tools.socket,
        `SELECT MAX(LAST_EXECUTED) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '${USER}__own'`,
      );
    await eventually('both events', async () => (await logged()) === '2\n');
    const before = await events();

    await converge(tool({ state: 'disabled' }));
    const now = (await administer(world.tools.socket, 'SELECT now(6)')).trim();
    const last = await tried();
    await eventually('another try', async () => (await tried()) > last);
    expect(await logged(now)).toBe('0\n');
    expect(await events()).toBe(before);
    expect(await converge(tool({ state: 'disabled' }))).toEqual([]);

    await converge(tool());
    await eventually('the event again', async () => (await logged(now)) !== '0\n');
    expect(await events()).toBe(before);
    await administer(
      world.tools.socket,
      `SET GLOBAL event_scheduler = OFF; DROP DATABASE ${USER}__own`,
    );
  });

  test('that another writer locked has its events stopped; one that was created locked has none', async () => {
    await converge(tool());
    await administer(world.tools.socket, `ALTER USER ${USER} ACCOUNT LOCK`);
    expect(await converge(tool({ state: 'disabled' }))).toContain(
      `revoke ${USER} on toolsdb: locked → locked, without the EVENT right`,
    );
    const grants = await grantsOf('toolsdb');
    expect(grants).not.toMatch(/ALL|EVENT/);
    await administer(world.tools.socket, `DROP USER ${USER}`);
    await converge(tool({ state: 'disabled' }));
    expect(await grantsOf('toolsdb')).toBe(grants);
    expect(await converge(tool({ state: 'disabled' }))).toEqual([]);
  });

  test('loses its connections even if a lock was interrupted before they ended', async () => {
    await converge(tool());
    const connection = await connect('replica');
    await administer(
      world.replica.socket,
      `ALTER USER ${USER} WITH MAX_USER_CONNECTIONS ${limitWhileEnding(realm.maxUserConnections)}
       ACCOUNT LOCK`,
    );
    expect(await converge(tool({ state: 'disabled' }))).toContain(
      `revoke ${USER} on replica: locked again`,
    );
    await expect(connection.query('SELECT 1')).rejects.toThrow();
    expect(await converge(tool({ state: 'disabled' }))).toEqual([]);
  });

  test('is dropped, with its connections, when the tool is deleted; its databases stay', async () => {
    await converge(tool());
    const connection = await connect('toolsdb');
    await connection.query(`CREATE DATABASE ${USER}__kept`);
    await converge(tool({ state: 'deleted' }));
    await expect(connection.query('SELECT 1')).rejects.toThrow();
    expect(await administer(world.tools.socket, `SHOW DATABASES LIKE '${USER}%'`)).toContain(
      'kept',
    );
    expect(
      await administer(
        world.tools.socket,
        `SELECT COUNT(*) FROM mysql.global_priv WHERE User = '${USER}'`,
      ),
    ).toBe('0\n');
    await administer(world.tools.socket, `DROP DATABASE ${USER}__kept`);
  });

  test('gets a new password when there is a new verifier, and the old one stops working', async () => {
    await converge(tool());
    const credentials = record(2, 'another');
    const [old, elsewhere] = [await connect('replica'), await connect('toolsdb')];
    expect(await converge(tool({ credentials }))).toEqual([
      `revoke ${USER} on replica: verifier replaced`,
      `revoke ${USER} on toolsdb: verifier replaced`,
    ]);
    await connect('replica', 'another');
    await expect(connect('replica')).rejects.toThrow('denied');
    for (const connection of [old, elsewhere]) {
      await expect(connection.query('SELECT 1')).rejects.toThrow();
    }
    expect(await converge(tool({ credentials }))).toEqual([]);
  });

  test('has two passwords while they overlap, and ends no connection for that', async () => {
    await converge(tool());
    const old = await connect('replica');
    const credentials = record(2, 'another', PASSWORD);
    expect(await converge(tool({ credentials }))).toEqual([
      `change ${USER} on replica: verifiers replaced: current and previous`,
      `change ${USER} on toolsdb: verifiers replaced: current and previous`,
    ]);
    expect(await converge(tool({ credentials }))).toEqual([]);
    expect(await old.query('SELECT 1')).toHaveLength(1);
    for (const server of ['replica', 'toolsdb'] as const) {
      await connect(server, 'another');
      await connect(server);
      await expect(connect(server, 'wrong')).rejects.toThrow('denied');
    }
  });

  test('is created with both passwords while they overlap', async () => {
    await converge(tool({ credentials: record(2, 'another', PASSWORD) }));
    await connect('replica');
    await connect('replica', 'another');
  });

  test('loses the old password when its time has ended, and all connections with it', async () => {
    await converge(tool({ credentials: record(2, 'another', PASSWORD) }));
    const before = await grantsOf('replica');
    const [old, young] = [await connect('replica'), await connect('replica', 'another')];
    const credentials = record(2, 'another');
    expect(await converge(tool({ credentials }))).toEqual([
      `revoke ${USER} on replica: verifier replaced`,
      `revoke ${USER} on toolsdb: verifier replaced`,
    ]);
    await expect(connect('replica')).rejects.toThrow('denied');
    // a server does not say which password a connection used
    for (const connection of [old, young]) {
      await expect(connection.query('SELECT 1')).rejects.toThrow();
    }
    await connect('replica', 'another');
    expect(await converge(tool({ credentials }))).toEqual([]);
    expect(await grantsOf('replica')).toBe(
      before.replace(
        /IDENTIFIED VIA .*? WITH/g,
        `IDENTIFIED BY PASSWORD '${verifierOf('another')}' WITH`,
      ),
    );
  });

  test('changes a password while it is locked, and stays locked', async () => {
    await converge(tool({ state: 'disabled' }));
    const credentials = record(2, 'another');
    await converge(tool({ state: 'disabled', credentials }));
    await expect(connect('replica', 'another')).rejects.toThrow('locked');
    expect(await converge(tool({ state: 'disabled', credentials }))).toEqual([]);
    await converge(tool({ credentials }));
    await connect('replica', 'another');
  });

  test('loses its connections even if a run was interrupted after the password was removed', async () => {
    await converge(tool({ credentials: record(2, 'another', PASSWORD) }));
    const connection = await connect('replica');
    const credentials = record(2, 'another');
    await administer(
      world.replica.socket,
      `ALTER USER ${USER} IDENTIFIED BY PASSWORD '${verifierOf('another')}'
       WITH MAX_USER_CONNECTIONS ${limitWhileEnding(realm.maxUserConnections)}`,
    );
    // a user who connects meanwhile has the new password, and is not kept out
    for (let count = 0; count < realm.maxUserConnections; count += 1) {
      await connect('replica', 'another');
    }
    expect(await converge(tool({ credentials }))).toContain(
      `revoke ${USER} on replica: connections → ended`,
    );
    await expect(connection.query('SELECT 1')).rejects.toThrow();
    expect(await converge(tool({ credentials }))).toEqual([]);
  });
});

describe('what somebody else created', () => {
  test('is reported and left: the same user on another host', async () => {
    await administer(
      world.replica.socket,
      `CREATE USER ${USER}@localhost IDENTIFIED BY 'x'; GRANT SELECT ON enwiki.* TO ${USER}@localhost`,
    );
    const before = await administer(world.replica.socket, `SHOW GRANTS FOR ${USER}@localhost`);
    const [found] = await survey([databaseAccount], [tool()], realm, reader);
    expect(found?.findings.map(({ code, object }) => `${code} ${object}`)).toEqual([
      `DATABASE_FOREIGN ${USER}@localhost on replica`,
    ]);
    expect(await converge(tool())).toEqual([`create ${USER} on toolsdb: absent → present`]);
    expect(await administer(world.replica.socket, `SHOW GRANTS FOR ${USER}@localhost`)).toBe(
      before,
    );
  });

  test('an anonymous account is reported, and the account is created nevertheless', async () => {
    // of a host that the workers do not come from, or they could not log in
    await administer(world.replica.socket, "CREATE USER ''@'10.%'");
    const [found] = await survey([databaseAccount], [tool()], realm, reader);
    expect(found?.findings).toMatchObject([{ object: "''@10.% on replica", advisory: true }]);
    expect(await converge(tool())).toHaveLength(2);
  });
});

test.each(['replica', 'toolsdb'] as const)(
  'an anonymous account is removed when the rights of %s are set',
  async (name) => {
    const { socket } = name === 'replica' ? world.replica : world.tools;
    const file = new URL(`../../../deploy/mariadb/${name}.sql`, import.meta.url);
    await administer(socket, "CREATE USER ''@localhost; CREATE USER ''@'%';");
    await administer(socket, readFileSync(file, 'utf8'));
    const count = "SELECT COUNT(*) FROM mysql.global_priv WHERE User = ''";
    expect(await administer(socket, count)).toBe('0\n');
    // nothing else is changed by that
    expect(await converge(tool())).toHaveLength(2);
  },
);

describe('the writer', () => {
  const on = { server: 'replica', user: USER };
  const create: Action = {
    verb: 'db.createUser',
    ...on,
    uid: UID,
    epoch: 1,
    overlaps: false,
    maxUserConnections: 10,
    locked: false,
    grants: [],
  };

  const SET_VERIFIER: Action = {
    verb: 'db.setVerifier',
    ...on,
    uid: UID,
    epoch: 1,
    overlaps: false,
  };

  test.each([
    ['replica', []],
    ['toolsdb', [`ALL on ${USER}\\_\\_%.*`]],
  ] as const)(
    'neither creates nor changes an account that appeared meanwhile: on %s',
    async (server, grants) => {
      const { socket } = server === 'replica' ? world.replica : world.tools;
      await administer(socket, `CREATE USER ${USER} IDENTIFIED BY 'x'`);
      const before = await grantsOf(server);
      const made = { ...create, server, grants: [...grants] };
      expect(await failureOf(made)).toMatchObject({ code: 'STEP_STALE' });
      expect(await grantsOf(server)).toBe(before);
    },
  );

  test.each<Action>([
    SET_VERIFIER,
    { ...SET_VERIFIER, ends: { maxUserConnections: 10 } },
    { verb: 'db.setLimit', ...on, maxUserConnections: 10, ends: false },
    { verb: 'db.setLimit', ...on, maxUserConnections: 10, ends: true },
    { verb: 'db.grant', server: 'toolsdb', user: USER, grants: [`ALL on ${USER}\\_\\_%.*`] },
    { verb: 'db.revoke', ...on, grants: [], keep: [], locked: false },
    { verb: 'db.setLocked', ...on, locked: true, maxUserConnections: 10, withoutEventsOn: [] },
    {
      ...{ verb: 'db.setLocked', server: 'toolsdb', user: USER, locked: true },
      ...{ maxUserConnections: 10, withoutEventsOn: [`${USER}\\_\\_%`] },
    },
    { verb: 'db.setLocked', ...on, locked: false, maxUserConnections: 10, withoutEventsOn: [] },
    { verb: 'db.dropUser', ...on },
  ])('does not create an account that vanished meanwhile: $verb', async (action) => {
    expect(await failureOf(action)).toMatchObject({ code: 'STEP_STALE' });
    const count = `SELECT COUNT(*) FROM mysql.global_priv WHERE User = '${USER}'`;
    expect(await administer(world.replica.socket, count)).toBe('0\n');
    expect(await administer(world.tools.socket, count)).toBe('0\n');
  });

  test('refuses a verifier that is no longer recorded', async () => {
    expect(await failureOf({ ...create, epoch: 7 })).toMatchObject({ code: 'STEP_STALE' });
  });

  test.each([true, false])(
    'refuses a step whose overlap has ended, or begun, meanwhile: planned with one: %j',
    async (overlaps) => {
      await converge(tool());
      const before = await grantsOf('replica');
      record(2, 'another', ...(overlaps ? [] : [PASSWORD]));
      const step = { ...SET_VERIFIER, epoch: 2, overlaps };
      expect(await failureOf(step)).toMatchObject({ code: 'STEP_STALE' });
      expect(await grantsOf('replica')).toBe(before);
    },
  );

  test.each(['root', 's1`; DROP USER root', "s1'@'%", 's0', 'S1', 's1\n', ''])(
    'refuses the user %j, which is not one of ours',
    async (user) => {
      await expect(writer.do({ verb: 'db.dropUser', server: 'replica', user })).rejects.toThrow(
        'not one of our database users',
      );
    },
  );

  test.each(['SUPER on *.*', 'ALL on mysql.x', 'role a; DROP USER root', 'GRANT OPTION on x.*'])(
    'refuses the grant %j, which we never want',
    async (grant) => {
      await converge(tool());
      expect(await failureOf({ verb: 'db.grant', ...on, grants: [grant] })).toBeDefined();
      expect(await grantsOf('replica')).not.toContain('SUPER');
    },
  );

  test('can give rights only on the databases of tools and people', async () => {
    await converge(tool());
    const connection = await createConnection({
      socketPath: world.tools.socket,
      ...login('databases'),
    });
    opened.push(connection);
    for (const database of ['mysql', 'sys', 'shop', 's1_own', 's1xxown', 'enwikixp', 's%', '%p']) {
      for (const privileges of ['ALL PRIVILEGES', 'SELECT, SHOW VIEW']) {
        await expect(
          connection.query(`GRANT ${privileges} ON \`${database}\`.* TO ${USER}`),
        ).rejects.toThrow(/denied/);
      }
    }
    for (const sql of [
      `GRANT SELECT ON *.* TO ${USER}`,
      `GRANT SUPER ON *.* TO ${USER}`,
      'SELECT Priv FROM mysql.global_priv',
      'CREATE DATABASE shop',
    ]) {
      await expect(connection.query(sql)).rejects.toThrow(/denied/);
    }
  });

  test('reveals no verifiers when a server refuses', async () => {
    const unprivileged = openDatabasesWriter(
      world.config.databases.servers,
      login('databases-reader'),
      readVerifier,
    );
    record(2, 'another', PASSWORD);
    const two = { ...SET_VERIFIER, epoch: 2, overlaps: true };
    for (const action of [create, SET_VERIFIER, two]) {
      if (action.verb === 'db.setVerifier') await converge(tool());
      const error = await unprivileged.do(action).catch((thrown: unknown) => thrown);
      expect(codeOf(error)).toBe('STEP_FAILED');
      expect(describeError(error)).toContain('denied');
      expect(JSON.stringify(everythingIn(error))).not.toContain(VERIFIER.slice(1, 20));
    }
    await unprivileged.close();
  });
});

describe('the reader', () => {
  test('sees a thousand subjects at once, each with its own accounts', async () => {
    const uids = Array.from({ length: 1000 }, (_, index) => 60_000 + index);
    const made = uids.filter((uid) => uid % 3 === 0);
    await administer(
      world.replica.socket,
      made.map((uid) => `CREATE USER s${uid} WITH MAX_USER_CONNECTIONS ${uid};`).join('\n'),
    );
    const { users } = await reader.look(
      'replica',
      uids.map((uid) => `s${uid}`),
    );
    const limits = [...users].map(([user, [account]]) => `${user} ${account?.maxUserConnections}`);
    expect(limits.toSorted((a, b) => a.localeCompare(b))).toEqual(
      made.map((uid) => `s${uid} ${uid}`),
    );
    await administer(world.replica.socket, `DROP USER ${made.map((uid) => `s${uid}`).join(', ')}`);
  });

  test('surveys numbers with few and with many digits, of tools and people together', async () => {
    const users = ['s9', 's10', 's99999', 's100000', 'u7', 'u123456'];
    const { socket } = world.replica;
    await administer(socket, users.map((user) => `CREATE USER ${user};`).join('\n'));
    const surveyed = await reader.readEverything({ piece: 2, yieldTurn: async () => {} });
    const seen = await surveyed.reader.look('replica', [...users, 's11', 'u8']);
    expect([...seen.users.keys()].toSorted()).toEqual(users.toSorted());
    const ofPeople = await surveyed.reader.look('replica', ['u7']);
    expect([...ofPeople.users.keys()]).toEqual(['u7']);
    expect([...surveyed.numbers]).toEqual(expect.arrayContaining([7, 9, 10, 99_999, 123_456]));
    await administer(socket, `DROP USER ${users.join(', ')}`);
  });

  test('shows by one digest whether any account of a server has changed', async () => {
    const { socket } = world.replica;
    const digest = () => reader.digestAccounts('replica');
    const before = await digest();
    let last = before;
    for (const sql of [
      `CREATE USER s1000, s1001`,
      `ALTER USER s1000 IDENTIFIED BY 'x'`,
      `ALTER USER s1000 ACCOUNT LOCK`,
      // as many accounts, and names whose bytes have the same sum
      `RENAME USER s1000 TO s1002, s1001 TO s1003`,
      `RENAME USER s1002 TO s1002@localhost`,
    ]) {
      await administer(socket, sql);
      const now = await digest();
      expect([sql, now]).not.toEqual([sql, last]);
      expect(await digest()).toBe(now);
      last = now;
    }
    await administer(socket, 'DROP USER s1002@localhost, s1003');
    expect(await digest()).toBe(before);
  });

  test('names global privileges as the server does', async () => {
    const { socket } = world.replica;
    await administer(socket, `CREATE USER ${USER}`);
    const seen = async () => (await reader.look('replica', [USER])).users.get(USER)?.[0]?.grants;
    const names = (await administer(socket, 'SHOW PRIVILEGES'))
      .split('\n')
      .map((line) => (line.split('\t')[0] ?? '').toUpperCase())
      .filter((name) => !['PRIVILEGE', 'GRANT OPTION', 'PROXY', 'USAGE', ''].includes(name));
    expect(names.length).toBeGreaterThan(30);
    for (const name of names) {
      await administer(socket, `GRANT ${name} ON *.* TO ${USER}`);
      const told = /GRANT (.*) ON \*\.\* TO/.exec(
        await administer(socket, `SHOW GRANTS FOR ${USER}`),
      )?.[1];
      expect(await seen()).toEqual([`${told} on *.*`]);
      await administer(socket, `REVOKE ${name} ON *.* FROM ${USER}`);
    }
    await administer(socket, `GRANT SELECT ON *.* TO ${USER} WITH GRANT OPTION`);
    expect(await seen()).toEqual(['GRANT OPTION, SELECT on *.*']);
    await administer(socket, `GRANT ALL ON *.* TO ${USER}`);
    expect(await seen()).toEqual(['ALL, GRANT OPTION on *.*']);
  });

  test('cannot change anything, nor read the databases of tools', async () => {
    const connection = await createConnection({
      socketPath: world.tools.socket,
      ...login('databases-reader'),
    });
    opened.push(connection);
    await administer(
      world.tools.socket,
      'CREATE DATABASE IF NOT EXISTS s9__x; CREATE TABLE IF NOT EXISTS s9__x.t (a INT);',
    );
    for (const sql of [
      'CREATE USER s1',
      `ALTER USER root@localhost ACCOUNT LOCK`,
      'UPDATE mysql.global_priv SET Priv = Priv',
      'DELETE FROM mysql.db',
      'CREATE DATABASE s1__x',
      // what a tool has not published
      'SELECT * FROM s9__x.t',
    ]) {
      await expect(connection.query(sql)).rejects.toThrow(/denied|privilege/);
    }
  });

  test('says of a server that is away what is wrong, once', async () => {
    const nowhere = [{ name: 'toolsdb', socket: '/nowhere/mariadb.sock' }];
    const away = openDatabasesReader(nowhere, login('databases-reader'));
    try {
      await expect(away.listUsers('toolsdb').catch(describeError)).resolves.toBe(
        'reading the accounts of toolsdb: there is no such socket (ENOENT)',
      );
    } finally {
      await away.close();
    }
  });

  test('reports a server that it may not read as unreadable, never as empty', async () => {
    const wrong = openDatabasesReader(world.config.databases.servers, {
      user: 'chamberlain_databases_reader',
      password: 'x',
    });
    expect(await failureOfLook(wrong)).toMatchObject({ code: 'BACKEND_UNREADABLE' });
    await wrong.close();
    const less = openDatabasesReader(world.config.databases.servers, login('databases'));
    expect(await failureOfLook(less)).toMatchObject({ code: 'BACKEND_UNREADABLE' });
    await less.close();
  });
});

describe('a server that is away', () => {
  test('is refused at once, hides no other server, and is used again as soon as it is back', async () => {
    await stopServer(world.replica);
    const begin = performance.now();
    expect(await converge(tool(), true)).toEqual([`create ${USER} on toolsdb: absent → present`]);
    // a server that does not answer is given up after 3 s
    expect(performance.now() - begin).toBeLessThan(2_900);
    const [found] = await survey([databaseAccount], [tool()], realm, reader);
    expect(found?.unreadable).toMatchObject([{ code: 'BACKEND_UNREADABLE' }]);
    expect(found?.unreadable[0]?.sentence).toContain('reading the accounts of replica');
    expect(await failureOf({ verb: 'db.dropUser', server: 'replica', user: USER })).toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
    });
    await startServer(world.replica);
    expect(await converge(tool())).toEqual([`create ${USER} on replica: absent → present`]);
  });

  test('that hangs is given up in time, and is used again as soon as it goes on', async () => {
    await converge(tool());
    const pid = runningPid(world.replica) as number;
    process.kill(pid, 'SIGSTOP');
    await eventually('it to be stopped', () => stateOf(pid) === 'T');
    try {
      const begin = performance.now();
      const limit: Action = {
        verb: 'db.setLimit',
        server: 'replica',
        user: USER,
        maxUserConnections: 3,
        ends: false,
      };
      const [look, step] = await Promise.all([failureOfLook(reader), failureOf(limit)]);
      expect(look).toMatchObject({ code: 'BACKEND_UNREADABLE' });
      expect(step).toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
      // both at once, each after 5 s
      expect(performance.now() - begin).toBeLessThan(9_900);
      // the next attempt gets no connection
      expect(await failureOfLook(reader)).toMatchObject({ code: 'BACKEND_UNREADABLE' });
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await converge(tool());
    expect(await converge(tool())).toEqual([]);
    await connect('replica');
  });
});

describe('a server that cannot write for now', () => {
  const PERSON = 'u1234';
  const lock: Action = {
    ...{ verb: 'db.setLocked', server: 'toolsdb', user: PERSON, locked: true },
    ...{ maxUserConnections: 10, withoutEventsOn: [] },
  };
  const isLocked = async () =>
    (await administer(world.tools.socket, `SHOW CREATE USER ${PERSON}`)).includes('ACCOUNT LOCK');

  beforeEach(async () => {
    await administer(world.tools.socket, `CREATE USER ${PERSON} IDENTIFIED BY 'x'`);
  });
  afterEach(async () => {
    await administer(world.tools.socket, `DROP USER ${PERSON}`);
  });

  test.each([
    ['read_only', '--read-only'],
    ['tx_read_only', 'READ ONLY'],
  ])('is unavailable, and does not refuse: %s', async (variable, text) => {
    await administer(world.tools.socket, `SET GLOBAL ${variable} = 1`);
    // with new connections, which begin with the server's settings
    const fresh = openDatabasesWriter(
      world.config.databases.servers,
      login('databases'),
      readVerifier,
    );
    try {
      // the second step is tried, too, since the server answers
      for (const step of [lock, lock]) {
        const error = await fresh.do(step).catch((thrown: unknown) => thrown);
        expect(codeOf(error)).toBe('BACKEND_UNAVAILABLE');
        expect(describeError(error)).toContain(text);
      }
      expect((await reader.look('toolsdb', [PERSON])).users.has(PERSON)).toBe(true);
      expect(await isLocked()).toBe(false);
    } finally {
      await administer(world.tools.socket, `SET GLOBAL ${variable} = 0`);
      await fresh.close();
    }
    await writer.do(lock);
    expect(await isLocked()).toBe(true);
  });

  test('is unavailable while a backup holds back what is committed', async () => {
    const backup = await createConnection({ socketPath: world.tools.socket, user: 'root' });
    opened.push(backup);
    await backup.query('BACKUP STAGE START');
    await backup.query('BACKUP STAGE BLOCK_COMMIT');
    const error = await failureOf(lock);
    expect(codeOf(error)).toBe('BACKEND_UNAVAILABLE');
    expect(describeError(error)).toContain('Lock wait timeout');
    await backup.query('BACKUP STAGE END');
    await writer.do(lock);
    expect(await isLocked()).toBe(true);
  });

  test('is no server with another option that forbids a statement', () => {
    const prevents = (option: string) => ({
      errno: 1290,
      sqlMessage: `The MariaDB server is running with the ${option} option so it cannot execute this statement`,
    });
    expect(cannotWriteAccounts(prevents('--read-only'))).toBe(true);
    expect(cannotWriteAccounts(prevents('--skip-grant-tables'))).toBe(false);
  });
});

function tool(changes: Partial<WantedTool> = {}): WantedTool {
  return {
    kind: 'tool',
    uid: UID,
    account: 'tools.bridgebot' as AccountName,
    name: 'bridgebot' as ToolName,
    state: 'active',
    credentials: { wantedEpoch: 1, recorded: { epoch: 1, verifier: VERIFIER } },
    ...changes,
  };
}

/** Surveys and applies once; the steps in short form. */
async function converge(wanted: WantedTool, isPartial = false): Promise<string[]> {
  const [found] = await survey([databaseAccount], [wanted], realm, reader);
  if (found === undefined) throw new Error('no survey');
  if (!isPartial) expect(found.unreadable).toEqual([]);
  expect(await apply([databaseAccount], found, writer)).toEqual([]);
  return found.steps.map(({ effect, object, change }) => `${effect} ${object}: ${change}`);
}

async function connect(server: 'replica' | 'toolsdb', password = PASSWORD): Promise<Connection> {
  const { socket } = server === 'replica' ? world.replica : world.tools;
  const connection = await createConnection({ socketPath: socket, user: USER, password });
  connection.on('error', () => undefined);
  opened.push(connection);
  return connection;
}

async function grantsOf(server: 'replica' | 'toolsdb'): Promise<string> {
  const { socket } = server === 'replica' ? world.replica : world.tools;
  return await administer(socket, `SHOW CREATE USER ${USER}; SHOW GRANTS FOR ${USER}`);
}

async function failureOf(action: Action): Promise<unknown> {
  return await writer.do(action).then(
    () => undefined,
    (error: unknown) => error,
  );
}

async function failureOfLook(through: typeof reader): Promise<unknown> {
  return await through.look('replica', [USER]).then(
    () => undefined,
    (error: unknown) => error,
  );
}

async function readVerifier(uid: number, epoch: number) {
  return recorded.get(`${uid} ${epoch}`);
}

/** Records a password, and a previous one that works as well, for the writer; returns what is wanted then. */
function record(epoch: number, password: string, before?: string) {
  const made = {
    verifier: verifierOf(password),
    ...(before === undefined ? {} : { previous: verifierOf(before) }),
  };
  recorded.set(`${UID} ${epoch}`, made);
  return { wantedEpoch: epoch, recorded: { epoch, ...made } };
}

function login(account: string) {
  const user = `chamberlain_${account.replaceAll('-', '_')}`;
  return { user, password: readSecret(world.config, 'mariadb', account) };
}

function verifierOf(password: string): string {
  const once = createHash('sha1').update(password).digest();
  return `*${createHash('sha1').update(once).digest('hex').toUpperCase()}`;
}

/** All properties of an error and its causes, including those that JSON leaves out. */
function everythingIn(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.getOwnPropertyNames(value).map((name) => [name, everythingIn(Reflect.get(value, name))]),
  );
}
