/** The Debian packages of the servers, and the unix users of the package chamberlain. */
import { lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { localAccounts, localGroups, packages } from '../../deploy/login-host/pieces.ts';
import { ROLES } from '../roles/index.ts';
import type { Answers } from './answers.ts';
import { POSTGRES } from './places.ts';
import { run, together } from './programs.ts';
import type { Piece } from './setup.ts';

const UNITS = '/etc/systemd/system';
/** What a package would start by itself when it is installed: its units, or what keeps it from that. */
const SERVERS: Record<string, { units?: string[]; settings?: [path: string, text: string] }> = {
  [`postgresql-${POSTGRES.version}`]: {
    settings: [
      '/etc/postgresql-common/createcluster.d/chamberlain.conf',
      '# Written by `chamberlain setup`, which makes a cluster of its own.\ncreate_main_cluster = false\n',
    ],
  },
  'redis-server': { units: ['redis-server.service'] },
  slapd: { units: ['slapd.service'] },
  'mariadb-server': { units: ['mariadb.service'] },
};
const CLIENTS = ['age', 'ldap-utils', 'mariadb-client', 'openssl', 'postgresql-client'];
const PACKAGES = [...Object.keys(SERVERS), ...CLIENTS];

/** The users of deploy/debian/chamberlain.sysusers; homes runs as root. */
const USERS = ['intake', 'relay', ...ROLES.filter((role) => role !== 'homes'), 'sweep', 'api'].map(
  (role) => `chamberlain-${role}`,
);
export const PORTALS_GROUP = 'chamberlain-portals';

/** What is not installed, because the server is there already, somewhere. */
const NAMED: Record<string, (answers: Answers) => boolean> = {
  [`postgresql-${POSTGRES.version}`]: ({ postgres }) => postgres !== undefined,
  slapd: ({ ldap }) => ldap !== undefined,
  'redis-server': ({ redis }) => redis !== undefined,
  'mariadb-server': ({ database }) => database.host !== undefined,
};

export function packagePieces(answers: Answers): Piece[] {
  const names = PACKAGES.filter((name) => NAMED[name]?.(answers) !== true);
  const installed = together(
    'the packages of the servers',
    `apt-get install ${names.join(' ')}; masks what they would start by themselves`,
    [packages(names)],
    [],
  );
  const make = async (): Promise<void> => {
    for (const [name, { units, settings }] of Object.entries(SERVERS)) {
      if (!names.includes(name) || packages([name]).differs() === undefined) continue;
      units?.forEach(mask);
      if (settings !== undefined) write(...settings);
    }
    await run('apt-get', ['-q', 'update']);
    await run('apt-get', [...INSTALL, ...names]);
  };
  return [{ ...installed, make }, usersPiece()];
}

export function usersPiece(): Piece {
  return {
    name: 'the unix users of the roles',
    does: 'systemd-sysusers, as the package describes them',
    check() {
      const has = new Set([...localAccounts(), ...localGroups()].map(({ name }) => name));
      const missing = [...USERS, PORTALS_GROUP].filter((name) => !has.has(name));
      return missing.length === 0 ? undefined : `are missing: ${missing.join(' ')}`;
    },
    make: async () => void (await run('systemd-sysusers', ['chamberlain.conf'])),
  };
}

const INSTALL = [
  ...['-q', '-y', '-o', 'Dpkg::Options::=--force-confold', '-o', 'DPkg::Lock::Timeout=600'],
  ...['install', '--no-install-recommends'],
];

/** Keeps a unit that is not there yet from being started: its server would listen to everybody. */
function mask(unit: string): void {
  const path = join(UNITS, unit);
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) return;
  mkdirSync(UNITS, { recursive: true });
  symlinkSync('/dev/null', path);
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
