import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseDocument, stringify } from 'yaml';
import type { IdRange } from '../../deploy/ldap/render.ts';

/** Chamberlain's config file as src/shared/config.ts reads it: only what a stack needs. */
export interface StackConfig {
  readonly realm: string;
  readonly admin: string;
  readonly secrets: string;
  readonly adminKey: string;
  readonly postgres: { host: string; port: number; database: string; caFile?: string };
  readonly redis: { url: string; caFile?: string };
  readonly ldap: { uri: string; base: string; caFile?: string };
  readonly ids: {
    people: readonly IdRange[];
    tools: readonly IdRange[];
    others?: readonly IdRange[];
    realmGid: number;
  };
  readonly files: {
    root: string;
    toolHomes: string;
    personHomes: string;
    toolHomeMode: string;
    skel: string;
  };
  readonly databases: {
    maxUserConnections: number;
    servers: readonly { name: string; kind: 'replica' | 'toolsdb'; socket: string }[];
  };
  readonly keys: { maxPerPerson: number };
  readonly archives: { homes: string; databases: string; keepDays?: number };
  readonly backups?: { recipients: readonly string[] };
  readonly leaving?: {
    graceDays?: number;
    personGraceDays?: number;
    mostSuspensionsPerHour?: number;
  };
  readonly credentials?: { overlapSeconds?: number };
  readonly reservedNames?: readonly string[];
  readonly retention?: { eventsDays?: number; requestsDays?: number };
  readonly sweep?: { everyMinutes?: number; mostShare?: number; atLeast?: number };
  readonly portals: readonly {
    name: string;
    keys: readonly { kid: string; publicKey: string }[];
    kinds: 'all' | readonly string[];
    subjectEvents: boolean;
    speaksForAdmins: boolean;
    events?: 'queue' | 'http';
    reads?: readonly ('public' | 'own' | 'mail' | 'all')[];
  }[];
  readonly api?: {
    listen?: string;
    certificateFile?: string;
    keyFile?: string;
    trustedProxies?: readonly string[];
    mostCallsPerMinute?: { portal?: number; address?: number };
  };
}

/** The parts of the config that do not depend on where the servers are. */
export const REALM = {
  realm: 'tools',
  admin: 'admin',
  files: {
    toolHomes: '/data/project',
    personHomes: '/home',
    toolHomeMode: '2775',
    skel: '/etc/skel',
  },
  keys: { maxPerPerson: 50 },
  maxUserConnections: 10,
} as const;

/**
 * One portal of the config, with one key. Unlike an admin's own key, a real portal receives events of every
 * subject. It may send requests for admins, so that a stack needs no other portal.
 */
export function portalWith(name: string, publicKey: string): StackConfig['portals'][number] {
  return {
    name,
    keys: [{ kid: `${name.replace(/^admin\./, '')}-1`, publicKey }],
    kinds: 'all',
    subjectEvents: !name.startsWith('admin.'),
    speaksForAdmins: !name.startsWith('admin.'),
  };
}

/** A whole config, from what differs between one stack or test and the next. */
export function composeConfig(parts: {
  secrets: string;
  adminKey: string;
  postgres: StackConfig['postgres'];
  redisUrl: string;
  ldap: StackConfig['ldap'];
  ids: StackConfig['ids'];
  dataRoot: string;
  sockets: { replica: string; tools: string };
  portals: StackConfig['portals'];
}): StackConfig {
  return {
    realm: REALM.realm,
    admin: REALM.admin,
    secrets: parts.secrets,
    adminKey: parts.adminKey,
    postgres: parts.postgres,
    redis: { url: parts.redisUrl },
    ldap: parts.ldap,
    ids: parts.ids,
    files: { root: parts.dataRoot, ...REALM.files },
    databases: {
      maxUserConnections: REALM.maxUserConnections,
      servers: [
        { name: 'replica', kind: 'replica', socket: parts.sockets.replica },
        { name: 'toolsdb', kind: 'toolsdb', socket: parts.sockets.tools },
      ],
    },
    keys: REALM.keys,
    archives: {
      homes: join(parts.dataRoot, 'archives/homes'),
      databases: join(parts.dataRoot, 'archives/databases'),
    },
    portals: parts.portals,
  };
}

/** The ranges of a stack; `realmGid` is the group of every person. */
export const IDS = {
  people: [
    { first: 1000, last: 49_999 },
    { first: 100_000, last: 499_999 },
  ],
  tools: [{ first: 50_000, last: 59_999 }],
  realmGid: 500,
} as const;

export function writeConfig(file: string, config: StackConfig): void {
  writeFileSync(file, stringify(config), { mode: 0o600 });
}

/**
 * Writes the config if there is none. An existing one may have been edited, so it stays as it is except for the
 * addresses of Redis and of the API, which change if their ports were taken meanwhile.
 */
export function keepConfig(file: string, config: StackConfig): void {
  if (!existsSync(file)) return writeConfig(file, config);
  const document = parseDocument(readFileSync(file, 'utf8'));
  const [fault] = document.errors;
  if (fault !== undefined) {
    throw new Error(`${file} cannot be read; correct it, or remove it: ${fault.message}`);
  }
  const wanted: [at: string[], value: string | undefined][] = [
    [['redis', 'url'], config.redis.url],
    [['api', 'listen'], config.api?.listen],
  ];
  const changed = wanted.filter(
    ([at, value]) => value !== undefined && document.getIn(at) !== value,
  );
  if (changed.length === 0) return;
  for (const [at, value] of changed) document.setIn(at, value);
  writeFileSync(file, document.toString({ lineWidth: 0 }));
}
