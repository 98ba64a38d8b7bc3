/**
 * The description of a role, in one place: its folder. Everything that lists roles, in TypeScript and in PostgreSQL, is
 * made from these descriptors. Pure: a descriptor loads neither a server's client nor a table.
 */
import type { WantedColumns } from '../reconcile/wanted.ts';
import type { AnyTarget } from '../reconcile/engine.ts';
import type { AnyParts } from '../reconcile/role.ts';
import type { RoleChecks } from '../doctor/role-checks.ts';
import type { Config } from '../shared/config.ts';

/**
 * What a request, the calendar or a recovery may change of a subject:
 *
 * - `account`: there is such a subject; its display name, its mail, that it is to be deleted or has no maintainer
 * - `access`: whether anybody may log in to it
 * - `keys`: the SSH keys of a person
 * - `members`: the members of a tool's group
 * - `memberOf`: the groups that it is a member of
 * - `credentials`: which password is wanted
 * - `databaseAccess`: whether its database account may be used, where it has one
 * - `archives`: what is archived, restored, or no longer kept
 */
export type Change =
  | 'account'
  | 'access'
  | 'keys'
  | 'members'
  | 'memberOf'
  | 'credentials'
  | 'databaseAccess'
  | 'archives';

/** How a change touches a role. */
export interface Touch {
  /** another role of the same subject is touched too, and touches this one again when it is done */
  waits?: true;
  /** of this target alone something changes, and nothing that a seal says */
  target?: string;
}

/** What an action does, for code that does not know its verb. */
export interface Verb<Act> {
  /** the part of its target that it concerns, in words that many accounts may share */
  part: (action: Act) => string;
  /** because of the amount of data; a repair uses the role's slow queue for it */
  takesHours?: true;
  /** it takes access away and loses no data, although its effect is `destroy` */
  losesNothing?: true;
}

/** One for each verb of the actions of a role. */
export type VerbsOf<Act extends { verb: string }> = {
  [Name in Act['verb']]: Verb<Extract<Act, { verb: Name }>>;
};

export interface RoleDescriptor<Name extends string = string> {
  /** of lower-case letters: its queue, and part of its PostgreSQL logins `chamberlain_<name>` and `…_reader` */
  name: Name;
  /** in the order in which it acts on them */
  // A role's targets differ in what they look through; only the role's own files know it.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  targets: readonly AnyTarget<any>[];
  /** what its writer can do; the type of each is part of `Action` (src/reconcile/action.ts) */
  // each takes the actions of its own verb
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  verbs: Readonly<Record<string, Verb<any>>>;
  /** what its targets want to know of a subject beyond what every role knows: state and access to the realm */
  wanted?: WantedColumns;
  /** which changes of a subject it has to follow. A new subject, and one that is deleted, touches every role. */
  touchedBy: Partial<Record<Change, Touch>>;
  /**
   * The role archives what a leaving subject has before the subject is deleted, and records it: what people call that. A subject is
   * deleted when every such role has recorded its archive.
   */
  archives?: string;
  /** its statements count everybody now and then, so PostgreSQL may read whole tables for it */
  countsAll?: true;
  /** of the login by which it works, at a time; undefined: as every role has */
  connections?: number;
  /**
   * GRANTs beyond those that migrations/roles.sql gives each role: what its own columns and its own work read and write.
   */
  rights?: string;
  /** the places where it looks for what is not ours, and what people call each */
  places: (config: Config) => readonly (readonly [place: string, name: string])[];
  /** what people call the server at that place; undefined: it is a folder */
  server?: (config: Config, place: string) => string | undefined;
  /** what does not happen while that place cannot be read, such as `no account changes` */
  stops: (place: string) => string;
  /** its reader and its writer */
  loadParts: () => Promise<AnyParts>;
  /** what `chamberlain doctor` looks at for it */
  loadChecks?: () => Promise<RoleChecks>;
}
