/**
 * survey.run, repair.run
 *
 *   asked ──the process that sweeps──▶ the roles look ──▶ done; a repair of the same plan: the roles act ──▶ done
 *
 * Intake reaches no server, so it only writes down what is to be surveyed. An admin must sign both with their own key: a
 * survey costs every server work, and a repair changes them. A repair never destroys data: that needs the command line.
 * The request is done when it has ended (src/drift/kept-surveys.ts).
 */
import type { RequestOf } from '../schema.ts';
import { describedRole, roleOfTarget, ROLES, targetNamed } from '../../roles/index.ts';
import { findSubjects } from '../../identity/names-table.ts';
import type { Role } from '../../reconcile/wanted.ts';
import { askForSurvey, countOpenSurveys } from '../../drift/kept-surveys-table.ts';
import {
  type Decision,
  type Handler,
  refuse,
  type RequestContext,
  requireOwnKeyOfAdmin,
} from '../context.ts';

/** Of one admin. They are carried out one after another, and those of other admins wait behind them. */
const MOST_OPEN = 10;

export const runSurvey: Handler<RequestOf<'survey.run'>> = (context) => ask(context, undefined);

export const runRepair: Handler<RequestOf<'repair.run'>> = (context) =>
  ask(context, context.request.digest);

async function ask(
  context: RequestContext<RequestOf<'survey.run'> | RequestOf<'repair.run'>>,
  expected: string | undefined,
): Promise<Decision> {
  requireOwnKeyOfAdmin(context);
  const { client, request, requestedBy: by, id } = context;
  if (id === undefined) throw new TypeError('a survey has the id of its request');
  const { target } = request;
  const role = requireRole(request);
  const subjects = await requireSubjects(context, target);
  const { kind } = request;
  if ((await countOpenSurveys(client, by)) >= MOST_OPEN) {
    refuse(
      'SURVEYS_WAIT',
      `${MOST_OPEN} surveys and repairs that ${by} has requested have not ended. Wait for one of them, and send this request with a new id.`,
    );
  }
  const isNew = await askForSurvey(client, {
    ...{ id: id.jti, portal: id.portal, kind, by, expected, role, target },
    subjects: subjects?.map(({ uid }) => uid),
  });
  if (!isNew) {
    refuse('REQUEST_REPLAYED', 'Another admin has used this id. Send the request with a new one.');
  }
  const one = subjects?.length === 1 ? subjects[0] : undefined;
  return {
    subject: one?.uid,
    account: one?.account,
    fields: [target ?? role ?? 'everything'],
    touches: [],
    onDone: undefined,
    waits: true,
  };
}

/** The role that is asked; undefined: each of them. */
function requireRole({ role, target }: { role?: string; target?: string }): Role | undefined {
  const known = ROLES.find((each) => each === role);
  if (role !== undefined && known === undefined) {
    refuse('REQUEST_INVALID', `There is no role ${role}. The roles are ${ROLES.join(', ')}.`);
  }
  if (target === undefined) return known;
  const owner = requireRoleOfTarget(target);
  if (known !== undefined && known !== owner) {
    refuse('REQUEST_INVALID', `${target} is a target of ${owner}, not of ${known}.`);
  }
  return owner;
}

/** The role that a target is of. Refuses a name that no target has. */
export function requireRoleOfTarget(target: string): Role {
  const role = roleOfTarget(target);
  if (role === undefined) {
    const names = ROLES.flatMap((each) => describedRole(each).targets.map(({ name }) => name));
    refuse('REQUEST_INVALID', `There is no target ${target}. The targets are ${names.join(', ')}.`);
  }
  return role;
}

async function requireSubjects(
  { client, request }: RequestContext<{ subjects?: string[] | undefined }>,
  target: string | undefined,
): Promise<{ uid: number; account: string }[] | undefined> {
  const { subjects: accounts } = request;
  if (accounts === undefined) return undefined;
  const found = await findSubjects(client, accounts);
  const subjects = [...new Set(accounts)].map((account) => {
    const subject = found.get(account);
    if (subject === undefined) {
      refuse(
        'PERSON_UNKNOWN',
        `There is no person or tool named ${account}. Check the name. Name a tool by its account, with the prefix of the realm.`,
      );
    }
    return subject;
  });
  const kinds = target === undefined ? undefined : targetNamed(target)?.of;
  if (kinds !== undefined && !subjects.some(({ kind }) => kinds.includes(kind))) {
    refuse('REQUEST_INVALID', `None of the subjects can ever have the target ${target}.`);
  }
  return subjects;
}
