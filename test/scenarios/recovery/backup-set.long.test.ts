/**
 * A set of backups: made while requests come in, verified, damaged, and restored, as docs/backups.md and
 * docs/recovery.md say.
 */
import { execFile, execFileSync, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { postgresServer, type PostgresServer } from '../../../dev/servers/postgres.ts';
import type { Manifest } from '../../../src/backup/manifest.ts';
import { endOf, runCli, startCli, type Ended } from '../../cli/run-cli.ts';
import { EXIT } from '../../../src/cli/exit.ts';
import { lookAtLastBackup } from '../../../src/doctor/backups.ts';
import type { GroupedLine, Line } from '../../../src/doctor/line.ts';
import { openPool, withClient } from '../../../src/database/connection.ts';
import { newKey } from '../../login-host/agent-world.ts';
import { asSuperuser, startServer, stopServer } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { query, readStillDirectory, settled, type Entry } from '../outside.ts';
import { admit, openRunning, type Running } from '../running.ts';
import { blockOf } from '../../page-blocks.ts';
import { makeTemporaryFolder } from '../../shared-servers.ts';

const PROJECT = join(import.meta.dirname, '../../..');
const run = promisify(execFile);

let keys: string;
let running: Running;
/** where sets are made */
let sets: string;
/** the answers of --verify for its servers */
let temporary: string;
/** made under load */
let first: string;
/** made when everything was quiet */
let last: string;

const cli = (...args: string[]): Promise<Ended> =>
  runCli(args, { config: running.world.configFile, env: { TMPDIR: temporary } });
const key = (name = 'alice'): string => join(keys, name);
const verify = (set: string, ...more: string[]): Promise<Ended> =>
  cli('backup', '--verify', set, '--key', key(), ...more);
const decrypt = (set: string, piece: string): Buffer =>
  execFileSync('age', ['-d', '-i', key(), join(set, `${piece}.age`)], { maxBuffer: 1 << 28 });
const manifestOf = (set: string): Manifest =>
  JSON.parse(decrypt(set, 'manifest.json').toString()) as Manifest;

beforeAll(async () => {
  keys = makeTemporaryFolder();
  const recipients = ['alice', 'bob', 'other'].map((name) => {
    execFileSync('age-keygen', ['-o', key(name)], { stdio: 'ignore' });
    return execFileSync('age-keygen', ['-y', key(name)], { encoding: 'utf8' }).trim();
  });
  running = await openRunning('backup-set', {
    adjust: (config) => ({ ...config, backups: { recipients: recipients.slice(0, 2) } }),
  });
  const { world, portal } = running;
  [sets, temporary] = ['sets', 'temporary'].map((name) => join(world.dir, name)) as [
    string,
    string,
  ];
  mkdirSync(sets);
  mkdirSync(temporary, { mode: 0o711 });
  await admit(portal, 'alice');
  await portal.get({ kind: 'key.add', requestedBy: 'alice', person: 'alice', key: newKey() });
  await portal.get({
    kind: 'tool.create',
    requestedBy: 'alice',
    name: 'botty',
    title: 'Bots, größer',
  });
  await settled(world);
  await recordArchives();
});

/** Archives of botty, who was restored: one exists, one is missing, and one is on another machine. */
async function recordArchives(): Promise<void> {
  const { world } = running;
  const there = join(world.dir, 'archived/tools.botty.1');
  mkdirSync(there, { recursive: true });
  writeFileSync(join(there, 'manifest.json'), 'the manifest');
  await query(
    world,
    `INSERT INTO archivals (subject, archival, left_at, keep_until, back_at)
     SELECT uid, n, now(), now() + interval '1 year', now() FROM tools, generate_series(1, 2) AS n WHERE name = 'botty'`,
  );
  for (const [archival, role, path] of [
    [1, 'homes', there],
    [1, 'databases', join(world.dir, 'archived/lost')],
    [2, 'homes', '/nowhere/tools.botty.2'],
  ]) {
    await query(
      world,
      `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
       SELECT uid, $1, $2, $3, $4, 12 FROM tools WHERE name = 'botty'`,
      [archival, role, createHash('sha256').update('the manifest').digest('hex'), path],
    );
  }
}

afterAll(async () => {
  await running?.close();
  rmSync(keys, { recursive: true, force: true });
});

test('made while people are added, it is of one moment, and prints nothing', async () => {
  const { world, portal } = running;
  const countPeople = async () => (await query(world, 'SELECT FROM people')).length;
  const before = await countPeople();
  let isMade = false;
  const coming = (async () => {
    for (let n = 0; !isMade; n += 1) await admit(portal, `busy${n}`);
  })();
  const ended = await cli('backup', sets);
  isMade = true;
  await coming;
  expect(ended).toEqual({ exit: 0, out: '', err: '' });
  const [name = '', ...others] = readdirSync(sets);
  expect(others).toEqual([]);
  expect(name).toMatch(/^chamberlain-tools-\d{8}T\d{6}Z$/u);
  first = join(sets, name);
  const { tables } = manifestOf(first);
  expect(tables['people']).toBeGreaterThanOrEqual(before);
  expect(tables['people']).toBeLessThanOrEqual(await countPeople());
});

test('it contains neither a secret nor a name in plain text', () => {
  const { secrets } = running.world.config;
  const planted = [
    ...readdirSync(secrets).map((name) => readFileSync(join(secrets, name), 'utf8').trim()),
    ...['alice@example.org', 'PGDMP', 'chamberlainSeal', 'BEGIN PRIVATE KEY'],
  ];
  expect(planted.length).toBeGreaterThan(25);
  for (const file of readdirSync(first)) {
    const bytes = readFileSync(join(first, file));
    expect(bytes.subarray(0, 21).toString()).toBe('age-encryption.org/v1');
    for (const text of planted) expect([file, bytes.includes(text)]).toEqual([file, false]);
  }
  // and it contains all of them
  const tar = decrypt(first, 'secrets.tar');
  for (const text of planted.slice(0, -4)) expect(tar.includes(text)).toBe(true);
});

/** Makes pg_dump wait, and reports when it does. */
async function withWaitingDump<T>(act: (start: () => Promise<Waiting>) => Promise<T>): Promise<T> {
  const { world } = running;
  const known: number[] = [];
  const start = async () => {
    const child = startCli(['backup', sets, '--json'], { config: world.configFile });
    const ended = endOf(child);
    const pid = await eventually('pg_dump to wait', async () => {
      const [row] = await query<{ pid: number }>(
        world,
        `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pg_dump'
           AND wait_event_type = 'Lock' AND pid <> ALL ($1)`,
        [known],
      );
      return row?.pid;
    });
    known.push(pid);
    return { child, ended };
  };
  return asSuperuser(world.postgres, world.config.postgres.database, async (client) => {
    await client.query('BEGIN; LOCK TABLE migrations IN ACCESS EXCLUSIVE MODE');
    try {
      return await act(start);
    } finally {
      await client.query('ROLLBACK');
    }
  });
}

interface Waiting {
  child: ChildProcess;
  ended: Promise<Ended>;
}

/** What other users, or root, can see of the program and its children. */
function lookAt(pid: number): string {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  const own = ['cmdline', 'environ'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'utf8'));
  return [
    ...own,
    ...children
      .split(' ')
      .filter(Boolean)
      .map((each) => lookAt(Number(each))),
  ].join();
}

