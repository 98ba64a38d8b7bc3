/**
 * How a person or a tool leaves, and how far this is, as people see it. Pure. src/requests/rules describes the moves
 * themselves.
 */
import type { Erasure } from './erased-person.ts';
import type { Role } from '../reconcile/wanted.ts';
import { describedRole } from '../roles/index.ts';

/** The archive of one role, and its progress. */
export interface ArchivePage {
  role: Role;
  /** null: not yet */
  made: { at: string; path: string; bytes: number; manifestSha256: string } | null;
  /** what the role is doing; null: nothing at the moment */
  progress: { act: string; done: number; total: number | null; at: string } | null;
}

/** One archiving of a subject. */
export interface ArchivalPage {
  archival: number;
  beganAt: string;
  /** both archives were verified by reading them back, so home and databases may be destroyed */
  leftAt: string | null;
  keepUntil: string | null;
  /** the archives were kept long enough */
  expiredAt: string | null;
  returningAt: string | null;
  backAt: string | null;
  /** the approved request by which everything was destroyed without an archive; null: the subject was archived */
  erasure: Pick<Erasure, 'request' | 'requestedBy' | 'approvedBy'> | null;
  archives: ArchivePage[];
}

/** A request about the subject that waits for an admin's approval. */
interface WaitingPage {
  request: string;
  kind: string;
  requestedBy: string;
  at: string;
  why: string;
}

/** A request that another admin approved. */
interface ApprovedPage {
  kind: string;
  requestedBy: string;
  by: string;
  at: string;
}

/** A hold that has not ended. */
interface HoldPage {
  by: string;
  at: string;
  reason: string;
  until: string;
}

export interface LeavingPage {
  /** null: there is no hold */
  hold: HoldPage | null;
  /** since when access is closed, by whom, and why; null: access is open, or this is no longer known */
  closed: { at: string; by: string | null; reason: string | null; until: string | null } | null;
  /** archived on or after this time */
  deleteAfter: string | null;
  /** an approved erasure: when it begins, and its request; null: there is none, or it has begun */
  erasing: { at: string; request: string } | null;
  /** for a tool: since when it has no maintainer who may log in, neither directly nor through other tools */
  orphanedAt: string | null;
  waiting: WaitingPage[];
  /** the approved request that closed its access or deletes it; null: no approval was needed */
  approved: ApprovedPage | null;
  /** the oldest first */
  archivals: ArchivalPage[];
  /** what happens next without a request; null: the subject is active */
  next: NextMove | null;
}

export interface NextMove {
  move: 'held' | 'archive' | 'reinstate' | 'delete' | 'erase' | 'open' | 'remove archives' | 'none';
  /** for people to read */
  sentence: string;
  /** null: it happens after what it waits for, or not without a request */
  at: string | null;
}

/** The facts on which the next move depends. */
export type LeavingFacts = Omit<LeavingPage, 'next'> & {
  kind: 'person' | 'tool';
  account: string;
  state: string;
};

/**
 * The next move that the calendar makes:
 *
 * | state               | and                        | next                                          |
 * | ------------------- | -------------------------- | --------------------------------------------- |
 * | active              |                            |                                               |
 * | suspended           | to be erased               | erased, on its day                            |
 * | suspended, disabled | to be deleted              | archived, on its day                          |
 * | suspended           | until a day                | reinstated, on that day                       |
 * | suspended, disabled | neither                    | none without a request                        |
 * | archived            | not being restored         | deleted, when all archives exist              |
 * | archived            | being restored             | open again, when the roles have restored all  |
 * | deleted             | archives kept until a day  | archives removed, on that day                 |
 * | deleted             | no archives are kept       | none                                          |
 * | any                 | held for longer, and the   | none until the hold ends                      |
 * |                     | move archives or deletes   |                                               |
 */
export function nextMove(facts: LeavingFacts): NextMove | null {
  const { hold } = facts;
  const next = nextUnheld(facts);
  if (hold === null || next === null) return next;
  if (!['archive', 'delete', 'erase', 'remove archives'].includes(next.move)) return next;
  if (next.at !== null && next.at > hold.until) return next;
  return { move: 'held', sentence: 'nothing until the hold ends', at: hold.until };
}

function nextUnheld(facts: LeavingFacts): NextMove | null {
  const { state, kind, account, closed, deleteAfter, erasing, archivals } = facts;
  const open = archivals.findLast(({ backAt }) => backAt === null);
  switch (state) {
    case 'active':
      return null;
    case 'archived':
      if (open !== undefined && open.returningAt !== null) {
        return {
          move: 'open',
          sentence: 'active again, when the home and the databases are restored',
          at: null,
        };
      }
      return { move: 'delete', sentence: whenArchived(open), at: null };
    case 'deleted':
      if (open === undefined || open.keepUntil === null || open.expiredAt !== null) {
        return { move: 'none', sentence: 'nothing; it is deleted', at: null };
      }
      return { move: 'remove archives', sentence: 'its archives are removed', at: open.keepUntil };
    default: {
      if (erasing !== null) {
        return { move: 'erase', sentence: 'erased for good, with all archives', at: erasing.at };
      }
      if (deleteAfter !== null) {
        const sentence = 'archived, then deleted';
        return { move: 'archive', sentence, at: deleteAfter };
      }
      const until = closed?.until ?? null;
      if (until !== null) return { move: 'reinstate', sentence: 'reinstated', at: until };
      const word = kind === 'person' ? 'reinstated' : 'enabled';
      return {
        move: 'none',
        sentence: `nothing without a request: ${account} stays ${state} until ${word}`,
        at: null,
      };
    }
  }
}

function whenArchived(open: ArchivalPage | undefined): string {
  const missing = (open?.archives ?? []).filter(({ made }) => made === null);
  return missing.length === 0
    ? 'deleted; all archives are made'
    : `deleted, when everything is archived and verified; missing: ${missing.map(nounOf).join(', ')}`;
}

function nounOf({ role }: ArchivePage): string {
  return describedRole(role).archives ?? role;
}
