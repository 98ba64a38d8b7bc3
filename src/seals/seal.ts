/**
 * Seals: records that the directory role signs for login hosts. A login host believes only seals that verify, and
 * nothing else in the directory.
 *
 * A seal is one text, the value of `chamberlainSeal` on a person's or a tool's entry:
 *
 *     <key> <signature> <payload>
 *
 * | part      | form                                                                                            |
 * | --------- | ----------------------------------------------------------------------------------------------- |
 * | key       | the id of the key: the first 16 hex digits of the SHA-256 of its SubjectPublicKeyInfo (RFC 5280) |
 * | signature | Ed25519 (RFC 8032) of `chamberlain-seal-1\n` and the payload's bytes; base64                    |
 * | payload   | JSON without blanks, its fields in the order of the schemas below                                 |
 *
 * The payload is the whole record: a host needs no other attribute. The heartbeat (src/seals/heartbeat.ts) has the same
 * form but its own `kind`, so that neither can be taken for the other.
 *
 * A seal's number only grows. PostgreSQL assigns it together with the change itself. A host remembers the highest
 * number that it has seen and accepts no lower one.
 */
import { createHash, createPublicKey, sign, verify, type KeyObject } from 'node:crypto';
import * as z from 'zod/mini';

const account = {
  realm: z.string(),
  /** the shell name; of a tool the account, `<realm>.<tool>` */
  name: z.string(),
  uid: z.int(),
  home: z.string(),
  shell: z.string(),
};
const validity = {
  number: z.int().check(z.minimum(1), z.maximum(Number.MAX_SAFE_INTEGER)),
  /** no host accepts the seal from this time on: UTC, whole seconds, `2026-12-06T00:00:00Z` */
  until: z.iso.datetime({ precision: 0 }),
};
const personSchema = z.strictObject({
  kind: z.literal('person'),
  ...account,
  state: z.enum(['active', 'suspended', 'archived']),
  /** admitted to the realm */
  member: z.boolean(),
  /** canonical lines, sorted: options (with the key's end as `expiry-time`), type, base64 */
  keys: z.array(z.string()),
  ...validity,
});
const toolSchema = z.strictObject({
  kind: z.literal('tool'),
  ...account,
  state: z.enum(['active', 'disabled', 'archived']),
  /** the fifth field of passwd(5): why the tool is disabled; '' if it is not */
  gecos: z.string(),
  /** effective members of its group, people and tools, sorted; without its own account */
  members: z.array(z.string()),
  ...validity,
});
const schema = z.discriminatedUnion('kind', [personSchema, toolSchema]);

/** Everything that a host needs to know about a person, and no more. */
export type PersonSeal = z.infer<typeof personSchema>;
export type ToolSeal = z.infer<typeof toolSchema>;
export type Seal = PersonSeal | ToolSeal;

/** The reason, in a plan, why an account gets its first seal. */
export const UNSEALED = 'it is not sealed';

const CONTEXT = 'chamberlain-seal-1\n';
const ENVELOPE = /^([0-9a-f]{16}) ([A-Za-z0-9+/]{86}==) (\{.*\})$/s;

/** The payload of a seal. The same seal always gives the same text, because surveys compare it. */
export function formatSeal(seal: Seal): string {
  const { kind, realm, name, uid, home, shell, state, number, until } = seal;
  const own =
    seal.kind === 'person'
      ? { member: seal.member, keys: seal.keys }
      : { gecos: seal.gecos, members: seal.members };
  return JSON.stringify({ kind, realm, name, uid, home, shell, state, ...own, number, until });
}

/** A private key, with the id by which hosts know it. */
export interface SealKey {
  id: string;
  privateKey: KeyObject;
}

/** The id of a key, private or public. */
export function sealKeyId(key: KeyObject): string {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('hex').slice(0, 16);
}

/** Signs a payload. The result is the text in the directory. */
export function signPayload(payload: string, { id, privateKey }: SealKey): string {
  const signature = sign(null, Buffer.from(CONTEXT + payload), privateKey);
  return `${id} ${signature.toString('base64')} ${payload}`;
}

/** The payload of a text, whoever signed it: for surveys, which compare it. Undefined if it has another form. */
export function payloadOf(text: string): string | undefined {
  return ENVELOPE.exec(text)?.[3];
}

/** The public keys of a host, by id. There are two while one is being replaced. */
export type SealKeys = ReadonlyMap<string, KeyObject>;

/** The public key that verifies what this key signs. */
export function verifying({ id, privateKey }: SealKey): SealKeys {
  return new Map([[id, createPublicKey(privateKey)]]);
}

/** The payload, if one of the keys signed it, or the reason why not, in a sentence without a full stop. */
export type Verified = { ok: true; payload: string } | { ok: false; why: string };

export function verifyPayload(text: string, keys: SealKeys): Verified {
  const opened = openEnvelope(text, keys);
  if (typeof opened === 'string') return { ok: false, why: opened };
  const { signed, key, signature, payload } = opened;
  return toVerified(verify(null, signed, key, signature), payload);
}

/** As `verifyPayload`, but on another thread, for many at once. */
export function verifyAside(text: string, keys: SealKeys): Promise<Verified> {
  const opened = openEnvelope(text, keys);
  if (typeof opened === 'string') return Promise.resolve({ ok: false, why: opened });
  const { signed, key, signature, payload } = opened;
  return new Promise((resolve, reject) => {
    verify(null, signed, key, signature, (error, isSigned) => {
      if (error === null) resolve(toVerified(isSigned, payload));
      else reject(error);
    });
  });
}

function toVerified(isSigned: boolean, payload: string): Verified {
  return isSigned ? { ok: true, payload } : { ok: false, why: 'the signature is not valid' };
}

function openEnvelope(text: string, keys: SealKeys) {
  const [, id = '', signature = '', payload = ''] = ENVELOPE.exec(text) ?? [];
  if (payload === '') return 'the value is not a seal';
  const key = keys.get(id);
  if (key === undefined) return `this host does not know the key ${id}`;
  const signed = Buffer.from(CONTEXT + payload);
  return { key, payload, signed, signature: Buffer.from(signature, 'base64') };
}

/** Parses a payload. Undefined if it is not that of a person or tool, or has another version. */
export function parseSeal(payload: string): Seal | undefined {
  try {
    return schema.parse(JSON.parse(payload));
  } catch {
    return undefined;
  }
}
