/**
 * person.restore
 *
 *   archived, deleted ──▶ archived, returning ──calendar: home and databases are in place──▶ active
 *
 * An admin may request it as long as the archives are kept. The person gets back their uid, name, home and databases,
 * but not their keys and password: the person must add keys, and the homes role makes a new password.
 *
 * | the person was | display name and mail         | access to the realm, and maintained tools |
 * | -------------- | ----------------------------- | ----------------------------------------- |
 * | being archived | kept, or those of the request | kept                                      |
 * | deleted        | those of the request          | none: erased with the person              |
 */
import type { RequestOf } from '../schema.ts';
import { removeKeysOf } from '../../ssh-keys/keys-table.ts';
import { noteNewAdmins } from '../admin-keys-table.ts';
import { findPerson, revivePerson, updatePerson } from '../../identity/people-table.ts';
import {
  addersOf,
  decided,
  type Handler,
  refuse,
  refuseUnknownPerson,
  requireAdmin,
} from '../context.ts';
import { requireFreeDisplayName } from './person.ts';
import { wantReturn } from './returning.ts';
import { touchesOfEveryRole } from '../../roles/touches.ts';

export const restorePerson: Handler<RequestOf<'person.restore'>> = async (context) => {
  const { client, config, request } = context;
  requireAdmin(context);
  const person = await findPerson(client, request.person, config.admin);
  if (person === undefined) refuseUnknownPerson(request.person);
  const { uid, account, state } = person;
  if (state !== 'archived' && state !== 'deleted') {
    refuse(
      'PERSON_NOT_DELETED',
      state === 'suspended'
        ? `${account} is suspended, not deleted. To bring the account back, reinstate it (person.reinstate).`
        : `${account} is ${state}, not deleted. There is nothing to restore.`,
    );
  }
  await wantReturn(context, { uid, named: account }, ['PERSON_NOT_KEPT', 'PERSON_LEAVING']);
  const { displayName, email } = request;
  if (state === 'deleted' && (displayName === undefined || email === undefined)) {
    refuse(
      'REQUEST_INVALID',
      `The display name and mail address of ${account} were erased. Give both: displayName and email.`,
    );
  }
  if (displayName !== undefined) await requireFreeDisplayName(client, displayName, uid);
  const fields = await updatePerson(client, uid, request);
  await revivePerson(client, uid);
  await removeKeysOf(client, uid);
  // who was an admin when archived is one again, with the same keys, as soon as everything is in place
  await noteNewAdmins(client, config.admin, [uid], addersOf(context));
  return decided(person, 'person.returning', {
    fields: ['returning', 'keys', ...(state === 'deleted' ? ['state'] : []), ...fields],
    touches: touchesOfEveryRole(uid),
    data: { account },
  });
};
