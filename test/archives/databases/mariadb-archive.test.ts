/** Archives, drops and restores databases, by real programs on a real server. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Connection, createConnection } from 'mariadb';
import { readSecret } from '../../../src/shared/config.ts';
import { openArchiveWriter } from '../../../src/archives/databases/mariadb-archive.ts';
import { openDatabaseArchiveReader } from '../../../src/archives/databases/mariadb-archive-reader.ts';
import type {
  ArchiveRealm,
  ArchiveTerms,
} from '../../../src/archives/databases/mariadb-archiving.ts';
import { usePatiently } from '../../../src/backends/mariadb/mariadb-connections.ts';
import { withTenant } from '../../../src/backends/mariadb/mariadb-tenant.ts';
import { ChamberlainError, codeOf, describeError } from '../../../src/shared/errors.ts';
import { verifierOf } from '../../../src/credentials/credentials.ts';
import type { DatabasesManifest } from '../../../src/archives/databases-manifest.ts';
import type { Action } from '../../../src/reconcile/action.ts';
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
const ACCOUNT = 'tools.bridgebot';
const PASSWORD = 'correcthorsebatterystaple';
const OF = { user: USER, account: ACCOUNT, archival: 1 };
const ARCHIVE: Extract<Action, { verb: 'databases.archive' }> = {
  verb: 'databases.archive',
  ...OF,
  uid: UID,
  servers: ['toolsdb'],
};

let world: World;
let realm: ArchiveRealm;
let writer: ReturnType<typeof openArchiveWriter>;
let admin: Connection;
/** a folder at the front of PATH, for programs that die or stall */
let doubles: string;
const PATH = process.env['PATH'] ?? '';
const WRITER = join(import.meta.dirname, '../archive-writer.ts');

/** what the writer reported to our PostgreSQL */
const recorded: Parameters<ArchiveTerms['record']>[0][] = [];
const told: string[] = [];
let isWanted = true;
/** this often it is wanted, whatever `isWanted` says */
let stillAsked = 0;
/** whether our PostgreSQL is away, and how often it was asked meanwhile */
let isSilent = false;
let silentAsked = 0;
let failRecord = false;
const terms: ArchiveTerms = {
  now: () => new Date(),
  readFingerprints: async () => [],
  newPassword: () => 'forloadingalone',
  readVerifiers: async () => [verifierOf(PASSWORD)],
  async stillWanted() {
    if (isSilent) {
      silentAsked += 1;
      throw new ChamberlainError('BACKEND_UNAVAILABLE', 'checking whether a step is still wanted');
    }
    return (stillAsked -= 1) >= 0 || isWanted;
  },
  async record(archive) {
    if (failRecord) throw new Error('PostgreSQL is away');
    recorded.push(archive);
  },
  report: async ({ act }) => void told.push(act),
  clear: async () => void told.push('over'),
};

beforeAll(async () => {
  world = await openWorld('put databases away', { needs: ['mariadb'], own: true });
  doubles = join(world.dir, 'double programs');
  mkdirSync(doubles);
  await administer(
    world.tools.socket,
    "CREATE USER elder IDENTIFIED BY 'elder'; GRANT ALL ON *.* TO elder WITH GRANT OPTION",
  );
  admin = await connect('elder', 'elder');
  realm = {
    folder: join(world.dir, 'archived here'),
    places: world.config.databases.servers,
    login: login('databases'),
  };
  writer = openArchiveWriter(realm, terms);
});

beforeEach(async () => {
  rmSync(realm.folder, { recursive: true, force: true });
  mkdirSync(realm.folder, { mode: 0o700 });
  recorded.length = told.length = 0;
  isWanted = true;
  stillAsked = silentAsked = 0;
  isSilent = failRecord = false;
  await makeTenant();
});

afterEach(async () => {
  process.env['PATH'] = PATH;
  for (const name of readdirSync(doubles)) rmSync(join(doubles, name));
  await admin.query('SET foreign_key_checks = 0');
  for (const name of await ownDatabases())
    await admin.query(`DROP DATABASE ${admin.escapeId(name)}`);
});

afterAll(async () => {
  await writer.close();
  await admin.end();
  await world.close();
});

