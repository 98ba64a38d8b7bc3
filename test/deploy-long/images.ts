/** What tests start from: packages, and images of machines. All that needs a network happens here. */
import { cpSync, linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { run } from '../../dev/servers/processes.ts';
import { bootNamed, IMAGES, SETUP } from './bare-machine.ts';
import { TARGETS } from './compose-realm.ts';
import type { Daemon } from './daemon.ts';
import { machinesOf } from './systemd-machines.ts';

const PROJECT = join(import.meta.dirname, '../..');

/** The folder of the Debian packages, uncompressed. */
export const PACKAGES = join(tmpdir(), 'packages');
/** A Debian with what both packages need, in a folder: for test/deploy-long/packages.test.ts. */
export const ROOT = join(tmpdir(), 'root');
/** A folder that is like a clone, without what `docker compose` does not need. */
export const CLONE = join(tmpdir(), 'clone');

/** The paths of the Debian packages. */
export interface Packages {
  readonly ofLogin: string;
  readonly ofRealm: string;
}

/** Builds both packages in the folder, uncompressed unless `small`. */
export async function buildPackages(folder: string, { small = false } = {}): Promise<Packages> {
  await run(process.execPath, ['dev/debian/build.ts', folder], {
    cwd: PROJECT,
    env: { ...process.env, ...(small ? {} : { DPKG_DEB_COMPRESSOR_TYPE: 'none' }) },
  });
  return packagesIn(folder);
}

export function packagesIn(folder: string): Packages {
  const [ofLogin = '', ofRealm = ''] = readdirSync(folder).sort();
  return { ofLogin: join(folder, ofLogin), ofRealm: join(folder, ofRealm) };
}

/** With the servers, as setup installs them, but Redis: its package is at hand. */
const SERVERS = {
  packages: [
    ...[
      'ca-certificates',
      'dbus',
      'openssh-client',
      'procps',
      'systemd-sysv',
      'acl',
      'attr',
      'zstd',
    ],
    ...['age', 'ldap-utils', 'mariadb-client', 'openssl', 'postgresql-client'],
    ...['postgresql-17', 'redis-server', 'slapd', 'mariadb-server'],
  ],
  hooks: [
    'chroot "$1" systemctl disable postgresql slapd mariadb',
    'chroot "$1" dpkg --purge redis-server redis-tools',
    'find "$1/var/cache/apt/archives" -name "*.deb" ! -name "redis*" -delete',
  ],
};

/** A machine with what `chamberlain setup` needs. */
export async function makeBare(
  daemon: Daemon,
  packages: Packages | Promise<Packages>,
): Promise<void> {
  const hooks = SERVERS.hooks.map((hook) => `--customize-hook=${hook}`);
  const kept = '--skip=cleanup/apt/lists,cleanup/apt/cache';
  await importDebian(daemon, IMAGES.bare, SERVERS.packages, [kept, ...hooks]);
  await install(daemon, IMAGES.bare, (await packages).ofRealm);
}

/** What the package chamberlain-login-host needs. */
const LOGIN_HOST = [
  ...['age', 'ca-certificates', 'dbus', 'libnss-extrausers', 'openssh-server', 'procps'],
  ...['sudo', 'systemd-sysv'],
];

/** A machine that can become a login host. */
export async function makeLogin(
  daemon: Daemon,
  packages: Packages | Promise<Packages>,
): Promise<void> {
  await importDebian(daemon, IMAGES.login, LOGIN_HOST);
  await install(daemon, IMAGES.login, (await packages).ofLogin);
}

/** A machine on which `chamberlain setup` has made a realm that other machines reach. It is shut down. */
export async function makeRealm(daemon: Daemon): Promise<void> {
  const machines = machinesOf(daemon, 'made');
  const { name } = await bootNamed(machines, 'realm');
  await daemon.start('exec', name, ...SETUP);
  await daemon.start('stop', '--signal', 'SIGRTMIN+3', '--time', '60', name); // of systemd: halt
  await daemon.start('commit', name, IMAGES.realm);
  machines.removeAll();
}

/** Makes ROOT. */
export async function makeRoot(packages: Packages | Promise<Packages>): Promise<void> {
  const { ofLogin, ofRealm } = await packages;
  const lists = [ofLogin, ofRealm].map((path) => run('dpkg-deb', ['--field', path, 'Depends']));
  const needed = (await Promise.all(lists))
    .flatMap((list) => list.trim().split(/, */u))
    .map((one) => one.replace(/[ (|].*$/u, ''));
  await makeDebian(ROOT, [...needed, 'bash', 'zsh']);
}

/** Makes a folder that is like a clone, and the images of docker-compose.yml from there. */
export async function makeCompose(
  daemon: Daemon,
  clone: string,
  packages: Packages | Promise<Packages>,
): Promise<void> {
  const debian = importDebian(daemon, 'debian:trixie-slim', ['ca-certificates']);
  for (const name of ['.dockerignore', 'docker-compose.yml', 'deploy/compose']) {
    cpSync(join(PROJECT, name), join(clone, name), { recursive: true });
  }
  const place = join(clone, 'dist/packages');
  mkdirSync(place, { recursive: true });
  for (const path of Object.values(await packages)) linkSync(path, join(place, basename(path)));
  await debian;
  // as `docker compose build`, but with the network of this machine
  for (const target of TARGETS) {
    const where = ['--file', join(clone, 'deploy/compose/Dockerfile'), '--network', 'host'];
    const what = ['--target', target, '--tag', `chamberlain-${target}`];
    await run('docker', ['-H', daemon.host, 'build', '--quiet', ...where, ...what, clone], {
      env: { ...process.env, DOCKER_BUILDKIT: '0' },
    });
  }
}

/** Makes an image of a Debian 13. */
async function importDebian(
  daemon: Daemon,
  image: string,
  packages: readonly string[],
  options: readonly string[] = [],
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'chamberlain-debian-'));
  const tar = join(folder, 'image.tar');
  await makeDebian(tar, packages, options);
  await daemon.start('import', tar, image);
  rmSync(folder, { recursive: true });
}

/** Makes a Debian 13, in a folder or in an archive. */
async function makeDebian(
  target: string,
  packages: readonly string[],
  options: readonly string[] = [],
): Promise<void> {
  const what = ['--quiet', '--variant=minbase', `--include=${packages.join(',')}`, ...options];
  await run('mmdebstrap', [...what, 'trixie', target]);
}

async function install({ start }: Daemon, image: string, deb: string): Promise<void> {
  const name = `install-${image}`;
  await start('create', '--name', name, image, 'dpkg', '--install', '/root/package.deb');
  await start('cp', deb, `${name}:/root/package.deb`);
  await start('start', '--attach', name);
  await start('commit', name, image);
  await start('rm', name);
}
