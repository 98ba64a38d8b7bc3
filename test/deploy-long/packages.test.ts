/** The Debian packages: built again, checked by lintian, installed in a Debian 13 that has nothing else. */
import { execFileSync } from 'node:child_process';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { copyFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { COPIED, WRAPPED } from '../../deploy/login-host/wanted.ts';
import { WORK_ROLES } from '../../workers/main.ts';
import { PACKAGES, packagesIn, ROOT } from './images.ts';
import { runToEnd } from './patience.ts';

const PROJECT = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'chamberlain-packages-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Builds both packages from the clone as it is seen at another path, without a network. */
function build(): string[] {
  const [clone, out] = [join(folder, 'another/place/of/the-clone'), join(folder, 'out')];
  mkdirSync(clone, { recursive: true });
  const inside = 'mount --bind "$1" "$2" && cd "$2" && exec "$3" dev/debian/build.ts "$4"';
  const args = [PROJECT, clone, process.execPath, out];
  const words = ['--mount', '--net', 'sh', '-c', inside, 'sh', ...args];
  const { status, stderr } = runToEnd('unshare', words);
  if (status !== 0) throw new Error(`building the packages: ${status} ${stderr}`);
  const { ofLogin, ofRealm } = packagesIn(out);
  return [ofLogin, ofRealm];
}

let packages: string[] = [];
beforeAll(() => void (packages = build()));

/** Of what a package consists of, as it was before it was compressed. */
const hashesOf = (path: string): string[] =>
  ['--ctrl-tarfile', '--fsys-tarfile'].map((part) => {
    const bytes = execFileSync('dpkg-deb', [part, path], { maxBuffer: 2 ** 30 });
    return createHash('sha256').update(bytes).digest('hex');
  });
const field = (path: string, name: string): string =>
  execFileSync('dpkg-deb', ['--field', path, name], { encoding: 'utf8' }).trim();
const say = (line: string): void => void process.stdout.write(`${line}\n`);

test('there are two packages, of fewer than 30 MiB each', () => {
  expect(packages.map((path) => field(path, 'Package'))).toEqual([
    'chamberlain-login-host',
    'chamberlain',
  ]);
  for (const path of packages) {
    const mib = statSync(path).size / 1024 / 1024;
    say(`package_mib ${field(path, 'Package')} ${mib.toFixed(1)}`);
    expect(mib).toBeLessThan(30);
  }
});

test('a build of another folder, from another, has the same bytes before they are compressed', () => {
  const others = packagesIn(PACKAGES);
  expect([others.ofLogin, others.ofRealm].map(hashesOf)).toEqual(packages.map(hashesOf));
});

test('lintian finds nothing', () => {
  const args = ['--allow-root', '--display-info', '--tag-display-limit', '0', ...packages];
  const { stdout, stderr } = runToEnd('lintian', args);
  expect([stdout, stderr]).toEqual(['', '']);
});

const ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' };
const APART = ['--net', '--mount', '--pid', '--fork'];
const INSIDE = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"';

describe('installed in a bare Debian 13', () => {
  const root = ROOT;
  beforeAll(() => {
    for (const path of packages) copyFileSync(path, join(root, 'root', basename(path)));
    run('sh', '-c', 'dpkg --install /root/*.deb');
  });

  /** Runs a command in it, without a network. */
  const start = (words: string[]) =>
    runToEnd('unshare', [...APART, 'sh', '-c', INSIDE, root, ...words], { env: ENV });
  function run(...words: string[]): string {
    const { status, stdout, stderr } = start(words);
    if (status !== 0) throw new Error(`${words.join(' ')}: ${status} ${stdout} ${stderr}`);
    return stdout;
  }
  const asNobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];

  test('the command has the version of the package, for everybody', () => {
    const version = field(packages[1] ?? '', 'Version');
    for (const words of [['chamberlain'], [...asNobody, 'chamberlain']]) {
      expect(run(...words, '--version')).toMatch(`chamberlain ${version}, with migrations up to `);
      expect(run(...words, 'submit', 'tool.create', '--help')).toContain('--maintainers <a,b>');
    }
  });

  test('a key is checked by both parsers', () => {
    run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', '/root/key');
    expect(run('chamberlain', 'key', 'check', '/root/key.pub')).toContain('256 bits');
  });

  test('what fills the templates is there', () => {
    for (const name of ['ldap', 'redis']) {
      const program = `/usr/lib/chamberlain/deploy/${name}/render.js`;
      const { status, stderr } = start(['/usr/lib/chamberlain/bin/node', program]);
      expect([status, stderr]).toEqual([2, expect.stringMatching(/^USAGE: /u)]);
    }
  });

  test('each role has its user, but homes, which runs as root; no service is enabled', () => {
    for (const role of WORK_ROLES.filter((each) => each !== 'homes')) {
      expect(run('id', '-nG', `chamberlain-${role}`)).toContain(`chamberlain-${role}`);
    }
    expect(run('id', '-nG', 'chamberlain-intake')).toContain('chamberlain-portals');
    expect(run('find', '/etc/systemd', '-name', '*chamberlain*')).toBe('');
    const units = WORK_ROLES.map((role) => `chamberlain@${role}.service`);
    const own = [
      ...['chamberlain-keys-agent.service', 'chamberlain-login-helper.service'],
      ...['chamberlain-certificates.timer', 'chamberlain-certificates.service'],
    ];
    const { status, stderr } = start(['systemd-analyze', 'verify', '--man=no', ...units, ...own]);
    expect([status, stderr]).toEqual([0, '']);
  });

  test('the login host has every program that `install` makes in a clone', () => {
    for (const path of [...Object.keys(WRAPPED), ...Object.keys(COPIED)]) {
      expect(run('dpkg', '--search', path)).toBe(`chamberlain-login-host: ${path}\n`);
    }
    for (const name of ['keys-agent', 'take', 'become', 'chamberlain-whoami']) {
      expect(run(name, '--help')).toMatch(/^usage: /iu);
    }
    expect(run('/usr/lib/chamberlain/login-helper', '--help')).toMatch(/^Usage: login-helper/u);
  });

  test('chamberlain-login-host makes a join request, which stays the same', () => {
    const request = run('chamberlain-login-host', 'setup', '--request', '--name', 'login1');
    expect(JSON.parse(request)).toMatchObject({ kind: 'login-host', name: 'login1' });
    expect(run('chamberlain-login-host', 'setup', '--request')).toBe(request);
  });

  test('chamberlain-login-host sets it up, and leaves the programs to dpkg', () => {
    const { publicKey } = generateKeyPairSync('ed25519');
    const pem = publicKey.export({ type: 'spki', format: 'pem' });
    writeFileSync(join(root, 'root/seal.pem'), pem);
    writeFileSync(join(root, 'root/password'), 'keys-agents-Secret\n');
    const given = ['--ldap-uri', 'ldaps://one.example.org', '--base', 'dc=example,dc=org'];
    const files = ['--seal-key', '/root/seal.pem', '--agent-password-file', '/root/password'];
    const installed = run('chamberlain-login-host', ...given, ...files);
    expect(installed).toContain('created: /etc/sudoers.d/chamberlain\n');
    expect(installed).not.toMatch(/: \/usr\/|\.service/u);
    expect(run('chamberlain-login-host', '--check')).toBe('');
    expect(run('dpkg', '--verify', 'chamberlain', 'chamberlain-login-host')).toBe('');
    expect(run(...asNobody, 'become', '--list')).toBe('');
  });

  test('only root can write to what the packages have put there', () => {
    const listed = 'dpkg -L chamberlain chamberlain-login-host | xargs -d "\\n" stat -c "%A %U %n"';
    const own = run('sh', '-c', `${listed}; stat -c "%A %U %n" /var/cache/chamberlain`);
    expect(own).toContain('drwx------ root /var/cache/chamberlain\n');
    const open = /^[^l](?:....w|.......w)|^\S+ (?!root )/u;
    expect(own.split('\n').filter((line) => open.test(line))).toEqual([]);
  });

  test('zsh completes commands, options and choices', () => {
    const stubs = `_describe() { print -rl -- "\${(@P)2}" }; _files() { print files }; _message() { print "$1" }`;
    const complete = (...words: string[]): string =>
      run(
        ...['zsh', '-fc'],
        `${stubs}; compadd() { shift; print -rl -- "$@" }
         complete() { source /usr/share/zsh/vendor-completions/_chamberlain }
         words=("$@"); CURRENT=$#; complete`,
        ...['zsh', 'chamberlain', ...words],
      );
    expect(complete('')).toContain('submit:sign a request');
    expect(complete('audit', '')).toMatch(/^verify:/u);
    expect(complete('survey', '--role', '')).toBe('directory\nhomes\ndatabases\n');
    expect(complete('--config', '')).toBe('files\n');
  });

  test('a command takes less than three times the processor time of Node itself to start', () => {
    const best = (command: string): number => {
      const script = `TIMEFORMAT='%U %S'; for i in {1..15}; do { time ${command} >&3; } 2>&1; done 3>/dev/null`;
      const lines = run('bash', '-c', script).trim().split('\n');
      expect(lines).toHaveLength(15);
      return Math.min(
        ...lines.map((line) => line.split(' ').reduce((sum, each) => sum + Number(each), 0)),
      );
    };
    const node = best('/usr/lib/chamberlain/bin/node -e 0');
    const ratio = best('chamberlain --version') / node;
    say(`command_start_ratio ${ratio.toFixed(2)}`);
    expect(ratio).toBeLessThan(3);
  });

  test('removed and purged, they leave what an administrator has made, and no program', () => {
    writeFileSync(join(root, 'etc/chamberlain/secrets/postgres-intake'), 'secret');
    run('dpkg', '--purge', 'chamberlain', 'chamberlain-login-host');
    expect(readdirSync(join(root, 'etc/chamberlain/secrets'))).toContain('postgres-intake');
    const left = run('sh', '-c', 'find /usr/lib/chamberlain* /var/cache/chamberlain* 2>&1 || :');
    expect(left).not.toMatch(/^\//mu);
  });
});