/** Every kind of thing that a database may hold, with the names and content that cause most trouble. */
const HOSTILE = '`we``ird"\'\\\\%_ü\nx`';
const EVERYTHING = [
  `CREATE DATABASE s51234__a CHARACTER SET latin1 COLLATE latin1_german1_ci COMMENT 'it''s; "\\\\ ü'`,
  'USE s51234__a',
  `CREATE TABLE main (id INT PRIMARY KEY AUTO_INCREMENT, t TEXT, b BLOB, z DATETIME, n INT DEFAULT 4,
     g INT AS (n * 2) STORED, v INT AS (n * 3) VIRTUAL, hidden INT INVISIBLE DEFAULT 5, bits BIT(5), u UUID,
     j JSON, p POINT, f FLOAT, d DECIMAL(30, 10), e ENUM('a', 'it''s'), ts TIMESTAMP(6) NULL, \`VALUES\` INT,
     KEY (n), FULLTEXT (t)) ENGINE=InnoDB COMMENT 'a; ''b'' \\\\'`,
  "SET SESSION sql_mode = ''",
  `INSERT INTO main (t, b, z, bits, e, f, d, ts) VALUES
     ('a\\nINSERT INTO \`x\` VALUES (1),(2)\\'\\\\"(', '\\0\\xff\\'', '0000-00-00', 3, 'it''s', 1.1, 12345678901234567890.0123456789,
      '2026-01-02 03:04:05.678901'),
     (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
     ('é(),();\\\\', '', '2020-02-30', 1, '', 1e30, -1, NULL)`,
  'INSERT INTO main (id) VALUES (0), (-5)',
  `CREATE TABLE bytes (b VARBINARY(300), c VARCHAR(50) CHARACTER SET utf8mb4, u VARCHAR(50) CHARACTER SET ucs2)`,
  "INSERT INTO bytes VALUES (UNHEX('00FF27225C0A0D1A60'), '😀\\'', 'ü€')",
  'CREATE TABLE older (id INT) ENGINE=MyISAM',
  'INSERT INTO older VALUES (1), (2)',
  'CREATE TABLE aria (id INT) ENGINE=Aria',
  'INSERT INTO aria VALUES (1)',
  'CREATE TABLE merged (id INT) ENGINE=MERGE UNION=(older)',
  'CREATE TABLE nothing (id INT)',
  `CREATE TABLE ${HOSTILE} (\`c\`\`ol\n'"\` INT)`,
  `INSERT INTO ${HOSTILE} VALUES (1), (2)`,
  'CREATE TABLE versioned (a INT) WITH SYSTEM VERSIONING',
  'INSERT INTO versioned VALUES (1), (2)',
  'UPDATE versioned SET a = 3 WHERE a = 1',
  'DELETE FROM versioned WHERE a = 2',
  'CREATE SEQUENCE sequence START WITH 7',
  'SELECT NEXTVAL(sequence)',
  'CREATE TABLE numbered (id INT DEFAULT NEXTVAL(sequence))',
  'INSERT INTO numbered VALUES (DEFAULT)',
  // what is taken only while checks are off
  'SET SESSION innodb_strict_mode = 0, check_constraint_checks = 0',
  'CREATE TABLE compressed (a INT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=5',
  'CREATE TABLE unchecked (n INT CHECK (n > 0))',
  'INSERT INTO unchecked VALUES (-1)',
  'CREATE TABLE parts (a INT) PARTITION BY HASH (a) PARTITIONS 3',
  'INSERT INTO parts VALUES (1), (2), (3)',
  'CREATE TABLE z_parent (id INT PRIMARY KEY)',
  'CREATE TABLE a_child (id INT, FOREIGN KEY (id) REFERENCES z_parent (id))',
  'INSERT INTO z_parent VALUES (1)',
  'INSERT INTO a_child VALUES (1)',
  'CREATE VIEW z_view AS SELECT id, t FROM main',
  'CREATE VIEW a_view AS SELECT *, "\'/*" AS q FROM z_view',
  "CREATE TRIGGER trigger_1 BEFORE INSERT ON nothing FOR EACH ROW BEGIN\nINSERT INTO `older` VALUES (9);\n-- it's;;\nEND",
  'CREATE PROCEDURE procedure_1() BEGIN\n/* \\! touch pwned\nsystem touch pwned\n*/\nINSERT INTO `older` VALUES (1);\nEND',
  // what would be rows, and a table, elsewhere in a dump
  'CREATE PROCEDURE procedure_3() BEGIN\nINSERT INTO `older` (`id`) VALUES (1),\n(2);\nCREATE TABLE `x` (\nid INT);\nEND',
  'CREATE TABLE ranges (a INT) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (5), PARTITION p1 VALUES LESS THAN (9))',
  'INSERT INTO ranges VALUES (1), (7)',
  "CREATE FUNCTION function_1(a INT) RETURNS VARCHAR(20) CHARSET utf8mb4 RETURN 'a\\\\''; '",
  'CREATE EVENT event_1 ON SCHEDULE EVERY 1 DAY DO INSERT INTO older VALUES (1)',
  "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'",
  `CREATE PROCEDURE "pro;cedure 2"() SELECT 'a\\' AS "b"`,
  "SET SESSION sql_mode = 'ORACLE'",
  'CREATE PACKAGE package_1 AS PROCEDURE p1(); END',
  'CREATE PACKAGE BODY package_1 AS PROCEDURE p1() AS BEGIN NULL; END; END',
  "SET SESSION sql_mode = ''",
  'CREATE DATABASE s51234__empty CHARACTER SET ucs2',
  'CREATE DATABASE `s51234__o\'"``\\\\;%_ü\n -- --all x_p`',
  'CREATE TABLE `s51234__o\'"``\\\\;%_ü\n -- --all x_p`.t AS SELECT 1 AS a',
  `CREATE DATABASE s51234__${'z'.repeat(56)}`,
  `CREATE TABLE s51234__${'z'.repeat(56)}.${'y'.repeat(64)} (a INT)`,
  // each needs something of the other
  'CREATE TABLE s51234__empty.base (id INT PRIMARY KEY)',
  'CREATE VIEW s51234__a.of_empty AS SELECT * FROM s51234__empty.base',
  'CREATE TABLE s51234__a.of_empty_too (id INT, FOREIGN KEY (id) REFERENCES s51234__empty.base (id))',
  'CREATE VIEW s51234__empty.of_a AS SELECT id FROM s51234__a.main',
];
// databases with similar names that are not the tenant's
const OTHERS = ['s512345__a', 's51234_a', 's51234xxa', 'S51234__a', 'u51234__a', 's5123__a'];

