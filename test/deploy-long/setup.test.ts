/** `chamberlain setup`, on machines with systemd that have the Debian package and nothing of a realm. */
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  ANSWERS,
  bootBare,
  bootNamed,
  CHECK,
  GOOD,
  GREEN,
  REALM_ADDRESS as HOST,
  SETUP,
} from './bare-machine.ts';
import { sharedDaemon } from './daemon.ts';
import { type Machine, machinesOf } from './systemd-machines.ts';

const machines = machinesOf(sharedDaemon(), 'setup');
afterAll(() => machines.removeAll());

/** The files that a program of the caller's own leaves, or the running of a machine. */
const OWN =
  /^\/(root|tmp|run|var\/cache|var\/log|var\/lib\/systemd|etc\/machine-id|var\/tmp)(\/|$)/u;
const changesOf = (machine: Machine): string[] =>
  machine.changed().filter((path) => !OWN.test(path));

describe('on a bare machine', () => {
  let machine: Machine;
  beforeAll(async () => void (machine = await bootBare(machines, 'bare')));
  afterAll(() => machine?.remove());

  test('it refuses, without a terminal, what it does not know, and names it', () => {
    const { status, stderr } = machine.start('chamberlain', 'setup');
    expect([status, stderr]).toEqual([
      2,
      expect.stringMatching(/^USAGE: setup does not know realm, base, admin\.name, /u),
    ]);
    machine.write('/root/wrong.yaml', ANSWERS.replace('alice\n', 'root\n'));
    const wrong = machine.start('chamberlain', 'setup', '--answers', '/root/wrong.yaml');
    expect([wrong.status, wrong.stderr]).toEqual([2, expect.stringContaining('admin.name: ')]);
  });

  test('--print and --check change nothing', () => {
    const before = changesOf(machine);
    const plan = machine.run(...SETUP, '--print');
    expect(plan).toMatch(/^make {2}the packages of the servers are not installed: redis-server$/mu);
    expect(plan).toMatch(/^\d+ of \d+ pieces would be made$/mu);
    expect(machine.start(...SETUP, '--check').status).toBe(3);
    expect(changesOf(machine)).toEqual(before);
  });

  test('it makes a realm, and doctor finds nothing to correct', () => {
    const begun = performance.now();
    const { status, stdout, stderr } = machine.start(...SETUP);
    process.stdout.write(`setup_seconds ${((performance.now() - begun) / 1000).toFixed(0)}\n`);
    expect([status, stdout]).toEqual([0, expect.stringMatching(GREEN)]);
    expect(machine.run('chamberlain', 'list', 'people')).toContain('alice');

    const secrets = machine.run(
      'sh',
      '-c',
      'cd /etc/chamberlain/secrets; for each in *; do cat "$each"; echo; done', // few end their line
    );
    const journal = machine.run('journalctl', '--no-pager');
    for (const secret of secrets.split('\n').flatMap((line) => line.match(/[\w+/]{32,}/gu) ?? [])) {
      expect(`${stdout}${stderr}${journal}`.includes(secret)).toBe(false);
    }
  });

  test('a second run has nothing to do', () => {
    const { status, stdout } = machine.start('chamberlain', 'setup');
    expect([status, stdout]).toEqual([0, expect.stringMatching(/^nothing was to be done\n/u)]);
    const check = machine.start(...CHECK);
    expect([check.status, check.stdout]).toEqual([0, GOOD]);
  });

  test('nothing is changed of the instances that packages bring, and none of them is started', () => {
    const theirs =
      /^\/(etc\/(ldap|mysql)|var\/lib\/(ldap|mysql|redis)|etc\/postgresql\/17\/main)\//u;
    expect(changesOf(machine).filter((path) => theirs.test(path))).toEqual([]);
    const units = ['redis-server', 'slapd', 'mariadb', 'postgresql@17-main'];
    expect(machine.start('systemctl', 'is-active', ...units).stdout).not.toMatch(/^active/mu);
    expect(machine.run('cat', '/proc/net/tcp').trim().split('\n')).toHaveLength(1);
  });

  test('what somebody has stopped or changed is found, and mended', () => {
    machine.run('systemctl', 'stop', 'chamberlain-slapd');
    machine.run('sh', '-c', 'echo >>/etc/postgresql/17/chamberlain/pg_hba.conf');
    machine.run('rm', '/etc/chamberlain/seal-key.pem');
    const { status, stdout } = machine.start(...CHECK);
    expect(status).toBe(3);
    expect(stdout).toMatch(/^the service chamberlain-slapd.service is inactive$/mu);
    expect(stdout).toMatch(/^the settings of the PostgreSQL cluster .* differ: .*pg_hba.conf /mu);
    expect(stdout).toMatch(/^the public keys .* differ: \S+seal-key.pem is missing$/mu);
    const mended = machine.start('chamberlain', 'setup');
    expect([mended.status, mended.stdout]).toEqual([0, expect.stringMatching(GREEN)]);
    expect(machine.run(...CHECK)).toBe(GOOD);
  });

  test('an empty PostgreSQL does not take the place of one whose disk is not mounted', () => {
    const data = '/var/lib/postgresql/17/chamberlain';
    machine.run('systemctl', 'stop', 'postgresql@17-chamberlain');
    machine.run('mv', data, `${data}.away`);
    const { status, stderr } = machine.start(...SETUP);
    expect([status, stderr]).toEqual([1, expect.stringContaining('shows that it had data. Mount')]);
    machine.run('mv', `${data}.away`, data);
    expect(machine.run(...SETUP)).toMatch(GREEN);
    expect(machine.run('chamberlain', 'list', 'people')).toContain('alice');
  });

  test('a portal that is added to the configuration gets its secret and its user', () => {
    const { publicKey } = generateKeyPairSync('ed25519');
    const pem = JSON.stringify(publicKey.export({ type: 'spki', format: 'pem' }));
    const portal = `{ "name": "portal", "keys": [{ "kid": "1", "publicKey": ${pem} }], "kinds": "all" }`;
    const config = machine.run('cat', '/etc/chamberlain/config.yaml');
    machine.write(
      '/etc/chamberlain/config.yaml',
      config.replace(/^portals:\n/mu, `$&  - ${portal}\n`),
    );
    const { status, stdout } = machine.start('chamberlain', 'setup');
    expect([status, stdout]).toEqual([0, expect.stringMatching(GREEN)]);
    expect(machine.run('ls', '/etc/chamberlain/secrets')).toContain('redis-portal.portal');
    expect(machine.run(...CHECK)).toBe(GOOD);
  });

  test('--uninstall stops everything and keeps data, secrets and keys; setup makes it run again', () => {
    const secrets = machine.run('sh', '-c', 'cat /etc/chamberlain/secrets/* | sha256sum');
    machine.run('chamberlain', 'setup', '--uninstall');
    const list = [
      'systemctl',
      'list-units',
      '--plain',
      '--no-legend',
      'chamberlain*',
      'postgresql@*',
    ];
    expect(machine.run(...list)).toBe('');
    expect(machine.start('chamberlain', 'setup', '--uninstall').status).toBe(0);
    const { status, stdout } = machine.start(...SETUP);
    expect([status, stdout]).toEqual([0, expect.stringMatching(GREEN)]);
    expect(machine.run('chamberlain', 'list', 'people')).toContain('alice');
    expect(machine.run('sh', '-c', 'cat /etc/chamberlain/secrets/* | sha256sum')).toBe(secrets);
  });
});

