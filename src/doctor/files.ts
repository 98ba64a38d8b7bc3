/** Checks the configuration file, the secrets and the keys. */
import type { KeyObject } from 'node:crypto';
import { type Stats, accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { adminOfPortal, type Config, nextOf, oldOf } from '../shared/config.ts';
import { REDIS_ACCOUNTS } from '../backends/redis/redis-connection.ts';
import { type ListedAdminKey, whyDead } from '../requests/admin-keys-table.ts';
import { findSigner } from '../requests/token.ts';
import { POSTGRES_ROLES } from '../database/connection.ts';
import type { MovableRole } from '../roles/index.ts';
import { DIRECTORY_ACCOUNTS } from '../../deploy/ldap/render.ts';
import { fingerprintOf } from '../ssh-keys/ed25519-key.ts';
import { publicHalfOf } from '../ssh-keys/public-half.ts';
import { elsewhere, expectThat, fix, type Line, ok } from './line.ts';
import { count } from '../shared/printable.ts';

/** Every secret of a deployment; each machine has those that it needs. */
const SECRETS = [
  ...['owner', ...POSTGRES_ROLES].map((role) => `postgres-${role}`),
  ...['admin', ...DIRECTORY_ACCOUNTS].map((name) => `ldap-${name}`),
  ...['databases', 'databases-reader'].map((name) => `mariadb-${name}`),
  // redis-portals: what the passwords of our programs follow from for users of portals that were added by request
  ...['owner', ...REDIS_ACCOUNTS, 'portals'].map((name) => `redis-${name}`),
  // the key that the directory role signs with, for login hosts; the key that the relay signs with, for portals
  ...['seal-key', 'events-key'],
];

/** The same, and those of the portals. */
export function secretsOf(config: Pick<Config, 'portals'>): string[] {
  const portals = config.portals.filter(({ name }) => adminOfPortal(name) === undefined);
  return [...SECRETS, ...portals.map(({ name }) => `redis-portal.${name}`)];
}

/** Whether intake and the relay both read a secret. */
export const isOfPortals = (name: string): boolean => /^redis-(portal\.|portals$)/u.test(name);

/** The secrets that a role logs in and signs with, wherever it runs. */
export function secretsOfRole(role: MovableRole): string[] {
  const its = new RegExp(`^[a-z]+-${role}([_-]reader)?$`, 'u');
  return SECRETS.filter((name) => its.test(name) || (role === 'directory' && name === 'seal-key'));
}

const GROUP_OR_OTHERS = 0o077;
const OTHERS = 0o037;
const OTHERS_WRITE = 0o022;

export function lookAtConfig(file: string, config: Config): Line[] {
  const stats = statSync(file);
  const mode = octal(stats);
  const hasSecret = new URL(config.redis.url).password !== '';
  return [
    (stats.mode & OTHERS_WRITE) !== 0
      ? fix(`${file} has mode ${mode}: others can change it`, `Run \`chmod go-w ${file}\`.`)
      : hasSecret && (stats.mode & 0o007) !== 0
        ? fix(
            `${file} has mode ${mode}, but holds a password in the URL of Redis`,
            `Give the roles' users a group, and run \`chmod o-rwx ${file}\`.`,
          )
        : ok(`${file} can be used, mode ${mode}`),
    ...lookAtOwner(file, stats),
  ];
}

/** @param isPlausible whether that user may own a secret */
export function lookAtSecrets(config: Config, isPlausible: (uid: number) => boolean): Line[] {
  const folder = config.secrets;
  const lines: Line[] = [];
  const good: string[] = [];
  const closed: string[] = [];
  const absent: string[] = [];
  const stats = statSync(folder, { throwIfNoEntry: false });
  if (stats === undefined) {
    return [fix(`${folder} does not exist`, 'Set `secrets` to the folder on this machine.')];
  }
  if ((stats.mode & OTHERS_WRITE) !== 0) {
    lines.push(
      fix(
        `${folder} has mode ${octal(stats)}: others can put secrets there`,
        `Run \`chmod go-w ${folder}\`.`,
      ),
    );
  }
  for (const name of secretsOf(config)) {
    const path = join(folder, name);
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) {
      absent.push(name);
      continue;
    }
    const faults = secretFaults(path, found, isPlausible);
    lines.push(...faults);
    lines.push(...lookAtRotation(name, path));
    if (faults.length > 0) continue;
    if (mayRead(path)) good.push(name);
    else closed.push(name);
  }
  if (good.length > 0)
    lines.push(ok(`secrets that exist, and that others cannot read: ${good.length}`));
  if (closed.length > 0) {
    lines.push(
      elsewhere(
        `secrets that this user may not read: ${closed.join(', ')}`,
        'Run this as root too, or as the users of the roles.',
      ),
    );
  }
  if (absent.length > 0) {
    lines.push(
      elsewhere(
        `secrets that are not on this machine: ${absent.join(', ')}`,
        'Each machine needs only some of them: see docs/install.md, step 2.',
      ),
    );
  }
  return lines;
}

