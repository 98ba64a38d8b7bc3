/**
 * The course of one portal through its events, which it gets in order, each at least once.
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
 * A portal over HTTP says what it has also while no job waits (`goBack`).
 *
 * A forged or lost answer makes a gap. The portal sees the gap by `after`, and answers with the number that it has. The
 * relay then goes back to that number. If events after that number were removed past their retention time
 * (`retention.eventsDays`), `removed` in the job gives the last of them. If no event follows those, the job contains
 * only that.
 */
import { randomUUID } from 'node:crypto';
import { type JobState, type Outbox } from '../backends/redis/event-outbox.ts';
import type { Pool } from '../database/connection.ts';
import { signEvents, type signingKeyReader } from '../requests/token.ts';
import type { Config } from '../shared/config.ts';
import type { Log } from '../shared/log.ts';
import * as store from './deliveries.ts';

/** The bounds of one job: so many events, and so many bytes of JSON. */
const BATCH = { most: 250, mostBytes: 256 * 1024 };
/** Pauses between two looks at a job: short after it was sent, then longer and longer while nothing happens. */
export const LOOK_MS = { first: 2, growth: 1.3, most: 1000 };
/** Pauses after an answer that confirms nothing new. */
const AGAIN_MS = { first: 100, growth: 2, most: 10_000 };
/** If a job is worked on for longer than this, its worker may have died. */
const LONG_ACTIVE_MS = 5000;
/** How often the position of a portal over HTTP is read while it has every event. */
const ASK_MS = 1000;
/** How often queues are tidied. */
const TIDY_MS = 60_000;

/** A portal's progress through its events. Everything except `delivery` may be lost. */
export interface Course {
  /** as recorded in PostgreSQL, where only the relay writes it */
  delivery: store.Delivery;
  /** when the job is looked at next; `performance.now()` */
  lookAt: number;
  lookMs: number;
  /** when events are sent again after the portal did not take them */
  againAt: number;
  againMs: number;
  activeSince: number | undefined;
  /** when the position of a portal over HTTP is read next */
  askAt: number;
  /** the portal lacks no event up to this number; the numbering may have gaps */
  emptyUpTo: number;
  tidiedAt: number;
  /** the error that prevents delivery; `restUntil`: when it is tried again */
  trouble: string | undefined;
  restUntil: number;
}

/** What events are delivered with. */
export interface Sender {
  /** of this round */
  config: Config;
  readonly log: Log;
  readonly pool: Pool;
  readonly outbox: Outbox;
  readonly key: ReturnType<typeof signingKeyReader>;
}

export function newCourse(delivery: store.Delivery): Course {
  return {
    ...{ delivery, lookAt: 0, lookMs: LOOK_MS.first, againAt: 0, againMs: AGAIN_MS.first },
    ...{
      activeSince: undefined,
      askAt: 0,
      emptyUpTo: 0,
      tidiedAt: 0,
      trouble: undefined,
      restUntil: 0,
    },
  };
}

export async function writeCourse(
  { pool }: Sender,
  course: Course,
  changed: Partial<store.Delivery>,
): Promise<void> {
  const delivery = { ...course.delivery, ...changed };
  await store.writeDelivery(pool, delivery);
  course.delivery = delivery;
}

/** Looks at a portal's job if it is time, and sends the next one if the job has ended. */
export async function advance(sender: Sender, course: Course, isListening: boolean): Promise<void> {
  const { outbox } = sender;
  const { portal, job } = course.delivery;
  if (!isListening) {
    // the portal was removed from the configuration: its events are kept, and nothing of it is opened
    if (job === null) return outbox.forget(portal);
    if (await outbox.remove(portal, job)) await writeCourse(sender, course, { job: null });
    return;
  }
  if (performance.now() - course.tidiedAt >= TIDY_MS) {
    course.tidiedAt = performance.now();
    await outbox.removeOthers(portal, job);
  }
  if (job === null) await goBack(sender, course);
  let ended: Partial<store.Delivery> | undefined;
  if (job !== null) {
    if (performance.now() < course.lookAt) return;
    ended = await lookAtJob(sender, course, job);
    if (ended === undefined) return;
  }
  const { completed, last } = { ...course.delivery, ...ended };
  const isEmpty = Math.max(completed, course.emptyUpTo) >= last;
  if (!isEmpty && performance.now() >= course.againAt) await send(sender, course, ended);
  else if (ended !== undefined) await writeCourse(sender, course, ended);
}

/** Over HTTP a portal may say that it has less than it has confirmed, although nothing waits for it. */
async function goBack(sender: Sender, course: Course): Promise<void> {
  if (performance.now() < course.askAt) return;
  course.askAt = performance.now() + ASK_MS;
  const { config, outbox, log } = sender;
  const { portal, completed } = course.delivery;
  if (!config.portals.some(({ name, events }) => name === portal && events === 'http')) return;
  const have = await outbox.takePosition(portal);
  if (have === undefined || have >= completed) return;
  log.warn({ portal, have, completed }, 'a portal asks for earlier events again');
  course.emptyUpTo = 0;
  await writeCourse(sender, course, { completed: have, since: new Date() });
}

/** What the end of a portal's job changes. Undefined if it has not ended. */
async function lookAtJob(
  sender: Sender,
  course: Course,
  job: string,
): Promise<Partial<store.Delivery> | undefined> {
  const { portal, last, completed, since } = course.delivery;
  const { outbox, log } = sender;
  const found = await outbox.look(portal, job);
  if (await isStillAtWork(sender, found, course, job)) {
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
async function isStillAtWork(
  { outbox }: Sender,
  found: JobState,
  course: Course,
  job: string,
): Promise<boolean> {
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
export async function erase(
  sender: Sender,
  course: Course,
  erased: readonly number[],
): Promise<void> {
  const { outbox, pool } = sender;
  const { portal, job, completed, sent } = course.delivery;
  // a job that was added but not recorded may contain any of them
  if (!(await outbox.removeOthers(portal, job))) return;
  const inJob = erased.filter((seq) => job !== null && seq > completed && seq <= sent);
  // a job that a worker holds is removed when it has ended
  const isInHand = job !== null && inJob.length > 0 && !(await outbox.remove(portal, job));
  if (inJob.length > 0 && !isInHand) await writeCourse(sender, course, { job: null });
  const gone = isInHand ? erased.filter((seq) => !inJob.includes(seq)) : erased;
  if (gone.length > 0) await store.forgetErasures(pool, portal, gone);
}

/** Sends the next events. The job is recorded before it is added: if it is lost in between, it is sent again. */
async function send(
  sender: Sender,
  course: Course,
  ended: Partial<store.Delivery> = {},
): Promise<void> {
  const { config, log, pool, outbox, key } = sender;
  const { portal, completed, last, since } = { ...course.delivery, ...ended };
  const { events, removed } = await store.readEvents(pool, portal, completed, BATCH);
  const sent = events.at(-1)?.seq ?? removed;
  if (sent === undefined) {
    course.emptyUpTo = last;
    await writeCourse(sender, course, { ...ended, since: null });
    return;
  }
  const now = new Date();
  if (removed !== undefined) {
    log.warn(
      { portal, after: completed, removed },
      'a portal asks for events that are no longer kept',
    );
  }
  const contents = { realm: config.realm, portal, after: completed, removed, events, now };
  const token = await signEvents(key(), contents);
  const job = `${completed}-${sent}-${randomUUID()}`;
  await writeCourse(sender, course, { ...ended, job, sent, since: since ?? now });
  await outbox.add(portal, job, token);
  course.lookMs = LOOK_MS.first;
  course.lookAt = performance.now() + course.lookMs;
}
