/**
 * `chamberlain doctor` on a healthy system; then with each thing that it checks broken by hand: it names the
 * fault, says what to do, and ends in time.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { endOf, PROGRAM, runCli, startCli } from '../cli/run-cli.ts';
import type { StackConfig } from '../../dev/servers/config.ts';
import type { GroupedLine, State } from '../../src/doctor/line.ts';
import { lookAtSlapd } from '../../src/doctor/directory.ts';
import { lookAtPostgres } from '../../src/doctor/postgres/postgres.ts';
import { lookAtRedis } from '../../src/doctor/redis.ts';
import { areaPath } from '../../src/backends/files/file-mount.ts';
import { openPool, withClient } from '../../src/database/connection.ts';
import { defaultRoles } from '../../workers/main.ts';
import {
  administer,
  runningPid,
  signalTree,
  startServer,
  stopServer,
  type World,
} from '../stack.ts';
import { eventually } from './eventually.ts';
import { query, readDirectory, settled } from './outside.ts';
import { admit, openRunning, type Running } from './running.ts';

const ROOT = join(import.meta.dirname, '../..');
/** With one check that hangs, and the time that a busy machine takes to start the program. */
const MOST_MS = 20_000;
const REDIS_PASSWORD = 'the-password-of-redis';

let running: Running;
let world: World;
/** stands for /etc: nothing in it interferes */
let etc: string;
/** everything that any run has written */
const said: string[] = [];

interface Told {
  exit: number | null;
  lines: GroupedLine[];
  tookMs: number;
}

type Options = { config?: string; etc?: string; uid?: number; env?: Record<string, string> };

/** How the check of the admin's key ends if PostgreSQL is late; for a test in which that is away, it is expected. */
const KEY_UNKNOWN = /counts is not known$/u;

/** If nothing hangs. */
const doctor = (options: Options = {}) => lookedInTime([], options);

/** On a busy machine a check may take longer than its time: it is repeated until only the hanging ones do. */
async function lookedInTime(hanging: readonly RegExp[], options: Options = {}): Promise<Told> {
  return eventually('the other checks to be in time', async () => {
    const told = await lookOnce(options);
    const late = told.lines.filter(
      ({ what }) => what.includes('no answer within') || KEY_UNKNOWN.test(what),
    );
    expect(late.filter(({ what }) => !hanging.some((pattern) => pattern.test(what)))).toEqual([]);
    return told;
  });
}

async function lookOnce(options: Options = {}): Promise<Told> {
  const start = performance.now();
  const { config = world.configFile, uid, env } = options;
  const args = ['doctor', '--json', '--etc', options.etc ?? etc];
  const { exit, out, err } = await (uid === undefined
    ? runCli(args, env === undefined ? { config } : { config, env })
    : endOf(
        spawn('unshare', asOther(uid, ['--config', config, ...args]), {
          env: { PATH: process.env['PATH'] ?? '' },
        }),
      ));
  const tookMs = performance.now() - start;
  said.push(out, err);
  expect(err).toBe('');
  const { lines } = JSON.parse(out) as { lines: GroupedLine[] };
  // what a role has found in the minute before is not what a test breaks now
  const isNow = ({ todo = '' }: GroupedLine) => !/ Check it on the machine where /u.test(todo);
  return { exit, lines: lines.filter(isNow), tookMs };
}

/**
 * Arguments of unshare(1) for the command line of another user, who may not be allowed into the clone: it is
 * mounted a second time, in a place that only this process sees.
 */
function asOther(uid: number, args: readonly string[]): string[] {
  const clone = join(import.meta.dirname, '../..');
  const open = join(world.dir, 'clone');
  mkdirSync(open, { recursive: true });
  const program =
    'cd /; mount --bind "$1" "$2"; uid=$3 node=$4 cli=$5; shift 5; exec setpriv --reuid "$uid" --regid "$uid" --clear-groups "$node" "$cli" "$@"';
  const inside = (file: string) => join(open, relative(clone, file));
  return [
    ...['--mount', '--propagation', 'private', 'sh', '-ec', program, 'sh'],
    ...[clone, open, String(uid), inside(realpathSync(process.execPath)), inside(PROGRAM), ...args],
  ];
}

const notOk = ({ lines }: Told) => lines.filter(({ state }) => state !== 'ok');
const only = (state: State, { lines }: Told) => lines.filter((line) => line.state === state);

beforeAll(async () => {
  running = await openRunning('doctor', {
    own: true,
    looksMs: 1000,
    adjust: (config) => ({ ...config, reservedNames: ['keeper'] }),
  });
  world = running.world;
  await admit(running.portal, 'alice');
  await running.portal.get({
    kind: 'tool.create',
    requestedBy: 'alice',
    name: 'bridgebot',
    title: 'Bridges',
  });
  await settled(world);
  etc = makeEtc('etc', ['root:x:0:0:root:/root:/bin/sh'], ['root:x:0:']);
  // a leader makes no progress while what it needs is broken, and a look may take its time
  await query(world, `UPDATE leases SET lasts = '1 hour'`);
});
afterAll(() => running.close());

function makeEtc(name: string, passwd: readonly string[], group: readonly string[]): string {
  const folder = join(world.dir, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'passwd'), `${passwd.join('\n')}\n`);
  writeFileSync(join(folder, 'group'), `${group.join('\n')}\n`);
  return folder;
}

/** A configuration next to the world's own. */
function writeVariant(name: string, change: (config: StackConfig) => StackConfig): string {
  const file = join(world.dir, `${name}.yaml`);
  const config = parse(readFileSync(world.configFile, 'utf8')) as StackConfig;
  const open = { ...config, redis: { url: world.redis.url() } };
  writeFileSync(file, stringify(change(open)), { mode: 0o644 });
  return file;
}

test('on a healthy system every line is ok, and it ends with 0 without changing anything', async () => {
  const look = async () => {
    const entries = [...(await readDirectory(world, { operational: true }))];
    // the heartbeat goes on
    return entries.filter(([dn]) => !/^(cn=chamberlain,)?dc=/u.test(dn));
  };
  const before = await look();
  const told = await doctor();
  expect(notOk(told)).toEqual([]);
  expect(told.exit).toBe(0);
  expect(await look()).toEqual(before);
  // each thing that docs/operations.md promises was checked
  const text = told.lines.map(({ group, what }) => `${group}: ${what}`).join('\n');
  for (const words of [
    /^configuration: secrets that exist, and that others cannot read: \d+/mu,
    /^configuration: adminKey signs as admin\.steward/mu,
    /^PostgreSQL: these roles can log in: intake, .*, admin, owner$/mu,
    /^PostgreSQL: the tables are those of this version/mu,
    /^PostgreSQL: each role has the rights of migrations\/roles\.sql, and no others$/mu,
    /^PostgreSQL: the clock of PostgreSQL agrees/mu,
    /^Redis: it keeps its data/mu,
    /^Redis: each portal has a user for its own queues, and for nothing else: portal$/mu,
    /^directory: directory can log in, sees each place, and can write$/mu,
    /^directory: keys-agent can log in, sees each place, and cannot write$/mu,
    /^directory: the directory's overlays and rules match/mu,
    /^databases: toolsdb: chamberlain_databases can log in, and has its rights/mu,
    /^databases: replica: chamberlain_databases_reader can log in, and has its rights/mu,
    /^roles: the clock of the machine of homes/mu,
    /^work: the realm is not frozen/mu,
    /^this host: no local account/mu,
    /^this host: .*archives\/homes is ready for archives of homes$/mu,
    /^this host: .*archives\/databases is ready for archives of databases$/mu,
    /^this host: the programs that archive homes are installed$/mu,
  ]) {
    expect(text).toMatch(words);
  }
});

