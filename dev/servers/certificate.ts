/** Certificates for servers that are reached by TLS, as Debian's openssl makes them. */
import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { accountIds, run } from './processes.ts';

const DAY_MS = 86_400_000;
/** `20261130221059Z` */
const stampOf = (at: Date): string => at.toISOString().replace(/[-:T]|\.\d+/gu, '');

/** Paths of PEM files. */
export interface Certificate {
  /** of the authority, which signed nothing else */
  ca: string;
  certificate: string;
  /** readable by the server's user alone */
  key: string;
}

/**
 * Makes a certificate that is valid for a host name or an address, and its authority.
 *
 * @param folder is created if it is missing
 * @param user the unix user of the server
 * @param from and `until`: when it is valid; by default from now for 30 days
 */
export async function makeCertificate(
  folder: string,
  {
    host,
    user,
    from = new Date(),
    until = new Date(Date.now() + 30 * DAY_MS),
  }: { host: string; user: string; from?: Date; until?: Date },
): Promise<Certificate> {
  const [ca, certificate, key] = ['ca.pem', 'certificate.pem', 'key.pem'].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const extensions = join(folder, 'extensions');
  writeFileSync(extensions, `subjectAltName=${isIP(host) === 0 ? 'DNS' : 'IP'}:${host}\n`);
  const openssl = (...args: string[]) => run('/usr/bin/openssl', args);
  const [caKey, request] = [join(folder, 'ca.key'), join(folder, 'request.pem')];
  // libpq cannot bind its channel to a certificate of Ed25519: "could not find digest for NID UNDEF"
  const newKey = ['-nodes', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
  await openssl(
    ...['req', '-x509', ...newKey, '-keyout', caKey, '-out', ca],
    ...['-subj', '/CN=a test authority', '-days', '3650'],
  );
  await openssl(...['req', ...newKey, '-keyout', key, '-out', request, '-subj', `/CN=${host}`]);
  await openssl(
    ...['x509', '-req', '-in', request, '-CA', ca, '-CAkey', caKey],
    ...['-not_before', stampOf(from), '-not_after', stampOf(until)],
    ...['-extfile', extensions, '-out', certificate],
  );
  const { uid, gid } = accountIds(user);
  chownSync(key, uid, gid);
  chmodSync(key, 0o600);
  return { ca, certificate, key };
}
