/**
 * request.approve, request.reject
 *
 *   waits ──request.approve──▶ approved    what was asked is decided anew, and done
 *     ╰─────request.reject───▶ rejected ◀──request.reject── approved, a person.erase that has not begun
 *
 * Who asked for it may withdraw it: they reject it as they sent it, through the same portal or by the same key.
 * All else is by the own key of an admin who did not ask for it, and who answers for it: what is asked is decided
 * anew with the rights that this admin has now. Where that is refused it waits on, until it is rejected.
 * The body is erased either way. What is approved is told as of the request that waited, which is done
 * when all that the approval touched is applied; what is rejected is done at once. What still waits when
 * its person is deleted is rejected by the calendar. An erasure that was approved is done when all is erased, and may
 * be rejected by any admin until it begins.
 *
 * An id is unique for each portal alone:
 *
 * | by that id wait              | without `sentBy` | with it                       |
 * | ---------------------------- | ---------------- | ----------------------------- |
 * | none                         | NOT_WAITING      | NOT_WAITING                   |
 * | one                          | that             | that portal's, or NOT_WAITING |
 * | of several portals, one each | WAITS_TWICE      | that portal's, or NOT_WAITING |
 */
import { type RequestOf, REQUEST_SCHEMAS } from '../schema.ts';
import { closeApproval, findOpenApprovals, type OpenApproval } from '../approvals-table.ts';
import {
  type RequestContext,
  type Handler,
  type Decision,
  refuse,
  requireAdmin,
} from '../context.ts';
import { portalOf, tellOfWaiting } from '../../events/done.ts';
import { wantPersonErased } from './person-erasing.ts';
import { deletePerson, suspendPerson } from './person-leaving.ts';

export const approve: Handler<RequestOf<'request.approve'>> = async (context) => {
  const { client, requestedBy: by, now } = context;
  const waiting = await requireWaiting(context);
  const decision = await decideAnew(context, waiting);
  await closeApproval(client, waiting, { state: 'approved', by, now });
  return {
    ...decision,
    events: [...tellOfWaiting(waiting, 'request.approved', { by }), ...(decision.events ?? [])],
    decides: identityOf(waiting),
  };
};

export const reject: Handler<RequestOf<'request.reject'>> = async (context) => {
  const { client, request, requestedBy: by, now } = context;
  const waiting = (await findOwn(context)) ?? (await requireWaiting(context, true));
  await closeApproval(client, waiting, { state: 'rejected', by, now });
  return {
    subject: waiting.subject,
    account: waiting.account,
    fields: ['approval'],
    touches: [],
    events: tellOfWaiting(waiting, 'request.rejected', { by, reason: request.reason }),
    onDone: undefined,
    decides: identityOf(waiting),
  };
};

/** What waits, where the actor sent it: it is theirs to withdraw. */
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

/** What waits, where the actor may decide on it. */
async function requireWaiting(
  context: RequestContext<{ request: string; sentBy?: string | undefined }>,
  toReject = false,
): Promise<OpenApproval> {
  const { client, request, requestedBy, portal } = context;
  if (portal !== undefined) {
    refuse('NOT_ALLOWED', "Only an admin's own key decides on what waits, and no portal.");
  }
  requireAdmin(context);
  const [waiting, another] = await findOpenApprovals(client, request.request, {
    portal: request.sentBy,
    toReject,
  });
  if (waiting === undefined) {
    refuse('NOT_WAITING', `No request ${request.request} waits. See \`chamberlain requests\`.`);
  }
  if (another !== undefined) {
    const portals = `${waiting.portal} and ${another.portal}`;
    refuse('WAITS_TWICE', `Of ${portals} a request waits by that id. Name the portal by sentBy.`);
  }
  if (waiting.requestedBy === requestedBy && waiting.state === 'open') {
    refuse('OWN_REQUEST', `${requestedBy} asked for it. Another admin decides on it.`);
  }
  return waiting;
}

async function decideAnew(
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
  throw new TypeError(`${kind} never waits`);
}

function identityOf({ portal, request, kind }: OpenApproval): NonNullable<Decision['decides']> {
  return { portal, jti: request, kind };
}