describe('archiving, dropping and restoring', () => {
  test('restores every table and row, and changes nothing of others', async () => {
    await asTenant(EVERYTHING);
    for (const name of OTHERS) await admin.query(`CREATE DATABASE IF NOT EXISTS ${name}`);
    const before = await snapshot();

    await writer.do(ARCHIVE);
    expect(await snapshot()).toEqual(before);
    expect(await isLocked()).toBe(true);
    const manifest = readManifest();
    expect(manifest).toMatchObject({ account: ACCOUNT, uid: UID, user: USER, archival: 1 });
    expect(manifest.databases.map(({ database }) => database).toSorted()).toEqual(
      await ownDatabases(),
    );
    expect(rowsOf(manifest, 's51234__a')).toMatchObject({
      main: 5,
      versioned: 3,
      sequence: 0,
      merged: 0,
      older: 2,
      nothing: 0,
      parts: 3,
    });
    const [archive] = recorded;
    expect(archive).toMatchObject({
      subject: UID,
      archival: 1,
      path: join(realm.folder, `${ACCOUNT}.1`),
    });
    for (const name of readdirSync(realm.folder, { recursive: true, encoding: 'utf8' })) {
      expect([name, statSync(join(realm.folder, name)).mode & 0o077]).toEqual([name, 0]);
      expect(name).not.toContain('.login');
    }

    for (const { database } of manifest.databases) await writer.do(drop(database));
    expect(await ownDatabases()).toEqual([]);
    for (const name of OTHERS) {
      expect(
        await admin.query('SHOW DATABASES LIKE ?', [name.replaceAll('_', '\\_')]),
      ).toHaveLength(1);
      await admin.query(`DROP DATABASE ${name}`);
    }

    await admin.query(`DROP USER ${USER}`);
    await writer.do(restore());
    expect(await admin.query('SELECT 1 FROM mysql.global_priv WHERE User = ?', [USER])).toEqual([]);
    expect(existsSync('pwned')).toBe(false);

    await makeTenant();
    expect(await snapshot()).toEqual(before);

    // once more does nothing
    await writer.do(restore());
    expect(await snapshot()).toEqual(before);
  });

  test('records that there was nothing to archive', async () => {
    await writer.do(ARCHIVE);
    expect(readManifest().databases).toEqual([]);
    expect(recorded).toHaveLength(1);
  });

  test('a person’s databases are not those of a tool with the same number', async () => {
    await asTenant(['CREATE DATABASE s51234__a']);
    const of = { ...ARCHIVE, user: `u${UID}`, account: 'alice' };
    await admin.query(`CREATE DATABASE u${UID}__own`);
    await admin.query(`CREATE TABLE u${UID}__own.t AS SELECT 1 AS a`);
    await writer.do(of);
    expect(readManifest('alice.1').databases.map(({ database }) => database)).toEqual([
      `u${UID}__own`,
    ]);
    await writer.do({ ...drop(`u${UID}__own`), user: `u${UID}`, account: 'alice' });
    await writer.do({ ...restore(), user: `u${UID}`, account: 'alice' });
    expect(await admin.query(`SELECT * FROM u${UID}__own.t`)).toEqual([{ a: 1 }]);
    await admin.query(`DROP DATABASE u${UID}__own`);
  });

  test('first locks the account: open connections end, and nobody can log in', async () => {
    await asTenant(['CREATE DATABASE s51234__a']);
    const tenant = await connect(USER, PASSWORD);
    await writer.do(ARCHIVE);
    await expect(tenant.query('SELECT 1')).rejects.toThrow();
    await expect(connect(USER, PASSWORD)).rejects.toThrow('locked');
  });

  test('lends the account only for loading: afterwards it is locked, with the recorded password', async () => {
    await asTenant(SMALL);
    await writer.do(ARCHIVE);
    await writer.do(drop('s51234__small'));
    await writer.do(restore());
    expect(await isLocked()).toBe(true);
    await admin.query(`ALTER USER ${USER} ACCOUNT UNLOCK`);
    await connect(USER, PASSWORD);
    await expect(connect(USER, 'forloadingalone')).rejects.toThrow('denied');
  });

  test('an archive that was not recorded is recorded later, not created again', async () => {
    await asTenant(SMALL);
    failRecord = true;
    expect(await failureOf(ARCHIVE)).toContain('PostgreSQL is away');
    const made = inode();
    failRecord = false;
    told.length = 0;
    await writer.do(ARCHIVE);
    expect(inode()).toBe(made);
    expect(told).toEqual(['reading the archive', 'recording', 'over']);
    expect(recorded).toHaveLength(1);
  });

  test('an existing archive is not overwritten when the databases have changed', async () => {
    await asTenant(SMALL);
    await writer.do(ARCHIVE);
    await admin.query('INSERT INTO s51234__small.t VALUES (7)');
    const before = readFileSync(manifestPath());
    expect(await failureOf(ARCHIVE)).toMatch(/^ARCHIVE_DIFFERS .*had 3 rows, and has 4/);
    expect(readFileSync(manifestPath()).equals(before)).toBe(true);
  });

  test('a database that was partly dropped or partly loaded is loaded again', async () => {
    await asTenant(SMALL);
    const before = await snapshot();
    await writer.do(ARCHIVE);
    await admin.query('DROP TABLE s51234__small.u');
    await admin.query('DROP VIEW s51234__small.v');
    double('mariadb', `"$real" "$@" && exit 1`);
    expect(await failureOf(restore())).toMatch(/^STEP_FAILED/);
    process.env['PATH'] = PATH;
    await admin.query('DELETE FROM s51234__small.t LIMIT 1');
    await admin.query('DROP VIEW s51234__small.v');
    await writer.do(restore());
    expect(await snapshot()).toEqual(before);
    expect(readdirSync(realm.folder).toSorted()).toEqual([
      `.${ACCOUNT}.1.toolsdb.returned`,
      `${ACCOUNT}.1`,
    ]);
  });

  test.each(['UPDATE s51234__small.t SET a = 9 LIMIT 1', 'DELETE FROM s51234__small.t LIMIT 1'])(
    'a database that came back from a backup stops the restore, and is left: %s',
    async (sql) => {
      await asTenant(SMALL);
      await writer.do(ARCHIVE);
      await admin.query(sql);
      const before = await snapshot();
      expect(await failureOf(restore())).toMatch(
        /^ARCHIVE_DIFFERS .*the content of the table t differs from its archive/,
      );
      expect(await snapshot()).toEqual(before);
    },
  );

  test('a run that was interrupted after loading leaves no role permanently', async () => {
    await asTenant(SMALL);
    await writer.do(ARCHIVE);
    const role = `chamberlain_loads_${USER}`;
    await admin.query(`CREATE ROLE ${role}`);
    await admin.query(`GRANT ${role} TO ${USER}`);
    await writer.do(restore());
    const left = 'SELECT User FROM mysql.global_priv WHERE User = ?';
    expect(await admin.query(left, [role])).toEqual([]);
  });

  test('a load that ended before the views were made is begun again; what was loaded is not', async () => {
    await asTenant([
      'CREATE DATABASE s51234__before',
      'CREATE TABLE s51234__before.t AS SELECT 1 AS a',
      ...SMALL,
    ]);
    await writer.do(ARCHIVE);
    await writer.do(drop('s51234__before'));
    await writer.do(drop('s51234__small'));
    double(
      'mariadb',
      `case "$*" in *__small) awk '/DROP VIEW/ && n++ { exit } 1' | "$real" "$@"; exit 1;; *) exec "$real" "$@";; esac`,
    );
    expect(await failureOf(restore())).toContain('mariadb: exit code 1');
    expect(await admin.query('SELECT * FROM s51234__small.v')).toEqual([{ a: null }]);
    process.env['PATH'] = PATH;
    told.length = 0;
    await writer.do(restore());
    expect(told.filter((act) => act.startsWith('loading'))).toEqual(['loading s51234__small']);
    expect(await admin.query('SELECT * FROM s51234__small.v')).toHaveLength(3);
    expect(await admin.query('SELECT * FROM s51234__before.t')).toEqual([{ a: 1 }]);
  });

  test('a newer table stops the restore, and is left', async () => {
    await asTenant(SMALL);
    await writer.do(ARCHIVE);
    await admin.query('CREATE TABLE s51234__small.later AS SELECT 1 AS a');
    expect(await failureOf(restore())).toMatch(/^ARCHIVE_DIFFERS .*the table later is new/);
    expect(await admin.query('SELECT * FROM s51234__small.later')).toHaveLength(1);
  });

  test('is removed on request, even if an earlier removal was interrupted', async () => {
    await asTenant(SMALL);
    await writer.do(ARCHIVE);
    const remove = { verb: 'databases.removeArchive', ...OF, manifest: manifestOf() } as const;
    await writer.do(restore());
    rmSync(join(realm.folder, `${ACCOUNT}.1`, 'toolsdb.1.sql.zst'));
    await writer.do(remove);
    expect(readdirSync(realm.folder)).toEqual([]);
    const reader = openDatabaseArchiveReader(realm.places, login('databases-reader'), realm.folder);
    mkdirSync(join(realm.folder, `${ACCOUNT}.1`), { mode: 0o700 });
    expect(await reader.lookAtArchive(ACCOUNT, 1)).toBe('emptied');
    await writer.do(remove);
    expect(readdirSync(realm.folder)).toEqual([]);
    await reader.close();
  });
});

