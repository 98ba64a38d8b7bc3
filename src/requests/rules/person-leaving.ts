/**
 * person.suspend, person.reinstate, person.delete
 *
 *            person.suspend              person.delete, approved by another admin:
 *   active ─────────────────▶ suspended ◀──────────────────────────────── active
 *     ▲                        │  │      delete_after = now + the grace time
 *     │    person.reinstate    │  │
 *     ╰────────────────────────╯  │ calendar: delete_after is reached and, if there is a grace time,
 *          calendar: at           ▼           portals were notified at least a day ago
 *          suspended_until     archived ────────────────────────────────▶ deleted
 *                                        calendar: both archives are recorded
 *                              and back, by person.restore: person-returning.ts
 *
 * A suspension revokes all access: keys, account, groups and the person's own database account. Each tool that the
 * person could reach gets a new password at once. The tools that they maintain and their access to the realm are
 * remembered, so that a reinstatement gives everything back. Until the person is archived, a reinstatement also ends
 * a deletion, and an erasure that has not begun (person-erasing.ts). An admin may reinstate a person. So may a
 * person who requested their own deletion, unless an admin suspended them before or after that.
 *
 * | a person who is   | person.suspend           | person.reinstate     | person.delete  |
 * | ----------------- | ------------------------ | -------------------- | -------------- |
 * | active            | suspended                | PERSON_NOT_SUSPENDED | waits          |
 * | suspended         | PERSON_ALREADY_SUSPENDED | active               | waits          |
 * | … until sooner    | suspended for longer     | active               | waits          |
 * | to be deleted     | PERSON_ALREADY_SUSPENDED | active               | PERSON_LEAVING |
 * | by own request    | suspended by the admin   | active               | PERSON_LEAVING |
 * | archived          | PERSON_LEAVING           | PERSON_LEAVING       | PERSON_LEAVING |
 * | deleted           | PERSON_DELETED           | PERSON_DELETED       | PERSON_DELETED |
 * | the last admin    | ADMIN_TOOL               |                      | ADMIN_TOOL     |
 *
 * A suspension of several people does not change those who are already suspended, and a reinstatement those who are
 * not. If one name is unknown, the whole request is refused.
 */
import type { RequestKind } from '../kinds.ts';
import type { RequestOf } from '../schema.ts';
import { DAY_MS, timeOf } from '../../shared/time.ts';
import { nameFew } from '../../shared/printable.ts';
import { writeOperatorActions } from '../../audit/operator-actions.ts';
import { noteNewAdmins } from '../admin-keys-table.ts';
import { countSuspensions, openApproval, rejectWaiting } from '../approvals-table.ts';
import { type RoleTouch, touchesOfChange } from '../../roles/touches.ts';
import { wantNewEpochsOfReached } from '../../credentials/credentials-table.ts';
import type { NewEvent } from '../../events/events-table.ts';
import {
  findPeople,
  lengthenSuspensions,
  type Person,
  touchesOfAccess,
  reinstatePeople,
  suspendPeople,
  wantPersonDeleted,
} from '../../identity/people-table.ts';
import { countAdmins } from '../../identity/tools-table.ts';
import {
  addersOf,
  type RequestContext,
  type Handler,
  type Decision,
  refuse,
  requireAdmin,
  requireNotGone,
  requireSelfOrAdmin,
  requireFuture,
} from '../context.ts';
import { eventsForPortals, eventsOfWaiting } from '../../events/done.ts';
import { requireNotHeld } from './hold.ts';

/** A sentence names at most so many people. */
const MOST_NAMED = 10;
const REINSTATED = 'The person was reinstated.';

