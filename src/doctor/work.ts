/** Checks the work itself: which workers run, what waits, what is held. */
import type { Config } from '../shared/config.ts';
import { type Area, areaPath } from '../backends/files/file-mount.ts';
import { timeOf } from '../shared/time.ts';
import { describeOverdue, type OverdueMove, readOverdue } from '../lifecycle/calendar-queries.ts';
import { isByItself, readFreeze } from '../database/freeze.ts';
import { readWorkHealth, type WorkHealth } from './health-queries.ts';
import {
  describeScarce,
  type NumbersLeft,
  readNumbersLeft,
} from '../identity/id-allocation-table.ts';
import { isRecent, type JunkCount, readJunk } from '../requests/junk-table.ts';
import { APPLY_USERS } from '../backends/redis/redis-passwords.ts';
import { readOldestWaiting } from '../backends/redis/waiting-requests.ts';
import { codeOf } from '../shared/errors.ts';
import { nameFew } from '../shared/printable.ts';
import {
  describeHanging,
  describeIntruder,
  describeWaiting,
  isLate,
  readHolders,
  readLeaders,
  remedyFor,
  remedyForHanging,
  WORKS,
} from '../database/locks.ts';
import { readDoubt } from '../seals/heartbeat-table.ts';
import {
  isDeaf,
  MOST_OUTSTANDING,
  OLDEST_REQUEST_SECONDS,
  type PortalEvents,
  readPortalEvents,
} from '../database/overview.ts';
import { type PlaceDoubt, readPlaceDoubts } from '../seals/place-markers-table.ts';
import type { Client } from '../database/connection.ts';
import { sweepFault } from '../drift/sweep-fault.ts';
import {
  type ConfigStatus,
  describeConfigUser,
  RELOAD_TODO,
  readConfigStatus,
} from '../configuration/configurations-table.ts';
import { type LastSweeps, readLastSweeps } from '../drift/sweeps-table.ts';
import { readRemovedPortals } from '../requests/portals-table.ts';
import { expectThat, fix, type Line, ok } from './line.ts';

/** The sealer runs every second. */
const LATEST_SEAL_SECONDS = 60;
/** Login hosts consider the directory stale when the heartbeat is a minute old. */
const OLDEST_MARKER_SECONDS = 60;
/** The marker of each server and area of homes is published every 20 s. */
const OLDEST_PLACE_MS = 120_000;
/** How many parked or failing subjects are named. */
const MOST_NAMED = 3;

export async function lookAtWork(client: Client, config: Config, now: Date): Promise<Line[]> {
  const health = await readWorkHealth(client);
  const leaders = await readLeaders(client);
  const holders = await readHolders(client);
  const freeze = await readFreeze(client);
  const sweeps = await readLastSweeps(client);
  const listed = new Set(config.portals.map(({ name }) => name));
  const removed = (await readRemovedPortals(client)).difference(listed);
  return [
    ...WORKS.map((work) => {
      const leader = leaders.find((each) => each.work === work);
      if (leader === undefined) {
        return fix(`no process works as ${work}`, `Start \`chamberlain work ${work}\`.`);
      }
      return leader.hangs
        ? fix(describeHanging(leader), remedyForHanging([leader]))
        : ok(`${work} has been at work since ${timeOf(leader.since)}, and makes progress`);
    }),
    ...lookAtConfigs(await readConfigStatus(client, config)),
    ...holders.flatMap((holder) =>
      holder.isOwn ? [] : [fix(describeIntruder(holder), remedyFor(holder))],
    ),
    freeze === undefined
      ? ok('the realm is not frozen')
      : fix(
          `frozen since ${timeOf(freeze.frozenAt)} by ${freeze.frozenBy}${freeze.reason === null ? '' : `: ${freeze.reason}`}`,
          isByItself(freeze)
            ? 'No request gets a verdict. Run `chamberlain recover`, which thaws the realm.'
            : 'No request gets a verdict. When work may continue, run `chamberlain thaw`. After a restore from a backup, run `chamberlain recover` instead.',
        ),
    lookAtSweep(sweeps, config, now),
    await lookAtHeartbeat(client, now),
    ...lookAtPlaces(await readPlaceDoubts(client), config),
    ...(freeze === undefined ? [lookAtCalendar(await readOverdue(client, now))] : []),
    ...(await readNumbersLeft(client)).map(lookAtNumbers),
    ...lookAtBacklog(health),
    ...lookAtEvents(await readPortalEvents(client), { listed, removed }, now),
    ...lookAtJunk(await readJunk(client), removed, now),
  ];
}

