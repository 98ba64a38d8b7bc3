/** How other machines reach the servers of the realm: over TLS alone. */
import { readFileSync } from 'node:fs';
import { LISTENERS, listenOf, mariadbSocket, POSTGRES, REDIS } from '../setup/places.ts';
import type { Config } from '../shared/config.ts';
import { cannotRead, ChamberlainError } from '../shared/errors.ts';
import { hostOf, isLocal } from '../shared/tls.ts';
import { certificatesIn } from './join-answer.ts';

/** Throws CONFIG_INVALID if other machines cannot reach the directory. */
export function directoryUri({ ldap }: Pick<Config, 'ldap'>): string {
  const uri = ldap.hostsUri ?? ldap.uri;
  if (/^ldaps:/iu.test(uri) && !isLocal(new URL(uri).hostname)) return uri;
  throw new ChamberlainError(
    'CONFIG_INVALID',
    `other machines cannot reach the directory by ${uri}`,
    {
      action:
        'Write its ldaps:// URI as `ldap.hostsUri` into the configuration, and run the command again.',
    },
  );
}

/** The certificates of the authority, in PEM. Throws CONFIG_INVALID. */
export function readAuthority(path: string): string {
  try {
    const certificates = certificatesIn(readFileSync(path, 'utf8'));
    if (certificates === '') throw new Error('it contains no certificate in PEM');
    return certificates;
  } catch (cause) {
    throw cannotRead('certificates of the authority', path, cause);
  }
}

/**
 * The servers as the configuration of another machine names them. What `setup` has made on this machine is reached by
 * the name of `listen`. Throws CONFIG_INVALID, which names the server that other machines cannot reach.
 */
export function reachedServers(
  config: Config,
): Pick<Config, 'postgres' | 'redis' | 'ldap'> & { servers: Config['databases']['servers'] } {
  const { postgres, redis, ldap, databases } = config;
  const listen = listenOf(config);
  const here = { host: listen ?? '', caFile: ldap.caFile };
  const isOwn = (isMade: boolean): boolean => isMade && listen !== undefined;
  const isOwnPostgres = postgres.host === POSTGRES.host && postgres.port === POSTGRES.port;
  return {
    postgres: isOwn(isOwnPostgres)
      ? { ...postgres, ...here }
      : remote('PostgreSQL', postgres.host, postgres),
    redis: isOwn(redis.url === REDIS.url)
      ? { url: `rediss://${listen}:${LISTENERS.redis.port}`, caFile: ldap.caFile }
      : remote('Redis', hostOf(new URL(redis.url)), redis),
    ldap: {
      ...{ uri: directoryUri(config), base: ldap.base, caFile: ldap.caFile },
      ...(ldap.shared === undefined ? {} : { shared: ldap.shared }),
    },
    servers: databases.servers.map((server) =>
      isOwn(server.socket === mariadbSocket(server.name))
        ? { name: server.name, kind: server.kind, ...here, port: LISTENERS.mariadb.port }
        : remote(`the MariaDB server ${server.name}`, server.host ?? '', server),
    ),
  };
}

function remote<T>(what: string, host: string, place: T): T {
  if (host !== '' && !isLocal(host)) return place;
  throw new ChamberlainError('CONFIG_INVALID', `other machines cannot reach ${what} over TLS`, {
    action:
      'Have the servers of this machine listen (see "Other machines" in docs/install.md), or name a host in the configuration, and run the command again.',
  });
}
