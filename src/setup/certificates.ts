/** The authority of this realm, and the certificates that its servers show to other machines. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { file, folder, localAccounts } from '../../deploy/login-host/pieces.ts';
import { readCertificate } from '../shared/certificate.ts';
import { readIfThere, replaceFile } from '../shared/durable-file.ts';
import { describeRootCause } from '../shared/errors.ts';
import type { Answers } from './answers.ts';
import { certificateIn, keyIn, makeAuthority, makeCertificate } from './openssl.ts';
import { type Listener, listenersOf, TLS } from './places.ts';
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

/** None if no other machine reaches this one. */
export function certificatePieces(answers: Answers, needs: readonly Piece[]): Piece[] {
  const { realm, listen } = answers;
  if (listen === undefined) return [];
  const place = together(`the folder ${TLS.folder}`, 'makes it', [folder(TLS.folder, MODE)], needs);
  const isGiven = existsSync(TLS.certificate);
  const authority = isGiven ? givenCertificate(listen) : ownAuthority(realm);
  const source: Piece = { ...authority, needs: [place] };
  const servers: Piece = {
    name: `the certificates of the servers for ${listen}`,
    does: isGiven
      ? `copies ${TLS.certificate} and its key`
      : 'makes each with openssl, and again when a third of its life is left',
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

function ownAuthority(realm: string): Piece {
  const certificate = () => file(TLS.ca, { mode: 0o644, contents: certificateIn(readKey()) });
  const readKey = () => readFileSync(TLS.caKey, 'utf8');
  return {
    name: `the certificate authority ${TLS.ca}`,
    does: `makes it with openssl; nobody but root may read ${TLS.caKey}`,
    check() {
      if (existsSync(TLS.caKey)) return certificate().differs();
      return existsSync(TLS.ca)
        ? `has no key: put ${TLS.certificate} and ${TLS.key} next to it, or remove it`
        : 'is missing';
    },
    async make() {
      if (!existsSync(TLS.caKey)) {
        if (existsSync(TLS.ca)) throw new Error('an authority that is there is never replaced');
        const pem = await makeAuthority(`Chamberlain realm ${realm}`, validFor(AUTHORITY_DAYS));
        replaceFile(TLS.caKey, pem, { mode: 0o600 }, true);
      }
      certificate().mend?.();
    },
  };
}

/** The operator's own certificate, which setup only reads. */
function givenCertificate(listen: string): Piece {
  return {
    name: `your certificate ${TLS.certificate}`,
    does: 'nothing: you replace it, with its key, before it ends',
    check() {
      const missing = [TLS.key, TLS.ca].find((path) => !existsSync(path));
      if (missing !== undefined) return `needs ${missing}`;
      return faultOf(readGiven(), listen);
    },
    make() {
      throw new Error('setup does not change it: put the right files there');
    },
  };
}

const readGiven = (): string =>
  `${readFileSync(TLS.certificate, 'utf8')}\n${readFileSync(TLS.key, 'utf8')}`;
const givenFile = ({ file: path, user: owner }: Listener) =>
  file(path, { owner, mode: 0o600, isSecret: true, contents: readGiven });

function checkServer({ file: path, user }: Listener, listen: string): Differs {
  const pem = readIfThere(path);
  if (pem === undefined) return 'is missing';
  const { uid, mode } = statSync(path);
  if (uid !== uidOf(user) || (mode & 0o7777) !== 0o600) return 'has another owner or mode';
  return faultOf(pem, listen) ?? ageOf(pem, readFileSync(TLS.ca, 'utf8'), new Date());
}

async function makeServer({ file: path, user }: Listener, listen: string): Promise<void> {
  const pem = await makeCertificate(`DNS:${listen}`, TLS.caKey, validFor(SERVER_DAYS));
  replaceFile(path, pem, { mode: 0o600, uid: uidOf(user), gid: 0 }, true);
}

function uidOf(user: string): number {
  const account = localAccounts().find(({ name }) => name === user);
  if (account === undefined) throw new Error(`there is no account ${user}`);
  return account.uid;
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
    return 'is no certificate with its key in PEM'; // the message of OpenSSL would not help
  }
}

/** Why a certificate must be renewed: another authority has signed it, or a third of its life is left. */
export function ageOf(pem: string, authority: string, now: Date): Differs {
  const certificate = new X509Certificate(certificateIn(pem));
  const ca = new X509Certificate(authority);
  if (!certificate.checkIssued(ca) || !certificate.verify(ca.publicKey)) {
    return 'was not signed by this authority';
  }
  const { validFromDate: from, validToDate: until } = certificate;
  const lifeMs = until.getTime() - from.getTime();
  return until.getTime() - now.getTime() < lifeMs / 3
    ? `ends on ${until.toISOString().slice(0, 10)}`
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
