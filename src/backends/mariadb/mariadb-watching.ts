/** Ends work that takes hours as soon as it is known to be useless. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type DatabaseLogin,
  type DatabaseServerPlace,
  openServers,
} from './mariadb-connections.ts';
import { unlessAborted } from '../../shared/unless-aborted.ts';

/** How often the checks are repeated. */
const ASK_EVERY_MS = 2_000;
/** A server must have failed to answer this many times in a row: each failure takes its own time-out. */
const MOST_SILENT = 3;

/**
 * Does work while each of the checks holds: each is called at the beginning, and then repeatedly, independently
 * of the others. A check that throws aborts the signal that the work receives; so does `closing`.
 */
export async function whileTrue<T>(
  checks: readonly (() => Promise<void>)[],
  closing: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const done = new AbortController();
  await unlessAborted(Promise.all(checks.map((check) => check())), closing);
  const keepAsking = async (check: () => Promise<void>) => {
    while (!done.signal.aborted) {
      await sleep(ASK_EVERY_MS, undefined, { signal: done.signal, ref: false }).catch(() => {});
      if (!done.signal.aborted) await check();
    }
  };
  for (const check of checks) {
    keepAsking(check).catch((error: unknown) => over.abort(error));
  }
  try {
    return await work(AbortSignal.any([over.signal, closing]));
  } finally {
    done.abort();
  }
}

/** A check that fails if a server hangs: nothing else ends a statement that may take hours. */
export function watchServers(
  places: readonly DatabaseServerPlace[],
  login: DatabaseLogin,
): () => Promise<void> {
  const silent = new Map<string, number>();
  return async () => {
    const servers = openServers(places, login, 1);
    try {
      await Promise.all(
        places.map(async ({ name }) => {
          try {
            await servers.use(name, (connection) => connection.query('SELECT 1'));
            silent.delete(name);
          } catch (error) {
            const count = (silent.get(name) ?? 0) + 1;
            silent.set(name, count);
            if (count >= MOST_SILENT) throw error;
          }
        }),
      );
    } finally {
      await servers.close();
    }
  };
}
