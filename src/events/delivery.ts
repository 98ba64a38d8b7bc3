/** Delivers events: each portal takes its own course (course.ts), and none delays another. */
import { join } from 'node:path';
import { openOutbox } from '../backends/redis/event-outbox.ts';
import { portalAccount } from '../backends/redis/redis-connection.ts';
import type { Pool } from '../database/connection.ts';
import { signingKeyReader } from '../requests/token.ts';
import { type Config, portalNames } from '../shared/config.ts';
import { describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import {
  advance,
  type Course,
  erase,
  LOOK_MS,
  newCourse,
  type Sender,
  writeCourse,
} from './course.ts';
import * as store from './deliveries.ts';

/** Pause after a fault: of PostgreSQL, of Redis, or in a portal's queue. */
const REST_MS = 500;

export interface Delivery extends Sender {
  readonly courses: Map<string, Course>;
  /** the portals in the configuration */
  listening: ReadonlySet<string>;
  /** the numbers, by portal, of erased events whose original text may still be in a queue */
  erasures: Map<string, number[]>;
}

export function openDelivery(config: Config, log: Log, pool: Pool): Delivery {
  const delivery: Delivery = {
    ...{ config, log, pool },
    outbox: openOutbox(config, (portal) => portalAccount(portal, delivery.config, 'relay')),
    key: signingKeyReader(join(config.secrets, 'events-key')),
    ...{ courses: new Map(), erasures: new Map() },
    listening: listeningIn(config),
  };
  return delivery;
}

/** Delivers by this configuration from the next round on. */
export function useConfig(delivery: Delivery, config: Config): void {
  if (config === delivery.config) return;
  delivery.config = config;
  delivery.listening = listeningIn(config);
}

const listeningIn = (config: Config): ReadonlySet<string> => new Set(portalNames(config));

/**
 * Does what can be done now: one step for each portal.
 *
 * @param fresh whether to look for new events in PostgreSQL
 * @returns how many events were numbered, how many portals have a delivery in progress, and in how many milliseconds
 *   there is more to do
 */
export async function deliver(
  delivery: Delivery,
  fresh: boolean,
): Promise<{ numbered: number; told: number; nextInMs: number }> {
  const numbered = fresh ? await refresh(delivery) : 0;
  await Promise.all([...delivery.courses.values()].map((course) => step(delivery, course)));
  return { numbered, ...outlook(delivery) };
}

/** Numbers new events and reads what is to be delivered. Returns how many were numbered. */
async function refresh(delivery: Delivery): Promise<number> {
  const { pool, outbox, courses } = delivery;
  // the news is sent in addition to the events themselves, and may be lost
  const numbered = await store.numberEvents(pool, (news) => void outbox.tellNews(news));
  for (const recorded of await store.readDeliveries(pool)) {
    const course = courses.get(recorded.portal);
    if (course === undefined) courses.set(recorded.portal, newCourse(recorded));
    else course.delivery = recorded;
  }
  delivery.erasures = await store.readErasures(pool);
  return numbered;
}

/** Makes one step for a portal. A failure does not delay other portals. */
async function step(delivery: Delivery, course: Course): Promise<void> {
  if (performance.now() < course.restUntil) return;
  const { log, erasures, listening } = delivery;
  const { portal } = course.delivery;
  try {
    const erased = erasures.get(portal);
    if (erased !== undefined) {
      await erase(delivery, course, erased);
      erasures.delete(portal);
    }
    await advance(delivery, course, listening.has(portal));
    if (course.trouble !== undefined) await writeCourse(delivery, course, { wrong: null });
    course.trouble = undefined;
  } catch (error) {
    const trouble = describeError(error);
    if (trouble !== course.trouble)
      log.warn({ portal, error: trouble }, 'events are not delivered');
    // a fault of the portal's account, not of a server that is down
    if (trouble !== course.trouble && /WRONGPASS|NOAUTH|NOPERM/u.test(trouble)) {
      await writeCourse(delivery, course, { wrong: trouble }).catch(() => {});
    }
    course.trouble = trouble;
    course.restUntil = performance.now() + REST_MS;
  }
}

/** How many portals have a delivery in progress, and when there is more to do: in a second at the latest. */
function outlook({ courses, listening }: Delivery): { told: number; nextInMs: number } {
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
