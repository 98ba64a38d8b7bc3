/**
 * Calls surveys through PostgreSQL alone, for callers that wait a tenth of a second at most: one statement writes
 * the row and notifies every role, without a queue. A call that no role hears is lost, and the caller sees no answer.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import type { Pool } from '../database/connection.ts';

/** The channel on which every role receives the ids of surveys to answer. */
export const SURVEY_CALLS = 'chamberlain_surveys';

/** How long a listener that has lost its connection waits before it tries again. */
const AGAIN_MS = 500;
/** How often it repeats LISTEN, which is the only way to learn that the server is gone. */
const PULSE_MS = 5000;
const LISTEN = { text: `LISTEN ${SURVEY_CALLS}`, query_timeout: 3000 };

export interface Calls {
  close(): Promise<void>;
}

/** Listens for calls until it is closed, on a connection of its own with the settings of the pool. */
export function hearCalls(pool: Pool, onCall: (survey: string) => void): Calls {
  const closing = new AbortController();
  const hearing = (async () => {
    while (!closing.signal.aborted) {
      const client = new Client(pool.options);
      const ended = new AbortController();
      client.once('end', () => ended.abort());
      client.on('error', () => {}); // its end follows
      client.on('notification', ({ payload = '' }) => onCall(payload));
      try {
        await client.connect();
        const signal = AbortSignal.any([closing.signal, ended.signal]);
        for (;;) {
          await client.query(LISTEN);
          await sleep(PULSE_MS, undefined, { signal });
        }
      } catch {
        // closing; or the connection was lost, and is opened again
      }
      await client.end().catch(() => {});
      await sleep(AGAIN_MS, undefined, { signal: closing.signal }).catch(() => {});
    }
  })();
  return {
    async close() {
      closing.abort();
      await hearing;
    },
  };
}