/** What another machine runs, with the file of the authority that it trusts as $1. */
const CLIENTS = {
  PostgreSQL: `PGPASSWORD=$(cat postgres-admin) psql -XAtc 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()' \
    "host=${HOST} port=5470 dbname=chamberlain user=chamberlain_admin sslmode=verify-full sslrootcert=$1"`,
  Redis: `REDISCLI_AUTH=$(cat redis-admin) redis-cli -e -h ${HOST} --tls --cacert $1 --user chamberlain_admin PING`,
  slapd: `LDAPTLS_CACERT=$1 ldapwhoami -x -H ldaps://${HOST} -w "$(cat ldap-reader)" \
    -D cn=reader,ou=chamberlain,dc=example,dc=org`,
  MariaDB: `MYSQL_PWD=$(cat mariadb-databases-reader) mariadb --no-defaults -N -h ${HOST} --ssl-ca=$1 \
    --ssl-verify-server-cert -u chamberlain_databases_reader -e "SHOW STATUS LIKE 'Ssl_cipher'"`,
};
type Server = keyof typeof CLIENTS;
const SERVERS = Object.keys(CLIENTS) as Server[];
/** What such a client says if all is well. */
const ANSWER = {
  PostgreSQL: /^t$/mu,
  Redis: /^PONG$/mu,
  slapd: /^dn:cn=reader,/mu,
  MariaDB: /TLS_/u,
};
/** Without TLS. */
const PLAIN: Record<Server, [from: string, to: string]> = {
  PostgreSQL: ['sslmode=verify-full', 'sslmode=disable'],
  Redis: ['--tls --cacert $1', ''],
  slapd: [`ldaps://${HOST}`, `ldap://${HOST}:636`],
  MariaDB: ['--ssl-verify-server-cert', '--skip-ssl'],
};

