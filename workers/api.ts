/** The process that serves the HTTP API. */
import { openCallCounts } from '../src/backends/redis/call-counts.ts';
import { openEventInbox } from '../src/backends/redis/event-inbox.ts';
import { openQueues } from '../src/backends/redis/queue.ts';
import { openPool } from '../src/database/connection.ts';
import { gatherReads } from '../src/database/gathering.ts';
import { listenAt } from '../src/api/listening.ts';
import { openOutcomes } from '../src/api/outcomes.ts';
import { ROUTES } from '../src/api/routes/index.ts';
import { makeServer } from '../src/api/server.ts';
import type { ConfigInUse } from '../src/configuration/config-in-use.ts';
import { ChamberlainError } from '../src/shared/errors.ts';
import type { Log } from '../src/shared/log.ts';
import type { Worker } from '../src/shared/loop.ts';

/** Calls that read at the same time; more wait for each other. */
const MOST_CONNECTIONS = 8;

/** @returns also the port; undefined for a unix socket */
export async function startApi(
  inUse: ConfigInUse,
  log: Log,
  now: () => Date = () => new Date(),
): Promise<Worker & { port: number | undefined }> {
  const config = inUse.current();
  if (config.api === undefined) {
    throw new ChamberlainError('CONFIG_INVALID', 'starting the API', {
      cause: new Error('the configuration has no section `api`'),
      action: 'Add it: see docs/api.md. An empty one, `api: {}`, has every default.',
    });
  }
  const pool = openPool(config, 'api', { max: MOST_CONNECTIONS, durable: false });
  const [queues, counts] = [openQueues(config, 'api'), openCallCounts(config)];
  const outcomes = openOutcomes(pool);
  const events = openEventInbox(config);
  const close = async () => {
    counts.close();
    await Promise.all([outcomes.close(), queues.close(), events.close(), pool.end()]);
  };
  try {
    const gathered = gatherReads(pool);
    const api = { inUse, pool, gathered, queues, outcomes, events, log, now };
    const server = await makeServer(api, config.api, ROUTES, counts);
    const port = await listenAt(server, config.api.listen);
    log.info({ listen: config.api.listen, port }, 'serving the API');
    return {
      port,
      async close() {
        await server.close();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}
