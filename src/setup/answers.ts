/** What `chamberlain setup` must know, and the configuration that it writes from that. */
import { readFileSync } from 'node:fs';
import * as z from 'zod/mini';
import { readLocalNames } from '../doctor/host.ts';
import { parseNewShellName } from '../identity/names.ts';
import { isReservedName } from '../identity/reserved-names.ts';
import {
  absolutePath,
  filled,
  hostName,
  idRange,
  ldapUri,
  overlapOf,
  redisUrl,
  someOf,
  unixName,
} from '../shared/config-values.ts';
import { ed25519PublicKey } from '../ssh-keys/ed25519-value.ts';
import { adminOfPortal, type Config } from '../shared/config.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { isAddress, isLocal } from '../shared/tls.ts';
import { parseSshKey } from '../ssh-keys/ssh-key.ts';
import { listenOf, mariadbSocket, POSTGRES, REDIS } from './places.ts';

/** Who makes what Chamberlain needs on a server that is there already. Only setup uses it. */
const administrator = z.strictObject({ user: filled, passwordFile: absolutePath });
export type Administrator = z.infer<typeof administrator>;
/** A DN as which to bind; or root of this machine (SASL EXTERNAL), by ldapi. */
const directoryLogin = z.union([z.literal('EXTERNAL'), administrator]);
export type DirectoryLogin = z.infer<typeof directoryLogin>;

/** A file of answers. What it lacks is asked for. */
export const answersFile = z.strictObject({
  realm: z.optional(filled),
  base: z.optional(filled),
  listen: z.optional(filled),
  admin: z.optional(
    z.strictObject({
      name: z.optional(filled),
      displayName: z.optional(filled),
      email: z.optional(filled),
      sshKey: z.optional(filled),
      signingKey: z.optional(filled),
    }),
  ),
  database: z.optional(
    z.strictObject({
      name: unixName,
      kind: z.enum(['replica', 'toolsdb']),
      host: z.optional(filled),
      port: z.optional(z.int()),
      caFile: z.optional(absolutePath),
      administrator: z.optional(administrator),
    }),
  ),
  postgres: z.optional(
    z.strictObject({
      host: filled,
      port: z.prefault(z.int(), 5432),
      database: z.prefault(unixName, POSTGRES.cluster),
      caFile: z.optional(absolutePath),
      administrator: z.optional(administrator),
    }),
  ),
  ldap: z.optional(
    z
      .strictObject({
        uri: ldapUri,
        caFile: z.optional(absolutePath),
        administrator: directoryLogin,
        config: z.optional(directoryLogin),
      })
      .check(
        z.refine(
          ({ uri, administrator: login, config }) =>
            /^ldapi:/iu.test(uri) || (login !== 'EXTERNAL' && config !== 'EXTERNAL'),
          'EXTERNAL means root of this machine, and works only with ldapi://',
        ),
      ),
  ),
  redis: z.optional(z.strictObject({ url: redisUrl, caFile: z.optional(absolutePath) })),
  ids: z.optional(
    z.strictObject({ people: someOf(idRange), tools: someOf(idRange) }).check(
      z.superRefine((ids, context) => {
        const message = overlapOf(ids);
        if (message !== undefined) context.addIssue({ code: 'custom', message });
      }),
    ),
  ),
});

export interface Answers {
  realm: string;
  base: string;
  /** the name by which other machines reach the servers; undefined if they do not */
  listen: string | undefined;
  admin: {
    name: string;
    displayName?: string | undefined;
    email?: string | undefined;
    /** undefined if the configuration is there: then the realm mostly has its first admin */
    sshKey: string | undefined;
    signingKey: string;
  };
  /** with a host, if it is there already */
  database: Named<
    Pick<Config['databases']['servers'][number], 'name' | 'kind' | 'host' | 'port' | 'caFile'>
  >;
  /** those that are there already, as the configuration names them */
  postgres: Named<Config['postgres']> | undefined;
  redis: Config['redis'] | undefined;
  ldap: NamedDirectory | undefined;
  ids: { people: readonly Range[]; tools: readonly Range[] };
  /** the roles that other machines run, as the configuration says */
  elsewhere: readonly string[];
}
export type NamedDirectory = Pick<Config['ldap'], 'uri' | 'caFile'> & {
  /** who may write everything below the base: its olcRootDN */
  administrator?: DirectoryLogin | undefined;
  /** who may write cn=config; by default root of this machine, by ldapi, and otherwise the same */
  config?: DirectoryLogin | undefined;
};
type Named<T> = T & { administrator?: Administrator | undefined };
export type Range = { first: number; last: number };

