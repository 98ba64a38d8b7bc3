/**
 * The configuration: one YAML file, checked, frozen. Unknown keys are refused; secrets
 * are files in one folder, each readable by the unix user that needs it.
 */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod/mini';
import {
  absolutePath,
  checkValue,
  filled,
  fingerprints,
  hostName,
  idRange,
  intOf,
  ldapsUri,
  listenAddress,
  networkAddress,
  parseListen,
  overlapOf,
  ldapUri,
  loadYaml,
  redisUrl,
  someOf,
  unixName,
} from './config-values.ts';
import { cannotRead, ChamberlainError } from './errors.ts';
import { MOVABLE_ROLES, type MovableRole } from '../roles/index.ts';
import { parseImportedShellName } from '../identity/names.ts';
import type { Realm } from '../reconcile/wanted.ts';
import { fingerprintOf } from '../ssh-keys/ed25519-key.ts';
import { addedPortalFields, portalFields } from './portal-fields.ts';
import { isThisMachine } from './tls.ts';
import { sealKeyId, type SealKey } from '../seals/seal.ts';

const databaseServer = z
  .strictObject({
    name: unixName,
    kind: z.enum(['replica', 'toolsdb']),
    socket: z.optional(absolutePath),
    host: z.optional(filled),
    port: z.optional(z.int()),
    caFile: z.optional(absolutePath),
  })
  .check(
    z.refine(
      (server) => (server.socket === undefined) !== (server.host === undefined),
      'needs either socket or host',
    ),
  );

const shellName = z
  .string()
  .check(
    z.refine(
      (name) => parseImportedShellName(name) !== undefined,
      'is not a shell name: it must start with a-z and consist of 1 to 32 characters: a-z, 0-9, - and _',
    ),
  );

/** Another machine that runs roles. If it has joined, the rest says by which join request, when, and by whom. */
const machine = z.strictObject({
  name: hostName,
  roles: someOf(z.enum(MOVABLE_ROLES)),
  fingerprint: z.optional(filled),
  joinedAt: z.optional(filled),
  by: z.optional(filled),
});

/** The HTTP API; without this section the realm has none. */
const api = z
  .strictObject({
    listen: z.prefault(listenAddress, '127.0.0.1:8466'),
    /** PEM; both or neither */
    certificateFile: z.optional(absolutePath),
    keyFile: z.optional(absolutePath),
    /** proxies whose `X-Forwarded-For` says where a call comes from; `unix`: whoever connects to the socket */
    trustedProxies: z.prefault(z.array(z.union([z.literal('unix'), networkAddress])), []),
    /** further calls are answered with 429 */
    mostCallsPerMinute: z.prefault(
      z.strictObject({
        /** of each portal, and of each admin's own key */
        portal: z.prefault(intOf(1, 10_000_000), 6000),
        /** of each address, without a token */
        address: z.prefault(intOf(1, 10_000_000), 3000),
      }),
      {},
    ),
  })
  .check(
    z.refine(
      ({ certificateFile, keyFile }) => (certificateFile === undefined) === (keyFile === undefined),
      'needs both certificateFile and keyFile, or neither',
    ),
    z.refine(({ listen, certificateFile }) => {
      const at = parseListen(listen);
      return (
        certificateFile !== undefined || at === undefined || 'path' in at || isThisMachine(at.host)
      );
    }, 'listens for other machines, so it needs TLS: set certificateFile and keyFile, or listen at 127.0.0.1 or a unix socket behind a proxy'),
  );

/**
 * A token lives for up to 7 days, and until then the same request must get the same verdict. PostgreSQL enforces it
 * too.
 */
const keptDays = z
  .int()
  .check(z.minimum(8, 'must be at least 8 days: a token lives for 7'), z.maximum(36_500));

