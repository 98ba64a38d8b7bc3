/** The certificate that a server shows. It is only looked at: nothing is sent to the server. */
import { readFileSync } from 'node:fs';
import { connect, type PeerCertificate } from 'node:tls';

export interface ShownCertificate {
  validFrom: Date;
  validTo: Date;
  /** why a client would not trust it; undefined if it would */
  distrusted: string | undefined;
}

const CONNECT_TIMEOUT_MS = 2000;

/** Reads the certificate. Throws if the server does not answer, or does not speak TLS. */
export function readCertificate(place: {
  host: string;
  port: number;
  caFile?: string | undefined;
}): Promise<ShownCertificate> {
  const { host, port, caFile } = place;
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      servername: /^[\d.]+$|:/u.test(host) ? '' : host, // RFC 6066: not an address
      timeout: CONNECT_TIMEOUT_MS,
      rejectUnauthorized: false, // the caller judges the certificate
      ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }),
    });
    socket.once('secureConnect', () => {
      const { valid_from: from, valid_to: to }: PeerCertificate = socket.getPeerCertificate();
      const distrusted = socket.authorized ? undefined : String(socket.authorizationError);
      socket.destroy();
      resolve({ validFrom: new Date(from), validTo: new Date(to), distrusted });
    });
    socket.once('timeout', () => {
      socket.destroy(
        new Error(`no answer from ${host}:${port} within ${CONNECT_TIMEOUT_MS / 1000} s`),
      );
    });
    socket.once('error', reject);
  });
}
