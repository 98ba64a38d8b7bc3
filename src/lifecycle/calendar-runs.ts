/**
 * When intake looks at the calendar: on the next date, when a role has done what the calendar waits for, and
 * regularly. When nothing else is due, it removes records that are past their retention time, some in each turn.
 */
import type pg from 'pg';
import type { Config } from '../shared/config.ts';
import { describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import type { RequestKind } from '../requests/kinds.ts';
import { turnCalendar } from './calendar.ts';
import { isFrozen } from '../database/freeze.ts';
import { EXPIRY_BEGIN, type ExpiryRun, removeExpired } from '../database/retention.ts';

/** The longest time between two looks, because a change may come without a notification. */
const LOOK_MS = 1000;
/** How often orphaned tools are looked for if nothing has happened that could make any. */
const LOOK_ORPHANS_MS = 60_000;
/** The shortest time between two searches for orphaned tools: with 10,000 tools a search takes 25 ms. */
const REST_ORPHANS_MS = 1000;
/** Notifications within this time are handled by one look. When nothing is due, a look takes 3 ms. */
const SOON_MS = 50;
/** How often records past their retention time are looked for. */
const EXPIRY_MS = 3_600_000;
/** A failed move is tried again after this time. Other moves do not wait for it. */
const MOVE_AGAIN_MS = 60_000;

/** Kinds of request that may give the calendar more to do or change which tools are orphaned. */
const MOVING: ReadonlySet<string> = new Set<RequestKind>([
  'access.grant',
  'access.revoke',
  'person.suspend',
  'person.reinstate',
  'person.delete',
  'person.erase',
  'person.restore',
  'tool.disable',
  'tool.enable',
  'tool.delete',
  'tool.restore',
  'subject.release',
  'maintainer.add',
  'maintainer.remove',
  'request.approve',
]);

export interface HostedCalendar {
  /** whether a turn is due */
  isDue(): boolean;
  /**
   * Makes some of the moves that are due. Returns false if the realm is frozen.
   *
   * @param config by which the moves are made
   * @param canBeStopped as in turnCalendar
   */
  turn(config: Config, canBeStopped: boolean): Promise<boolean>;
  /** Call this with the kinds of the requests that were accepted. */
  decided(kinds: readonly (string | undefined)[]): void;
  close(): void;
}

interface CalendarTerms {
  readonly client: pg.Client;
  readonly log: Log;
  readonly clock: () => Date;
}

interface CalendarRuns extends CalendarTerms {
  /** called when a turn becomes due */
  readonly wake: () => void;
  due: boolean;
  closed: boolean;
  /** makes a turn due at `timerAt` */
  timer: NodeJS.Timeout | undefined;
  timerAt: number;
  /** something has happened that could make orphaned tools; and when they were last looked for */
  orphans: boolean;
  orphansAt: number;
  /** the subjects with which a role is busy */
  awaited: ReadonlySet<number>;
  listens: boolean;
  expiry: ExpiryRun;
  expiryAt: number;
  /** failed moves, and when each is tried again */
  readonly failed: Map<string, number>;
}

/**
 * Runs the calendar on intake's connection.
 *
 * @param wake called when a turn becomes due
 */
export function hostCalendar(terms: CalendarTerms, wake: () => void): HostedCalendar {
  const { client, log } = terms;
  const of: CalendarRuns = {
    ...{ ...terms, wake, due: true, closed: false, timer: undefined, timerAt: 0 },
    ...{ orphans: true, orphansAt: Number.NEGATIVE_INFINITY, awaited: new Set(), listens: false },
    ...{ expiry: EXPIRY_BEGIN, expiryAt: Number.NEGATIVE_INFINITY, failed: new Map() },
  };
  const onNotice = ({ payload = '' }: pg.Notification): void => {
    const [what, subject] = payload.split(' ');
    if (what === 'applied' && of.awaited.has(Number(subject))) lookIn(of, SOON_MS);
  };
  client.on('notification', onNotice);
  return {
    isDue: () => of.due,
    async turn(config, canBeStopped) {
      try {
        return await turn(of, config, canBeStopped);
      } catch (error) {
        log.warn({ error: describeError(error) }, 'the calendar could not run; it tries again');
        lookIn(of, LOOK_MS);
        return true;
      }
    },
    decided(kinds) {
      if (!kinds.some((kind) => MOVING.has(kind ?? ''))) return;
      of.orphans = true;
      lookIn(of, SOON_MS);
    },
    close() {
      of.closed = true;
      client.removeListener('notification', onNotice);
      clearTimeout(of.timer);
    },
  };
}

async function turn(of: CalendarRuns, config: Config, canBeStopped: boolean): Promise<boolean> {
  const { client, log, clock, failed } = of;
  const began = performance.now();
  of.due = false;
  for (const [key, at] of failed) if (at <= began) failed.delete(key);
  const lookAtOrphans = began - of.orphansAt >= (of.orphans ? REST_ORPHANS_MS : LOOK_ORPHANS_MS);
  const now = clock();
  const made = await turnCalendar(client, config, now, {
    orphans: lookAtOrphans,
    except: [...failed.keys()],
    canBeStopped,
  });
  for (const each of made.did) log.info(each, 'the calendar made a move');
  for (const { key, error } of made.failed) {
    log.warn({ move: key, error: describeError(error) }, 'a move of the calendar failed');
    failed.set(key, began + MOVE_AGAIN_MS);
  }
  of.due = made.more;
  if (made.more || made.frozen) return !made.frozen;
  if (lookAtOrphans) [of.orphans, of.orphansAt] = [false, began];
  of.awaited = new Set(made.awaited);
  await listen(of, of.awaited.size > 0);
  if (began >= of.expiryAt) await expire(of, config);
  const ms = made.next === undefined ? LOOK_MS : made.next.getTime() - now.getTime();
  lookIn(of, Math.max(SOON_MS, Math.min(ms, LOOK_MS)));
  return true;
}

function lookIn(of: CalendarRuns, ms: number): void {
  const { wake } = of;
  const at = performance.now() + ms;
  if (of.closed || (of.timer !== undefined && of.timerAt <= at)) return;
  clearTimeout(of.timer);
  of.timerAt = at;
  of.timer = setTimeout(() => {
    of.timer = undefined;
    of.due = true;
    wake();
  }, ms);
}

/** Listens only while the calendar waits for a role. Otherwise it would receive a notice for everything roles do. */
async function listen(of: CalendarRuns, wanted: boolean): Promise<void> {
  const { client } = of;
  if (wanted === of.listens) return;
  await client.query(`${wanted ? '' : 'UN'}LISTEN chamberlain`);
  of.listens = wanted;
  if (wanted) lookIn(of, SOON_MS); // earlier notices were missed
}

/**
 * Removes some records that are past their retention time. A failure is tried again later and delays nothing else.
 */
async function expire(of: CalendarRuns, { retention }: Config): Promise<void> {
  const { client, log } = of;
  try {
    if (await isFrozen(client)) return;
    const { kind, removed, next } = await removeExpired(client, retention, of.expiry);
    if (removed > 0) log.info({ kind, removed }, 'removed records past their retention time');
    of.expiry = next ?? EXPIRY_BEGIN;
    if (next === undefined) of.expiryAt = performance.now() + EXPIRY_MS;
    else of.due = true;
  } catch (error) {
    log.warn({ error: describeError(error) }, 'could not remove records past their retention time');
    of.expiryAt = performance.now() + MOVE_AGAIN_MS;
  }
}