test('if the command is interrupted, it leaves no set', async () => {
  const { config } = running.world;
  const finished = readdirSync(sets);
  await withWaitingDump(async (start) => {
    const killed = await start();
    const seen = lookAt(killed.child.pid as number);
    for (const program of ['pg_dump', 'age']) expect(seen).toContain(program);
    const password = readFileSync(join(config.secrets, 'postgres-owner'), 'utf8');
    expect(seen).not.toContain(password);
    killed.child.kill('SIGKILL');
    await killed.ended;
    const [part = ''] = readdirSync(sets).filter((name) => !finished.includes(name));
    expect(part).toMatch(/^\.chamberlain-tools-.*\.part$/u);
    expect((await verify(join(sets, part))).err).toMatch(
      /^BACKUP_DAMAGED: .*\.part was never completed\. Use another set/u,
    );

    const terminated = await start();
    // the next run has removed it
    expect(readdirSync(sets)).not.toContain(part);
    terminated.child.kill('SIGTERM');
    expect(await terminated.ended).toEqual({
      ...{ exit: 1, out: '' },
      err: 'STEP_FAILED: interrupted by SIGTERM; nothing was left behind.\n',
    });
    expect(readdirSync(sets)).toEqual(finished);
  });
});

test('the directory is read after PostgreSQL, and contains more', async () => {
  const { world, portal } = running;
  const finished = readdirSync(sets);
  const { ended } = await withWaitingDump(async (start) => {
    const waiting = await start();
    await admit(portal, 'later');
    await settled(world);
    return waiting;
  });
  const { exit, out, err } = await ended;
  expect({ exit, err }).toEqual({ exit: 0, err: '' });
  const [name = ''] = readdirSync(sets).filter((each) => !finished.includes(each));
  last = join(sets, name);
  const { version: _version, pieces: _pieces, ...told } = manifestOf(last);
  expect(JSON.parse(out)).toEqual({ set: last, bytes: expect.any(Number), ...told });
  expect(decrypt(last, 'directory.ldif').toString()).toContain('\ndn: uid=later,ou=people,');
  const [now] = await query<{ count: number }>(world, 'SELECT count(*)::int AS count FROM people');
  expect(manifestOf(last).tables['people']).toBe((now?.count ?? 0) - 1);
});