/** Whether each process uses the configuration of the file. */
function lookAtConfigs({ digest, processes }: ConfigStatus): Line[] {
  const behind = processes.filter(({ why }) => why !== null);
  if (behind.length > 0) {
    return behind.map((each) =>
      fix(
        `${describeConfigUser(each)} does not use the configuration in the file: ${each.why}`,
        RELOAD_TODO,
      ),
    );
  }
  if (processes.length === 0) return [];
  return [ok(`every process uses the configuration of the file (${digest.slice(0, 12)})`)];
}

/** Whether requests wait too long for their verdict. While the realm is frozen, they must wait. */
export async function lookAtWaiting(client: Client, config: Config, now: Date): Promise<Line[]> {
  if ((await readFreeze(client)) !== undefined) return [];
  const portals = config.portals.map(({ name }) => name);
  try {
    const waiting = await readOldestWaiting(config, portals);
    if (waiting === undefined || !isLate(waiting, now)) {
      return [ok('no request has waited long for its verdict')];
    }
    const what = `no verdicts: ${describeWaiting(waiting, await readLeaders(client))}`;
    return [fix(what, 'Look at the log of `chamberlain work intake`.')];
  } catch (error) {
    if (codeOf(error) === 'BACKEND_UNAVAILABLE') return []; // the check of Redis reports that
    throw error;
  }
}

function lookAtNumbers(numbers: NumbersLeft): Line {
  const scarce = describeScarce(numbers);
  return scarce === undefined
    ? ok(
        `${numbers.left} of ${numbers.size} numbers are left for new ${numbers.kind === 'person' ? 'people' : 'tools'}`,
      )
    : fix(scarce.what, scarce.todo);
}

function lookAtSweep(sweeps: LastSweeps, { sweep }: Config, now: Date): Line {
  const fault = sweepFault(sweeps, sweep, now);
  if (fault !== undefined) return fix(fault.what, fault.todo);
  return ok(
    sweeps.last === undefined
      ? 'no sweep yet'
      : `the last sweep ended in the state ${sweeps.last.state}`,
  );
}

async function lookAtHeartbeat(client: Client, now: Date): Promise<Line> {
  const { doubt, publishedAt } = await readDoubt(client);
  if (doubt !== null) {
    return fix(
      `the heartbeat for login hosts has stopped: ${doubt}`,
      'Until that is done, no key is renewed.',
    );
  }
  const seconds = publishedAt === null ? Infinity : (now.getTime() - publishedAt.getTime()) / 1000;
  return expectThat(
    seconds < OLDEST_MARKER_SECONDS,
    'the heartbeat for login hosts is fresh',
    publishedAt === null
      ? 'the heartbeat for login hosts was never published'
      : `the last heartbeat for login hosts was published at ${publishedAt.toISOString()}`,
    'Start `chamberlain work directory`. Without it, login hosts renew no key.',
  );
}

/** Which server or area of homes is an older copy of itself, and which gets no marker any more. */
export function lookAtPlaces(all: readonly PlaceDoubt[], { files }: Pick<Config, 'files'>): Line[] {
  const directoryAt = all.find(({ role }) => role === 'directory')?.publishedAt ?? null;
  const places = all.filter(({ role }) => role !== 'directory');
  const faults = places.flatMap(({ role, place, older, sentence, publishedAt }): Line[] => {
    if (older === 'database')
      return [fix(`${sentence}`, 'Until that is done, no request gets a verdict.')];
    if (older !== null) {
      const todo =
        'If another copy should be there, put it back. Otherwise this ends by itself; the log of ' +
        `\`chamberlain work ${role}\` shows what prevents that.`;
      return [fix(`${sentence}`, todo)];
    }
    const behindMs = (directoryAt?.getTime() ?? 0) - (publishedAt?.getTime() ?? 0);
    if (publishedAt === null || behindMs < OLDEST_PLACE_MS) return [];
    const name =
      role === 'homes' ? `the area ${areaPath(files, place as Area)}` : `the server ${place}`;
    const what = `the last marker of ${name} was published at ${publishedAt.toISOString()}: an older copy there would not be noticed`;
    return [fix(what, `Look at the log of \`chamberlain work ${role}\`.`)];
  });
  if (faults.length > 0 || places.length === 0) return faults;
  return [ok('no server and no area of homes is an older copy of itself')];
}

function lookAtCalendar(overdue: readonly OverdueMove[]): Line {
  if (overdue.length === 0) return ok('no date is overdue');
  return fix(
    `overdue: ${describeOverdue(overdue)}`,
    'Look at the log of `chamberlain work intake`.',
  );
}

