/** Checks how long the certificates of servers that are reached by TLS remain valid. */
import type { Config } from '../shared/config.ts';
import { readCertificate } from '../shared/certificate.ts';
import { fix, type Line, ok } from './line.ts';

const WARN_DAYS = 30;
const DAY_MS = 86_400_000;

/** A server that is reached by TLS. */
export interface TlsServer {
  name: string;
  host: string;
  port: number;
  caFile?: string | undefined;
}

/** Those of a configuration; PostgreSQL and MariaDB are not reached by TLS. */
export function tlsServers({ ldap, redis }: Config): TlsServer[] {
  const servers: TlsServer[] = [];
  for (const [name, uri, port, caFile] of [
    ['the directory', ldap.uri, 636, ldap.caFile],
    ['Redis', redis.url, 6379, undefined],
  ] as const) {
    if (!/^(ldaps|rediss):/iu.test(uri)) continue;
    const url = new URL(uri);
    const host = url.hostname.replace(/^\[|\]$/gu, '');
    servers.push({ name, host, port: Number(url.port || port), caFile });
  }
  return servers;
}

export async function lookAtCertificate(server: TlsServer, now: Date): Promise<Line[]> {
  const { validFrom, validTo, distrusted } = await readCertificate(server);
  const days = Math.floor((validTo.getTime() - now.getTime()) / DAY_MS);
  const whose = `the certificate of ${server.name}`;
  const day = validTo.toISOString().slice(0, 10);
  const renew = 'Renew it, and have the server load it.';
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
        'Set its CA (`ldap.caFile`, or NODE_EXTRA_CA_CERTS for Redis), or renew it for this host name.',
      ),
    ];
  }
  return [
    days < WARN_DAYS
      ? fix(`${whose} expires in ${days} days, on ${day}`, renew)
      : ok(`${whose} is valid until ${day}`),
  ];
}