test('it can be restored into private servers, which leave nothing behind', async () => {
  const lost = join(running.world.dir, 'archived/lost');
  // with the key of either
  const [, ...words] = blockOf('backups:verify').trim().split(' ');
  const command = words.map((word) =>
    word.startsWith('chamberlain-tools-') ? last : word === 'backup-alice.txt' ? key('bob') : word,
  );
  const { exit, out, err } = await cli(...command);
  expect({ exit, err }).toEqual({ exit: 3, err: '' });
  const { tables, entries, secrets } = manifestOf(last);
  const rows = Object.values(tables).reduce((sum, count) => sum + count, 0);
  expect(out.replace(/to \d{4}-\S+Z\n/u, 'to T\n')).toBe(
    [
      `${basename(last)} can be restored, to T`,
      `PostgreSQL  ${rows} rows of ${Object.keys(tables).length} tables`,
      `directory   ${entries} entries`,
      `secrets     ${secrets.length} files`,
      'archives    1 here, 1 missing, 1 in folders that are not on this machine',
      `  tools.botty, databases: ${lost}`,
      '',
    ].join('\n'),
  );
  expect(rows).toBeGreaterThan(100);
  expect(readdirSync(temporary)).toEqual([]);
});

test('doctor reports when the last set is old, when none was ever made, and what is not installed', async () => {
  const { world } = running;
  const [recorded] = await query<{ made_at: Date }>(world, 'SELECT made_at FROM last_backup');
  expect(recorded?.made_at.toISOString()).toBe(manifestOf(last).at);
  const pool = openPool(world.config, 'admin', { max: 1, durable: false });
  const look = async (config = world.config): Promise<Line[]> =>
    withClient(pool, (client) => lookAtLastBackup(client, config, new Date()));
  try {
    expect(await look()).toEqual([
      { state: 'ok', what: expect.stringMatching(/^the last set of backups was made at /u) },
    ]);
    await query(world, `UPDATE last_backup SET made_at = now() - interval '37 hours'`);
    expect(await look()).toEqual([
      {
        state: 'fix',
        what: expect.stringMatching(/^the last set of backups was made at \d{4}-/u),
        todo: expect.stringMatching(/^Run `chamberlain backup DIR` yourself, /u),
      },
    ]);
    const env = { PATH: '/nowhere', TMPDIR: temporary };
    // on a busy machine a check may take longer than its time, and without PostgreSQL some are not made
    const told = await eventually('doctor to be in time', async () => {
      const { out } = await runCli(['doctor', '--json'], { config: world.configFile, env });
      const { lines } = JSON.parse(out) as { lines: GroupedLine[] };
      const ofBackups = lines.filter(({ group }) => group === 'backups');
      const isLate = lines.some(({ what }) => /no answer within|cannot be reached/u.test(what));
      return isLate ? undefined : ofBackups;
    });
    expect(told).toEqual([
      expect.objectContaining({ state: 'fix', what: expect.stringMatching(/^the last set /u) }),
      {
        ...{ group: 'backups', state: 'fix' },
        what: 'sets of backups cannot be made: this machine does not have age',
        todo: 'Run `apt-get install age`.',
      },
    ]);
    for (const args of [[sets], ['--verify', last, '--key', key()]]) {
      expect(await runCli(['backup', ...args], { config: world.configFile, env })).toEqual({
        ...{ exit: 1, out: '' },
        err: 'STEP_FAILED: nothing was done, because this machine does not have age. Run `apt-get install age`.\n',
      });
    }

    await query(world, 'DELETE FROM last_backup');
    expect(await look()).toEqual([
      { state: 'ok', what: 'no set of backups yet, since the realm is new' },
    ]);
    await query(world, `UPDATE migrations SET run_on = run_on - interval '37 hours'`);
    const { backups: _, ...without } = world.config;
    expect(await look(without)).toEqual([
      {
        state: 'fix',
        what: 'no set of backups was ever made',
        todo: expect.stringContaining('`backups.recipients`'),
      },
    ]);
  } finally {
    await pool.end();
  }
}, 60_000);

