/** Keys and certificates, each as one PEM text of both, as Debian's openssl makes them. */
import { runProgram } from '../shared/run-programs.ts';

/** When a certificate is valid. */
export interface Validity {
  from: Date;
  until: Date;
}

/** An authority, which may sign certificates of servers and nothing else. */
export function makeAuthority(name: string, validity: Validity): Promise<string> {
  return make(name, validity, [], [CA, 'keyUsage = critical,keyCertSign,cRLSign']);
}

/**
 * The certificate of a server.
 *
 * @param name such as `DNS:realm.example.org`
 * @param authority the file of the key and the certificate of the authority that signs it
 */
export function makeCertificate(
  name: string,
  authority: string,
  validity: Validity,
): Promise<string> {
  return make(
    name.replace(/^\w+:/u, ''),
    validity,
    ['-CA', authority, '-CAkey', authority],
    [
      'basicConstraints = critical,CA:FALSE',
      'keyUsage = critical,digitalSignature',
      'extendedKeyUsage = serverAuth',
      `subjectAltName = ${name}`,
      'authorityKeyIdentifier = keyid',
    ],
  );
}

const CA = 'basicConstraints = critical,CA:TRUE,pathlen:0';
/** libpq cannot bind its channel to a certificate of Ed25519: "could not find digest for NID UNDEF" */
const NEW_KEY = ['-noenc', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
/** `20261130221059Z` */
const stampOf = (at: Date): string => at.toISOString().replace(/[-:T]|\.\d+/gu, '');

async function make(
  name: string,
  { from, until }: Validity,
  signer: readonly string[],
  extensions: readonly string[],
): Promise<string> {
  const settings = [
    ...['[req]', 'prompt = no', 'distinguished_name = name', 'x509_extensions = extensions'],
    ...['[name]', `CN = ${name}`],
    ...['[extensions]', 'subjectKeyIdentifier = hash', ...extensions, ''],
  ];
  const { code, out, err } = await runProgram(
    'openssl',
    [
      ...['req', '-x509', '-config', '-', '-keyout', '-', ...NEW_KEY, ...signer],
      ...['-not_before', stampOf(from), '-not_after', stampOf(until)],
    ],
    { input: settings.join('\n') },
  );
  if (code !== 0) throw new Error(`openssl req: ${err.trim() || 'it failed'}`);
  return out;
}

/** The first certificate of a PEM text. */
export function certificateIn(pem: string): string {
  const [text = ''] =
    /-----BEGIN CERTIFICATE-----\n[^-]*-----END CERTIFICATE-----\n/u.exec(pem) ?? [];
  return text;
}

/** The first private key of a PEM text. */
export function keyIn(pem: string): string {
  const [text = ''] =
    /-----BEGIN ([A-Z ]*PRIVATE KEY)-----\n[^-]*-----END \1-----\n/u.exec(pem) ?? [];
  return text;
}
