/** What blocks the work of the realm, as text: a freeze, a held sweep, a doubt, an unreachable server, … */
import type { Config } from '../../shared/config.ts';
import { readOldestWaiting, type Waiting } from '../../backends/redis/waiting-requests.ts';
import { describeError } from '../../shared/errors.ts';
import { timeOf } from '../../shared/time.ts';
import {
  describeOverdue,
  type OverdueMove,
  readOverdue,
} from '../../lifecycle/calendar-queries.ts';
import { type Freeze, isByItself, readFreeze } from '../../database/freeze.ts';
import {
  type Absent,
  describeAbsent,
  describeHanging,
  describeIntruder,
  describeWaiting,
  type Holder,
  isLate,
  type Leader,
  needed,
  readAbsent,
  readHolders,
  readLeaders,
  remedyFor,
  remedyForHanging,
} from '../../database/locks.ts';
import { readDoubt } from '../../seals/heartbeat-table.ts';
import { type PlaceDoubt, readPlaceDoubts } from '../../seals/place-markers-table.ts';
import type { Client } from '../../database/connection.ts';
import { sweepFault } from '../../drift/sweep-fault.ts';
import { readLastSweeps, type Sweep } from '../../drift/sweeps-table.ts';
import { readTroubles, type Trouble } from '../../database/troubles-table.ts';
import { describeFreeze } from '../commands/freeze.ts';
import { renderAge, renderTable } from '../table.ts';

export interface Blockers {
  frozen: Freeze | null;
  /** the sweep that an admin must release */
  heldSweep: Sweep | null;
  /** why the directory, or PostgreSQL, seems to be an older copy of itself */
  doubt: string | null;
  /** the MariaDB servers and areas of homes whose marker shows that they, or PostgreSQL, are older copies */
  places: PlaceDoubt[];
  /** moves of the calendar that are overdue; none while the realm is frozen, when none may be made */
  overdue: OverdueMove[];
  /** servers and folders that a role cannot read */
  troubles: Trouble[];
  /** the last sweep that has ended, in any state */
  lastSweep: Pick<Sweep, 'endedAt' | 'state'> | null;
  /** what is wrong with the last sweeps, and what to do */
  sweepFault: string | null;
  /** the processes that do the work of which only one process at a time may do each kind */
  leaders: Leader[];
  /** the work and the roles that no process does */
  absent: Absent;
  /** which process holds which of our locks */
  holders: Holder[];
  /** the oldest request without a verdict */
  waiting: Waiting | null;
  /** why that is not known */
  waitingUnknown: string | null;
}

export async function readBlockers(
  client: Client,
  config: Config,
  isRedisAway: boolean,
): Promise<Blockers> {
  const portals = config.portals.map(({ name }) => name);
  // the caller has already waited for a Redis that hangs
  const waiting = isRedisAway
    ? { waiting: null, waitingUnknown: null }
    : await readOldestWaiting(config, portals).then(
        (oldest) => ({ waiting: oldest ?? null, waitingUnknown: null }),
        (error: unknown) => ({ waiting: null, waitingUnknown: describeError(error) }),
      );
  const frozen = (await readFreeze(client)) ?? null;
  const leaders = await readLeaders(client);
  const sweeps = await readLastSweeps(client);
  const { ended } = sweeps;
  const fault = sweepFault(sweeps, config.sweep, new Date());
  return {
    frozen,
    overdue: frozen === null ? await readOverdue(client, new Date()) : [],
    heldSweep: sweeps.held ?? null,
    sweepFault: fault === undefined ? null : `${capitalised(fault.what)}. ${fault.todo}`,
    doubt: (await readDoubt(client)).doubt,
    places: (await readPlaceDoubts(client)).filter(
      ({ role, older }) => role !== 'directory' && older !== null,
    ),
    troubles: await readTroubles(client),
    lastSweep: ended === undefined ? null : { endedAt: ended.endedAt, state: ended.state },
    leaders,
    absent: await readAbsent(client, leaders),
    holders: await readHolders(client),
    ...waiting,
  };
}