/** An unfinished `chamberlain secret rotate`. */
function lookAtRotation(name: string, path: string): Line[] {
  const again = `chamberlain secret rotate ${name}`;
  const isKey = name.endsWith('-key');
  if (existsSync(nextOf(path))) {
    return isKey
      ? [
          fix(
            `${name} is being replaced: the new key exists, but is not in use`,
            `Run \`${again} --finish\` when everybody who needs it knows the new key.`,
          ),
        ]
      : [fix(`the rotation of ${name} was interrupted`, `Run \`${again}\` again.`)];
  }
  if (!existsSync(oldOf(path))) return [];
  return [
    fix(
      `${name} was replaced, but its old password is still valid`,
      `Run \`${again} --finish\` when each machine has the new password.`,
    ),
  ];
}

function secretFaults(path: string, stats: Stats, isPlausible: (uid: number) => boolean): Line[] {
  const faults: Line[] = [];
  if (!stats.isFile())
    return [
      fix(`${path} is not a file`, 'Replace it with a file that holds the password or the key.'),
    ];
  if (stats.size === 0)
    faults.push(fix(`${path} is empty`, 'Write the password of its account, or the key, into it.'));
  // intake and the relay share this password, perhaps with the portal itself, so their group may read it
  const isShared = isOfPortals(basename(path));
  const closed = isShared ? OTHERS : GROUP_OR_OTHERS;
  if ((stats.mode & closed) !== 0) {
    faults.push(
      fix(
        `${path} has mode ${octal(stats)}: others can read it`,
        `Run \`chmod ${isShared ? 640 : 600} ${path}\`, then replace the secret: \`chamberlain secret rotate ${basename(path)}\`.`,
      ),
    );
  }
  if (!isPlausible(stats.uid)) {
    faults.push(
      fix(
        `${path} belongs to uid ${stats.uid}`,
        'Its owner must be root, or the user of the role that needs it.',
      ),
    );
  }
  return faults;
}

/** Reads every admin's own key; undefined if PostgreSQL does not answer in time. */
export type ReadAdminKeys = () => Promise<ListedAdminKey[] | undefined>;

/** Whether the keys of portals, and that of the admin on this machine, are fit to sign. */
export async function lookAtKeys(
  config: Config,
  readKeys: ReadAdminKeys,
  now: Date,
): Promise<Line[]> {
  const keys = config.portals.reduce((sum, { keys: its }) => sum + its.length, 0);
  const known = ok(
    `${count(keys, 'public key')} of ${count(config.portals.length, 'portal')}: ${keys === 1 ? 'it is' : 'all are'} Ed25519`,
  );
  const { adminKey: path } = config;
  if (path === undefined) return [known];
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) {
    return [
      known,
      elsewhere(`adminKey ${path} is not on this machine`, "Run this on the admin's machine."),
    ];
  }
  const text = mayRead(path) ? (stats.isFile() ? readFileSync(path, 'latin1') : '') : undefined;
  const isSecret = text?.includes('PRIVATE KEY') !== false;
  const exposed = fix(
    `adminKey ${path} has mode ${octal(stats)}: others can sign with it`,
    `Run \`chmod 600 ${path}\`, and make a new key.`,
  );
  return [
    known,
    ...(isSecret && (stats.mode & GROUP_OR_OTHERS) !== 0 ? [exposed] : []),
    text === undefined
      ? elsewhere(
          `this user may not read adminKey ${path}`,
          'Run this as the user who signs with it.',
        )
      : lookAtSigner(config, `adminKey ${path}`, {
          publicKey: publicHalfOf(text),
          keys: await readKeys(),
          now,
        }),
  ];
}

function lookAtSigner(
  { portals }: Config,
  what: string,
  of: { publicKey: KeyObject | undefined; keys: ListedAdminKey[] | undefined; now: Date },
): Line {
  const { publicKey, keys, now } = of;
  if (publicKey === undefined) {
    return fix(
      `${what} is no Ed25519 key in the format of OpenSSH, or in PEM without a passphrase`,
      'Name the right file: `chamberlain admin-key new` makes one.',
    );
  }
  const fingerprint = fingerprintOf(publicKey);
  const key = keys?.find((each) => each.fingerprint === fingerprint);
  const dead = whyDead(fingerprint, key, now);
  if (dead !== undefined) return fix(`${what} does not count: ${dead}`, 'Set another key.');
  if (keys === undefined) {
    return elsewhere(
      `whether ${what} counts is not known`,
      'Run this again when PostgreSQL answers.',
    );
  }
  const signer = findSigner(portals, publicKey)?.portal.name ?? (key && `admin.${key.admin}`);
  return expectThat(
    signer !== undefined,
    `adminKey signs as ${signer}`,
    `no admin has ${what}`,
    'Make it known with admin-key.add ("Admins\' keys" in docs/operations.md), or set another key.',
  );
}

function lookAtOwner(file: string, stats: Stats): Line[] {
  if (stats.uid === 0 || stats.uid === process.getuid?.()) return [];
  return [
    fix(
      `${file} belongs to uid ${stats.uid}`,
      'Its owner must be root: whoever owns it decides which keys may sign.',
    ),
  ];
}

function mayRead(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function octal(stats: Stats): string {
  return (stats.mode & 0o7777).toString(8).padStart(4, '0');
}

/** Root, this user, and the users of the roles (`chamberlain-…`) in that passwd file. */
export function plausibleOwners(passwd: string): (uid: number) => boolean {
  const uids = new Set([0, process.getuid?.() ?? 0]);
  for (const line of readFileSync(passwd, 'utf8').split('\n')) {
    const [name = '', , uid] = line.split(':');
    if (/^chamberlain(-|$)/u.test(name)) uids.add(Number(uid));
  }
  return (uid) => uids.has(uid);
}
