/** Kinds of values that the configurations share. */
import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { cannotRead, ChamberlainError } from './errors.ts';

export const absolutePath = z.string().startsWith('/');
export const unixName = z.string().regex(/^[a-z][a-z0-9-]{0,15}$/);

export const idRange = z.strictObject({
  first: z.int().min(1),
  last: z
    .int()
    .min(1)
    .max(2 ** 31 - 2),
});
export type IdRange = z.infer<typeof idRange>;

export const ldapUri = z
  .string()
  .regex(
    /^(ldaps:\/\/[^/]+|ldapi:\/\/%2F[^/]+|ldap:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?)\/?$/i,
    'must be ldaps://HOST or ldapi://%2FPATH%2FOF%2FSOCKET (or ldap:// to this machine)',
  );

const PUBLIC_KEY =
  /^\s*-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]+\n-----END PUBLIC KEY-----\s*$/;

/** PEM, as `openssl pkey -pubout` prints it. A private key is refused: Node.js would derive the public one from it. */
export const ed25519PublicKey = z
  .string()
  .refine(isEd25519PublicKey, 'is not an Ed25519 public key in PEM');

function isEd25519PublicKey(pem: string): boolean {
  try {
    return PUBLIC_KEY.test(pem) && createPublicKey(pem).asymmetricKeyType === 'ed25519';
  } catch {
    return false;
  }
}

/** Fingerprints of SSH keys, as `ssh-keygen -l` prints them. */
export const fingerprints = z
  .array(z.string().regex(/^SHA256:[A-Za-z0-9+/]{43}$/, 'must be a fingerprint: SHA256:…'))
  .default([]);

/** Reads a YAML file and checks it. Throws CONFIG_INVALID, naming each line that is wrong. */
export function loadYaml<T>(path: string, schema: z.ZodType<T>): T {
  let document: unknown;
  try {
    document = parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw cannotRead('configuration', path, cause);
  }
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  const issues = result.error.issues.map(
    (issue) => `${issue.path.join('.') || 'the file'}: ${issue.message}`,
  );
  throw new ChamberlainError(
    'CONFIG_INVALID',
    `reading the configuration ${path}: ${issues.join('; ')}`,
  );
}
