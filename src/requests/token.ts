/**
 * The signed tokens that carry requests: compact JWS (RFC 7515) with the claims of a JWT
 * (RFC 7519), signed with Ed25519 (`alg` EdDSA, RFC 8037); the tokens that carry events to portals; and those that
 * say who calls the API. It is long because signing and checking are together: one can see that each accepts what the
 * other makes. The tests compare both with `jose`.
 */
import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import {
  adminOfPortal,
  ADMINS_QUEUE,
  type Config,
  ed25519KeyReader,
  type Portal,
} from '../shared/config.ts';
import { fingerprintOf } from '../ssh-keys/ed25519-key.ts';
import type { AdminKeys } from './admin-keys-table.ts';
import { quote } from '../shared/printable.ts';
import {
  CALL_CLAIMS,
  CLAIMS,
  CLOCK_SKEW_SECONDS,
  MAX_CALL_LIFE_SECONDS,
  MAX_TOKEN_LIFE_SECONDS,
  type Claims,
} from './schema.ts';

/** How long a token is valid. */
const TOKEN_LIFE_SECONDS = 24 * 3600;

/** The contents of a token. */
export interface TokenContents {
  portal: string;
  realm: string;
  kid: string;
  /** the request's id: a UUID */
  jti: string;
  sub: string;
  request: Record<string, unknown>;
  /** only asks what the verdict would be */
  check?: true | undefined;
  now: Date;
}

/** A private key, or what signs with one that is elsewhere, such as in an ssh-agent: Ed25519, 64 bytes. */
export type Signing = KeyObject | ((bytes: Buffer) => Promise<Buffer>);

/** The signature of the bytes: 64 bytes. */
export async function signBytes(key: Signing, bytes: Buffer): Promise<Buffer> {
  return typeof key === 'function' ? await key(bytes) : sign(null, bytes, key);
}

/** Signs a request. The token is valid for a day from `now`. */
export function signToken(key: Signing, contents: TokenContents): Promise<string> {
  const { portal, realm, jti, sub, request, check } = contents;
  return signClaims(key, contents, TOKEN_LIFE_SECONDS, {
    ...{ iss: portal, aud: realm, jti, sub, request },
    ...(check === undefined ? {} : { check }),
  });
}

/** A compact JWS (RFC 7515, section 7.1). Without `lifeSeconds`, it does not expire. */
async function signClaims(
  key: Signing,
  { kid, now }: { kid?: string; now: Date },
  lifeSeconds: number | undefined,
  claims: Record<string, unknown>,
): Promise<string> {
  const iat = seconds(now);
  const exp = lifeSeconds === undefined ? undefined : iat + lifeSeconds;
  const parts = [
    { alg: 'EdDSA', kid },
    { ...claims, iat, exp },
  ];
  const input = parts
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  const signature = await signBytes(key, Buffer.from(input));
  return `${input}.${signature.toString('base64url')}`;
}

/** The contents of a token that carries events. */
export interface EventsContents {
  realm: string;
  portal: string;
  /** the number of the last event before these. The portal must have that event already */
  after: number;
  /** the events after that one, up to and including this one, are no longer kept */
  removed?: number | undefined;
  events: readonly unknown[];
  now: Date;
}

/**
 * Signs events for a portal, with the claims iss (the realm), aud (the portal), iat, `after` and `events`. `removed`
 * is added if the events that come next are gone, so that the portal can never get them.
 */
export function signEvents(
  key: KeyObject,
  { realm, portal, after, removed, events, now }: EventsContents,
): Promise<string> {
  const claims = { iss: realm, aud: portal, after, removed, events };
  return signClaims(key, { now }, undefined, claims);
}

/** One call of the API, as it is signed: the target is the path with the query, exactly as it is sent. */
export interface Call {
  method: string;
  target: string;
}

/** The audience of the tokens for calls of a realm's API; no realm has such a name. Clients sign them. */
const apiAudience = (realm: string): string => `${realm}/api`;

