/**
 * Follows a request until it is applied everywhere, or cannot be. It looks in PostgreSQL; or, for a portal without a
 * secret for PostgreSQL, only in Redis, which holds the verdict and what the relay reports afterwards.
 */
import type { Answer, SentRequest } from '../backends/redis/queue.ts';
import type { Role } from '../reconcile/wanted.ts';
import { type Freeze, readFreeze } from '../database/freeze.ts';
import { look } from '../database/overview.ts';
import type { Pool } from '../database/connection.ts';
import { describeError } from '../shared/errors.ts';
import {
  findRequest,
  type OpenTouch,
  type Outcome,
  readAppliedRoles,
  readOpenTouches,
  type RequestView,
} from '../requests/request-progress.ts';
import { describeFreeze } from './commands/freeze.ts';
import { EXIT, failureLine } from './exit.ts';

export interface Progress {
  /** called once if it gets no verdict before the realm is thawed */
  onFrozen(sentence: string): void;
  /** the request has been accepted */
  onAccepted(): void;
  /** a role has applied all that this request touched for it */
  onApplied(role: Role): void;
}

/** The time between two looks: short at first, for requests that take a tenth of a second, then longer. */
const FIRST_POLL_MS = 10;
const LAST_POLL_MS = 500;

/** How long a server may be unreachable before the wait ends with the error. */
const FORGIVEN_MS = 5000;

const NO_VERDICT =
  'it has no verdict yet; is `chamberlain work intake` running, and does its configuration list this portal?';

const NOT_DONE =
  'it is accepted, but the relay has not reported that it is applied; an admin can see why with `chamberlain status`';

const NOT_SURVEYED = 'it has not ended; is `chamberlain work sweep` running?';

/** Codes that may mean that intake runs with an older configuration than the one read here. */
const UNKNOWN = new Set(['REQUEST_SIGNATURE', 'REQUEST_AUDIENCE']);
const RESTART =
  'If the configuration was changed, run `chamberlain reload`: the workers may use an older one.';

/** The state of a request at one look; without `request` it has no verdict. */
type Look =
  | { request?: undefined; frozen: Freeze | undefined }
  | {
      request: Pick<
        RequestView,
        'kind' | 'verdict' | 'code' | 'sentence' | 'doneAt' | 'approval' | 'result'
      >;
      touches: Pick<OpenTouch, 'role' | 'account' | 'applied' | 'state' | 'code' | 'sentence'>[];
      roles: Role[];
    };

async function lookInPostgres(pool: Pool, portal: string, id: string): Promise<Look> {
  return await look(pool, async (client) => {
    const request = await findRequest(client, portal, id);
    return request === undefined
      ? { frozen: await readFreeze(client) }
      : {
          request,
          touches: await readOpenTouches(client, request.number),
          // a role may have been faster than we look
          roles: await readAppliedRoles(client, request.number),
        };
  });
}

/** Redis does not hold the progress of single roles. */
async function lookInRedis(sent: SentRequest, id: string): Promise<Look> {
  const { verdict: given } = await sent.readAnswer();
  if (given === undefined) return { frozen: undefined };
  const { event, code = null, data = {} } = (await sent.readNews(id)) ?? {};
  const { role, why = '', by = null, sentence = null, reason = null } = data;
  const approval = (state: 'open' | 'rejected') => ({ state, why, decidedBy: by, reason });
  return {
    request: {
      kind: null,
      result: null,
      verdict: given.verdict === 'accepted' ? 'accepted' : 'refused',
      code: given.code ?? null,
      sentence: given.sentence ?? null,
      doneAt: event === 'request.done' ? new Date() : null,
      approval:
        event === 'request.waiting'
          ? approval('open')
          : event === 'request.rejected'
            ? approval('rejected')
            : null,
    },
    touches:
      event === 'request.stuck'
        ? [{ role: role as Role, account: 'it', applied: false, state: 'parked', code, sentence }]
        : [],
    roles: [],
  };
}

/**
 * Follows one request of a portal. A server that is unreachable for a moment does not end the wait. Only the queue
 * knows of an invalid job.
 *
 * @param pool of the role admin; undefined: look only in Redis
 */
