/** Requests: sending them, and how they stand. */
import * as z from 'zod';
import type { SentRequest } from '../../backends/redis/queue.ts';
import { type Client, withClient } from '../../database/connection.ts';
import { isKind, URGENT_KINDS } from '../../requests/kinds.ts';
import {
  findRequest,
  findRequests,
  findStandings,
  hasCome,
  readAppliedRoles,
  readOpenTouches,
  REQUEST_STATES,
  type RequestView,
  stateOf,
  type Until,
} from '../../requests/request-progress.ts';
import { findAdminKeys } from '../../requests/admin-keys-table.ts';
import { kidOfAdmin } from '../../requests/token.ts';
import { queueOf } from '../../shared/config.ts';
import { checkJob, type SignedJob } from '../../requests/verdict.ts';
import { logReads, personIn } from '../api-reads-table.ts';
import type { Outcome } from '../outcomes.ts';
import { notFound, Problem } from '../problem.ts';
import { cursorOf, NUMBER_KEY, PAGE_QUERY, pageOf, readCursor, SEARCH } from '../page.ts';
import { type Caller, mayCall } from '../rights.ts';
import { type Api, route } from '../route.ts';
import { readSentRequests } from '../sent-requests-queries.ts';

/** In one call. */
const MOST_REQUESTS = 100;
/** Of one call with several tokens. A token is at most 64 KiB. */
const MOST_BYTES = 2 ** 20;
const MOST_WAIT_SECONDS = 60;

const OUTCOME = z
  .object({
    id: z.uuid().describe('the `jti` of the request'),
    verdict: z.enum(['accepted', 'refused']).nullable().describe('null: it has none yet'),
    done: z.boolean().describe('every role has applied what it changed'),
    waiting: z.literal(true).optional().describe('an admin must approve it'),
    rejected: z.literal(true).optional().describe('an admin has rejected it'),
    code: z
      .string()
      .optional()
      .describe('why it was refused or failed, or why a role has given up'),
    sentence: z.string().optional(),
    data: z
      .record(z.string(), z.unknown())
      .optional()
      .describe('what a survey or a repair came to'),
  })
  .describe('what has become of the request');

const OUTCOMES = z
  .union([OUTCOME, z.array(OUTCOME)])
  .describe('for one token its outcome; for several tokens a list of outcomes, in the same order');

/** The status by which the API refuses what intake would not count as a request. */
const STATUS: Record<string, number> = { REQUEST_TOO_LARGE: 413 };

const PROGRESS = z
  .object({
    id: z.uuid(),
    portal: z.string(),
    kind: z.string().nullable(),
    requestedBy: z.string().nullable(),
    approvedBy: z.string().nullable(),
    account: z.string().nullable().describe('the person, tool or portal that it is about'),
    accounts: z.array(z.string()).describe('of a request about several people'),
    verdict: z.enum(['accepted', 'refused']),
    code: z.string().nullable(),
    sentence: z.string().nullable(),
    at: z.iso.datetime().describe('when it got its verdict'),
    state: z
      .enum(REQUEST_STATES)
      .describe(
        '`accepted` is not done yet, `waiting` is for an admin, `stuck` needs the operator',
      ),
    doneAt: z.iso.datetime().nullable(),
    stuckAt: z.iso.datetime().nullable(),
    result: z
      .record(z.string(), z.unknown())
      .nullable()
      .describe('what a survey or a repair came to; null of every other request'),
    approval: z
      .object({
        state: z.enum(['open', 'approved', 'rejected']),
        why: z.string(),
        reason: z.string().nullable(),
        decidedBy: z.string().nullable(),
      })
      .nullable()
      .describe('null: it never needed an admin'),
    access: z
      .object({
        state: z.enum(['open', 'granted', 'refused']),
        reason: z.string().nullable(),
        decidedBy: z.string().nullable(),
      })
      .nullable()
      .describe('of an accepted access.request: what an admin has decided'),
    roles: z
      .array(
        z.object({
          role: z.string(),
          account: z.string().nullable().describe('null: that of the request'),
          state: z.enum(['applied', 'due', 'waiting', 'failing', 'parked']),
          code: z.string().nullable(),
          sentence: z.string().nullable(),
        }),
      )
      .describe('the roles that have applied it, or have not yet'),
  })
  .describe('a request, role by role');