const DATABASE = { name: 'toolsdb', kind: 'toolsdb' } as const;
/** People begin above the numbers that Debian gives to the first users of a machine. */
const IDS = {
  people: [
    { first: 20_000, last: 49_999 },
    { first: 100_000, last: 499_999 },
  ],
  tools: [{ first: 50_000, last: 59_999 }],
};

/** A question: where its answer stands in the file, and what is asked at a terminal. */
export interface Question {
  key: 'realm' | 'base' | 'listen' | 'admin.name' | 'admin.sshKey' | 'admin.signingKey';
  text: string;
  fallback?: string;
  /** it may have no answer, and then an empty text is one */
  isOptional?: true;
  /** Why a text is no answer; a sentence. Undefined if it is one. */
  refuses: (text: string) => string | undefined;
}

export const QUESTIONS: readonly Question[] = [
  {
    key: 'realm',
    text: "the realm, which is the prefix of every tool's account",
    fallback: 'tools',
    refuses: (text) =>
      unixName.safeParse(text).success
        ? undefined
        : 'A realm is a letter, then a-z 0-9 -; at most 16 characters.',
  },
  {
    key: 'base',
    text: 'the base of the directory, such as dc=example,dc=org',
    refuses: (text) =>
      /^(dc|o)=[a-z0-9-]+(,(dc|o|c)=[a-z0-9-]+)*$/u.test(text)
        ? undefined
        : 'A base consists of dc=NAME and o=NAME with commas between them, in lower case.',
  },
  {
    key: 'listen',
    text: 'the name by which other machines reach this one, such as realm.example.org (empty: they do not)',
    isOptional: true,
    refuses: (text) =>
      text === '' || isReachableName(text)
        ? undefined
        : 'A name consists of a-z 0-9 - and dots, and has at most 64 characters; an address or localhost is no name.',
  },
  {
    key: 'admin.name',
    text: 'the shell name of the first admin',
    refuses: refuseAdmin,
  },
  {
    key: 'admin.sshKey',
    text: "the admin's public SSH key: the line, or the path of its file",
    refuses: (text) => {
      const verdict = parseSshKey(text);
      return verdict.ok ? undefined : verdict.sentence;
    },
  },
  {
    key: 'admin.signingKey',
    text: "the public half of the admin's signing key: the path of its file (`openssl pkey -pubout` prints it)",
    refuses: (text) =>
      ed25519PublicKey.safeParse(text).success
        ? undefined
        : 'This is not an Ed25519 public key in PEM, as `openssl pkey -pubout` prints it.',
  },
];

/** The common name of a certificate has at most 64 characters. */
const isReachableName = (text: string): boolean =>
  hostName.safeParse(text).success &&
  text.length <= 64 &&
  !isAddress(text) &&
  !isLocal(text) &&
  !/^localhost\.|^ip6-/u.test(text);

function refuseAdmin(name: string): string | undefined {
  if (parseNewShellName(name) === undefined) {
    return 'A shell name starts with a-z and has at most 31 characters: a-z, 0-9 and -.';
  }
  if (isReservedName(name, [])) return `The name ${name} is reserved: no person may have it.`;
  const isTaken = readLocalNames('/etc').some((each) => each.name === name);
  return isTaken ? `${name} is a local account or group of this machine.` : undefined;
}

/** The answers that are known, by the keys of the questions, and the rest of the file. */
export interface Known {
  given: Partial<Record<Question['key'], string>>;
  rest: Pick<Partial<Answers>, 'database' | 'elsewhere' | 'ids' | 'ldap' | 'postgres' | 'redis'> & {
    displayName?: string;
    email?: string;
  };
}

