/** `docker compose up`: a whole realm, in a Docker of the test's own, as somebody uses it who tries it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openAddresses } from '../../src/doctor/listeners.ts';
import { type Daemon, importDebian, startDaemon } from './systemd-machines.ts';

const PROJECT = join(import.meta.dirname, '../..');
const HOUR_MS = 3_600_000;
const READY_MS = 180_000;
const folder = mkdtempSync(join(tmpdir(), 'chamberlain-compose-'));
/** A clone in which `npm run package` was run, without the rest. */
const clone = join(folder, 'clone');
const IMAGES = ['realm', 'login-host'];

let docker: Daemon;
beforeAll(async () => {
  const packages = join(clone, 'dist/packages');
  mkdirSync(packages, { recursive: true });
  execFileSync(process.execPath, ['dev/debian/build.ts', packages], {
    cwd: PROJECT,
    env: { ...process.env, DPKG_DEB_COMPRESSOR_TYPE: 'none' },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  for (const name of ['.dockerignore', 'docker-compose.yml', 'deploy/compose']) {
    cpSync(join(PROJECT, name), join(clone, name), { recursive: true });
  }
  docker = await startDaemon();
  importDebian(docker, 'debian:trixie-slim', ['--include=ca-certificates']);
  // as `docker compose build`, but with the network of this machine
  for (const target of IMAGES) {
    const where = ['--file', join(clone, 'deploy/compose/Dockerfile'), '--network', 'host'];
    const what = ['--target', target, '--tag', `chamberlain-${target}`];
    execFileSync('docker', ['-H', docker.host, 'build', '--quiet', ...where, ...what, clone], {
      env: { ...process.env, DOCKER_BUILDKIT: '0' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
}, HOUR_MS);
afterAll(async () => {
  await docker.stop();
  rmSync(folder, { recursive: true });
}, HOUR_MS);

function start(program: string, ...words: string[]) {
  return spawnSync(program, words, {
    cwd: clone,
    env: { ...process.env, DOCKER_HOST: docker.host },
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
}
function run(program: string, ...words: string[]): string {
  const { status, stdout, stderr } = start(program, ...words);
  if (status !== 0) throw new Error(`${words.join(' ')}: ${status} ${stdout} ${stderr}`);
  return stdout;
}
const compose = (...words: string[]): string => run('docker', 'compose', ...words);
const inside = (service: string, ...words: string[]): string =>
  compose('exec', '--no-TTY', service, ...words);
const asAdmin = (...words: string[]): string => inside('admin', 'chamberlain', ...words);

interface Container {
  ID: string;
  Service: string;
  State: string;
  Health: string;
  ExitCode: number;
}
const containers = (): Container[] =>
  compose('ps', '--all', '--no-trunc', '--format', 'json')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Container);

/** Waits for what the health checks say. */
async function untilReady(): Promise<void> {
  const until = performance.now() + READY_MS;
  for (;;) {
    const sick = containers().filter(({ Service, State, Health, ExitCode }) =>
      Service === 'setup' ? State !== 'exited' || ExitCode !== 0 : Health !== 'healthy',
    );
    if (sick.length === 0) return;
    if (performance.now() > until) {
      const names = sick.map(({ Service }) => Service);
      throw new Error(`not healthy: ${compose('logs', '--no-color', '--tail', '30', ...names)}`);
    }
    await sleep(1000);
  }
}

async function up(): Promise<number> {
  const begun = performance.now();
  compose('up', '--detach');
  await untilReady();
  return (performance.now() - begun) / 1000;
}

const at = (name: string): string => join(folder, name);
const keys = ['-F', 'none', '-o', 'BatchMode=yes', '-o', `UserKnownHostsFile=${at('known_hosts')}`];
/** Logs in with the key of that name. The first login takes the key of the host, the others insist on it. */
const loginAs = (person: string, command: string) =>
  start(
    'ssh',
    ...[...keys, '-o', 'StrictHostKeyChecking=accept-new', '-o', 'IdentitiesOnly=yes'],
    ...['-i', at(person), '-p', '2222', `${person}@127.0.0.1`, command],
  );
/** The login host follows the directory within a second. */
async function logIn(person: string, command: string): Promise<string> {
  const until = performance.now() + 10_000;
  for (;;) {
    const { status, stdout, stderr } = loginAs(person, command);
    if (status === 0) return stdout.trim();
    if (performance.now() > until) throw new Error(`${person}: ${status} ${stdout} ${stderr}`);
    await sleep(100);
  }
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
  const others = containers().filter(({ Service }) => Service !== 'setup');
  return others.map(({ Service, ID }) => [
    Service,
    docker.docker('inspect', '--format', '{{.Id}} {{.State.StartedAt}}', ID),
  ]);
}

test(
  'makes a realm, in which every container is healthy and doctor finds nothing to correct',
  async () => {
    const seconds = await up();
    process.stdout.write(`compose_up_seconds ${seconds.toFixed(0)}\n`);
    expect(compose('logs', '--no-color', 'setup')).toContain('the first admin is missing');
    expect(asAdmin('doctor')).toMatch(/^0 fix, 0 unreadable, 0 not looked at, \d+ ok;/mu);
    expect(inside('login-host', 'chamberlain-login-host', '--check')).toBe('');
    expect(inside('login-host', 'keys-agent', 'status')).toMatch(/^directory +trusted$/mu);
  },
  HOUR_MS,
);

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
    expect(start('docker', ...other).status).toBe(1);
  },
);

test(
  'the first admin logs in, and makes a person and a tool, which that person becomes',
  async () => {
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
  },
  HOUR_MS,
);

test('no secret is shown by docker, and only the login host can be reached, from this machine', () => {
  const files =
    'cd /etc/chamberlain; for file in secrets/* keys/alice keys/alice-signing; do cat $file; echo; done';
  const lines = inside('admin', 'sh', '-c', files).split('\n');
  const words = lines.filter((line) => line !== '' && !line.startsWith('-----'));
  expect(words.length).toBeGreaterThan(30);
  const all = containers();
  const shown = [
    docker.docker('inspect', ...all.map(({ ID }) => ID)),
    ...IMAGES.map((name) => docker.docker('history', '--no-trunc', `chamberlain-${name}`)),
    compose('logs', '--no-color'),
    compose('config'),
  ].join('\n');
  expect(words.filter((word) => shown.includes(word))).toEqual([]);

  const ports = docker.docker('ps', '--format', '{{.Ports}}').split('\n').filter(Boolean);
  expect(ports).toEqual(['127.0.0.1:2222->22/tcp']);
  expect(openAddresses(2222)).toEqual([]);
});

test(
  'a second `up` changes nothing',
  async () => {
    const before = [runningSince(), everything()];
    await up();
    expect(compose('logs', '--no-color', 'setup')).toContain('nothing was to be done');
    expect([runningSince(), everything()]).toEqual(before);
  },
  HOUR_MS,
);

test(
  '`down` and `up` keep everything',
  async () => {
    const before = everything();
    compose('down');
    expect(containers()).toEqual([]);
    process.stdout.write(`compose_up_again_seconds ${(await up()).toFixed(0)}\n`);
    expect(everything()).toEqual(before);
    expect(await logIn('bob', 'become bridgebot id -un')).toBe('tools.bridgebot');
    expect(asAdmin('doctor')).toMatch(/^0 fix, 0 unreadable, 0 not looked at, \d+ ok;/mu);
  },
  HOUR_MS,
);
