/** What keeps the whole realm from going on, for people: a freeze, a sweep that is held, a doubt. */
import { type Freeze, FROZEN_BY_ITSELF, readFreeze } from '../store/freeze.ts';
import { readDoubt } from '../store/marker.ts';
import type { Client } from '../store/postgres.ts';
import { readHeld, readLastJudged, type Sweep } from '../store/sweeps.ts';
import { describeFreeze } from './freeze.ts';
import { renderAge } from './table.ts';

export interface Standstill {
  frozen: Freeze | null;
  /** the sweep that waits for an admin's word */
  heldSweep: Sweep | null;
  /** why the directory, or our database, seems to be an older copy of itself */
  doubt: string | null;
  /** the end of the last sweep that saw how the world stands */
  lastSweep: Date | null;
}

/** After so many intervals without a sweep something is wrong with it. */
const LATE = 3;

export async function readStandstill(client: Client): Promise<Standstill> {
  return {
    frozen: (await readFreeze(client)) ?? null,
    heldSweep: (await readHeld(client)) ?? null,
    doubt: (await readDoubt(client)).doubt,
    lastSweep: (await readLastJudged(client)) ?? null,
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

/** When there was a sweep, and whether that is too long ago. */
export function describeLastSweep(at: Date | null, everyMinutes: number, now: Date): string {
  if (at === null) return 'last sweep: none yet';
  const isLate = now.getTime() - at.getTime() > LATE * everyMinutes * 60_000;
  const late = isLate ? '; is `chamberlain work sweep` running?' : '';
  return `last sweep: ${renderAge(at, now)} ago${late}`;
}