test('events are restored as they were, and none runs in between, not even during loading', async () => {
  await admin.query('SET GLOBAL event_scheduler = ON');
  const write = "DO INSERT INTO s51234__events.log VALUES ('written')";
  await asTenant([
    'CREATE DATABASE s51234__events',
    'CREATE TABLE s51234__events.log (what TEXT)',
    `CREATE EVENT s51234__events.often ON SCHEDULE EVERY 1 SECOND ${write}`,
    `CREATE EVENT s51234__events.off ON SCHEDULE EVERY 1 SECOND DISABLE ${write}`,
    `CREATE EVENT s51234__events.once ON SCHEDULE AT now() + INTERVAL 1 DAY ${write}`,
    // its time is over when it is restored
    `CREATE EVENT s51234__events.over ON SCHEDULE AT now() + INTERVAL 2 SECOND ${write}`,
  ]);
  // as the lock of the account does
  await admin.query(`ALTER USER ${USER} ACCOUNT LOCK`);
  await admin.query(`REVOKE EVENT ON \`${USER}\\_\\_%\`.* FROM ${USER}`);
  const tried = async (name: string) => {
    const [row] = await admin.query<{ at: string | null }[]>(
      "SELECT CONCAT(LAST_EXECUTED) AS at FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 's51234__events' AND EVENT_NAME = ?",
      [name],
    );
    return row?.at ?? undefined;
  };
  await eventually('the last event with a time', async () => tried('over'));
  const before = await snapshot();
  await writer.do(ARCHIVE);
  await writer.do(drop('s51234__events'));
  // what is loaded stands there until it is tried
  double(
    'mariadb',
    `"$real" "$@" && until "$real" --no-defaults -S '${world.tools.socket}' -Ne "SELECT LAST_EXECUTED
       FROM information_schema.EVENTS WHERE EVENT_NAME = 'often'" | grep -q ^2; do sleep 0.1; done`,
  );
  await writer.do(restore());
  expect(await tried('often')).toBeDefined();
  expect(await snapshot()).toEqual(before);

  process.env['PATH'] = PATH;
  await writer.do(drop('s51234__events'));
  await admin.query(`DROP USER ${USER}`);
  await writer.do(restore());
  expect(await snapshot()).toEqual(before);
  expect(
    await admin.query("SELECT User FROM mysql.global_priv WHERE User LIKE 'chamberlain\\_loads%'"),
  ).toEqual([]);
  await admin.query('SET GLOBAL event_scheduler = OFF');
});

test('a row that is too long for the server as text is reported as such, and stays in the archive', async () => {
  await asTenant([
    'CREATE DATABASE s51234__long',
    'CREATE TABLE s51234__long.t (a LONGBLOB)',
    // of 16 MiB that a statement may have, twice as long as hexadecimal
    'INSERT INTO s51234__long.t VALUES (REPEAT(CHAR(200), 9000000))',
  ]);
  const before = await snapshot();
  await writer.do(ARCHIVE);
  await writer.do(drop('s51234__long'));
  expect(await failureOf(restore())).toMatch(
    /^STEP_FAILED .*the text form of a row is longer than max_allowed_packet \(16777216 bytes\), set max_allowed_packet to 1G/,
  );
  await admin.query('SET GLOBAL max_allowed_packet = 1073741824');
  try {
    await writer.do(restore());
  } finally {
    await admin.query('SET GLOBAL max_allowed_packet = 16777216');
  }
  expect(await snapshot()).toEqual(before);
});

test('objects with another definer are named, with the command that loads them; then everything is compared', async () => {
  const odd = "`s51234__it's $(touch pwned)`";
  await asTenant([`CREATE DATABASE ${odd}`, `CREATE TABLE ${odd}.t AS SELECT 1 AS a`]);
  await admin.query(`CREATE VIEW ${odd}.made_by_elder AS SELECT 1 AS a`);
  await admin.query(`CREATE PROCEDURE ${odd}.by_elder_too() SELECT 1`);
  const before = await snapshot();
  await writer.do(ARCHIVE);
  await writer.do(drop("s51234__it's $(touch pwned)"));
  const said = await failureOf(restore());
  expect(said).toMatch(
    /^STEP_FAILED .*PROCEDURE by_elder_too of elder@%, VIEW made_by_elder of elder@%\): load it on toolsdb as an administrator/,
  );
  const [, command = 'false'] = /`(zstd .*)`/.exec(said) ?? [];
  execFileSync('sh', [
    '-euc',
    command.replace('| mariadb', `| mariadb -S '${world.tools.socket}'`),
  ]);
  expect(existsSync('pwned')).toBe(false);
  await writer.do(restore());
  expect(await snapshot()).toEqual(before);
});