/** A copy of the first set, changed. */
function changed(name: string, change: (set: string) => void): string {
  const set = join(sets, name);
  rmSync(set, { recursive: true, force: true });
  cpSync(first, set, { recursive: true });
  change(set);
  return set;
}

const flip = (file: string, at: (length: number) => number) => (set: string) => {
  const bytes = readFileSync(join(set, file));
  const place = at(bytes.length);
  bytes[place] = (bytes[place] ?? 0) ^ 1;
  writeFileSync(join(set, file), bytes);
};

test.each([
  ['a byte of the dump', 'database.dump', flip('database.dump.age', (n) => Math.floor(n / 2))],
  ['the last byte of the secrets', 'secrets.tar', flip('secrets.tar.age', (n) => n - 1)],
  ['a byte of the manifest', 'manifest.json', flip('manifest.json.age', (n) => n - 5)],
  [
    'the end of the directory',
    'directory.ldif',
    (set: string) => {
      const file = join(set, 'directory.ldif.age');
      truncateSync(file, readFileSync(file).length - 100);
    },
  ],
  ['a file', 'config.yaml', (set: string) => rmSync(join(set, 'config.yaml.age'))],
  [
    'a file for that of another set',
    'database.dump',
    (set: string) => cpSync(join(last, 'database.dump.age'), join(set, 'database.dump.age')),
  ],
])(
  'a set that has lost %s is refused, and the part is named',
  async (_, piece, change) => {
    const set = changed('damaged', change);
    const { exit, out, err } = await verify(set);
    expect({ exit, out }).toEqual({ exit: 1, out: '' });
    const [line = '', ...more] = err.split('\n');
    expect(more).toEqual(['']);
    expect(line).toMatch(
      /^BACKUP_DAMAGED: .*\. Use another set, and find out what happened to this one\.$/u,
    );
    expect(line).toContain(join(set, `${piece}.age`));
    expect(readdirSync(temporary)).toEqual([]);
  },
  120_000,
);

test('a key that the set was not made for, and a configuration without one, are named', async () => {
  const { err, exit } = await cli('backup', '--verify', first, '--key', key('other'));
  expect({ exit, err }).toEqual({
    exit: 2,
    err: `USAGE: ${first} is not encrypted to the key in ${key('other')}. Give the private half of a key that was configured when the set was made.\n`,
  });
  const without = join(running.world.dir, 'without.yaml');
  const text = readFileSync(running.world.configFile, 'utf8');
  writeFileSync(without, text.replace(/^backups:\n( .*\n)+/mu, ''));
  expect(await runCli(['backup', sets], { config: without })).toMatchObject({
    exit: 2,
    err: expect.stringMatching(/^CONFIG_INVALID: .* no key .*`backups\.recipients`\.\n$/u),
  });
});

