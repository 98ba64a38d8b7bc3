/** What keeps the realm from going on, for people: a freeze, a sweep that is held, a doubt, a calendar that fails. */
import { describeOverdue, type OverdueMove, readOverdue } from '../store/calendar.ts';
import { type Freeze, FROZEN_BY_ITSELF, readFreeze } from '../store/freeze.ts';
import {
  describeIntruder,
  type Holder,
  isAtWork,
  readHolders,
  remedyFor,
  WORKS,
} from '../store/locks.ts';
import { readDoubt } from '../store/marker.ts';
import type { Client } from '../store/postgres.ts';
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
  /** who holds which of our locks */
  holders: Holder[];
}

export async function readStandstill(client: Client): Promise<Standstill> {
  const frozen = (await readFreeze(client)) ?? null;
  return {
    frozen,
    overdue: frozen === null ? await readOverdue(client, new Date()) : [],
    heldSweep: (await readHeld(client)) ?? null,
    doubt: (await readDoubt(client)).doubt,
    lastSweep: (await readLastEnded(client)) ?? null,
    holders: await readHolders(client),
  };
}

/** A line for each, with what to do. */
export function describeStandstill(standstill: Standstill): string[] {
  const { frozen, heldSweep, doubt, overdue, holders } = standstill;
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
    ...holders.flatMap((holder) =>
      holder.isOwn ? [] : [`In the way: ${describeIntruder(holder)}. ${remedyFor(holder)}`],
    ),
  ];
}

/** Who is at the work that one process at a time does, and from where; what nobody is at. */
export function describeWork({ holders }: Pick<Standstill, 'holders'>, now: Date): string {
  const own = holders.filter(({ isOwn }) => isOwn);
  const at = own.flatMap(({ lock, pid, address, since }) => {
    if (!WORKS.some((work) => work === lock)) return [];
    const details = [
      ...(address === null ? [] : [address]),
      ...(since === null ? [] : [`for ${renderAge(since, now)}`]),
      `PostgreSQL process ${pid}`,
    ];
    return [`${lock} (${details.join(', ')})`];
  });
  const missing = WORKS.filter((work) => !isAtWork(holders, work));
  const start = `start \`chamberlain work ${missing.join(' ')}\``;
  return [
    ...(at.length === 0 ? [] : [`at work: ${at.join(', ')}`]),
    ...(missing.length === 0 ? [] : [`nobody works as ${missing.join(', ')}: ${start}`]),
  ].join('\n');
}

/** When there was a sweep, and how it ended. */
export function describeLastSweep({ lastSweep }: Pick<Standstill, 'lastSweep'>, now: Date): string {
  const last =
    lastSweep === null || lastSweep.endedAt === null
      ? 'none yet'
      : `${lastSweep.state}, ${renderAge(lastSweep.endedAt, now)} ago`;
  return `last sweep: ${last}`;
}