test('for people: what is wrong, with what to do and a summary; with --verbose also what is right, below and aligned', async () => {
  await query(world, `GRANT UPDATE (verdict) ON audit TO chamberlain_homes`);
  try {
    const look = (...args: string[]) =>
      eventually('all checks to be in time', async () => {
        const ended = await runCli(['doctor', '--etc', etc, ...args], { config: world.configFile });
        return !/no answer within|[1-9]\d* not looked at/u.test(ended.out) && ended;
      });
    const [short, whole] = [await look(), await look('--verbose')];
    said.push(short.out, whole.out);
    expect([short.exit, whole.exit]).toEqual([3, 3]);
    expect(short.out.split('\n')).toEqual([
      'fix  PostgreSQL  chamberlain_homes also has UPDATE (verdict) on audit',
      '                 REVOKE it: migrations/roles.sql does not grant it.',
      '',
      expect.stringMatching(
        /^1 fix, 0 unreadable, 0 not looked at, \d+ ok; `chamberlain doctor --verbose` shows all$/u,
      ),
      '',
    ]);
    const lines = whole.out.trimEnd().split('\n');
    expect(lines.slice(0, 3)).toEqual([
      'fix  PostgreSQL     chamberlain_homes also has UPDATE (verdict) on audit',
      '                    REVOKE it: migrations/roles.sql does not grant it.',
      '',
    ]);
    expect(lines.at(-1)).toMatch(/^1 fix, 0 unreadable, 0 not looked at, \d+ ok$/u);
    for (const line of lines.slice(3, -2)) expect(line).toMatch(/^ok {3}\S.{13} \S/u);
  } finally {
    await query(world, `REVOKE UPDATE (verdict) ON audit FROM chamberlain_homes`);
  }
});

interface Broken {
  what: string;
  break(): unknown;
  mend(): unknown;
  /** the message about it, and what to do */
  says: [state: State, what: RegExp, todo: RegExp][];
}

/** Breaks all of them, checks once, repairs them: each must be named, and nothing else. */
async function expectNamed(broken: readonly Broken[], options?: Parameters<typeof doctor>[0]) {
  const done: Broken[] = [];
  let told: Told;
  try {
    for (const each of broken) {
      await each.break();
      done.push(each);
    }
    const says = broken.flatMap((each) => each.says.map(([, what]) => what));
    told = await lookedInTime(says, options);
  } finally {
    for (const each of done.toReversed()) await each.mend();
  }
  const left = notOk(told);
  const unnamed: string[] = [];
  for (const { what, says } of broken) {
    for (const [state, pattern, todo] of says) {
      const index = left.findIndex(
        (line) => line.state === state && pattern.test(line.what) && todo.test(line.todo ?? ''),
      );
      if (index < 0) unnamed.push(`${what}: ${state} ${pattern.source} · ${todo.source}`);
      else left.splice(index, 1);
    }
  }
  expect({ unnamed, beyond: left }).toEqual({ unnamed: [], beyond: [] });
  return told;
}

const sql = (statement: string) => () => query(world, statement);
const secret = (name: string) => join(world.config.secrets, name);

/** Changes cn=config as root of the directory's machine; LDIF without the dn. */
async function configureSlapd(ldif: string): Promise<void> {
  const file = join(world.dir, 'slapd-config.ldif');
  writeFileSync(file, `dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\n${ldif}\n`);
  await promisify(execFile)('ldapmodify', [
    ...['-Q', '-Y', 'EXTERNAL', '-H', world.config.ldap.uri, '-f', file],
  ]);
}
const accessRule = (rule: string) => ({
  break: () => configureSlapd(`add: olcAccess\nolcAccess: {0}${rule}`),
  mend: () => configureSlapd('delete: olcAccess\nolcAccess: {0}'),
});

async function redisCommand(...words: string[]): Promise<string> {
  const args = ['--no-auth-warning', '-u', world.redis.urlOf('owner'), ...words];
  return (await promisify(execFile)('redis-cli', args)).stdout;
}

function replaced(name: string, text: string): Pick<Broken, 'break' | 'mend'> {
  return {
    break() {
      renameSync(secret(name), secret(`${name}.kept`));
      writeFileSync(secret(name), text, { mode: 0o600 });
    },
    mend: () => renameSync(secret(`${name}.kept`), secret(name)),
  };
}

