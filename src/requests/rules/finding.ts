/**
 * finding.ignore
 *
 *   counts ──finding.ignore──▶ ignored, as it was seen ──`until`, `end`, or another sentence──▶ counts
 *
 * An ignored finding stays in surveys, plans and `explain`, with who ignores it, why and until when. It does not count in
 * `status`, in `doctor` and among the findings of a sweep. It blocks the same steps as before, and a request that waits for
 * them still waits: nothing is done that was not done.
 *
 * What remains of revoked access always counts: so a subject must be active, and a person a realm member. The roles do not
 * even learn of what is ignored about anybody else (src/reconcile/wanted-queries.ts).
 */
import type { RequestOf } from '../schema.ts';
import { findPerson } from '../../identity/people-table.ts';
import { findTool } from '../../identity/tools-table.ts';
import { findSeen, heedFinding, ignoreSeen, lookAgain } from '../../drift/findings-table.ts';
import {
  type Decision,
  type Handler,
  refuse,
  refuseUnknownPerson,
  refuseUnknownTool,
  type RequestContext,
  requireFuture,
  requireOwnKeyOfAdmin,
} from '../context.ts';
import { requireRoleOfTarget } from './surveying.ts';

type Ignoring = RequestContext<RequestOf<'finding.ignore'>>;

export const ignoreFinding: Handler<RequestOf<'finding.ignore'>> = async (context) => {
  requireOwnKeyOfAdmin(context);
  const { client, request, requestedBy: by, now } = context;
  const { target, code, object, until, end, reason } = request;
  const role = requireRoleOfTarget(target);
  const subject = await requireSubject(context);
  const { uid, account } = subject;
  const named = { subject: uid, target, code, object };
  if (end) {
    if (!(await heedFinding(client, named))) {
      refuse('FINDING_UNKNOWN', `No finding ${code} of ${target} on ${account} is ignored.`);
    }
  } else {
    if (until !== undefined) requireFuture('until', until, now, { isOptional: true });
    if (!subject.hasAccess) {
      refuse(
        'FINDING_CLOSED',
        `${account} is not active, or has no access, so the finding may concern access that was revoked. It cannot be ignored.`,
      );
    }
    const [seen, another] = await findSeen(client, named);
    if (seen === undefined) {
      refuse(
        'FINDING_UNKNOWN',
        `No sweep and no survey that is kept has found ${code} of ${target} on ${account}. Request a survey first (survey.run).`,
      );
    }
    if (another !== undefined) {
      const objects = [seen, another].map((each) => each.object).join(' and ');
      refuse(
        'FINDING_UNKNOWN',
        `There are several such findings, on ${objects}. Name one in object.`,
      );
    }
    await ignoreSeen(client, { ...seen, by, reason, until });
  }
  await lookAgain(client, { subject: uid, role });
  return changed(subject);
};

interface Named {
  uid: number;
  account: string;
  /** nothing of it is revoked */
  hasAccess: boolean;
}

async function requireSubject({ client, config, request }: Ignoring): Promise<Named> {
  const { person: name, tool: toolName } = request;
  if (toolName !== undefined) {
    const tool = await findTool(client, toolName, 0);
    if (tool === undefined) refuseUnknownTool(config, toolName);
    return { uid: tool.uid, account: tool.account, hasAccess: tool.state === 'active' };
  }
  const person = await findPerson(client, name ?? '', config.admin);
  if (person === undefined) refuseUnknownPerson(name ?? '');
  const { uid, account, state, realmMember } = person;
  return { uid, account, hasAccess: state === 'active' && realmMember };
}

function changed({ uid, account }: Named): Decision {
  const fields = ['findings'];
  return { subject: uid, account, fields, touches: [], onDone: undefined };
}
