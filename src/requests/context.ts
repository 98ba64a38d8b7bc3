/** What every kind's rules are given, what they answer, and the rights that they share. */
import type { Config } from '../shared/config.ts';
import { ChamberlainError, type Code } from '../shared/errors.ts';
import type { RequestKind } from './schema.ts';
import type { Role } from '../reconcile/wanted.ts';
import type { NamedSubject, NameState } from '../identity/names-table.ts';
import type { Touch } from '../reconcile/convergence-table.ts';
import type { NewEvent, OnDone } from '../events/events-table.ts';
import { findPerson, type Person } from '../identity/people-table.ts';
import type { Client } from '../database/connection.ts';
import { findTool, type Tool } from '../identity/tools-table.ts';

/** One request, in the transaction that decides it. */
export interface RequestContext<R> {
  client: Client;
  config: Config;
  request: R;
  /** the portal that sent it; undefined for an admin's own key */
  portal: string | undefined;
  /** as whose, and by which `jti`, it is known; undefined only for `bootstrap` */
  id: { portal: string; jti: string } | undefined;
  /** shell name of the person who asks */
  requestedBy: string;
  /** undefined only for someone who asks to be created */
  actor: Person | undefined;
  /** the actor is an admin, but the portal does not speak for admins: `actor.admin` is false */
  isUnheardAdmin?: boolean;
  now: Date;
  /** it waited, and an admin other than the one who asks, who is the actor now, lets it be done */
  approvedFor?: string;
}

/** What an accepted request has done. */
export interface Decision {
  /** undefined: it is about many, or a server */
  subject: number | undefined;
  account: string | undefined;
  /** those whom it is about, where that is many: each has its row in the audit */
  each?: { subject: number; account: string }[];
  /** the last of its writes, where it does not wait for that itself */
  writing?: Promise<void>;
  /** which fields changed, for the audit */
  fields: string[];
  touches: Touch[];
  /** takes access away, whatever its kind does in general */
  urgent?: true;
  /** told with the verdict */
  events?: NewEvent[];
  /** told when everything touched is applied (at once where nothing was); undefined: nothing is */
  onDone: OnDone | undefined;
  /** it is done only when an admin decides so */
  waits?: true;
  /** the request that waited and is decided by this one: `onDone` is told as of that one */
  decides?: { portal: string; jti: string; kind: RequestKind };
}

/** Decides one kind: writes the wanted state and answers, or throws a refusal. */
export type Handler<R> = (context: RequestContext<R>) => Promise<Decision>;

/** A refusal: a stable code, and a sentence that says what is wrong and what to do. */
export function refuse(code: Code, sentence: string): never {
  throw new ChamberlainError(code, sentence);
}

/**
 * Refuses a name that cannot be had: taken (also in another case), reserved, or another's in the
 * directory. What its grammar is, the caller knows.
 */
export function requireFreeName(name: string, state: NameState, reserved: boolean): void {
  if (state === 'taken') {
    refuse('NAME_TAKEN', `The name ${name} is taken, or was once. Choose another name.`);
  }
  if (reserved) refuse('NAME_RESERVED', `The name ${name} is reserved. Choose another name.`);
  if (state === 'unmanaged') {
    refuse(
      'NAME_FOREIGN',
      `The name ${name} belongs to something else in the directory. Choose another name.`,
    );
  }
}

/** The generations of a subject whose home role makes credentials: the databases wait for these. */
export function touchesWithCredentials(subject: number, ...others: Role[]): Touch[] {
  return [...touches(subject, ...others, 'homes'), { subject, role: 'databases', waits: true }];
}

/** The generations of one subject. */
export function touches(subject: number, ...roles: Role[]): Touch[] {
  return roles.map((role) => ({ subject, role }));
}

/** The generations of accounts that a tool's group has come to hold, or holds no more: what they say of it. */
export function touchesOfMembers(accounts: readonly number[]): Touch[] {
  return accounts.map((subject) => ({ subject, role: 'directory', target: 'unix-account' }));
}

/** Refuses whatever is asked of, or by, one who is deleted, or is being put away. */
export function requireNotGone({ account, state }: { account: string; state: string }): void {
  if (state === 'archived') {
    refuse('PERSON_LEAVING', `${account} is being put away, or brought back. Wait for its end.`);
  }
  if (state === 'deleted') {
    refuse('PERSON_DELETED', `${account} was deleted. The name is not given again.`);
  }
}

