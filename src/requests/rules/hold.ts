/**
 * subject.hold, subject.release
 *
 * A hold prevents a person or a tool from being archived, deleted and erased, and its archives from being removed,
 * until the hold ends or is released. It does not reopen access, and it does not cancel a deletion: what was due
 * during the hold happens after it, and portals are notified of the new day.
 *
 * | the subject                 | subject.hold               | subject.release |
 * | --------------------------- | -------------------------- | --------------- |
 * | not held, in any state      | held                       | NOT_HELD        |
 * | held                        | the new hold replaces it   | no longer held  |
 * | deleted, archive not kept   | PERSON_DELETED, TOOL_NOT_KEPT | NOT_HELD     |
 */
import type { RequestOf } from '../schema.ts';
import { endOfHold } from '../../shared/time.ts';
import { findArchival } from '../../lifecycle/archivals-table.ts';
import { findHold, liftHold, placeHold, RECOVERY } from '../../lifecycle/holds-table.ts';
import { findPerson } from '../../identity/people-table.ts';
import { findTool } from '../../identity/tools-table.ts';
import {
  decided,
  type RequestContext,
  type Handler,
  type Decision,
  refuse,
  refuseUnknownPerson,
  refuseUnknownTool,
  requireAdmin,
  requireFuture,
} from '../context.ts';

export const holdSubject: Handler<RequestOf<'subject.hold'>> = async (context) => {
  const { client, request, requestedBy: by, now } = context;
  requireAdmin(context);
  requireFuture('until', request.until, now, { isOptional: false });
  const until = new Date(request.until);
  const subject = await requireSubject(context);
  const { uid, account, state } = subject;
  const archival = state === 'deleted' ? await findArchival(client, uid) : undefined;
  if (state === 'deleted' && (archival === undefined || archival.expiredAt !== null)) {
    refuse(
      subject.tool === undefined ? 'PERSON_DELETED' : 'TOOL_NOT_KEPT',
      `${account} was deleted, and its archives are no longer kept. There is nothing to hold.`,
    );
  }
  const { reason } = request;
  await placeHold(client, uid, { by, reason, until, now });
  return holdChanged(subject, 'subject.held', { by, reason, until: until.toISOString() });
};

export const releaseSubject: Handler<RequestOf<'subject.release'>> = async (context) => {
  const { client, request, requestedBy: by, now } = context;
  requireAdmin(context);
  const subject = await requireSubject(context);
  if ((await findHold(client, subject.uid, now)) === undefined) {
    refuse('NOT_HELD', `There is no hold on ${subject.account}, or it has ended.`);
  }
  await liftHold(client, subject.uid, now);
  return holdChanged(subject, 'subject.released', { by, reason: request.reason });
};

/** Refuses to archive, delete or erase a subject that is held. */
export async function requireNotHeld(
  { client, now }: Pick<RequestContext<unknown>, 'client' | 'now'>,
  { uid, account }: { uid: number; account: string },
): Promise<void> {
  const hold = await findHold(client, uid, now);
  if (hold === undefined) return;
  const { by, until } = hold;
  // without the reason: a refusal is kept, but the reason is erased with the subject
  const held = `has placed a hold on ${account} until ${endOfHold(until)}.`;
  refuse(
    'SUBJECT_HELD',
    by === RECOVERY
      ? `A recovery ${held} An admin must check it, and can lift it (subject.release).`
      : `${by} ${held} Ask ${by} for the reason.`,
  );
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

function holdChanged(subject: Held, event: string, data: Record<string, unknown>): Decision {
  const { account, tool } = subject;
  const named = tool === undefined ? { account } : { tool, account };
  return decided(subject, event, { fields: ['hold'], touches: [], data: { ...named, ...data } });
}
