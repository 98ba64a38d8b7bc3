/** Work that one process at a time does, as long as its connection holds the lock of that work. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Config } from '../src/config.ts';
import { describeError } from '../src/errors.ts';
import type { Log } from '../src/log.ts';
import { openLocked, type PostgresRole } from '../src/store/postgres.ts';
import type { Worker } from './loop.ts';

/** How soon the lock is asked for again. */
const AGAIN_MS = 500;

/**
 * Does `work` whenever the lock is held, until it is closed. `held` aborts when the connection is
 * lost, or when it is closed; `work` then ends. It may give the lock up itself by aborting it.
 */
export function startLocked(
  { config, role, lock, log }: { config: Config; role: PostgresRole; lock: number; log: Log },
  work: (client: pg.Client, held: AbortController) => Promise<void>,
): Worker {
  const closing = new AbortController();
  const running = (async () => {
    while (!closing.signal.aborted) {
      try {
        const client = await openLocked(config, role, lock);
        if (client !== undefined) await workWith(client);
      } catch (error) {
        log.warn({ role, error: describeError(error) }, 'waits for PostgreSQL');
      }
      await sleep(AGAIN_MS, undefined, { signal: closing.signal }).catch(() => {});
    }
  })();

  async function workWith(client: pg.Client): Promise<void> {
    const held = new AbortController();
    const lose = () => held.abort();
    client.on('end', lose);
    client.on('error', lose);
    closing.signal.addEventListener('abort', lose);
    try {
      if (closing.signal.aborted) return;
      await work(client, held);
    } finally {
      closing.signal.removeEventListener('abort', lose);
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

/** Returns when the signal is aborted. */
export async function untilAborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}