/** Makes a set say something else, as anyone with the public key could: all digests match. */
function forge(
  set: string,
  { piece, text = '', ...other }: { piece?: string; text?: string } & Partial<Manifest>,
): void {
  const recipient = execFileSync('age-keygen', ['-y', key()], { encoding: 'utf8' }).trim();
  const encrypt = (name: string, input: string) =>
    execFileSync('age', ['-r', recipient, '-o', join(set, `${name}.age`)], { input });
  const manifest = { ...manifestOf(set), ...other };
  const sha256 = createHash('sha256').update(text).digest('hex');
  const pieces = manifest.pieces.map((each) => (each.name === piece ? { ...each, sha256 } : each));
  if (piece !== undefined) encrypt(piece, text);
  encrypt('manifest.json', JSON.stringify({ ...manifest, pieces }));
}

test.each([
  [
    'a row',
    ({ tables }: Manifest) => ({ tables: { ...tables, tools: 3 } }),
    /^BACKUP_DAMAGED: restoring PostgreSQL from .*: the table tools had 3 rows, but has 2 after restoring\. Use /u,
  ],
  [
    'a letter of an entry',
    () => ({
      piece: 'directory.ldif',
      text: decrypt(first, 'directory.ldif')
        .toString()
        .replace(/^mail: alice/mu, 'Mail: alice'),
    }),
    /^BACKUP_DAMAGED: restoring the directory from .*: the directory has \d+ entries after restoring, as before, but some differ\. /u,
  ],
])(
  'a set that lacks %s seems complete, and is refused once it is restored',
  async (_, other, refusal) => {
    const set = changed('forged', (at) => forge(at, other(manifestOf(at))));
    const { exit, out, err } = await verify(set);
    expect({ exit, out, err }).toEqual({ exit: 1, out: '', err: expect.stringMatching(refusal) });
    expect(readdirSync(temporary)).toEqual([]);
  },
  120_000,
);

test('no line of a forged set is executed as a command of psql', async () => {
  const trace = join(running.world.dir, 'trace');
  const text = `${decrypt(first, 'roles.sql').toString()}\n\\! touch ${trace}\n`;
  const { exit, err } = await verify(
    changed('forged', (at) => forge(at, { piece: 'roles.sql', text })),
  );
  expect(existsSync(trace)).toBe(false);
  expect({ exit, err }).toEqual({
    exit: 1,
    err: expect.stringMatching(/^BACKUP_DAMAGED: restoring PostgreSQL from /u),
  });
});

test('if this machine is at fault, the set is not', async () => {
  const long = join(temporary, 'l'.repeat(100));
  mkdirSync(long, { mode: 0o711 });
  const closed = join(temporary, 'closed');
  mkdirSync(closed, { mode: 0o700 });
  try {
    for (const TMPDIR of [long, closed, join(temporary, 'none')]) {
      const { exit, out, err } = await runCli(['backup', '--verify', first, '--key', key()], {
        config: running.world.configFile,
        env: { TMPDIR },
      });
      expect({ exit, out }).toEqual({ exit: 1, out: '' });
      expect(err).toMatch(/^STEP_FAILED: .*\. The set was not checked\. Point TMPDIR to /u);
    }
  } finally {
    for (const each of [long, closed]) rmSync(each, { recursive: true });
  }
});

/** Who may do what: everything that a dump does not contain by itself, and everything that names a role. */
async function readRights(server: PostgresServer, database: string): Promise<unknown[]> {
  return asSuperuser(server, database, async (client) => {
    const rights = [];
    for (const sql of [
      `SELECT rolname, rolcanlogin, rolcreaterole, rolconnlimit, rolpassword IS NOT NULL AS "hasPassword"
       FROM pg_authid WHERE rolname ~ '^chamberlain' ORDER BY 1`,
      `SELECT roleid::regrole::text, member::regrole::text, admin_option, inherit_option, set_option
       FROM pg_auth_members WHERE roleid::regrole::text ~ '^chamberlain' ORDER BY 1, 2, 3`,
      `SELECT a.grantee::regrole::text, a.privilege_type FROM pg_database, aclexplode(datacl) AS a
       WHERE datname = current_database() ORDER BY 1, 2`,
      `SELECT relname, relowner::regrole::text, relrowsecurity, a.grantee::regrole::text, a.privilege_type
       FROM pg_class, aclexplode(relacl) AS a WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 4, 5`,
      `SELECT oid::regprocedure::text, a.grantee::regrole::text, a.privilege_type FROM pg_proc, aclexplode(proacl) AS a
       WHERE pronamespace = 'public'::regnamespace OR proname ~ '^(pg_.*advisory|lo_)' ORDER BY 1, 2, 3`,
      'SELECT tablename, policyname, roles::text, qual, with_check FROM pg_policies ORDER BY 1, 2',
    ]) {
      rights.push((await client.query(sql)).rows);
    }
    return rights;
  });
}

