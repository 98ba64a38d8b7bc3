/** Waits for notices (NOTIFY) on a connection that listens for them. They may be lost, so every wait has an end. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientBase, Notification } from 'pg';

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
