/** The certificate that a server shows, for looking at alone: nothing is sent to it. */
import { readFileSync } from 'node:fs';
import { connect, type PeerCertificate } from 'node:tls';

export interface ShownCertificate {
  validFrom: Date;
  validTo: Date;
  /** why a client would not trust it; undefined where it would */
  distrusted: string | undefined;
}

const CONNECT_TIMEOUT_MS = 2000;

/** Reads it. Throws where the server does not answer, or does not speak TLS. */
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
      servername: /^[\d.]+$|:/u.test(host) ? '' : host, // RFC 6066: never an address
      timeout: CONNECT_TIMEOUT_MS,
      rejectUnauthorized: false, // it is judged below, by how long it lasts too
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
