/**
 * Delivers events: each portal's in order, at least once.
 *
 * A portal's queue has one job at a time: the signed events that follow the last event that the portal has. The portal
 * answers with the number of the last event that it has now. Nothing else counts as delivered:
 *
 * | the job                          | then                                                                   |
 * | -------------------------------- | ---------------------------------------------------------------------- |
 * | waits                            | it goes on waiting, as long as the portal does not listen              |
 * | is being worked on               | likewise; if it loses its lock, its worker has died: it is sent again  |
 * | completed with `{have: n}`       | the portal has the events up to n: those after n are next              |
 * | completed with anything else     | the portal has what it had before: it is sent again after a pause      |
 * | failed                           | likewise                                                               |
 * | is gone (Redis lost it)          | it is sent again                                                       |
 *
 * A forged or lost answer makes a gap. The portal sees the gap by `after`, and answers with the number that it has. The
 * relay then goes back to that number. If events after that number were removed past their retention time
 * (`retention.eventsDays`), `removed` in the job gives the last of them. If no event follows those, the job contains
 * only that.
 */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { adminOfPortal, type Config } from '../shared/config.ts';
import { type JobState, openOutbox } from '../backends/redis/event-outbox.ts';
import { signEvents, signingKeyReader } from '../requests/token.ts';
import { describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import * as store from './deliveries.ts';
import type { Pool } from '../database/connection.ts';

/** The bounds of one job: so many events, and so many bytes of JSON. */
const BATCH = { most: 250, mostBytes: 256 * 1024 };
/** Pauses between two looks at a job: short after it was sent, then longer and longer while nothing happens. */
const LOOK_MS = { first: 2, growth: 1.3, most: 1000 };
/** Pauses after an answer that confirms nothing new. */
const AGAIN_MS = { first: 100, growth: 2, most: 10_000 };
/** If a job is worked on for longer than this, its worker may have died. */
const LONG_ACTIVE_MS = 5000;
/** Pause after a fault: of PostgreSQL, of Redis, or in a portal's queue. */
const REST_MS = 500;
/** How often queues are tidied. */
const TIDY_MS = 60_000;

/** A portal's progress through its events. Everything except `delivery` may be lost. */
interface Course {
  /** as recorded in PostgreSQL, where only the relay writes it */
  delivery: store.Delivery;
  /** when the job is looked at next; `performance.now()` */
  lookAt: number;
  lookMs: number;
  /** when events are sent again after the portal did not take them */
  againAt: number;
  againMs: number;
  activeSince: number | undefined;
  /** the portal lacks no event up to this number; the numbering may have gaps */
  emptyUpTo: number;
  tidiedAt: number;
  /** the error that prevents delivery; `restUntil`: when it is tried again */
  trouble: string | undefined;
  restUntil: number;
}

export interface Delivery {
  /**
   * Does what can be done now: one step for each portal.
   *
   * @param fresh whether to look for new events in PostgreSQL
   * @returns how many events were numbered, how many portals have a delivery in progress, and in how many milliseconds
   *   there is more to do
   */
  turn(fresh: boolean): Promise<{ numbered: number; told: number; nextInMs: number }>;
  close(): Promise<void>;
}

export function startDelivery(config: Config, log: Log, pool: Pool): Delivery {
  const key = signingKeyReader(join(config.secrets, 'events-key'));
  const outbox = openOutbox(config);
  const courses = new Map<string, Course>();
  /** the numbers, by portal, of erased events whose original text may still be in a queue */
  let erasures = new Map<string, number[]>();
  const listening = new Set(
    config.portals.map(({ name }) => name).filter((name) => adminOfPortal(name) === undefined),
  );

  /** Numbers new events and reads what is to be delivered. Returns how many were numbered. */
  async function refresh(): Promise<number> {
    // the news is sent in addition to the events themselves, and may be lost
    const numbered = await store.numberEvents(pool, (news) => void outbox.tellNews(news));
    const deliveries = await store.readDeliveries(pool);
    for (const delivery of deliveries) {
      const course = courses.get(delivery.portal);
      if (course !== undefined) course.delivery = delivery;
      else {
        const [lookMs, againMs] = [LOOK_MS.first, AGAIN_MS.first];
        const begin = {
          lookAt: 0,
          lookMs,
          againAt: 0,
          againMs,
          activeSince: undefined,
          emptyUpTo: 0,
          tidiedAt: 0,
          trouble: undefined,
          restUntil: 0,
        };
        courses.set(delivery.portal, { delivery, ...begin });
      }
    }
    erasures = await store.readErasures(pool);
    return numbered;
  }

  async function write(course: Course, changed: Partial<store.Delivery>): Promise<void> {
    const delivery = { ...course.delivery, ...changed };
    await store.writeDelivery(pool, delivery);
    course.delivery = delivery;
  }

  /** Makes one step for a portal. A failure does not delay other portals. */
  async function step(course: Course): Promise<void> {
    if (performance.now() < course.restUntil) return;
    try {
      await advance(course);
      if (course.trouble !== undefined) await write(course, { wrong: null });
      course.trouble = undefined;
    } catch (error) {
      const { portal } = course.delivery;
      const trouble = describeError(error);
      if (trouble !== course.trouble)
        log.warn({ portal, error: trouble }, 'events are not delivered');
      // a fault of the portal's account, not of a server that is down
      if (trouble !== course.trouble && /WRONGPASS|NOAUTH|NOPERM/u.test(trouble)) {
        await write(course, { wrong: trouble }).catch(() => {});
      }
      course.trouble = trouble;
      course.restUntil = performance.now() + REST_MS;
    }
  }

  /** Looks at a portal's job if it is time, and sends the next one if the job has ended. */
  async function advance(course: Course): Promise<void> {
    const { portal } = course.delivery;
    const erased = erasures.get(portal);
    if (erased !== undefined) {
      await erase(course, erased);
      erasures.delete(portal);
    }
    const { job } = course.delivery;
    if (performance.now() - course.tidiedAt >= TIDY_MS) {
      course.tidiedAt = performance.now();
      await outbox.removeOthers(portal, course.delivery.job);
    }
    if (!listening.has(portal)) {
      // the portal was removed from the configuration
      if (job !== null && (await outbox.remove(portal, job))) await write(course, { job: null });
      return;
    }
    let ended: Partial<store.Delivery> | undefined;
    if (job !== null) {
      if (performance.now() < course.lookAt) return;
      ended = await lookAtJob(course, job);
      if (ended === undefined) return;
    }
    const { completed, last } = { ...course.delivery, ...ended };
    const isEmpty = Math.max(completed, course.emptyUpTo) >= last;
    if (!isEmpty && performance.now() >= course.againAt) await send(course, ended);
    else if (ended !== undefined) await write(course, ended);
  }

  /** What the end of a portal's job changes. Undefined if it has not ended. */
  async function lookAtJob(
    course: Course,
    job: string,
  ): Promise<Partial<store.Delivery> | undefined> {
    const { portal, last, completed, since } = course.delivery;
    const found = await outbox.look(portal, job);
    if (await isStillAtWork(found, course, job)) {
      course.lookMs = Math.min(course.lookMs * LOOK_MS.growth, LOOK_MS.most);
      course.lookAt = performance.now() + course.lookMs;
      return undefined;
    }
    course.activeSince = undefined;
    await outbox.remove(portal, job);
    if (found.state === 'completed' && found.have !== undefined && found.have <= last) {
      const { have } = found;
      if (have > completed) course.againMs = AGAIN_MS.first;
      else pause(course);
      if (have < completed)
        log.warn({ portal, have, completed }, 'a portal asks for earlier events again');
      const open = have > completed ? new Date() : since;
      return { job: null, completed: have, since: have === last ? null : open, wrong: null };
    }
    if (found.state !== 'completed' && found.state !== 'failed') return { job: null };
    pause(course);
    const wrong =
      found.state === 'failed'
        ? 'its worker failed to take the events'
        : found.have === undefined
          ? 'its worker does not return {have: N}, where N is the number of the last event that it has'
          : `its worker says that it has event ${found.have}, which does not exist`;
    if (wrong !== course.delivery.wrong)
      log.warn({ portal, wrong }, 'a portal did not take its events');
    return { job: null, wrong };
  }

  /** Whether the portal may still complete the job. */
  async function isStillAtWork(found: JobState, course: Course, job: string): Promise<boolean> {
    if (found.state === 'waiting') {
      course.activeSince = undefined;
      return true;
    }
    if (found.state !== 'active') return false;
    course.activeSince ??= performance.now();
    if (performance.now() - course.activeSince < LONG_ACTIVE_MS) return true;
    // the job cannot be removed while a worker holds its lock
    return !(await outbox.remove(course.delivery.portal, job));
  }

  function pause(course: Course): void {
    course.againAt = performance.now() + course.againMs;
    course.againMs = Math.min(course.againMs * AGAIN_MS.growth, AGAIN_MS.most);
  }

  /** Removes a job that contains the original text of an erased event. It is sent again with the erased form. */
  async function erase(course: Course, erased: readonly number[]): Promise<void> {
    const { portal, job, completed, sent } = course.delivery;
    // a job that was added but not recorded may contain any of them
    if (!(await outbox.removeOthers(portal, job))) return;
    const inJob = erased.filter((seq) => job !== null && seq > completed && seq <= sent);
    // a job that a worker holds is removed when it has ended
    const isInHand = job !== null && inJob.length > 0 && !(await outbox.remove(portal, job));
    if (inJob.length > 0 && !isInHand) await write(course, { job: null });
    const gone = isInHand ? erased.filter((seq) => !inJob.includes(seq)) : erased;
    if (gone.length > 0) await store.forgetErasures(pool, portal, gone);
  }

  /** Sends the next events. The job is recorded before it is added: if it is lost in between, it is sent again. */
  async function send(course: Course, ended: Partial<store.Delivery> = {}): Promise<void> {
    const { portal, completed, last, since } = { ...course.delivery, ...ended };
    const { events, removed } = await store.readEvents(pool, portal, completed, BATCH);
    const sent = events.at(-1)?.seq ?? removed;
    if (sent === undefined) {
      course.emptyUpTo = last;
      await write(course, { ...ended, since: null });
      return;
    }
    const now = new Date();
    const { realm } = config;
    if (removed !== undefined) {
      log.warn(
        { portal, after: completed, removed },
        'a portal asks for events that are no longer kept',
      );
    }
    const contents = { realm, portal, after: completed, removed, events, now };
    const token = await signEvents(key(), contents);
    const job = `${completed}-${sent}-${randomUUID()}`;
    await write(course, { ...ended, job, sent, since: since ?? now });
    await outbox.add(portal, job, token);
    course.lookMs = LOOK_MS.first;
    course.lookAt = performance.now() + course.lookMs;
  }

  /** How many portals have a delivery in progress, and when there is more to do: in a second at the latest. */
  function outlook(): { told: number; nextInMs: number } {
    const now = performance.now();
    const open = [...courses.values()]
      .filter(({ delivery }) => listening.has(delivery.portal))
      .filter(
        ({ delivery: { job, completed, last }, emptyUpTo }) =>
          job !== null || Math.max(completed, emptyUpTo) < last,
      );
    const times = open
      .map(({ delivery: { job }, lookAt, againAt, restUntil }) =>
        Math.max(job === null ? againAt : lookAt, restUntil),
      )
      .map((at) => at - now);
    return {
      // a portal that does not listen is looked at once a second and does not count
      told: open.filter(({ lookMs }) => lookMs < LOOK_MS.most).length,
      nextInMs: Math.max(0, Math.min(LOOK_MS.most, ...times)),
    };
  }

  return {
    async turn(fresh) {
      const numbered = fresh ? await refresh() : 0;
      await Promise.all([...courses.values()].map(step));
      return { numbered, ...outlook() };
    },
    close: () => outbox.close(),
  };
}
