/**
 * The blocks of commands in the pages, run as they stand on real servers: each must do what its page says. What a
 * reader puts in is put in: words in capitals, and where the servers of the test are. test/docs.test.ts lists all blocks.
 */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openBareHost } from '../../dev/servers/login-host.ts';
import { postgresServer, type PostgresServer } from '../../dev/servers/postgres.ts';
import type { Machine } from '../../dev/servers/private-machine.ts';
import { postgresProgram } from '../../src/backup/postgres-programs.ts';
import { runCli, type Ended } from '../cli/run-cli.ts';
import { blockOf } from '../page-blocks.ts';
import { makeTemporaryFolder } from '../shared-servers.ts';
import { asSuperuser, startServer, stopServer, type World } from '../stack.ts';
import { eventually } from './eventually.ts';
import { addUnmanagedEntry, query } from './outside.ts';
import { admit, openRunning, type Running } from './running.ts';

const PROJECT = join(import.meta.dirname, '../..');
const run = promisify(execFile);

let running: Running;
let world: World;

beforeAll(async () => {
  running = await openRunning('pages', { looksMs: 500 });
  ({ world } = running);
});

afterAll(async () => {
  await running?.close();
});

const linesOf = (name: string): string[] => blockOf(name).trim().split('\n');

/** Runs a line as a shell would, but that `chamberlain` is run in this process. */
async function say(line: string): Promise<Ended> {
  const script = `chamberlain() { printf '%s\\0' "$@"; }\n${line}`;
  const { stdout } = await run('bash', ['-c', script]);
  return runCli(stdout.split('\0').slice(0, -1), { config: world.configFile });
}

/** Those that only look may find something, or be answered late on a busy machine. */
const LOOKS = /^chamberlain (doctor|status|survey|plan|list|sweep|explain|adopt .*--check)\b/u;

/** Those that are refused, for a reason that a realm of today gives them. */
const REFUSED: [command: string, err: RegExp][] = [
  // an archive comes only after the grace time
  ['chamberlain restore ', /^TOOL_NOT_DELETED: /u],
  ['chamberlain audit close ', /^AUDIT_NOT_CLOSABLE: .* no row /u],
];

async function mustSay(line: string): Promise<Ended> {
  const ended = await say(line);
  const [, refusal] = REFUSED.find(([command]) => line.startsWith(command)) ?? [];
  const isRun =
    refusal?.test(ended.err) ??
    (ended.exit === 0 || (LOOKS.test(line) && [3, 4].includes(ended.exit ?? 1)));
  if (!isRun) throw new Error(`${line} ended with ${ended.exit}: ${ended.err}${ended.out}`);
  return ended;
}

/** Runs a block in bash, as it stands; it fails where one of its commands does. */
async function bash(script: string, env: Record<string, string> = {}): Promise<string> {
  const { stdout } = await run('bash', ['-eo', 'pipefail', '-c', script], {
    ...{ cwd: world.dir, env: { ...process.env, ...env } },
  });
  return stdout;
}

