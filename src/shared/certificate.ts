/** The certificate that a server shows. It is only looked at: no password is sent to the server. */
import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect, type PeerCertificate } from 'node:tls';
import { tlsOptions, type TlsPlace } from './tls.ts';

export interface ShownCertificate {
  validFrom: Date;
  validTo: Date;
  /** SHA-256, as node:crypto writes it */
  fingerprint: string;
  /** why a client would not trust it; undefined if it would */
  distrusted: string | undefined;
}

/** `tls`: the server speaks TLS from the first byte. The others are asked for it first. */
export type Protocol = 'tls' | 'postgresql' | 'mariadb';

const CONNECT_TIMEOUT_MS = 2000;

/** SSLRequest: a length of 8 and the code 80877103 (PostgreSQL, "Message Formats"). */
const POSTGRESQL_REQUEST = Buffer.from('0000000804d2162f', 'hex');
/**
 * SSLRequest: 32 bytes as the second packet, of which only the capabilities (CLIENT_PROTOCOL_41, CLIENT_SSL,
 * CLIENT_SECURE_CONNECTION) and the character set (45, utf8mb4) are not zero (MariaDB, "Connection phase").
 */
const MARIADB_REQUEST = Buffer.from(`20000001008a0000000000012d${'00'.repeat(23)}`, 'hex');

/** Reads the certificate. Throws if the server does not answer, or does not speak TLS. */
export async function readCertificate(
  place: TlsPlace & { port: number; protocol: Protocol },
): Promise<ShownCertificate> {
  const { port, protocol } = place;
  const options = tlsOptions(place);
  const plain = connectTcp({ host: options.host, port });
  const timer = setTimeout(
    () =>
      plain.destroy(
        new Error(`no answer from ${place.host}:${port} within ${CONNECT_TIMEOUT_MS / 1000} s`),
      ),
    CONNECT_TIMEOUT_MS,
  );
  try {
    await once(plain, 'connect');
    await askForTls(plain, protocol);
    // the caller judges the certificate
    const socket = connect({ ...options, socket: plain, rejectUnauthorized: false });
    // each reports the other's error again
    for (const each of [plain, socket]) each.on('error', (error) => socket.destroy(error));
    await once(socket, 'secureConnect');
    const shown: PeerCertificate = socket.getPeerCertificate();
    const distrusted = socket.authorized ? undefined : String(socket.authorizationError);
    return {
      validFrom: new Date(shown.valid_from),
      validTo: new Date(shown.valid_to),
      fingerprint: shown.fingerprint256,
      distrusted,
    };
  } finally {
    clearTimeout(timer);
    plain.destroy();
  }
}

async function askForTls(socket: Socket, protocol: Protocol): Promise<void> {
  if (protocol === 'tls') return;
  if (protocol === 'postgresql') {
    socket.write(POSTGRESQL_REQUEST);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    if (answer.toString('latin1') !== 'S') throw new Error('the server does not speak TLS');
    return;
  }
  const [greeting] = (await once(socket, 'data')) as [Buffer];
  if (!offersTls(greeting)) throw new Error('the server does not speak TLS');
  socket.write(MARIADB_REQUEST);
}

/** The capability CLIENT_SSL: its bit is in the second byte of 13 that follow the version, which ends with a zero byte. */
function offersTls(greeting: Buffer): boolean {
  const version = greeting.indexOf(0, 5);
  return version > 0 && ((greeting[version + 1 + 4 + 8 + 1 + 1] ?? 0) & 0x08) !== 0;
}
