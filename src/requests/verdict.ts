/**
 * The verdict on one request. It is checked, decided and recorded in one transaction.
 *
 *   job ──▶ size, shape, signature: an invalid job gets no verdict and is not kept
 *       ──▶ the first verdict, if there is one
 *       ──▶ times, schema, rights of the portal, actor, rules of the kind
 *       ──▶ accepted: state, ids, audit, events and touched generations, all in one transaction
 *       ──▶ refused: a code and a sentence in `requests`, `events` and `audit`, and nothing else
 *
 * A fault of a server is not a verdict. It is thrown, and the request waits.
 */
import { createHash } from 'node:crypto';
import { adminOfPortal, type Config, type Portal } from '../shared/config.ts';
import { type AdminKeys, readKeyState, whyDead } from './admin-keys-table.ts';
import { findLivePortal } from './portals-table.ts';
import { verifyToken } from './token.ts';
import { ChamberlainError, CODES, type Code, codeOf } from '../shared/errors.ts';
import { canonicalJson } from '../shared/canonical-json.ts';
import { printable } from '../shared/printable.ts';
import { type RequestKind, URGENT_KINDS } from './kinds.ts';
import {
  type Claims,
  MAX_JOB_BYTES,
  parseRequest,
  type Request,
  REQUEST_SCHEMAS,
} from './schema.ts';
import type { NewEvent } from '../events/events-table.ts';
import { reserveIds, useIds } from '../identity/id-allocation-table.ts';
import { normalName, toolAccount } from '../identity/names.ts';
import { findSubjects, type NamedSubject } from '../identity/names-table.ts';
import type { PosixId } from '../identity/posix-id.ts';
import { insertTools, type NewTool } from '../identity/tools-table.ts';
import { findPeople, findPerson, type Person } from '../identity/people-table.ts';
import { attempt, type Client, sqlState } from '../database/connection.ts';
import {
  findVerdict,
  findVerdicts,
  type NewVerdict,
  recordVerdict,
  recordVerdicts,
  type StoredVerdict,
} from './requests-table.ts';
import { type RequestContext, type Decision, requireNotGone } from './context.ts';
import { doneEvents } from '../events/done.ts';
import { HANDLERS } from './rules/index.ts';

/** The return value of a portal's job. */
export interface Verdict {
  verdict: 'accepted' | 'refused';
  code?: string | undefined;
  sentence?: string | undefined;
  /** it is what the verdict would be: nothing was done, and nothing recorded */
  check?: true;
}

/** A verdict, and the events that must be written in the same transaction. */
export interface Given {
  verdict: Verdict;
  events: NewEvent[];
  /** it was given before, and is only repeated */
  isRepeated?: boolean;
}

/** Everything that is known about a refused request. */
interface Refusal {
  code: Code;
  sentence: string;
  /** the fingerprint of the admin's own key that signed it */
  key?: string | undefined;
  /** set only if the signature was good */
  claims?: Claims;
  portal: string;
  bodySha256: Buffer;
  kind?: string | undefined;
}

/** An invalid job: not a request signed by the portal that owns the queue. Nothing else is known about it. */
export interface JunkJob {
  code: Code;
  sentence: string;
}

/** A portal's request, as far as it can be checked without PostgreSQL. */
export interface SignedJob {
  /** of the whole job */
  sha256: Buffer;
  signed: {
    claims: Claims;
    portal: Portal;
    /** the fingerprint of the admin's own key that signed it; undefined: a portal did */
    key?: string | undefined;
    /** of a portal that was added by request: the fingerprint of the key that signed it */
    portalKey?: string;
    /** of the approver and the request. The same hash under the same id gets the same verdict again */
    sha256: Buffer;
    kind: string | undefined;
    /** what is wrong although the signature is good, e.g. the token has expired */
    refusal?: { code: Code; sentence: string };
  };
}

/**
 * Checks the size, shape and signature of a job in the queue of that portal. Throws only for faults of the program.
 *
 * @param adminKeys the keys that admins have added by request, as far as the job names one (`kidOfAdmin`)
 */
