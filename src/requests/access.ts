/** access.request, access.grant, access.refuse, access.revoke */
import type { RequestOf } from '../model/request.ts';
import { decideAccessRequest, openAccessRequest } from '../store/access-requests.ts';
import type { Raise } from '../store/convergence.ts';
import { admitPerson, removeRealmMember } from '../store/people.ts';
import type { Client } from '../store/postgres.ts';
import { countAdmins, readMaintained } from '../store/tools.ts';
import {
  type Decide,
  raises,
  refuse,
  requireAdmin,
  requirePerson,
  requireSelfOrAdmin,
} from './asking.ts';

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
  await admitPerson(client, person.uid);
  return {
    subject: person.uid,
    account: person.account,
    fields: ['access'],
    raises: [
      ...raises(person.uid, 'directory', 'homes', 'databases'),
      ...(await raisesOfMemberships(client, person.uid)),
    ],
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
  const { client, config, request } = asking;
  requireAdmin(asking);
  const person = await requirePerson(asking, request.person);
  if (!person.realmMember) {
    refuse('PERSON_NOT_REALM_MEMBER', `${person.account} has no access that could be revoked.`);
  }
  if (person.admin && (await countAdmins(client, config.admin)) === 1) {
    refuse('ADMIN_TOOL', `${person.account} is the last admin. Make another admin first.`);
  }
  await removeRealmMember(client, person.uid);
  return {
    subject: person.uid,
    account: person.account,
    fields: ['access'],
    raises: [
      ...raises(person.uid, 'directory', 'databases'),
      ...(await raisesOfMemberships(client, person.uid)),
    ],
    onDone: {
      event: 'access.revoked',
      portals: [],
      data: { account: person.account, reason: request.reason },
    },
  };
};

/** The groups in which the person is an effective member only while a realm member. */
async function raisesOfMemberships(client: Client, person: number): Promise<Raise[]> {
  return (await readMaintained(client, person)).flatMap((tool) => raises(tool, 'directory'));
}
