/** Certificates for servers that are reached by TLS, as Debian's openssl makes them. */
import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import {
  certificateIn,
  keyIn,
  makeAuthority,
  makeCertificate as sign,
} from '../../src/setup/openssl.ts';
import { accountIds } from './processes.ts';

const DAY_MS = 86_400_000;

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
  const [ca, certificate, key, authority] = [
    ...['ca.pem', 'certificate.pem', 'key.pem', 'ca.key'],
  ].map((name) => join(folder, name)) as [string, string, string, string];
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const tenYears = { from: new Date(), until: new Date(Date.now() + 3650 * DAY_MS) };
  const ofAuthority = await makeAuthority('a test authority', tenYears);
  writeFileSync(authority, ofAuthority, { mode: 0o600 });
  writeFileSync(ca, certificateIn(ofAuthority));
  const name = `${isIP(host) === 0 ? 'DNS' : 'IP'}:${host}`;
  const pem = await sign(name, authority, { from, until });
  writeFileSync(certificate, certificateIn(pem));
  writeFileSync(key, keyIn(pem), { mode: 0o600 });
  const { uid, gid } = accountIds(user);
  chownSync(key, uid, gid);
  chmodSync(key, 0o600);
  return { ca, certificate, key };
}