describe('each thing that is broken by hand is named, with what to do:', () => {
  test('rights, settings, accounts, files, numbers', async () => {
    const { tools } = world.config.ids;
    const [alice] = (await query(
      world,
      `SELECT uid FROM people WHERE shell_name = 'alice'`,
    )) as unknown as { uid: number }[];
    const area = join(world.dataRoot, 'home');
    const mark = join(world.dataRoot, 'data/project/.chamberlain');
    const ofBase = world.config.ldap.base;
    const inTheWay = makeEtc(
      'etc-in-the-way',
      [
        'root:x:0:0:root:/root:/bin/sh',
        'alice:x:900:900::/home/alice:/bin/sh',
        `backup2:x:${tools[0]?.last}:900::/:/bin/sh`,
        `postgres:x:${alice?.uid}:900::/:/bin/sh`,
        'chamberlain-intake:x:999:900::/:/usr/sbin/nologin',
        'keeper:x:998:900::/:/usr/sbin/nologin',
        '+::::::',
      ],
      ['root:x:0:', `staff:x:${world.config.ids.realmGid}:`, 'ourteam:x:901:'],
    );
    const broken: Broken[] = [
      {
        what: 'a trigger',
        break: sql('ALTER TABLE audit DISABLE TRIGGER audit_append_only'),
        mend: sql('ALTER TABLE audit ENABLE TRIGGER audit_append_only'),
        says: [['fix', /^the trigger audit_append_only of audit is missing/u, /audit verify/u]],
      },
      {
        what: 'the trigger on audit_seals that keeps what is not closed',
        break: sql('ALTER TABLE audit_seals DISABLE TRIGGER audit_seals_closed_only'),
        mend: sql('ALTER TABLE audit_seals ENABLE TRIGGER audit_seals_closed_only'),
        says: [
          [
            'fix',
            /^the trigger audit_seals_closed_only of audit_seals is missing/u,
            /audit verify/u,
          ],
        ],
      },
      {
        what: 'the trigger that refuses what a replaced leader writes',
        break: sql('ALTER TABLE events DISABLE TRIGGER check_lease'),
        mend: sql('ALTER TABLE events ENABLE TRIGGER check_lease'),
        says: [['fix', /a replaced leader can write to events: /u, /migrate/u]],
      },
      {
        what: 'the trigger on audit_closings',
        break: sql('DROP TRIGGER audit_closings_check ON audit_closings'),
        mend: sql(
          `CREATE TRIGGER audit_closings_check BEFORE INSERT ON audit_closings
           FOR EACH ROW EXECUTE FUNCTION check_closing()`,
        ),
        says: [
          [
            'fix',
            /^the trigger audit_closings_check of audit_closings is missing/u,
            /audit verify/u,
          ],
        ],
      },
      {
        what: 'a trigger that never fires',
        break: sql(
          `DROP TRIGGER names_append_only ON names;
           CREATE TRIGGER names_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON names
             FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION refuse_change()`,
        ),
        mend: sql(
          `DROP TRIGGER names_append_only ON names;
           CREATE TRIGGER names_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON names
             FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()`,
        ),
        says: [['fix', /^the trigger names_append_only of names is missing/u, /audit verify/u]],
      },
      {
        what: 'a trigger that guards something else',
        break: sql(
          `ALTER TABLE people DISABLE TRIGGER people_deleted;
           DROP TRIGGER unmanaged_other ON unmanaged;
           CREATE TRIGGER unmanaged_other BEFORE UPDATE ON unmanaged FOR EACH ROW
             WHEN ((OLD.kind, OLD.number) IS DISTINCT FROM (NEW.kind, NEW.number))
             EXECUTE FUNCTION forget_ignored()`,
        ),
        mend: sql(
          `ALTER TABLE people ENABLE TRIGGER people_deleted;
           DROP TRIGGER unmanaged_other ON unmanaged;
           CREATE TRIGGER unmanaged_other BEFORE UPDATE ON unmanaged FOR EACH ROW
             WHEN ((OLD.kind, OLD.number, OLD.identity) IS DISTINCT FROM (NEW.kind, NEW.number, NEW.identity))
             EXECUTE FUNCTION forget_ignored()`,
        ),
        says: [
          ['fix', /^the trigger people_deleted of people is missing/u, /audit verify/u],
          ['fix', /^the trigger unmanaged_other of unmanaged is missing/u, /audit verify/u],
        ],
      },
      {
        what: 'the functions of triggers',
        break: sql(
          `CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN RETURN NULL; END';
           ALTER FUNCTION note_unsealed() RESET search_path`,
        ),
        mend: async () => {
          const text = readFileSync(join(ROOT, 'migrations/0002_work.sql'), 'utf8');
          const statement = /CREATE (FUNCTION refuse_change[^]*?\$\$;)/u.exec(text)?.[1] ?? '';
          await query(world, `CREATE OR REPLACE ${statement}`);
          await query(
            world,
            'ALTER FUNCTION note_unsealed() SET search_path = pg_catalog, public, pg_temp',
          );
        },
        says: [
          ['fix', /^the function refuse_change differs/u, /audit verify/u],
          ['fix', /^the function note_unsealed differs/u, /audit verify/u],
        ],
      },
      {
        what: 'policies',
        break: sql(
          `CREATE POLICY everything ON repair_parts USING (true);
           ALTER POLICY own_rows ON reports USING (true);
           ALTER POLICY every_row ON survey_progress TO chamberlain_admin, chamberlain_sweep, chamberlain_homes_reader`,
        ),
        mend: sql(
          `DROP POLICY everything ON repair_parts;
           ALTER POLICY own_rows ON reports
             USING (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')));
           ALTER POLICY every_row ON survey_progress TO chamberlain_admin, chamberlain_sweep`,
        ),
        says: [
          ['fix', /^there is an unknown policy everything of repair_parts$/u, /DROP it/u],
          [
            'fix',
            /^the policy own_rows of reports is missing, or differs/u,
            /chamberlain migrate/u,
          ],
          ['fix', /^the policy every_row of survey_progress is missing/u, /chamberlain migrate/u],
        ],
      },
      {
        what: 'a right that may be granted on',
        break: sql(
          `GRANT SELECT ON surveys TO chamberlain_homes_reader WITH GRANT OPTION;
           GRANT UPDATE (wanted) ON convergence TO chamberlain_intake WITH GRANT OPTION`,
        ),
        mend: sql(
          `REVOKE GRANT OPTION FOR SELECT ON surveys FROM chamberlain_homes_reader;
           REVOKE GRANT OPTION FOR UPDATE (wanted) ON convergence FROM chamberlain_intake`,
        ),
        says: [
          [
            'fix',
            /^chamberlain_homes_reader also has SELECT on surveys with GRANT OPTION$/u,
            /REVOKE/u,
          ],
          [
            'fix',
            /^chamberlain_intake also has UPDATE \(wanted\) on convergence with GRANT OPTION$/u,
            /REVOKE/u,
          ],
        ],
      },
      {
        what: 'row-level security',
        break: sql(
          `ALTER TABLE repair_parts DISABLE ROW LEVEL SECURITY;
           ALTER TABLE archives DISABLE ROW LEVEL SECURITY`,
        ),
        mend: sql(
          `ALTER TABLE repair_parts ENABLE ROW LEVEL SECURITY;
           ALTER TABLE archives ENABLE ROW LEVEL SECURITY`,
        ),
        says: [
          ['fix', /^row-level security of repair_parts is off$/u, /chamberlain migrate/u],
          ['fix', /^row-level security of archives is off$/u, /chamberlain migrate/u],
        ],
      },
      {
        what: 'requests that were removed because too many waited',
        break: sql(
          `INSERT INTO junk (portal, code, count, last_at) VALUES ('portal', 'QUEUE_FULL', 3, now())`,
        ),
        mend: sql('DELETE FROM junk'),
        says: [
          [
            'fix',
            /^invalid jobs in the queues of portal: 3 \(QUEUE_FULL\), the last at /u,
            /work intake`, and have the portal send again/u,
          ],
        ],
      },
      {
        what: 'a right that is missing',
        break: sql('REVOKE DELETE ON request_touches FROM chamberlain_relay'),
        mend: sql('GRANT DELETE ON request_touches TO chamberlain_relay'),
        says: [
          [
            'fix',
            /^chamberlain_relay lacks UPDATE \(done_at\) on requests, DELETE on request_touches$/u,
            /migrate/u,
          ],
        ],
      },
      {
        what: 'a right of a column',
        break: sql('REVOKE UPDATE (done_at) ON requests FROM chamberlain_relay'),
        mend: sql('GRANT UPDATE (done_at) ON requests TO chamberlain_relay'),
        says: [], // it is in the line of what relay lacks
      },
      {
        what: 'a right of a function',
        break: sql('REVOKE EXECUTE ON FUNCTION look_again FROM chamberlain_sweep'),
        mend: sql('GRANT EXECUTE ON FUNCTION look_again TO chamberlain_sweep'),
        says: [['fix', /^chamberlain_sweep lacks EXECUTE on look_again$/u, /migrate/u]],
      },
      {
        what: 'an extra right of PUBLIC',
        break: sql('GRANT SELECT ON people TO PUBLIC'),
        mend: sql('REVOKE SELECT ON people FROM PUBLIC'),
        says: [['fix', /^everybody also has SELECT on people$/u, /REVOKE/u]],
      },
      {
        what: 'a role with an extra attribute',
        break: sql('ALTER ROLE chamberlain_sweep CREATEDB'),
        mend: sql('ALTER ROLE chamberlain_sweep NOCREATEDB'),
        says: [['fix', /^chamberlain_sweep is allowed to make databases$/u, /Revoke that/u]],
      },
      {
        what: 'a commit that does not wait for the disk',
        break: sql('ALTER ROLE chamberlain_admin SET synchronous_commit = off'),
        mend: sql('ALTER ROLE chamberlain_admin RESET synchronous_commit'),
        says: [['fix', /^synchronous_commit is off/u, /to `on`/u]],
      },
      {
        what: 'the password of intake',
        ...replaced('postgres-intake', 'not-that-of-intake'),
        says: [
          [
            'fix',
            /^these accounts cannot log in with their secrets on this machine: intake$/u,
            /docs\/install\.md/u,
          ],
        ],
      },
      {
        what: 'the settings of Redis',
        break: async () => {
          await redisCommand('CONFIG', 'SET', 'maxmemory-policy', 'volatile-lru');
          await redisCommand('CONFIG', 'SET', 'appendonly', 'no');
        },
        mend: async () => {
          await redisCommand('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
          await redisCommand('CONFIG', 'SET', 'appendonly', 'yes');
        },
        says: [
          ['fix', /Redis may drop requests when it is full/u, /maxmemory-policy noeviction/u],
          ['fix', /Redis loses requests/u, /appendonly yes/u],
        ],
      },
      {
        what: 'the password of sssd',
        ...replaced('ldap-sssd', 'not-that-of-sssd'),
        says: [['fix', /^sssd cannot log in$/u, /cn=sssd,ou=chamberlain,.* ldap-sssd/u]],
      },
      {
        what: 'write access of one account, and read access for everybody',
        ...accessRule(
          `to dn.subtree="${ofBase}" by dn.exact="cn=keys-agent,ou=chamberlain,${ofBase}" write by anonymous read by * break`,
        ),
        says: [
          [
            'fix',
            /^keys-agent also sees toolGroups, groups, sudoRules, policies$/u,
            /To load the rules again/u,
          ],
          ['fix', /^keys-agent can write people$/u, /To load the rules again/u],
          ['fix', /^keys-agent can write toolAccounts$/u, /To load the rules again/u],
          ['fix', /^anonymous users see entries$/u, /To load the rules again/u],
        ],
      },
      {
        what: 'an account without read access',
        ...accessRule(
          `to dn.subtree="ou=people,${ofBase}" by dn.exact="cn=directory-reader,ou=chamberlain,${ofBase}" none by * break`,
        ),
        says: [
          [
            'fix',
            /^directory-reader cannot see people: .* exists there$/u,
            /To load the rules again/u,
          ],
        ],
      },
      {
        what: 'new entries',
        break: () => configureSlapd('replace: olcAddContentAcl\nolcAddContentAcl: FALSE'),
        mend: () => configureSlapd('replace: olcAddContentAcl\nolcAddContentAcl: TRUE'),
        says: [['fix', /do not apply to values of new entries/u, /olcAddContentAcl: TRUE/u]],
      },
      {
        what: 'rights of the databases role',
        break: () =>
          administer(
            world.replica.socket,
            `REVOKE PROCESS ON *.* FROM chamberlain_databases;
             GRANT SELECT ON enwiki.* TO chamberlain_databases_reader;`,
          ),
        mend: () =>
          administer(
            world.replica.socket,
            `GRANT PROCESS ON *.* TO chamberlain_databases;
             REVOKE SELECT ON enwiki.* FROM chamberlain_databases_reader;`,
          ),
        says: [
          ['fix', /^replica: chamberlain_databases lacks PROCESS on \*\.\*$/u, /replica\.sql/u],
          [
            'fix',
            /^replica: chamberlain_databases_reader also has SELECT on enwiki\.\*$/u,
            /Revoke/u,
          ],
        ],
      },
      {
        what: 'an account that is locked',
        break: () =>
          administer(world.tools.socket, 'ALTER USER chamberlain_databases ACCOUNT LOCK;'),
        mend: () =>
          administer(world.tools.socket, 'ALTER USER chamberlain_databases ACCOUNT UNLOCK;'),
        says: [['fix', /^toolsdb: chamberlain_databases cannot log in$/u, /mariadb-databases/u]],
      },
      {
        what: 'an account without a name',
        break: () => administer(world.tools.socket, `CREATE USER ''@'10.0.0.1';`),
        mend: () => administer(world.tools.socket, `DROP USER ''@'10.0.0.1';`),
        says: [['fix', /^toolsdb: the anonymous account ''@'10\.0\.0\.1' /u, /DROP USER ''@/u]],
      },
      {
        what: 'freezing',
        break: () => world.chamberlain('freeze', '--reason', 'a test'),
        mend: () => world.chamberlain('thaw'),
        says: [['fix', /^frozen since .* by unix:.*: a test$/u, /chamberlain thaw/u]],
      },
      {
        what: 'a sweep that is held',
        break: sql(
          `INSERT INTO sweeps (id, state, sentence, digest, ended_at)
           VALUES (gen_random_uuid(), 'held', '90 of 200 subjects have drifted', 'abc', now())`,
        ),
        mend: sql('DELETE FROM sweeps'),
        says: [['fix', /the sweep is held: 90 of 200/u, /sweep release --expect abc/u]],
      },
      {
        what: 'a subject that is parked, and one that fails',
        break: sql(
          `UPDATE convergence SET code = 'PATH_FOREIGN', applied = wanted - 1, next_try_at = now() + interval '1 h',
             state = CASE role WHEN 'homes' THEN 'parked' ELSE 'failing' END
           WHERE subject = ${alice?.uid} AND role IN ('homes', 'databases')`,
        ),
        mend: sql(`UPDATE convergence SET state = 'applied', applied = wanted, code = NULL`),
        says: [
          ['fix', /^parked: alice \(homes: PATH_FOREIGN\)$/u, /chamberlain repair/u],
          ['fix', /^failing: alice \(databases: PATH_FOREIGN\)$/u, /chamberlain status/u],
        ],
      },
      {
        what: 'local accounts',
        break: () => undefined,
        mend: () => undefined,
        says: [
          [
            'fix',
            /^alice is an account of the realm, and also a local account .*urgent$/u,
            /Rename/u,
          ],
          [
            'fix',
            /^the local account postgres has the number \d+, which is also that of alice: urgent$/u,
            /number/u,
          ],
          [
            'fix',
            /^the local account backup2 has the number \d+, which is in a range/u,
            /another number/u,
          ],
          [
            'fix',
            /^the local group staff has the number \d+, which is that of the realm group$/u,
            /^Give it another number\.$/u,
          ],
          [
            'fix',
            /could get a name that is local here: backup2, ourteam$/u,
            /`reservedNames` in the configuration: backup2, ourteam;/u,
          ],
        ],
      },
      {
        what: 'who may read a secret',
        break: () => chmodSync(secret('ldap-directory'), 0o644),
        mend: () => chmodSync(secret('ldap-directory'), 0o600),
        says: [['fix', /ldap-directory has mode 0644: others can read it$/u, /chmod 600/u]],
      },
      {
        what: 'the owner of a secret',
        break: () => chownSync(secret('postgres-relay'), 4242, 0),
        mend: () => chownSync(secret('postgres-relay'), 0, 0),
        says: [['fix', /postgres-relay belongs to uid 4242$/u, /must be root/u]],
      },
      {
        what: 'the configuration and the admin’s key',
        break: () => {
          chmodSync(world.configFile, 0o666);
          chmodSync(world.adminKey, 0o640);
        },
        mend: () => {
          chmodSync(world.configFile, 0o600);
          chmodSync(world.adminKey, 0o600);
        },
        says: [
          ['fix', /config\.yaml has mode 0666: others can change it$/u, /chmod go-w/u],
          ['fix', /^adminKey .* has mode 0640: others can sign/u, /make a new key/u],
        ],
      },
      {
        what: 'the mark of an area',
        break: () => renameSync(mark, `${mark}-away`),
        mend: () => renameSync(`${mark}-away`, mark),
        says: [
          [
            'fix',
            /data\/project has no folder \.chamberlain: it is not mounted/u,
            /chamberlain prepare/u,
          ],
        ],
      },
      {
        what: 'an area where others write',
        break: () => chmodSync(area, 0o777),
        mend: () => chmodSync(area, 0o755),
        says: [
          [
            'fix',
            /\/home: accounts other than root have rights on it$/u,
            /^Run `chown root \S+\/home; chmod go-w \S+\/home` on the file server\.$/u,
          ],
        ],
      },
    ];
    expect((await expectNamed(broken, { etc: inTheWay })).exit).toBe(3);
    await eventually('everything to be well again', async () => (await doctor()).exit === 0);
  });

  describe('where work has stopped,', () => {
    let late: ChildProcess | undefined;
    beforeAll(async () => {
      // the last test's own acts are in the audit
      await eventually(
        'all seals',
        async () => (await query(world, 'SELECT FROM audit_unsealed')).length === 0,
      );
      await running.stopWork();
      await running.startWork(['intake', 'databases']);
      late = startLate('homes');
    });
    afterAll(async () => {
      await running.stopWork();
      if (late !== undefined && late.exitCode === null) {
        late.kill('SIGTERM');
        await once(late, 'exit');
      }
      await running.startWork(defaultRoles(running.world.config));
      await settled(world);
    });

    test('roles, clocks, the marker, seals, requests', async () => {
      await eventually('the late role', async () => {
        const listens = `SELECT FROM pg_stat_activity WHERE datname = current_database()
          AND application_name LIKE 'chamberlain homes%' AND query = 'LISTEN chamberlain_surveys'`;
        return (await query(world, listens)).length > 0;
      });
      const told = await expectNamed([
        {
          what: 'who is not at work',
          break: () => undefined,
          mend: () => undefined,
          says: [
            ['unreadable', /^directory: no answer within/u, /work directory/u],
            ['fix', /^no process works as relay$/u, /chamberlain work relay/u],
            ['fix', /^no process works as sweep$/u, /chamberlain work sweep/u],
            ['fix', /^the clock of the machine of homes is 3[56]\d\d\.\d s ahead of/u, /NTP/u],
          ],
        },
        {
          what: 'the marker',
          break: sql(
            `UPDATE directory_heartbeat SET published_at = published_at - interval '10 min'`,
          ),
          mend: sql(
            `UPDATE directory_heartbeat SET published_at = published_at + interval '10 min'`,
          ),
          says: [
            ['fix', /^the last heartbeat for login hosts was published at 20/u, /work directory/u],
          ],
        },
        {
          what: 'the seals',
          break: sql(
            `INSERT INTO audit (at, verdict) VALUES (now() - interval '5 min', 'accepted')`,
          ),
          mend: () => undefined,
          says: [
            [
              'fix',
              /^rows of the audit that wait to be sealed: 1, the oldest for 3\d\d s$/u,
              /work relay/u,
            ],
          ],
        },
        {
          what: 'a request',
          // of a generation that no worker comes to
          break: sql(
            `WITH undone AS (UPDATE requests SET done_at = NULL, at = now() - interval '20 min'
                             WHERE kind = 'tool.create' RETURNING id, subject)
             INSERT INTO request_touches SELECT id, subject, 'homes', 1000000 FROM undone`,
          ),
          mend: sql('DELETE FROM request_touches WHERE generation = 1000000'),
          says: [['fix', /\(tool\.create\) is not done after 2\d min$/u, /chamberlain requests /u]],
        },
      ]);
      expect(told.exit).toBe(4);
    });

    test('a doubt, tables that are behind or ahead, a role of MariaDB that is gone', async () => {
      await running.stopWork();
      const broken: Broken[] = [
        {
          what: 'nobody at work',
          break: () => undefined,
          mend: () => undefined,
          says: [
            ['unreadable', /^directory: no answer/u, /work directory/u],
            ['unreadable', /^databases: no answer/u, /work databases/u],
            ['fix', /^no process works as intake$/u, /work intake/u],
            ['fix', /^no process works as relay$/u, /work relay/u],
            ['fix', /^no process works as sweep$/u, /work sweep/u],
            ['fix', /^the clock of the machine of homes/u, /NTP/u],
            ['fix', /^rows of the audit that wait to be sealed: 1,/u, /work relay/u],
          ],
        },
        {
          what: 'the directory is in doubt',
          break: sql(`UPDATE directory_heartbeat SET doubt = 'it is an older copy'`),
          mend: sql('UPDATE directory_heartbeat SET doubt = NULL'),
          says: [
            ['fix', /^the heartbeat for login hosts has stopped: it is an older copy$/u, /no key/u],
          ],
        },
        {
          what: 'a sweep that could not read',
          break: sql(
            `INSERT INTO sweeps (id, state, sentence, ended_at) VALUES (gen_random_uuid(), 'unreadable', 'homes is away', now())`,
          ),
          mend: sql('DELETE FROM sweeps'),
          says: [
            [
              'fix',
              /^the last sweep could not read everything: homes is away$/u,
              /chamberlain sweep/u,
            ],
          ],
        },
        {
          what: 'a migration of a newer program',
          break: sql(`UPDATE migrations SET name = 'x' || name WHERE name = '0003_admin'`),
          mend: sql(`UPDATE migrations SET name = '0003_admin' WHERE name = 'x0003_admin'`),
          says: [
            [
              'fix',
              /x0003_admin, which this version of Chamberlain does not know$/u,
              /newer version/u,
            ],
          ],
        },
        {
          what: 'the role of every tool',
          break: () => administer(world.replica.socket, 'DROP ROLE labsdbuser;'),
          mend: async () => {
            const file = join(ROOT, 'deploy/mariadb/replica.sql');
            await administer(world.replica.socket, readFileSync(file, 'utf8'));
          },
          says: [['fix', /^replica: PUBLIC lacks labsdbuser$/u, /replica\.sql/u]],
        },
        {
          what: 'what everybody may read',
          break: () =>
            administer(world.tools.socket, 'REVOKE SELECT, SHOW VIEW ON `%\\_p`.* FROM PUBLIC;'),
          mend: async () => {
            const file = join(ROOT, 'deploy/mariadb/toolsdb.sql');
            await administer(world.tools.socket, readFileSync(file, 'utf8'));
          },
          says: [
            ['fix', /^toolsdb: PUBLIC lacks SELECT on %\\_p\.\*, SHOW VIEW/u, /toolsdb\.sql/u],
          ],
        },
      ];
      await expectNamed(broken);
      const pool = openPool(world.config, 'admin', { max: 1, durable: true });
      await query(world, `DELETE FROM migrations WHERE name = '0003_admin'`);
      try {
        const lines = await withClient(pool, (client) => lookAtPostgres(client, ROOT));
        expect(lines.filter(({ state }) => state !== 'ok')).toEqual([
          {
            state: 'fix',
            what: 'the database lacks the migrations 0003_admin',
            todo: 'Run `chamberlain migrate`.',
          },
        ]);
      } finally {
        await query(world, `INSERT INTO migrations (name, run_on) VALUES ('0003_admin', now())`);
        await pool.end();
      }
    });
  });

  test.each([
    ['of every address', '0.0.0.0', ['port 389 of 0.0.0.0']],
    ['of every address, by IPv6', '::', ['port 389 of ::']],
    ['of this machine alone', '127.0.0.1', []],
  ])('plain ldap:// at the port %s', async (_, address, named) => {
    // in a network of its own, where nobody else has that port
    const script = `
      execFileSync('ip', ['link', 'set', 'lo', 'up']);
      const server = createServer().listen(389, process.argv[1], () => {
        execFile(process.execPath, process.argv.slice(2), (_, out) => {
          console.log(out);
          server.close();
        });
      });`;
    const { stdout } = await promisify(execFile)('unshare', [
      ...['--net', process.execPath, '-e'],
      `const { execFile, execFileSync } = require('node:child_process');
       const { createServer } = require('node:net');${script}`,
      ...[address, PROGRAM, '--config', world.configFile, 'doctor', '--json'],
    ]);
    const { lines } = JSON.parse(stdout) as { lines: GroupedLine[] };
    expect(
      lines.flatMap(({ state, what, todo }) =>
        /plain ldap/u.test(what) ? [{ state, what, todo }] : [],
      ),
    ).toEqual(
      named.map((where) => ({
        state: 'fix',
        what: `plain ldap:// is open to other machines: ${where}`,
        todo: expect.stringContaining('SLAPD_SERVICES="ldapi:/// ldaps:///"'),
      })),
    );
  });

  test('an overlay of the directory that is gone', async () => {
    const { stdout } = await promisify(execFile)('ldapsearch', [
      ...['-Q', '-Y', 'EXTERNAL', '-LLL', '-o', 'ldif-wrap=no', '-H', world.config.ldap.uri],
      ...['-b', 'cn=config', '(objectClass=olcUniqueConfig)', '1.1'],
    ]);
    const dn = /^dn: (.*)$/mu.exec(stdout)?.[1] ?? '';
    await promisify(execFile)('ldapdelete', [
      ...['-Q', '-Y', 'EXTERNAL', '-H', world.config.ldap.uri, dn],
    ]);
    try {
      expect(await lookAtSlapd(world.config)).toEqual([
        {
          state: 'fix',
          what: 'the overlay unique is missing',
          todo: 'Add it as in deploy/ldap/config.ldif.',
        },
      ]);
    } finally {
      await stopServer(world.slapd);
      await startServer(world.slapd); // with the configuration of deploy/ldap
    }
  });

  test('a configuration that says other numbers than the directory', async () => {
    const { config } = world;
    const tools = [{ first: 5_000_000, last: 5_000_999 }];
    expect(await lookAtSlapd({ ...config, ids: { ...config.ids, tools } })).toEqual([
      {
        state: 'fix',
        what: expect.stringMatching(
          /^the constraint overlay lacks what this configuration needs: uidNumber regex \S+ restrict="\S+", and 1 more$/u,
        ),
        todo: expect.stringContaining('"To load the rules again"'),
      },
      {
        state: 'fix',
        what: expect.stringMatching(
          /^the access rules lack what this configuration needs: to dn\.regex=".*" attrs=uidNumber .*, and 1 more$/u,
        ),
        todo: expect.stringContaining('"To load the rules again"'),
      },
    ]);
  });
});

