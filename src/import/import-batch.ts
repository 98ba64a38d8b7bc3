/**
 * What an import takes over from a running platform: plain data, judged by src/import, written by
 * src/import/write-import.ts.
 */
import type { PosixId } from '../identity/ids.ts';
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
  /** '' where there is none */
  email: string;
  state: 'active' | 'suspended';
  keys: TakenKey[];
}

export interface TakenTool {
  uid: PosixId;
  name: ToolName;
  account: AccountName;
  state: 'active' | 'disabled';
  /** undefined: it is not to be deleted */
  deletion: TakenDeletion | undefined;
}

/** A deletion that the running platform counts down to, and that begins anew here. */
export interface TakenDeletion {
  /** the time in the directory, as it is written there */
  was: string;
  requestedAt: Date;
  /** the tool is archived from then on */
  after: Date;
}

/** Credentials to be wanted; with the verifier of the file that stands, where it is right. */
export interface TakenCredentials {
  account: number;
  verifier: string | undefined;
}

/** All that one import writes. */
export interface ImportBatch {
  people: TakenPerson[];
  tools: TakenTool[];
  maintainers: { tool: number; maintainer: number }[];
  /** uids of people */
  realmMembers: number[];
  /** uids of people, taken now or known before, who have a home and so were admitted once */
  admitted: number[];
  credentials: TakenCredentials[];
  /** names (in normal form) and numbers that stand there and are not ours */
  sightings: { name: string | undefined; id: number | undefined }[];
}

/** What our database had before. */
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
  /** every name that was ever given, in normal form, with its number */
  names: Map<string, number>;
  /** every number that was ever given */
  ids: Set<number>;
  /** fingerprints of keys that somebody holds, or held */
  fingerprints: Set<string>;
}
