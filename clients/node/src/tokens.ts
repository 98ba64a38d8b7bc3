/** Tokens: compact JWS (RFC 7515) with the claims of a JWT (RFC 7519), signed with Ed25519 (RFC 8037). */
import { type KeyObject, randomUUID, sign, verify } from 'node:crypto';

/** How long a request is valid, in seconds; at most 7 days. */
const REQUEST_SECONDS = 24 * 3600;

/** Who signs. */
export interface Signer {
  realm: string;
  portal: string;
  kid: string;
  key: KeyObject;
}

/** Signs a request, or, with `check`, a question about one. `jti` is its id: a UUID. */
export function signRequest(
  by: Signer,
  claims: { jti: string; sub: string; request: Record<string, unknown>; check?: true },
): string {
  const { portal: iss, realm: aud } = by;
  return signed(by, { iss, aud, ...times(REQUEST_SECONDS), ...claims });
}

/**
 * Signs one call of the API. The target is the path with the query, exactly as the API receives it.
 *
 * @param seconds how long the token is valid; at most 300
 */
export function signCall(by: Signer, method: string, target: string, seconds = 60): string {
  const claims = { iss: by.portal, aud: `${by.realm}/api`, jti: randomUUID() };
  return signed(by, { ...claims, ...times(seconds), htm: method, htu: target });
}

/** The claims of a token with events for that portal. Throws if the key has not signed it, or not for that portal. */
export function verifyEvents(token: string, portal: string, key: KeyObject): unknown {
  const [header = '', claims = '', signature = '', ...more] = token.trim().split('.');
  const isSigned =
    more.length === 0 &&
    verify(null, Buffer.from(`${header}.${claims}`), key, Buffer.from(signature, 'base64url'));
  if (!isSigned) throw new Error("the events are not signed by the realm's key for events");
  const found = read(claims);
  if (read(header).alg !== 'EdDSA' || found.aud !== portal) {
    throw new Error('the events are not for this portal');
  }
  return found;
}

function times(seconds: number): { iat: number; exp: number } {
  const iat = Math.floor(Date.now() / 1000);
  return { iat, exp: iat + seconds };
}

function signed({ kid, key }: Signer, claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'EdDSA', kid })}.${part(claims)}`;
  return `${text}.${sign(null, Buffer.from(text), key).toString('base64url')}`;
}

const read = (part: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;
