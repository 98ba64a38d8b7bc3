/**
 * What everybody may do, to whom every number, name and key belongs, and which events portals have received:
 * read from the servers by their own tools, and with nothing of src/, so that an error there is not repeated
 * here.
 */
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createConnection } from 'mariadb';
import type { Login } from '../login/login.ts';
import { query, readDirectory, type Entry } from '../outside.ts';
import { administer } from '../../stack.ts';

const SERVERS = ['replica', 'tools'] as const;
const HOST = {
  keys: '/var/lib/chamberlain/keys',
  group: '/var/lib/extrausers/group',
  sudoers: '/etc/sudoers.d/chamberlain-tools',
};

export interface Look {
  /** lines: the account, a blank, what it may do and where */
  access: Set<string>;
  /** the holder of each key, by its base64 */
  keys: Map<string, string>;
  /** what MariaDB has of each account, by `s51234 on replica`: the row as JSON, and whether it may log in */
  accounts: Map<string, { row: string; isOpen: boolean; verifier: string }>;
}

/** What was seen of each account in the whole drill, over every loss. */
export interface Checker {
  look(): Promise<Look>;
  /** Looks, and treats every password that was once in a file and is not now as withdrawn. */
  lookBeforeLoss(): Promise<Look>;
  /** What of `now` nobody had before: lines of access, and passwords that were withdrawn. */
  more(before: Look, now: Look): string[];
  /** What somebody could do before and cannot do now: lines of access. */
  less(before: Look, now: Look): string[];
  /** Numbers, names and keys that were ever seen with two holders. */
  readonly twice: readonly string[];
  isKnown(numberOrName: number | string): boolean;
  /** Files of passwords that are not right on every server; those of these accounts are tried. */
  wrongCredentials(now: Look, tried: readonly string[]): Promise<string[]>;
}

interface Seal {
  name: string;
  uid: number;
  state: string;
  member?: boolean;
  keys?: string[];
  members?: string[];
}

