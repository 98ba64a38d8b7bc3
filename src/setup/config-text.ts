/** The configuration that `chamberlain setup` writes, and how one that is there fits the answers. */
import { readLocalNames } from '../doctor/host.ts';
import { parseNewShellName } from '../identity/names.ts';
import { isReservedName } from '../identity/reserved-names.ts';
import type { Config } from '../shared/config.ts';
import type { Answers, Range } from './answers.ts';
import { mariadbSocket, POSTGRES, REDIS, SECRETS, SLAPD, TLS } from './places.ts';
import type { Differs } from './setup.ts';

/** The configuration. JSON is YAML. */
export function renderConfig({ realm, base, listen, admin, database, ids }: Answers): string {
  const localNames = new Set(readLocalNames('/etc').map(({ name }) => name));
  const reserved = [...localNames].filter(
    (name) => parseNewShellName(name) !== undefined && !isReservedName(name, []),
  );
  const { host, port, cluster } = POSTGRES;
  const { name, kind } = database;
  const key = { kid: `${admin.name}-1`, publicKey: admin.signingKey };
  const ranges = ({ first, last }: Range) => ({ first, last });
  const settings = {
    realm,
    secrets: SECRETS,
    postgres: { host, port, database: cluster },
    redis: { url: REDIS.url },
    ldap: { uri: SLAPD.uri, ...ldapForHosts(listen), base },
    ids: { people: ids.people.map(ranges), tools: ids.tools.map(ranges) },
    files: {},
    databases: { servers: [{ name, kind, socket: mariadbSocket(name) }] },
    reservedNames: reserved, // local accounts of this machine
    portals: [{ name: `admin.${admin.name}`, keys: [key], kinds: 'all' }],
  };
  const lines = Object.entries(settings).map(([at, value]) => `${at}: ${JSON.stringify(value)}\n`);
  return `${HEAD}${lines.join('')}`;
}

/** With `listen`, login hosts reach the directory by TLS. */
const ldapForHosts = (listen: string | undefined) =>
  listen === undefined ? undefined : { hostsUri: `ldaps://${listen}`, caFile: TLS.ca };

const HEAD = `# Written by \`chamberlain setup\`, which does not change it: add to it what you need. docs/install.md, step 4, and
# chamberlain.yaml(5) explain each setting. After a change, run \`chamberlain setup\` again: it restarts the workers.
`;

/** Where the configuration says something else than the answers, on which what setup makes depends. */
export function differsFromAnswers(config: Config, answers: Answers): Differs {
  const { realm, base, listen, database } = answers;
  const hosts = ldapForHosts(listen);
  const server = config.databases.servers.find(({ name }) => name === database.name);
  type Value = string | number | undefined;
  const pairs: [what: string, has: Value, wants: Value][] = [
    ['realm', config.realm, realm],
    ['ldap.base', config.ldap.base, base],
    ['secrets', config.secrets, SECRETS],
    ['postgres.host', config.postgres.host, POSTGRES.host],
    ['postgres.port', config.postgres.port, POSTGRES.port],
    ['redis.url', config.redis.url, REDIS.url],
    ['ldap.uri', config.ldap.uri, SLAPD.uri],
    ['ldap.hostsUri', config.ldap.hostsUri, hosts?.hostsUri],
    ['ldap.caFile', config.ldap.caFile, hosts === undefined ? config.ldap.caFile : hosts.caFile],
    [`the kind of the server ${database.name}`, server?.kind ?? 'none', database.kind],
    [`the socket of the server ${database.name}`, server?.socket, mariadbSocket(database.name)],
  ];
  const wrong = pairs.find(([, has, wants]) => has !== wants);
  if (wrong === undefined) return undefined;
  const [what, has, wants] = wrong;
  return `says that ${what} is ${has ?? 'none'}, but setup makes ${wants}`;
}