export async function checkJob(
  config: Config,
  portal: string,
  data: unknown,
  now: Date,
  adminKeys?: AdminKeys,
): Promise<SignedJob | JunkJob> {
  const refuse = (code: Code, sentence = sentenceOf(code)): JunkJob => ({
    code,
    sentence: printable(sentence),
  });
  const bytes = withoutOverflow(() => JSON.stringify(data) ?? '');
  if (bytes === undefined) return refuse('REQUEST_MALFORMED', TOO_DEEP);
  if (Buffer.byteLength(bytes) > MAX_JOB_BYTES) {
    return refuse('REQUEST_TOO_LARGE', `The job is larger than ${MAX_JOB_BYTES} bytes.`);
  }
  const token = (data as { token?: unknown } | null)?.token;
  if (typeof token !== 'string') return refuse('REQUEST_MALFORMED');
  const verified = verifyToken(token, portal, config, now, adminKeys);
  const { claims, signer } = verified;
  if (claims === undefined || signer === undefined) {
    const { code, sentence } = verified as Extract<typeof verified, { ok: false }>;
    return refuse(code, sentence);
  }
  const body = withoutOverflow(() => canonicalJson({ sub: claims.sub, request: claims.request }));
  const refusal = !verified.ok
    ? { code: verified.code, sentence: verified.sentence }
    : body === undefined
      ? { code: 'REQUEST_INVALID' as const, sentence: TOO_DEEP }
      : undefined;
  const whole = sha256(bytes);
  return {
    sha256: whole,
    signed: {
      claims,
      ...signer,
      sha256: body === undefined ? whole : sha256(body),
      kind: kindOf(claims.request.kind),
      ...(refusal === undefined ? {} : { refusal }),
    },
  };
}

/**
 * Kinds whose requests can share a transaction: nothing that one of them changes or records is read by another,
 * except names.
 */
const TOGETHER: ReadonlySet<string | undefined> = new Set<RequestKind>(['tool.create']);

/**
 * Requests that get their verdicts in one transaction. What each of them reads first is looked up for all at once.
 * Their verdicts and new tools are recorded together, at the end or as soon as another request may read them.
 */
interface Together {
  /** undefined: it may be out of date */
  ahead: Map<SignedJob, Look> | undefined;
  unrecorded: NewVerdict[];
  /** numbers that are reserved for new tools */
  toolIds: PosixId[];
  newTools: NewTool[];
}

/** What is read before everything else: the first verdict, if there is one, and the actor. */
type Look = [first: StoredVerdict | undefined, actor: Person | undefined];

/** Looks up, for all of these jobs, what `giveVerdict` reads first. */
export async function lookAhead(
  client: Client,
  config: Config,
  jobs: readonly SignedJob[],
): Promise<Together> {
  const signed = jobs.map(({ signed: { portal, claims } }) => ({
    ...{ portal: portal.name, jti: claims.jti },
    requestedBy: shorten(claims.request.requestedBy) ?? '',
  }));
  const creating = jobs.filter((job) => job.signed.kind === 'tool.create').length;
  const [verdicts, people, toolIds] = await Promise.all([
    findVerdicts(client, signed),
    findPeople(client, [...new Set(signed.map((each) => each.requestedBy))], config.admin),
    creating === 0 ? [] : reserveIds(client, 'tool', creating),
  ]);
  const looks = signed.map(({ portal, jti, requestedBy }): Look => [
    verdicts.get(`${portal} ${jti}`),
    people.get(requestedBy),
  ]);
  const ahead = new Map(jobs.map((job, n) => [job, looks[n] as Look]));
  return { ahead, unrecorded: [], toolIds, newTools: [] };
}

/** Records what is not recorded yet, and drops what was looked up, which may be out of date now. */
export async function recordTogether(client: Client, together: Together): Promise<void> {
  together.ahead = undefined;
  const [tools, verdicts] = [together.newTools.splice(0), together.unrecorded.splice(0)];
  await Promise.all([createTools(client, tools), recordVerdicts(client, verdicts)]);
}

