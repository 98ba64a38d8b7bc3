/** person.create, person.update */
import { allocateId } from '../../identity/id-allocation-table.ts';
import { normalName, type ShellName } from '../../identity/names.ts';
import type { RequestOf } from '../schema.ts';
import { readNameState } from '../../identity/names-table.ts';
import { insertPerson, isDisplayNameTaken, updatePerson } from '../../identity/people-table.ts';
import { addKeyTo } from './key.ts';
import {
  type RequestContext,
  type Handler,
  type Decision,
  decided,
  refuse,
  requireNewName,
  requireAdmin,
  requireSelfOrAdmin,
} from '../context.ts';
import { touchesOfChange } from '../../roles/touches.ts';

export async function createPerson(
  context: RequestContext<RequestOf<'person.create'>>,
): Promise<Decision & { subject: number }> {
  const { client, request, requestedBy } = context;
  if (requestedBy !== request.shellName) requireAdmin(context);
  const normal = normalName(request.shellName);
  const state = await readNameState(client, normal);
  requireNewName(context, 'person', request.shellName, state);
  const shellName = request.shellName as ShellName;
  await requireFreeDisplayName(context.client, request.displayName, 0);
  const uid = await allocateId(client, 'person');
  await insertPerson(client, {
    uid,
    shellName,
    displayName: request.displayName,
    email: request.email,
  });
  const fields = ['shellName', 'displayName', 'email'];
  if (request.key !== undefined) {
    await addKeyTo(context, { uid, account: shellName }, { key: request.key });
    fields.push('key');
  }
  return decided({ uid, account: shellName }, 'person.ready', {
    fields,
    touches: touchesOfChange(uid, 'account'),
    data: { account: shellName, uid },
  });
}

export const updatePersonFields: Handler<RequestOf<'person.update'>> = async (context) => {
  const { client, request } = context;
  const person = await requireSelfOrAdmin(context, request.person);
  if (request.displayName !== undefined) {
    await requireFreeDisplayName(client, request.displayName, person.uid);
  }
  const fields = await updatePerson(client, person.uid, request);
  return decided(person, 'person.updated', {
    fields,
    touches: fields.length === 0 ? [] : touchesOfChange(person.uid, 'account'),
    data: { account: person.account, fields },
  });
};

/** Refuses the display name of another person. */
export async function requireFreeDisplayName(
  client: Parameters<typeof isDisplayNameTaken>[0],
  displayName: string,
  exceptUid: number,
): Promise<void> {
  if (await isDisplayNameTaken(client, displayName, exceptUid)) {
    refuse('NAME_TAKEN', 'Another person has this display name. Choose another display name.');
  }
}
