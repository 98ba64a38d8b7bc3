/** All that is known about a word: the page of `chamberlain explain`, and its JSON; the API shows a part. Pure. */
import * as z from 'zod';
import { LEAVING } from '../lifecycle/leaving-page.ts';
import type { Role } from '../reconcile/wanted.ts';

const TIME = z.iso.datetime();

const KEY = z.object({
  fingerprint: z.string(),
  type: z.string(),
  label: z.string(),
  options: z.array(z.string()),
  addedAt: TIME,
  expiresAt: TIME.nullable(),
  removedAt: TIME.nullable(),
  /** whoever holds it: removed, expired, known bad */
  stops: z.array(z.string()).describe('why it gives no access'),
});

const WAY = z.object({
  path: z.array(z.string()).describe('accounts, in the order in which one becomes the next'),
  /** since when the last but one is a maintainer of the last */
  since: z.string(),
  stops: z.array(z.string()).describe('empty: the way is open'),
});

/** A request for access, and an admin's decision. */
const ACCESS = z.object({
  state: z.string(),
  openedAt: TIME,
  reason: z.string(),
  decidedAt: TIME.nullable(),
  decidedBy: z.string().nullable(),
  decisionReason: z.string().nullable(),
});

/** A row of the audit. */
const HISTORY = z.object({
  at: TIME,
  kind: z.string().nullable(),
  requestedBy: z.string().nullable(),
  approvedBy: z.string().nullable(),
  portal: z.string().nullable(),
  fields: z.array(z.string()),
  verdict: z.string(),
  code: z.string().nullable(),
});

const ENTRANT = z.object({
  person: z.string(),
  /** the keys that give access now */
  keys: z.array(KEY),
  open: z.boolean(),
  ways: z.array(WAY),
});

const BECOMING = WAY.extend({ account: z.string() });

/** What the tables alone say of a subject. */
export const KNOWN_PAGE = z.object({
  uid: z.int(),
  kind: z.enum(['person', 'tool']),
  account: z.string(),
  state: z.string(),
  since: TIME,
  stops: z.array(z.string()).describe('what stops all access through it'),
  /** its DNs in the directory: the account, and a tool's group; empty if it is deleted */
  dns: z.array(z.string()),
  /** of a tool */
  title: z.string().optional(),
  /** of a person; empty if their data was erased */
  displayName: z.string().optional(),
  email: z.string().optional(),
  /** null: the address is not verified */
  mailVerifiedAt: TIME.nullable().optional(),
  /** of a tool: who may request changes, and may become it */
  maintainers: z.array(z.string()).optional(),
  /** since when a realm member; null: none */
  realmMember: z.object({ since: TIME }).nullable().optional(),
  /** of a person who is not a realm member: when an admin last revoked the access */
  accessRevoked: z.object({ at: TIME, by: z.string() }).optional(),
  keys: z.array(KEY).optional(),
  databaseUser: z.string(),
  /** null if none are wanted, or it is deleted; an epoch that is not recorded has no password yet */
  credentials: z
    .object({
      wantedEpoch: z.int(),
      recordedEpoch: z.int().nullable(),
      recordedAt: TIME.nullable(),
      /** until then the previous password works as well; null: it does not */
      previousUntil: TIME.nullable(),
      /** nobody can log in until there is a password of the wanted epoch */
      lockedOut: z.boolean(),
    })
    .nullable(),
  /** how it leaves, and what is kept of it */
  leaving: LEAVING,
  access: z.array(ACCESS),
  acts: z.int().describe('rows of the audit about it; `history` has the first and the latest'),
  /** the oldest first */
  history: z.array(HISTORY),
  entrants: z.array(ENTRANT).optional().describe('of a tool: who can become it, or could'),
  /** which accounts it can become */
  becomes: z.array(BECOMING),
});

/** A key of a person. */
export type KeyFact = z.output<typeof KEY>;
export type AccessFact = z.output<typeof ACCESS>;
export type HistoryFact = z.output<typeof HISTORY>;
/** A person who can become a tool, or could. */
export type Entrant = z.output<typeof ENTRANT>;
export type WayPage = z.output<typeof WAY>;
export type Becoming = z.output<typeof BECOMING>;
export type KnownPage = z.output<typeof KNOWN_PAGE>;

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

export interface KeyPage extends KeyFact {
  holder: string;
  /** why nobody may use it: its private half is published */
  knownBad: string | null;
}

export interface SubjectPage extends KnownPage {
  targets: TargetPage[];
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