/** Signs a token for one call of the API, valid from `now` for as long as it may be. */
export function signCall(
  key: Signing,
  of: Pick<TokenContents, 'portal' | 'realm' | 'kid' | 'jti' | 'now'> & Call,
): Promise<string> {
  const { portal, realm, jti, method, target } = of;
  const claims = { iss: portal, aud: apiAudience(realm), jti, htm: method, htu: target };
  return signClaims(key, of, MAX_CALL_LIFE_SECONDS, claims);
}

/**
 * The portal whose token this is, if it was made for this call; or a sentence that says what is wrong. An unknown
 * portal and a wrong signature have the same sentence. The clocks may differ by 60 s.
 *
 * @param adminKeys as for `verifyToken`; so is `key`, which must be looked up too
 */
export function verifyCall(
  token: string,
  call: Call,
  config: Config,
  now: Date,
  adminKeys: AdminKeys = NONE,
): Signer | { sentence: string } {
  const shape = readShape(token);
  if (typeof shape === 'string') return { sentence: shape };
  const { header, payload } = shape;
  const { iss } = payload;
  const known =
    typeof iss === 'string' ? findKeys(iss, header['kid'], config, adminKeys) : undefined;
  // without `kid`, each key of the portal would be tried
  const isNamed = typeof header['kid'] === 'string';
  const signed = !isNamed || known === undefined ? '' : verifySignature(token, header, known);
  if (typeof signed === 'string' || known === undefined) {
    return {
      sentence:
        'The token must be signed with EdDSA, and name the portal (`iss`) and the key (`kid`) that signed it. This realm has no such key, or the signature is wrong.',
    };
  }
  const parsed = CALL_CLAIMS.safeParse(payload);
  if (!parsed.success) {
    const names = parsed.error.issues.map(({ path }) => path.join('.'));
    return { sentence: `These claims of the token are missing or wrong: ${names.join(', ')}.` };
  }
  const claims = parsed.data;
  if (claims.aud !== apiAudience(config.realm)) {
    return {
      sentence: `The token is not for this API: its \`aud\` must be ${apiAudience(config.realm)}.`,
    };
  }
  if (claims.htm !== call.method || claims.htu !== call.target) {
    return {
      sentence: `The token is for the call ${quote(`${claims.htm} ${claims.htu}`)}, and this is ${quote(`${call.method} ${call.target}`)}: \`htm\` and \`htu\` must be the method and the path with the query.`,
    };
  }
  const untimely = wrongTime(claims, seconds(now), {
    most: MAX_CALL_LIFE_SECONDS,
    words: '5 minutes',
  });
  return untimely === undefined ? signerOf(known.portal, signed) : { sentence: untimely };
}

/** Reads the key that signs requests or events. Throws CONFIG_INVALID. */
export function readSigningKey(path: string): KeyObject {
  return signingKeyReader(path)();
}

/**
 * Reads that key again for each use, so that no restart is needed after its file was replaced. Throws CONFIG_INVALID
 * here and at each use.
 */
export function signingKeyReader(path: string): () => KeyObject {
  return ed25519KeyReader('signing key', path);
}

/** Finds the portal and the `kid` under which the configuration lists a key, of which either half is given. */
export function findSigner(
  portals: readonly Portal[],
  signingKey: KeyObject,
): { portal: Portal; kid: string } | undefined {
  const publicHalf = signingKey.type === 'private' ? createPublicKey(signingKey) : signingKey;
  for (const portal of portals) {
    for (const { kid, publicKey } of portal.keys) {
      if (createPublicKey(publicKey).equals(publicHalf)) return { portal, kid };
    }
  }
  return undefined;
}

/** The result of checking a token. `claims` are present only if the signature is good. */
export type TokenVerdict =
  | { ok: true; claims: Claims; signer: Signer }
  | {
      ok: false;
      code:
        | 'REQUEST_MALFORMED'
        | 'REQUEST_SIGNATURE'
        | 'REQUEST_PORTAL_UNKNOWN'
        | 'REQUEST_AUDIENCE'
        | 'REQUEST_EXPIRED';
      sentence: string;
      claims?: Claims;
      signer?: Signer;
    };

/** Who signed a token. */
interface Signer {
  portal: Portal;
  /**
   * of an admin's own key: its fingerprint. The signature says nothing about whether the key still counts: that is
   * read in the transaction of the decision
   */
  key: string | undefined;
  /** of a portal that was added by request: the fingerprint of the key. Whether it counts is read likewise */
  portalKey?: string;
}

