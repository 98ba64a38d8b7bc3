/**
 * request.approve, request.reject
 *
 *   waits ──request.approve──▶ approved    the waiting request is decided anew, and done
 *     ╰─────request.reject───▶ rejected ◀──request.reject── approved, a person.erase that has not begun
 *
 * The requester may reject their own request, in the way in which they sent it: through the same portal or with the
 * same key. Every other decision needs the own key of an admin who is not the requester. That admin answers for it:
 * the waiting request is decided anew with the rights that this admin has now. If it is refused then, it goes on
 * waiting until it is rejected.
 *
 * The body is erased either way; only the reason of a rejection is kept. The events of an approved request are sent in the name of the request that waited.
 * That request is done when everything that the approval touched is applied. A rejected request is done at once. If
 * a request still waits when its person is deleted, the calendar rejects it. An approved erasure is done when
 * everything is erased, and any admin may reject it until it begins.
 *
 * An id is unique only within one portal:
 *
 * | requests waiting by that id  | without `sentBy` | with it                       |
 * | ---------------------------- | ---------------- | ----------------------------- |
 * | none                         | NOT_WAITING      | NOT_WAITING                   |
 * | one                          | that             | that portal's, or NOT_WAITING |
 * | of several portals, one each | WAITS_TWICE      | that portal's, or NOT_WAITING |
 */
import { type RequestOf, REQUEST_SCHEMAS } from '../schema.ts';
import { findDependence, isRevoked, readKeyState, whyDead } from '../admin-keys-table.ts';
import { closeApproval, findOpenApprovals, type OpenApproval } from '../approvals-table.ts';
import {
  type RequestContext,
  type Handler,
  type Decision,
  refuse,
  requireOwnKeyOfAdmin,
} from '../context.ts';
import { portalOf, eventsOfWaiting } from '../../events/done.ts';
import { addAdminKey } from './admin-key.ts';
import { wantPersonErased } from './person-erasing.ts';
import { deletePerson, suspendPerson } from './person-leaving.ts';
import { addPortal, handOver, updatePortal } from './portal.ts';

export const approve: Handler<RequestOf<'request.approve'>> = async (context) => {
  const { client, requestedBy: by, now } = context;
  const waiting = await requireWaiting(context);
  await requireIndependent(context, waiting);
  await requireUnrevoked(context, waiting);
  const decision = await decideAnew(context, waiting);
  await closeApproval(client, waiting, { state: 'approved', by, now });
  return {
    ...decision,
    events: [...eventsOfWaiting(waiting, 'request.approved', { by }), ...(decision.events ?? [])],
    decides: identityOf(waiting),
  };
};

export const reject: Handler<RequestOf<'request.reject'>> = async (context) => {
  const { client, request, requestedBy: by, now } = context;
  const waiting = (await findOwn(context)) ?? (await requireWaiting(context, true));
  await closeApproval(client, waiting, { state: 'rejected', by, now, reason: request.reason });
  return {
    subject: waiting.subject,
    account: waiting.account,
    about: waiting.about,
    fields: ['approval'],
    touches: [],
    events: eventsOfWaiting(waiting, 'request.rejected', { by, reason: request.reason }),
    onDone: undefined,
    decides: identityOf(waiting),
  };
};

/** Finds the waiting request if the actor sent it, because a requester may reject their own request. */
async function findOwn({
  client,
  request,
  requestedBy,
  id,
}: RequestContext<{ request: string }>): Promise<OpenApproval | undefined> {
  const [waiting] = await findOpenApprovals(client, request.request, {
    portal: id?.portal,
    toReject: true,
  });
  return waiting?.requestedBy === requestedBy ? waiting : undefined;
}