describe('docs/operations.md', () => {
  beforeAll(async () => {
    const { portal } = running;
    await admit(portal, 'alice', 'dave');
    for (const shellName of ['carol', 'erin']) {
      await portal.get({
        ...{ kind: 'person.create', requestedBy: shellName, shellName },
        ...{ displayName: `The ${shellName}`, email: `${shellName}@example.org` },
      });
      await portal.ask({ kind: 'access.request', requestedBy: shellName, reason: 'To help' });
    }
    const tools: [string, string][] = [
      ...['bridgebot', 'oldbot', 'olderbot'].map((name): [string, string] => [name, 'alice']),
      ['lonelybot', 'dave'],
    ];
    for (const [name, requestedBy] of tools) {
      await portal.get({ kind: 'tool.create', requestedBy, name, title: `The ${name}` });
    }
  });

  test('an admin’s day', async () => {
    const asked = await running.portal.ask({
      ...{ kind: 'person.delete', requestedBy: 'erin', person: 'erin' },
    });
    for (const line of linesOf('operations:day')) {
      if (line.includes('--orphaned')) {
        // the calendar finds it within a second
        await eventually('the orphan', async () =>
          (await mustSay(line)).out.includes('tools.lonelybot'),
        );
        continue;
      }
      await mustSay(line.replace(/\bID\b/u, asked.id));
    }
    expect(
      await query(
        world,
        `SELECT shell_name, state FROM people WHERE shell_name IN ('dave', 'erin')`,
      ),
    ).toEqual([
      { shell_name: 'dave', state: 'suspended' },
      { shell_name: 'erin', state: 'suspended' },
    ]);
    expect((await say('chamberlain status --orphaned')).out).toBe('no tool is orphaned\n');
  });

  test('looking and repairing', async () => {
    const { out } = await say('chamberlain audit verify --json');
    const { head } = JSON.parse(out) as { head: string };
    for (const line of linesOf('operations:look')) {
      const put = line
        .replace(/\bHASH\b/u, head)
        .replace('/srv/audit', world.dir)
        // nobody can be asked here
        .replace(/^chamberlain repair /u, '$&--yes ');
      await mustSay(put);
    }
  });

  test('what is unmanaged', async () => {
    const { last: number } = world.config.ids.people[0] as { last: number };
    await addUnmanagedEntry(
      world,
      [
        'dn: uid=frank,ou=people,dc=example,dc=org',
        ...['person', 'inetOrgPerson', 'posixAccount'].map((each) => `objectClass: ${each}`),
        ...['uid', 'cn', 'sn'].map((each) => `${each}: frank`),
        ...[`uidNumber: ${number}`, 'gidNumber: 500', 'homeDirectory: /home/frank'],
        ...['mail: frank@example.org', 'loginShell: /bin/bash', ''],
      ].join('\n'),
    );
    mkdirSync(join(world.dataRoot, 'home/shared'));
    await eventually('both to be listed', async () => {
      const { out } = await say('chamberlain list unmanaged');
      return out.includes('uid=frank') && out.includes('/home/shared');
    });
    for (const line of linesOf('operations:unmanaged')) await mustSay(line);
    const { out } = await say('chamberlain list unmanaged');
    expect(out).toContain('the shared scratch space');
  });
});

test('docs/portals.md: the sample sends a request, and prints its verdict', async () => {
  for (const name of ['bullmq', 'jose']) {
    mkdirSync(join(world.dir, 'portal/node_modules'), { recursive: true });
    symlinkSync(join(PROJECT, 'node_modules', name), join(world.dir, 'portal/node_modules', name));
  }
  writeFileSync(join(world.dir, 'portal/send.mjs'), blockOf('portal:send'));
  const { stdout } = await run(process.execPath, [join(world.dir, 'portal/send.mjs')], {
    env: { REDIS_URL: world.redis.urlOf('portal.portal'), PORTAL_KEY: world.portalKey },
  });
  expect(stdout).toBe("{ verdict: 'accepted' }\n");
});

test('docs/login-hosts.md: the statement renews all seals', async () => {
  const read = () =>
    query<{ sum: number }>(
      world,
      `SELECT sum(number)::int AS sum FROM login_seals WHERE until < 'infinity'`,
    );
  const [before] = await read();
  await query(world, blockOf('login-hosts:renew-seals'));
  const [after] = await read();
  expect(after?.sum).toBeGreaterThan(before?.sum ?? Infinity);
});

