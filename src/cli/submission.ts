/** What `submit` sends, and who signs it: makes requests of options or JSON lines. */
import { readFileSync } from 'node:fs';
import { adminOfPortal, type Config, type Portal } from '../shared/config.ts';
import { findSigner, readSigningKey, type Signing } from '../requests/token.ts';
import { cannotRead, ChamberlainError, describeError } from '../shared/errors.ts';
import { isKind, REQUEST_KINDS, type RequestKind } from '../requests/kinds.ts';
import { CLAIMS, parseRequest } from '../requests/schema.ts';
import { suggest } from '../shared/nearest.ts';

/** One request to send. Its fields fit the schema; intake decides whether it is allowed. */
export interface Submission {
  id: string;
  kind: RequestKind;
  requestedBy: string;
  approvedBy: string;
  fields: Record<string, unknown>;
}

/** The key that signs, and the portal that it belongs to. */
export interface Signer {
  portal: string;
  kid: string;
  key: Signing;
  /** the portal in whose queues its requests go */
  queue: string;
  /** the admin whose own key it is; they are the requester and approver unless somebody else is named */
  admin: string | undefined;
}

/** The options that apply to every request of one call. */
export interface Speaker {
  requestedBy?: string;
  approvedBy?: string;
}

/** Finds the key of a portal that signs, in a file without a passphrase. */
export function portalSigner(
  { portals }: Config,
  portalName: string,
  keyFile: string | undefined,
): Signer {
  const portal = portals.find(({ name }) => name === portalName);
  if (portal === undefined) {
    const names = portals.map(({ name }) => name);
    throw usage(`the configuration has no portal '${portalName}'${suggest(portalName, names)}`);
  }
  if (keyFile === undefined) throw usage('--portal needs --portal-key FILE as well');
  const key = readSigningKey(keyFile);
  const signer = findSigner([portal], key);
  if (signer !== undefined) return { ...listedSigner(signer), key };
  throw usage(`the configuration does not list the key ${keyFile} for the portal ${portalName}`);
}

/** Where the configuration lists admins' own keys. */
export function portalsOfAdmins({ portals }: Pick<Config, 'portals'>): Portal[] {
  return portals.filter(({ name }) => adminOfPortal(name) !== undefined);
}

/** The file of the admin's own key. */
export function ownKeyPath({ adminKey }: Pick<Config, 'adminKey'>): string {
  const path = process.env['CHAMBERLAIN_ADMIN_KEY'] || adminKey;
  if (path !== undefined) return path;
  throw usage(
    'there is no key to sign with. Give --portal-key FILE, or set CHAMBERLAIN_ADMIN_KEY, or `adminKey` in the configuration',
  );
}

/** What is known of a signer by the portal of the configuration that lists the key. */
export function listedSigner({ portal: { name }, kid }: { portal: Portal; kid: string }) {
  return { portal: name, queue: name, kid, admin: adminOfPortal(name) };
}

/** A request to send, and where it was read; or else what is wrong there. */
export type Line = { where: string } & (
  { request: Record<string, unknown> } | { problems: string[] }
);

/**
 * Completes a request: requester and approver come from the request itself, from the options, or from the admin's
 * key. If it does not fit the schema of its kind, returns each problem instead.
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
    // requestedBy was checked above
    ...(approvedBy === requestedBy || CLAIMS.shape.sub.safeParse(approvedBy).success
      ? []
      : ['approvedBy: it is not the name of a person']),
  ];
  if (problems.length > 0) return { problems };
  // all of them are texts now
  return {
    id: String(id).toLowerCase(),
    kind: kind as RequestKind,
    requestedBy: String(requestedBy),
    approvedBy: String(approvedBy),
    fields,
  };
}

/** What is wrong with the fields of a request, by the schema of its kind. */
export function problemsOf({ kind, ...body }: Record<string, unknown>): string[] {
  if (kind === undefined) return ['kind is missing'];
  if (typeof kind !== 'string') return ['kind: it is not a string'];
  if (!isKind(kind)) return [`unknown kind '${kind}'${suggest(kind, REQUEST_KINDS)}`];
  const parsed = parseRequest(kind, { kind, ...body });
  return 'problems' in parsed ? parsed.problems : [];
}

/** Reads JSON lines from a file, or from standard input for `-`. Blank lines are ignored. */
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

/** The text; undefined if the bytes are not UTF-8. */
function decode(bytes: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** The error for a wrong command line or request. */
export function usage(sentence: string): ChamberlainError {
  return new ChamberlainError('USAGE', sentence);
}
