/** While Redis does not serve a queue, its worker fails several times a second: that is told once, and its end once. */
import type { Redis } from 'ioredis';

/** Redis serves a queue again when nothing has failed for this long. */
const QUIET_MS = 2000;

export interface Outage {
  /** Takes an error of the worker that no job has caused. */
  note: (error: unknown) => void;
  close(): void;
}

/** @param redis a connection of the queue's worker, whose commands wait until Redis answers */
export function openOutage(
  redis: Redis,
  { queue, tell }: { queue: string; tell: (sentence: string, error?: unknown) => void },
): Outage {
  let failedAt: number | undefined;
  let looking: NodeJS.Timeout | undefined;
  let closed = false;
  const look = async (): Promise<void> => {
    await redis.ping();
    if (closed || failedAt === undefined) return;
    const quietMs = performance.now() - failedAt;
    if (quietMs >= QUIET_MS) {
      failedAt = undefined;
      tell(`Redis serves the queue ${queue} again`);
    } else lookIn(QUIET_MS - quietMs);
  };
  const lookIn = (ms: number): void => {
    if (closed) return;
    // a failure of this look is one of the connection, which the worker reports
    looking = setTimeout(() => void look().catch(() => lookIn(QUIET_MS)), ms);
  };
  return {
    note(error) {
      if (closed) return;
      const isBegin = failedAt === undefined;
      if (isOfJob(error)) {
        if (isBegin) tell('a job lost its lock, and is done again', error);
        return;
      }
      failedAt = performance.now();
      if (!isBegin) return;
      const { name } = error as Error;
      const what = name === 'ReplyError' ? 'Redis refuses commands' : 'Redis cannot be reached';
      tell(`${what}; the queue ${queue} waits`, error);
      lookIn(QUIET_MS);
    },
    close() {
      closed = true;
      clearTimeout(looking);
    },
  };
}

/** Whether BullMQ says that a job is not locked any more, as when Redis came back without its data. */
function isOfJob(error: unknown): boolean {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return typeof code === 'number' || String(message).startsWith('could not renew lock');
}
