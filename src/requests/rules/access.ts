/** access.request, access.grant, access.refuse, access.revoke */
import type { RequestOf } from '../schema.ts';
import { decideAccessRequest, openAccessRequest } from '../access-requests-table.ts';
import { admitPeople, touchesOfAccess, removeRealmMembers } from '../../identity/people-table.ts';
import {
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
  const person = await requirePerson(context, request.person ?? requestedBy);
  requireSelfOrAdmin(context, person);
  if (person.realmMember) {
    refuse('PERSON_ALREADY_REALM_MEMBER', `${person.account} already has access.`);
  }
  if (!(await openAccessRequest(client, person.uid, request.reason, portal))) {
    refuse(
      'ACCESS_ALREADY_REQUESTED',
      `${person.account} has already requested access. Wait until an admin decides.`,
    );
  }
  return {
    subject: person.uid,
    account: person.account,
    fields: ['access'],
    touches: [],
    onDone: { event: 'access.requested', portals: [], data: { account: person.account } },
  };
};

export const grantAccess: Handler<RequestOf<'access.grant'>> = async (context) => {
  const { client, request, requestedBy } = context;
  requireAdmin(context);
  const person = await requirePerson(context, request.person);
  if (person.state !== 'active') {
    refuse('PERSON_SUSPENDED', `${person.account} is suspended. Reinstate the person first.`);
  }
  if (person.realmMember) {
    refuse('PERSON_ALREADY_REALM_MEMBER', `${person.account} already has access.`);
  }
  const open = await decideAccessRequest(
    client,
    person.uid,
    'granted',
    requestedBy,
    request.reason,
  );
  await admitPeople(client, [person.uid]);
  return {
    subject: person.uid,
    account: person.account,
    fields: ['access'],
    touches: [
      ...touchesOfChange(person.uid, 'credentials'),
      ...(await touchesOfAccess(client, [person.uid])),
    ],
    onDone: {
      event: 'access.granted',
      portals: open?.portal === undefined ? [] : [open.portal],
      data: { account: person.account, reason: request.reason },
    },
  };
};

export const refuseAccess: Handler<RequestOf<'access.refuse'>> = async (context) => {
  const { client, request, requestedBy } = context;
  requireAdmin(context);
  const person = await requirePerson(context, request.person);
  const open = await decideAccessRequest(
    client,
    person.uid,
    'refused',
    requestedBy,
    request.reason,
  );
  if (open === undefined) {
    refuse(
      'ACCESS_NOT_REQUESTED',
      `${person.account} has not requested access. See \`chamberlain requests\`.`,
    );
  }
  return {
    subject: person.uid,
    account: person.account,
    fields: ['access'],
    touches: [],
    onDone: {
      event: 'access.refused',
      portals: open.portal === undefined ? [] : [open.portal],
      data: { account: person.account, reason: request.reason },
    },
  };
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
  return {
    ...closed,
    subject: person.uid,
    account: person.account,
    fields: ['access'],
    onDone: {
      event: 'access.revoked',
      portals: [],
      data: { account: person.account, reason: request.reason },
    },
  };
};
