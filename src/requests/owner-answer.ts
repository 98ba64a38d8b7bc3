/**
 * `chamberlain bootstrap --approve`: the owner of the database approves a request that waits for another admin, if none
 * can decide: no other admin is independent of the requester and has a key of their own.
 */
import { createHash } from 'node:crypto';
import { inTransaction, type Pool } from '../database/connection.ts';
import { holdThawed } from '../database/freeze.ts';
import { doneEvents, eventsOfWaiting } from '../events/done.ts';
import { writeEvents } from '../events/events-table.ts';
import { findPerson } from '../identity/people-table.ts';
import type { Config } from '../shared/config.ts';
import { ChamberlainError, CODES, codeOf } from '../shared/errors.ts';
import { nameFew } from '../shared/printable.ts';
import { readAdminKeys } from './admin-keys.ts';
import { findOtherAdmins, whyDead } from './admin-keys-table.ts';
import { closeApproval, findOpenApprovals, type OpenApproval } from './approvals-table.ts';
import { refuse } from './context.ts';
import { findRequests } from './request-progress.ts';
import { recordVerdict } from './requests-table.ts';
import { decideAnew, requireUnrevoked } from './rules/approving.ts';
import type { Client } from '../database/connection.ts';

const MOST_NAMED = 5;

/**
 * Approves the request with that id or number, by the rights that the requester has now. Returns what it is about as
 * `account`. Throws NOT_ALLOWED if an admin
 * can decide, and whatever `request.approve` would be refused for.
 *
 * @param by `unix:<name>`, for the audit
 */
export async function approveAsOwner(
  pool: Pool,
  config: Config,
  request: string,
  { by, now }: { by: string; now: Date },
): Promise<Pick<OpenApproval, 'kind' | 'account' | 'requestedBy'>> {
  return await inTransaction(pool, async (client) => {
    // no request is decided beside this one
    await client.query('SELECT hold_verdicts(true)');
    if (!(await holdThawed(client))) {
      refuse('FROZEN', 'The realm is frozen.');
    }
    const waiting = await requireWaiting(client, request);
    await requireNobodyElse(client, config, waiting, now);
    await approve(client, config, waiting, { by, now });
    const { kind, account, about, requestedBy } = waiting;
    return { kind, account: about ?? account, requestedBy };
  });
}

async function requireWaiting(client: Client, request: string): Promise<OpenApproval> {
  const found = await findRequests(client, request);
  const open = await Promise.all(
    found.map(({ id, portal }) =>
      findOpenApprovals(client, id ?? '', { portal: portal ?? undefined }),
    ),
  );
  const [waiting, another] = open.flat();
  if (waiting === undefined) {
    refuse('NOT_WAITING', `No request ${request} is waiting.`);
  }
  if (another !== undefined) {
    throw new ChamberlainError(
      'WAITS_TWICE',
      `Several portals have a waiting request ${request}.`,
      { action: 'Give its number, which `chamberlain requests` shows.' },
    );
  }
  return waiting;
}

/** Refuses if an admin can decide. One without a key of their own cannot. */
async function requireNobodyElse(
  client: Client,
  config: Config,
  { requestedBy }: OpenApproval,
  now: Date,
): Promise<void> {
  const keys = await readAdminKeys(client, config);
  const live = keys.filter((key) => whyDead(key.fingerprint, key, now) === undefined);
  const signing = new Set(live.map(({ admin }) => admin));
  const others = await findOtherAdmins(client, config.admin, requestedBy, now);
  const able = others.filter((name) => signing.has(name));
  if (able.length === 0) return;
  throw new ChamberlainError(
    'NOT_ALLOWED',
    `The owner of the database answers only where no other admin can. ${nameFew(able, MOST_NAMED)} can decide on it.`,
    { action: 'Have one of them send request.approve.' },
  );
}

async function approve(
  client: Client,
  config: Config,
  waiting: OpenApproval,
  { by, now }: { by: string; now: Date },
): Promise<void> {
  const actor = await findPerson(client, waiting.requestedBy, config.admin);
  const context = {
    ...{ client, config, request: undefined, portal: undefined, id: undefined },
    ...{ requestedBy: by, actor, now },
  };
  const decision = await unhinted(async () => {
    await requireUnrevoked(context, waiting);
    return await decideAnew(context, waiting);
  });
  await closeApproval(client, waiting, { state: 'approved', by, now });
  const { subject, about, touches, onDone, waits } = decision;
  const { portal, request: jti, kind } = waiting;
  await recordVerdict(client, {
    ...{ portal: undefined, jti: undefined, kind: 'request.approve', requestedBy: by },
    bodySha256: createHash('sha256').update(`owner ${portal} ${jti}`).digest(),
    ...{
      approvedBy: by,
      subject,
      about,
      verdict: 'accepted',
      code: undefined,
      sentence: undefined,
    },
    urgent: decision.urgent ?? false,
    onDone: touches.length === 0 ? undefined : onDone,
    ...{ touches, waits, decides: { portal, jti }, audit: decision },
  });
  await writeEvents(client, [
    ...eventsOfWaiting(waiting, 'request.approved', { by }),
    ...(decision.events ?? []),
    ...(touches.length === 0 && onDone !== undefined
      ? doneEvents(config, { portal, jti, kind, subject, onDone })
      : []),
  ]);
}

/** The sentence of a rule says what to do, as it does in a verdict: the hint of its code would say it again, or otherwise. */
async function unhinted<T>(decide: () => Promise<T>): Promise<T> {
  try {
    return await decide();
  } catch (error) {
    const code = codeOf(error);
    if (code === 'INTERNAL' || CODES[code].retry || (error as Error).cause !== undefined)
      throw error;
    throw new ChamberlainError(code, (error as Error).message, { action: '' });
  }
}