const schema = z
  .strictObject({
    realm: unixName,
    admin: z.prefault(filled, 'admin'),
    secrets: absolutePath,
    adminKey: z.optional(absolutePath),
    postgres: z.strictObject({
      /** the folder of its socket; or a host, which is reached by TLS */
      host: filled,
      port: z.prefault(z.int(), 5432),
      database: filled,
      caFile: z.optional(absolutePath),
    }),
    redis: z.strictObject({ url: redisUrl, caFile: z.optional(absolutePath) }),
    ldap: z.strictObject({
      uri: ldapUri,
      /** as login hosts reach the directory; by default `uri` */
      hostsUri: z.optional(ldapsUri),
      base: filled,
      caFile: z.optional(absolutePath),
      /** others have entries there, too, and access rules: `setup` has added ours */
      shared: z.optional(z.boolean()),
    }),
    ids: z.strictObject({
      people: someOf(idRange),
      tools: someOf(idRange),
      /** numbers that other realms give on the same servers: what has one is theirs, and not unmanaged */
      others: z.prefault(z.array(idRange), []),
      realmGid: z.prefault(intOf(1, 65_533), 500),
    }),
    files: z.strictObject({
      root: z.prefault(z.union([z.literal(''), absolutePath]), ''),
      toolHomes: z.prefault(absolutePath, '/data/project'),
      personHomes: z.prefault(absolutePath, '/home'),
      toolHomeMode: z.prefault(z.string().check(z.regex(/^[0-7]{3,4}$/)), '2775'),
      skel: z.prefault(absolutePath, '/etc/skel'),
    }),
    databases: z.strictObject({
      maxUserConnections: z.prefault(z.int().check(z.minimum(1)), 10),
      servers: someOf(databaseServer),
    }),
    keys: z.prefault(
      z.strictObject({
        maxPerPerson: z.prefault(z.int().check(z.minimum(1)), 50),
        /** fingerprints to refuse, besides those that are shipped */
        knownBad: fingerprints,
      }),
      {},
    ),
    sweep: z.prefault(
      z.strictObject({
        /** from the beginning of one sweep to that of the next; at most 30 days */
        everyMinutes: z.prefault(z.number().check(z.minimum(1), z.maximum(43_200)), 60),
        /** a share of all subjects: if more have drifted, a sweep corrects none of them and is held */
        mostShare: z.prefault(
          z
            .number()
            .check(
              z.minimum(0),
              z.maximum(1, 'must be a share of all subjects, from 0 to 1, such as 0.05'),
            ),
          0.05,
        ),
        /** so many subjects may always be corrected */
        atLeast: z.prefault(z.int().check(z.minimum(0)), 10),
      }),
      {},
    ),
    /** for credentials that are changed as a matter of routine */
    credentials: z.prefault(
      z.strictObject({
        /** how long the old password works as well as the new one; at most 30 days */
        overlapSeconds: z.prefault(intOf(0, 2_592_000), 86_400),
      }),
      {},
    ),
    leaving: z.prefault(
      z.strictObject({
        /** from an approved tool.delete until the tool is archived */
        graceDays: z.prefault(intOf(1, 3650), 40),
        /** from an approved person.delete until the person is archived; 0: at once, without a warning */
        personGraceDays: z.prefault(intOf(0, 3650), 30),
        /** single suspensions in an hour; further ones wait for an admin's release */
        mostSuspensionsPerHour: z.prefault(z.int().check(z.minimum(1)), 20),
      }),
      {},
    ),
    archives: z.prefault(
      z.strictObject({
        /** a folder of root on the file server; one of the role `databases` on its own machine */
        homes: z.prefault(absolutePath, '/srv/chamberlain/homes'),
        databases: z.prefault(absolutePath, '/srv/chamberlain/databases'),
        /** how long an archive is kept after its contents were deleted */
        keepDays: z.prefault(intOf(1, 36_500), 365),
      }),
      {},
    ),
    /** the public keys of age that `backup` encrypts to; their private halves must be on no machine of the realm */
    backups: z.optional(
      z.strictObject({
        recipients: someOf(
          z.string().check(z.regex(/^age1[0-9a-z]+$/, 'is not a public key of age (age1…)')),
        ),
      }),
    ),
    /** `chamberlain join` adds to it, and `chamberlain host remove` removes from it: `setup` leaves out their roles */
    machines: z.prefault(z.array(machine), []),
    /** shell names that no person may get, besides those of identity/reserved-names.ts */
    reservedNames: z.prefault(z.array(shellName), []),
    /** how long records are kept when they have no further consequence, in days */
    retention: z.prefault(
      z.strictObject({
        /** events, counted from when they were written; an event that its portal has not taken is kept */
        eventsDays: z.prefault(keptDays, 30),
        /** requests, counted from when they were done; also approvals, and requests for access */
        requestsDays: z.prefault(keptDays, 730),
        /** sweeps; the last 1,000 are kept anyway */
        sweepsDays: z.prefault(keptDays, 90),
        /** the outcome of each part of a repair */
        repairsDays: z.prefault(keptDays, 30),
        /** who has read personal data through the API */
        readsDays: z.prefault(keptDays, 90),
      }),
      {},
    ),
    api: z.optional(api),
    portals: someOf(z.strictObject(portalFields)),
  })
  .check(
    z.superRefine((config, context) => {
      const seen = new Set<string>();
      const named = [
        ...config.portals.map(({ name }, n) => ({ name, path: ['portals', n] })),
        ...config.databases.servers.map(({ name }, n) => ({
          ...{ name, path: ['databases', 'servers', n] },
        })),
      ];
      for (const { name, path } of named) {
        if (seen.has(name))
          context.addIssue({ code: 'custom', message: `${name} is listed twice`, path });
        seen.add(name);
      }
      const roles = config.machines.flatMap((each) => each.roles);
      const names = config.machines.map(({ name }) => name);
      for (const twice of [...roles, ...names].filter((each, at, all) => all.indexOf(each) < at))
        context.addIssue({ code: 'custom', message: `machines: ${twice} is listed twice` });
      const message = overlapOf(config.ids);
      if (message !== undefined) context.addIssue({ code: 'custom', message });
      if (config.files.toolHomes === config.files.personHomes) {
        context.addIssue({
          code: 'custom',
          message: 'tools and people must not have the same area of homes',
        });
      }
    }),
  );

