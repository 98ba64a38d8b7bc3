/**
 * What a new machine sends to be joined: its kind, its name, and the public key to which its answer is encrypted; and
 * which roles it is to run. It holds no secret, and anybody may have written it: people compare its fingerprint.
 */
import { hash } from 'node:crypto';
import * as z from 'zod/mini';
import { MOVABLE_ROLES, type MovableRole } from '../roles/index.ts';
import { hostName, someOf } from '../shared/config-values.ts';
import { isAddress, isLocal } from '../shared/tls.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { printable, quote } from '../shared/printable.ts';
import { schemaWords } from '../shared/schema-words.ts';

/** A longer file is no join request, and is not read further. */
export const MAX_JOIN_REQUEST = 4096;

/** The kinds of machines that can join: a login host, and one that runs roles. */
const KINDS = ['login-host', 'role'] as const;

/** Of age, X25519, in bech32, whose letters lack 1, b, i and o: so it names no plugin, which age would start. */
const ageKey = z
  .string()
  .check(z.regex(/^age1[02-9ac-hj-np-z]{58}$/, 'is not a public key of age (age1…)'));

const name = hostName.check(
  z.refine((text) => !isLocal(text), 'names no single machine'),
  z.refine((text) => !isAddress(text), 'is an address, and not a name'),
);

/** In one order, so that the same roles have the same fingerprint. */
const roles = someOf(z.enum(MOVABLE_ROLES)).check(
  z.refine(
    (names) => String(names) === String(inOrder(names)),
    'must be in order, each of them once',
  ),
);

const common = {
  version: z.literal(1),
  name,
  key: ageKey,
  fingerprint: z.string().check(z.maxLength(100)),
};
const loginHost = z.strictObject({ ...common, kind: z.literal('login-host') });
const roleMachine = z.strictObject({ ...common, kind: z.literal('role'), roles });
const schema = z.discriminatedUnion('kind', [loginHost, roleMachine]);

export type LoginHostRequest = z.infer<typeof loginHost>;
export type RoleRequest = z.infer<typeof roleMachine>;
export type JoinRequest = LoginHostRequest | RoleRequest;
/** What a machine asks to become. */
export type Asking = { kind: 'login-host' } | { kind: 'role'; roles: readonly MovableRole[] };

/** Throws JOIN_INVALID if no machine of that name can join. */
export function makeJoinRequest(given: Asking & { name: string; key: string }): JoinRequest {
  const asked = given.kind === 'role' ? { ...given, roles: inOrder(given.roles) } : given;
  return checked({ version: 1, ...asked, fingerprint: fingerprintOfRequest(asked) });
}

function inOrder(names: readonly MovableRole[]): MovableRole[] {
  return MOVABLE_ROLES.filter((role) => names.includes(role));
}

/** Throws JOIN_INVALID, which says what is wrong, and shows nothing that could control a terminal. */
export function parseJoinRequest(bytes: Uint8Array): JoinRequest {
  if (bytes.length > MAX_JOIN_REQUEST) throw invalid('it is too long');
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw invalid('it is not JSON');
  }
  const { kind } = (value ?? {}) as { kind?: unknown };
  if (typeof kind === 'string' && !KINDS.some((known) => known === kind)) {
    throw invalid(
      `only login hosts and machines of roles can join, and it is of the kind ${quote(kind)}`,
    );
  }
  const request = checked(value);
  if (request.fingerprint !== fingerprintOfRequest(request)) {
    throw invalid('its fingerprint does not match its contents');
  }
  return request;
}

/** One line of JSON. */
export function formatJoinRequest(request: JoinRequest): string {
  return `${JSON.stringify(request)}\n`;
}

function checked(value: unknown): JoinRequest {
  const result = schema.safeParse(value, { jitless: true, error: schemaWords });
  if (result.success) return result.data;
  const issues = result.error.issues.map(
    ({ path, message }) => `${path.join('.') || 'it'}: ${message}`,
  );
  throw invalid(printable(issues.join('; ')).slice(0, 300));
}

function invalid(why: string): ChamberlainError {
  return new ChamberlainError('JOIN_INVALID', `this is not a join request: ${why}`);
}

function fingerprintOfRequest(of: Asking & { name: string; key: string }): string {
  const asked = of.kind === 'role' ? `${of.roles.join(',')}\n` : '';
  return fingerprintOf(`chamberlain join request 1\n${of.kind}\n${of.name}\n${of.key}\n${asked}`);
}

/** Letters that nobody confuses when they read them aloud. */
const LETTERS = '0123456789abcdefghjkmnpqrstvwxyz';
const LETTERS_IN_ALL = 16;

/** Names a text or a file so that two people can compare it by voice: 80 bits of its SHA-256, as `k3f9-7ht2-…`. */
export function fingerprintOf(data: string | Uint8Array): string {
  let bits = BigInt(`0x${hash('sha256', data, 'hex')}`) >> BigInt(256 - 5 * LETTERS_IN_ALL);
  let text = '';
  for (let at = 0; at < LETTERS_IN_ALL; at += 1, bits >>= 5n) {
    text = `${LETTERS[Number(bits & 31n)]}${at > 0 && at % 4 === 0 ? '-' : ''}${text}`;
  }
  return text;
}
