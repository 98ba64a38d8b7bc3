/** access.request, access.grant, access.refuse, access.revoke */
import type { RequestOf } from '../schema.ts';
import { noteNewAdmins } from '../admin-keys-table.ts';
import { decideAccessRequest, openAccessRequest } from '../access-requests-table.ts';
import { admitPeople, touchesOfAccess, removeRealmMembers } from '../../identity/people-table.ts';
import {
  addersOf,
  decided,
  type Handler,
  refuse,
  requireAdmin,
  requirePerson,
  requireSelfOrAdmin,
} from '../context.ts';
import { touchesOfChange } from '../../roles/touches.ts';
import { closeAccess, requireOtherAdmins } from './person-leaving.ts';

export const requestAccess: Handler<RequestOf<'access.request'>> = async (context) => {
  const { client, request, requestedBy, portal } = context;
  const person = await requireSelfOrAdmin(context, request.person ?? requestedBy);
  if (person.realmMember) {
    refuse('PERSON_ALREADY_REALM_MEMBER', `${person.account} already has access.`);
  }
  if (!(await openAccessRequest(client, person.uid, request.reason, portal))) {
    refuse(
      'ACCESS_ALREADY_REQUESTED',
      `${person.account} has already requested access. Wait until an admin decides.`,
    );
  }
  return decided(person, 'access.requested', {
    fields: ['access'],
    touches: [],
    data: { account: person.account },
  });
};

export const grantAccess: Handler<RequestOf<'access.grant'>> = async (context) => {
  const { client, config, request, requestedBy: by } = context;
  requireAdmin(context);
  const person = await requirePerson(context, request.person);
  if (person.state !== 'active') {
    refuse('PERSON_SUSPENDED', `${person.account} is suspended. Reinstate the person first.`);
  }
  if (person.realmMember) {
    refuse('PERSON_ALREADY_REALM_MEMBER', `${person.account} already has access.`);
  }
  const { account, uid } = person;
  const { reason } = request;
  const open = await decideAccessRequest(client, uid, 'granted', by, reason);
  await admitPeople(client, [uid]);
  await noteNewAdmins(client, config.admin, [uid], addersOf(context));
  return decided(person, 'access.granted', {
    fields: ['access'],
    touches: [...touchesOfChange(uid, 'credentials'), ...(await touchesOfAccess(client, [uid]))],
    alsoTo: open?.portal,
    data: { account, reason },
  });
};

export const refuseAccess: Handler<RequestOf<'access.refuse'>> = async (context) => {
  const { client, request, requestedBy: by } = context;
  requireAdmin(context);
  const person = await requirePerson(context, request.person);
  const { account, uid } = person;
  const { reason } = request;
  const open = await decideAccessRequest(client, uid, 'refused', by, reason);
  if (open === undefined) {
    refuse(
      'ACCESS_NOT_REQUESTED',
      `${account} has not requested access. See \`chamberlain requests\`.`,
    );
  }
  return decided(person, 'access.refused', {
    fields: ['access'],
    touches: [],
    alsoTo: open.portal,
    data: { account, reason },
  });
};

export const revokeAccess: Handler<RequestOf<'access.revoke'>> = async (context) => {
  const { client, request } = context;
  requireAdmin(context);
  const person = await requirePerson(context, request.person);
  if (!person.realmMember) {
    refuse(
      'PERSON_NOT_REALM_MEMBER',
      `${person.account} does not have access, so it cannot be revoked.`,
    );
  }
  await requireOtherAdmins(context, [person]);
  // a suspended person's tools got new passwords at the suspension
  const closed = await closeAccess(context, [person.uid], person.state === 'active');
  await removeRealmMembers(client, [person.uid]);
  return decided(person, 'access.revoked', {
    ...closed,
    fields: ['access'],
    data: { account: person.account, reason: request.reason },
  });
};
