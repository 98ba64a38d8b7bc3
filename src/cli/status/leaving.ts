/** Who is leaving, in `status`: how many, who moves next and when, and the progress. */
import { endOfHold, isWithoutEnd, timeOf } from '../../shared/time.ts';
import { count as counted } from '../../shared/printable.ts';
import type { Role } from '../../reconcile/wanted.ts';
import { describeProgress, describeWait } from '../../lifecycle/render-leaving.ts';
import type { Leaver, LeavingOverview } from '../../lifecycle/leaving-facts.ts';
import type { RoleStatus } from '../../database/overview.ts';
import { renderColumns } from '../table.ts';

/** How many are shown to people; the totals count all of them. */
const MOST_ROWS = 30;

/** Empty if nobody is leaving. */
export function renderLeaving(
  { totals, movers, count, owed, orphaned, held }: LeavingOverview,
  now: Date,
): string {
  const counts = totals.map(({ kind, state, subjects, dated, toDelete }) => {
    const who = kind === 'person' ? counted(subjects, kind, 'people') : counted(subjects, kind);
    const parts = [
      ...(dated === toDelete ? [] : [`${dated - toDelete} until a date`]),
      ...(toDelete === 0 ? [] : [`${toDelete} to be deleted`]),
    ];
    const which = parts.length === 0 || state === 'deleted' ? '' : ` (${parts.join(', ')})`;
    return `${who} ${state}${which}`;
  });
  const orphans =
    orphaned === 0
      ? []
      : [`${counted(orphaned, 'tool')} orphaned: see \`chamberlain status --orphaned\``];
  const table = renderColumns(movers.slice(0, MOST_ROWS), [
    ['leaving', ({ account }) => account],
    ['state', ({ state }) => state],
    ['when', ({ leaving: { next } }) => next?.at && whenOf(next.at, now)],
    ['next', nextOf],
    ['how far', (leaver) => howFar(leaver, owed)],
  ]);
  const holds = renderColumns(held.slice(0, MOST_ROWS), [
    ['held', ({ account }) => account],
    ['state', ({ state }) => state],
    ['until', ({ until }) => endOfHold(until)],
    ['by', ({ by }) => by],
    ['why', ({ reason }) => reason],
  ]);
  return [
    ...(held.length === 0 ? [] : [holds]),
    ...(held.length > MOST_ROWS ? [`… and ${held.length - MOST_ROWS} more`] : []),
    ...(held.length > 0 && movers.length > 0 ? [''] : []),
    ...(movers.length === 0 ? [] : [table]),
    ...(count > MOST_ROWS ? [`… and ${count - MOST_ROWS} more`] : []),
    ...(counts.length === 0 ? [] : [counts.join(', ')]),
    ...orphans,
  ].join('\n');
}

/** `2026-12-24, in 30 days`; a nearer date has the time of day. */
function whenOf(at: string, now: Date): string {
  if (isWithoutEnd(at)) return 'when the hold is lifted';
  const wait = describeWait(at, now);
  return `${wait.endsWith(' days') ? timeOf(at).slice(0, 10) : timeOf(at)}, ${wait}`;
}

/** The next move, in one word. */
function nextOf({ leaving: { next } }: Leaver): string | null {
  return next === null || next.move === 'none' ? null : next.move;
}

/** What each role is doing, or the code that stops it; the full sentence is in the table of what is behind. */
function howFar({ uid, leaving: { archivals } }: Leaver, owed: readonly RoleStatus[]): string {
  const open = archivals.findLast(({ backAt }) => backAt === null);
  const parts = new Map<Role, string>();
  for (const { role, made, progress } of open?.archives ?? []) {
    if (progress !== null) parts.set(role, describeProgress(progress));
    else if (made === null && open?.returningAt === null) parts.set(role, 'not archived yet');
    else if (open?.leftAt === null && open.returningAt === null) parts.set(role, 'archived');
  }
  for (const { subject, role, state, code } of owed) {
    if (subject !== uid) continue;
    const known = parts.get(role);
    const text = code === null ? state : `${state}: ${code}`;
    parts.set(role, known === undefined || code !== null ? text : known);
  }
  return [...parts].map(([role, text]) => `${role} ${text}`).join('; ');
}
