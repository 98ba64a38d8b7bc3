/** What takes hours is given up as soon as it is known to be for nothing. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type DatabaseLogin,
  type DatabaseServerPlace,
  openServers,
} from './mariadb-connections.ts';
import { unlessAborted } from '../../shared/unless-aborted.ts';

/** How often it is asked whether work is to go on. */
const ASK_EVERY_MS = 2_000;
/** So often, one after another, a server must not have answered: each takes its own time-out. */
const MOST_SILENT = 3;

/**
 * Does work while each of the checks holds: each is asked at the beginning, and then every so often, by
 * itself. One that throws aborts the signal that the work is given; so does `closing`.
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

/** A check that fails where a server hangs: nothing else ends a statement that may take hours. */
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
