/** The authority of this realm, and the certificates that its servers show to other machines. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { file, folder, requireLocalAccount } from '../../deploy/login-host/pieces.ts';
import { readCertificate } from '../shared/certificate.ts';
import { readIfThere, replaceFile } from '../shared/durable-file.ts';
import { describeRootCause } from '../shared/errors.ts';
import { runProgram } from '../shared/run-programs.ts';
import type { Answers } from './answers.ts';
import { certificateIn, keyIn, makeAuthority, makeCertificate } from './openssl.ts';
import { isCertificateGiven, type Listener, listenersOf, TLS } from './places.ts';
import { together } from './programs.ts';
import type { Differs, Piece } from './setup.ts';

const DAY_MS = 86_400_000;
const AUTHORITY_DAYS = 3650;
const SERVER_DAYS = 90;
/** Clocks of other machines may be behind. */
const EARLIER_MS = 3_600_000;
const validFor = (days: number) => ({
  from: new Date(Date.now() - EARLIER_MS),
  until: new Date(Date.now() + days * DAY_MS),
});

/**
 * None if no other machine reaches this one.
 *
 * @param mayMake whether an authority is made if there is none: each machine of the realm must then get it
 */
export function certificatePieces(
  answers: Answers,
  needs: readonly Piece[],
  mayMake = true,
): Piece[] {
  const { realm, listen } = answers;
  if (listen === undefined) return [];
  const place = together(`the folder ${TLS.folder}`, 'makes it', [folder(TLS.folder, MODE)], needs);
  const isGiven = isCertificateGiven();
  const authority = isGiven ? givenCertificate(listen) : ownAuthority(realm, mayMake);
  const source: Piece = { ...authority, needs: [place] };
  const servers: Piece = {
    name: `the certificates of the servers for ${listen}`,
    does: isGiven
      ? `copies ${TLS.certificate} and its key`
      : 'makes each with openssl, and again when less than a third of its life is left',
    needs: [source],
    check() {
      for (const each of listenersOf(answers)) {
        const differs = isGiven ? givenFile(each).differs() : checkServer(each, listen);
        if (differs !== undefined) return `differ: ${each.file} ${differs}`;
      }
      return undefined;
    },
    async make() {
      for (const each of listenersOf(answers)) {
        if (isGiven) givenFile(each).mend?.();
        else if (checkServer(each, listen) !== undefined) await makeServer(each, listen);
      }
    },
  };
  return [place, source, servers];
}

const MODE = { mode: 0o755 };

/** Each file is made if it is missing, and gets its owner and mode. What is there is never replaced. */
export function ownAuthority(
  realm: string,
  mayMake: boolean,
  { ca, caKey, certificate, key } = TLS,
): Piece {
  const keyFile = file(caKey, { mode: 0o600, isSecret: true, contents: (text = '') => text });
  const certificateFile = () =>
    file(ca, { mode: 0o644, contents: certificateIn(readFileSync(caKey, 'utf8')) });
  const isOther = () =>
    existsSync(ca) &&
    !(existsSync(caKey) && readFileSync(ca, 'utf8') === certificateIn(readFileSync(caKey, 'utf8')));
  return {
    name: `the certificate authority ${ca}`,
    does: `makes it with openssl; nobody but root may read ${caKey}`,
    check() {
      if (isOther()) {
        return `does not belong to ${caKey}. If it is your own authority, put ${certificate} and ${key}, which it signed, next to it. If not, remove ${ca}: setup then makes one`;
      }
      const differs = keyFile.differs();
      return differs === undefined ? certificateFile().differs() : `has a key that ${differs}`;
    },
    async make() {
      if (isOther()) throw new Error('an authority that is there is never replaced');
      if (!existsSync(caKey)) {
        if (!mayMake)
          throw new Error('there is none: run `chamberlain setup`, which makes another');
        const pem = await makeAuthority(`Chamberlain realm ${realm}`, validFor(AUTHORITY_DAYS));
        replaceFile(caKey, pem, { mode: 0o600 }, true);
      }
      if (keyFile.differs() !== undefined) keyFile.mend?.();
      certificateFile().mend?.();
    },
  };
}

/** The operator's own certificate, which setup only reads. */
export function givenCertificate(listen: string, { ca, certificate, key } = TLS): Piece {
  return {
    name: `your certificate ${certificate}`,
    does: 'nothing: you replace it, with its key, before it expires',
    async check() {
      const missing = [certificate, key, ca].find((path) => !existsSync(path));
      if (missing !== undefined) return `needs ${missing}`;
      const { uid, mode } = statSync(key);
      if (uid !== 0 || (mode & 0o7777) !== 0o600) {
        return `needs ${key} to belong to root, with mode 0600`;
      }
      const pem = `${readFileSync(certificate, 'utf8')}\n${readFileSync(key, 'utf8')}`;
      return (
        faultOf(pem, listen) ?? faultOfAuthority(ca) ?? (await refusalOf(certificate, ca, listen))
      );
    },
    make() {}, // the next check says what is wrong
  };
}