/**
 * Checks a token from the queue of that portal: shape, issuer, signature, claims, audience and times, in this order.
 * The first fault is the result. The request inside the token is not checked. The clocks may differ by 60 s.
 *
 * @param adminKeys the keys that `kidOfAdmin` names, as far as they were added by request
 */
export function verifyToken(
  token: string,
  portal: string,
  config: Config,
  now: Date,
  adminKeys: AdminKeys = NONE,
): TokenVerdict {
  const shape = readShape(token);
  if (typeof shape === 'string') return refuse('REQUEST_MALFORMED', shape);
  const { header, payload } = shape;
  if (typeof payload['iss'] !== 'string') {
    return refuse('REQUEST_MALFORMED', 'The token does not name a portal in `iss`.');
  }
  const known = findKeys(payload['iss'], header['kid'], config, adminKeys);
  if (known === undefined) {
    return refuse(
      'REQUEST_PORTAL_UNKNOWN',
      `This realm has no portal named ${quote(payload['iss'])}.`,
    );
  }
  const isOwnKey = adminOfPortal(payload['iss']) !== undefined;
  if (payload['iss'] !== portal && !(isOwnKey && portal === ADMINS_QUEUE)) {
    return refuse(
      'REQUEST_PORTAL_UNKNOWN',
      `The token names the portal ${quote(payload['iss'])}, but ${portal} has sent it. A portal sends only tokens that name it.`,
    );
  }
  const signed = verifySignature(token, header, known);
  if (typeof signed === 'string') return refuse('REQUEST_SIGNATURE', signed);
  const signer = signerOf(known.portal, signed);

  const parsed = CLAIMS.safeParse(payload);
  if (!parsed.success) {
    const names = parsed.error.issues.map(({ path }) => path.join('.'));
    return refuse(
      'REQUEST_MALFORMED',
      `These claims of the token are missing or wrong: ${names.join(', ')}.`,
    );
  }
  const claims = parsed.data;
  if (claims.aud !== config.realm) {
    return {
      ...refuse(
        'REQUEST_AUDIENCE',
        `The token is for the realm ${quote(claims.aud)}, but this realm is ${config.realm}.`,
      ),
      claims,
      signer,
    };
  }
  const untimely = wrongTime(claims, seconds(now));
  if (untimely !== undefined) return { ...refuse('REQUEST_EXPIRED', untimely), claims, signer };
  return { ok: true, claims, signer };
}

function refuse(code: Extract<TokenVerdict, { ok: false }>['code'], sentence: string) {
  return { ok: false as const, code, sentence };
}

type JsonObject = Record<string, unknown>;

/** The header and payload of a compact JWS, not verified, or a sentence that says what is wrong. */
function readShape(token: string): { header: JsonObject; payload: JsonObject } | string {
  const parts = token.split('.');
  if (parts.length !== 3 || !parts.every((part) => /^[A-Za-z0-9_-]+$/.test(part))) {
    return 'The token is not a compact JWS: three parts of base64url with a dot between them.';
  }
  const header = parseObject(parts[0] ?? '');
  if (header === undefined) return 'The header of the token is not a JSON object.';
  const payload = parseObject(parts[1] ?? '');
  if (payload === undefined) return 'The claims of the token are not a JSON object.';
  return { header, payload };
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

function parseObject(part: string): JsonObject | undefined {
  try {
    const text = utf8.decode(Buffer.from(part, 'base64url'));
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as JsonObject)
      : undefined;
  } catch {
    return undefined;
  }
}

/** The key of the portal that signed the token, or a sentence that says what is wrong. */
function verifySignature(
  token: string,
  header: JsonObject,
  { portal, keys }: PortalKeys,
): KeyObject | string {
  if (header['alg'] !== 'EdDSA') return 'The token is not signed with EdDSA.';
  if ('crit' in header)
    return 'The header of the token requires an extension (`crit`), and none is supported.';
  let candidates = [...keys.values()];
  if (header['kid'] !== undefined) {
    const key = typeof header['kid'] === 'string' ? keys.get(header['kid']) : undefined;
    if (key === undefined)
      return `The portal ${portal.name} has no key with the \`kid\` in the token.`;
    candidates = [key];
  }
  const end = token.lastIndexOf('.');
  const [signed, signature] = [token.slice(0, end), token.slice(end + 1)];
  const [bytes, given] = [Buffer.from(signed), Buffer.from(signature, 'base64url')];
  const by = candidates.find((key) => verify(null, bytes, key, given));
  if (by !== undefined) return by;
  return `The token is not signed with a key of the portal ${portal.name}.`;
}

