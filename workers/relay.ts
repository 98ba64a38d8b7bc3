/** The process that puts what is due into the roles' queues, and delivers events. */
import { openQueues } from '../src/backends/redis/queue.ts';
import { startLeased } from '../src/database/leased.ts';
import { relay } from '../src/relay/relay.ts';
import type { Config } from '../src/shared/config.ts';
import type { Log } from '../src/shared/log.ts';
import type { Worker } from '../src/shared/loop.ts';

export function startRelay(config: Config, log: Log): Worker {
  const queues = openQueues(config, 'relay');
  const worker = startLeased({ config, role: 'relay', log }, (leased) =>
    relay(leased, { config, log, queues }),
  );
  return {
    async close() {
      await worker.close();
      await queues.close();
    },
  };
}