/** Both statements are sent at once. */
async function createTools(client: Client, tools: readonly NewTool[]): Promise<void> {
  if (tools.length === 0) return;
  const ids = tools.map(({ uid }) => uid);
  await Promise.all([useIds(client, 'tool', ids), insertTools(client, tools)]);
}

/** Whether a handler may read a tool that is not recorded yet, or needs a number when none is reserved. */
function needsRecorded(
  { newTools, toolIds }: Together,
  config: Config,
  body: Claims['request'],
): boolean {
  if (toolIds.length === 0) return true;
  const accounts = new Set<unknown>(newTools.map(({ account }) => account));
  const { name, maintainers } = body;
  const named = Array.isArray(maintainers) ? (maintainers as unknown[]) : [];
  const ownAccount = typeof name === 'string' && toolAccount(config.realm, normalName(name));
  return accounts.has(ownAccount) || named.some((each) => accounts.has(each));
}

/** Says what the verdict on a job would be now, by the same rules. The caller's transaction must be rolled back. */
export async function checkVerdict(
  client: Client,
  config: Config,
  job: SignedJob,
  of: { urgentQueue: boolean; now: Date },
): Promise<Verdict> {
  const { verdict } = await decideVerdict(client, config, job, of);
  return { ...verdict, check: true };
}

/**
 * Gives a job its verdict within a transaction. The verdict counts once that is committed. Before the commit, the
 * caller writes the events of all verdicts of the transaction at once. Throws only for faults of servers, and for a
 * check, which is never carried out.
 *
 * @param of.together the other requests of the same transaction; the caller records at its end what is still unrecorded
 */
export async function giveVerdict(
  client: Client,
  config: Config,
  job: SignedJob,
  of: { urgentQueue: boolean; now: Date; together?: Together | undefined },
): Promise<Given> {
  if (job.signed.claims.check === true) throw new TypeError('a check gets no verdict');
  return await decideVerdict(client, config, job, of);
}

async function decideVerdict(
  client: Client,
  config: Config,
  job: SignedJob,
  of: { urgentQueue: boolean; now: Date; together?: Together | undefined },
): Promise<Given> {
  const { sha256: whole, signed } = job;
  const { urgentQueue, now, together } = of;
  const { claims, portal, kind } = signed;
  const refuse = async (refusal: Refusal): Promise<Given> => {
    // verdicts are recorded in the order in which they were given
    if (together !== undefined) await recordTogether(client, together);
    return recordRefusal(client, config, refusal);
  };
  const isSameAgain = together?.unrecorded.some(({ jti }) => jti === claims.jti) === true;
  if (
    together !== undefined &&
    (isSameAgain || !TOGETHER.has(kind) || needsRecorded(together, config, claims.request))
  ) {
    await recordTogether(client, together);
  }
  const { key } = signed;
  const identity = { claims, portal: portal.name, bodySha256: signed.sha256, kind, key };
  const requestedBy = shorten(claims.request.requestedBy);
  const [first, actor] =
    together?.ahead?.get(job) ??
    (await Promise.all([
      findVerdict(client, portal.name, claims.jti),
      requestedBy === undefined ? undefined : findPerson(client, requestedBy, config.admin),
    ]));
  if (first !== undefined) {
    if (first.bodySha256.equals(signed.sha256)) {
      const { verdict, code, sentence } = first;
      return { verdict: { verdict, code, sentence }, events: [], isRepeated: true };
    }
    return refuse({
      code: 'REQUEST_REPLAYED',
      sentence: sentenceOf('REQUEST_REPLAYED'),
      portal: portal.name,
      bodySha256: whole,
      ...{ kind, key },
    });
  }
  try {
    if (signed.refusal !== undefined) {
      throw new ChamberlainError(signed.refusal.code, signed.refusal.sentence);
    }
    if (key !== undefined) await requireLiveKey(client, key, now);
    const signer = await requireLivePortal(client, signed);
    const request = requireRequest(claims.request);
    checkPortal(signer, request.kind, urgentQueue);
    return await attempt(client, () =>
      accept(client, config, identity, { request, portal: signer, actor, now, together }),
    );
  } catch (error) {
    if (isFault(error)) throw error;
    if (UNKEEPABLE.has(sqlState(error) ?? '')) {
      return refuse({ ...identity, code: 'REQUEST_INVALID', sentence: NOT_KEPT });
    }
    const code = codeOf(error);
    return refuse({
      ...identity,
      code,
      // PostgreSQL's message about a row may contain the row
      sentence: code === 'INTERNAL' ? sentenceOf(code) : (error as Error).message,
    });
  }
}

