/** A role moves to a machine of its own: two commands there, and one of an admin where the realm is. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { eventually } from '../scenarios/eventually.ts';
import {
  ANSWERS,
  AS_ALICE,
  bootBare,
  buildPackages,
  HOOKS,
  INCLUDED,
  SETUP,
} from './bare-machine.ts';
import { type Docker, type Machine, startDocker } from './systemd-machines.ts';

const HOUR_MS = 3_600_000;
const REALM = 'realm.example.org';
const FILES = 'files1.example.org';
const folder = mkdtempSync(join(tmpdir(), 'chamberlain-roles-'));

let docker: Docker;
let realm: Machine;
let files: Machine;
beforeAll(async () => {
  const [, deb = ''] = buildPackages(folder);
  docker = await startDocker();
  docker.makeImage(INCLUDED, HOOKS);
  docker.install(deb);
  realm = await bootBare(docker, 'realm', REALM);
  realm.write('/root/answers.yaml', `${ANSWERS}listen: ${REALM}\n`);
  files = await docker.boot('files1', { address: FILES });
  realm.run(...SETUP);
}, HOUR_MS);
afterAll(async () => {
  await docker?.stop();
  rmSync(folder, { recursive: true });
}, HOUR_MS);

const UNIT = 'chamberlain@homes.service';
const CHECK = ['chamberlain', 'setup', '--check'];
const GOOD = 'everything is as it must be\n';
const isActive = (machine: Machine): string => machine.start('systemctl', 'is-active', UNIT).stdout;

/** Copies files as an operator does with a disk, or with a stick. */
function carry(from: Machine, to: Machine, ...paths: string[]): void {
  const packed = from.run('sh', '-c', `tar -C / --acls -cz ${paths.join(' ')} | base64 -w0`);
  to.write('/root/carried', packed);
  to.run('sh', '-c', 'base64 -d /root/carried | tar -C / --acls -xz');
}

/** The admin's part. Returns the fingerprint of the answer, which is on the new machine. */
function answerRequest(): string {
  carry(files, realm, 'root/files1.json');
  const { fingerprint } = JSON.parse(realm.run('cat', '/root/files1.json')) as {
    fingerprint: string;
  };
  realm.run('rm', '-f', '/root/files1.join');
  const command = ['join', '/root/files1.json', '--fingerprint', fingerprint, '--json'];
  const said = realm.run('chamberlain', ...command, '--out', '/root/files1.join');
  carry(realm, files, 'root/files1.join');
  return (JSON.parse(said) as { answerFingerprint: string }).answerFingerprint;
}

const takeAnswer = (code: string) =>
  files.start('chamberlain', 'setup', '--join', '/root/files1.join', '--fingerprint', code);

test('what a machine must not run is refused, and so is a realm where a join request waits', () => {
  const ask = (roles: string) =>
    files.start('chamberlain', 'setup', '--role', roles, '--request', '/root/files1.json');
  expect(ask('intake').stderr).toContain('intake stays on the machine of the realm');
  expect(ask('homes')).toMatchObject({ status: 0, stdout: expect.stringContaining(FILES) });
  expect(files.start('chamberlain', 'setup').stderr).toContain('has a join request for homes');
  expect(ask('sweep').stderr).toContain('has a join request as files1.example.org, for homes');
});

test(
  'homes moves to the machine that has joined, with its secrets and no others',
  () => {
    const code = answerRequest();
    expect(isActive(realm)).toBe('inactive\n');
    expect(realm.run(...CHECK)).toBe(GOOD);
    expect(takeAnswer(code).stderr).toContain('mount the homes and their archives');
    carry(realm, files, 'data/project', 'home', 'srv/chamberlain/homes');
    expect(takeAnswer('0000-0000-0000-0000').stderr).toContain('not the one that you have given');
    const { status, stdout } = takeAnswer(code);
    expect([status, stdout]).toEqual([0, expect.stringMatching(/^homes runs here\.$/mu)]);
    expect(files.run('ls', '/etc/chamberlain/secrets')).toBe(
      'postgres-homes\npostgres-homes_reader\nredis-homes\n',
    );
    expect(isActive(files)).toBe('active\n');
    expect(files.run(...CHECK)).toBe(GOOD);
    expect(files.run('chamberlain', 'setup')).toMatch(/^nothing was to be done\n/u);
    expect(realm.run('chamberlain', 'host', 'list')).toMatch(/^files1\.example\.org +homes +yes/mu);
  },
  HOUR_MS,
);

