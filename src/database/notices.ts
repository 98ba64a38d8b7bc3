/** Waits for notices (NOTIFY) on a connection that listens for them. They may be lost, so every wait has an end. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, type ClientBase, type Notification } from 'pg';
import type { Pool } from './connection.ts';

export interface Notices {
  /** Returns when a notice has come since the last wait, after that time, or when the signal aborts. */
  wait(ms: number, signal?: AbortSignal): Promise<void>;
  close(): void;
}

/** Hears notices from now on: those that are meant. */
export function hearNotices(
  client: ClientBase,
  isMeant: (notice: Notification) => boolean = () => true,
): Notices {
  let woken = new AbortController();
  const onNotice = (notice: Notification) => {
    if (isMeant(notice)) woken.abort();
  };
  client.on('notification', onNotice);
  return {
    async wait(ms, signal) {
      const either = AbortSignal.any([woken.signal, ...(signal ? [signal] : [])]);
      await sleep(ms, undefined, { signal: either }).catch(() => {});
      woken = new AbortController();
    },
    close: () => void client.removeListener('notification', onNotice),
  };
}

/** How long a listener that has lost its connection waits before it tries again. */
const AGAIN_MS = 500;
/** How often it repeats LISTEN, which is the only way to learn that the server is gone. */
const PULSE_MS = 5000;

/** A listener of its own. */
export interface Hearing {
  close(): Promise<void>;
}

/** Listens to a channel until it is closed, on a connection of its own with the settings of the pool. */
export function hearChannel(
  pool: Pool,
  channel: string,
  onNotice: (payload: string) => void,
): Hearing {
  const closing = new AbortController();
  const listen = { text: `LISTEN ${channel}`, query_timeout: 3000 };
  const hearing = (async () => {
    while (!closing.signal.aborted) {
      const client = new Client(pool.options);
      const ended = new AbortController();
      client.once('end', () => ended.abort());
      client.on('error', () => {}); // its end follows
      client.on('notification', ({ payload = '' }) => onNotice(payload));
      try {
        await client.connect();
        const signal = AbortSignal.any([closing.signal, ended.signal]);
        for (;;) {
          await client.query(listen);
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
