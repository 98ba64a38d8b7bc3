/** What keeps the realm from going on, for people: a freeze, a sweep that is held, a doubt, a calendar that fails. */
import { describeOverdue, type OverdueMove, readOverdue } from '../store/calendar.ts';
import { type Freeze, FROZEN_BY_ITSELF, readFreeze } from '../store/freeze.ts';
import { readDoubt } from '../store/marker.ts';
import { type Client, isLockHeld, SWEEP_LOCK } from '../store/postgres.ts';
import { readHeld, readLastEnded, type Sweep } from '../store/sweeps.ts';
import { describeFreeze } from './freeze.ts';
import { renderAge } from './table.ts';

export interface Standstill {
  frozen: Freeze | null;
  /** the sweep that waits for an admin's word */
  heldSweep: Sweep | null;
  /** why the directory, or our database, seems to be an older copy of itself */
  doubt: string | null;
  /** moves of the calendar that nobody makes; none while the realm is frozen, when nobody is to */
  overdue: OverdueMove[];
  /** the last sweep that has ended, however it did */
  lastSweep: Pick<Sweep, 'endedAt' | 'state'> | null;
  /** whether a process is there that sweeps when it is time */
  sweepRuns: boolean;
}

export async function readStandstill(client: Client): Promise<Standstill> {
  const frozen = (await readFreeze(client)) ?? null;
  return {
    frozen,
    overdue: frozen === null ? await readOverdue(client, new Date()) : [],
    heldSweep: (await readHeld(client)) ?? null,
    doubt: (await readDoubt(client)).doubt,
    lastSweep: (await readLastEnded(client)) ?? null,
    sweepRuns: await isLockHeld(client, SWEEP_LOCK),
  };
}

export function isStandstill({ frozen, heldSweep, doubt, overdue }: Standstill): boolean {
  return frozen !== null || heldSweep !== null || doubt !== null || overdue.length > 0;
}

/** A line for each, with what to do. */
export function describeStandstill({ frozen, heldSweep, doubt, overdue }: Standstill): string[] {
  const isByItself = frozen?.frozenBy === FROZEN_BY_ITSELF;
  const end = isByItself ? '' : ' `chamberlain thaw` ends it.';
  return [
    ...(frozen === null ? [] : [`The realm is ${describeFreeze(frozen)}.${end}`]),
    // where it has frozen by itself, the doubt is the reason
    ...(doubt === null || isByItself ? [] : [`In doubt: ${doubt}.`]),
    ...(heldSweep === null ? [] : [`The sweep is held: ${heldSweep.sentence ?? ''}.`]),
    ...(overdue.length === 0
      ? []
      : [`Overdue: ${describeOverdue(overdue)}. The log of \`chamberlain work intake\` says why.`]),
  ];
}

/** When there was a sweep and how it ended, and whether another will come. */
export function describeLastSweep(
  { lastSweep, sweepRuns }: Pick<Standstill, 'lastSweep' | 'sweepRuns'>,
  now: Date,
): string {
  const last =
    lastSweep === null || lastSweep.endedAt === null
      ? 'none yet'
      : `${lastSweep.state}, ${renderAge(lastSweep.endedAt, now)} ago`;
  return `last sweep: ${last}${sweepRuns ? '' : '; no other will come: start `chamberlain work sweep`'}`;
}