describe('nothing is dropped', () => {
  test.each<[string, () => Promise<unknown> | void, RegExp]>([
    [
      'without its archive',
      () => rmSync(join(realm.folder, `${ACCOUNT}.1`), { recursive: true }),
      /^ARCHIVE_DAMAGED/,
    ],
    ['if the manifest was edited', () => appendFileSync(manifestPath(), ' '), /^ARCHIVE_DAMAGED/],
    [
      'if its dump was changed',
      () => {
        const path = join(realm.folder, `${ACCOUNT}.1`, 'toolsdb.1.sql.zst');
        const bytes = readFileSync(path);
        bytes[20]! ^= 1;
        writeFileSync(path, bytes);
      },
      /^ARCHIVE_DAMAGED .*it was changed/,
    ],
    [
      'if its dump was cut short',
      () => writeFileSync(join(realm.folder, `${ACCOUNT}.1`, 'toolsdb.1.sql.zst'), ''),
      /^ARCHIVE_DAMAGED/,
    ],
    [
      'that has a newer table',
      () => admin.query('CREATE TABLE s51234__small.later (a INT)'),
      /^ARCHIVE_DIFFERS .*the table later is new/,
    ],
    [
      'that has newer rows',
      () => admin.query('INSERT INTO s51234__small.t VALUES (4)'),
      /^ARCHIVE_DIFFERS .*the table t has 4 rows instead of 3/,
    ],
    [
      'that has a newer routine',
      () => admin.query('CREATE PROCEDURE s51234__small.p() SELECT 1'),
      /^ARCHIVE_DIFFERS .*the routine PROCEDURE p is new/,
    ],
    [
      'that came back with as many other rows',
      () => admin.query('UPDATE s51234__small.t SET a = 9 LIMIT 1'),
      /^ARCHIVE_DIFFERS .*the content of the table t differs from its archive/,
    ],
    [
      'that came back with another view of the same name',
      () => admin.query('CREATE OR REPLACE VIEW s51234__small.v AS SELECT 1 AS a'),
      /^ARCHIVE_DIFFERS .*the content of the view v differs from its archive/,
    ],
    [
      'whose archive records no contents',
      () => {
        const manifest = readManifest();
        for (const piece of manifest.databases) delete piece.contents;
        const text = JSON.stringify(manifest);
        writeFileSync(manifestPath(), text);
        const manifestSha256 = createHash('sha256').update(text).digest('hex');
        recorded.push({ ...recorded[0]!, manifestSha256 });
      },
      /^ARCHIVE_DIFFERS .*made by an older version/,
    ],
  ])('%s', async (_, spoil, why) => {
    await asTenant(SMALL);
    await writer.do(ARCHIVE);
    const [step, were] = [drop('s51234__small'), recorded.length];
    await spoil();
    // an archive that was recorded again is the one that is asked for
    const asked = recorded.length === were ? step : drop('s51234__small');
    expect(await failureOf(asked)).toMatch(why);
    expect(await ownDatabases()).toEqual(['s51234__small']);
  });

  test('that is not in the archive, or belongs to another user', async () => {
    await asTenant(SMALL);
    await writer.do(ARCHIVE);
    await admin.query('CREATE DATABASE s51234__later');
    expect(await failureOf(drop('s51234__later'))).toMatch(/^ARCHIVE_DIFFERS/);
    await expect(writer.do(drop('mysql'))).rejects.toThrow();
    await expect(writer.do({ ...drop('mysql'), user: 'mysql' })).rejects.toThrow(
      'not one of our database users',
    );
    await expect(writer.do({ ...drop('s51234__small'), account: '../x' })).rejects.toThrow();
    expect(await ownDatabases()).toEqual(['s51234__later', 's51234__small']);
  });

  test('that is no longer to be dropped: the realm was frozen, or the subject is being restored; nor is an archive removed', async () => {
    await asTenant(SMALL);
    await writer.do(ARCHIVE);
    // at first it is
    for (const asked of [0, 1]) {
      stillAsked = asked;
      isWanted = false;
      expect(await failureOf(drop('s51234__small'))).toMatch(/^STEP_STALE/);
    }
    const step = { verb: 'databases.removeArchive', ...OF, manifest: manifestOf() } as const;
    expect(await failureOf(step)).toMatch(/^STEP_STALE/);
    expect([await ownDatabases(), existsSync(manifestPath())]).toEqual([['s51234__small'], true]);
  });

  test('nor is an archive removed whose manifest is not the recorded one', async () => {
    await asTenant(SMALL);
    await writer.do(ARCHIVE);
    const manifest = manifestOf().replace(/^./, (digit) => (digit === '0' ? '1' : '0'));
    expect(await failureOf({ verb: 'databases.removeArchive', ...OF, manifest })).toMatch(
      /^ARCHIVE_DAMAGED/,
    );
    expect(existsSync(manifestPath())).toBe(true);
  });
});

describe('a dump that fails changes nothing, and reports the reason', () => {
  afterEach(async () => {
    expect(recorded).toEqual([]);
    expect(existsSync(join(realm.folder, `${ACCOUNT}.1`))).toBe(false);
    // and can be made later
    process.env['PATH'] = PATH;
    await writer.do(ARCHIVE);
    expect(recorded).toHaveLength(1);
    expect(readdirSync(realm.folder)).toEqual([`${ACCOUNT}.1`]);
  });

  test.each<[string, string, RegExp]>([
    [
      'it is killed halfway',
      '"$real" "$@" 2>/dev/null | head -c 700; kill -9 $$',
      /^STEP_FAILED .*mariadb-dump: SIGKILL/,
    ],
    [
      'it says that it failed',
      '"$real" "$@"; echo "mariadb-dump: no" >&2; exit 3',
      /^STEP_FAILED .*mariadb-dump: no/,
    ],
    [
      'it ends halfway as if it were done',
      '"$real" "$@" | head -c 700',
      /^STEP_FAILED .*it was cut short/,
    ],
    [
      'a row is not in it',
      `"$real" "$@" | sed '/^(2),$/d'`,
      /^STEP_FAILED .*it holds 2 of 3 rows of the table t/,
    ],
    [
      'a table is not in it',
      'login=$1; shift; "$real" "$login" --ignore-table=s51234__small.u "$@"',
      /^STEP_FAILED .*it lacks the table u/,
    ],
    [
      'a table is filled that it does not create',
      `"$real" "$@" | sed '/^CREATE TABLE .t/s/t/other/'`,
      /^STEP_FAILED .*the dump fills t without making it/,
    ],
  ])('where %s', async (_, body, why) => {
    await asTenant(SMALL);
    double('mariadb-dump', body);
    expect(await failureOf(ARCHIVE)).toMatch(why);
    expect(await ownDatabases()).toEqual(['s51234__small']);
  });

  test('where the database changes meanwhile', async () => {
    await asTenant(SMALL);
    double(
      'mariadb-dump',
      `"$real" "$@"; mariadb --no-defaults -S '${world.tools.socket}' -e "INSERT INTO s51234__small.t VALUES (4)"`,
    );
    expect(await failureOf(ARCHIVE)).toMatch(/^STILL_CHANGING .*had 3 rows, and has 4/);
  });

  test('where it is no longer wanted: everything ends at once', async () => {
    await asTenant(SMALL);
    const at = join(world.dir, 'stalled');
    double('mariadb-dump', `echo $$ > '${at}'; exec sleep 1000`);
    const failure = failureOf(ARCHIVE);
    const pid = await eventually('the dump', async () => readPid(at));
    isWanted = false;
    expect(await failure).toMatch(/^STEP_STALE .*no longer wanted/);
    expect(isAlive(pid)).toBe(false);
    isWanted = true;
  });

  test('where the worker is told to stop: everything ends at once', async () => {
    await asTenant(SMALL);
    const at = join(world.dir, 'stalled too');
    double('mariadb-dump', `echo $$ > '${at}'; exec sleep 1000`);
    const own = openArchiveWriter(realm, terms);
    const failure = own.do(ARCHIVE).catch((error: unknown) => codeOf(error));
    const pid = await eventually('the dump', async () => readPid(at));
    own.letGo();
    expect(await failure).toBe('BACKEND_UNAVAILABLE');
    await own.close();
    expect(isAlive(pid)).toBe(false);
  });

  test('where the worker is told to stop while a server accepts no login: at once, and no connection is opened later', async () => {
    const server = runningPid(world.tools) as number;
    const ended = new ChamberlainError('BACKEND_UNAVAILABLE', 'the worker ends');
    const ending = new AbortController();
    const [place] = realm.places.filter(({ name }) => name === 'toolsdb');
    const own = openArchiveWriter(realm, terms);
    process.kill(server, 'SIGSTOP');
    try {
      const begin = performance.now();
      const used = usePatiently(place!, realm.login, ending.signal, () => Promise.resolve());
      const done = own.do(ARCHIVE);
      ending.abort(ended);
      own.letGo();
      await expect(used).rejects.toBe(ended);
      await expect(done).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
      await own.close();
      // a connection that does not come is given up after 3 s
      expect(performance.now() - begin).toBeLessThan(2900);
    } finally {
      process.kill(server, 'SIGCONT');
    }
    await eventually('the late connections to be closed', async () => {
      const rows = await admin.query<unknown[]>(
        'SELECT 1 FROM information_schema.processlist WHERE user = ?',
        [realm.login.user],
      );
      return rows.length === 0;
    });
  });

  test('where a load fails, and then the account cannot be locked: the failure of the load is reported', async () => {
    const [place] = realm.places.filter(({ name }) => name === 'toolsdb');
    const at = { place: place!, login: realm.login, user: 's777' };
    const failure = new Error('the load fails');
    const load = async () => {
      await admin.query('DROP USER s777');
      throw failure;
    };
    const lent = withTenant(at, terms, load, new AbortController().signal);
    await expect(lent).rejects.toBe(failure);
  });

  test('where a view refers to something that is gone', async () => {
    await asTenant([
      ...SMALL,
      'CREATE TABLE s51234__small.x (a INT)',
      'CREATE VIEW s51234__small.w AS SELECT a FROM s51234__small.x',
    ]);
    await admin.query('DROP TABLE s51234__small.x');
    expect(await failureOf(ARCHIVE)).toMatch(
      /^STEP_FAILED .*the view s51234__small\.w on toolsdb refers to something that is gone.*drop the view/,
    );
    await admin.query('DROP VIEW s51234__small.w');
  });

  test.each([
    ['PROCEDURE', 'p() BEGIN\n/*\nDELIMITER ;\n; GRANT ALL ON *.* TO s51234;\n*/\nSELECT 1; END'],
    ['FUNCTION', 'p(a INT, /*\ndelimiter //\n*/ b INT) RETURNS INT RETURN 1'],
    ['TRIGGER', 'p BEFORE INSERT ON t FOR EACH ROW BEGIN\n/*\nDelimiter\t;\n*/\nEND'],
    ['EVENT', 'p ON SCHEDULE EVERY 1 DAY DO BEGIN\n/*\nDELIMITER ;\n*/\nEND'],
  ])('where a line of a %s would mislead the client that loads it', async (kind, made) => {
    await asTenant([...SMALL, 'USE s51234__small', `CREATE ${kind} ${made}`]);
    expect(await failureOf(ARCHIVE)).toMatch(/^STEP_FAILED .* p in .*begins with DELIMITER/);
    await admin.query(`DROP ${kind} s51234__small.p`);
  });

  test('where the role has too few rights: hidden databases are not taken for absent', async () => {
    await asTenant(SMALL);
    const restoreRights = readFileSync(
      new URL('../../../deploy/mariadb/toolsdb.sql', import.meta.url),
      'utf8',
    );
    for (const [rights, said] of [
      ['SELECT ON `s%\\_\\_%`.*', /^STEP_FAILED .*this account lacks SELECT/],
      ['TRIGGER, EVENT ON `s%\\_\\_%`.*', /^STEP_FAILED .*this account lacks TRIGGER, EVENT/],
      ['SHOW DATABASES ON *.*', /^STEP_FAILED .*does not have the right to see/],
    ] as const) {
      await admin.query(`REVOKE ${rights} FROM chamberlain_databases`);
      try {
        expect(await failureOf(ARCHIVE)).toMatch(said);
      } finally {
        await administer(world.tools.socket, restoreRights);
      }
    }
  });
});

