/** credentials.rotate */
import type { RequestOf } from '../model/request.ts';
import { wantNewEpoch } from '../store/credentials.ts';
import {
  type Decide,
  raisesWithCredentials,
  refuse,
  requireMaintainedTool,
  requirePerson,
  requireSelfOrAdmin,
} from './asking.ts';

export const rotateCredentials: Decide<RequestOf<'credentials.rotate'>> = async (asking) => {
  const { client, request } = asking;
  let owner: { uid: number; account: string };
  if (request.tool !== undefined) {
    owner = await requireMaintainedTool(asking, request.tool);
  } else {
    const person = await requirePerson(asking, request.person ?? '');
    requireSelfOrAdmin(asking, person);
    owner = person;
  }
  const epoch = await wantNewEpoch(client, owner.uid);
  if (epoch === undefined) {
    refuse(
      'CREDENTIALS_NONE',
      `${owner.account} has no credentials yet. Access must be granted first.`,
    );
  }
  return {
    subject: owner.uid,
    account: owner.account,
    fields: ['credentials'],
    raises: raisesWithCredentials(owner.uid),
    onDone: { event: 'credentials.rotated', portals: [], data: { account: owner.account, epoch } },
  };
};
