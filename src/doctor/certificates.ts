/** Checks how long certificates remain valid: of servers that are reached by TLS, and of the authorities that sign them. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Config } from '../shared/config.ts';
import { type Protocol, readCertificate } from '../shared/certificate.ts';
import { hostOf, isThisMachine, type TlsPlace } from '../shared/tls.ts';
import { fix, type Line, ok } from './line.ts';
import { count } from '../shared/printable.ts';

const WARN_DAYS = 30;
/** Those that a timer renews when they have 30 days left. */
const RENEWED_WARN_DAYS = 21;
/** Every machine of the realm must get the next one. */
const AUTHORITY_WARN_DAYS = 90;
const DAY_MS = 86_400_000;

/** A server that is reached by TLS. */
export interface TlsServer extends TlsPlace {
  name: string;
  port: number;
  protocol: Protocol;
  /**
   * other machines reach it by TLS, and this one does not: whether `chamberlain setup` renews its certificate, or only
   * copies one of the operator's own
   */
  isRenewed?: boolean;
}

/** Those of a configuration. */
export function tlsServers({ postgres, ldap, redis, databases }: Config): TlsServer[] {
  const byUrl = (name: string, text: string, port: number, caFile: string | undefined) => {
    const url = new URL(text);
    return {
      name,
      host: hostOf(url),
      port: Number(url.port || port),
      caFile,
      protocol: 'tls' as const,
    };
  };
  return [
    ...(isThisMachine(postgres.host)
      ? []
      : [{ ...postgres, name: 'PostgreSQL', protocol: 'postgresql' as const }]),
    ...(/^ldaps:/iu.test(ldap.uri) ? [byUrl('the directory', ldap.uri, 636, ldap.caFile)] : []),
    ...(/^rediss:/iu.test(redis.url) ? [byUrl('Redis', redis.url, 6379, redis.caFile)] : []),
    ...databases.servers.flatMap(({ name, host, port = 3306, caFile }) =>
      host === undefined || isThisMachine(host)
        ? []
        : [{ name, host, port, caFile, protocol: 'mariadb' as const }],
    ),
  ];
}

/** The files of authorities that a configuration names. */
export function authorityFiles({ postgres, ldap, redis, databases }: Config): string[] {
  const places = [postgres, ldap, redis, ...databases.servers];
  return [...new Set(places.flatMap(({ caFile }) => caFile ?? []))];
}

/** One of several certificates may have expired: the last one counts. */
export function lookAtAuthority(path: string, now: Date): Line[] {
  const found = readFileSync(path, 'utf8').match(
    /-----BEGIN CERTIFICATE-----[^-]*-----END [^-]*-----/gu,
  );
  const ends = (found ?? []).map((pem) => new X509Certificate(pem).validToDate.getTime());
  if (ends.length === 0) return [fix(`${path} contains no certificate`, 'Name another `caFile`.')];
  const until = new Date(Math.max(...ends));
  const days = Math.floor((until.getTime() - now.getTime()) / DAY_MS);
  const day = until.toISOString().slice(0, 10);
  return [
    days < AUTHORITY_WARN_DAYS
      ? fix(
          `the authority ${path} ${days < 0 ? 'expired' : `expires in ${count(days, 'day')},`} on ${day}`,
          'Make another, give it to every machine that trusts this one, and then renew the certificates of the servers.',
        )
      : ok(`the authority ${path} is valid until ${day}`),
  ];
}

export async function lookAtCertificate(server: TlsServer, now: Date): Promise<Line[]> {
  const { validFrom, validTo, distrusted } = await readCertificate(server);
  const days = Math.floor((validTo.getTime() - now.getTime()) / DAY_MS);
  const whose = `the certificate of ${server.name}`;
  const day = validTo.toISOString().slice(0, 10);
  const renew =
    server.isRenewed === undefined
      ? 'Renew it, and have the server load it.'
      : server.isRenewed
        ? 'Run `chamberlain setup --renew`, which also says why it was not renewed before.'
        : 'Put another, with its key, into /etc/chamberlain/tls, and run `chamberlain setup --renew`.';
  const warnDays = server.isRenewed === true ? RENEWED_WARN_DAYS : WARN_DAYS;
  if (validTo <= now) return [fix(`${whose} expired on ${day}`, renew)];
  if (validFrom > now) {
    return [
      fix(
        `${whose} is not valid before ${validFrom.toISOString().slice(0, 10)}`,
        'Check the clocks.',
      ),
    ];
  }
  if (distrusted !== undefined) {
    return [
      fix(
        `${whose} is not trusted: ${distrusted}`,
        'Name the CA that signed it as `caFile` of this server in the configuration, or renew it for this host name.',
      ),
    ];
  }
  return [
    days < warnDays
      ? fix(`${whose} expires in ${count(days, 'day')}, on ${day}`, renew)
      : ok(`${whose} is valid until ${day}`),
  ];
}