describe('a run that is interrupted', () => {
  const MANY = ['one', 'two', 'three'].flatMap((name) => [
    `CREATE DATABASE s51234__${name}`,
    `CREATE TABLE s51234__${name}.t AS SELECT seq AS a FROM s51234__${name}.seq_1_to_10`,
  ]);

  test('goes on while our PostgreSQL is away for a moment, but starts nothing, and drops nothing', async () => {
    await asTenant(MANY);
    const at = join(world.dir, 'waiting');
    double('mariadb-dump', `until [ -e '${at}' ]; do sleep 0.1; done; exec "$real" "$@"`);
    const done = failureOf(ARCHIVE);
    await eventually('the dump', async () => existsSync(join(realm.folder, `.${ACCOUNT}.1.part`)));
    isSilent = true;
    await eventually('a question', async () => silentAsked > 0);
    isSilent = false;
    writeFileSync(at, '');
    expect(await done).toBe('done');
    isSilent = true;
    expect(await failureOf(ARCHIVE)).toMatch(/^BACKEND_UNAVAILABLE/);
    expect(await failureOf(drop('s51234__one'))).toMatch(/^BACKEND_UNAVAILABLE/);
    expect(await ownDatabases()).toContain('s51234__one');
  });

  test('continues where it was after its worker was killed; its programs end with it', async () => {
    await asTenant(MANY);
    const at = join(world.dir, 'killed');
    double(
      'mariadb-dump',
      `case "$*" in *__three) "$real" "$@";; *__two) echo $$ > '${at}'; exec sleep 1000;; *) "$real" "$@";; esac`,
    );
    const worker = spawn(process.execPath, [WRITER], { env: givenArchive(), stdio: 'ignore' });
    const pid = await eventually('the dump', async () => readPid(at));
    worker.kill('SIGKILL');
    await eventually('the end of the dump', async () => !isAlive(pid));
    const part = join(realm.folder, `.${ACCOUNT}.1.part`);
    const kept = statSync(join(part, 'toolsdb.1.sql.zst')).ino;
    process.env['PATH'] = PATH;
    await writer.do(ARCHIVE);
    expect(dumped()).toEqual(['dumping s51234__two']);
    expect(statSync(join(realm.folder, `${ACCOUNT}.1`, 'toolsdb.1.sql.zst')).ino).toBe(kept);
    expect(readManifest().databases).toHaveLength(3);
    expect(readdirSync(realm.folder)).toEqual([`${ACCOUNT}.1`]);
  });

  test('continues where it was after the server has died; the server is away, and nothing is refused', async () => {
    await asTenant([
      ...MANY,
      'CREATE TABLE s51234__two.large AS SELECT seq AS a, REPEAT(MD5(seq), 6) AS b FROM s51234__two.seq_1_to_20000',
    ]);
    const server = runningPid(world.tools) as number;
    double(
      'mariadb-dump',
      `set -o pipefail; case "$*" in *__two) "$real" "$@" | { head -c 300000; kill -9 ${server}; cat; };; *) "$real" "$@";; esac`,
      'bash',
    );
    expect(await failureOf(ARCHIVE)).toMatch(/^BACKEND_UNAVAILABLE .*20(?:13|06)/);
    expect(await failureOf(ARCHIVE)).toMatch(/^BACKEND_UNAVAILABLE/);
    await stopServer(world.tools);
    await startServer(world.tools);
    admin = await connect('elder', 'elder');
    process.env['PATH'] = PATH;
    told.length = 0;
    await writer.do(ARCHIVE);
    expect(dumped()).toEqual(['dumping s51234__two']);
    expect(rowsOf(readManifest(), 's51234__two')).toEqual({ large: 20_000, t: 10 });
  });

  test('dumps again what has changed since, and drops what is gone from the archive', async () => {
    await asTenant(MANY);
    failRecord = true;
    double('mariadb-dump', `case "$*" in *__two) exit 1;; *) "$real" "$@";; esac`);
    expect(await failureOf(ARCHIVE)).toContain('mariadb-dump: exit code 1');
    process.env['PATH'] = PATH;
    failRecord = false;
    told.length = 0;
    await admin.query('DROP DATABASE s51234__three');
    await admin.query('INSERT INTO s51234__one.t VALUES (11)');
    await writer.do(ARCHIVE);
    expect(dumped()).toEqual(['dumping s51234__one', 'dumping s51234__two']);
    expect(
      readManifest()
        .databases.map(({ database }) => database)
        .toSorted(),
    ).toEqual(['s51234__one', 's51234__two']);
    // nothing stays of what an earlier archival has left
    mkdirSync(join(realm.folder, `.${ACCOUNT}.1.part`));
    await writer.do({ ...ARCHIVE, archival: 2 });
    expect(readdirSync(realm.folder)).toEqual([`${ACCOUNT}.1`, `${ACCOUNT}.2`]);
  });
});