describe('a server that hangs is named in one line, and takes no longer than its time:', () => {
  test.each([
    ['redis', /^Redis at .* cannot be reached(, since .*)?: no answer within/u, 2],
    ['slapd', /^the directory ldap.* cannot be reached(, since .*)?: no answer within/u, 7],
    ['postgres', /^PostgreSQL at .* cannot be reached: no answer within/u, 6],
    ['replica', /^replica cannot be reached(, since .*)?: no answer within/u, 1],
  ] as const)('%s', async (name, says, skipped) => {
    const pid = runningPid(world[name]);
    if (pid === undefined) throw new Error(`${name} does not run`);
    signalTree(pid, 'SIGSTOP');
    let told: Told;
    try {
      told = await lookedInTime([says, KEY_UNKNOWN]);
    } finally {
      signalTree(pid, 'SIGCONT');
    }
    expect(only('unreadable', told)).toEqual([
      {
        state: 'unreadable',
        group: expect.any(String),
        what: expect.stringMatching(says),
        todo: expect.stringMatching(
          new RegExp(
            `^Meanwhile .* Check that the server runs .* (One|${skipped}) other checks? `,
            'u',
          ),
        ),
      },
    ]);
    expect(told.exit).toBe(4);
    expect(told.tookMs).toBeLessThan(MOST_MS);
    // the others were looked at all the same
    expect(only('ok', told).length).toBeGreaterThan(20);
  });
});