/**
 * One line for each blocker, with what to do.
 *
 * @param seen.isRedisAway then no leader can make progress, and none is reported as hanging
 */
export function describeBlockers(
  blockers: Blockers,
  { isRedisAway, now }: { isRedisAway: boolean; now: Date },
): string[] {
  const { frozen, doubt, places, overdue, troubles } = blockers;
  const { leaders, absent, holders, waiting } = blockers;
  const hanging = isRedisAway
    ? []
    : needed(leaders).flatMap(({ leader }) => (leader.hangs ? [leader] : []));
  const isOwn = frozen !== null && isByItself(frozen);
  const end = isOwn
    ? ''
    : ' `chamberlain thaw` ends the freeze. After a restore from a backup, run `chamberlain recover` instead.';
  return [
    ...(frozen === null ? [] : [`The realm is ${describeFreeze(frozen)}.${end}`]),
    // if the realm was frozen by Chamberlain, the doubt is the reason of the freeze
    ...(doubt === null || isOwn ? [] : [`In doubt: ${doubt}.`]),
    ...places.flatMap(({ older, sentence }) =>
      older === 'database' ? [] : [`In doubt: ${sentence}.`],
    ),
    ...(blockers.sweepFault === null ? [] : [blockers.sweepFault]),
    ...(overdue.length === 0
      ? []
      : [
          `Overdue: ${describeOverdue(overdue)}. The log of \`chamberlain work intake\` shows why.`,
        ]),
    // while the realm is frozen, requests must wait
    ...(waiting === null || frozen !== null || !isLate(waiting, now)
      ? []
      : [`No verdicts: ${describeWaiting(waiting, leaders)}.`]),
    ...(hanging.length === 0
      ? []
      : [`Hangs: ${hanging.map(describeHanging).join('; ')}. ${remedyForHanging(hanging)}`]),
    ...(absent.long.length === 0 ? [] : [`${capitalised(describeAbsent(absent.long))}.`]),
    ...troubles.map(
      ({ since, sentence, stops }) =>
        `Since ${timeOf(since)} (${renderAge(since, now)}): ${sentence}. Meanwhile ${stops}.`,
    ),
    ...holders.flatMap((holder) =>
      holder.isOwn ? [] : [`In the way: ${describeIntruder(holder)}. ${remedyFor(holder)}`],
    ),
  ];
}

function capitalised(sentence: string): string {
  return sentence.charAt(0).toUpperCase() + sentence.slice(1);
}

/** Which process does each kind of work, from where and since when; and what no process does at the moment. */
export function describeWork(
  { leaders, absent, waitingUnknown }: Pick<Blockers, 'leaders' | 'absent' | 'waitingUnknown'>,
  { isRedisAway, now }: { isRedisAway: boolean; now: Date },
): string[] {
  const going = needed(leaders).filter(({ leader }) => isRedisAway || !leader.hangs);
  const table = renderTable(
    ['at work', 'for', 'last progress', 'PostgreSQL process', 'from'],
    going.map(({ name, leader: { pid, address, since, renewedAt } }) => {
      return [name, renderAge(since, now), `${renderAge(renewedAt, now)} ago`, pid, address];
    }),
  );
  return [
    ...(going.length === 0 ? [] : [table]),
    ...(absent.lately.length === 0 ? [] : [describeAbsent(absent.lately)]),
    ...(waitingUnknown === null
      ? []
      : [`it is not known how long requests have waited: ${waitingUnknown}`]),
  ];
}

/** When the last sweep ended, and how. */
export function describeLastSweep({ lastSweep }: Pick<Blockers, 'lastSweep'>, now: Date): string {
  const last =
    lastSweep === null || lastSweep.endedAt === null
      ? 'none yet'
      : `${lastSweep.state}, ${renderAge(lastSweep.endedAt, now)} ago`;
  return `last sweep: ${last}`;
}