const SHOWN = `
  for server in '5470 -starttls postgres' 6379 636 '3306 -starttls mysql'; do
    openssl s_client -connect ${HOST}:$server -servername ${HOST} -CAfile /etc/chamberlain/tls/ca.pem \
      -verify_return_error </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -issuer -enddate || exit
  done`;
/** Gives each server a certificate that has 20 of 90 days left. */
const NEAR_THE_END = `
  cd /etc/chamberlain/tls
  at() { date -u -d "$1 days" +%Y%m%d%H%M%SZ; }
  for name in postgres redis openldap mysql; do
    key=$(openssl pkey -in $name.pem)
    old=$(openssl x509 -in $name.pem -CA ca.key -CAkey ca.key -not_before $(at -70) -not_after $(at +20)) &&
      printf '%s\\n' "$key" "$old" >$name.pem || exit
  done`;
/** The operator's own. */
const GIVEN = `
  cd /etc/chamberlain/tls && rm ca.key
  openssl req -x509 -noenc -newkey rsa:2048 -keyout /root/own.key -out ca.pem -subj /CN=mine -days 999 &&
    openssl req -x509 -noenc -newkey rsa:2048 -keyout key.pem -out certificate.pem -subj /CN=${HOST} -days 99 \
      -addext subjectAltName=DNS:${HOST} -addext basicConstraints=critical,CA:FALSE -CA ca.pem -CAkey /root/own.key`;

