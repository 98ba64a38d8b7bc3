/** What `submit` is asked to send, and by whom: from flags or from JSON lines, to signed tokens. */
import type { KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { adminOfPortal, type Config } from '../shared/config.ts';
import { findSigner, readSigningKey, signToken } from '../requests/token.ts';
import { cannotRead, ChamberlainError, describeError } from '../shared/errors.ts';
import {
  CLAIMS,
  parseRequest,
  REQUEST_KINDS,
  type RequestKind,
  URGENT_KINDS,
} from '../requests/schema.ts';
import { isKind, suggest } from './kinds.ts';

/** One request to send. Its fields fit the schema; whether it is allowed is for intake to judge. */
export interface Submission {
  id: string;
  kind: RequestKind;
  requestedBy: string;
  approvedBy: string;
  fields: Record<string, unknown>;
}

/** Whose key signs. */
export interface Signer {
  portal: string;
  kid: string;
  key: KeyObject;
  /** the admin whose own key it is: who asks and approves where nobody else is named */
  admin: string | undefined;
}

/** What the flags say of every request of one call. */
export interface Speaker {
  requestedBy?: string;
  approvedBy?: string;
}

/**
 * The key that signs: with a portal's name that portal's, else an admin's own, whose portal is found
 * by the public half.
 */
export function findSubmitter(
  config: Config,
  portalName: string | undefined,
  keyFile: string | undefined,
): Signer {
  const portals =
    portalName === undefined
      ? config.portals.filter((portal) => adminOfPortal(portal.name) !== undefined)
      : config.portals.filter((portal) => portal.name === portalName);
  if (portalName !== undefined && portals.length === 0) {
    const names = config.portals.map((portal) => portal.name);
    throw usage(`the configuration has no portal '${portalName}'${suggest(portalName, names)}`);
  }
  const path =
    keyFile ??
    (portalName === undefined
      ? process.env['CHAMBERLAIN_ADMIN_KEY'] || config.adminKey
      : undefined);
  if (path === undefined) {
    throw usage(
      portalName === undefined
        ? 'no key to sign with. Give --portal-key FILE, set CHAMBERLAIN_ADMIN_KEY, or `adminKey` in the configuration'
        : '--portal wants --portal-key FILE as well',
    );
  }
  const key = readSigningKey(path);
  const signer = findSigner(portals, key);
  if (signer === undefined) {
    const whose = portalName === undefined ? "of an admin's" : `of the portal ${portalName}'s`;
    throw usage(`the key ${path} is none ${whose} in the configuration`);
  }
  const { portal, kid } = signer;
  return { portal: portal.name, kid, key, admin: adminOfPortal(portal.name) };
}

/** What is asked to be sent, and where it stands; or what is wrong there instead. */
export type Line = { where: string } & (
  { request: Record<string, unknown> } | { problems: string[] }
);

/**
 * Completes a request: who asks and who approves, from itself, the flags, or the admin's key. Where its
 * kind does not take it as it is, returns each problem instead.
 */
export function makeSubmission(
  request: Record<string, unknown>,
  signer: Signer,
  speaker: Speaker,
  newId: () => string,
): Submission | { problems: string[] } {
  const {
    kind,
    id = newId(),
    requestedBy = speaker.requestedBy ?? signer.admin,
    approvedBy = speaker.approvedBy ?? signer.admin ?? requestedBy,
    ...fields
  } = request;
  const problems = [
    ...problemsOf({ kind, requestedBy, ...fields }),
    ...(CLAIMS.shape.jti.safeParse(id).success ? [] : [`id: '${String(id)}' is not a UUID`]),
    // the one who asks is looked at already
    ...(approvedBy === requestedBy || CLAIMS.shape.sub.safeParse(approvedBy).success
      ? []
      : ['approvedBy: it is not the name of a person']),
  ];
  if (problems.length > 0) return { problems };
  // each of them is a text by now
  return {
    id: String(id).toLowerCase(),
    kind: kind as RequestKind,
    requestedBy: String(requestedBy),
    approvedBy: String(approvedBy),
    fields,
  };
}

function problemsOf({ kind, ...body }: Record<string, unknown>): string[] {
  if (kind === undefined) return ['kind is missing'];
  if (typeof kind !== 'string') return ['kind: it is not a text'];
  if (!isKind(kind)) return [`unknown kind '${kind}'${suggest(kind, REQUEST_KINDS)}`];
  const parsed = parseRequest(kind, { kind, ...body });
  return 'problems' in parsed ? parsed.problems : [];
}

/** Reads JSON lines from a file, or from standard input for `-`. Blank lines are passed over. */
export function readRequestLines(path: string): Line[] {
  let bytes: string;
  try {
    bytes = readFileSync(path === '-' ? 0 : path, 'latin1');
  } catch (cause) {
    throw cannotRead('requests in', path, cause, 'USAGE');
  }
  const name = path === '-' ? 'standard input' : path;
  return bytes.split('\n').flatMap((part, index): Line[] => {
    const where = `line ${index + 1} of ${name}: `;
    const line = decode(Buffer.from(part, 'latin1'));
    if (line === undefined) return [{ where, problems: ['it is not UTF-8'] }];
    if (line.trim() === '') return [];
    let request: unknown;
    try {
      request = JSON.parse(line);
    } catch (cause) {
      return [{ where, problems: [`it is not JSON: ${describeError(cause)}`] }];
    }
    if (typeof request !== 'object' || request === null || Array.isArray(request)) {
      return [{ where, problems: ['it is not a JSON object'] }];
    }
    return [{ where, request: request as Record<string, unknown> }];
  });
}

/** A text; undefined where the bytes are none. */
function decode(bytes: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** The signed token of a request, and whether it belongs into the urgent queue. */
export async function sign(
  submission: Submission,
  signer: Signer,
  realm: string,
  now: Date,
): Promise<{ token: string; urgent: boolean }> {
  const { id, kind, requestedBy, approvedBy, fields } = submission;
  const token = await signToken(signer.key, {
    portal: signer.portal,
    realm,
    kid: signer.kid,
    jti: id,
    sub: approvedBy,
    request: { kind, requestedBy, ...fields },
    now,
  });
  return { token, urgent: URGENT_KINDS.has(kind) };
}

function usage(sentence: string): ChamberlainError {
  return new ChamberlainError('USAGE', sentence);
}
