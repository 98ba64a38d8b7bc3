/** person.create, person.update */
import { allocateId } from '../../identity/id-allocation-table.ts';
import { normalName, type ShellName } from '../../identity/names.ts';
import { CLOCK_SKEW_SECONDS, type RequestOf } from '../schema.ts';
import { readNameState } from '../../identity/names-table.ts';
import {
  insertPerson,
  isDisplayNameTaken,
  type Person,
  updatePerson,
  verifyMail,
} from '../../identity/people-table.ts';
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
  const verifiedAt = requireVerification(context);
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
  if (verifiedAt !== undefined) {
    await verifyMail(client, uid, request.email, verifiedAt);
    fields.push('mailVerifiedAt');
  }
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
  const verifiedAt = requireVerification(context);
  if (request.displayName !== undefined) {
    await requireFreeDisplayName(client, request.displayName, person.uid);
  }
  const changed = await updatePerson(client, person.uid, request);
  const verified = verifiedAt !== undefined && (await verifyOf(context, person, verifiedAt));
  const fields = verified ? [...new Set([...changed, 'mailVerifiedAt'])] : changed;
  // no server has the time of a verification
  const isShown = fields.some((field) => field !== 'mailVerifiedAt');
  return decided(person, 'person.updated', {
    fields,
    touches: isShown ? touchesOfChange(person.uid, 'account') : [],
    data: { account: person.account, fields },
  });
};

/** Returns when the address was verified, or undefined. Refuses a portal without the right, and a time to come. */
function requireVerification(
  context: RequestContext<{ mailVerifiedAt?: string | undefined }>,
): Date | undefined {
  const { request, actor, verifiesMail, portal, now } = context;
  if (request.mailVerifiedAt === undefined) return undefined;
  if (actor?.admin !== true && verifiesMail !== true) {
    refuse(
      'MAIL_NOT_VERIFIABLE',
      `The portal ${portal} may not say that a mail address is verified. Leave mailVerifiedAt out, have an admin ` +
        'sign the request with their own key, or have `verifiesMail` set for the portal: in the configuration, or by portal.update.',
    );
  }
  const at = new Date(request.mailVerifiedAt);
  if (at.getTime() > now.getTime() + CLOCK_SKEW_SECONDS * 1000) {
    refuse(
      'REQUEST_INVALID',
      'mailVerifiedAt is in the future. Give the time of the verification.',
    );
  }
  return at;
}

/** Records the verification. Returns whether that changed anything. Refuses it for an address that is not there. */
async function verifyOf(
  { client, request }: RequestContext<RequestOf<'person.update'>>,
  { uid, account }: Person,
  at: Date,
): Promise<boolean> {
  const address = request.email ?? request.verifiedEmail ?? '';
  const changed = await verifyMail(client, uid, address, at);
  if (changed === undefined) {
    refuse(
      'MAIL_CHANGED',
      `${account} has another mail address than the one that was verified. Have the present address verified.`,
    );
  }
  return changed;
}

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
