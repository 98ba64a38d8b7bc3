/** A role moves to a machine of its own: two commands there, and one of an admin where the realm is. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  AS_ALICE,
  bootRealm,
  CHECK,
  GOOD,
  IMAGES,
  REALM_ADDRESS as REALM,
} from './bare-machine.ts';
import { sharedDaemon } from './daemon.ts';
import { eventually } from './patience.ts';
import { type Machine, machinesOf } from './systemd-machines.ts';

const FILES = 'files1.example.org';
const machines = machinesOf(sharedDaemon(), 'roles');

let realm: Machine;
let files: Machine;
beforeAll(async () => {
  realm = await bootRealm(machines);
  files = await machines.boot('files1', { image: IMAGES.bare, address: FILES });
});
afterAll(() => machines.removeAll());

const UNIT = 'chamberlain@homes.service';
const isActive = (machine: Machine): string => machine.start('systemctl', 'is-active', UNIT).stdout;

/** Copies files as an operator does with a disk, or with a stick. */
function carry(from: Machine, to: Machine, ...paths: string[]): void {
  const packed = from.run('sh', '-c', `tar -C / --acls -cz ${paths.join(' ')} | base64 -w0`);
  to.write('/root/carried', packed);
  to.run('sh', '-c', 'base64 -d /root/carried | tar -C / --acls -xz');
}

/** The admin's part. Returns the fingerprint of the answer, which is on the new machine. */
function answerRequest(from: Machine): string {
  carry(from, realm, 'root/request.json');
  const { fingerprint } = JSON.parse(realm.run('cat', '/root/request.json')) as {
    fingerprint: string;
  };
  realm.run('rm', '-f', '/root/answer');
  const command = ['join', '/root/request.json', '--fingerprint', fingerprint, '--json'];
  const said = realm.run('chamberlain', ...command, '--out', '/root/answer');
  carry(realm, from, 'root/answer');
  return (JSON.parse(said) as { answerFingerprint: string }).answerFingerprint;
}

const ask = (machine: Machine, roles: string) =>
  machine.start('chamberlain', 'setup', '--role', roles, '--request', '/root/request.json');
const takeAnswer = (machine: Machine, code: string) =>
  machine.start('chamberlain', 'setup', '--join', '/root/answer', '--fingerprint', code);
const untilGreen = () =>
  eventually('the realm', () => realm.start('chamberlain', 'doctor').status === 0);

test('what a machine must not run is refused, and so is a realm where a join request waits', () => {
  expect(ask(files, 'intake').stderr).toContain('intake stays on the machine of the realm');
  expect(ask(files, 'homes')).toMatchObject({ status: 0, stdout: expect.stringContaining(FILES) });
  expect(files.start('chamberlain', 'setup').stderr).toContain('has a join request for homes');
  expect(ask(files, 'sweep').stderr).toContain(
    'has a join request as files1.example.org, for homes',
  );
});

test('homes moves to the machine that has joined, with its secrets and no others', () => {
  const code = answerRequest(files);
  expect(isActive(realm)).toBe('inactive\n');
  expect(realm.run(...CHECK)).toBe(GOOD);
  expect(takeAnswer(files, code).stderr).toContain('mount the homes and their archives');
  carry(realm, files, 'data/project', 'home', 'srv/chamberlain/homes');
  expect(takeAnswer(files, '0000-0000-0000-0000').stderr).toContain(
    'not the one that you have given',
  );
  const { status, stdout } = takeAnswer(files, code);
  expect([status, stdout]).toEqual([0, expect.stringMatching(/^Runs here: homes\.$/mu)]);
  expect(files.run('ls', '/etc/chamberlain/secrets')).toBe(
    'postgres-homes\npostgres-homes_reader\nredis-homes\n',
  );
  expect(isActive(files)).toBe('active\n');
  expect(files.run(...CHECK)).toBe(GOOD);
  expect(files.run('chamberlain', 'setup')).toMatch(/^nothing was to be done\n/u);
  expect(realm.run('chamberlain', 'host', 'list')).toMatch(/^files1\.example\.org +homes +yes/mu);
});

test('a tool that is created on the machine of the realm gets its home there', async () => {
  await untilGreen();
  const request = `tool.create --name bot --title T ${AS_ALICE} --wait`;
  realm.run('sh', '-c', `chamberlain submit ${request}`);
  await eventually('its home', () => files.start('test', '-d', '/data/project/bot').status === 0);
  expect(files.run('stat', '-c', '%u %a', '/data/project/bot')).toBe('50001 2775\n');
  expect(realm.start('test', '-e', '/data/project/bot').status).not.toBe(0);
});

test('both machines start again, and the role still runs in one place', async () => {
  for (const machine of [realm, files]) await machine.restart();
  await untilGreen();
  expect([isActive(realm), isActive(files)]).toEqual(['inactive\n', 'active\n']);
  expect(realm.run(...CHECK)).toBe(GOOD);
});

/** What a client on a machine of roles says, in the folder of its secrets. */
const PSQL = (user: string, sql: string) =>
  `PGPASSWORD=$(cat postgres-${user}) psql -XAtc '${sql}' "host=${REALM} port=5470 dbname=chamberlain
    user=chamberlain_${user} sslmode=verify-full sslrootcert=$TLS/ca-postgres.pem"`;
const AS_DIRECTORY = `-x -H ldaps://${REALM} -D cn=directory,ou=chamberlain,dc=example,dc=org -y ldap-directory`;
const MARIADB = (sql: string) =>
  `MYSQL_PWD=$(cat mariadb-databases) mariadb --no-defaults -h ${REALM} --ssl-ca=$TLS/ca-mariadb-toolsdb.pem \
    --ssl-verify-server-cert -u chamberlain_databases -e '${sql}'`;