/** The kind, if it exists. Any other text is not kept. */
function kindOf(kind: unknown): string | undefined {
  return typeof kind === 'string' && Object.hasOwn(REQUEST_SCHEMAS, kind) ? kind : undefined;
}

/** A verdict is kept, so it names only so many problems. */
const MOST_PROBLEMS = 5;

function requireRequest(body: Record<string, unknown>): Request {
  const kind = body.kind;
  if (typeof kind !== 'string' || !Object.hasOwn(REQUEST_SCHEMAS, kind)) {
    throw new ChamberlainError('REQUEST_KIND_UNKNOWN', sentenceOf('REQUEST_KIND_UNKNOWN'));
  }
  const parsed = parseRequest(kind as RequestKind, body);
  if ('request' in parsed) return parsed.request;
  const problems = parsed.problems.slice(0, MOST_PROBLEMS).join('; ').slice(0, 1000);
  throw new ChamberlainError(
    'REQUEST_INVALID',
    `${problems}. The schema of ${kind} says what it must be.`,
  );
}

function checkPortal(portal: Portal, kind: RequestKind, urgentQueue: boolean): void {
  if (portal.kinds !== 'all' && !portal.kinds.includes(kind)) {
    throw new ChamberlainError(
      'REQUEST_KIND_FORBIDDEN',
      `The portal ${portal.name} may not send ${kind}. Have the kind added to the portal's \`kinds\`, or send it through another portal.`,
    );
  }
  if (urgentQueue && !URGENT_KINDS.has(kind)) {
    throw new ChamberlainError(
      'REQUEST_NOT_URGENT',
      `${kind} does not belong on the urgent queue. Send it to the queue \`requests.${portal.name}\`.`,
    );
  }
}

/**
 * Refuses a request signed with a key that was revoked or has expired. Reads the row within the transaction that
 * decides: an earlier request of the same batch may have revoked it.
 */
async function requireLiveKey(client: Client, key: string, now: Date): Promise<void> {
  const dead = whyDead(key, await readKeyState(client, key), now);
  if (dead === undefined) return;
  throw new ChamberlainError(
    'ADMIN_KEY_DEAD',
    `${dead} Sign with another key that is valid. \`chamberlain admin-key new\` makes one; it counts once another admin has approved it.`,
  );
}

/**
 * The portal with its rights. One that was added by request is read within the transaction that decides, because an
 * earlier request of the same batch may have changed it; refuses what it has signed with a key that it no longer has.
 */
async function requireLivePortal(
  client: Client,
  { portal, portalKey }: SignedJob['signed'],
): Promise<Portal> {
  if (portalKey === undefined) return portal;
  const live = await findLivePortal(client, portal.name, portalKey);
  if (live !== undefined) return live;
  throw new ChamberlainError(
    'PORTAL_DEAD',
    `The portal ${portal.name} was removed, or no longer has the key ${portalKey}. Sign with a key that it has.`,
  );
}

/** Refuses a request signed with an admin's own key if it is for another person, or if they are not an admin. */
function requireOwnKey(admin: string, names: readonly string[], actor: Person | undefined): void {
  const other = names.find((name) => name !== admin);
  if (other !== undefined) {
    throw new ChamberlainError(
      'NOT_ALLOWED',
      `This key may sign only for ${admin}. ${other} must request or approve this through a portal.`,
    );
  }
  if (actor?.admin === true) return;
  const why =
    actor?.state === 'suspended'
      ? 'is suspended. Another admin can reinstate them'
      : `is not an admin, so requests signed with this key are refused. An admin can make ${admin} an admin with maintainer.add, and with access.grant if the access is missing`;
  throw new ChamberlainError('NOT_ALLOWED', `${admin} ${why}.`);
}