test('docs/install.md: nothing is left of a portal that was removed', async () => {
  const { host, port, database } = world.config.postgres;
  const bin = join(world.dir, 'bin');
  const [queue, urgent] = ['bull:requests.bridge:meta', 'bull:requests.urgent.bridge:meta'];
  mkdirSync(bin);
  const address = new URL(world.redis.url());
  writeFileSync(
    join(bin, 'redis-cli'),
    `#!/bin/sh\nexec /usr/bin/redis-cli -p ${address.port} "$@"\n`,
    { mode: 0o755 },
  );
  await query(world, `INSERT INTO events (portal, seq, event) VALUES ('bridge', 1, 'tool.ready')`);
  const secret = (name: string) => readFileSync(join(world.config.secrets, name), 'utf8').trim();
  const env = { PATH: `${bin}:${process.env['PATH'] ?? ''}`, PGPORT: String(port) };
  const owner = { ...env, REDISCLI_AUTH: secret('redis-owner') };
  const ofOther = 'bull:requests.irc.bridge:meta';
  for (const each of [queue, urgent, ofOther]) {
    await bash(`redis-cli --user chamberlain_owner HSET ${each} version 1`, owner);
  }
  const block = blockOf('install:portal-gone')
    .replaceAll('/etc/chamberlain/secrets', world.config.secrets)
    .replace('-h /run/postgresql', `-h ${host}`)
    .replace('-d chamberlain', `-d ${database}`);
  expect(await bash(block, env)).toBe('DELETE 1\n2\n');
  const left = `redis-cli --user chamberlain_owner EXISTS ${queue} ${urgent} ${ofOther}`;
  expect(await bash(left, owner)).toBe('1\n');
});

test('docs/backups.md: a key', async () => {
  await bash(blockOf('backups:key'));
  expect(readFileSync(join(world.dir, 'backup-alice.txt'), 'utf8')).toMatch(/^AGE-SECRET-KEY-/mu);
});

test('README: a stack of its own', async () => {
  const stack = join(world.dir, 'stack');
  const script = blockOf('readme:stack').replace('work.log', join(world.dir, 'work.log'));
  const { stdout } = await run('bash', ['-ec', script], {
    ...{ cwd: PROJECT, env: { ...process.env, CHAMBERLAIN_STACK_DIR: stack } },
  });
  expect(stdout).toMatch(/^tools\.bridgebot {2}tool \d+, active$/mu);
});