type File = z.infer<typeof schema>;
/** A portal, or an admin's own key. */
export type Portal = File['portals'][number] & {
  /** an admin's request has added it. Its row in PostgreSQL counts in each decision (src/requests/portals-table.ts) */
  byRequest?: true;
  /** only of those: the password of its user of Redis, in lower case hex; undefined: it has no user */
  redisPasswordSha256?: string | undefined;
};
export type Config = Omit<File, 'portals'> & { portals: Portal[] };
export type RoleMachine = Config['machines'][number];

/** Reads and checks the file. Throws CONFIG_INVALID, naming each line that is wrong. */
export function loadConfig(path: string): Config {
  return deepFreeze(loadYaml(path, schema));
}

/** Checks a configuration that comes from another machine. Throws CONFIG_INVALID, naming each setting that is wrong. */
export function checkConfig(value: unknown, act: string): Config {
  return deepFreeze(checkValue(value, schema, act));
}

/** Adds portals that came by request. Throws CONFIG_INVALID, naming what is wrong with one of them. */
export function withPortals(config: Config, portals: readonly { name: string }[]): Config {
  const added = portals.map((portal): Portal => {
    const act = `reading the portal ${portal.name}, which was added by request`;
    return { ...checkValue(portal, z.strictObject(addedPortalFields), act), byRequest: true };
  });
  return deepFreeze({ ...config, portals: [...config.portals, ...added] });
}

/** The machine that runs a role, if it is another one. */
export function machineOf(
  { machines }: Pick<Config, 'machines'>,
  role: string,
): RoleMachine | undefined {
  return machines.find(({ roles }) => roles.includes(role as MovableRole));
}

export type SecretServer = 'postgres' | 'ldap' | 'mariadb' | 'redis';

/** The file of an account's secret. */
export function secretPath(
  config: Pick<Config, 'secrets'>,
  server: SecretServer,
  account: string,
): string {
  return join(config.secrets, `${server}-${account}`);
}

/** The file of the next secret during `chamberlain secret rotate`. */
export const nextOf = (path: string): string => `${path}.next`;
/** The file of the replaced secret, while that is still valid. */
export const oldOf = (path: string): string => `${path}.old`;

/** The secret of an account: the content of `<server>-<account>` in the secrets folder, without its line end. */
export function readSecret(
  config: Pick<Config, 'secrets'>,
  server: SecretServer,
  account: string,
): string {
  const path = secretPath(config, server, account);
  try {
    return readFileSync(path, 'utf8').replace(/\r?\n$/, '');
  } catch (cause) {
    throw cannotRead('secret', path, cause);
  }
}

/**
 * Reads a secret again for each new connection, so that nothing must be restarted when it changes. Throws
 * CONFIG_INVALID at once if it is missing.
 */
export function secretReader(
  config: Pick<Config, 'secrets'>,
  server: SecretServer,
  account: string,
): () => string {
  const read = () => readSecret(config, server, account);
  read();
  return read;
}