/** Throws if the actor may request nothing. */
function requireActor(request: Request, actor: Person | undefined): void {
  const creatingOneself =
    request.kind === 'person.create' && request.shellName === request.requestedBy;
  if (!creatingOneself && actor === undefined) {
    throw new ChamberlainError(
      'PERSON_UNKNOWN',
      `requestedBy names ${request.requestedBy}, but there is no such person. Create the person first.`,
    );
  }
  // a new person may give a deleted person's name as their own: that is refused as NAME_TAKEN, not here
  if (!creatingOneself && actor !== undefined) requireNotGone(actor);
  const cancelsOwn = request.kind === 'person.reinstate' && request.person === actor?.account;
  if (actor?.state === 'suspended' && !(cancelsOwn && actor.ownDeletion)) {
    throw new ChamberlainError(
      'PERSON_SUSPENDED',
      `${request.requestedBy} is suspended and may not request anything. Ask an admin.`,
    );
  }
}

/** A request whose form and signature are right, with the person who makes it. */
interface Checked {
  request: Request;
  portal: Portal;
  actor: Person | undefined;
  now: Date;
  together: Together | undefined;
}

async function accept(
  client: Client,
  config: Config,
  identity: Omit<Refusal, 'code' | 'sentence'> & { claims: Claims },
  { request, portal: signer, actor, now, together }: Checked,
): Promise<Given> {
  const { claims } = identity;
  const admin = adminOfPortal(claims.iss);
  if (admin !== undefined) requireOwnKey(admin, [request.requestedBy, claims.sub], actor);
  requireActor(request, actor);
  const portal = admin === undefined ? claims.iss : undefined;
  const isHeard = admin !== undefined || signer.speaksForAdmins;
  const context: RequestContext<Request> = {
    client,
    config,
    request,
    portal,
    id: { portal: claims.iss, jti: claims.jti },
    requestedBy: request.requestedBy,
    approvedBy: claims.sub,
    key: identity.key,
    // so no rule grants an admin's rights through a portal that does not speak for admins
    actor: actor === undefined ? undefined : { ...actor, admin: actor.admin && isHeard },
    isUnheardAdmin: actor?.admin === true && !isHeard,
    verifiesMail: signer.verifiesMail,
    now,
    nextToolId: together?.toolIds[0],
  };
  const decide = HANDLERS[request.kind] as (of: RequestContext<Request>) => Promise<Decision>;
  const decision = await decide(context);
  const origin = {
    portal: claims.iss,
    jti: claims.jti,
    kind: request.kind,
    subject: decision.subject,
  };
  const verdict: NewVerdict = {
    ...origin,
    about: decision.about,
    bodySha256: identity.bodySha256,
    requestedBy: request.requestedBy,
    approvedBy: claims.sub,
    verdict: 'accepted',
    code: undefined,
    sentence: undefined,
    urgent: decision.urgent ?? URGENT_KINDS.has(request.kind),
    onDone: decision.touches.length === 0 ? undefined : decision.onDone,
    touches: decision.touches,
    waits: decision.waits,
    decides: decision.decides,
    key: identity.key,
    audit: decision,
  };
  const newTools = decision.newTool === undefined ? [] : [decision.newTool];
  if (together !== undefined && TOGETHER.has(request.kind)) {
    // if recording them fails, the transaction fails, and each is tried alone
    if (newTools[0]?.uid === together.toolIds[0]) together.toolIds.shift();
    together.newTools.push(...newTools);
    together.unrecorded.push(verdict);
  } else await Promise.all([createTools(client, newTools), recordVerdict(client, verdict)]);
  const accepted: NewEvent = {
    portal,
    event: 'request.accepted',
    subject: decision.subject,
    request: claims.jti,
    data: { kind: request.kind, account: decision.account },
  };
  return {
    verdict: { verdict: 'accepted' },
    events: [
      ...(portal === undefined ? [] : [accepted]),
      ...(decision.events ?? []),
      ...(decision.touches.length === 0 && decision.onDone !== undefined
        ? doneEvents(config, { ...origin, ...decision.decides, onDone: decision.onDone })
        : []),
    ],
  };
}