/** The person that a request is about, who is neither deleted nor being put away. */
export async function requirePerson(
  { client, config }: Pick<RequestContext<unknown>, 'client' | 'config'>,
  shellName: string,
): Promise<Person> {
  const person = await findPerson(client, shellName, config.admin);
  if (person === undefined) refuseUnknownPerson(shellName);
  requireNotGone(person);
  return person;
}

/** There is no such person; or the name was written with capitals. */
export function refuseUnknownPerson(shellName: string): never {
  const lower = shellName.toLowerCase();
  const todo =
    lower === shellName
      ? 'Check the name, or create the person first.'
      : `Shell names have no capitals: name ${lower}.`;
  refuse('PERSON_UNKNOWN', `There is no person ${shellName}. ${todo}`);
}

/** Refuses anyone but an admin. */
export function requireAdmin(context: RequestContext<unknown>): void {
  if (context.actor?.admin === true) return;
  refuseUnheardAdmin(context);
  refuse('NOT_ALLOWED', `${context.requestedBy} is not an admin. Ask an admin.`);
}

/** Refuses anyone but the person or an admin. */
export function requireSelfOrAdmin(context: RequestContext<unknown>, person: Person): void {
  if (context.actor?.uid === person.uid || context.actor?.admin === true) return;
  refuseUnheardAdmin(context);
  refuse(
    'NOT_ALLOWED',
    `Only ${person.account} or an admin may ask for this, not ${context.requestedBy}.`,
  );
}

/** Refuses an admin who asks through a portal that does not speak for admins, and says what to do. */
function refuseUnheardAdmin(
  { isUnheardAdmin, portal, requestedBy }: RequestContext<unknown>,
  code: Code = 'NOT_ALLOWED',
): void {
  if (isUnheardAdmin !== true) return;
  refuse(
    code,
    `The portal ${portal} does not speak for admins. Sign the request with ${requestedBy}'s own key ` +
      '(`chamberlain submit`, with `adminKey`), or have an operator set `speaksForAdmins` for the portal.',
  );
}

/**
 * The tool that a request is about, which is neither deleted nor being put away, where the actor is a
 * direct maintainer or an admin.
 */
export async function requireMaintainedTool(
  context: RequestContext<unknown>,
  name: string,
): Promise<Tool> {
  const tool = await requireMaintainedToolEvenArchived(context, name);
  if (tool.state === 'archived') {
    refuse(
      'TOOL_LEAVING',
      `The tool ${name} is being put away, or brought back. Wait for its end.`,
    );
  }
  return tool;
}

/** There is no such tool; or it was named as an account. */
export function refuseUnknownTool({ realm }: Pick<Config, 'realm'>, name: string): never {
  const bare = name.startsWith(`${realm}.`) ? name.slice(realm.length + 1) : '';
  refuse(
    'TOOL_UNKNOWN',
    bare === ''
      ? `There is no tool ${name}. Check the name.`
      : `There is no tool ${name}. A tool is named without the prefix of the realm: name it ${bare}.`,
  );
}

/** As `requireMaintainedTool`, of one that may be in the middle of being put away, or brought back. */
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
      `The tool ${name} was deleted. An admin can bring it back while its archive is kept.`,
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
      `${requestedBy} has no access to the realm. Ask for access first.`,
    );
  }
  return tool;
}

/** Those who may become maintainers: people who are active realm members, and tools. */
export function requireMaintainers(
  accounts: readonly string[],
  found: ReadonlyMap<string, NamedSubject>,
): NamedSubject[] {
  return accounts.map((account) => {
    const subject = found.get(account);
    if (subject === undefined) {
      refuse(
        'PERSON_UNKNOWN',
        `There is no person or tool ${account}. A tool is named with its prefix, such as tools.${account}.`,
      );
    }
    if (subject.kind === 'tool') {
      if (subject.state === 'deleted') refuse('TOOL_DELETED', `The tool ${account} was deleted.`);
      if (subject.state === 'archived') {
        refuse('TOOL_LEAVING', `The tool ${account} is being put away, or brought back.`);
      }
    }
    if (subject.kind === 'person') {
      requireNotGone(subject);
      if (subject.state !== 'active') refuse('PERSON_SUSPENDED', `${account} is suspended.`);
      if (!subject.realmMember) {
        refuse(
          'PERSON_NOT_REALM_MEMBER',
          `${account} has no access to the realm. Access must be granted first.`,
        );
      }
    }
    return subject;
  });
}