test('a full disk is reported as such, and the data stays', async () => {
  await asTenant([
    'CREATE DATABASE s51234__large',
    'CREATE TABLE s51234__large.t AS SELECT MD5(RAND(seq)) AS a FROM s51234__large.seq_1_to_40000',
  ]);
  // in a mount namespace of its own
  const shell = 'mount -t tmpfs -o size=200k,mode=700 none "$1" && exec "$2" "$3"';
  const args = ['--mount', 'sh', '-euc', shell, 'sh', realm.folder, process.execPath, WRITER];
  const said = await new Promise<string>((resolve, reject) =>
    execFile('unshare', args, { env: givenArchive() }, (error, out, err) =>
      error === null ? resolve(out) : reject(new Error(err)),
    ),
  );
  expect(said).toMatch(/^STEP_FAILED .*No space left on device/);
  expect(await admin.query('SELECT COUNT(*) AS n FROM s51234__large.t')).toEqual([{ n: 40_000n }]);
});

describe('the reader', () => {
  test('sees which databases and archives exist, and nothing that is in a database', async () => {
    const reader = openDatabaseArchiveReader(realm.places, login('databases-reader'), realm.folder);
    await asTenant([...SMALL, "CREATE DATABASE `s51234__ü'x_p`"]);
    await admin.query('CREATE DATABASE IF NOT EXISTS s512345__a');
    for (const through of [reader, reader.once()]) {
      expect(await through.lookForDatabases('toolsdb', [USER, 's1'])).toEqual(
        new Map([[USER, ['s51234__small', "s51234__ü'x_p"]]]),
      );
    }
    expect(await reader.lookAtArchive(ACCOUNT, 1)).toBeUndefined();
    await writer.do(ARCHIVE);
    const databases = ['s51234__small', "s51234__ü'x_p"];
    const seen = {
      manifest: recorded[0]?.manifestSha256,
      servers: new Map([['toolsdb', { databases, isReturned: false }]]),
    };
    expect(await reader.lookAtArchive(ACCOUNT, 1)).toEqual(seen);
    await writer.do(restore());
    seen.servers.get('toolsdb')!.isReturned = true;
    expect(await reader.lookAtArchive(ACCOUNT, 1)).toEqual(seen);
    await admin.query('DROP DATABASE s512345__a');

    const raw = await connect(login('databases-reader').user, login('databases-reader').password);
    for (const sql of [
      'SELECT * FROM s51234__small.t',
      'DROP DATABASE s51234__small',
      'SHOW CREATE TABLE s51234__small.t',
    ]) {
      await expect(raw.query(sql)).rejects.toThrow(/denied/);
    }
    expect(await raw.query('SHOW TABLES FROM s51234__small')).toEqual([]);
    expect(
      await raw.query(
        "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = 's51234__small'",
      ),
    ).toEqual([]);
    await raw.end();
    await reader.close();
  });

  test('reports what it cannot read as unreadable, never as empty', async () => {
    const nowhere = openDatabaseArchiveReader(
      realm.places,
      login('databases-reader'),
      `${realm.folder}/none`,
    );
    await expect(nowhere.lookAtArchive(ACCOUNT, 1)).rejects.toMatchObject({
      code: 'BACKEND_UNREADABLE',
    });
    await nowhere.close();
    // an unmounted mount point usually belongs to root
    const folder = realm.folder;
    const others: [() => void, () => void][] = [
      [() => chmodSync(folder, 0o755), () => chmodSync(folder, 0o700)],
      [() => chownSync(folder, 1234, 1234), () => chownSync(folder, process.getuid!(), 0)],
      [() => replaceByLink(folder), () => replaceByFolder(folder)],
    ];
    for (const [spoil, mend] of others) {
      spoil();
      const there = openDatabaseArchiveReader(realm.places, login('databases-reader'), folder);
      await expect(there.lookAtArchive(ACCOUNT, 1)).rejects.toMatchObject({
        code: 'BACKEND_UNREADABLE',
      });
      expect(await failureOf(ARCHIVE)).toMatch(/^BACKEND_UNAVAILABLE .* cannot be used: /);
      await there.close();
      mend();
    }
    mkdirSync(join(realm.folder, `${ACCOUNT}.1`));
    const reader = openDatabaseArchiveReader(realm.places, login('databases-reader'), realm.folder);
    expect(await reader.lookAtArchive(ACCOUNT, 1)).toBe('emptied');
    writeFileSync(manifestPath(), '{"version":2}');
    await expect(reader.lookAtArchive(ACCOUNT, 1)).rejects.toMatchObject({
      code: 'BACKEND_UNREADABLE',
    });
    await admin.query('REVOKE SHOW DATABASES ON *.* FROM chamberlain_databases_reader');
    await expect(reader.lookForDatabases('toolsdb', [USER])).rejects.toMatchObject({
      code: 'BACKEND_UNREADABLE',
    });
    await admin.query('GRANT SHOW DATABASES ON *.* TO chamberlain_databases_reader');
    await reader.close();
  });
});

function replaceByLink(folder: string): void {
  renameSync(folder, `${folder}.aside`);
  symlinkSync(`${folder}.aside`, folder);
}

function replaceByFolder(folder: string): void {
  rmSync(folder);
  renameSync(`${folder}.aside`, folder);
}