/** One of several certificates may have ended: the last one counts. */
function faultOfAuthority(ca: string): Differs {
  const texts = readFileSync(ca, 'utf8').split(/(?<=-----END CERTIFICATE-----\n)/u);
  try {
    const ends = texts
      .map(certificateIn)
      .filter((pem, at) => at === 0 || pem !== '')
      .map((pem) => new X509Certificate(pem).validToDate.getTime());
    return Math.max(...ends) < Date.now() ? `needs another ${ca}: that one has expired` : undefined;
  } catch {
    return `needs another ${ca}: that one is not a certificate in PEM`;
  }
}

/** Why a client that trusts only that authority would refuse the certificate, as openssl says it. */
async function refusalOf(path: string, ca: string, listen: string): Promise<Differs> {
  const { code, err } = await runProgram('openssl', [
    ...['verify', '-purpose', 'sslserver', '-verify_hostname', listen],
    ...['-no-CApath', '-no-CAstore', '-CAfile', ca, '-untrusted', path, path],
  ]);
  if (code === 0) return undefined;
  const [, why] = /depth lookup: (.*)/u.exec(err) ?? [];
  return `is not one that clients accept with ${ca}: ${why ?? err.trim()}`;
}

const readGiven = (): string =>
  `${readFileSync(TLS.certificate, 'utf8')}\n${readFileSync(TLS.key, 'utf8')}`;
const givenFile = ({ file: path, user: owner }: Listener) =>
  file(path, { owner, mode: 0o600, isSecret: true, contents: readGiven });

function checkServer({ file: path, user }: Listener, listen: string): Differs {
  const pem = readIfThere(path);
  if (pem === undefined) return 'is missing';
  const { uid, mode } = statSync(path);
  if (uid !== requireLocalAccount(user).uid || (mode & 0o7777) !== 0o600)
    return 'has the wrong owner or mode';
  return faultOf(pem, listen) ?? ageOf(pem, readFileSync(TLS.ca, 'utf8'), new Date());
}

async function makeServer({ file: path, user }: Listener, listen: string): Promise<void> {
  const pem = await makeCertificate(`DNS:${listen}`, TLS.caKey, validFor(SERVER_DAYS));
  replaceFile(path, pem, { mode: 0o600, uid: requireLocalAccount(user).uid, gid: 0 }, true);
}

/** Why the certificate of a PEM text is none for that name, with the key in the text. */
export function faultOf(pem: string, listen: string): Differs {
  try {
    const certificate = new X509Certificate(certificateIn(pem));
    if (certificate.checkHost(listen) === undefined) return `is not for ${listen}`;
    return certificate.checkPrivateKey(createPrivateKey(keyIn(pem)))
      ? undefined
      : 'has another key';
  } catch {
    return 'is not a certificate with its key, in PEM'; // the message of OpenSSL would not help
  }
}

/** Why a certificate must be renewed: another authority has signed it, it begins later, or a third of its life is left. */
export function ageOf(pem: string, authority: string, now: Date): Differs {
  const certificate = new X509Certificate(certificateIn(pem));
  const ca = new X509Certificate(authority);
  if (!certificate.checkIssued(ca) || !certificate.verify(ca.publicKey)) {
    return 'was not signed by this authority';
  }
  const { validFromDate: from, validToDate: until } = certificate;
  if (from > now) return `is not valid before ${from.toISOString().slice(0, 10)}`;
  const lifeMs = until.getTime() - from.getTime();
  return until.getTime() - now.getTime() < lifeMs / 3
    ? `expires on ${until.toISOString().slice(0, 10)}`
    : undefined;
}

const LOAD_MS = 10_000;
const AGAIN_MS = 100;

/**
 * That a server that setup makes shows the certificate of its file, as other machines see it.
 *
 * @param load has the server read the file again
 */
export function shownPieces(
  listener: Listener,
  answers: Answers,
  load: () => void | Promise<void>,
  needs: readonly Piece[],
): Piece[] {
  const { name, port, protocol, file: path } = listener;
  const { listen: host } = answers;
  if (host === undefined || !listenersOf(answers).includes(listener)) return [];
  const check = async (): Promise<Differs> => {
    try {
      const { fingerprint } = await readCertificate({
        ...{ host, port, protocol },
        caFile: TLS.ca,
      });
      const own = new X509Certificate(certificateIn(readFileSync(path, 'utf8')));
      return fingerprint === own.fingerprint256 ? undefined : 'is an older one';
    } catch (error) {
      return `is not seen at ${host}:${port}: ${describeRootCause(error)}`;
    }
  };
  return [
    {
      name: `the certificate that ${name} shows`,
      does: `has ${name} read ${path}`,
      ...{ needs, check },
      async make() {
        await load();
        const until = performance.now() + LOAD_MS;
        while ((await check()) !== undefined && performance.now() < until) await sleep(AGAIN_MS);
      },
    },
  ];
}
