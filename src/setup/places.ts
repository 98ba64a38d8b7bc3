/** Where `chamberlain setup` puts what it makes. The units and settings in deploy/servers name the same places. */
import { CONFIG_FILE } from '../cli/command.ts';
import { type Config, loadConfig } from '../shared/config.ts';

export const ETC = '/etc/chamberlain';
export const SECRETS = `${ETC}/secrets`;

/** The configuration that `setup` has written, with what an operator has changed since. */
export const readConfig = (): Config => loadConfig(CONFIG_FILE);

/** A cluster of Debian's. Its port is only part of the name of its socket. */
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

export const MARIADB = '/var/lib/chamberlain-mariadb';
export const mariadbUnit = (name: string): string => `chamberlain-mariadb@${name}.service`;
export const mariadbSocket = (name: string): string =>
  `/run/chamberlain-mariadb/${name}/mariadb.sock`;
