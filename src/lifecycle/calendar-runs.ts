/**
 * When intake looks at the calendar: on the next date, when a role has done what the calendar waits for, and
 * regularly. When nothing else is due, it removes records that are past their retention time, some in each turn.
 */
import type pg from 'pg';
import type { Config } from '../shared/config.ts';
import { describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import type { RequestKind } from '../requests/schema.ts';
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
   * @param canBeStopped as in turnCalendar
   */
  turn(canBeStopped: boolean): Promise<boolean>;
  /** Call this with the kinds of the requests that were accepted. */
  decided(kinds: readonly (string | undefined)[]): void;
  close(): void;
}

/**
 * Runs the calendar on intake's connection.
 *
 * @param wake called when a turn becomes due
 */
export function hostCalendar(
  {
    client,
    config,
    log,
    clock,
  }: { client: pg.Client; config: Config; log: Log; clock: () => Date },
  wake: () => void,
): HostedCalendar {
  let due = true;
  let closed = false;
  let timer: NodeJS.Timeout | undefined;
  let timerAt = 0;
  let orphans = true;
  let orphansAt = Number.NEGATIVE_INFINITY;
  let awaited: ReadonlySet<number> = new Set();
  let listens = false;
  let expiry: ExpiryRun = EXPIRY_BEGIN;
  let expiryAt = Number.NEGATIVE_INFINITY;
  /** failed moves, and when each is tried again */
  const failed = new Map<string, number>();

  const onNotice = ({ payload = '' }: pg.Notification): void => {
    const [what, subject] = payload.split(' ');
    if (what === 'applied' && awaited.has(Number(subject))) lookIn(SOON_MS);
  };
  client.on('notification', onNotice);

  function lookIn(ms: number): void {
    const at = performance.now() + ms;
    if (closed || (timer !== undefined && timerAt <= at)) return;
    clearTimeout(timer);
    timerAt = at;
    timer = setTimeout(() => {
      timer = undefined;
      due = true;
      wake();
    }, ms);
  }

  /** Listens only while the calendar waits for a role. Otherwise it would receive a notice for everything roles do. */
  async function listen(wanted: boolean): Promise<void> {
    if (wanted === listens) return;
    await client.query(`${wanted ? '' : 'UN'}LISTEN chamberlain`);
    listens = wanted;
    if (wanted) lookIn(SOON_MS); // earlier notices were missed
  }

  async function turn(canBeStopped: boolean): Promise<boolean> {
    const began = performance.now();
    due = false;
    for (const [key, at] of failed) if (at <= began) failed.delete(key);
    const lookAtOrphans = began - orphansAt >= (orphans ? REST_ORPHANS_MS : LOOK_ORPHANS_MS);
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
    due = made.more;
    if (made.more || made.frozen) return !made.frozen;
    if (lookAtOrphans) [orphans, orphansAt] = [false, began];
    awaited = new Set(made.awaited);
    await listen(awaited.size > 0);
    if (began >= expiryAt) await expire();
    const ms = made.next === undefined ? LOOK_MS : made.next.getTime() - now.getTime();
    lookIn(Math.max(SOON_MS, Math.min(ms, LOOK_MS)));
    return true;
  }

  /**
   * Removes some records that are past their retention time. A failure is tried again later and delays nothing else.
   */
  async function expire(): Promise<void> {
    try {
      if (await isFrozen(client)) return;
      const { kind, removed, next } = await removeExpired(client, config.retention, expiry);
      if (removed > 0) log.info({ kind, removed }, 'removed records past their retention time');
      expiry = next ?? EXPIRY_BEGIN;
      if (next === undefined) expiryAt = performance.now() + EXPIRY_MS;
      else due = true;
    } catch (error) {
      log.warn(
        { error: describeError(error) },
        'could not remove records past their retention time',
      );
      expiryAt = performance.now() + MOVE_AGAIN_MS;
    }
  }

  return {
    isDue: () => due,
    async turn(canBeStopped) {
      try {
        return await turn(canBeStopped);
      } catch (error) {
        log.warn({ error: describeError(error) }, 'the calendar could not run; it tries again');
        lookIn(LOOK_MS);
        return true;
      }
    },
    decided(kinds) {
      if (!kinds.some((kind) => MOVING.has(kind ?? ''))) return;
      orphans = true;
      lookIn(SOON_MS);
    },
    close() {
      closed = true;
      client.removeListener('notification', onNotice);
      clearTimeout(timer);
    },
  };
}
