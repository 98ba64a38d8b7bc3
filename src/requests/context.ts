/** What the rules of every kind receive and return, and the checks of rights that they share. */
import type { Config } from '../shared/config.ts';
import { ChamberlainError, type Code } from '../shared/errors.ts';
import type { RequestKind } from './kinds.ts';
import { faultOfNewName } from './new-names.ts';
import type { NamedSubject, NameState } from '../identity/names-table.ts';
import type { RoleTouch } from '../roles/touches.ts';
import type { NewEvent, OnDone } from '../events/events-table.ts';
import { findPerson, type Person } from '../identity/people-table.ts';
import type { Client } from '../database/connection.ts';
import type { PosixId } from '../identity/posix-id.ts';
import { findTool, type NewTool, type Tool } from '../identity/tools-table.ts';

/** One request, in the transaction that decides on it. */
export interface RequestContext<R> {
  client: Client;
  config: Config;
  request: R;
  /** the portal that sent it; undefined if an admin signed it with their own key */
  portal: string | undefined;
  /** the sender and the `jti` by which the request is known; undefined only for `bootstrap` */
  id: { portal: string; jti: string } | undefined;
  /** shell name of the requester */
  requestedBy: string;
  /** who approved it at the portal, as the portal says; undefined: nobody else than the requester */
  approvedBy?: string;
  /** the fingerprint of the admin's own key that signed it; undefined: a portal did */
  key?: string | undefined;
  /** the requester; undefined only for a person who requests their own creation */
  actor: Person | undefined;
  /** the actor is an admin, but the portal does not speak for admins, so `actor.admin` is false */
  isUnheardAdmin?: boolean;
  /** the portal may say that a mail address is verified, whoever the actor is */
  verifiesMail?: boolean;
  now: Date;
  /** the number that a new tool gets; undefined: it reserves one */
  nextToolId?: PosixId | undefined;
  /** the request waited, and another admin approved it. That admin is the actor now; this is the requester */
  approvedFor?: string;
}

/** The effect of an accepted request. */
export interface Decision {
  /** undefined if the request is about several subjects or a server */
  subject: number | undefined;
  account: string | undefined;
  /** what the request is about, if that is not the subject: the name of a portal */
  about?: string | undefined;
  /** the subjects, if there are several; each has its own row in the audit */
  each?: { subject: number; account: string }[];
  /** a tool with a reserved number, which is inserted with the verdict */
  newTool?: NewTool;
  /** the names of the changed fields, for the audit */
  fields: string[];
  touches: RoleTouch[];
  /** this request takes access away, even if its kind is not urgent in general */
  urgent?: true;
  /** sent with the verdict */
  events?: NewEvent[];
  /** sent when everything touched is applied, or at once if nothing was touched; undefined: no event is sent */
  onDone: OnDone | undefined;
  /** nothing is done yet: an admin must approve the request, or a survey must end */
  waits?: true;
  /** the waiting request that this one decides; `onDone` is sent in the name of that request */
  decides?: { portal: string; jti: string; kind: RequestKind };
}

/** The decision about one person or tool. Portals hear of it as `event` when everything touched is applied. */
export function decided(
  { uid, account }: { uid: number; account: string },
  event: string,
  outcome: Omit<Decision, 'subject' | 'account' | 'onDone'> & Pick<OnDone, 'data' | 'alsoTo'>,
): Decision & { subject: number; onDone: OnDone } {
  const { data, alsoTo, ...rest } = outcome;
  return { subject: uid, account, ...rest, onDone: { event, data, alsoTo } };
}

/** Decides on one kind: writes the wanted state and returns the decision, or throws a refusal. */
export type Handler<R> = (context: RequestContext<R>) => Promise<Decision>;

/** Throws a refusal: a stable code, and a sentence that says what is wrong and what to do. */
export function refuse(code: Code, sentence: string): never {
  throw new ChamberlainError(code, sentence);
}