/** Finds the waiting request. Refuses an actor who may not decide on it. */
async function requireWaiting(
  context: RequestContext<{ request: string; sentBy?: string | undefined }>,
  toReject = false,
): Promise<OpenApproval> {
  const { client, request, requestedBy } = context;
  requireOwnKeyOfAdmin(context);
  const [waiting, another] = await findOpenApprovals(client, request.request, {
    portal: request.sentBy,
    toReject,
  });
  if (waiting === undefined) {
    refuse(
      'NOT_WAITING',
      `No request with the id ${request.request} is waiting. See \`chamberlain requests\`.`,
    );
  }
  if (another !== undefined) {
    const portals = `${waiting.portal} and ${another.portal}`;
    refuse(
      'WAITS_TWICE',
      `The portals ${portals} each have a waiting request with that id. Name the portal in sentBy.`,
    );
  }
  if (waiting.requestedBy === requestedBy && waiting.state === 'open') {
    refuse('OWN_REQUEST', `${requestedBy} sent this request. Another admin must decide on it.`);
  }
  return waiting;
}

/**
 * Refuses an admin who has made the requester an admin, or was made one by them, within seven days; and two whom the same
 * admin has made admins: one person would decide alone. A key that they were given counts the same.
 */
async function requireIndependent(
  { client, requestedBy, now }: RequestContext<unknown>,
  { requestedBy: requester }: OpenApproval,
): Promise<void> {
  const found = await findDependence(client, requester, requestedBy, now);
  if (found === undefined) return;
  const { through, until } = found;
  const added = (who: string) =>
    `${through} has made ${who} an admin, or has asked for a key of theirs, or approved it`;
  const why =
    through === requester
      ? added(requestedBy)
      : through === requestedBy
        ? added(requester)
        : `${through} has made both ${requester} and ${requestedBy} admins, or has asked for keys of theirs, or approved them`;
  refuse(
    'NOT_ANOTHER_ADMIN',
    `${requestedBy} does not count as another admin for a request of ${requester} until ${until.toISOString()}: ${why}. An admin who is independent of them must decide, or all must wait until then.`,
  );
}

/** Refuses what was asked with a key that has been revoked since: somebody else may have asked. */
export async function requireUnrevoked(
  { client, now }: RequestContext<unknown>,
  { key, requestedBy }: OpenApproval,
): Promise<void> {
  const state = key === null ? undefined : await readKeyState(client, key);
  if (key === null || !isRevoked(state)) return;
  refuse(
    'ADMIN_KEY_DEAD',
    `${whyDead(key, state, now)} The request was signed with it, so reject the request. ${requestedBy} can send it again with another key.`,
  );
}

/** Decides on a waiting request as its requester asked, by the rights of the actor. */
export async function decideAnew(
  context: RequestContext<unknown>,
  waiting: OpenApproval,
): Promise<Decision> {
  const { kind, body, requestedBy: approvedFor } = waiting;
  const anew = { ...context, portal: portalOf(waiting), id: identityOf(waiting), approvedFor };
  if (kind === 'person.delete') {
    return deletePerson({ ...anew, request: REQUEST_SCHEMAS[kind].parse(body) });
  }
  if (kind === 'person.erase') {
    return wantPersonErased({ ...anew, request: REQUEST_SCHEMAS[kind].parse(body) });
  }
  if (kind === 'person.suspend') {
    return suspendPerson({ ...anew, request: REQUEST_SCHEMAS[kind].parse(body) });
  }
  if (kind === 'admin-key.add') {
    return addAdminKey({ ...anew, request: REQUEST_SCHEMAS[kind].parse(body) });
  }
  if (kind === 'portal.add') {
    return addPortal({ ...anew, request: REQUEST_SCHEMAS[kind].parse(body) });
  }
  if (kind === 'portal.update') {
    return updatePortal({ ...anew, request: REQUEST_SCHEMAS[kind].parse(body) });
  }
  if (kind === 'portal.hand-over') {
    return handOver({ ...anew, request: REQUEST_SCHEMAS[kind].parse(body) });
  }
  throw new TypeError(`${kind} never waits`);
}

function identityOf({ portal, request, kind }: OpenApproval): NonNullable<Decision['decides']> {
  return { portal, jti: request, kind };
}
