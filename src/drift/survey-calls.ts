/**
 * Surveys asked for through PostgreSQL alone, for who waits a tenth of a second at most: the row is
 * written and every role told in one statement, and no queue stands between. A call that nobody hears
 * is lost, and whoever asked sees no answer.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import type { Pool } from '../database/connection.ts';

/** The channel on which every role hears the id of a survey that it is to answer. */
export const SURVEY_CALLS = 'chamberlain_surveys';

/** How soon a listener that has lost its connection tries again. */
const AGAIN_MS = 500;
/** How often it asks anew: only by that it learns that nobody is there any more. */
const PULSE_MS = 5000;
const LISTEN = { text: `LISTEN ${SURVEY_CALLS}`, query_timeout: 3000 };

export interface Calls {
  close(): Promise<void>;
}

/** Hears calls on a connection of its own, like those of the pool, until it is closed. */
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
        // closing, or lost: then once more
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
