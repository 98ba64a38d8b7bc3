/**
 * How a person or a tool leaves, and how far that is, as people are told it. Pure. The moves themselves
 * are drawn in src/requests/.
 */
import type { Erasure } from './erased-person.ts';
import type { Role } from '../reconcile/wanted.ts';

/** What is put away by a role, and how far it is with that. */
export interface ArchivePage {
  role: Role;
  /** null: not yet */
  made: { at: string; path: string; bytes: number; manifestSha256: string } | null;
  /** what the role is at; null: nothing just now */
  progress: { act: string; done: number; total: number | null; at: string } | null;
}

/** One time of being put away. */
export interface ArchivalPage {
  archival: number;
  beganAt: string;
  /** both archives were read back, and the rest may be destroyed */
  leftAt: string | null;
  keepUntil: string | null;
  /** the archives were kept long enough */
  expiredAt: string | null;
  returningAt: string | null;
  backAt: string | null;
  /** the approved request by which all was destroyed, without an archive; null: it was put away */
  erasure: Pick<Erasure, 'request' | 'requestedBy' | 'approvedBy'> | null;
  archives: ArchivePage[];
}

/** A request about it that waits for an admin's word. */
interface WaitingPage {
  request: string;
  kind: string;
  requestedBy: string;
  at: string;
  why: string;
}

/** What another admin's word has let be done. */
interface ApprovedPage {
  kind: string;
  requestedBy: string;
  by: string;
  at: string;
}

/** An admin's hold, which has not ended. */
interface HoldPage {
  by: string;
  at: string;
  reason: string;
  until: string;
}

export interface LeavingPage {
  /** null: nobody holds it */
  hold: HoldPage | null;
  /** since when its doors are closed, by whom, and why; null: they are not, or nobody knows any more */
  closed: { at: string; by: string | null; reason: string | null; until: string | null } | null;
  /** put away from then on */
  deleteAfter: string | null;
  /** an erasure that is approved: when it begins, and by which request; null: none, or it has begun */
  erasing: { at: string; request: string } | null;
  /** of a tool: since when nobody who may log in maintains it, directly or through other tools */
  orphanedAt: string | null;
  waiting: WaitingPage[];
  /** what has closed it, or has it deleted; null: nothing that waited */
  approved: ApprovedPage | null;
  /** the first one first */
  archivals: ArchivalPage[];
  /** what happens to it next without being asked for; null: it is active */
  next: NextMove | null;
}

export interface NextMove {
  move:
    'held' | 'put away' | 'reinstate' | 'delete' | 'erase' | 'open' | 'remove archives' | 'none';
  /** for people */
  sentence: string;
  /** null: when what it waits for has happened, or never by itself */
  at: string | null;
}

/** What the next move depends on. */
export type LeavingFacts = Omit<LeavingPage, 'next'> & {
  kind: 'person' | 'tool';
  account: string;
  state: string;
};

/**
 * The next move, which the calendar makes:
 *
 * | state               | and                        | next                                          |
 * | ------------------- | -------------------------- | --------------------------------------------- |
 * | active              |                            |                                               |
 * | suspended           | to be erased               | erased, on its day                            |
 * | suspended, disabled | to be deleted              | put away, on its day                          |
 * | suspended           | until a day                | reinstated, on that day                       |
 * | suspended, disabled | neither                    | none by itself                                |
 * | archived            | not coming back            | deleted, when both archives are there         |
 * | archived            | coming back                | open again, when the roles have all in place  |
 * | deleted             | archives kept until a day  | they are removed, on that day                 |
 * | deleted             | kept long enough, or never | none                                          |
 * | any                 | held beyond that, where it | none until the hold ends                      |
 * |                     | puts away or deletes       |                                               |
 */
export function nextMove(facts: LeavingFacts): NextMove | null {
  const { hold } = facts;
  const next = nextUnheld(facts);
  if (hold === null || next === null) return next;
  if (!['put away', 'delete', 'erase', 'remove archives'].includes(next.move)) return next;
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
          sentence: 'open again, when its home and its databases are back in place',
          at: null,
        };
      }
      return { move: 'delete', sentence: whenArchived(open), at: null };
    case 'deleted':
      if (open === undefined || open.keepUntil === null || open.expiredAt !== null) {
        return { move: 'none', sentence: 'nothing: it is deleted', at: null };
      }
      return { move: 'remove archives', sentence: 'its archives are removed', at: open.keepUntil };
    default: {
      if (erasing !== null) {
        return { move: 'erase', sentence: 'erased for good, archives too', at: erasing.at };
      }
      if (deleteAfter !== null) {
        const sentence = 'put away into archives, then deleted';
        return { move: 'put away', sentence, at: deleteAfter };
      }
      const until = closed?.until ?? null;
      if (until !== null) return { move: 'reinstate', sentence: 'reinstated', at: until };
      const word = kind === 'person' ? 'reinstated' : 'enabled';
      return {
        move: 'none',
        sentence: `nothing by itself: ${account} stays ${state} until ${word}`,
        at: null,
      };
    }
  }
}

function whenArchived(open: ArchivalPage | undefined): string {
  const missing = (open?.archives ?? []).filter(({ made }) => made === null);
  return missing.length === 0
    ? 'deleted: both archives are there'
    : `deleted, when all is put away and read back; missing: ${missing.map(nounOf).join(', ')}`;
}

function nounOf({ role }: ArchivePage): string {
  return role === 'homes' ? 'home' : role;
}