describe('docs/install.md, on a machine of its own:', () => {
  const SECRETS = '/etc/chamberlain/secrets';
  // of several versions of PostgreSQL, the one of the server
  const PATH = `${dirname(postgresProgram('postgres'))}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
  let folder: string;
  let server: PostgresServer;
  let machine: Machine;
  /** the public halves that the step `keys` has printed */
  let publicKeys: string[] = [];

  beforeAll(async () => {
    folder = makeTemporaryFolder();
    server = postgresServer(join(folder, 'postgres'));
    await startServer(server);
    machine = await openBareHost([
      { from: server.host, at: '/run/postgresql' },
      { from: dirname(world.tools.socket), at: '/run/mariadb' },
    ]);
    await sh(`ln -sf /opt/chamberlain/deploy/chamberlain /usr/local/bin/chamberlain
      mkdir -p /run/mysqld ${SECRETS} && install -d -o openldap /run/slapd && rm -f /var/log/redis/*
      ln -s /run/mariadb/mariadb.sock /run/mysqld/mysqld.sock`);
    // sssd is installed for other tests, and useradd would wake it
    await sh('rm -f /usr/sbin/sss_cache');
    // systemd does not run here: what it is to start the tests start
    await sh(`echo '#!/bin/sh' >/usr/local/bin/systemctl && chmod +x /usr/local/bin/systemctl`);
    // the database server is one of the shared ones: our accounts keep their passwords
    for (const name of ['mariadb-databases', 'mariadb-databases-reader']) {
      copyFileSync(join(world.config.secrets, name), join(machine.root, SECRETS, name));
    }
  }, 60_000);
  afterAll(async () => {
    await machine?.close();
    await stopServer(server);
    rmSync(folder, { recursive: true, force: true });
  });

  const ask = (sql: string) => asSuperuser(server, 'chamberlain', (client) => client.query(sql));

  /** Fails where a command does, or complains. */
  async function sh(script: string): Promise<string> {
    const { code, stdout, stderr } = await machine.run(
      ['/bin/bash', '-eo', 'pipefail', '-c', script],
      {
        env: {
          PATH,
        },
      },
    );
    // psql goes on after an error, and ends well
    if (code !== 0 || /error|denied|no such|not found/iu.test(stderr)) {
      throw new Error(`${script}\nended with ${code}: ${stderr}${stdout}`);
    }
    return stdout;
  }

  test('users, secrets and keys', async () => {
    await sh(blockOf('real:users'));
    await sh(blockOf('real:secrets'));
    publicKeys =
      (await sh(blockOf('real:keys'))).match(/(?<=KEY-----\n)[^-\n]+(?=\n-----END)/gu) ?? [];
    expect(publicKeys).toHaveLength(2);
    // each role may read its own, and no other
    await sh(`runuser -u chamberlain-relay -- cat ${SECRETS}/{postgres-relay,redis-portals,redis-portal.portal,events-key} >/dev/null
      ! runuser -u chamberlain-relay -- cat ${SECRETS}/seal-key 2>/dev/null`);
  });

  test('the configuration', () => {
    let text = blockOf('real:config');
    for (const key of publicKeys) text = text.replace('(what openssl printed)', key);
    writeFileSync(join(machine.root, 'etc/chamberlain/config.yaml'), text, { mode: 0o644 });
  });

  test('PostgreSQL', async () => {
    expect(await sh(blockOf('real:postgres'))).toContain('0001_');
  });

  test('Redis', async () => {
    await sh(blockOf('real:redis') + blockOf('install:redis-restart'));
    await sh(`runuser -u redis -- redis-server /etc/redis/redis.conf --logfile '' --port 0 --unixsocket /tmp/redis.sock --daemonize yes
      for _ in $(seq 100); do [ -S /tmp/redis.sock ] && break; sleep 0.05; done`);
    const load = 'redis-cli -s /tmp/redis.sock --user chamberlain_owner ACL LOAD';
    expect(await sh(`REDISCLI_AUTH=$(cat ${SECRETS}/redis-owner) ${load}`)).toBe('OK\n');
  });

  test('the directory', async () => {
    await sh(`install -d /etc/ldap/slapd.d /var/lib/ldap\n${blockOf('recovery:slapd')}`);
    await sh(blockOf('real:ldap') + blockOf('install:slapd-start'));
    expect(await sh('cat /etc/default/slapd')).toContain(
      '\nSLAPD_SERVICES="ldapi:/// ldaps:///"\n',
    );
    await sh('slapd -h ldapi:/// -u openldap -g openldap -F /etc/ldap/slapd.d');
    const dn = 'cn=keys-agent,ou=chamberlain,dc=example,dc=org';
    const who = `ldapwhoami -H ldapi:/// -x -D ${dn} -y ${SECRETS}/ldap-keys-agent`;
    expect(await sh(who)).toBe(`dn:${dn}\n`);
  });

  test('the rules of the directory, once more', async () => {
    // slapd shows the attributes of an entry in another order after a change
    const rules = () =>
      sh('ldapsearch -LLL -Q -Y EXTERNAL -H ldapi:/// -b cn=config -o ldif-wrap=no | sort');
    const before = await rules();
    await sh(`ldapmodify -Q -Y EXTERNAL -H ldapi:/// <<'END'
dn: olcOverlay={3}constraint,olcDatabase={1}mdb,cn=config
changetype: modify
replace: olcConstraintAttribute
olcConstraintAttribute: uidNumber regex ^1$

dn: olcDatabase={1}mdb,cn=config
changetype: modify
replace: olcAccess
olcAccess: to * by * none
END`);
    expect(await rules()).not.toBe(before);
    await sh(blockOf('real:ldap-again'));
    expect(await rules()).toBe(before);
  });

  test('MariaDB', async () => {
    await sh(blockOf('real:mariadb'));
    await sh(
      // not as an argument: another suite looks for our secrets in the command lines of the machine
      `MYSQL_PWD=$(cat ${SECRETS}/mariadb-databases) mariadb --user=chamberlain_databases -e 'SELECT 1'`,
    );
  });

  test('the file server and the first admin', async () => {
    await sh(blockOf('real:prepare'));
    await sh(blockOf('real:found'));
    const people = await ask('SELECT shell_name, email FROM people');
    expect(people.rows).toEqual([{ shell_name: 'alice', email: 'alice@example.org' }]);
  });

  test('and an upgrade, but for the new clone', async () => {
    const script = blockOf('operations:upgrade')
      .replace(/^npm .*$/mu, '')
      .replace(/^cd .*$/mu, 'cd /opt/chamberlain')
      // it is of both kinds here
      .replace(/^mariadb <.*replica.*$/mu, '')
      .replace(
        /^chamberlain (redis-users --apply)$/mu,
        `sed -E 's#rediss?://[^, }]*#unix:///tmp/redis.sock#' /etc/chamberlain/config.yaml >/tmp/redis.yaml
        chamberlain --config /tmp/redis.yaml $1`,
      )
      // there is something to do: no worker runs
      .replace(/^chamberlain doctor.*$/mu, 'chamberlain doctor >/dev/null || [ $? -ge 3 ]');
    expect(script).toContain('pg_dump');
    const said = await sh(script);
    expect(said).toMatch(/^up to date\nnothing was to be done$/mu);
    expect(said.trim().split('\n').at(-1)).toMatch(/^Thawed/u);
  });

  test('docs/backups.md, docs/recovery.md: what was written after the base comes back by the log', async () => {
    const hba = 'local replication chamberlain_wal scram-sha-256\n';
    writeFileSync(join(server.folder, 'pg_hba.conf'), hba, { flag: 'a' });
    await sh(`runuser -u postgres -- psql -q >/dev/null <<'END'\n${blockOf('backups:wal-server')}END
      (umask 077 && echo '*:*:*:chamberlain_wal:…' >/root/.pgpass)`);
    const [create, make, receive, base, ...removes] = linesOf('backups:wal-receiver');
    const db = "db='host=/run/postgresql user=chamberlain_wal'";
    await sh([db, create, make].join('\n'));
    const receiver = machine.daemon({
      name: 'pg_receivewal',
      command: () => ['/bin/bash', '-c', `PATH=${PATH}; ${db}; exec ${receive}`],
      async answers() {
        const { rows } = await ask('SELECT FROM pg_replication_slots WHERE active');
        return rows.length === 1;
      },
    });
    await receiver.start();
    await sh([db, base].join('\n'));
    await ask('CREATE TABLE kept ()');
    await eventually('the log to be received', async () => {
      const { rows } = await ask(
        'SELECT FROM pg_stat_replication WHERE flush_lsn >= pg_current_wal_lsn()',
      );
      return rows.length === 1;
    });
    await receiver.stop();
    await sh(removes.join('\n'));

    const data = '/var/lib/postgresql/17/main';
    const settings =
      "-c max_connections=800 -c unix_socket_directories=/tmp -c listen_addresses=''";
    const log = '/var/lib/postgresql/log';
    const script = blockOf('restore:log')
      .replace(/^mv /mu, `install -d ${data}; mv `)
      .replace(/(?<=base\/)[\d-]+/u, '*')
      .replace(
        /^systemctl start .*$/mu,
        `runuser -u postgres -- ${postgresProgram('pg_ctl')} -D ${data} -l ${log} -o "${settings}" -w start >/dev/null`,
      );
    await sh(script);
    await eventually('the log to be replayed', async () => {
      const text = await sh(`cat ${log}`);
      return text.includes('archive recovery complete');
    });
    const found = `runuser -u postgres -- psql -qtA -h /tmp -d chamberlain -c "SELECT 'kept'::regclass"`;
    expect(await sh(found)).toBe('kept\n');
  });

  test('docs/login-hosts.md: the same machine as a login host', async () => {
    await sh(`cp ${SECRETS}/ldap-keys-agent /root && cp /etc/chamberlain/seal-key.pem /root
      cp /etc/ssl/certs/ca-certificates.crt /root/ca.pem`);
    const [, ...lines] = linesOf('login-hosts:install');
    const script = lines.filter((line) => !line.startsWith('keys-agent')).join('\n');
    await sh(`cd /opt/chamberlain\n${script}`);
    const file = readFileSync(join(machine.root, 'etc/chamberlain/login-host.yaml'), 'utf8');
    expect(file).toContain('dc=example,dc=org');
  });
});