test('a file server that hangs is named, and is not waited for', async () => {
  // a process that reads the folder itself hangs, as on a dead mount, in a thread that cannot be ended
  const fifo = join(world.dir, 'a-fifo');
  await promisify(execFile)('mkfifo', [fifo]);
  const double = join(world.dir, 'hanging.mjs');
  writeFileSync(
    double,
    `import fs from 'node:fs';
     import { syncBuiltinESMExports } from 'node:module';
     const { lstat } = fs.promises;
     fs.promises.lstat = (path, ...rest) =>
       String(path).startsWith(${JSON.stringify(world.dataRoot)})
         ? fs.promises.readFile(${JSON.stringify(fifo)})
         : lstat(path, ...rest);
     syncBuiltinESMExports();\n`,
  );
  const programs = join(world.dir, 'hanging');
  const pids = join(world.dir, 'hanging.pids');
  mkdirSync(programs);
  const stat = `#!/bin/sh\necho $$ >>${pids}\nexec sleep 1000\n`;
  writeFileSync(join(programs, 'stat'), stat, { mode: 0o755 });

  const told = await lookedInTime([/: no answer within 1\.5 s$/u], {
    env: {
      NODE_OPTIONS: `--import ${double}`,
      PATH: `${programs}:${process.env['PATH'] ?? ''}`,
    },
  });
  expect(notOk(told)).toEqual(
    ['data/project', 'home', 'archives/homes', 'archives/databases'].map((area) => ({
      state: 'unreadable',
      group: 'this host',
      what: `${join(world.dataRoot, area)}: no answer within 1.5 s`,
      todo:
        area === 'archives/databases'
          ? 'Look at the disk or the server that the folder is on.'
          : 'Look at the file server.',
    })),
  );
  expect(told.exit).toBe(4);
  expect(told.tookMs).toBeLessThan(MOST_MS);
  // every program that can be ended has ended
  const left = readFileSync(pids, 'utf8').trim().split('\n');
  expect(left.length).toBeGreaterThanOrEqual(4);
  await eventually('the programs to be gone', () =>
    left.every((pid) => !existsSync(`/proc/${pid}`)),
  );
});

