/** `docker compose up`: a whole realm, as somebody uses it who tries it. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openAddresses } from '../../src/doctor/listeners.ts';
import { type ComposeRealm, openCompose, TARGETS } from './compose-realm.ts';
import { sharedDaemon } from './daemon.ts';
import { CLONE } from './images.ts';
import { eventually } from './patience.ts';

const folder = mkdtempSync(join(tmpdir(), 'chamberlain-compose-'));

let realm: ComposeRealm;
beforeAll(() => void (realm = openCompose(sharedDaemon(), CLONE)));
afterAll(() => {
  realm?.down();
  rmSync(folder, { recursive: true });
});

const PROJECT = 'label=com.docker.compose.project=chamberlain';
const compose = (...words: string[]): string => realm.compose(...words);
const inside = (service: string, ...words: string[]): string =>
  compose('exec', '--no-TTY', service, ...words);
const asAdmin = (...words: string[]): string => inside('admin', 'chamberlain', ...words);

const at = (name: string): string => join(folder, name);
const keys = ['-F', 'none', '-o', 'BatchMode=yes', '-o', `UserKnownHostsFile=${at('known_hosts')}`];
/** Logs in with the key of that name. The first login takes the key of the host, the others insist on it. */
const loginAs = (person: string, command: string) =>
  realm.start(
    'ssh',
    ...[...keys, '-o', 'StrictHostKeyChecking=accept-new', '-o', 'IdentitiesOnly=yes'],
    ...['-i', at(person), '-p', '2222', `${person}@127.0.0.1`, command],
  );
/** The login host follows the directory within a second. */
function logIn(person: string, command: string): Promise<string> {
  return eventually(`a login of ${person}`, () => {
    const { status, stdout, stderr } = loginAs(person, command);
    if (status === 0) return stdout.trim();
    throw new Error(`${status} ${stdout} ${stderr}`);
  });
}

/** What a realm consists of. Only what it publishes again and again is left out. */
const EVERYTHING = `
  set -eu
  secrets=/etc/chamberlain/secrets
  cd / && find etc/chamberlain home data/project srv/chamberlain ! -path '*/.chamberlain*' -printf '%p %u %g %m %s\\n' | sort
  find etc/chamberlain home data/project -type f ! -path '*/.chamberlain*' -exec sha256sum {} + | sort
  export PGPASSWORD=$(cat $secrets/postgres-owner)
  for table in people tools realm_members maintainers ssh_keys names posix_ids credentials requests audit events; do
    psql -h /run/postgresql -p 5470 -U chamberlain -XqAt -d chamberlain -c "SELECT t FROM $table t ORDER BY t::text"
  done
  ldapsearch -LLL -o ldif-wrap=no -x -D cn=admin,dc=example,dc=org -y $secrets/ldap-admin -b dc=example,dc=org \\
    -H ldapi://%2Frun%2Fchamberlain-slapd%2Fldapi '(|(objectClass=posixAccount)(objectClass=posixGroup)(objectClass=sudoRole))'
  mariadb --no-defaults --socket=/run/chamberlain-mariadb/toolsdb/mariadb.sock -Ne \\
    'SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2; SHOW DATABASES'
`;
const everything = (): string[] => inside('admin', 'sh', '-c', EVERYTHING).split('\n');

/** Of each container but that of setup, which runs again: since when it has been running. */
function runningSince(): [service: string, since: string][] {
  const others = realm.containers().filter(({ Service }) => Service !== 'setup');
  return others.map(({ Service, ID }) => [
    Service,
    realm.docker('inspect', '--format', '{{.Id}} {{.State.StartedAt}}', ID),
  ]);
}

test('makes a realm, in which every container is healthy and doctor finds nothing to correct', async () => {
  const seconds = await realm.up();
  process.stdout.write(`compose_up_seconds ${seconds.toFixed(0)}\n`);
  expect(compose('logs', '--no-color', 'setup')).toContain('the first admin is missing');
  expect(asAdmin('doctor')).toMatch(/^0 fix, 0 unreadable, 0 not looked at, \d+ ok;/mu);
  expect(inside('login-host', 'chamberlain-login-host', '--check')).toBe('');
  expect(inside('login-host', 'keys-agent', 'status')).toMatch(/^directory +trusted$/mu);
});