function lookAtBacklog(health: WorkHealth): Line[] {
  const { unsealed, unsealedSeconds, parked, failing, oldestUndone: oldest } = health;
  return [
    expectThat(
      unsealedSeconds < LATEST_SEAL_SECONDS,
      'the audit is sealed',
      `rows of the audit that wait to be sealed: ${unsealed}, the oldest for ${Math.round(unsealedSeconds)} s`,
      'Look at the log of `chamberlain work relay`.',
    ),
    expectThat(
      parked.length === 0,
      'nothing is parked',
      `parked: ${nameFew(parked, MOST_NAMED)}`,
      'See `chamberlain status` for the causes. When you have removed them, run `chamberlain repair SUBJECT`.',
    ),
    expectThat(
      failing.length === 0,
      'nothing is failing',
      `failing: ${nameFew(failing, MOST_NAMED)}`,
      'The roles try them again by themselves. See `chamberlain status` for the reasons.',
    ),
    oldest === null || oldest.seconds < OLDEST_REQUEST_SECONDS
      ? ok('no request has been unfinished for long')
      : fix(
          `the request ${oldest.id} (${oldest.kind}) is not done after ${Math.round(oldest.seconds / 60)} min`,
          `See \`chamberlain requests ${oldest.id}\`.`,
        ),
  ];
}

/** Whether portals take their events. Of those that are not in the configuration, some were removed by request. */
function lookAtEvents(
  portals: readonly PortalEvents[],
  { listed, removed }: { listed: ReadonlySet<string>; removed: ReadonlySet<string> },
  now: Date,
): Line[] {
  const behind = portals
    .filter(({ outstanding }) => outstanding !== '0')
    .flatMap(({ portal, outstanding, since, wrong }): Line[] => {
      const count =
        Number(outstanding) > MOST_OUTSTANDING ? `more than ${MOST_OUTSTANDING}` : outstanding;
      if (!listed.has(portal)) {
        const isRemoved = removed.has(portal);
        const what = isRemoved ? 'was removed by request' : 'is no longer in the configuration';
        const give = isRemoved ? 'Give them' : 'List the portal again, give them';
        const todo = `${give} to another portal (\`chamberlain submit portal.hand-over --name ${portal} --to PORTAL\`), or delete them: see docs/install.md, "Add or remove a portal".`;
        return [fix(`${portal} ${what}, but events wait for it: ${count}`, todo)];
      }
      if (wrong !== null) {
        if (/WRONGPASS|NOAUTH|NOPERM/u.test(wrong)) {
          const refused = `${portal} gets no events, because our programs have no right to its queue: ${wrong}`;
          return [fix(refused, APPLY_USERS)];
        }
        const what = `${portal} does not take its events: ${wrong}`;
        return [
          fix(
            what,
            'See "Receive events" in docs/portals.md, the log of the portal, and that of the relay.',
          ),
        ];
      }
      if (!isDeaf(since, now)) return [];
      const what = `${portal} has taken no event since ${timeOf(since)}: ${count} wait`;
      return [
        fix(
          what,
          `Check whether the portal runs and takes its events: from the queue events.${portal}, or over HTTP, if the configuration says so.`,
        ),
      ];
    });
  return behind.length === 0 ? [ok('each portal takes its events')] : behind;
}

/** Whether the jobs in the queues of portals are valid. */
function lookAtJunk(junk: readonly JunkCount[], removed: ReadonlySet<string>, now: Date): Line[] {
  const recent = junk.filter((each) => isRecent(each, now));
  if (recent.length === 0) {
    return [ok('no invalid job has arrived in the queues of requests in the last hour')];
  }
  return recent.map(({ portal, code, count, lastAt }) =>
    fix(
      `invalid jobs in the queues of ${portal}: ${count} (${code}), the last at ${timeOf(lastAt)}`,
      `${remedyForJunk(code, removed.has(portal))} This line ends an hour after the last one.`,
    ),
  );
}

function remedyForJunk(code: string, isRemoved: boolean): string {
  if (isRemoved) return 'The portal was removed by request: no more of its jobs are taken.';
  if (code === 'REQUEST_TOO_LARGE') return 'Have the portal send smaller requests.';
  return code === 'QUEUE_FULL'
    ? 'Too many requests waited, so intake removed the newest unread. Look at the log of `chamberlain work intake`, and have the portal send again those that have no verdict.'
    : 'Check the log of the portal, and whether it signs with one of its keys (`chamberlain list portals`). If the portal did not send them, change its Redis password.';
}