/** Throws REQUEST_INVALID for a time that is not in the future. `isOptional`: the field may be left out. */
export function requireFuture(
  field: string,
  time: string,
  now: Date,
  { isOptional }: { isOptional: boolean },
): void {
  if (Date.parse(time) > now.getTime()) return;
  const orNot = isOptional ? ', or leave it out' : '';
  refuse('REQUEST_INVALID', `${field} is in the past. Give a time in the future${orNot}.`);
}

/** Refuses a name that nobody can get (`faultOfNewName`); `state` is that of the account that it would have. */
export function requireNewName(
  { config }: { config: Config },
  kind: 'person' | 'tool',
  name: string,
  state: NameState,
): void {
  const fault = faultOfNewName(kind, name, state, config);
  if (fault !== undefined) refuse(fault.code, fault.sentence);
}

/** Refuses requests about, or by, a person who is deleted or is being archived or restored. */
export function requireNotGone({ account, state }: { account: string; state: string }): void {
  if (state === 'archived') {
    refuse(
      'PERSON_LEAVING',
      `${account} is being archived or restored. Wait until that has finished, or ask an admin: it may be held.`,
    );
  }
  if (state === 'deleted') {
    refuse(
      'PERSON_DELETED',
      `${account} was deleted. An admin can restore the account (person.restore) while its archives are kept.`,
    );
  }
}

/** Finds the person that a request is about. Refuses a person who is deleted or archived. */
export async function requirePerson(
  { client, config }: Pick<RequestContext<unknown>, 'client' | 'config'>,
  shellName: string,
): Promise<Person> {
  const person = await findPerson(client, shellName, config.admin);
  if (person === undefined) refuseUnknownPerson(shellName);
  requireNotGone(person);
  return person;
}

/** Refuses a name that no person has. The sentence says so if the name only has capitals that it must not have. */
export function refuseUnknownPerson(shellName: string): never {
  const lower = shellName.toLowerCase();
  const todo =
    lower === shellName
      ? 'Check the name, or create the person first.'
      : `Shell names have no capital letters. Use ${lower}.`;
  refuse('PERSON_UNKNOWN', `There is no person named ${shellName}. ${todo}`);
}

/** Refuses anyone but an admin. */
export function requireAdmin(context: RequestContext<unknown>): void {
  if (context.actor?.admin === true) return;
  refuseUnheardAdmin(context);
  refuse('NOT_ALLOWED', `${context.requestedBy} is not an admin. Ask an admin.`);
}

/** Refuses anyone but an admin who has signed with their own key, also through a portal that speaks for admins. */
export function requireOwnKeyOfAdmin(context: RequestContext<unknown>): void {
  if (context.portal !== undefined) {
    refuse(
      'NOT_ALLOWED',
      'An admin must sign this decision with their own key (`chamberlain submit`). No portal may send it.',
    );
  }
  requireAdmin(context);
}

/** As `requirePerson`, but refuses anyone but the person or an admin. */
export async function requireSelfOrAdmin(
  context: RequestContext<unknown>,
  shellName: string,
): Promise<Person> {
  const person = await requirePerson(context, shellName);
  if (context.actor?.uid !== person.uid && context.actor?.admin !== true) {
    refuseUnheardAdmin(context);
    refuse(
      'NOT_ALLOWED',
      `Only ${person.account} or an admin may request this, not ${context.requestedBy}.`,
    );
  }
  return person;
}

/** Who answers for what a request changes, and when: the requester, and who approved it. */
export function addersOf({
  requestedBy,
  approvedBy = requestedBy,
  approvedFor = requestedBy,
  now,
}: RequestContext<unknown>): { by: string[]; now: Date } {
  return { by: [requestedBy, approvedBy, approvedFor], now };
}

/** Refuses an admin's request through a portal that does not speak for admins, and says what to do. */
function refuseUnheardAdmin(
  { isUnheardAdmin, portal, requestedBy }: RequestContext<unknown>,
  code: Code = 'NOT_ALLOWED',
): void {
  if (isUnheardAdmin !== true) return;
  refuse(
    code,
    `The portal ${portal} does not speak for admins. Sign the request with ${requestedBy}'s own key ` +
      '(`chamberlain submit`, with `adminKey`), or have `speaksForAdmins` set for the portal: in the configuration, ' +
      'or by portal.update.',
  );
}

