/**
 * Keeps the configuration of a process up to date: it is read again when a reload is asked for, here by a signal or in
 * PostgreSQL for all processes. After a request about a portal, only what PostgreSQL adds to the file is. A notice may be
 * lost with the connection; the number of the last reload is not.
 *
 * | what                                  | then                                                               |
 * | ------------------------------------- | ------------------------------------------------------------------ |
 * | the file is wrong, or needs a restart | the process goes on with the file that it has, and records why     |
 * | PostgreSQL is away                    | likewise; it reads the configuration when PostgreSQL is back       |
 * | a work is in the middle of a decision | the process says that it uses the new one when the decision is over |
 */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { connectionSettings, type PostgresRole } from '../database/connection.ts';
import { hearNotices } from '../database/notices.ts';
import type { Config } from '../shared/config.ts';
import { codeOf, describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import type { Worker } from '../shared/loop.ts';
import { openNews } from '../shared/news.ts';
import { printable } from '../shared/printable.ts';
import type { ConfigInUse } from './config-in-use.ts';
import { noteConfig, type ProcessConfig } from './configurations-table.ts';
import { digestOfConfig, fixedSettings } from './reloadable.ts';

/** How soon PostgreSQL is asked again when it is away. */
const AGAIN_MS = 500;
/** How often it is asked without a notice. */
const PULSE_MS = 5000;
const MOST_ERROR = 2000;

export interface Reloading extends Worker {
  /** Reads the configuration again, in this process alone. */
  reload(): void;
}

/** What a process says of its configuration, and how it reads it again. */
interface Loading {
  readonly uses: ProcessConfig;
  /** how long it has used it */
  seconds(): number;
  /** Reads what PostgreSQL adds, and with `isWhole` the file too. Throws if PostgreSQL is away. */
  load(client: pg.Client, isWhole: boolean): Promise<void>;
}

function openLoading(inUse: ConfigInUse, works: readonly string[], log: Log): Loading {
  let since = performance.now();
  const uses: ProcessConfig = {
    ...{ works, machine: hostname(), osPid: process.pid, reload: '0', error: null },
    digest: digestOfConfig(inUse.current()),
    fixed: fixedSettings(works, inUse.current()),
  };
  let faultOfFile: string | null = null;

  /** Returns why what was read cannot be used; null: it is in use. */
  async function attempt(reading: Promise<Config>): Promise<string | null> {
    try {
      const digest = digestOfConfig(await reading);
      if (digest !== uses.digest) {
        [uses.digest, since] = [digest, performance.now()];
        log.info({ digest }, 'another configuration is in use');
      }
      return null;
    } catch (error) {
      if (codeOf(error) !== 'CONFIG_INVALID') throw error; // PostgreSQL: it is tried again
      const why = printable(describeError(error)).slice(0, MOST_ERROR);
      log.error({ error: why }, 'the configuration could not be reloaded: nothing changed');
      return why;
    }
  }
  return {
    uses,
    seconds: () => (performance.now() - since) / 1000,
    async load(client, isWhole) {
      if (isWhole) faultOfFile = await attempt(inUse.load(client));
      if (isWhole && faultOfFile === null) {
        uses.error = null;
        return;
      }
      // what requests have changed waits for no file
      const ofRows = await attempt(inUse.loadAdded(client));
      if (ofRows === faultOfFile) faultOfFile = null; // the file was right
      uses.error = ofRows ?? faultOfFile;
    },
  };
}

/** @param works what the process does; the first names the account by which it tells PostgreSQL */
export function startReloading(
  inUse: ConfigInUse,
  { works, log }: { works: readonly string[]; log: Log },
): Reloading {
  const closing = new AbortController();
  let woken = new AbortController();
  // the first time, for what PostgreSQL adds, and because a reload may have been asked for since the file was read
  const asked = { times: 1, done: 0 };
  const loading = openLoading(inUse, works, log);
  const { uses } = loading;
  const failures = openNews<string>();
  /** the reload of the file that was carried out last */
  let reloadOfFile: string | undefined;

  async function listen(client: pg.Client): Promise<void> {
    const notices = hearNotices(client);
    await client.connect();
    await client.query('LISTEN chamberlain_configuration');
    failures.forget('PostgreSQL');
    while (!closing.signal.aborted) {
      const newest = await noteConfig(client, uses, loading.seconds());
      const { times } = asked;
      if (times === asked.done && newest.asked === uses.reload) {
        await notices.wait(PULSE_MS, AbortSignal.any([closing.signal, woken.signal]));
        woken = new AbortController();
        continue;
      }
      await loading.load(client, times > asked.done || newest.askedOfFile !== reloadOfFile);
      reloadOfFile = newest.askedOfFile;
      asked.done = times;
      uses.reload = newest.asked;
    }
  }
  const running = (async () => {
    while (!closing.signal.aborted) {
      let client: pg.Client | undefined;
      try {
        // the secret may not be there yet
        client = new pg.Client(connectionSettings(inUse.current(), works[0] as PostgresRole));
        client.on('error', () => woken.abort());
        await listen(client);
      } catch (error) {
        const why = describeError(error);
        if (failures.isNew('PostgreSQL', why))
          log.warn(
            { error: why },
            'this process cannot tell PostgreSQL which configuration it uses',
          );
        await sleep(AGAIN_MS, undefined, { signal: closing.signal }).catch(() => {});
      }
      await client?.end().catch(() => {});
    }
  })();
  return {
    reload() {
      asked.times += 1;
      woken.abort();
    },
    async close() {
      closing.abort();
      await running;
    },
  };
}
