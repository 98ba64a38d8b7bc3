/** Checks how long the certificates of servers that are reached by TLS remain valid. */
import type { Config } from '../shared/config.ts';
import { type Protocol, readCertificate } from '../shared/certificate.ts';
import { hostOf, isThisMachine, type TlsPlace } from '../shared/tls.ts';
import { fix, type Line, ok } from './line.ts';

const WARN_DAYS = 30;
const DAY_MS = 86_400_000;

/** A server that is reached by TLS. */
export interface TlsServer extends TlsPlace {
  name: string;
  port: number;
  protocol: Protocol;
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
        'Name the CA that signed it as `caFile` of this server in the configuration, or renew it for this host name.',
      ),
    ];
  }
  return [
    days < WARN_DAYS
      ? fix(`${whose} expires in ${days} days, on ${day}`, renew)
      : ok(`${whose} is valid until ${day}`),
  ];
}
