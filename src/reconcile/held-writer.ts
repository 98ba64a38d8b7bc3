/** Writer that let go when the lock is lost. */
import { ChamberlainError } from '../shared/errors.ts';
import type { Writer } from './engine.ts';
import { type Client, isLost } from '../database/connection.ts';

/**
 * Writer that begin no step once the connection that holds the subject's lock has ended: another may be
 * at the subject by then, or the realm frozen. They throw BACKEND_UNAVAILABLE.
 */
export function whileHeld(writer: Writer, client: Client): Writer {
  return {
    do(action) {
      if (!isLost(client)) return writer.do(action);
      const act = 'keeping the lock of the subject: the connection to PostgreSQL was lost';
      return Promise.reject(new ChamberlainError('BACKEND_UNAVAILABLE', act));
    },
  };
}

/** By subject, the connection that holds its lock while the writer is at work. */
export type Holders = Map<number, Client>;

/**
 * Runs `act` with writer that let go when the lock is lost. Undefined where an earlier run of this process,
 * which has lost its lock, is still in the middle of a step on the subject: two may not be at it.
 */
export async function holding<T>(
  holders: Holders,
  { subject, client, writer }: { subject: number; client: Client; writer: Writer },
  act: (held: Writer) => Promise<T>,
): Promise<T | undefined> {
  if (holders.has(subject)) return undefined;
  holders.set(subject, client);
  try {
    return await act(whileHeld(writer, client));
  } finally {
    holders.delete(subject);
  }
}
