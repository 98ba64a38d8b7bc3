/**
 * The relay puts what is due into the roles' queues, settles requests whose rows are applied, seals the audit, and delivers
 * events.
 *
 * NOTIFY tells it of work. It also looks every second, because notices are lost when a connection breaks. One relay works at
 * a time: the one that has the lease. The lease is renewed only when each of its loops has run.
 */
import type pg from 'pg';
import { sealAudit } from '../audit/audit-seals.ts';
import type { Queues } from '../backends/redis/queue.ts';
import { isLeaseLost, openPool, type Pool } from '../database/connection.ts';
import { type Leased, untilAborted } from '../database/leased.ts';
import { clearTrouble, writeTrouble } from '../database/troubles-table.ts';
import { MOST_NUMBERED } from '../events/deliveries.ts';
import { deliver, type Delivery, openDelivery, useConfig } from '../events/delivery.ts';
import { doneEvents } from '../events/done.ts';
import { releaseAllLeases, settle } from '../reconcile/relay-queries.ts';
import type { ConfigInUse, Follower } from '../configuration/config-in-use.ts';
import { describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import { type Loop, startLoop } from '../shared/loop.ts';
import { MUCH, openEnqueueing } from './enqueue.ts';
import { noteDone, openRelayMetrics } from './relay-metrics.ts';

const POLL_MS = 1000;
/** Under load a loop runs no more often, and does all that has come since. */
const PAUSE_MS = { settle: 20, seal: 1000, deliver: 50 };
/** Under load a portal's events gather for so long times the portals that are told: a job costs the same with few events. */
const GATHER_MS = 15;

export interface RelayTerms {
  inUse: ConfigInUse;
  log: Log;
  queues: Queues;
}

/** Works as long as it has the lease. */
export async function relay(leased: Leased, { inUse, log, queues }: RelayTerms): Promise<void> {
  const config = inUse.current();
  const { client, epoch, held } = leased;
  const pool = openPool(config, 'relay', { max: 4, durable: false, epoch });
  const metrics = openRelayMetrics(config, log);
  const startOne = openLoops(leased, log);
  const settling = openSettling(
    inUse.follow(() => loops.settle.wake()),
    pool,
  );
  const enqueueing = openEnqueueing(pool, queues);
  // what was kept of portals belongs to the time under the lease
  const delivery = openDelivery(config, log, pool);
  const delivering = openDelivering(
    inUse.follow(() => loops.deliver.wake()),
    delivery,
  );
  const loops = {
    settle: startOne('settle', () => settling.run()),
    seal: startOne('seal', () => sealAudit(pool).then(() => PAUSE_MS.seal)),
    enqueue: startOne('enqueue', (loop) => enqueueing.run(loop)),
    deliver: startOne('deliver', (loop) => delivering.run(loop)),
  };
  client.on('notification', ({ payload = '' }: pg.Notification) => {
    if (payload === 'events') {
      delivering.tell();
      loops.deliver.wake();
    } else if (payload === 'due') loops.enqueue.wake();
    else if (payload.startsWith('applied ')) {
      settling.add(Number(payload.slice('applied '.length)));
      loops.settle.wake();
      if (enqueueing.isFull()) loops.enqueue.wake(); // there is room now
    }
  });
  // notices may have been lost
  const pulse = setInterval(() => {
    settling.addAll();
    loops.settle.wake();
    void lookAtRedis(pool, queues).catch(() => {}); // it is looked at again
  }, POLL_MS * 5);
  try {
    await client.query('LISTEN chamberlain');
    void queues.settingsToMend().then(
      (sentences) => sentences.forEach((sentence) => log.warn(sentence)),
      () => {}, // Redis may be away, or forbid it
    );
    await releaseAllLeases(pool);
    for (const loop of Object.values(loops)) loop.wake();
    await untilAborted(held.signal);
  } finally {
    clearInterval(pulse);
    metrics.close();
    settling.close();
    delivering.close();
    await Promise.all(Object.values(loops).map((loop) => loop.close()));
    await Promise.all([delivery.outbox.close(), pool.end()]);
  }
}

/** Starts loops that renew the lease together: when each of them has run since it was last renewed. */
function openLoops({ held, progress, waits }: Leased, log: Log) {
  const ran = new Set<string>();
  let count = 0;
  return (name: string, run: (loop: Loop) => Promise<number>): Loop => {
    count += 1;
    const loop = startLoop(name, { everyMs: POLL_MS, log }, async () => {
      waits(); // each loop says for itself whether it hangs
      const restMs = await run(loop).catch((error: unknown) => {
        if (isLeaseLost(error)) held.abort();
        throw error;
      });
      ran.add(name);
      if (ran.size === count) {
        ran.clear();
        await progress();
      }
      return restMs;
    });
    return loop;
  };
}

/** Settles the requests of subjects whose rows are applied; of all subjects where notices may have been lost. */
function openSettling(following: Follower, pool: Pool) {
  const touched = new Set<number>();
  let all = true;
  return {
    add: (subject: number) => void touched.add(subject),
    addAll: () => void (all = true),
    close: () => following.close(),
    async run(): Promise<number> {
      const config = following.take();
      const subjects = all ? undefined : [...touched];
      all = false;
      touched.clear();
      try {
        if (subjects === undefined || subjects.length > 0) {
          noteDone(await settle(pool, (done) => doneEvents(config, done), subjects));
        }
      } catch (error) {
        all = true;
        throw error;
      }
      return (subjects?.length ?? 0) >= MUCH ? PAUSE_MS.settle : 0;
    },
  };
}

/** Delivers events: PostgreSQL is asked for new ones after a notice, and every second. */
function openDelivering(following: Follower, delivery: Delivery) {
  let told = true;
  let askedAt = 0;
  return {
    tell: () => void (told = true),
    close: () => following.close(),
    async run(loop: Loop): Promise<number> {
      useConfig(delivery, following.take());
      const fresh = told || performance.now() - askedAt >= POLL_MS;
      if (fresh) [told, askedAt] = [false, performance.now()];
      const { numbered, told: portals, nextInMs } = await deliver(delivery, fresh);
      if (numbered === MOST_NUMBERED) {
        told = true;
        loop.wake();
      }
      loop.wakeIn(nextInMs);
      return numbered >= MUCH ? Math.max(PAUSE_MS.deliver, portals * GATHER_MS) : 0;
    },
  };
}

async function lookAtRedis(pool: Pool, queues: Queues): Promise<void> {
  const of = { role: 'relay', place: 'redis' } as const;
  const sentence = await queues.ping().then(() => undefined, describeError);
  if (sentence === undefined) await clearTrouble(pool, of.role, of.place);
  else await writeTrouble(pool, { ...of, sentence });
}