export const suspendPerson: Handler<RequestOf<'person.suspend'>> = async (context) => {
  const { client, config, request, now, approvedFor } = context;
  requireAdmin(context);
  if (request.until !== undefined) {
    requireFuture('until', request.until, now, { isOptional: true });
  }
  const until = request.until === undefined ? null : new Date(request.until);
  const names = [...new Set(request.people ?? [request.person ?? ''])];
  const people = await requirePeople(context, names, 'suspended');
  const only = people.length === 1 ? people[0] : undefined;
  if (only !== undefined) requireSuspendable(only, until);
  const active = people.filter(({ state }) => state === 'active');
  await requireOtherAdmins(context, active);
  if (only?.state === 'active' && approvedFor === undefined) {
    const most = config.leaving.mostSuspensionsPerHour;
    if ((await countSuspensions(client)) >= most) {
      const many = `At least ${most} people were suspended one by one within the last hour`;
      const what = 'Another admin must approve this suspension with request.approve';
      return letWait(
        context,
        only,
        `${many}. ${what}. A request that suspends several people never waits.`,
      );
    }
  }
  const suspension = { by: approvedFor ?? context.requestedBy, reason: request.reason, until, now };
  const lengthened = await lengthenSuspensions(client, uidsOf(people), suspension);
  const suspended = new Set(await suspendPeople(client, uidsOf(active), suspension));
  const closed = await closeAccess(context, [...suspended]);
  const changed = people.filter(({ uid }) => suspended.has(uid) || lengthened.includes(uid));
  const data = until === null ? {} : { until: until.toISOString() };
  const about = (only === undefined ? changed : people).map(({ uid, account }) => ({
    subject: uid,
    account,
  }));
  return {
    ...closed,
    subject: only?.uid,
    account: only?.account,
    ...(changed.length === 0 ? {} : { each: about }),
    fields: [
      ...(suspended.size > 0 ? ['state'] : []),
      ...(until !== null || lengthened.length > 0 ? ['until'] : []),
    ],
    onDone: {
      event: 'person.suspended',
      data,
      each: about.map(({ subject, account }) => ({ subject, data: { account } })),
    },
  };
};

export const reinstatePerson: Handler<RequestOf<'person.reinstate'>> = async (context) => {
  const { client, config, request, actor, requestedBy: by, now } = context;
  const cancelsOwn = actor?.ownDeletion === true && actor.account === request.person;
  if (!cancelsOwn) requireAdmin(context);
  const names = [...new Set(request.people ?? [request.person ?? ''])];
  const people = await requirePeople(context, names, 'reinstated');
  const only = people.length === 1 ? people[0] : undefined;
  if (only !== undefined) requireReinstatable(only);
  const suspended = people.filter(({ state }) => state === 'suspended');
  const uids = uidsOf(suspended);
  const erasures = await rejectWaiting(client, uids, {
    ...{ by, now, erasing: true },
    reason: REINSTATED,
  });
  await reinstatePeople(client, uids);
  await noteNewAdmins(client, config.admin, uids, addersOf(context));
  const about = suspended.map(({ uid, account }) => ({ subject: uid, account }));
  return {
    subject: only?.uid,
    account: only?.account,
    ...(about.length === 0 ? {} : { each: about }),
    fields: [
      ...(suspended.length === 0 ? [] : ['state']),
      ...(suspended.every(({ deleteAfter }) => deleteAfter === null) ? [] : ['deletion']),
      ...(erasures.length === 0 ? [] : ['erasure']),
    ],
    events: erasures.flatMap((each) =>
      eventsOfWaiting(each, 'request.rejected', { by, reason: REINSTATED }),
    ),
    touches: await touchesOfAccess(client, uids),
    onDone: {
      event: 'person.reinstated',
      data: {},
      each: about.map(({ subject, account }) => ({ subject, data: { account } })),
    },
  };
};

export const deletePerson: Handler<RequestOf<'person.delete'>> = async (context) => {
  const { client, config, request, requestedBy, now, approvedFor } = context;
  const person = await requireSelfOrAdmin(context, request.person);
  const { uid, account } = person;
  if (person.deleteAfter !== null) {
    const date = timeOf(person.deleteAfter);
    refuse('PERSON_LEAVING', `${account} is already going to be deleted, on or after ${date}.`);
  }
  await requireNotHeld(context, person);
  await requireOtherAdmins(context, [person]);
  if (approvedFor === undefined) {
    return letWait(context, person, 'Another admin must approve the deletion of a person.');
  }
  const days = config.leaving.personGraceDays;
  const after = new Date(now.getTime() + days * DAY_MS);
  const suspended = await suspendPeople(client, [uid], {
    by: approvedFor,
    reason: request.reason === '' ? `to be deleted, as ${requestedBy} approved` : request.reason,
    until: null,
    now,
  });
  await wantPersonDeleted(client, uid, { by: approvedFor, after, days, now });
  const closed = await closeAccess(context, suspended);
  return {
    ...closed,
    subject: uid,
    account,
    fields: ['state', 'deletion'],
    events: [
      // at once: a server that is down delays the revoking of access, but not the date
      ...eventsForPortals(config, [context.portal], {
        event: 'person.deleting',
        subject: uid,
        request: context.id?.jti,
        data: { account, days, deleteAfter: after.toISOString() },
      }),
      ...closed.events,
    ],
    onDone: {
      event: 'person.suspended',
      data: { account },
      // no second event for a person who was suspended before
      ...(suspended.length === 0 ? { each: [] } : {}),
    },
  };
};

