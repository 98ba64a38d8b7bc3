/** access.request, access.grant, access.refuse, access.revoke */
import type { RequestOf } from '../schema.ts';
import { decideAccessRequest, openAccessRequest } from '../access-requests-table.ts';
import { admitPeople, raisesOfDoors, removeRealmMembers } from '../../identity/people-table.ts';
import {
  type Decide,
  raises,
  refuse,
  requireAdmin,
  requirePerson,
  requireSelfOrAdmin,
} from '../asking.ts';
import { shutOut, requireOtherAdmins } from './person-leaving.ts';

export const requestAccess: Decide<RequestOf<'access.request'>> = async (asking) => {
  const { client, request, requestedBy, portal } = asking;
  const person = await requirePerson(asking, request.person ?? requestedBy);
  requireSelfOrAdmin(asking, person);
  if (person.realmMember) {
    refuse('PERSON_ALREADY_REALM_MEMBER', `${person.account} has access already.`);
  }
  if (!(await openAccessRequest(client, person.uid, request.reason, portal))) {
    refuse('ACCESS_ALREADY_REQUESTED', `${person.account} has asked already. Wait for an admin.`);
  }
  return {
    subject: person.uid,
    account: person.account,
    fields: ['access'],
    raises: [],
    onDone: { event: 'access.requested', portals: [], data: { account: person.account } },
  };
};

export const grantAccess: Decide<RequestOf<'access.grant'>> = async (asking) => {
  const { client, request, requestedBy } = asking;
  requireAdmin(asking);
  const person = await requirePerson(asking, request.person);
  if (person.state !== 'active') {
    refuse('PERSON_SUSPENDED', `${person.account} is suspended. Reinstate the person first.`);
  }
  if (person.realmMember) {
    refuse('PERSON_ALREADY_REALM_MEMBER', `${person.account} has access already.`);
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
    raises: [...raises(person.uid, 'homes'), ...(await raisesOfDoors(client, [person.uid]))],
    onDone: {
      event: 'access.granted',
      portals: open?.portal === undefined ? [] : [open.portal],
      data: { account: person.account, reason: request.reason },
    },
  };
};

export const refuseAccess: Decide<RequestOf<'access.refuse'>> = async (asking) => {
  const { client, request, requestedBy } = asking;
  requireAdmin(asking);
  const person = await requirePerson(asking, request.person);
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
      `${person.account} has not asked for access. See \`chamberlain requests\`.`,
    );
  }
  return {
    subject: person.uid,
    account: person.account,
    fields: ['access'],
    raises: [],
    onDone: {
      event: 'access.refused',
      portals: open.portal === undefined ? [] : [open.portal],
      data: { account: person.account, reason: request.reason },
    },
  };
};

export const revokeAccess: Decide<RequestOf<'access.revoke'>> = async (asking) => {
  const { client, request } = asking;
  requireAdmin(asking);
  const person = await requirePerson(asking, request.person);
  if (!person.realmMember) {
    refuse('PERSON_NOT_REALM_MEMBER', `${person.account} has no access that could be revoked.`);
  }
  await requireOtherAdmins(asking, [person]);
  // of one who is suspended the tools have other passwords already
  const closed = await shutOut(asking, [person.uid], person.state === 'active');
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