/** As `readSecret`, but undefined if there is no such file. */
export function findSecret(
  config: Pick<Config, 'secrets'>,
  server: SecretServer,
  account: string,
): string | undefined {
  try {
    return readSecret(config, server, account);
  } catch (error) {
    const { code } = (error as Error).cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * The key that the directory role signs with: the file `seal-key` in the secrets folder, an Ed25519 key in PEM
 * (PKCS 8), as `openssl genpkey -algorithm ed25519` makes it. Login hosts have the public half.
 */
export function readSealKey(config: Pick<Config, 'secrets'>): SealKey {
  return sealKeyReader(config)();
}

/**
 * Reads that key for each use, so that nothing must be restarted when its file is replaced. Throws CONFIG_INVALID,
 * also when it is called.
 */
export function sealKeyReader(config: Pick<Config, 'secrets'>): () => SealKey {
  const read = ed25519KeyReader('key', join(config.secrets, 'seal-key'));
  let last: SealKey | undefined;
  return () => {
    const privateKey = read();
    if (last?.privateKey !== privateKey) last = { id: sealKeyId(privateKey), privateKey };
    return last;
  };
}

/**
 * Reads a private key for each use: PKCS #8 in PEM, Ed25519. Parses it again if its file has changed. Throws
 * CONFIG_INVALID for anything else, also when it is called.
 */
export function ed25519KeyReader(what: string, path: string): () => KeyObject {
  let last: { pem: Buffer; key: KeyObject } | undefined;
  const read = () => {
    const pem = readKeyFile(what, path);
    if (last?.pem.equals(pem) !== true) last = { pem, key: parseEd25519Key(what, path, pem) };
    return last.key;
  };
  read();
  return read;
}

function readKeyFile(what: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw cannotRead(what, path, cause);
  }
}

function parseEd25519Key(what: string, path: string, pem: Buffer): KeyObject {
  const key = parsePrivateKey(pem);
  if (key?.asymmetricKeyType === 'ed25519') return key;
  throw new ChamberlainError(
    'CONFIG_INVALID',
    `the ${what} ${path} is not an Ed25519 private key in PEM without a passphrase`,
    { action: 'Name the right file: `openssl genpkey -algorithm ed25519` makes one.' },
  );
}

function parsePrivateKey(pem: Buffer): KeyObject | undefined {
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined; // the message of OpenSSL would not help
  }
}

/** The part of the configuration on which the wanted state depends. */
export function realmOf(config: Config): Realm {
  return {
    realm: config.realm,
    realmGid: config.ids.realmGid,
    toolHomes: config.files.toolHomes,
    personHomes: config.files.personHomes,
    toolHomeMode: Number.parseInt(config.files.toolHomeMode, 8),
    maxUserConnections: config.databases.maxUserConnections,
    databaseServers: config.databases.servers.map(({ name, kind }) => ({ name, kind })),
  };
}

/** The names of the portals that get events; the portals of admins' own keys get none. */
export function portalNames({ portals }: Pick<Config, 'portals'>): string[] {
  return portals.map(({ name }) => name).filter((name) => adminOfPortal(name) === undefined);
}

/**
 * The name of this realm's marker on a server that several realms may share: no other realm has its name and numbers.
 */
export function markerName({ realm, ids }: Config): string {
  return `${realm}.${ids.tools[0]?.first}`;
}

/** The shell name of the admin whose own key this portal is, or undefined for a real portal. */
export function adminOfPortal(name: string): string | undefined {
  return name.startsWith('admin.') ? name.slice('admin.'.length) : undefined;
}

/**
 * The portal in whose queues requests are that admins signed with keys that the configuration does not list. No portal
 * can have this name, and no person.
 */
export const ADMINS_QUEUE = 'admin._';

/** The portals from whose queues intake takes requests. */
export function queuesOf({ portals }: Pick<Config, 'portals'>): string[] {
  return [...portals.map(({ name }) => name), ADMINS_QUEUE];
}

/** In whose queues a request of that portal or admin goes. */
export function queueOf({ portals }: Pick<Config, 'portals'>, sender: string): string {
  return portals.some(({ name }) => name === sender) ? sender : ADMINS_QUEUE;
}

/** The keys of admins that the configuration lists, by their fingerprints. */
export function listedAdminKeys({
  portals,
}: Pick<Config, 'portals'>): Map<string, { admin: string; key: KeyObject }> {
  return new Map(
    portals.flatMap(({ name, keys }) => {
      const admin = adminOfPortal(name);
      return admin === undefined
        ? []
        : keys.map(({ publicKey }) => {
            const key = createPublicKey(publicKey);
            return [fingerprintOf(key), { admin, key }] as const;
          });
    }),
  );
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}
