/** person.create, person.update */
import { allocateId } from '../../identity/ids-table.ts';
import { normalName, parseNewShellName } from '../../identity/names.ts';
import type { RequestOf } from '../schema.ts';
import { isReservedName } from '../../identity/reserved-names.ts';
import { readNameState } from '../../identity/names-table.ts';
import { insertPerson, isDisplayNameTaken, updatePerson } from '../../identity/people-table.ts';
import { addKeyTo } from './key.ts';
import {
  type Asking,
  type Decide,
  type Decision,
  raises,
  refuse,
  requireFreeName,
  requireAdmin,
  requirePerson,
  requireSelfOrAdmin,
} from '../asking.ts';

export async function createPerson(
  asking: Asking<RequestOf<'person.create'>>,
): Promise<Decision & { subject: number }> {
  const { client, config, request, requestedBy } = asking;
  if (requestedBy !== request.shellName) requireAdmin(asking);
  const normal = normalName(request.shellName);
  const state = await readNameState(client, normal);
  requireFreeName(request.shellName, state, isReservedName(normal, config.reservedNames));
  const shellName = parseNewShellName(request.shellName);
  if (shellName === undefined) {
    refuse(
      'NAME_INVALID',
      'A shell name starts with a letter and has 1 to 31 lower-case letters, digits and dashes.',
    );
  }
  await requireFreeDisplayName(asking.client, request.displayName, 0);
  const uid = await allocateId(client, 'person');
  await insertPerson(client, {
    uid,
    shellName,
    displayName: request.displayName,
    email: request.email,
  });
  const fields = ['shellName', 'displayName', 'email'];
  if (request.key !== undefined) {
    await addKeyTo(asking, { uid, account: shellName }, { key: request.key });
    fields.push('key');
  }
  return {
    subject: uid,
    account: shellName,
    fields,
    raises: raises(uid, 'directory'),
    onDone: { event: 'person.ready', portals: [], data: { account: shellName, uid } },
  };
}

export const updatePersonFields: Decide<RequestOf<'person.update'>> = async (asking) => {
  const { client, request } = asking;
  const person = await requirePerson(asking, request.person);
  requireSelfOrAdmin(asking, person);
  if (request.displayName !== undefined) {
    await requireFreeDisplayName(client, request.displayName, person.uid);
  }
  const fields = await updatePerson(client, person.uid, request);
  return {
    subject: person.uid,
    account: person.account,
    fields,
    raises: fields.length === 0 ? [] : raises(person.uid, 'directory'),
    onDone: { event: 'person.updated', portals: [], data: { account: person.account, fields } },
  };
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
