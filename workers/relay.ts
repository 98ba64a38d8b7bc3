/** The process that puts what is due into the roles' queues, and delivers events. */
import { openQueues } from '../src/backends/redis/queue.ts';
import { startLeased } from '../src/database/leased.ts';
import { relay } from '../src/relay/relay.ts';
import type { ConfigInUse } from '../src/configuration/config-in-use.ts';
import type { Log } from '../src/shared/log.ts';
import type { Worker } from '../src/shared/loop.ts';

export function startRelay(inUse: ConfigInUse, log: Log): Worker {
  const config = inUse.current();
  const queues = openQueues(config, 'relay');
  const worker = startLeased({ config, role: 'relay', log }, (leased) =>
    relay(leased, { inUse, log, queues }),
  );
  return {
    async close() {
      await worker.close();
      await queues.close();
    },
  };
}
