/**
 * subject.hold, subject.release
 *
 * A hold keeps a person or a tool from being put away, deleted and erased, and its archives from being
 * removed, until it ends or is lifted. It does not open anything, and does not end a deletion: what was
 * due meanwhile comes after it, and of that day it is told anew.
 *
 * | the subject                 | subject.hold               | subject.release |
 * | --------------------------- | -------------------------- | --------------- |
 * | not held, whatever it is    | held                       | NOT_HELD        |
 * | held                        | held anew, by this one     | held no more    |
 * | deleted, and not kept       | PERSON_DELETED, TOOL_NOT_KEPT | NOT_HELD     |
 */
import type { RequestOf } from '../schema.ts';
import { endOfHold } from '../../shared/time.ts';
import { findArchival } from '../../lifecycle/archivals-table.ts';
import { findHold, liftHold, placeHold } from '../../lifecycle/holds-table.ts';
import { findPerson } from '../../identity/people-table.ts';
import { findTool } from '../../identity/tools-table.ts';
import {
  type RequestContext,
  type Handler,
  type Decision,
  refuse,
  refuseUnknownPerson,
  refuseUnknownTool,
  requireAdmin,
} from '../context.ts';

export const holdSubject: Handler<RequestOf<'subject.hold'>> = async (context) => {
  const { client, request, requestedBy: by, now } = context;
  requireAdmin(context);
  const until = new Date(request.until);
  if (until <= now) refuse('REQUEST_INVALID', 'until lies in the past. Name a time to come.');
  const subject = await requireSubject(context);
  const { uid, account, state } = subject;
  const archival = state === 'deleted' ? await findArchival(client, uid) : undefined;
  if (state === 'deleted' && (archival === undefined || archival.expiredAt !== null)) {
    refuse(
      subject.tool === undefined ? 'PERSON_DELETED' : 'TOOL_NOT_KEPT',
      `${account} was deleted, and no archive of it is kept. There is nothing to hold.`,
    );
  }
  const { reason } = request;
  await placeHold(client, uid, { by, reason, until, now });
  return told(subject, 'subject.held', { by, reason, until: until.toISOString() });
};

export const releaseSubject: Handler<RequestOf<'subject.release'>> = async (context) => {
  const { client, request, requestedBy: by, now } = context;
  requireAdmin(context);
  const subject = await requireSubject(context);
  if ((await findHold(client, subject.uid, now)) === undefined) {
    refuse('NOT_HELD', `Nobody holds ${subject.account}, or the hold has ended.`);
  }
  await liftHold(client, subject.uid, now);
  return told(subject, 'subject.released', { by, reason: request.reason });
};

/** Refuses what would have somebody put away, deleted or erased who is held. */
export async function requireNotHeld(
  { client, now }: Pick<RequestContext<unknown>, 'client' | 'now'>,
  { uid, account }: { uid: number; account: string },
): Promise<void> {
  const hold = await findHold(client, uid, now);
  if (hold === undefined) return;
  const { by, until } = hold;
  // not why: a refusal is kept, and the reason goes with the subject
  refuse('SUBJECT_HELD', `${by} holds ${account} until ${endOfHold(until)}; ask ${by} why.`);
}

interface Held {
  uid: number;
  account: string;
  state: string;
  /** its name; undefined of a person */
  tool?: string;
}

/** Who is meant, in whatever state. */
async function requireSubject({
  client,
  config,
  request,
}: RequestContext<{ person?: string | undefined; tool?: string | undefined }>): Promise<Held> {
  const { person: name, tool } = request;
  if (tool !== undefined) {
    const found = await findTool(client, tool, 0);
    if (found === undefined) refuseUnknownTool(config, tool);
    return { ...found, tool };
  }
  const found = await findPerson(client, name ?? '', config.admin);
  if (found === undefined) refuseUnknownPerson(name ?? '');
  return found;
}

function told(
  { uid, account, tool }: Held,
  event: string,
  data: Record<string, unknown>,
): Decision {
  const named = tool === undefined ? { account } : { tool, account };
  return {
    subject: uid,
    account,
    fields: ['hold'],
    touches: [],
    onDone: { event, portals: [], data: { ...named, ...data } },
  };
}
