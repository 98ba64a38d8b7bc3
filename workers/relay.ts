/**
 * The relay: puts what is due into the roles' queues, derives readiness, and delivers events.
 *
 * It is told of work by NOTIFY, and looks every second besides, for notices are lost when a
 * connection breaks. One relay works at a time: whoever has the lease. Each of its loops must run for it to be renewed.
 */
import type { Config } from '../src/shared/config.ts';
import { openQueues } from '../src/backends/redis/queue.ts';
import { describeError } from '../src/shared/errors.ts';
import type { Log } from '../src/shared/log.ts';
import { ROLES } from '../src/reconcile/wanted.ts';
import { doneEvents } from '../src/events/done.ts';
import { sealAudit } from '../src/audit/audit-seals.ts';
import { isFrozen } from '../src/database/freeze.ts';
import { isLeaseLost, openPool, type Pool } from '../src/database/connection.ts';
import { MOST_NUMBERED } from '../src/events/deliveries.ts';
import * as store from '../src/reconcile/relay-queries.ts';
import { clearTrouble, writeTrouble } from '../src/database/troubles-table.ts';
import { startDelivery } from '../src/events/delivery.ts';
import { type Leased, startLeased, untilAborted } from '../src/database/leased.ts';
import { type Loop, startLoop, type Worker } from '../src/shared/loop.ts';

const POLL_MS = 1000;
/** Under load each loop runs no more often, and does all that has come since. */
const PAUSE_MS = { settle: 20, seal: 1000, enqueue: 30, deliver: 50 };
/** Under load a portal's events gather for so long times the portals that are told: a job costs what it costs. */
const GATHER_MS = 15;
/** What one run does at least when there is load. */
const MUCH = 8;
/** How often those who wait to be put away are looked at for doors that are open. */
const ACCESS_MS = 5000;

