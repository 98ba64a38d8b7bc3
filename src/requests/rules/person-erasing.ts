/**
 * person.erase: erasure as the law requires it
 *
 *   suspended ──▶ waits ──request.approve, by a second admin──▶ approved ──calendar: 24 h later──▶ deleted, erased
 *                  ╰─────────────request.reject, person.reinstate──╯
 *
 * Both admins use their own keys. This is the only way to destroy something without an archive: the home, the
 * databases, and the archives that exist already. What our tables hold about the person is erased
 * (src/lifecycle/erasure.ts), and portals are asked to do the same. A server that is down does not delay the erasure:
 * its part is owed, and is erased when the server is back.
 *
 * A pending deletion, or a reinstatement on a date, waits until the erasure has begun or is rejected.
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
    refuse(
      'NOT_ALLOWED',
      'An admin must sign an erasure with their own key (`chamberlain submit`). No portal may send it.',
    );
  }
  const person = await requirePerson(context, request.person);
  const { uid, account, state } = person;
  if (state !== 'suspended') {
    refuse(
      'PERSON_NOT_SUSPENDED',
      `${account} is not suspended. Only a suspended person can be erased: suspend them first.`,
    );
  }
  if (await isErasing(client, uid)) {
    refuse('PERSON_LEAVING', `The erasure of ${account} is already approved.`);
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