const inSecrets = (machine: Machine, command: string): number | null =>
  machine.start(
    'sh',
    '-c',
    `export TLS=/etc/chamberlain/tls LDAPTLS_CACERT=/etc/chamberlain/tls/ca-ldap.pem
     cd /etc/chamberlain/secrets && ${command}`,
  ).status;

/** Leaves a command running that ends only if the server ends its session. Returns whether that has happened. */
async function hold(machine: Machine, name: string, command: string): Promise<() => boolean> {
  const file = `/root/held-${name}`;
  inSecrets(machine, `{ (${command}) >${file} 2>&1; echo THE-END >>${file}; } >/dev/null 2>&1 &`);
  const client = { postgres: 'psql', directory: 'ldapsearch', mariadb: 'mariadb' }[name] ?? '';
  const sockets = `for pid in $(pidof ${client}); do ls -l /proc/$pid/fd; done`;
  await eventually('a session', () => machine.run('sh', '-c', sockets).includes('socket:'));
  expect(machine.run('cat', file)).not.toContain('THE-END');
  return () => machine.run('cat', file).includes('THE-END');
}

test('a machine that is removed knows nothing of worth, also where it is connected', async () => {
  const logins = [PSQL('homes', 'SELECT 1'), PSQL('homes_reader', 'SELECT 1')];
  expect(logins.map((login) => inSecrets(files, login))).toEqual([0, 0]);
  const hasEnded = await hold(files, 'postgres', PSQL('homes', 'SELECT pg_sleep(999)'));
  realm.run('chamberlain', 'host', 'remove', FILES, '--yes');
  await eventually('the end of the session', hasEnded);
  expect(logins.map((login) => inSecrets(files, login))).toEqual([2, 2]);
  const clients = `REDISCLI_AUTH=$(cat /etc/chamberlain/secrets/redis-owner) redis-cli \
      -s /run/chamberlain-redis/redis.sock --user chamberlain_owner CLIENT LIST`;
  expect(realm.run('sh', '-c', clients)).not.toContain('user=chamberlain_homes');
  expect(realm.run('chamberlain', 'host', 'list')).toBe('no host has joined\n');
  expect(realm.run('cat', '/etc/chamberlain/config.yaml')).not.toContain('machines');
});

test('setup then runs the role on the machine of the realm again', async () => {
  files.run('systemctl', 'disable', '--now', UNIT);
  carry(files, realm, 'data/project', 'home', 'srv/chamberlain/homes');
  expect(realm.start(...CHECK).stdout).toContain(`the service ${UNIT}`);
  expect(realm.start('chamberlain', 'setup').status).toBe(0);
  await untilGreen();
  expect(isActive(realm)).toBe('active\n');
  expect(realm.run(...CHECK)).toBe(GOOD);
});

describe('the other roles', () => {
  const NAME = 'roles1.example.org';
  const ROLES = ['directory', 'databases', 'sweep'];
  let roles: Machine;
  beforeAll(async () => {
    roles = await machines.boot('roles1', { image: IMAGES.bare, address: NAME });
  });

  test('move in the same way', async () => {
    expect(ask(roles, ROLES.join(','))).toMatchObject({ status: 0 });
    const { status, stdout } = takeAnswer(roles, answerRequest(roles));
    expect([status, stdout]).toEqual([
      0,
      expect.stringContaining('Runs here: directory and databases and sweep.'),
    ]);
    expect(roles.run(...CHECK)).toBe(GOOD);
    await untilGreen();
    const units = ROLES.map((role) => `chamberlain@${role}.service`);
    const states = (machine: Machine) => machine.start('systemctl', 'is-active', ...units).stdout;
    expect([states(realm), states(roles)]).toEqual(['inactive\n'.repeat(3), 'active\n'.repeat(3)]);
    const request = `tool.create --name cat --title T ${AS_ALICE} --wait`;
    realm.run('sh', '-c', `chamberlain submit ${request}`);
    const socket = '--socket=/run/chamberlain-mariadb/toolsdb/mariadb.sock';
    const account = ['-Ne', "SELECT count(*) FROM mysql.global_priv WHERE User = 's50002'"];
    const count = () => realm.run('mariadb', '--no-defaults', '--skip-ssl', socket, ...account);
    await eventually('its account', () => count() === '1\n');
  });

  test('are ended in the same way, also what is open in the directory and in MariaDB', async () => {
    const logins = [
      ...[PSQL('directory', 'SELECT 1'), `ldapwhoami ${AS_DIRECTORY}`, MARIADB('SELECT 1')],
    ];
    expect(logins.map((login) => inSecrets(roles, login))).toEqual([0, 0, 0]);
    const held = [
      await hold(roles, 'directory', `ldapsearch ${AS_DIRECTORY} -b dc=example,dc=org -E sync=rp`),
      await hold(roles, 'mariadb', MARIADB('SELECT SLEEP(999)')),
    ];
    const said = realm.run('chamberlain', 'host', 'remove', NAME, '--yes');
    expect(said).toContain('Replace it: chamberlain secret rotate seal-key');
    for (const hasEnded of held) await eventually('the end of the session', hasEnded);
    expect(logins.map((login) => inSecrets(roles, login))).toEqual([2, 49, 1]);
    roles.run('systemctl', 'disable', '--now', ...ROLES.map((role) => `chamberlain@${role}`));
    expect(realm.start('chamberlain', 'setup').status).toBe(0);
    await untilGreen();
    expect(realm.run(...CHECK)).toBe(GOOD);
  });
});
