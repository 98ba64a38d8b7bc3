/**
 * person.erase: erasure by law
 *
 *   suspended ──▶ waits ──request.approve, by a second admin──▶ approved ──calendar: 24 h later──▶ deleted, erased
 *                  ╰─────────────request.reject, person.reinstate──╯
 *
 * Both admins speak by their own keys. This is the one way in which something is destroyed without an archive: the home
 * and the databases where they are, and the archives of before. What our tables hold of the person is erased
 * (src/lifecycle/erasure.ts), and portals are told to do the same. A server that is away is no reason to wait: what it holds
 * is owed, and erased when it is back.
 *
 * A deletion that waits for its day, and a reinstatement on a day, wait until the erasure has begun or is stopped.
 *
 * | a person who is    | person.erase         |
 * | ------------------ | -------------------- |
 * | suspended          | waits                |
 * | to be erased       | PERSON_LEAVING       |
 * | active             | PERSON_NOT_SUSPENDED |
 * | held               | SUBJECT_HELD         |
 * | archived           | PERSON_LEAVING       |
 * | deleted            | PERSON_DELETED       |
 */
import type { RequestOf } from '../schema.ts';
import { isErasing } from '../approvals-table.ts';
import { type Handler, refuse, requireAdmin, requirePerson } from '../context.ts';
import { requireNotHeld } from './hold.ts';
import { letWait } from './person-leaving.ts';

export const wantPersonErased: Handler<RequestOf<'person.erase'>> = async (context) => {
  const { client, request, approvedFor, portal } = context;
  requireAdmin(context);
  if (approvedFor === undefined && portal !== undefined) {
    refuse('NOT_ALLOWED', "Only an admin's own key asks for an erasure, and no portal.");
  }
  const person = await requirePerson(context, request.person);
  const { uid, account, state } = person;
  if (state !== 'suspended') {
    refuse(
      'PERSON_NOT_SUSPENDED',
      `${account} is not suspended. Only who is suspended can be erased: suspend them first.`,
    );
  }
  if (await isErasing(client, uid)) {
    refuse('PERSON_LEAVING', `The erasure of ${account} is approved already.`);
  }
  await requireNotHeld(context, person);
  if (approvedFor === undefined) {
    return letWait(context, person, 'Another admin must approve the erasure of a person.');
  }
  return {
    subject: uid,
    account,
    fields: ['erasure'],
    touches: [],
    onDone: undefined,
    waits: true,
  };
};