/**
 * Finds the tool that a request is about. Refuses a tool that is deleted or archived, and an actor who is neither
 * a direct maintainer nor an admin.
 */
export async function requireMaintainedTool(
  context: RequestContext<unknown>,
  name: string,
): Promise<Tool> {
  const tool = await requireMaintainedToolEvenArchived(context, name);
  if (tool.state === 'archived') {
    refuse(
      'TOOL_LEAVING',
      `The tool ${name} is being archived or restored. If it is being archived, tool.enable keeps it. Otherwise wait until that has finished, or ask an admin: it may be held.`,
    );
  }
  return tool;
}

/** Refuses a name that no tool has. The sentence says so if the name is the tool's account. */
export function refuseUnknownTool({ realm }: Pick<Config, 'realm'>, name: string): never {
  const bare = name.startsWith(`${realm}.`) ? name.slice(realm.length + 1) : '';
  refuse(
    'TOOL_UNKNOWN',
    bare === ''
      ? `There is no tool named ${name}. Check the name.`
      : `There is no tool named ${name}. Name the tool without the prefix of the realm: ${bare}.`,
  );
}

/** As `requireMaintainedTool`, but also finds a tool that is being archived or restored. */
export async function requireMaintainedToolEvenArchived(
  context: RequestContext<unknown>,
  name: string,
): Promise<Tool> {
  const { client, config, actor, requestedBy } = context;
  const tool = await findTool(client, name, actor?.uid ?? 0);
  if (tool === undefined) refuseUnknownTool(config, name);
  if (tool.state === 'deleted') {
    refuse(
      'TOOL_DELETED',
      `The tool ${name} was deleted. An admin can restore it while its archives are kept.`,
    );
  }
  if (name === config.admin && actor?.admin !== true) {
    refuseUnheardAdmin(context, 'ADMIN_TOOL');
    refuse('ADMIN_TOOL', `Only an admin may change the tool ${name}.`);
  }
  if (actor?.admin === true) return tool;
  if (!tool.maintained) {
    refuseUnheardAdmin(context);
    refuse(
      'NOT_ALLOWED',
      `${requestedBy} is not a maintainer of ${name}. Ask one of its maintainers or an admin.`,
    );
  }
  if (!actor?.realmMember) {
    refuse(
      'PERSON_NOT_REALM_MEMBER',
      `${requestedBy} does not have access to the realm. Request access first.`,
    );
  }
  return tool;
}

/** Finds the future maintainers: active realm members and tools. Refuses all others. */
export function requireMaintainers(
  accounts: readonly string[],
  found: ReadonlyMap<string, NamedSubject>,
): NamedSubject[] {
  return accounts.map((account) => {
    const subject = found.get(account);
    if (subject === undefined) {
      refuse(
        'PERSON_UNKNOWN',
        `There is no person or tool named ${account}. Check the name. Name a tool by its account, with the prefix of the realm.`,
      );
    }
    if (subject.kind === 'tool') {
      if (subject.state === 'deleted')
        refuse('TOOL_DELETED', `The tool ${account} was deleted. Name another maintainer.`);
      if (subject.state === 'archived') {
        refuse(
          'TOOL_LEAVING',
          `The tool ${account} is being archived or restored. Wait until that has finished, or ask an admin: it may be held.`,
        );
      }
    }
    if (subject.kind === 'person') {
      requireNotGone(subject);
      if (subject.state !== 'active')
        refuse(
          'PERSON_SUSPENDED',
          `${account} is suspended. Name another maintainer, or have an admin reinstate them.`,
        );
      if (!subject.realmMember) {
        refuse(
          'PERSON_NOT_REALM_MEMBER',
          `${account} does not have access to the realm. An admin must grant access first.`,
        );
      }
    }
    return subject;
  });
}