/**
 * What a file of answers says; where it says nothing, what the configuration says. An answer that begins with `/` is
 * the path of a file with the answer. Throws as node:fs does.
 */
export function knownAnswers(file: z.infer<typeof answersFile>, config: Config | undefined): Known {
  const portal = config?.portals.find(({ name }) => adminOfPortal(name) !== undefined);
  const { admin = {}, database, ids } = file;
  const servers = config?.databases.servers ?? [];
  const server =
    servers.find(({ name, socket }) => socket === mariadbSocket(name)) ??
    servers.find(({ host }) => host !== undefined);
  const named = {
    postgres: config?.postgres.host === POSTGRES.host ? undefined : config?.postgres,
    redis: config?.redis.url === REDIS.url ? undefined : config?.redis,
    ldap:
      config?.ldap.shared === true
        ? { uri: config.ldap.uri, caFile: config.ldap.caFile }
        : undefined,
  };
  const given = {
    realm: file.realm ?? config?.realm,
    base: file.base ?? config?.ldap.base,
    listen: file.listen ?? (config === undefined ? undefined : listenOf(config)),
    'admin.name': admin.name ?? adminOfPortal(portal?.name ?? ''),
    'admin.sshKey': admin.sshKey,
    'admin.signingKey': admin.signingKey ?? portal?.keys[0]?.publicKey,
  };
  return {
    given: Object.fromEntries(
      Object.entries(given).flatMap(([key, text]) =>
        text === undefined ? [] : [[key, answerIn(text)]],
      ),
    ),
    rest: {
      ...(server === undefined ? {} : { database: withoutSocket(server) }),
      ...(database === undefined ? {} : { database }),
      elsewhere: config?.machines.flatMap(({ roles }) => roles) ?? [],
      ...{ postgres: file.postgres ?? named.postgres, redis: file.redis ?? named.redis },
      ldap: file.ldap ?? named.ldap,
      ...((ids ?? config?.ids) ? { ids: ids ?? (config as Config).ids } : {}),
      ...(admin.displayName === undefined ? {} : { displayName: admin.displayName }),
      ...(admin.email === undefined ? {} : { email: admin.email }),
    },
  };
}

const withoutSocket = ({ name, kind, host, port, caFile }: Answers['database']) => ({
  ...{ name, kind, host, port, caFile },
});

/** The answer itself, without blanks around it: of a path, the text of that file. */
export function answerIn(text: string): string {
  return (text.startsWith('/') ? readFileSync(text, 'utf8') : text).trim();
}

/** Every question must have its answer. If there is a configuration, those about the first admin may have none. */
export function completeAnswers({ given, rest }: Known): Answers {
  const { displayName, email, database = DATABASE, ids = IDS, postgres, redis, ldap } = rest;
  const { elsewhere = [] } = rest;
  return {
    realm: given.realm ?? '',
    base: given.base ?? '',
    listen: given.listen || undefined,
    admin: {
      ...{ name: given['admin.name'] ?? '', displayName, email, sshKey: given['admin.sshKey'] },
      signingKey: `${given['admin.signingKey'] ?? ''}\n`,
    },
    ...{ database, ids, postgres, redis, ldap, elsewhere },
  };
}

/** Only units of systemd listen for other machines, and all servers by one name. */
export function refuseListenWithout(
  hasSystemd: boolean,
  { listen, ldap }: Pick<Answers, 'ldap' | 'listen'>,
): void {
  if (listen === undefined) return;
  if (ldap !== undefined) {
    throw new ChamberlainError(
      'USAGE',
      '`listen` and `ldap` exclude each other: `listen` is only for a directory that setup makes itself',
      {
        action:
          'Leave out one of them. Login hosts reach the directory in `ldap` as `ldap.hostsUri` in the configuration says.',
      },
    );
  }
  if (hasSystemd) return;
  throw new ChamberlainError('USAGE', '`listen` needs systemd, which does not run here', {
    action: 'Leave it out: the servers are then reached by their unix sockets.',
  });
}
