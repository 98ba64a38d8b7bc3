/**
 * Work that only one process at a time does: the one that has the lease of that work.
 *
 * | the leader                                  | another process has the lease after                       |
 * | ------------------------------------------- | --------------------------------------------------------- |
 * | ends, or is killed: its session ends        | half a second                                             |
 * | hangs, makes no progress, or is cut off     | 10 s without progress (unmanaged things: 90 s)            |
 * | does so in the middle of a transaction      | the same; PostgreSQL ends the transaction after 5 s idle  |
 * | does so, and PostgreSQL's clock goes back   | twice as long at most                                     |
 * | hangs, and wakes up again                   | PostgreSQL refuses what it writes, and it gives up        |
 *
 * What such a leader still adds to Redis does no harm: jobs of roles name subjects, never what to do, and may
 * be doubled; a verdict is reported as it is in PostgreSQL; and a portal's job is identified by its id, which
 * PostgreSQL knows.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../shared/config.ts';
import { describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import { noteLeads, notePostgres } from '../shared/metrics.ts';
import { openNews } from '../shared/news.ts';
import { type Lease, openLease, type PostgresRole, renewLease } from './connection.ts';
import type { Worker } from '../shared/loop.ts';
import { openProgress } from '../shared/progress.ts';

/** How soon the lease is asked for again. */
const AGAIN_MS = 500;
/** It is renewed at most this often. */
const RENEW_MS = 1000;

/** A lease as the work under it sees it. */
export interface Leased extends Lease {
  /** aborts when the lease is lost, or the worker is closed: the work then ends. The work may abort it, too */
  held: AbortController;
  /**
   * Records that the work has made progress: only this renews the lease. Not within a transaction. Never
   * throws.
   */
  progress: () => Promise<void>;
  /** Records that the work does not hang, without a renewal: it waits for a server that is away. */
  waits: () => void;
}

/**
 * Does `work` whenever it has the lease of that role, until it is closed.
 *
 * @param options.mayWait whether the work may wait for something as long as it takes, and so is not known to hang
 */
export function startLeased(
  options: { config: Config; role: PostgresRole; log: Log; mayWait?: boolean },
  work: (leased: Leased) => Promise<void>,
): Worker {
  const { config, role, log, mayWait = false } = options;
  const own = openProgress(role);
  const waits = () => own.made(mayWait ? Infinity : undefined);
  const closing = new AbortController();
  const failures = openNews<string>();
  noteLeads(role, false);
  const running = (async () => {
    while (!closing.signal.aborted) {
      own.made();
      try {
        const lease = await openLease(config, role).catch((error: unknown) => {
          notePostgres(role, false);
          throw error;
        });
        notePostgres(role, true);
        failures.forget(role);
        if (lease !== undefined) await workUnder(lease);
      } catch (error) {
        const why = describeError(error);
        if (failures.isNew(role, why)) log.warn({ role, error: why }, 'waiting for PostgreSQL');
      }
      await sleep(AGAIN_MS, undefined, { signal: closing.signal }).catch(() => {});
    }
    own.close();
  })();

  async function workUnder(lease: Lease): Promise<void> {
    const { client, epoch } = lease;
    const held = new AbortController();
    const lose = () => held.abort();
    client.on('end', lose);
    client.on('error', lose);
    closing.signal.addEventListener('abort', lose);
    let renewedAt = performance.now();
    async function progress(): Promise<void> {
      waits();
      if (held.signal.aborted || performance.now() - renewedAt < RENEW_MS) return;
      renewedAt = performance.now();
      try {
        await renewLease(lease);
      } catch (error) {
        log.warn({ role, epoch, error: describeError(error) }, 'the lease could not be renewed');
        lose();
      }
    }
    try {
      if (closing.signal.aborted) return;
      log.debug({ role, epoch }, 'took the lease');
      noteLeads(role, true);
      waits();
      await work({ ...lease, held, progress, waits });
    } finally {
      noteLeads(role, false);
      closing.signal.removeEventListener('abort', lose);
      if (!closing.signal.aborted) log.warn({ role, epoch }, 'gave up the lease');
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
