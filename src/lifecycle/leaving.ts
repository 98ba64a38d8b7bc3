/**
 * How a person or a tool leaves, and how far this is, as people see it. Pure. src/requests/rules describes the moves
 * themselves.
 */
import { describedRole } from '../roles/index.ts';
import type { ArchivalPage, ArchivePage, LeavingPage, NextMove } from './leaving-page.ts';

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
