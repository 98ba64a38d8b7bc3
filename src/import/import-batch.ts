/**
 * What an import takes from a running platform, as plain data. src/import judges it, and src/import/write-import.ts
 * writes it.
 */
import type { PosixId } from '../identity/posix-id.ts';
import type { AccountName, ShellName, ToolName } from '../identity/names.ts';

export interface TakenKey {
  fingerprint: string;
  /** type and base64 */
  line: string;
  options: string[];
  label: string;
  /** ISO 8601, UTC */
  expiresAt: string | undefined;
}

export interface TakenPerson {
  uid: PosixId;
  shellName: ShellName;
  displayName: string;
  /** '' if there is none */
  email: string;
  /** ISO 8601, UTC; null: it does not count as verified */
  mailVerifiedAt: string | null;
  state: 'active' | 'suspended';
  keys: TakenKey[];
}

export interface TakenTool {
  uid: PosixId;
  name: ToolName;
  account: AccountName;
  state: 'active' | 'disabled';
  /** undefined: no deletion is pending */
  deletion: TakenDeletion | undefined;
}

/** A pending deletion of the running platform, whose countdown begins again here. */
export interface TakenDeletion {
  /** the time, as written in the directory */
  was: string;
  requestedAt: Date;
  /** when the tool is archived */
  after: Date;
}

/** Credentials to be requested, with the verifier of the existing file if that is right. */
export interface TakenCredentials {
  account: number;
  verifier: string | undefined;
}

/** Everything that one import writes. */
export interface ImportBatch {
  people: TakenPerson[];
  tools: TakenTool[];
  maintainers: { tool: number; maintainer: number }[];
  /** uids of people */
  realmMembers: number[];
  /** uids of imported or known people who have a home, and so had access once */
  admitted: number[];
  credentials: TakenCredentials[];
  /** names (in normal form) and numbers that are in use there and are not ours */
  sightings: { name: string | undefined; id: number | undefined }[];
}

/** The contents of our database before the import. */
export interface KnownRealm {
  people: {
    uid: number;
    shellName: ShellName;
    displayNameKey: string;
    state: 'active' | 'suspended' | 'archived' | 'deleted';
    realmMember: boolean;
    everAdmitted: boolean;
    hasCredentials: boolean;
  }[];
  tools: {
    uid: number;
    name: ToolName;
    account: AccountName;
    state: 'active' | 'disabled' | 'archived' | 'deleted';
    hasCredentials: boolean;
  }[];
  /** `<uid of the tool> <uid of the maintainer>` */
  maintainers: Set<string>;
  /** every name that was ever assigned, in normal form, with its number */
  names: Map<string, number>;
  /** every number that was ever assigned */
  ids: Set<number>;
  /** fingerprints of keys that somebody has or had */
  fingerprints: Set<string>;
}