test('nothing was installed at start, and a look at the pieces finds nothing that differs', () => {
  expect(compose('logs', '--no-color', 'setup')).not.toContain('the packages of the servers');
  expect(compose('run', '--rm', '--no-TTY', 'setup', 'chamberlain', 'setup', '--check')).toBe(
    'everything is as it must be\n',
  );
});

test.each(['postgresql', 'chamberlain-redis', 'chamberlain-slapd', 'chamberlain-mariadb/toolsdb'])(
  'nobody else can run a server on the same data: /run/%s is locked',
  (name) => {
    const lock = ['flock', '--nonblock', `/run/${name}`, 'true'];
    const other = ['compose', 'run', '--rm', '--no-TTY', '--no-deps', 'setup', ...lock];
    expect(realm.start('docker', ...other).status).toBe(1);
  },
);

test('the first admin logs in, and makes a person and a tool, which that person becomes', async () => {
  compose('cp', 'admin:/etc/chamberlain/keys/alice', at('alice'));
  expect(await logIn('alice', 'id -un; pwd')).toBe('alice\n/home/alice');

  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', at('bob')]);
  const key = execFileSync('cat', [`${at('bob')}.pub`], { encoding: 'utf8' }).trim();
  const submit = (kind: string, ...words: string[]): string =>
    asAdmin('submit', kind, ...words, '--wait');
  submit('person.create', '--shellName', 'bob', '--displayName', 'Bob B.', '--email', 'b@e.org');
  submit('access.grant', '--person', 'bob');
  submit('key.add', '--person', 'bob', '--key', key);
  submit('tool.create', '--name', 'bridgebot', '--title', 'A bridge', '--maintainers', 'bob');
  expect(await logIn('bob', 'become bridgebot id -un')).toBe('tools.bridgebot');

  const file = '/data/project/bridgebot/replica.my.cnf';
  const who = `become bridgebot mariadb --defaults-extra-file=${file} -Ne 'SELECT current_user()'`;
  expect(await logIn('bob', who)).toMatch(/^s5\d{4}@%$/u);
  expect(loginAs('alice', `cat ${file}`).stderr).toContain('Permission denied');
});

test('no secret is shown by docker, and only the login host can be reached, from this machine', () => {
  const files =
    'cd /etc/chamberlain; for file in secrets/* keys/alice keys/alice-signing; do cat $file; echo; done';
  const lines = inside('admin', 'sh', '-c', files).split('\n');
  const words = lines.filter((line) => line !== '' && !line.startsWith('-----'));
  expect(words.length).toBeGreaterThan(30);
  const all = realm.containers();
  const shown = [
    realm.docker('inspect', ...all.map(({ ID }) => ID)),
    ...TARGETS.map((name) => realm.docker('history', '--no-trunc', `chamberlain-${name}`)),
    compose('logs', '--no-color'),
    compose('config'),
  ].join('\n');
  expect(words.filter((word) => shown.includes(word))).toEqual([]);

  const ports = realm
    .docker('ps', '--filter', PROJECT, '--format', '{{.Ports}}')
    .split('\n')
    .filter(Boolean);
  expect(ports).toEqual(['127.0.0.1:2222->22/tcp']);
  expect(openAddresses(2222)).toEqual([]);
});

test('a second `up` changes nothing', async () => {
  const before = [runningSince(), everything()];
  await realm.up();
  expect(compose('logs', '--no-color', 'setup')).toContain('nothing was to be done');
  expect([runningSince(), everything()]).toEqual(before);
});

test('`down` and `up` keep everything', async () => {
  const before = everything();
  compose('down');
  expect(realm.containers()).toEqual([]);
  process.stdout.write(`compose_up_again_seconds ${(await realm.up()).toFixed(0)}\n`);
  expect(everything()).toEqual(before);
  expect(await logIn('bob', 'become bridgebot id -un')).toBe('tools.bridgebot');
  expect(asAdmin('doctor')).toMatch(/^0 fix, 0 unreadable, 0 not looked at, \d+ ok;/mu);
});