function wrongTime(
  { iat, exp }: Pick<Claims, 'iat' | 'exp'>,
  now: number,
  life = { most: MAX_TOKEN_LIFE_SECONDS, words: '7 days' },
): string | undefined {
  if (exp - iat > life.most) {
    return `The token is valid for longer than ${life.words}: from ${moment(iat)} to ${moment(exp)}.`;
  }
  if (iat > now + CLOCK_SKEW_SECONDS) {
    return `The token is from the future: its \`iat\` is ${moment(iat)}, but the time here is ${moment(now)}.`;
  }
  if (exp <= now - CLOCK_SKEW_SECONDS) {
    return `The token has expired: its \`exp\` is ${moment(exp)}, but the time here is ${moment(now)}.`;
  }
  return undefined;
}

interface PortalKeys {
  portal: Portal;
  /** by kid */
  keys: Map<string, KeyObject>;
}

const NONE: AdminKeys = new Map();

/**
 * The `kid` of a token that may be signed with an admin's own key that was added by request: such a key is known by its
 * fingerprint. Nothing of the token was checked.
 */
export function kidOfAdmin(token: unknown): string | undefined {
  const shape = typeof token === 'string' ? readShape(token) : '';
  if (typeof shape === 'string') return undefined;
  const { iss } = shape.payload;
  const { kid } = shape.header;
  const isOwnKey = typeof iss === 'string' && adminOfPortal(iss) !== undefined;
  return isOwnKey && typeof kid === 'string' && FINGERPRINT.test(kid) ? kid : undefined;
}

const FINGERPRINT = /^SHA256:[A-Za-z0-9+/]{43}$/u;

/** The keys with which a token may be signed: those of the configuration, or the one that was added by request. */
function findKeys(
  iss: string,
  kid: unknown,
  config: Config,
  adminKeys: AdminKeys,
): PortalKeys | undefined {
  const listed = keysOf(config).get(iss);
  if (typeof kid !== 'string' || listed?.keys.has(kid) === true) return listed;
  const added = adminKeys.get(kid);
  if (added === undefined || adminOfPortal(iss) !== added.admin) return listed;
  const portal: Portal = {
    ...{ name: iss, keys: [], kinds: 'all', reads: [], events: 'queue' },
    ...{ subjectEvents: false, speaksForAdmins: false, verifiesMail: false },
  };
  return { portal, keys: new Map([[kid, added.key]]) };
}

function signerOf(portal: Portal, key: KeyObject): Signer {
  if (portal.byRequest === true) return { portal, key: undefined, portalKey: fingerprintOf(key) };
  const isOwnKey = adminOfPortal(portal.name) !== undefined;
  return { portal, key: isOwnKey ? fingerprintOf(key) : undefined };
}

const parsed = new WeakMap<Config, Map<string, PortalKeys>>();

/** The portals of a configuration by name, with their keys. Cached as long as the configuration exists. */
function keysOf(config: Config): Map<string, PortalKeys> {
  let portals = parsed.get(config);
  if (portals === undefined) {
    portals = new Map(
      config.portals.map((portal) => {
        const keys = new Map(
          portal.keys.map(({ kid, publicKey }) => [kid, createPublicKey(publicKey)]),
        );
        return [portal.name, { portal, keys }];
      }),
    );
    parsed.set(config, portals);
  }
  return portals;
}

function seconds(time: Date): number {
  return Math.floor(time.getTime() / 1000);
}

/** A time for people to read. A number that is not a valid time is returned as it is. */
function moment(time: number): string {
  const date = new Date(time * 1000);
  return Number.isNaN(date.getTime()) ? String(time) : date.toISOString();
}