test('servers that are down are named, each', async () => {
  const servers = [world.postgres, world.redis, world.slapd, world.replica, world.tools];
  await running.stopWork();
  await Promise.all(servers.map(stopServer));
  let told: Told;
  try {
    told = await lookedInTime([KEY_UNKNOWN]);
  } finally {
    await Promise.all(servers.map(startServer));
    await running.startWork();
  }
  const text = only('unreadable', told).map(({ what, todo }) => `${what} → ${todo}`);
  expect(text).toEqual(
    [
      /^PostgreSQL at \S+ cannot be reached: (.*) \((ENOENT|ECONNREFUSED)\) → Meanwhile .* `postgres` .* 6 other checks/u,
      /^Redis at \S+ cannot be reached: nothing listens there \(ECONNREFUSED\) → Meanwhile .* `redis` /u,
      /^the directory ldap\S+ cannot be reached: .* → Meanwhile no account, .* `ldap` .* 7 other checks need this server/u,
      /^replica cannot be reached: .* → Meanwhile no account on replica .* `databases\.servers` .* One other/u,
      /^toolsdb cannot be reached: /u,
    ].map((pattern) => expect.stringMatching(pattern)),
  );
  expect(text.join('\n')).not.toMatch(/Message type|0x|conn:|SQLState/u);
  expect(told.exit).toBe(4);
  expect(told.tookMs).toBeLessThan(MOST_MS);
});

