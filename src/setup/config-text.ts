/** The configuration that `chamberlain setup` writes, and how one that is there fits the answers. */
import { stringify } from 'yaml';
import { readLocalNames } from '../doctor/host.ts';
import { parseNewShellName } from '../identity/names.ts';
import { isReservedName } from '../identity/reserved-names.ts';
import type { Config } from '../shared/config.ts';
import type { Answers, Range } from './answers.ts';
import { mariadbSocket, POSTGRES, REDIS, SECRETS, SLAPD, TLS } from './places.ts';
import type { Differs } from './setup.ts';

/** The configuration, in YAML. */
export function renderConfig(answers: Answers): string {
  const { realm, base, admin, ids } = answers;
  const { postgres, redis, server } = serversOf(answers);
  const localNames = new Set(readLocalNames('/etc').map(({ name }) => name));
  const reserved = [...localNames].filter(
    (name) => parseNewShellName(name) !== undefined && !isReservedName(name, []),
  );
  const key = { kid: `${admin.name}-1`, publicKey: admin.signingKey };
  const ranges = ({ first, last }: Range) => ({ first, last });
  const settings = {
    realm,
    secrets: SECRETS,
    ...{ postgres, redis },
    ldap: { ...ldapOf(answers), base },
    ids: { people: ids.people.map(ranges), tools: ids.tools.map(ranges) },
    files: {},
    databases: { servers: [server] },
    reservedNames: reserved, // local accounts of this machine
    portals: [{ name: `admin.${admin.name}`, keys: [key], kinds: 'all' }],
  };
  return `${HEAD}${stringify(settings)}`;
}

/** As the configuration names them. */
function serversOf({ postgres, redis, database }: Answers): {
  postgres: Config['postgres'];
  redis: Config['redis'];
  server: Config['databases']['servers'][number];
} {
  const { name, kind, ...place } = database;
  return {
    postgres: withoutAdministrator(
      postgres ?? { host: POSTGRES.host, port: POSTGRES.port, database: POSTGRES.cluster },
    ),
    redis: redis ?? { url: REDIS.url },
    server: {
      ...{ name, kind },
      ...(place.host === undefined ? { socket: mariadbSocket(name) } : withoutAdministrator(place)),
    },
  };
}

function withoutAdministrator<T extends object>(place: T & { administrator?: unknown }): T {
  const { administrator: _, ...rest } = place;
  return rest as T;
}

/** With `listen`, login hosts reach the directory that setup makes by TLS. */
function ldapOf({ ldap, listen }: Answers): Omit<Config['ldap'], 'base'> {
  if (ldap !== undefined) {
    const { uri, caFile } = ldap;
    return { uri, ...(caFile === undefined ? {} : { caFile }), shared: true };
  }
  const forHosts = { hostsUri: `ldaps://${listen}`, caFile: TLS.ca };
  return { uri: SLAPD.uri, ...(listen === undefined ? {} : forHosts) };
}

const HEAD = `# Written by \`chamberlain setup\`, which does not change it: add to it what you need. docs/install.md, step 4, and
# chamberlain.yaml(5) explain each setting. After a change, run \`chamberlain setup\` again: it restarts the workers.
`;

const rangesIn = (ranges: readonly Range[]): string =>
  ranges.map(({ first, last }) => `${first}-${last}`).join(', ');

/** Where the configuration says something else than the answers, on which what setup makes depends. */
export function differsFromAnswers(config: Config, answers: Answers): Differs {
  const { realm, base, database, ids } = answers;
  const ldap = ldapOf(answers);
  const wanted = serversOf(answers);
  const server = config.databases.servers.find(({ name }) => name === database.name);
  type Value = string | number | undefined;
  const pairs: [what: string, has: Value, wants: Value][] = [
    ['realm', config.realm, realm],
    ['ldap.base', config.ldap.base, base],
    ['secrets', config.secrets, SECRETS],
    ['ids.people', rangesIn(config.ids.people), rangesIn(ids.people)],
    ['ids.tools', rangesIn(config.ids.tools), rangesIn(ids.tools)],
    ['postgres.host', config.postgres.host, wanted.postgres.host],
    ['postgres.port', config.postgres.port, wanted.postgres.port],
    ['postgres.database', config.postgres.database, wanted.postgres.database],
    ['redis.url', config.redis.url, wanted.redis.url],
    ['ldap.uri', config.ldap.uri, ldap.uri],
    ['ldap.shared', String(config.ldap.shared ?? false), String(ldap.shared ?? false)],
    // login hosts may reach a directory of others by another name
    ...(ldap.shared === true
      ? []
      : [['ldap.hostsUri', config.ldap.hostsUri, ldap.hostsUri] satisfies [string, Value, Value]]),
    ['ldap.caFile', config.ldap.caFile, ldap.caFile ?? config.ldap.caFile],
    [`the kind of the server ${database.name}`, server?.kind ?? 'none', database.kind],
    [`the socket of the server ${database.name}`, server?.socket, wanted.server.socket],
    [`the host of the server ${database.name}`, server?.host, wanted.server.host],
  ];
  const wrong = pairs.find(([, has, wants]) => has !== wants);
  if (wrong === undefined) return undefined;
  const [what, has, wants] = wrong;
  return `says that ${what} is ${has ?? 'none'}, but setup needs it to be ${wants ?? 'none'}`;
}
