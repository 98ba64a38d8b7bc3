/**
 * When intake looks at the calendar: on the next date, when a role has done what is waited for, and often anyway.
 * When nothing else is due, it removes records whose time is over, some in each turn.
 */
import type pg from 'pg';
import type { Config } from '../shared/config.ts';
import { describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import type { RequestKind } from '../requests/schema.ts';
import { turnCalendar } from './calendar.ts';
import { isFrozen } from '../database/freeze.ts';
import { EXPIRY_BEGIN, type ExpiryRun, removeExpired } from '../database/retention.ts';

/** It is looked at this often at the least: what it waits for may come without a notice. */
const LOOK_MS = 1000;
/** Whether each tool still has a maintainer who may log in is looked at this often besides. */
const LOOK_ORPHANS_MS = 60_000;
/** And no more often than this: with 10,000 tools it takes 25 ms. */
const REST_ORPHANS_MS = 1000;
/** What comes at the same time is looked at together: at rest a look takes 3 ms. */
const SOON_MS = 50;
/** Whether the time of any record is over is looked at this often. */
const EXPIRY_MS = 3_600_000;
/** A move that has failed is made again after this time; no other waits for it. */
const MOVE_AGAIN_MS = 60_000;

/** Kinds after which the calendar may have more to do, or there may be other orphans. */
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
  /** whether a turn is due now */
  isDue(): boolean;
  /**
   * Makes some of the moves that are due. False: the realm is frozen.
   *
   * @param canBeStopped as in turnCalendar
   */
  turn(canBeStopped: boolean): Promise<boolean>;
  /** Is told of what was decided. */
  decided(kinds: readonly (string | undefined)[]): void;
  close(): void;
}

/**
 * Hosts the calendar on intake's connection.
 *
 * @param wake is called when a turn has become due
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
  /** moves that have failed, and when they are made again */
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

  /** Only while a role is waited for: it would else be told of all that roles do. */
  async function listen(wanted: boolean): Promise<void> {
    if (wanted === listens) return;
    await client.query(`${wanted ? '' : 'UN'}LISTEN chamberlain`);
    listens = wanted;
    if (wanted) lookIn(SOON_MS); // what came before was not heard
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
    for (const each of made.did) log.info(each, 'a move of the calendar');
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

  /** Removes some records whose time is over; what has failed is tried again, and keeps nothing waiting. */
  async function expire(): Promise<void> {
    try {
      if (await isFrozen(client)) return;
      const { kind, removed, next } = await removeExpired(client, config.retention, expiry);
      if (removed > 0) log.info({ kind, removed }, 'records were removed after their time');
      expiry = next ?? EXPIRY_BEGIN;
      if (next === undefined) expiryAt = performance.now() + EXPIRY_MS;
      else due = true;
    } catch (error) {
      log.warn({ error: describeError(error) }, 'records stay beyond their time');
      expiryAt = performance.now() + MOVE_AGAIN_MS;
    }
  }

  return {
    isDue: () => due,
    async turn(canBeStopped) {
      try {
        return await turn(canBeStopped);
      } catch (error) {
        log.warn({ error: describeError(error) }, 'the calendar waits');
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