export async function follow(
  pool: Pool | undefined,
  { portal, id, sent }: { portal: string; id: string; sent: SentRequest },
  timeoutMs: number,
  progress: Progress,
): Promise<Outcome> {
  const start = performance.now();
  const seen = new Set<Role>();
  const applied = new Set<Role>();
  let accepted = false;
  let saidFrozen = false;
  let sentence = NO_VERDICT;
  let answeredAt = start;
  for (let pollMs = FIRST_POLL_MS; ; pollMs = Math.min(pollMs * 1.1, LAST_POLL_MS)) {
    try {
      const now: Look = await (pool === undefined
        ? lookInRedis(sent, id)
        : lookInPostgres(pool, portal, id));
      answeredAt = performance.now();
      if (now.request === undefined) {
        const { frozen } = now;
        const { refusal: unsigned } = await sent.readAnswer().catch((): Answer => ({}));
        if (unsigned !== undefined) {
          const { code, sentence: why } = unsigned;
          const advice = UNKNOWN.has(code) ? ` ${RESTART}` : '';
          return { verdict: 'refused', done: false, code, sentence: `${why}${advice}` };
        }
        if (frozen === undefined) {
          sentence = NO_VERDICT;
        } else {
          sentence = `it waits: the realm is ${describeFreeze(frozen)}`;
          if (!saidFrozen) progress.onFrozen(sentence);
          saidFrozen = true;
        }
      } else {
        const { request, touches, roles } = now;
        if (request.verdict === 'refused') return failed(request);
        if (!accepted) progress.onAccepted();
        accepted = true;
        const decided = outcomeOfDecision(request);
        if (decided !== undefined) return decided;
        const open = touches.filter((touch) => !touch.applied);
        for (const role of [...touches.map((touch) => touch.role), ...roles]) seen.add(role);
        for (const role of seen) {
          if (applied.has(role) || open.some((touch) => touch.role === role)) continue;
          applied.add(role);
          progress.onApplied(role);
        }
        if (request.doneAt !== null) {
          const { result } = request;
          return { verdict: 'accepted', done: true, ...(result === null ? {} : { data: result }) };
        }
        if (request.result !== null) return failed(request);
        const parked = open.find((touch) => touch.state === 'parked');
        if (parked !== undefined) return givenUp(parked);
        const isSurvey = request.kind === 'survey.run' || request.kind === 'repair.run';
        sentence = pool === undefined ? NOT_DONE : isSurvey ? NOT_SURVEYED : describeOpen(open);
      }
    } catch (error) {
      if (performance.now() - answeredAt > FORGIVEN_MS) throw error;
      const server = pool === undefined ? 'Redis' : 'PostgreSQL';
      sentence = `the outcome cannot be read from ${server}: ${describeError(error)}`;
    }
    const leftMs = timeoutMs - (performance.now() - start);
    if (leftMs <= 0) return { verdict: accepted ? 'accepted' : null, done: false, sentence };
    await new Promise((resolve) => setTimeout(resolve, Math.min(pollMs, leftMs)));
  }
}

/** A role has given up on what it changed. */
export function givenUp({
  role,
  account,
  code,
  sentence,
}: Pick<OpenTouch, 'role' | 'account' | 'code' | 'sentence'>): Outcome {
  const why = `${role} has given up on ${account}: ${sentence ?? ''}`;
  return failed({ verdict: 'accepted', code, sentence: why });
}

/** It was refused, or cannot be done. */
function failed({
  verdict,
  code,
  sentence,
}: Pick<RequestView, 'verdict' | 'code' | 'sentence'>): Outcome {
  return { verdict, done: false, code: code ?? 'INTERNAL', sentence: sentence ?? '' };
}

/** The outcome of a request that an admin must approve, or has rejected. Undefined of every other one. */
function outcomeOfDecision({ approval }: Pick<RequestView, 'approval'>): Outcome | undefined {
  const undone = { verdict: 'accepted', done: false } as const;
  if (approval?.state === 'open') return { ...undone, waiting: true, sentence: approval.why };
  if (approval?.state === 'rejected') {
    const by = approval.decidedBy;
    const why = by === null ? 'because the person was deleted' : `by ${by}`;
    const reason = approval.reason ? `: ${approval.reason}` : '';
    return { ...undone, rejected: true, sentence: `it was rejected ${why}${reason}` };
  }
  return undefined;
}

/** Says on standard error why a request is not done, and sets the exit code. A refusal is worse than a timeout. */
export function reportUndone({ verdict, code, sentence = '' }: Outcome, later = ''): void {
  if (code === undefined) {
    process.stderr.write(`TIMEOUT: ${sentence}${verdict === null ? '' : later}\n`);
    if (process.exitCode !== EXIT.failed) process.exitCode = EXIT.timeout;
    return;
  }
  const line = verdict === 'refused' ? `${code}: ${sentence}` : failureLine(code, sentence);
  process.stderr.write(`${line}\n`);
  process.exitCode = EXIT.failed;
}

function describeOpen(
  open: readonly {
    role: Role;
    account: string;
    code: string | null;
    sentence: string | null;
  }[],
): string {
  if (open.length === 0) return 'it is applied everywhere, but the relay has not reported it yet';
  return open
    .slice(0, 5)
    .map(({ role, account, code, sentence }) =>
      [`the role ${role} is not done with ${account}`, code, sentence].filter(Boolean).join(': '),
    )
    .join('; ');
}
