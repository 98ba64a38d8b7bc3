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
export async function bootBare(docker: Docker, name: string): Promise<Machine> {
  const machine = await docker.boot(name);
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  machine.run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', '/root/alice');
  machine.write('/root/alice.pem', publicKey.export({ type: 'spki', format: 'pem' }).toString());
  machine.write('/root/alice.key', privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
  machine.write('/root/answers.yaml', ANSWERS);
  return machine;
}
