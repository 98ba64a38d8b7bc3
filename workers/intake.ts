/**
 * Intake: gives each request its verdict, one at a time, what takes access away first.
 *
 * One intake works at a time, in all processes: whoever holds the lock, on the very connection that
 * it writes with. Where PostgreSQL is lost, jobs in hand go back into the queue, and nothing is
 * taken until the lock is held again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Config } from '../src/config.ts';
import {
  type Consumer,
  PutBack,
  REQUESTS,
  REQUESTS_URGENT,
  startConsumer,
} from '../src/edges/queue.ts';
import { describeError } from '../src/errors.ts';
import type { Log } from '../src/log.ts';
import { giveVerdict, refuseBytes, type Verdict } from '../src/requests/verdict.ts';
import { syncRanges } from '../src/store/ids.ts';
import { INTAKE_LOCK, openLocked, sqlState } from '../src/store/postgres.ts';
import type { Worker } from './loop.ts';

/** So often a job may fail while PostgreSQL answers. */
const MOST_FAILURES = 5;

export function startIntake(config: Config, log: Log): Worker {
  const closing = new AbortController();
  /** in a row, while PostgreSQL answered; the job that is put back is the next to come */
  let failures = 0;
  const running = (async () => {
    while (!closing.signal.aborted) {
      try {
        const client = await openLocked(config, 'intake', INTAKE_LOCK);
        if (client !== undefined) await takeIn(client);
      } catch (error) {
        log.warn({ error: describeError(error) }, 'intake waits for PostgreSQL');
      }
      await sleep(500, undefined, { signal: closing.signal }).catch(() => {});
    }
  })();

  /** Works as long as the locked connection lives. */
  async function takeIn(client: pg.Client): Promise<void> {
    let lose = () => {};
    const lost = new Promise<void>((resolve) => {
      lose = resolve;
      client.on('end', resolve);
      client.on('error', () => resolve());
      closing.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    const oneAtATime = urgentFirst();
    let usable = true;
    const consume = (queue: string, urgentQueue: boolean): Consumer => {
      /**
       * Runs with the connection to itself; a fault puts the job back and ends this run. A job that
       * fails again and again while PostgreSQL answers is the program's own fault, and does not keep
       * the others waiting for ever.
       */
      const run = <T>(bytes: () => string, act: () => Promise<T>): Promise<T | Verdict> =>
        oneAtATime(urgentQueue, async () => {
          if (!usable) throw new PutBack();
          try {
            return await act();
          } catch (error) {
            // neither PostgreSQL's word, nor a connection that is lost
            const own =
              sqlState(error) === undefined &&
              (await client.query('SELECT 1').then(
                () => true,
                () => false,
              ));
            if (own && (failures += 1) > MOST_FAILURES) {
              log.error({ error: describeError(error) }, 'a request is refused: the program fails');
              failures = 0;
              return await refuseBytes(client, bytes(), 'INTERNAL');
            }
            usable = false;
            log.warn({ error: describeError(error) }, 'a request waits');
            lose();
            throw new PutBack();
          }
        });
      return startConsumer({
        url: config.redis.url,
        queue,
        concurrency: 1,
        handle: ({ data }) =>
          run(
            () => JSON.stringify(data),
            async () => {
              const verdict = await giveVerdict(client, config, data, {
                urgentQueue,
                now: new Date(),
              });
              failures = 0;
              return verdict;
            },
          ),
        handleUnreadable: async (bytes) => {
          await run(
            () => bytes,
            () => refuseBytes(client, bytes, 'REQUEST_MALFORMED'),
          );
        },
        onError: (error) =>
          log.warn({ queue, error: describeError(error) }, 'the queue is troubled'),
      });
    };
    const consumers: Consumer[] = [];
    const pulse = setInterval(() => {
      void oneAtATime(true, () => client.query('SELECT 1')).catch(() => lose());
    }, 5000);
    try {
      await syncRanges(client, config);
      consumers.push(consume(REQUESTS_URGENT, true), consume(REQUESTS, false));
      await lost;
    } finally {
      clearInterval(pulse);
      await Promise.all(consumers.map((consumer) => consumer.close(3000)));
      await client.end().catch(() => {});
    }
  }

  return {
    async close() {
      closing.abort();
      await running;
    },
  };
}

/** Runs one thing at a time; of those that wait, the urgent ones first. */
function urgentFirst(): <T>(urgent: boolean, act: () => Promise<T>) => Promise<T> {
  const waiting: { urgent: boolean; start: () => void }[] = [];
  let busy = false;
  const next = () => {
    const at = waiting.findIndex(({ urgent }) => urgent);
    const [first] = waiting.splice(Math.max(at, 0), 1);
    if (first === undefined) busy = false;
    else first.start();
  };
  return async (urgent, act) => {
    if (busy) await new Promise<void>((start) => waiting.push({ urgent, start }));
    busy = true;
    try {
      return await act();
    } finally {
      next();
    }
  };
}
