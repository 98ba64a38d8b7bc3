/** All that is known about a word: the page of `chamberlain explain`, and its JSON. */
import type { Role } from '../reconcile/wanted.ts';
import type { LeavingPage } from '../lifecycle/leaving.ts';

export interface Explanation {
  word: string;
  /** the time of this knowledge, ISO 8601 */
  at: string;
  /** sentences about the word itself: what it is, whose it is; everything that is known, if it names no subject */
  known: string[];
  /** set if the word is a key that was ever accepted */
  key: KeyPage | null;
  /** the person and the tool that it names; empty if it names neither */
  subjects: SubjectPage[];
}

/** A key of a person. */
export interface KeyFact {
  fingerprint: string;
  type: string;
  label: string;
  options: string[];
  addedAt: string;
  expiresAt: string | null;
  removedAt: string | null;
  /** why it gives no access, whoever holds it: removed, expired */
  stops: string[];
}

export interface KeyPage extends KeyFact {
  holder: string;
  /** why nobody may use it: its private half is published */
  knownBad: string | null;
}

export interface SubjectPage {
  uid: number;
  kind: 'person' | 'tool';
  account: string;
  state: string;
  since: string;
  /** what stops all access through it; empty if nothing does */
  stops: string[];
  /** its DNs in the directory: the account, and a tool's group; empty if it is deleted */
  dns: string[];
  /** of a tool */
  title?: string;
  /** of a person; empty if their data was erased */
  displayName?: string;
  email?: string;
  /** null: the address is not verified */
  mailVerifiedAt?: string | null;
  /** of a tool: who may request changes, and may become it */
  maintainers?: string[];
  /** since when a realm member; null: none */
  realmMember?: { since: string } | null;
  /** of a person who is not a realm member: when an admin last revoked the access */
  accessRevoked?: { at: string; by: string };
  keys?: KeyFact[];
  databaseUser: string;
  /** null if none are wanted; an epoch that is not recorded has no password yet */
  credentials: {
    wantedEpoch: number;
    recordedEpoch: number | null;
    recordedAt: string | null;
    /** until then the previous password works as well; null: it does not */
    previousUntil: string | null;
    /** nobody can log in until there is a password of the wanted epoch */
    lockedOut: boolean;
  } | null;
  /** how it leaves, and what is kept of it */
  leaving: LeavingPage;
  access: AccessFact[];
  /** rows of the audit about it; `history` holds the first and the latest */
  acts: number;
  history: HistoryFact[];
  targets: TargetPage[];
  /** of a tool: who can become it */
  entrants?: Entrant[];
  /** which accounts it can become */
  becomes: Becoming[];
}

/** A request for access, and an admin's decision. */
export interface AccessFact {
  state: string;
  openedAt: string;
  reason: string;
  decidedAt: string | null;
  decidedBy: string | null;
  decisionReason: string | null;
}

/** A row of the audit, oldest first. */
export interface HistoryFact {
  at: string;
  kind: string | null;
  requestedBy: string | null;
  approvedBy: string | null;
  portal: string | null;
  fields: string[];
  verdict: string;
  code: string | null;
}

export type TargetState =
  'as wanted' | 'differs' | 'finding' | 'waiting' | 'unreadable' | 'no answer';

/** One target: what is wanted, and how what exists compares with it. */
export interface TargetPage {
  role: Role;
  target: string;
  wanted: string;
  state: TargetState;
  trouble: Trouble[];
}

/** One step, finding or wait, or something that could not be read. */
export interface Trouble {
  mark: '+' | '~' | '-' | '!' | '?' | 'i' | '…' | '×';
  what: string;
  why: string;
  /** since when it is known; null if it was seen just now */
  since: string | null;
}

/** A person who can become a tool, or could. */
export interface Entrant {
  person: string;
  /** the keys that give access now */
  keys: KeyFact[];
  open: boolean;
  ways: WayPage[];
}

export interface WayPage {
  /** accounts, in the order in which one becomes the next */
  path: string[];
  /** since when the last but one is a maintainer of the last */
  since: string;
  /** empty if the way is open */
  stops: string[];
}

export interface Becoming extends WayPage {
  account: string;
}
