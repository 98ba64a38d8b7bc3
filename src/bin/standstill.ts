/** What keeps the whole realm from going on, for people: a freeze, a sweep that is held, a doubt. */
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
  /** the last sweep that has ended, however it did */
  lastSweep: Pick<Sweep, 'endedAt' | 'state'> | null;
  /** whether a process is there that sweeps when it is time */
  sweepRuns: boolean;
}

export async function readStandstill(client: Client): Promise<Standstill> {
  return {
    frozen: (await readFreeze(client)) ?? null,
    heldSweep: (await readHeld(client)) ?? null,
    doubt: (await readDoubt(client)).doubt,
    lastSweep: (await readLastEnded(client)) ?? null,
    sweepRuns: await isLockHeld(client, SWEEP_LOCK),
  };
}

export function isStandstill({ frozen, heldSweep, doubt }: Standstill): boolean {
  return frozen !== null || heldSweep !== null || doubt !== null;
}

/** A line for each, with what to do. */
export function describeStandstill({ frozen, heldSweep, doubt }: Standstill): string[] {
  const isByItself = frozen?.frozenBy === FROZEN_BY_ITSELF;
  const end = isByItself ? '' : ' `chamberlain thaw` ends it.';
  return [
    ...(frozen === null ? [] : [`The realm is ${describeFreeze(frozen)}.${end}`]),
    // where it has frozen by itself, the doubt is the reason
    ...(doubt === null || isByItself ? [] : [`In doubt: ${doubt}.`]),
    ...(heldSweep === null ? [] : [`The sweep is held: ${heldSweep.sentence ?? ''}.`]),
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
