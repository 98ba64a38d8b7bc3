/** credentials.rotate */
import type { RequestOf } from '../schema.ts';
import { wantNewEpoch, wantNewEpochsOfAll } from '../../credentials/credentials-table.ts';
import {
  type Asking,
  type Decide,
  type Decision,
  raisesWithCredentials,
  refuse,
  requireAdmin,
  requireMaintainedTool,
  requirePerson,
  requireSelfOrAdmin,
} from '../asking.ts';

export const rotateCredentials: Decide<RequestOf<'credentials.rotate'>> = async (asking) => {
  const { client, config, request } = asking;
  const overlapSeconds = request.atOnce ? 0 : config.credentials.overlapSeconds;
  if (request.server !== undefined) return rotateServer(asking, request.server, overlapSeconds);
  let owner: { uid: number; account: string };
  if (request.tool !== undefined) {
    owner = await requireMaintainedTool(asking, request.tool);
  } else {
    const person = await requirePerson(asking, request.person ?? '');
    requireSelfOrAdmin(asking, person);
    owner = person;
  }
  const epoch = await wantNewEpoch(client, owner.uid, overlapSeconds);
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
    ...(request.atOnce ? { urgent: true } : {}),
    onDone: {
      event: 'credentials.rotated',
      portals: [],
      data: { account: owner.account, epoch, overlapSeconds },
    },
  };
};

/** Each account has one password for all servers, so all of them change. */
async function rotateServer(
  asking: Asking<unknown>,
  server: string,
  overlapSeconds: number,
): Promise<Decision> {
  const { client, config } = asking;
  requireAdmin(asking);
  const known = config.databases.servers.map(({ name }) => name);
  if (!known.includes(server)) {
    refuse(
      'SERVER_UNKNOWN',
      `There is no database server ${server}. There are ${known.join(', ')}.`,
    );
  }
  const accounts = await wantNewEpochsOfAll(client, overlapSeconds);
  return {
    subject: undefined,
    account: undefined,
    fields: [`credentials on ${server}`],
    raises: accounts.flatMap((account) => raisesWithCredentials(account)),
    onDone: {
      event: 'credentials.rotated',
      portals: [],
      data: { server, accounts: accounts.length, overlapSeconds },
    },
  };
}