const PORTAL = SEARCH.optional().describe(
  'the portal that sent it; for another portal than its own, the caller needs the right `all`',
);

const LISTED = PROGRESS.omit({ roles: true });

export const REQUEST_ROUTES = [
  route({
    method: 'POST',
    path: '/v1/requests',
    summary: 'send requests',
    description:
      'The body is the token of a request, or a list of tokens, as docs/portals.md describes them. If one of several is wrong, none is sent. The same request may be sent again: it counts once, and has the same verdict.',
    right: 'token',
    query: z.strictObject({
      wait: z
        .enum(['verdict', 'done'])
        .optional()
        .describe('what the answer waits for, for up to `seconds`'),
      seconds: z.coerce.number().min(0).max(MOST_WAIT_SECONDS).default(MOST_WAIT_SECONDS),
    }),
    bodies: {
      'application/jwt': z.string(),
      'application/json': z.array(z.string()).min(1).max(MOST_REQUESTS),
    },
    mostBytes: MOST_BYTES,
    replies: {
      200: OUTCOMES.describe('each request has reached what `wait` names'),
      202: OUTCOMES.describe(
        'everything was sent; at least one request has not reached what `wait` names',
      ),
    },
  }).handle(async (api, { caller, query, body, signal }) => {
    const tokens = typeof body === 'string' ? [body.trim()] : body;
    const jobs: SignedJob[] = [];
    for (const [index, token] of tokens.entries()) {
      jobs.push(
        await checkToken(api, caller.name, token, typeof body === 'string' ? undefined : index),
      );
    }
    const check = jobs.findIndex(({ signed }) => signed.claims.check === true);
    if (check >= 0) {
      throw new Problem(
        400,
        'REQUEST_INVALID',
        'The token has the claim `check`. Send it to /v1/checks, or without that claim.',
        typeof body === 'string' ? {} : { index: check },
      );
    }
    for (const [at, job] of jobs.entries()) await send(api, tokens[at] as string, job);
    const until = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(query.seconds * 1000))]);
    const outcomes = await Promise.all(jobs.map((job) => outcomeOf(api, job, query.wait, until)));
    const isOver = outcomes.every(
      (outcome) => query.wait !== undefined && hasCome(outcome, query.wait),
    );
    return {
      status: isOver ? 200 : 202,
      body: typeof body === 'string' ? (outcomes[0] as Outcome) : outcomes,
    };
  }),
  route({
    method: 'GET',
    path: '/v1/requests',
    summary: 'the requests of the portal that have a verdict, the newest first',
    description:
      'A request that has no verdict yet is in Redis alone, and is not listed. With `state` or `requestedBy` a page may be short, or empty, although `next` is not null: go on.',
    right: 'own',
    query: z.strictObject({
      ...PAGE_QUERY,
      portal: PORTAL,
      state: z.enum(REQUEST_STATES).optional(),
      requestedBy: SEARCH.optional().describe('the shell name of who requested it'),
    }),
    replies: { 200: pageOf(LISTED, 'a page of requests') },
  }).handle(async ({ pool }, { caller, query: { limit, after, ...of } }) => {
    const before = readCursor(after, NUMBER_KEY);
    const page = { ...of, portal: portalOf(caller, of.portal), before, limit };
    return await withClient(pool, async (client) => {
      const { requests, next } = await readSentRequests(client, page);
      await logReasons(client, caller, requests);
      const items = requests.map(renderRequest);
      return { status: 200, body: { items, next: next === undefined ? null : cursorOf(next) } };
    });
  }),
  route({
    method: 'GET',
    path: '/v1/requests/:id',
    summary: 'a request of the portal, role by role',
    right: 'own',
    params: z.object({ id: z.uuid() }),
    query: z.strictObject({ portal: PORTAL }),
    replies: { 200: PROGRESS },
  }).handle(async ({ pool }, { caller, params, query }) => {
    const portal = portalOf(caller, query.portal);
    return await withClient(pool, async (client) => {
      const request =
        portal === undefined
          ? (await findRequests(client, params.id))[0]
          : await findRequest(client, portal, params.id);
      if (request === undefined) throw notFound();
      await logReasons(client, caller, [request]);
      const open = await readOpenTouches(client, request.number);
      const applied = await readAppliedRoles(client, request.number);
      return { status: 200, body: renderProgress(request, open, applied) };
    });
  }),
];