test('doctor names a server that a role cannot reach, since when, and what that stops, until the role reaches it', async () => {
  const troubles = () =>
    query<{ place: string }>(world, 'SELECT place FROM troubles ORDER BY place').then((rows) =>
      rows.map(({ place }) => place),
    );
  const status = async () => {
    const { out } = await runCli(['--config', world.configFile, 'status']);
    return out;
  };
  const mark = `${areaPath(world.config.files, 'toolHomes')}/.chamberlain`;
  await Promise.all([world.slapd, world.redis, world.replica].map(stopServer));
  renameSync(mark, `${mark}.away`);
  let told: Told;
  let text: string;
  try {
    // the next look replaces what the roles found in earlier tests
    await eventually('the roles to see it', async () => {
      return (await troubles()).join() === 'directory,redis,replica,toolHomes';
    });
    told = await doctor();
    text = await status();
  } finally {
    renameSync(`${mark}.away`, mark);
    await Promise.all([world.slapd, world.redis, world.replica].map(startServer));
  }
  const time = String.raw`20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ`;
  const stops = 'Meanwhile no account, group or key is changed, and login hosts renew no key.';
  const lines = told.lines.filter(({ what }) => what.includes(world.config.ldap.uri));
  expect(lines).toEqual([
    {
      ...{ state: 'unreadable', group: 'directory' },
      what: expect.stringMatching(
        new RegExp(`cannot be reached, since ${time} \\(\\d+ s\\): `, 'u'),
      ),
      todo: expect.stringContaining(stops),
    },
  ]);
  const since = text.split('\n').filter((line) => line.startsWith('Since '));
  const begin = `Since ${time} \\(\\d+ s\\): `;
  const sentences = [
    `^${begin}reading homes: ${dirname(mark)} has no folder \\.chamberlain: it is not mounted, or not prepared\\. Meanwhile no home `,
    `^${begin}replica cannot be reached: [^:]+ \\(E[A-Z]+\\)\\. Meanwhile no account on replica `,
    `^${begin}the directory ldap\\S+ cannot be reached: [^:]+ \\(E[A-Z]+\\)\\. ${stops}$`,
  ];
  expect(since).toHaveLength(3);
  expect(since).toEqual(
    expect.arrayContaining(sentences.map((each) => expect.stringMatching(each))),
  );
  // what hangs for want of Redis is not at fault
  expect(text).not.toMatch(/^Hangs/mu);
  // the line about Redis has the start time that the relay recorded
  expect(text).toMatch(new RegExp(`^Redis cannot be used at \\S+ since ${time}: `, 'mu'));
  await eventually('it to be forgotten', async () => (await troubles()).length === 0, 60_000);
  expect(await status()).not.toContain('Since ');
}, 180_000);

test('a full Redis and a backlog of requests are named', async () => {
  await running.stopWork();
  try {
    await redisCommand(
      'LPUSH',
      'bull:requests.portal:wait',
      ...Array.from({ length: 1000 }, (_, n) => `${n}`),
    );
    const used = /^used_memory:(\d+)/mu.exec(await redisCommand('INFO', 'memory'))?.[1];
    await redisCommand('CONFIG', 'SET', 'maxmemory', `${Math.round(Number(used) * 1.15)}`);
    const lines = (await lookAtRedis(world.config)).filter(({ state }) => state !== 'ok');
    expect(lines.map(({ state, what }) => [state, what])).toEqual([
      ['fix', expect.stringMatching(/^\d+ of \d+ MiB are used: when it is full/u)],
      ['fix', expect.stringMatching(/^1000 requests wait for a verdict/u)],
    ]);
    for (const { todo } of lines) expect(todo).toMatch(/maxmemory|work intake/u);
  } finally {
    await redisCommand('CONFIG', 'SET', 'maxmemory', '1gb');
    await redisCommand('DEL', 'bull:requests.portal:wait');
    await running.startWork();
  }
});

