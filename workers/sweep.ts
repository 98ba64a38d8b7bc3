/** The process that sweeps. */
import { openQueues } from '../src/backends/redis/queue.ts';
import { startLeased } from '../src/database/leased.ts';
import { sweepOn } from '../src/drift/sweep.ts';
import type { SweepPatience } from '../src/drift/sweep-survey.ts';
import type { ConfigInUse } from '../src/configuration/config-in-use.ts';
import type { Log } from '../src/shared/log.ts';
import type { Worker } from '../src/shared/loop.ts';

/** A role may be busy with a long survey for an admin; then it says how far it is. */
const PATIENCE: SweepPatience = { askAgainMs: 20_000, silentMs: 120_000 };

export function startSweep(inUse: ConfigInUse, log: Log, patience = PATIENCE): Worker {
  const config = inUse.current();
  const queues = openQueues(config, 'sweep');
  const worker = startLeased({ config, role: 'sweep', log }, (leased) =>
    sweepOn(leased, { inUse, log, queues, patience }),
  );
  return {
    async close() {
      await worker.close();
      await queues.close();
    },
  };
}
