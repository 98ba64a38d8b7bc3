/**
 * What PostgreSQL says should be, for one subject, as far as a role may read it. The targets'
 * `want` is a pure function of this and of the realm's settings.
 */
import type { Erasure } from '../lifecycle/erased-person.ts';
import type { AccountName, ShellName, ToolName } from '../identity/names.ts';
import type { REGISTRY } from '../roles/index.ts';
import type { Ignoring } from './plan.ts';

/** A worker's right, and its queue: one of src/roles. */
export type Role = (typeof REGISTRY)[number]['name'];

/**
 * The credentials of an account: the epoch that is wanted, and the verifier last recorded
 * (`*` and 40 hex digits, MariaDB's mysql_native_password) with the epoch it was made for.
 */
export interface WantedCredentials {
  wantedEpoch: number;
  /** the password before lets nobody in any more, also while there is no other yet */
  atOnce?: boolean;
  /** `previous`: the verifier before, while its password works as well */
  recorded: { epoch: number; verifier: string; previous?: string } | undefined;
}

/** The last archival of a subject, while it is not over. */
export interface WantedArchive {
  /** the number of its archivals, this one included: part of the archive's name */
  archival: number;
  /** SHA-256 of the manifest of the role's own archive, hex, once that was read back */
  manifest: string | undefined;
  /** what was archived is to be restored */
  returning: boolean;
  /** the archive has been kept for as long as is wanted, and is to be removed */
  expired: boolean;
  /** nothing was archived: everything is to be destroyed, earlier archives too */
  erasure?: Erasure;
}

/** An archive of what came back, which has been kept for as long as is wanted, and is to be removed. */
export interface PastArchive {
  archival: number;
  manifest: string;
}

/** What PostgreSQL has decided of the seal for login hosts (src/seals/seal.ts). */
export interface WantedSeal {
  number: number;
  /** UTC, whole seconds, `2026-12-06T00:00:00Z` */
  until: string;
}

/** A finding that an admin has ignored, as it was seen then. */
export interface IgnoredFinding extends Ignoring {
  target: string;
  object: string;
  code: string;
  sentence: string;
}

/** One key as it goes into the directory. */
export interface WantedKey {
  /** `options type base64`, canonical, no comment */
  line: string;
  fingerprint: string;
  /** what people call it; '' where they gave it no name */
  label: string;
}

export interface WantedPerson {
  kind: 'person';
  uid: number;
  /** The unix account; for a person the shell name. */
  account: AccountName;
  shellName: ShellName;
  /** archived: locked like a suspended person, and being archived or restored */
  state: 'active' | 'suspended' | 'archived' | 'deleted';
  realmMember: boolean;
  /** Was ever admitted: then a home and credentials are kept even when access is gone. */
  everAdmitted: boolean;
  /** undefined: none */
  ignored?: IgnoredFinding[];
  /** directory only */
  displayName?: string;
  email?: string;
  keys?: WantedKey[];
  /** directory only; undefined where there is none yet */
  seal?: WantedSeal;
  /** directory only: the accounts of the tools whose groups hold the person, as `members` has it from their side */
  memberOf?: AccountName[];
  /** homes and databases only; undefined where the person never had any */
  credentials?: WantedCredentials;
  /** homes and databases only; undefined if nothing is archived */
  archive?: WantedArchive;
  /** homes and databases only; undefined where there is none */
  pastArchives?: PastArchive[];
}

/** An account that a tool's group holds. */
export interface Member {
  kind: 'person' | 'tool';
  account: AccountName;
  uid: number;
}

export interface WantedTool {
  kind: 'tool';
  uid: number;
  /** `tools.<name>` */
  account: AccountName;
  name: ToolName;
  /** undefined: none */
  ignored?: IgnoredFinding[];
  /** archived: locked like a disabled tool, and being archived or restored */
  state: 'active' | 'disabled' | 'archived' | 'deleted';
  /** directory only: why it is disabled, for those who want to use it */
  disabledReason?: string;
  /** directory only: when its deletion was requested; undefined where none is wanted */
  deleteRequestedAt?: Date;
  /** directory only: nobody who may log in maintains it, directly or through other tools */
  orphaned?: boolean;
  /**
   * directory only. The effective members of the tool's group: its maintainers that are
   * unsuspended realm members, tools among its maintainers, and the tool's own account.
   */
  members?: Member[];
  /** directory only: the accounts of the tools whose groups hold this one, its own among them */
  memberOf?: AccountName[];
  /** directory only; undefined where there is none yet */
  seal?: WantedSeal;
  /** homes and databases only */
  credentials?: WantedCredentials;
  /** homes and databases only; undefined if nothing is archived */
  archive?: WantedArchive;
  /** homes and databases only; undefined where there is none */
  pastArchives?: PastArchive[];
}

export type Wanted = WantedPerson | WantedTool;

/** Settings of the realm that wants depend on; all from the configuration. */
export interface Realm {
  realm: string;
  realmGid: number;
  toolHomes: string;
  personHomes: string;
  toolHomeMode: number;
  maxUserConnections: number;
  databaseServers: { name: string; kind: 'replica' | 'toolsdb' }[];
}

/** What every role knows of a person or tool. */
export interface BaseRow {
  uid: number;
  kind: Wanted['kind'];
  account: string;
  state: Wanted['state'];
  /** false of a tool */
  isRealmMember: boolean;
}

/** What a role adds to the statements that read the wanted state, and what becomes of it. */
export interface WantedColumns {
  /** SQL: columns over `people p`, each after a comma */
  person: string;
  /** SQL: columns over `tools t` */
  tool: string;
  /** the properties that they become of the wanted state */
  // PostgreSQL gives what the columns of the same object ask for.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  toWanted: (row: any, base: BaseRow) => object;
  /** only this role may read them, or they are of it alone: verifiers, its archives. `explain` reads all others */
  own?: true;
}

export function isGiven<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}