const SMALL = [
  'CREATE DATABASE s51234__small',
  'CREATE TABLE s51234__small.t (a INT)',
  'INSERT INTO s51234__small.t VALUES (1), (2), (3)',
  'CREATE TABLE s51234__small.u (a INT)',
  'CREATE VIEW s51234__small.v AS SELECT * FROM s51234__small.t',
];

function drop(database: string): Extract<Action, { verb: 'databases.drop' }> {
  return { verb: 'databases.drop', ...OF, server: 'toolsdb', database, manifest: manifestOf() };
}

function restore(): Extract<Action, { verb: 'databases.restore' }> {
  return { verb: 'databases.restore', ...OF, server: 'toolsdb', manifest: manifestOf() };
}

function manifestOf(): string {
  return recorded.at(-1)?.manifestSha256 ?? '';
}

function manifestPath(name = `${ACCOUNT}.1`): string {
  return join(realm.folder, name, 'manifest.json');
}

function readManifest(name?: string): DatabasesManifest {
  return JSON.parse(readFileSync(manifestPath(name), 'utf8')) as DatabasesManifest;
}

function rowsOf({ databases }: DatabasesManifest, database: string): Record<string, number> {
  const piece = databases.find((each) => each.database === database);
  return Object.fromEntries(piece?.holds.tables.map(({ name, rows }) => [name, rows]) ?? []);
}

/** What was dumped; long dumps are reported more than once. */
function dumped(): string[] {
  return [...new Set(told.filter((act) => act.startsWith('dumping')))];
}

function inode(): number {
  return statSync(manifestPath()).ino;
}

async function failureOf(action: Parameters<typeof writer.do>[0]): Promise<string> {
  return await writer.do(action).then(
    () => 'done',
    (error: unknown) => `${codeOf(error)} ${describeError(error)}`,
  );
}

/** A program in front of the real one, which it knows as $real. */
function double(name: string, body: string, shell = 'sh'): void {
  const path = join(doubles, name);
  writeFileSync(path, `#!/usr/bin/env ${shell}\nreal=/usr/bin/${name}\n${body}\n`);
  chmodSync(path, 0o755);
  process.env['PATH'] = `${doubles}:${PATH}`;
}

/** The environment that gives archive-writer.ts what it has to do. */
function givenArchive(): NodeJS.ProcessEnv {
  return { ...process.env, ARCHIVE_WRITER: JSON.stringify({ realm, action: ARCHIVE }) };
}

function readPid(path: string): number | undefined {
  if (!existsSync(path)) return undefined;
  const pid = Number(readFileSync(path, 'utf8'));
  return pid > 0 ? pid : undefined;
}

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

function login(account: string) {
  const user = `chamberlain_${account.replaceAll('-', '_')}`;
  return { user, password: readSecret(world.config, 'mariadb', account) };
}

async function connect(user: string, password: string): Promise<Connection> {
  const connection = await createConnection({ socketPath: world.tools.socket, user, password });
  connection.on('error', () => undefined);
  return connection;
}

async function makeTenant(): Promise<void> {
  await admin.query(
    `CREATE OR REPLACE USER ${USER} IDENTIFIED BY PASSWORD '${verifierOf(PASSWORD)}'`,
  );
  await admin.query(`GRANT ALL ON \`${USER}\\_\\_%\`.* TO ${USER}`);
}

async function asTenant(statements: readonly string[]): Promise<void> {
  const tenant = await connect(USER, PASSWORD);
  try {
    for (const sql of statements) {
      await tenant.query(sql).catch((cause: unknown) => {
        throw new Error(sql, { cause });
      });
    }
  } finally {
    await tenant.end();
  }
}

async function isLocked(): Promise<boolean> {
  const rows = await admin.query<{ Priv: string }[]>(
    'SELECT CONCAT(Priv) AS Priv FROM mysql.global_priv WHERE User = ?',
    [USER],
  );
  return (
    (JSON.parse(rows[0]?.Priv ?? '{}') as { account_locked?: boolean }).account_locked === true
  );
}

async function ownDatabases(): Promise<string[]> {
  const rows = await admin.query<{ name: string }[]>(
    'SELECT SCHEMA_NAME AS name FROM information_schema.SCHEMATA',
  );
  return rows
    .map(({ name }) => name)
    .filter((name) => name.startsWith(`${USER}__`))
    .toSorted();
}

/** Everything in the tenant's databases: how each thing was created, and every row. */
async function snapshot(): Promise<Map<string, unknown>> {
  const all = new Map<string, unknown>();
  const id = (name: string) => admin.escapeId(name);
  const rows = (sql: string, values: unknown[] = []) =>
    admin.query<Record<string, unknown>[]>(sql, values);
  for (const database of await ownDatabases()) {
    const keep = async (what: string, sql: string) => {
      const [row = {}] = await rows(sql);
      const { Created: _, ...kept } = row;
      all.set(`${database} ${what}`, kept);
    };
    await keep('', `SHOW CREATE DATABASE ${id(database)}`);
    const tables = await rows(
      'SELECT TABLE_NAME AS name, TABLE_TYPE AS type FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?',
      [database],
    );
    for (const { name, type } of tables as { name: string; type: string }[]) {
      const at = `${id(database)}.${id(name)}`;
      await keep(name, `SHOW CREATE TABLE ${at}`);
      const history = type === 'SYSTEM VERSIONED' ? ', ROW_START, ROW_END' : '';
      const from = history === '' ? at : `${at} FOR SYSTEM_TIME ALL`;
      const found = (await rows(`SELECT *${history} FROM ${from}`)).map((row) =>
        JSON.stringify(row, plain),
      );
      all.set(`${database} ${name} rows`, found.toSorted());
      if (type === 'BASE TABLE') await keep(`${name} sum`, `CHECKSUM TABLE ${at} EXTENDED`);
    }
    const routines = await rows(
      'SELECT ROUTINE_TYPE AS type, ROUTINE_NAME AS name FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = ?',
      [database],
    );
    for (const { name, type } of routines as { name: string; type: string }[]) {
      await keep(`${type} ${name}`, `SHOW CREATE ${type} ${id(database)}.${id(name)}`);
    }
    const triggers = await rows(
      'SELECT TRIGGER_NAME AS name FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ?',
      [database],
    );
    for (const { name } of triggers as { name: string }[]) {
      await keep(`trigger ${name}`, `SHOW CREATE TRIGGER ${id(database)}.${id(name)}`);
    }
    const events = await rows(
      'SELECT EVENT_NAME AS name FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ?',
      [database],
    );
    for (const { name } of events as { name: string }[]) {
      await keep(`event ${name}`, `SHOW CREATE EVENT ${id(database)}.${id(name)}`);
    }
  }
  return all;
}

function plain(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
