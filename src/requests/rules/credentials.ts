/** credentials.rotate */
import type { RequestOf } from '../schema.ts';
import { wantNewEpoch, wantNewEpochsOfAll } from '../../credentials/credentials-table.ts';
import {
  type RequestContext,
  type Handler,
  type Decision,
  decided,
  refuse,
  requireAdmin,
  requireMaintainedTool,
  requireSelfOrAdmin,
} from '../context.ts';
import { touchesOfChange, touchesOfEach } from '../../roles/touches.ts';

export const rotateCredentials: Handler<RequestOf<'credentials.rotate'>> = async (context) => {
  const { client, config, request } = context;
  const overlapSeconds = request.atOnce ? 0 : config.credentials.overlapSeconds;
  if (request.server !== undefined) return rotateServer(context, request.server, overlapSeconds);
  const owner =
    request.tool === undefined
      ? await requireSelfOrAdmin(context, request.person ?? '')
      : await requireMaintainedTool(context, request.tool);
  const epoch = await wantNewEpoch(client, owner.uid, overlapSeconds);
  if (epoch === undefined) {
    const lacksAccess = 'realmMember' in owner && !owner.realmMember;
    refuse(
      'CREDENTIALS_NONE',
      `${owner.account} does not have credentials yet. ` +
        (lacksAccess
          ? 'An admin must grant access first.'
          : 'An operator must import the home first (`chamberlain import --from-directory --homes`).'),
    );
  }
  return decided(owner, 'credentials.rotated', {
    fields: ['credentials'],
    touches: touchesOfChange(owner.uid, 'credentials'),
    ...(request.atOnce ? { urgent: true } : {}),
    data: { account: owner.account, epoch, overlapSeconds },
  });
};

/** An account has one password for all servers, so the passwords of all accounts change. */
async function rotateServer(
  context: RequestContext<unknown>,
  server: string,
  overlapSeconds: number,
): Promise<Decision> {
  const { client, config } = context;
  requireAdmin(context);
  const known = config.databases.servers.map(({ name }) => name);
  if (!known.includes(server)) {
    refuse(
      'SERVER_UNKNOWN',
      `There is no database server named ${server}. The servers are: ${known.join(', ')}.`,
    );
  }
  const accounts = await wantNewEpochsOfAll(client, overlapSeconds);
  return {
    subject: undefined,
    account: undefined,
    fields: [`credentials on ${server}`],
    touches: touchesOfEach(accounts, 'credentials'),
    onDone: {
      event: 'credentials.rotated',
      data: { server, accounts: accounts.length, overlapSeconds },
    },
  };
}