export function openChecker(login: Login): Checker {
  const { world } = login;
  const { files, ids } = world.config;
  const nameOf = new Map<number, string>();
  const numberOf = new Map<string, number>();
  const ownerOf = new Map<string, string>();
  const passwords = new Map<string, Set<string>>();
  const withdrawn = new Set<string>();
  const twice: string[] = [];

  function saw(number: number, name: string): void {
    const [was, by] = [nameOf.get(number) ?? name, numberOf.get(name) ?? number];
    if (was !== name) twice.push(`${number} is of ${was} and of ${name}`);
    if (by !== number) twice.push(`${name} has ${by} and ${number}`);
    nameOf.set(number, name);
    numberOf.set(name, number);
  }

  function lookAtEntry(dn: string, entry: Entry, { access, keys }: Look): void {
    const name = rdnOf(dn);
    const of = (attribute: string) => entry[attribute] ?? [];
    const [uid] = of('uidNumber');
    if (uid !== undefined) {
      saw(Number(uid), name);
      const isOpen = entry['pwdPolicySubentry'] === undefined;
      if (isOpen) access.add(`${name} is open in the directory`);
      for (const line of of('sshPublicKey')) {
        sawKey(line, name, keys);
        if (isOpen) access.add(`${name} has in the directory the key ${line}`);
      }
    } else if (name.startsWith('tools.') && of('gidNumber').length > 0) {
      saw(Number(of('gidNumber')[0]), name);
    }
    if (of('gidNumber').length > 0 || name.startsWith('project-')) {
      for (const member of of('member')
        .map(rdnOf)
        .filter((each) => each !== name)) {
        access.add(`${member} is in the directory a member of ${name}`);
      }
    }
    if (name.startsWith('runas-')) access.add(`${name.slice(6)} has in the directory a sudo rule`);
    for (const text of of('chamberlainSeal')) lookAtSeal(text, access);
  }

  function lookAtSeal(text: string, access: Set<string>): void {
    const seal = JSON.parse(text.slice(text.indexOf('{'))) as Seal;
    saw(seal.uid, seal.name);
    if (seal.state !== 'active') return;
    for (const key of seal.member === true ? (seal.keys ?? []) : []) {
      access.add(`${seal.name} has by seal the key ${key}`);
    }
    for (const member of seal.members ?? []) {
      access.add(`${member} is by seal a member of ${seal.name}`);
    }
  }

  function sawKey(line: string, name: string, keys: Map<string, string>): void {
    const key = /AAAA[A-Za-z0-9+/=]+/.exec(line)?.[0] ?? line;
    const owner = ownerOf.get(key) ?? name;
    if (owner !== name) twice.push(`a key is of ${owner} and of ${name}`);
    ownerOf.set(key, name);
    keys.set(key, name);
  }

  function lookAtHost({ access, keys }: Look): void {
    const folder = join(login.host.machine.root, HOST.keys);
    for (const name of readdirSync(folder).filter((each) => each !== '.new')) {
      for (const line of login.keyFile(name)) {
        const key = line.replace(/^expiry-time="\d{14}Z" /, '');
        sawKey(key, name, keys);
        access.add(`${name} has on the login host the key ${key}`);
      }
    }
    for (const line of login.file(HOST.group).split('\n')) {
      const [tool = '', , , members = ''] = line.split(':');
      for (const member of members.split(',').filter((each) => each !== '')) {
        access.add(`${member} is on the login host a member of ${tool}`);
      }
    }
    for (const [, tool] of login.file(HOST.sudoers).matchAll(/^%(\S+)/gm)) {
      access.add(`${tool} has on the login host a sudo rule`);
    }
  }

  async function lookAtDatabases({ access, accounts }: Look): Promise<void> {
    for (const server of SERVERS) {
      const rows = await administer(
        world[server].socket,
        `SELECT User, Priv FROM mysql.global_priv WHERE User REGEXP '^[su][0-9]+$'
         AND SUBSTR(User, 2) BETWEEN ${ids.people[0]?.first} AND ${ids.tools.at(-1)?.last};`,
      );
      for (const line of rows.split('\n').filter((each) => each !== '')) {
        const [user = '', row = '{}'] = line.split('\t');
        const said = JSON.parse(row) as {
          account_locked?: boolean;
          authentication_string?: string;
        };
        const isOpen = said.account_locked !== true;
        const verifier = said.authentication_string ?? '';
        accounts.set(`${user} on ${server}`, { row, isOpen, verifier });
        const name = nameOf.get(Number(user.slice(1))) ?? user;
        if (isOpen) access.add(`${name} may log in to ${server}`);
      }
    }
  }

  /** By number. */
  function readHomes(): Map<number, Credentials> {
    const found = new Map<number, Credentials>();
    for (const [area, prefix] of [
      [files.root + files.toolHomes, 'tools.'],
      [files.root + files.personHomes, ''],
    ] as const) {
      for (const name of readdirSync(area).filter((each) => !each.startsWith('.'))) {
        const number = lstatSync(join(area, name)).uid;
        saw(number, prefix + name);
        const credentials = readCredentials(join(area, name, 'replica.my.cnf'));
        if (credentials !== undefined) found.set(number, credentials);
      }
    }
    return found;
  }

  const checker: Checker = {
    twice,
    isKnown: (each) => (typeof each === 'number' ? nameOf.has(each) : numberOf.has(each)),
    async look() {
      const look: Look = { access: new Set(), keys: new Map(), accounts: new Map() };
      // what locks is an operational attribute
      const entries = await readDirectory(world, { operational: true });
      for (const [dn, entry] of entries) lookAtEntry(dn, entry, look);
      readHomes();
      await lookAtDatabases(look);
      lookAtHost(look);
      return look;
    },
    async lookBeforeLoss() {
      for (const { user, password } of readHomes().values()) {
        const known = passwords.get(user) ?? new Set();
        passwords.set(user, known.add(verifierOf(password)));
        for (const each of known) withdrawn.add(`${user} ${each}`);
        withdrawn.delete(`${user} ${verifierOf(password)}`);
      }
      return checker.look();
    },
    more(before, now) {
      const old = [...now.accounts].flatMap(([where, { row, isOpen }]) => {
        const [user = ''] = where.split(' ');
        const of = [...(passwords.get(user) ?? [])].filter((each) => row.includes(each));
        return isOpen && of.some((each) => withdrawn.has(`${user} ${each}`))
          ? [`${nameOf.get(Number(user.slice(1)))} may log in as ${where} by an old password`]
          : [];
      });
      return [...now.access].filter((line) => !before.access.has(line)).concat(old);
    },
    less: (before, now) => [...before.access].filter((line) => !now.access.has(line)),
    async wrongCredentials(now, tried) {
      const active = await query<{ uid: number; account: string }>(
        world,
        `SELECT uid, account FROM tools WHERE state = 'active'
         UNION ALL SELECT uid, shell_name FROM people JOIN realm_members ON person = uid WHERE state = 'active'`,
      );
      const homes = readHomes();
      const wrong = active.map(async ({ uid, account }) => {
        const user = `${account.startsWith('tools.') ? 's' : 'u'}${uid}`;
        const home = homes.get(uid);
        if (home === undefined) return [`${account} has no file of its password`];
        const { password, owner, mode } = home;
        if (home.user !== user || owner !== uid || (mode & 0o007) !== 0) {
          return [
            `${account}: ${home.user}'s password in a file of ${owner}'s, ${mode.toString(8)}`,
          ];
        }
        const differs = SERVERS.filter((server) => {
          const seen = now.accounts.get(`${user} on ${server}`);
          return seen?.isOpen !== true || seen.verifier !== verifierOf(password);
        });
        const refused: string[] = [];
        for (const server of tried.includes(account) ? SERVERS : []) {
          if (!(await logsIn(world[server].socket, user, password))) refused.push(server);
        }
        return [...differs, ...refused].map(
          (server) => `${account}'s password is not that of ${server}`,
        );
      });
      return (await Promise.all(wrong)).flat();
    },
  };
  return checker;
}

