/** Machines that have the Debian package, the answers that `chamberlain setup` needs, and nothing of a realm. */
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Docker, Machine } from './systemd-machines.ts';

const PROJECT = join(import.meta.dirname, '../..');

/** With the servers, as setup installs them, but Redis: its package is at hand. */
export const INCLUDED = [
  ...['ca-certificates', 'dbus', 'openssh-client', 'procps', 'systemd-sysv', 'acl', 'zstd'],
  ...['age', 'ldap-utils', 'mariadb-client', 'openssl', 'postgresql-client'],
  ...['postgresql-17', 'redis-server', 'slapd', 'mariadb-server'],
];
export const HOOKS = [
  'chroot "$1" systemctl disable postgresql slapd mariadb',
  'chroot "$1" dpkg --purge redis-server redis-tools',
  'find "$1/var/cache/apt/archives" -name "*.deb" ! -name "redis*" -delete',
];

/** Builds both packages in the folder, uncompressed unless `small`; returns their paths, sorted: that of a login host first. */
export function buildPackages(folder: string, { small = false } = {}): string[] {
  execFileSync(process.execPath, ['dev/debian/build.ts', folder], {
    cwd: PROJECT,
    env: { ...process.env, ...(small ? {} : { DPKG_DEB_COMPRESSOR_TYPE: 'none' }) },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return readdirSync(folder)
    .sort()
    .map((name) => join(folder, name));
}

export const ANSWERS = `realm: tools
base: dc=example,dc=org
admin:
  name: alice
  sshKey: /root/alice.pub
  signingKey: /root/alice.pem
`;
export const SETUP = ['chamberlain', 'setup', '--answers', '/root/answers.yaml'];

/** As the first admin: `submit` and what follows it. */
export const AS_ALICE = '--portal admin.alice --portal-key /root/alice.key --requestedBy alice';

/** A machine with the answers and the keys of the first admin. */
export async function bootBare(docker: Docker, name: string, address?: string): Promise<Machine> {
  const machine = await docker.boot(name, address === undefined ? {} : { address });
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  machine.run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', '/root/alice');
  machine.write('/root/alice.pem', publicKey.export({ type: 'spki', format: 'pem' }).toString());
  machine.write('/root/alice.key', privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
  machine.write('/root/answers.yaml', ANSWERS);
  return machine;
}

/** What the package chamberlain-login-host needs. */
const LOGIN_HOST = {
  image: 'chamberlain-login-host-test',
  packages: [
    ...['age', 'ca-certificates', 'dbus', 'libnss-extrausers', 'openssh-server', 'procps'],
    ...['sudo', 'systemd-sysv'],
  ],
};
const REALM_ADDRESS = 'realm.example.org';
const LOGIN_ADDRESS = 'login1.example.org';

/** Makes the images of both, from the packages that `buildPackages` has built. */
export function makeImages(docker: Docker, [ofLogin = '', ofRealm = '']: readonly string[]): void {
  docker.makeImage(INCLUDED, HOOKS);
  docker.install(ofRealm);
  docker.makeImage(LOGIN_HOST.packages, [], LOGIN_HOST.image);
  docker.install(ofLogin, LOGIN_HOST.image);
}

/** A machine that can become a realm, and one that can become its login host; they reach each other. */
export async function bootPair(docker: Docker): Promise<{ realm: Machine; login: Machine }> {
  const realm = await bootBare(docker, 'realm', REALM_ADDRESS);
  realm.write('/root/answers.yaml', `${ANSWERS}listen: ${REALM_ADDRESS}\n`);
  const { image } = LOGIN_HOST;
  return { realm, login: await docker.boot('login1', { image, address: LOGIN_ADDRESS }) };
}

/** The two commands on the login host, the one on the realm's machine, and what a person carries between them. */
export function joinLogin({ realm, login }: { realm: Machine; login: Machine }): void {
  const request = login.run('chamberlain-login-host', 'setup', '--request');
  realm.write('/root/login1.json', request);
  const { fingerprint } = JSON.parse(request) as { fingerprint: string };
  const command = ['join', '/root/login1.json', '--fingerprint', fingerprint, '--json'];
  const said = realm.run('chamberlain', ...command, '--out', '/root/login1.join');
  const answer = JSON.parse(said) as { answerFingerprint: string };
  login.run(
    'sh',
    '-c',
    `echo '${realm.run('base64', '-w0', '/root/login1.join')}' | base64 -d >/root/login1.join`,
  );
  const code = ['--fingerprint', answer.answerFingerprint];
  login.run('chamberlain-login-host', 'setup', '--join', '/root/login1.join', ...code);
}

/** Runs a command on the login host as alice, by ssh from the realm's machine. */
export function asAliceOnLogin(realm: Machine, command: string) {
  const options = ['-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=accept-new'];
  return realm.start('ssh', ...options, '-i', '/root/alice', `alice@${LOGIN_ADDRESS}`, command);
}