/** Writes a refusal and nothing else. The same bytes under an id that was used before are recorded only once. */
async function recordRefusal(client: Client, config: Config, refusal: Refusal): Promise<Given> {
  const { code, claims, portal, bodySha256, kind } = refusal;
  const named = claims === undefined ? undefined : await findNamed(client, config, claims.request);
  const sentence = printable(refusal.sentence);
  const recipient = adminOfPortal(portal) === undefined ? portal : undefined;
  const isNew = await recordVerdict(client, {
    portal: claims?.iss,
    jti: claims?.jti,
    bodySha256,
    kind,
    requestedBy: shorten(claims?.request.requestedBy),
    approvedBy: claims?.sub,
    subject: named?.uid,
    verdict: 'refused',
    code,
    sentence,
    urgent: false,
    onDone: undefined,
    touches: [],
    key: refusal.key,
    audit: { account: named?.account, fields: [] },
  });
  const event: NewEvent = {
    portal: recipient,
    event: 'request.refused',
    subject: undefined,
    request: claims?.jti,
    code,
    data: { sentence, ...(kind === undefined ? {} : { kind }) },
  };
  const verdict = { verdict: 'refused', code, sentence } as const;
  return { verdict, events: isNew ? [event] : [], isRepeated: !isNew };
}

/** The person or the tool that a refused request names, if there is one by that name. No other text is kept. */
async function findNamed(
  client: Client,
  { realm }: Config,
  { kind, person, tool, requestedBy }: Claims['request'],
): Promise<NamedSubject | undefined> {
  const named =
    typeof tool === 'string'
      ? toolAccount(realm, tool)
      : (person ?? (kind === 'access.request' ? requestedBy : undefined));
  if (typeof named !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/u.test(named)) {
    return undefined;
  }
  return (await findSubjects(client, [named])).get(named);
}

/**
 * Whether a retry may succeed: PostgreSQL is down, hangs, or refuses for now (SQLSTATE classes 08, 40, 53, 55, 57,
 * 58, and 25006, read-only), or an operator can mend it (a right, a table or a column is missing: 42; data are corrupted:
 * XX). If PostgreSQL refuses the data (22, 23), or the program is at fault, every retry would fail in the same way.
 */
export function isFault(error: unknown): boolean {
  const code = codeOf(error);
  if (code !== 'INTERNAL') return CODES[code].retry;
  const state = sqlState(error);
  if (state !== undefined) return !state.startsWith('22') && !state.startsWith('23');
  // a connection that breaks or times out ends in a plain Error
  return !/^(Type|Range|Reference|Syntax)Error$/u.test(String((error as Error | null)?.name));
}

/** SQLSTATEs for characters that PostgreSQL cannot store in a text or in JSON: NUL, half a surrogate pair. */
const UNKEEPABLE: ReadonlySet<string> = new Set(['22021', '22P02', '22P05']);
const NOT_KEPT =
  'A text in the request contains a character that cannot be stored, such as NUL. Remove that character.';
const TOO_DEEP =
  'The request has lists or objects nested thousands of levels deep. No kind has that.';

/** Undefined if a value is nested more deeply than the stack allows. */
function withoutOverflow(write: () => string): string | undefined {
  try {
    return write();
  } catch (error) {
    if ((error as Error).name === 'RangeError') return undefined;
    throw error;
  }
}

function shorten(text: unknown): string | undefined {
  return typeof text === 'string' ? printable(text.slice(0, 64)) : undefined;
}

/** The sentence for a code when there is nothing more specific to say. */
export function sentenceOf(code: Code): string {
  return `${CODES[code].meaning} ${CODES[code].action}`;
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
