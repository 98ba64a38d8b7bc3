/** What blocks the work of the realm, as text: a freeze, a held sweep, a doubt, an unreachable server, … */
import { type Config, queuesOf } from '../../shared/config.ts';
import { readOldestWaiting, type Waiting } from '../../backends/redis/waiting-requests.ts';
import { decides } from '../../configuration/reloadable.ts';
import { describeError } from '../../shared/errors.ts';
import { timeOf } from '../../shared/time.ts';
import { describeOverdue } from '../../lifecycle/calendar-queries.ts';
import { isByItself } from '../../database/freeze.ts';
import {
  describeAbsent,
  describeHanging,
  describeIntruder,
  describeWaiting,
  isLate,
  needed,
  remedyFor,
  remedyForHanging,
} from '../../database/locks.ts';
import type { Client } from '../../database/connection.ts';
import {
  type ConfigStatus,
  describeConfigUser,
  RELOAD_TODO,
} from '../../configuration/configurations-table.ts';
import { capitalised, type KnownBlockers, readKnownBlockers } from '../../database/realm-status.ts';
import { findUserFaults } from '../../doctor/redis-users.ts';
import { describeFreeze } from '../commands/freeze.ts';
import { renderAge, renderTable } from '../table.ts';

export interface Blockers extends KnownBlockers {
  /** the oldest request without a verdict */
  waiting: Waiting | null;
  /** why that is not known */
  waitingUnknown: string | null;
  /** what is wrong with users of Redis of portals that were added by request */
  redisUsers: string[];
}

export async function readBlockers(
  client: Client,
  config: Config,
  isRedisAway: boolean,
): Promise<Blockers> {
  const portals = queuesOf(config);
  // the caller has already waited for a Redis that hangs
  const waiting = isRedisAway
    ? { waiting: null, waitingUnknown: null }
    : await readOldestWaiting(config, portals).then(
        (oldest) => ({ waiting: oldest ?? null, waitingUnknown: null }),
        (error: unknown) => ({ waiting: null, waitingUnknown: describeError(error) }),
      );
  const redisUsers = isRedisAway ? [] : await findUserFaults(config).catch(() => []);
  return { ...(await readKnownBlockers(client, config)), ...waiting, redisUsers };
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
  const { leaders, absent, holders, waiting, redisUsers } = blockers;
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
    ...redisUsers,
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
      : [
          `No verdicts: ${describeWaiting(waiting, leaders)}. Look at the log of \`chamberlain work intake\`.`,
        ]),
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
    ...describeConfigBehind(blockers.configuration),
  ];
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

/** The processes that do not use the configuration of the file. */
function describeConfigBehind({ processes }: ConfigStatus): string[] {
  const behind = processes.filter(({ why }) => why !== null);
  return [...Map.groupBy(behind, ({ why }) => why)].map(
    ([why, of]) =>
      `Not using the configuration in the file: ${of.map(describeConfigUser).join('; ')}: ${why}. ${RELOAD_TODO}`,
  );
}

/** Which configuration is in use, and since when; undefined if no process works. */
export function describeConfig(
  { configuration: { processes } }: Pick<Blockers, 'configuration'>,
  now: Date,
): string | undefined {
  const deciding = processes.filter(({ works }) => decides(works));
  const used = [...Map.groupBy(deciding, ({ digest }) => digest)].map(([digest, of]) => {
    const since = new Date(Math.max(...of.map((each) => each.since.getTime())));
    const by = of.length === deciding.length ? '' : ` by ${of.flatMap((p) => p.works).join(' ')}`;
    return `${digest.slice(0, 12)} for ${renderAge(since, now)}${by}`;
  });
  return used.length === 0 ? undefined : `configuration in use: ${used.join(', ')}`;
}

/** When the last sweep ended, and how. */
export function describeLastSweep({ lastSweep }: Pick<Blockers, 'lastSweep'>, now: Date): string {
  const last =
    lastSweep === null || lastSweep.endedAt === null
      ? 'none yet'
      : `${lastSweep.state}, ${renderAge(lastSweep.endedAt, now)} ago`;
  return `last sweep: ${last}`;
}