test('restored as docs/recovery.md says, on a fresh server, there is no error, and every right exists', async () => {
  const { world } = running;
  const there = join(world.dir, 'restored');
  mkdirSync(there, { mode: 0o755 });
  const fresh = postgresServer(join(world.dir, 'fresh'));
  await startServer(fresh);
  try {
    const restore = async (block: string) => {
      const words = (blockOf('recovery:set') + block)
        .replace(/^set=.*$/mu, `set=${last}`)
        .replace(/^key=.*$/mu, `key=${key()}`)
        .replaceAll('/etc/chamberlain', join(there, 'etc'))
        .replaceAll('/etc/ldap/slapd.d', join(there, 'slapd.d'))
        .replaceAll('/var/lib/ldap', join(there, 'ldap'))
        .replaceAll('/opt/chamberlain', PROJECT)
        .replace(
          '--out "$ldif"',
          `--out "$ldif" --database ${there}/ldap --pid-file ${there}/slapd.pid`,
        );
      const script = `set -e -o pipefail; chamberlain() { node dist/chamberlain.js "$@"; }\n${words}`;
      const { stdout, stderr } = await run('bash', ['-c', script], {
        cwd: PROJECT,
        env: {
          ...process.env,
          ...{ PGHOST: fresh.host, PGPORT: String(fresh.port) },
          CHAMBERLAIN_CONFIG: join(there, 'etc/config.yaml'),
        },
      });
      return stdout + stderr;
    };
    expect(await restore(blockOf('restore:files'))).toBe('');
    const file = join(there, 'etc/config.yaml');
    const text = readFileSync(file, 'utf8');
    expect(text).toBe(readFileSync(world.configFile, 'utf8'));
    const own = text
      .replaceAll(world.postgres.host, fresh.host)
      .replace(world.config.secrets, join(there, 'etc/secrets'));
    writeFileSync(file, own);

    // on a busy machine the command prints its progress
    expect(await restore(blockOf('restore:postgres'))).toMatch(
      /^up to date\n(?:(?:connecting to PostgreSQL at|granting rights:) .*, \d+ s\n)*$/u,
    );
    const { database } = world.config.postgres;
    expect(await readRights(fresh, database)).toEqual(await readRights(world.postgres, database));

    expect(await restore(blockOf('restore:directory'))).toBe('');
    const slapcat = ['-F', join(there, 'slapd.d'), '-n', '1', '-o', 'ldif-wrap=no'];
    const { stdout } = await run('slapcat', slapcat, { maxBuffer: 1 << 26 });
    const restored = parseLdif(stdout);
    for (const [dn, entry] of await readStillDirectory(world)) {
      // the suffix and the accounts are created again
      if (dn === world.config.ldap.base || /(^|,)ou=chamberlain,/u.test(dn)) continue;
      for (const type of ['entryDN', 'hasSubordinates', 'subschemaSubentry']) delete entry[type];
      expect([dn, restored.get(dn)]).toEqual([dn, entry]);
    }
    expect(restored.has(`cn=directory-reader,ou=chamberlain,${world.config.ldap.base}`)).toBe(true);
  } finally {
    await stopServer(fresh);
  }
});

