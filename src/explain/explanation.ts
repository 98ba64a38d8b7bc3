/** All that is known about a word on one page: what `chamberlain explain` shows, and its JSON. */
import type { Role } from '../reconcile/wanted.ts';
import type { LeavingPage } from '../lifecycle/leaving.ts';

export interface Explanation {
  word: string;
  /** when it was true, ISO 8601 */
  at: string;
  /** sentences about the word itself: what it is, whose it is; all there is where it names no subject */
  known: string[];
  /** where the word is a key that was ever taken */
  key: KeyPage | null;
  /** the person and the tool that it names; none: it is nobody of ours */
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
  /** why it opens nothing, whoever holds it: removed, expired */
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
  /** what stops everybody who would come in as it; nothing: it is open */
  stops: string[];
  /** where it is in the directory: its account, and a tool's group; none of one that is deleted */
  dns: string[];
  /** of a tool */
  title?: string;
  /** of a person; '' of one whose data was erased */
  displayName?: string;
  email?: string;
  /** of a tool: who is allowed to ask for changes, and comes in */
  maintainers?: string[];
  /** since when a realm member; null: none */
  realmMember?: { since: string } | null;
  keys?: KeyFact[];
  databaseUser: string;
  /** null where none are wanted; an epoch that is not recorded has no password yet */
  credentials: {
    wantedEpoch: number;
    recordedEpoch: number | null;
    recordedAt: string | null;
    /** until then the password before works as well; null: it does not */
    previousUntil: string | null;
    /** it lets nobody in until there is one of the wanted epoch */
    lockedOut: boolean;
  } | null;
  /** how it leaves, and what is kept of it */
  leaving: LeavingPage;
  access: AccessFact[];
  /** rows of the audit about it; `history` holds the first and the latest */
  acts: number;
  history: HistoryFact[];
  targets: TargetPage[];
  /** of a tool: who can get in as it */
  entrants?: Entrant[];
  /** which accounts it can become */
  becomes: Becoming[];
}

/** A request for access, and what an admin said. */
interface AccessFact {
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

/** One target: what is wanted, and how what is there stands to it. */
export interface TargetPage {
  role: Role;
  target: string;
  wanted: string;
  state: TargetState;
  trouble: Trouble[];
}

/** One step, finding, wait, or what could not be read. */
export interface Trouble {
  mark: '+' | '~' | '-' | '!' | '?' | '…' | '×';
  what: string;
  why: string;
  /** since when it is known; null: it was seen just now */
  since: string | null;
}

/** A person who comes to a tool. */
export interface Entrant {
  person: string;
  /** those that open something now */
  keys: KeyFact[];
  open: boolean;
  ways: WayPage[];
}

export interface WayPage {
  /** accounts, in the order in which one becomes the next */
  path: string[];
  /** since when the last but one is a maintainer of the last */
  since: string;
  /** nothing: it is open */
  stops: string[];
}

export interface Becoming extends WayPage {
  account: string;
}