describe('with the secrets that are there:', () => {
  test('without any, nothing fails, and each check says which secret it needs', async () => {
    const secrets = join(world.dir, 'no-secrets');
    mkdirSync(secrets, { mode: 0o711 });
    const config = writeVariant('no-secrets', (all) => ({ ...all, secrets }));
    const told = await lookedInTime([KEY_UNKNOWN], { config });
    expect(only('fix', told)).toEqual([]);
    expect(told.exit).toBe(0);
    const wants = only('elsewhere', told).map(
      ({ todo }) => /^The secret (\S+)/u.exec(todo ?? '')?.[1],
    );
    for (const name of [
      ...[
        'postgres-admin',
        'ldap-directory',
        'ldap-directory-reader',
        'ldap-keys-agent',
        'ldap-sssd',
      ],
      ...[
        'redis-admin',
        'ldap-reader',
        'ldap-mail-reader',
        'mariadb-databases',
        'mariadb-databases-reader',
      ],
    ]) {
      expect(wants).toContain(name);
    }
  });

  test('those of an admin’s own user: the rest is not looked at', async () => {
    const secrets = join(world.dir, 'admin-secrets');
    cpSync(world.config.secrets, secrets, { recursive: true });
    chmodSync(secrets, 0o711);
    for (const name of ['postgres-admin', 'redis-admin']) {
      chownSync(join(secrets, name), 65534, 65534);
    }
    const config = writeVariant('admin-secrets', (all) => ({ ...all, secrets }));
    // of what was stopped before
    await eventually('the roles to reach all', async () => {
      return (await query(world, 'SELECT FROM troubles')).length === 0;
    });
    const told = await doctor({ config, uid: 65534 });
    const text = told.lines.map(({ state, what }) => `${state} ${what}`).join('\n');
    expect(only('unreadable', told)).toEqual([]);
    expect(text).toMatch(/^ok these roles can log in: admin$/mu);
    expect(text).toMatch(/^ok each role has the rights/mu);
    expect(text).toMatch(/^ok homes answers$/mu);
    expect(text).toMatch(/^elsewhere secrets that this user may not read: postgres-owner/mu);
    expect(text).toMatch(/^elsewhere the directory, as directory$/mu);
    expect(text).toMatch(/^elsewhere replica, as chamberlain_databases$/mu);
    expect(text).toMatch(/^elsewhere the directory's own rules$/mu);
    expect(text).toMatch(/^elsewhere this user may not read adminKey .*$/mu);
    expect(told.exit).toBe(0);
  });

  test('a Redis that does not let the admin in is named, with what to do where the secret is, and where not', async () => {
    const none = join(world.dir, 'no-secrets-of-redis');
    const other = join(world.dir, 'another-secret-of-redis');
    for (const folder of [none, other]) mkdirSync(folder);
    writeFileSync(join(other, 'redis-admin'), REDIS_PASSWORD);
    const url = world.redis.url();
    const withPassword = url.replace('//', `//:${REDIS_PASSWORD}@`);
    for (const [config, line] of [
      [
        { secrets: other, redis: { url } },
        ['fix', /WRONGPASS/u, /`chamberlain redis-users --apply`/u],
      ],
      [{ secrets: none, redis: { url: withPassword } }, ['fix', /WRONGPASS/u, /`redis\.url`/u]],
      [{ secrets: none, redis: { url } }, ['elsewhere', /chamberlain_admin/u, /redis-admin/u]],
    ] as const) {
      const lines = await lookAtRedis({ ...world.config, ...config });
      said.push(JSON.stringify(lines));
      const [state, what, todo] = line;
      expect(lines).toEqual([
        { state, what: expect.stringMatching(what), todo: expect.stringMatching(todo) },
      ]);
    }
  });

  test('a secret that `redis-users --apply` would miss is named where the owner of Redis is', async () => {
    const portals = world.config.portals.map((each) =>
      each.name === 'portal' ? { ...each, name: 'filed' } : each,
    );
    const config = { ...world.config, portals };
    const says = async () => (await lookAtRedis(config)).map(({ what }) => what);
    const lacks = expect.stringMatching(/--apply` would fail .*: redis-portal\.filed$/u);
    expect(await says()).toContainEqual(lacks);
    const owner = join(world.config.secrets, 'redis-owner');
    renameSync(owner, `${owner}.away`);
    try {
      expect(await says()).not.toContainEqual(expect.stringMatching(/would fail/u));
    } finally {
      renameSync(`${owner}.away`, owner);
    }
  });

  test.each([
    [
      'all programs share one user',
      ['default', 'on', 'nopass', '~*', '+@all'],
      [/^its user `default` is enabled/u],
    ],
    [
      'the user that is off may not do what the append-only file says',
      ['default', 'off', '-@all'],
      [/^its user `default` lacks rights: when Redis starts, it reads its append-only file/u],
    ],
    ['a portal has no user', ['DEL', 'portal.portal'], [/^it has no user portal\.portal$/u]],
    [
      'a portal has another password',
      ['portal.portal', 'resetpass', '>another-password'],
      [/^these accounts cannot log in with their secrets on this machine: portal\.portal$/u],
    ],
    [
      'a portal may use the queues of others, and more',
      ['portal.portal', '~bull:homes:*', '+flushall'],
      [/^the user portal\.portal may also run LPUSH bull:homes:wait x, FLUSHALL$/u],
    ],
    [
      'a portal may not use its own',
      ['portal.portal', 'resetkeys', '~bull:requests.portal:*', '~bull:events.portal:*'],
      [/^the user portal\.portal may not run LPUSH bull:requests\.urgent\.portal:wait x$/u],
    ],
    [
      'a program may use more queues than its own, and not all of those',
      [
        'chamberlain_homes',
        'resetkeys',
        '~bull:homes:*',
        '~bull:homes.slow:*',
        '~bull:directory:*',
      ],
      [
        /^the user chamberlain_homes may also run LPUSH bull:directory:wait x$/u,
        /^the user chamberlain_homes may not run LPUSH bull:homes\.urgent:wait x$/u,
      ],
    ],
    [
      'somebody else may use them',
      ['monitoring', 'on', 'nopass', '~bull:*', '+@write', '-@dangerous'],
      [
        /^the user monitoring, which does not belong to Chamberlain, may run LPUSH bull:requests\.portal/u,
      ],
    ],
    [
      'a portal that was removed has a user still',
      ['portal.gone', 'on', 'nopass', '~bull:requests.gone:*', '+lpush'],
      [/^there is a user portal\.gone, but no portal needs it$/u],
    ],
  ])('where %s in Redis, it is named', async (_, [user = '', ...rules], patterns) => {
    await redisCommand('ACL', ...(user === 'DEL' ? ['DELUSER'] : ['SETUSER', user]), ...rules);
    try {
      const lines = (await lookAtRedis(world.config)).filter(({ state }) => state !== 'ok');
      expect(lines).toEqual(
        patterns.map((pattern) => ({
          state: 'fix',
          what: expect.stringMatching(pattern),
          todo: expect.stringMatching(/docs\/install\.md|ACL LOAD/u),
        })),
      );
    } finally {
      await redisCommand('ACL', 'LOAD');
    }
  });
});

test('no output of this file contains a secret', () => {
  const text = said.join('\n');
  expect(text.length).toBeGreaterThan(50_000);
  const secrets = readdirSync(world.config.secrets).map((name) =>
    readFileSync(join(world.config.secrets, name), 'utf8').trim(),
  );
  expect(secrets.length).toBeGreaterThan(15);
  for (const each of [...secrets, REDIS_PASSWORD, 'not-that-of-intake', 'not-that-of-sssd']) {
    expect(text.includes(each)).toBe(false);
  }
  expect(text).not.toMatch(/\*[0-9A-F]{40}|SCRAM-SHA-256\$/u); // nor a verifier
});

/** A role on a machine whose clock is an hour ahead. */
function startLate(role: string): ChildProcess {
  const module = `const Real = Date; const ahead = 3600_000;
    globalThis.Date = class extends Real {
      constructor(...args) { super(...(args.length === 0 ? [Real.now() + ahead] : args)); }
      static now() { return Real.now() + ahead; }
    };`;
  const child = startCli(['work', role], {
    config: world.configFile,
    env: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(module)}` },
  });
  child.stdout?.resume();
  child.stderr?.resume();
  return child;
}