test('the cron lines of docs/backups.md make a set, and remove old ones, in the environment that cron gives', async () => {
  const { world } = running;
  const [folder, file, bin] = ['cron-sets', 'cron-file', 'cron-bin'].map((name) =>
    join(world.dir, name),
  ) as [string, string, string];
  mkdirSync(bin);
  symlinkSync(join(PROJECT, 'deploy/chamberlain'), join(bin, 'chamberlain'));
  const moved = (text: string) =>
    text
      .replaceAll('/var/backups/chamberlain', folder)
      .replaceAll('/etc/cron.d/chamberlain', file)
      // where README has the link
      .replaceAll('/usr/local/bin', bin);
  const CHAMBERLAIN_CONFIG = world.configFile;
  const PATH = `${bin}:${process.env['PATH'] ?? ''}`;
  const env = { ...process.env, PATH, CHAMBERLAIN_CONFIG };
  await run('bash', ['-ec', moved(blockOf('backups:cron'))], { env });
  const [made = '', ...others] = readdirSync(folder);
  expect(others).toEqual([]);
  const aged = join(folder, 'chamberlain-tools-aged');
  renameSync(join(folder, made), aged);
  const old = new Date(Date.now() - 32 * 24 * 3600_000);
  utimesSync(aged, old, old);
  const [path = '', ...lines] = readFileSync(file, 'utf8').trim().split('\n');
  for (const line of lines) {
    const [, command = ''] = /^(?:\S+ ){5}root (.*)$/u.exec(line) ?? [];
    const bare = { PATH: path.replace(/^PATH=/u, ''), CHAMBERLAIN_CONFIG };
    const told = await run('/bin/sh', ['-c', command], { env: bare });
    expect([line, told]).toEqual([line, { stdout: '', stderr: '' }]);
  }
  expect(lines).toHaveLength(2);
  expect(readdirSync(folder)).toEqual([expect.stringMatching(/^chamberlain-tools-\d{8}T/u)]);
}, 60_000);

test('the commands around a recovery are those of docs/recovery.md', async () => {
  const { world } = running;
  const lines = (mark: string) =>
    blockOf(mark)
      .trim()
      .split('\n')
      .map((line) => line.replace('/var/backups/chamberlain', sets));
  const say = async (line: string) => {
    const script = `chamberlain() { node dist/chamberlain.js "$@"; }\n${line}`;
    const env = { ...process.env, CHAMBERLAIN_CONFIG: world.configFile };
    return run('bash', ['-c', script], { cwd: PROJECT, env }).then(
      ({ stdout }) => ({ code: 0, stdout }),
      ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({
        ...{ code, stdout: stdout + stderr },
      }),
    );
  };
  for (const line of lines('recovery:freeze')) expect(await say(line)).toMatchObject({ code: 0 });
  const hosts = ['host1', 'host2'].map((name) => join(world.dir, `${name}.seals`));
  for (const file of hosts) writeFileSync(file, '');
  const [show = ''] = lines('recovery:everything');
  expect(await say(show.replaceAll(/\bhost\d/gu, `${world.dir}/$&`))).toMatchObject({
    code: EXIT.pending,
    stdout: expect.stringContaining('--expect'),
  });
  for (const line of lines('recovery:suspend')) expect(await say(line)).toMatchObject({ code: 0 });
  const { digest } = JSON.parse((await cli('recover', '--database', '--json')).out) as {
    digest: string;
  };
  const done = await cli('recover', '--database', '--expect', digest);
  expect(done).toMatchObject({
    exit: 0,
    out: expect.stringMatching(/^Done\. The realm is thawed\.\nNow run /mu),
  });
  // what it names is what the page has
  const after = lines('recovery:after');
  for (const command of ['sweep now', 'list unmanaged', 'doctor']) {
    expect(done.out).toContain(`\`chamberlain ${command}\``);
    expect(after.join('\n')).toContain(`chamberlain ${command}`);
  }
  for (const line of after) {
    const { code, stdout } = await say(line);
    // there is something to decide, or a role was late on a busy machine
    const isRun = [0, EXIT.pending, EXIT.unreadable].includes(code);
    expect({ line, isRun, stdout }).toMatchObject({ line, isRun: true });
  }
});

function parseLdif(text: string): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  for (const block of text.split('\n\n')) {
    const entry: Entry = {};
    for (const line of block.split('\n').slice(1)) {
      const [, type = '', encoded, value = ''] = /^([^:]+):(:?) ?(.*)$/u.exec(line) ?? [];
      const decoded = encoded === ':' ? Buffer.from(value, 'base64').toString('utf8') : value;
      entry[type] = [...(entry[type] ?? []), decoded].sort();
    }
    entries.set(block.split('\n')[0]?.replace('dn: ', '') ?? '', entry);
  }
  return entries;
}