interface Credentials {
  user: string;
  password: string;
  owner: number;
  mode: number;
}

function readCredentials(path: string): Credentials | undefined {
  try {
    const text = readFileSync(path, 'utf8');
    const field = (name: string) =>
      new RegExp(`^${name}\\s*=\\s*(\\S+)`, 'm').exec(text)?.[1] ?? '';
    const { uid: owner, mode } = lstatSync(path);
    return { user: field('user'), password: field('password'), owner, mode: mode & 0o7777 };
  } catch {
    return undefined;
  }
}

/** As MariaDB stores a password: mysql_native_password. */
function verifierOf(password: string): string {
  const once = createHash('sha1').update(password).digest();
  return `*${createHash('sha1').update(once).digest('hex').toUpperCase()}`;
}

async function logsIn(socketPath: string, user: string, password: string): Promise<boolean> {
  try {
    const connection = await createConnection({ socketPath, user, password });
    await connection.end();
    return true;
  } catch {
    return false;
  }
}

function rdnOf(dn: string): string {
  return /^[^=]+=([^,]+)/.exec(dn)?.[1] ?? basename(dn);
}

/** The account of a line of access. */
export function accountOf(line: string): string {
  return line.slice(0, line.indexOf(' '));
}

/** That account, and for a membership the tool. */
export function accountsOf(line: string): string[] {
  const [, tool] = / a member of (\S+)$/.exec(line) ?? [];
  return [accountOf(line), ...(tool === undefined ? [] : [tool])];
}

/**
 * What is wrong with the events that a portal has received, once it has received the last one.
 *
 * @param gaps how often numbers may have continued elsewhere: once for each time that PostgreSQL came back
 */
export async function wrongEvents({ world, portal }: Login, gaps: number): Promise<string[]> {
  const rows = await query<{ seq: string; id: string }>(
    world,
    'SELECT seq, id FROM events WHERE portal = $1 AND seq IS NOT NULL',
    [portal.name],
  );
  const heard = new Map(portal.heard.map(({ seq, id }) => [String(seq), id]));
  const missing = rows.filter(({ seq, id }) => heard.get(seq) !== id);
  const jumps = portal.disorder.filter((each) => each.includes(' came after '));
  const backwards = portal.heard.filter(({ seq }, n) => seq <= (portal.heard[n - 1]?.seq ?? 0));
  const ids = new Set(portal.heard.map(({ id }) => id));
  return [
    ...missing.map(({ seq }) => `the portal has not heard ${seq}`),
    ...portal.disorder.filter((each) => each.includes('another event')),
    ...(jumps.length > gaps ? jumps.slice(gaps) : []),
    ...backwards.map(({ seq }) => `${seq} came after a higher number`),
    ...(ids.size === portal.heard.length ? [] : ['an event has two numbers']),
  ];
}