test('a tool that is created on the machine of the realm gets its home there', async () => {
  await eventually('the realm', () => realm.start('chamberlain', 'doctor').status === 0);
  const request = `tool.create --name bot --title T ${AS_ALICE} --wait`;
  realm.run('sh', '-c', `chamberlain submit ${request}`);
  await eventually('its home', () => files.start('test', '-d', '/data/project/bot').status === 0);
  expect(files.run('stat', '-c', '%u %a', '/data/project/bot')).toBe('50001 2775\n');
  expect(realm.start('test', '-e', '/data/project/bot').status).not.toBe(0);
});

test('both machines start again, and the role still runs in one place', async () => {
  for (const machine of [realm, files]) await machine.restart();
  await eventually('the realm', () => realm.start('chamberlain', 'doctor').status === 0);
  expect([isActive(realm), isActive(files)]).toEqual(['inactive\n', 'active\n']);
  expect(realm.run(...CHECK)).toBe(GOOD);
});

/** On the machine of the role: what it knows lets it in. */
const LOGINS = [
  `PGPASSWORD=$(cat postgres-homes) psql -XAtc 'SELECT 1' \
    "host=${REALM} port=5470 dbname=chamberlain user=chamberlain_homes sslmode=verify-full sslrootcert=$CA"`,
  `PGPASSWORD=$(cat postgres-homes_reader) psql -XAtc 'SELECT 1' \
    "host=${REALM} port=5470 dbname=chamberlain user=chamberlain_homes_reader sslmode=verify-full sslrootcert=$CA"`,
];
const logIn = (command: string): number | null =>
  files.start(
    'sh',
    '-c',
    `CA=/etc/chamberlain/tls/ca-postgres.pem; cd /etc/chamberlain/secrets && ${command}`,
  ).status;

test(
  'a machine that is removed knows nothing of worth, also where it is connected',
  async () => {
    expect(LOGINS.map(logIn)).toEqual([0, 0]);
    const held = LOGINS[0]?.replace('SELECT 1', 'SELECT pg_sleep(999)') ?? '';
    logIn(`(${held} >/root/held 2>&1; echo ended >>/root/held) >/dev/null 2>&1 &`);
    const sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep.999'";
    const sleepers = () =>
      realm.run(
        ...['runuser', '-u', 'postgres', '--', 'psql', '-XAt', '-h', '/run/postgresql'],
        ...['-p', '5470', '-c', `${sleeping} AND pid <> pg_backend_pid()`],
      );
    await eventually('a session', () => sleepers() === '1\n');

    realm.run('chamberlain', 'host', 'remove', FILES, '--yes');
    expect(sleepers()).toBe('0\n');
    await eventually('its end there', () => files.run('cat', '/root/held').includes('ended'));
    expect(LOGINS.map(logIn)).toEqual([2, 2]);
    const clients = `REDISCLI_AUTH=$(cat /etc/chamberlain/secrets/redis-owner) redis-cli \
      -s /run/chamberlain-redis/redis.sock --user chamberlain_owner CLIENT LIST`;
    expect(realm.run('sh', '-c', clients)).not.toContain('user=chamberlain_homes');
    expect(realm.run('chamberlain', 'host', 'list')).toBe('no host has joined\n');
    expect(realm.run('cat', '/etc/chamberlain/config.yaml')).not.toContain('machines');
  },
  HOUR_MS,
);

test(
  'setup then runs the role on the machine of the realm again',
  async () => {
    files.run('systemctl', 'disable', '--now', UNIT);
    carry(files, realm, 'data/project', 'home', 'srv/chamberlain/homes');
    expect(realm.start(...CHECK).stdout).toContain(`the service ${UNIT}`);
    expect(realm.start('chamberlain', 'setup').status).toBe(0);
    await eventually('the realm', () => realm.start('chamberlain', 'doctor').status === 0);
    expect(isActive(realm)).toBe('active\n');
    expect(realm.run(...CHECK)).toBe(GOOD);
  },
  HOUR_MS,
);
