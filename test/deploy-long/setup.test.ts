/** `chamberlain setup`, on machines with systemd that have the Debian package and nothing of a realm. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ANSWERS, bootBare, buildPackages, HOOKS, INCLUDED, SETUP } from './bare-machine.ts';
import { type Docker, type Machine, startDocker } from './systemd-machines.ts';

const HOUR_MS = 3_600_000;
const folder = mkdtempSync(join(tmpdir(), 'chamberlain-setup-'));

let docker: Docker;
beforeAll(async () => {
  const [, deb = ''] = buildPackages(folder);
  docker = await startDocker();
  docker.makeImage(INCLUDED, HOOKS);
  docker.install(deb);
}, HOUR_MS);
afterAll(async () => {
  await docker.stop();
  rmSync(folder, { recursive: true });
}, HOUR_MS);

const CHECK = ['chamberlain', 'setup', '--check'];
const GOOD = 'everything is as it must be\n';
const GREEN = /^0 fix, 0 unreadable, 0 not looked at, \d+ ok;/mu;

/** The files that a program of the caller's own leaves, or the running of a machine. */
const OWN =
  /^\/(root|tmp|run|var\/cache|var\/log|var\/lib\/systemd|etc\/machine-id|var\/tmp)(\/|$)/u;
const changesOf = (machine: Machine): string[] =>
  machine.changed().filter((path) => !OWN.test(path));

describe('on a bare machine', () => {
  let machine: Machine;
  beforeAll(async () => void (machine = await bootBare(docker, 'bare')), HOUR_MS);

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
    expect(plan).toMatch(/^make {2}the packages of the servers not installed: redis-server$/mu);
    expect(plan).toMatch(/^\d+ of \d+ pieces would be made$/mu);
    expect(machine.start(...SETUP, '--check').status).toBe(3);
    expect(changesOf(machine)).toEqual(before);
  });

  test(
    'it makes a realm, and doctor finds nothing to correct',
    () => {
      const begun = performance.now();
      const { status, stdout, stderr } = machine.start(...SETUP);
      process.stdout.write(`setup_seconds ${((performance.now() - begun) / 1000).toFixed(0)}\n`);
      expect([status, stdout]).toEqual([0, expect.stringMatching(GREEN)]);
      expect(machine.run('chamberlain', 'list', 'people')).toContain('alice');

      const secrets = machine.run(
        'sh',
        '-c',
        'cd /etc/chamberlain/secrets; tail -qn +1 *; cat *-key',
      );
      const journal = machine.run('journalctl', '--no-pager');
      for (const secret of secrets
        .split('\n')
        .flatMap((line) => line.match(/[\w+/]{32,}/gu) ?? [])) {
        expect(`${stdout}${stderr}${journal}`.includes(secret)).toBe(false);
      }
    },
    HOUR_MS,
  );

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

  test(
    'what somebody has stopped or changed is found, and mended',
    () => {
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
    },
    HOUR_MS,
  );

  test(
    'a portal that is added to the configuration gets its secret and its user',
    () => {
      const { publicKey } = generateKeyPairSync('ed25519');
      const pem = JSON.stringify(publicKey.export({ type: 'spki', format: 'pem' }));
      const portal = `{ "name": "portal", "keys": [{ "kid": "1", "publicKey": ${pem} }], "kinds": "all" }`;
      const config = machine.run('cat', '/etc/chamberlain/config.yaml');
      machine.write(
        '/etc/chamberlain/config.yaml',
        config.replace(/^portals: \[/mu, `$&${portal},`),
      );
      const { status, stdout } = machine.start('chamberlain', 'setup');
      expect([status, stdout]).toEqual([0, expect.stringMatching(GREEN)]);
      expect(machine.run('ls', '/etc/chamberlain/secrets')).toContain('redis-portal.portal');
      expect(machine.run(...CHECK)).toBe(GOOD);
    },
    HOUR_MS,
  );

  test(
    '--uninstall stops everything and keeps data, secrets and keys; setup makes it run again',
    () => {
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
    },
    HOUR_MS,
  );
});

/** Kills setup as soon as it has made a piece. Its exit code is 0 if it made none, or ended before. */
const KILLED = `
  rm -f /root/made; mkfifo /root/made; "$@" >/root/made & pid=$!
  while read -r line; do
    case $line in *': made') echo "$line"; kill -KILL $pid; break ;; esac
  done </root/made
  wait $pid`;

test(
  'killed after each of its pieces, and run again each time, it makes the same realm',
  async () => {
    const machine = await bootBare(docker, 'killed');
    const made: string[] = [];
    for (let status: number | null = 137; status === 137;) {
      const ended = machine.start('sh', '-c', KILLED, 'sh', ...SETUP);
      ({ status } = ended);
      expect([0, 137, ended.stderr]).toContain(status);
      made.push(...ended.stdout.split('\n').filter((line) => line !== ''));
    }
    expect(made.length).toBeGreaterThan(15);
    expect(machine.run(...SETUP)).toMatch(GREEN);
    expect(machine.run(...CHECK)).toBe(GOOD);
  },
  HOUR_MS,
);