/**
 * Checks a token as intake does, without PostgreSQL. What intake would not count as a request is refused here, with the
 * same code; and so is one that is late, unless it has a verdict already, which it then gets again.
 */
export async function checkToken(
  api: Api,
  portal: string,
  token: string,
  index?: number,
): Promise<SignedJob> {
  const kid = kidOfAdmin(token);
  const adminKeys =
    kid === undefined
      ? undefined
      : await withClient(api.pool, (client) => findAdminKeys(client, [kid]));
  const job = await checkJob(api.config, portal, { token }, api.now(), adminKeys);
  const refusal = 'code' in job ? job : job.signed.refusal;
  if (refusal === undefined) return job as SignedJob;
  if (!('code' in job)) {
    const asked = { portal, id: job.signed.claims.jti };
    const [known] = await withClient(api.pool, (client) => findStandings(client, [asked]));
    if (known !== undefined) return job;
  }
  throw new Problem(STATUS[refusal.code] ?? 400, refusal.code, refusal.sentence, {
    ...(index === undefined ? {} : { index }),
  });
}

/** Puts a request into its queue. */
export function send(
  { queues, config }: Api,
  token: string,
  { signed }: SignedJob,
): Promise<SentRequest> {
  const { kind } = signed;
  const urgent = kind !== undefined && isKind(kind) && URGENT_KINDS.has(kind);
  return queues.addRequest(queueOf(config, signed.portal.name), token, urgent);
}

function outcomeOf(
  { outcomes }: Api,
  { signed: { claims, portal, sha256 } }: SignedJob,
  until: Until | undefined,
  signal: AbortSignal,
): Promise<Outcome> {
  const id = claims.jti;
  if (until === undefined) return Promise.resolve({ id, verdict: null, done: false });
  return outcomes.wait({ portal: portal.name, id, sha256 }, until, signal);
}

/** The portal whose requests are meant. Undefined: every one, for a caller with the right `all`. */
function portalOf(caller: Caller, portal: string | undefined): string | undefined {
  if (mayCall(caller, 'all')) return portal;
  if (portal !== undefined && portal !== caller.name) throw notFound();
  return caller.name;
}

/** A portal is told by events why an admin has decided on its requests. What it reads of others is logged. */
async function logReasons(
  client: Client,
  caller: Caller,
  requests: readonly RequestView[],
): Promise<void> {
  const whose = requests.flatMap((request) => {
    const { portal, approval, access } = request;
    const person = personIn(request);
    const reason = approval?.reason ?? access?.reason ?? null;
    return portal === caller.name || reason === null || person === null ? [] : [person];
  });
  if (whose.length > 0) await logReads(client, caller, whose, ['reasons']);
}

function renderRequest(request: RequestView): Omit<z.output<typeof PROGRESS>, 'roles'> {
  const { number: _, id, portal, at, doneAt, stuckAt, ...rest } = request;
  return {
    ...rest,
    id: id as string,
    portal: portal as string,
    state: stateOf(request),
    at: at.toISOString(),
    doneAt: doneAt?.toISOString() ?? null,
    stuckAt: stuckAt?.toISOString() ?? null,
  };
}

function renderProgress(
  request: RequestView,
  open: Awaited<ReturnType<typeof readOpenTouches>>,
  applied: readonly string[],
): z.output<typeof PROGRESS> {
  const behind = open.map(({ role, account, applied: isApplied, state, code, sentence }) => ({
    ...{ role, account },
    state: isApplied ? ('applied' as const) : state,
    ...{ code, sentence },
  }));
  const others = applied
    .filter((role) => !open.some((touch) => touch.role === role))
    .map((role) => ({
      role,
      account: null,
      state: 'applied' as const,
      code: null,
      sentence: null,
    }));
  return {
    ...renderRequest(request),
    roles: [...behind, ...others],
  };
}