/** Finds the people with these names. Throws PERSON_UNKNOWN, which lists the unknown names. */
async function requirePeople(
  { client, config }: RequestContext<unknown>,
  names: readonly string[],
  what: 'suspended' | 'reinstated',
): Promise<Person[]> {
  const found = await findPeople(client, names, config.admin);
  const unknown = names.filter((name) => !found.has(name));
  if (unknown.length > 0) {
    const named = nameFew(unknown, MOST_NAMED);
    refuse(
      'PERSON_UNKNOWN',
      `There is no person named ${named}. Check the names. Nobody was ${what}.`,
    );
  }
  return [...found.values()].toSorted((a, b) => a.uid - b.uid);
}

function requireReinstatable(person: Person): void {
  requireNotGone(person);
  if (person.state === 'suspended') return;
  refuse('PERSON_NOT_SUSPENDED', `${person.account} is not suspended.`);
}

function requireSuspendable(person: Person, until: Date | null): void {
  requireNotGone(person);
  if (person.state !== 'suspended') return;
  const { account, suspendedUntil, ownDeletion } = person;
  if (ownDeletion) return;
  if (suspendedUntil !== null && (until === null || until > suspendedUntil)) return;
  const end = suspendedUntil === null ? 'without an end date' : `until ${timeOf(suspendedUntil)}`;
  refuse('PERSON_ALREADY_SUSPENDED', `${account} is already suspended, ${end}.`);
}

/** Refuses to take away the last admins of the realm. */
export async function requireOtherAdmins(
  { client, config }: RequestContext<unknown>,
  people: readonly Person[],
): Promise<void> {
  const admins = people.filter(({ admin }) => admin);
  if (admins.length === 0 || (await countAdmins(client, config.admin, uidsOf(admins))) > 0) return;
  const [first] = admins;
  refuse(
    'ADMIN_TOOL',
    admins.length === 1
      ? `${first?.account} is the last admin. Make another admin first.`
      : 'The request names all admins of the realm. Leave one of them out.',
  );
}

/**
 * Closes all access of these people: touches everything that depends on it, and gives new passwords at once to the
 * tools that they could reach. Must be called while they are still realm members.
 *
 * @param mayKnow whether they may know the current passwords
 */
export async function closeAccess(
  { client, config, portal, id, request, requestedBy, now }: RequestContext<{ kind: RequestKind }>,
  people: readonly number[],
  mayKnow = true,
): Promise<{ touches: RoleTouch[]; events: NewEvent[]; urgent: true }> {
  const [access, tools] = await Promise.all([
    touchesOfAccess(client, people),
    mayKnow ? wantNewEpochsOfReached(client, people, now) : [],
  ]);
  await writeOperatorActions(
    client,
    tools.map(({ uid, account }) => ({
      kind: 'credentials.rotate' as const,
      by: requestedBy,
      ...{ subject: uid, account },
      fields: ['credentials', `because of ${request.kind}`],
    })),
  );
  return {
    urgent: true,
    touches: [...access, ...tools.flatMap(({ uid }) => touchesOfChange(uid, 'credentials'))],
    events: tools.flatMap(({ uid, name, account, epoch, maintainers }) =>
      eventsForPortals(config, [portal], {
        event: 'credentials.revoked',
        subject: uid,
        request: id?.jti,
        data: { tool: name, account, epoch, maintainers, because: request.kind },
      }),
    ),
  };
}

/** Lets a request wait for an admin's approval. Throws WAITS_ALREADY if the same request waits already. */
export async function letWait(
  {
    client,
    request,
    id,
    portal,
    key,
  }: RequestContext<
    RequestOf<
      | 'person.suspend'
      | 'person.delete'
      | 'person.erase'
      | 'admin-key.add'
      | 'portal.add'
      | 'portal.update'
      | 'portal.hand-over'
    >
  >,
  { uid, account }: Person,
  why: string,
  { about, fields = [] }: { about?: string; fields?: readonly string[] } = {},
): Promise<Decision> {
  const { kind } = request;
  const jti = id?.jti ?? '';
  const isNew = await openApproval(client, {
    request: jti,
    portal: id?.portal ?? '',
    subject: uid,
    body: request,
    ...{ why, key, about },
  });
  if (!isNew)
    refuse(
      'WAITS_ALREADY',
      `A request ${kind} for ${about ?? account} is already waiting for another admin. See \`chamberlain requests\`.`,
    );
  const data = { kind, account, why };
  return {
    subject: uid,
    account,
    about,
    fields: [...fields, 'approval'],
    touches: [],
    events:
      portal === undefined
        ? []
        : [{ portal, event: 'request.waiting', subject: uid, request: jti, data }],
    onDone: undefined,
    waits: true,
  };
}

function uidsOf(people: readonly Person[]): number[] {
  return people.map(({ uid }) => uid);
}
