/** Where `chamberlain setup` puts what it makes. The units and settings in deploy/servers name the same places. */
import { existsSync } from 'node:fs';
import { CONFIG_FILE } from '../cli/command.ts';
import type { TlsServer } from '../doctor/certificates.ts';
import type { Protocol } from '../shared/certificate.ts';
import { type Config, loadConfig } from '../shared/config.ts';
import { hostOf } from '../shared/tls.ts';
import type { Answers } from './answers.ts';

export const ETC = '/etc/chamberlain';
export const FOR_ADMINISTRATORS = `${ETC}/for-administrators`;
export const SECRETS = `${ETC}/secrets`;

/** The configuration that `setup` has written, with what an operator has changed since. */
export const readConfig = (): Config => loadConfig(CONFIG_FILE);

/** A cluster of Debian's. Its port is also part of the name of its socket. */
export const POSTGRES = {
  version: '17',
  cluster: 'chamberlain',
  host: '/run/postgresql',
  port: 5470,
  unit: 'postgresql@17-chamberlain.service',
  /** what that unit runs in the end */
  program: {
    user: 'postgres',
    words: ['/usr/lib/postgresql/17/bin/postgres', '-D', '/etc/postgresql/17/chamberlain'],
  },
} as const;

export const REDIS = {
  unit: 'chamberlain-redis.service',
  data: '/var/lib/chamberlain-redis',
  url: 'unix:///run/chamberlain-redis/redis.sock',
} as const;

export const SLAPD = {
  unit: 'chamberlain-slapd.service',
  data: '/var/lib/chamberlain-slapd',
  run: '/run/chamberlain-slapd',
  uri: 'ldapi://%2Frun%2Fchamberlain-slapd%2Fldapi',
} as const;

/** What the servers show other machines, if this one listens for them. */
export const TLS = {
  folder: `${ETC}/tls`,
  /** what other machines must trust */
  ca: `${ETC}/tls/ca.pem`,
  /** of setup's own authority: its key and its certificate */
  caKey: `${ETC}/tls/ca.key`,
  /** the operator's own, which are then used instead */
  certificate: `${ETC}/tls/certificate.pem`,
  key: `${ETC}/tls/key.pem`,
};

/** Whether there is a certificate of the operator's own, even without all of its files. */
export const isCertificateGiven = (): boolean =>
  [TLS.certificate, TLS.key].some((path) => existsSync(path));

/** A server that listens for other machines. */
export interface Listener {
  name: string;
  port: number;
  protocol: Protocol;
  /** the unix user, who alone reads the file of its certificate and key */
  user: string;
  file: string;
}
const listener = (name: string, port: number, protocol: Protocol, user: string): Listener => ({
  ...{ name, port, protocol, user },
  file: `${TLS.folder}/${user}.pem`,
});
export const LISTENERS = {
  postgres: listener('PostgreSQL', POSTGRES.port, 'postgresql', 'postgres'),
  redis: listener('Redis', 6379, 'tls', 'redis'),
  slapd: listener('the directory', 636, 'tls', 'openldap'),
  mariadb: listener('MariaDB', 3306, 'mariadb', 'mysql'),
} as const;

/** Those of the servers that setup makes. */
export function listenersOf({ postgres, redis, ldap, database }: Answers): Listener[] {
  return [
    ...(postgres === undefined ? [LISTENERS.postgres] : []),
    ...(redis === undefined ? [LISTENERS.redis] : []),
    ...(ldap === undefined ? [LISTENERS.slapd] : []),
    ...(database.host === undefined ? [LISTENERS.mariadb] : []),
  ];
}

/** The servers of this machine that a configuration says listen, as `doctor` looks at their certificates. */
export function listeningServers(config: Pick<Config, 'ldap'>): TlsServer[] {
  const host = listenOf(config);
  if (host === undefined) return [];
  return Object.values(LISTENERS)
    .filter(({ file }) => existsSync(file))
    .map(({ name, port, protocol }) => ({
      ...{ name, host, port, protocol, isRenewed: !isCertificateGiven() },
      caFile: config.ldap.caFile,
    }));
}

/** The name by which a configuration says that other machines reach this one. */
export function listenOf({ ldap: { hostsUri, shared } }: Pick<Config, 'ldap'>): string | undefined {
  return hostsUri === undefined || shared === true ? undefined : hostOf(new URL(hostsUri));
}

/** The service of a role, of intake or of the relay. */
export const workerUnit = (role: string): string => `chamberlain@${role}.service`;

export const MARIADB = '/var/lib/chamberlain-mariadb';
export const mariadbUnit = (name: string): string => `chamberlain-mariadb@${name}.service`;
export const mariadbSocket = (name: string): string =>
  `/run/chamberlain-mariadb/${name}/mariadb.sock`;