describe('that other machines reach', () => {
  let machine: Machine;
  beforeAll(async () => {
    machine = await bootNamed(machines, 'listening');
    machine.run(
      ...['openssl', 'req', '-x509', '-noenc', '-newkey', 'rsa:2048', '-subj', '/CN=another'],
      ...['-keyout', '/root/another.key', '-out', '/root/another.pem'],
    );
  });
  afterAll(() => machine?.remove());
  const ask = (command: string, ca: string) =>
    machine.start('sh', '-c', `cd /etc/chamberlain/secrets && ${command}`, 'sh', ca);
  const CA = '/etc/chamberlain/tls/ca.pem';
  const shell = (script: string): string => machine.run('sh', '-c', script);
  const mainPids = (): string =>
    shell(
      'systemctl show -p MainPID chamberlain-redis chamberlain-slapd chamberlain-mariadb@toolsdb postgresql@17-chamberlain',
    );

  test('it makes a realm, and a second run has nothing to do', () => {
    const { status, stdout } = machine.start(...SETUP);
    expect([status, stdout]).toEqual([0, expect.stringMatching(GREEN)]);
    expect(machine.run('chamberlain', 'setup')).toMatch(/^nothing was to be done\n/u);
    expect(machine.run(...CHECK)).toBe(GOOD);
    expect(machine.run('systemctl', 'is-active', 'chamberlain-certificates.timer')).toBe(
      'active\n',
    );
    expect(shell('cd /etc/chamberlain/tls; stat -c "%n %U %a" *')).toBe(
      'ca.key root 600\nca.pem root 644\nmysql.pem mysql 600\nopenldap.pem openldap 600\n' +
        'postgres.pem postgres 600\nredis.pem redis 600\n',
    );
  });

  test.each(SERVERS)(
    '%s is reached by TLS alone, and shows a certificate of the authority',
    (server) => {
      const command = CLIENTS[server];
      expect(ask(command, CA)).toMatchObject({
        ...{ status: 0, stdout: expect.stringMatching(ANSWER[server]) },
      });
      const refused = ask(command, '/root/another.pem');
      expect(refused.status).not.toBe(0);
      expect(refused.stderr + refused.stdout).toMatch(/certificate|Can't contact/iu);
      const plain = command.replace(...PLAIN[server]);
      expect(plain).not.toBe(command);
      const without = ask(`timeout 20 ${plain.replace(/^\w+=/u, 'env $&')}`, CA);
      expect(without.status).not.toBe(0);
      expect(without.stdout).not.toMatch(ANSWER[server]);
    },
  );

  test('nothing else listens', () => {
    const ports = shell('cat /proc/net/tcp /proc/net/tcp6')
      .split('\n')
      .flatMap((line) => /:([\dA-F]{4}) \d+:0000 0A /u.exec(line)?.[1] ?? []);
    expect(
      [...new Set(ports)].map((port) => Number.parseInt(port, 16)).toSorted((a, b) => a - b),
    ).toEqual([636, 3306, 5470, 6379]);
  });

  test('a certificate that nears its end is renewed by the unit, and shown, without a restart', () => {
    shell(NEAR_THE_END);
    expect(machine.start(...CHECK).stdout).toMatch(
      /^the certificates of the servers for \S+ differ: \S+ expires on 20/mu,
    );
    const [before, pids] = [shell(SHOWN), mainPids()];
    machine.run('systemctl', 'start', 'chamberlain-certificates.service');
    const shown = shell(SHOWN);
    const fingerprints = (text: string) => text.match(/Fingerprint=\S+/gu) ?? [];
    expect(new Set([...fingerprints(before), ...fingerprints(shown)]).size).toBe(8);
    expect(mainPids()).toBe(pids);
    expect(machine.run(...CHECK)).toBe(GOOD);
    expect(machine.run('chamberlain', 'doctor')).toMatch(GREEN);
    for (const server of SERVERS) expect(ask(CLIENTS[server], CA).stdout).toMatch(ANSWER[server]);
    machine.run('systemctl', 'start', 'chamberlain-certificates.service');
    expect(shell(SHOWN)).toBe(shown);
    expect(machine.run('journalctl', '--no-pager')).not.toContain('PRIVATE KEY');
  });

  test('certificates of the operator are used instead', () => {
    shell(GIVEN);
    machine.run('chamberlain', 'setup', '--renew');
    expect(shell(SHOWN).match(/issuer=CN ?= ?mine/gu)).toHaveLength(4);
    expect(machine.run('chamberlain', 'setup')).toMatch(GREEN);
    expect(machine.run(...CHECK)).toBe(GOOD);
    for (const server of SERVERS) expect(ask(CLIENTS[server], CA).stdout).toMatch(ANSWER[server]);
  });

  test('a server that was not restarted after its drop-in came or went is found, even if systemd has read its units', () => {
    const dropIns = '/etc/systemd/system/chamberlain-redis.service.d';
    shell(`touch ${dropIns}; systemctl daemon-reload`);
    const { status, stdout } = machine.start(...CHECK);
    expect([status, stdout]).toEqual([
      3,
      expect.stringContaining(`has not been restarted since ${dropIns} changed`),
    ]);
  });

  test('without the name, it listens no longer', () => {
    const config = machine.run('cat', '/etc/chamberlain/config.yaml');
    const without = config.replace(/^ +(hostsUri|caFile): .*\n/gmu, '');
    expect(without).not.toBe(config);
    machine.write('/etc/chamberlain/config.yaml', without);
    expect(machine.run('chamberlain', 'setup')).toMatch(GREEN);
    expect(shell('cat /proc/net/tcp /proc/net/tcp6')).not.toMatch(/ 0A /u);
    const timer = 'chamberlain-certificates.timer';
    expect(machine.start('systemctl', 'is-enabled', timer).stdout).toBe('disabled\n');
    expect(machine.start('systemctl', 'is-active', timer).stdout).toBe('inactive\n');
    expect(machine.run(...CHECK)).toBe(GOOD);
  });
});