export function startRelay(config: Config, log: Log): Worker {
  const queues = openQueues(config, 'relay');
  const worker = startLeased({ config, role: 'relay', log }, relay);

  /** Works as long as it has the lease. */
  async function relay({ client, epoch, held, progress }: Leased): Promise<void> {
    const pool = openPool(config, 'relay', { max: 4, durable: false, epoch });
    /** the loops that have run since the lease was renewed */
    const ran = new Set<string>();
    const loopOf = (name: keyof typeof PAUSE_MS, run: () => Promise<number>): Loop =>
      startLoop(name, { everyMs: POLL_MS, log }, async () => {
        const restMs = await run().catch((error: unknown) => {
          if (isLeaseLost(error)) held.abort();
          throw error;
        });
        ran.add(name);
        if (ran.size === Object.keys(PAUSE_MS).length) {
          ran.clear();
          await progress();
        }
        return restMs;
      });
    const touched = new Set<number>();
    let all = true; // notices may have been missed before
    const settling = loopOf('settle', async () => {
      const subjects = all ? undefined : [...touched];
      all = false;
      touched.clear();
      try {
        if (subjects === undefined || subjects.length > 0) {
          await store.settle(pool, (done) => doneEvents(config, done), subjects);
        }
      } catch (error) {
        all = true;
        throw error;
      }
      return (subjects?.length ?? 0) >= MUCH ? PAUSE_MS.settle : 0;
    });
    const sealing = loopOf('seal', async () => {
      await sealAudit(pool);
      return PAUSE_MS.seal;
    });
    const enqueueing = loopOf('enqueue', () => enqueue(pool, enqueueing));
    // what was kept of portals belongs to the time under the lease
    const delivery = startDelivery(config, log, pool);
    let told = true;
    let askedAt = 0;
    const delivering = loopOf('deliver', async () => {
      const fresh = told || performance.now() - askedAt >= POLL_MS;
      if (fresh) [told, askedAt] = [false, performance.now()];
      const { numbered, told: portals, nextInMs } = await delivery.turn(fresh);
      if (numbered === MOST_NUMBERED) {
        told = true;
        delivering.wake();
      }
      delivering.wakeIn(nextInMs);
      return numbered >= MUCH ? Math.max(PAUSE_MS.deliver, portals * GATHER_MS) : 0;
    });
    const loops = [settling, sealing, enqueueing, delivering];
    client.on('notification', ({ payload = '' }) => {
      if (payload === 'events') {
        told = true;
        delivering.wake();
      } else if (payload === 'due') enqueueing.wake();
      else if (payload.startsWith('applied ')) {
        touched.add(Number(payload.slice('applied '.length)));
        settling.wake();
        if (full) enqueueing.wake(); // there is room now
      }
    });
    // notices may have been missed
    const pulse = setInterval(() => {
      all = true;
      settling.wake();
      void lookAtRedis(pool).catch(() => {}); // it is looked at again
    }, POLL_MS * 5);
    try {
      await client.query('LISTEN chamberlain');
      void queues.settingsToMend().then(
        (sentences) => sentences.forEach((sentence) => log.warn(sentence)),
        () => {}, // Redis may be away, or forbid it
      );
      await store.releaseAllLeases(pool);
      for (const loop of loops) loop.wake();
      await untilAborted(held.signal);
    } finally {
      clearInterval(pulse);
      await Promise.all(loops.map((loop) => loop.close()));
      await Promise.all([delivery.close(), pool.end()]);
    }
  }

  async function lookAtRedis(pool: Pool): Promise<void> {
    const of = { role: 'relay', place: 'redis' } as const;
    const sentence = await queues.ping().then(() => undefined, describeError);
    if (sentence === undefined) await clearTrouble(pool, of.role, of.place);
    else await writeTrouble(pool, { ...of, sentence });
  }

  /** whether more was due than there was room for */
  let full = false;
  let wasFrozen = false;
  async function enqueue(pool: Pool, loop: Loop): Promise<number> {
    const due = await store.leaseDue(pool, ROLES);
    const frozen = due.length === 0 && (await isFrozen(pool));
    if (wasFrozen && !frozen) {
      // what roles were given shortly before the freeze, they have left; what is leased now is doubled
      await store.releaseAllLeases(pool);
      loop.wake();
    }
    wasFrozen = frozen;
    try {
      for (const role of ROLES) {
        const [slow = [], prompt = []] = [true, false].map((isSlow) =>
          due.filter((each) => each.role === role && each.slow === isSlow),
        );
        const jobs = groupIntoJobs(prompt);
        if (jobs.length > 0) await queues.addSubjects(role, jobs);
        if (slow.length > 0) {
          await queues.addSlow(
            role,
            slow.map(({ subject }) => subject),
          );
        }
      }
    } catch (error) {
      await store.releaseLeases(pool, due);
      throw error;
    }
    await enqueueAccessOfSlow(pool);
    const { left, nextInMs } = await store.readOutlook(pool, ROLES);
    full = left;
    if (nextInMs !== undefined) loop.wakeIn(Math.min(nextInMs, POLL_MS));
    return due.length >= MUCH ? PAUSE_MS.enqueue : 0;
  }

  let accessAt = Number.NEGATIVE_INFINITY;
  /** Who waits to be put away, maybe for hours, is shut out meanwhile: without a lease, since the row stays due. */
  async function enqueueAccessOfSlow(pool: Pool): Promise<void> {
    if (performance.now() - accessAt < ACCESS_MS) return;
    accessAt = performance.now();
    const waiting = await store.readSlow(pool, ROLES);
    for (const role of ROLES) {
      const subjects = waiting.filter((each) => each.role === role).map(({ subject }) => subject);
      if (subjects.length > 0) await queues.addSlow(role, subjects, 'urgent');
    }
  }

  return {
    async close() {
      await worker.close();
      await queues.close();
    },
  };
}

/** Most subjects of one job: one lock, one look and one write serve them all. */
const GROUP = 16;
/** Of what is urgent: more at a time would fill the servers' connections, for which others wait as well. */
const URGENT_GROUP = 8;
/** So many urgent subjects at once are alone still: more, as after a suspension of many, are sooner done together. */
const MOST_ALONE = 4;

/** What is urgent, and what failed before, has a job of its own; others share one, and so do many that are urgent. */
function groupIntoJobs(due: readonly store.Due[]) {
  const failing = due.filter((each) => each.failing);
  const urgent = due.filter((each) => each.urgent && !each.failing);
  const others = due.filter((each) => !each.urgent && !each.failing);
  return [
    ...inGroups(urgent, urgent.length > MOST_ALONE ? URGENT_GROUP : 1),
    ...inGroups(failing, 1),
    ...inGroups(others, GROUP),
  ];
}

function inGroups(due: readonly store.Due[], size: number) {
  return Array.from({ length: Math.ceil(due.length / size) }, (_, index) => {
    const group = due.slice(index * size, (index + 1) * size);
    return {
      subjects: group.map(({ subject }) => subject),
      urgent: group.some((each) => each.urgent),
      failing: group.some((each) => each.failing),
    };
  });
}
