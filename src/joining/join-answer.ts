/** What the realm answers to a join request: all that the machine needs. It contains passwords, so it is encrypted. */
import { X509Certificate } from 'node:crypto';
import * as z from 'zod/mini';
import {
  absolutePath,
  fingerprints,
  hostAccount,
  hostName,
  idRange,
  intOf,
  ldapsUri,
  someOf,
  unixName,
} from '../shared/config-values.ts';
import { ed25519PublicKey } from '../ssh-keys/ed25519-value.ts';
import { ChamberlainError } from '../shared/errors.ts';

/** A longer file is no join answer: the largest part are certificates. */
export const MAX_JOIN_ANSWER = 1024 * 1024;

const schema = z.strictObject({
  version: z.literal(1),
  kind: z.literal('login-host'),
  name: hostName,
  /** of the join request that it answers */
  fingerprint: z.string(),
  realm: unixName,
  realmGid: intOf(1, 65_533),
  ids: z.strictObject({ people: someOf(idRange), tools: someOf(idRange) }),
  homes: z.strictObject({ people: absolutePath, tools: absolutePath }),
  knownBadKeys: fingerprints,
  ldap: z.strictObject({
    uris: someOf(ldapsUri),
    base: z.string().check(z.minLength(1)),
    /** the certificates (PEM) of the authority, if it is the realm's own */
    ca: z.optional(z.string().check(z.refine(isCertificates, 'is no certificate in PEM'))),
  }),
  sealKeys: z.array(ed25519PublicKey).check(z.minLength(1), z.maxLength(2)),
  /** of the host in the directory: the RDN of its DN, and the password */
  account: hostAccount,
  password: z.string().check(z.regex(/^[A-Za-z0-9]{16,200}$/)),
});

export type JoinAnswer = z.infer<typeof schema>;

/** Throws JOIN_INVALID without a part of the text, which may be a secret. */
export function parseJoinAnswer(text: string): JoinAnswer {
  return parseAnswer(text, schema);
}

/** The same, for each kind of answer. */
export function parseAnswer<T>(text: string, of: z.ZodMiniType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ChamberlainError('JOIN_INVALID', 'this is not a join answer: it is not JSON');
  }
  const result = of.safeParse(value, { jitless: true });
  if (result.success) return result.data;
  const places = result.error.issues.map(({ path }) => path.join('.') || 'the whole').join(', ');
  throw new ChamberlainError(
    'JOIN_INVALID',
    `this is not a join answer: wrong or missing: ${places}`,
  );
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** The certificates in a PEM file, without anything else that is in it. Throws if one is none. */
export function certificatesIn(pem: string): string {
  const found = (pem.match(CERTIFICATE) ?? []).map((each) => new X509Certificate(each));
  return found.map(String).join('');
}

export function isCertificates(pem: string): boolean {
  try {
    return pem !== '' && certificatesIn(pem) === pem;
  } catch {
    return false;
  }
}
