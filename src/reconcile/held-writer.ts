/** A writer that lets go when the lock of its subject is lost. */
import { ChamberlainError } from '../shared/errors.ts';
import type { Writer } from './engine.ts';
import { type Client, isLost } from '../database/connection.ts';

/** By subject, the connection that holds its lock while the writer is at work. */
export type Holders = Map<number, Client>;

/**
 * Runs `act` with a writer that begins no step once the connection that holds the subject's lock has ended: another
 * process may work on the subject by then, or the realm may be frozen. Such a step throws BACKEND_UNAVAILABLE.
 *
 * @returns undefined if an earlier run of this process, which has lost its lock, is still in the middle of a step on
 *   the subject: two runs must not work on it
 */
export async function whileHeld<T>(
  holders: Holders,
  { subject, client, writer }: { subject: number; client: Client; writer: Writer },
  act: (held: Writer) => Promise<T>,
): Promise<T | undefined> {
  if (holders.has(subject)) return undefined;
  holders.set(subject, client);
  try {
    return await act({
      do(action) {
        if (!isLost(client)) return writer.do(action);
        const lost = 'keeping the lock of the subject: the connection to PostgreSQL was lost';
        return Promise.reject(new ChamberlainError('BACKEND_UNAVAILABLE', lost));
      },
    });
  } finally {
    holders.delete(subject);
  }
}

/** Waits until all have ended, then throws the first failure: nothing works under the locks when they are let go. */
export async function untilAllEnd<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const ended = await Promise.allSettled(work);
  return ended.map((each) => {
    if (each.status === 'rejected') throw each.reason;
    return each.value;
  });
}
