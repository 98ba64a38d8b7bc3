/** What the sweep measures: the last sweep, unmanaged things, and the heartbeat, whose own role may not run. */
import { openPostgresSource } from '../database/postgres-source.ts';
import { readDoubt } from '../seals/heartbeat-table.ts';
import type { ConfigInUse } from '../configuration/config-in-use.ts';
import type { Log } from '../shared/log.ts';
import { newGauge, type Reading } from '../shared/metrics.ts';
import { countUndecided } from '../unmanaged/unmanaged-table.ts';
import { sweepFault } from './sweep-fault.ts';
import { readLastSweeps } from './sweeps-table.ts';

const sweepEnded = newGauge(
  'chamberlain_sweep_ended_timestamp_seconds',
  'When the last sweep ended. Missing: there was none.',
);
const sweepDrifted = newGauge(
  'chamberlain_sweep_drifted',
  'Subjects that had drifted in the last sweep that has ended.',
);
const sweepHeld = newGauge(
  'chamberlain_sweep_held',
  'Whether an admin must release the sweep, because too much has drifted.',
);
const sweepFaulty = newGauge(
  'chamberlain_sweep_faulty',
  'Whether the last sweep is held, could not read everything, was interrupted, or is too old.',
);
const unmanaged = newGauge(
  'chamberlain_unmanaged_things',
  'Things in managed places that Chamberlain did not make, and that an admin has not decided on, by kind.',
  ['kind'],
);
const heartbeatPublished = newGauge(
  'chamberlain_heartbeat_published_timestamp_seconds',
  'When the heartbeat for login hosts was last published: every 3 s. Missing: never.',
);

/** What only the leader of the sweep measures, as long as it leads. */
export function openSweepMetrics(inUse: ConfigInUse, log: Log): { close(): void } {
  return openPostgresSource({ config: inUse.current(), work: 'sweep', log }, async (pool) => {
    const sweeps = await readLastSweeps(pool);
    const things = await countUndecided(pool);
    const { publishedAt } = await readDoubt(pool);
    const { ended, held } = sweeps;
    const fault = sweepFault(sweeps, inUse.current().sweep, new Date());
    return [
      ...timestamp(sweepEnded, ended?.endedAt),
      ...(ended === undefined ? [] : [{ gauge: sweepDrifted, value: ended.drifted }]),
      { gauge: sweepHeld, value: Number(held !== undefined) },
      { gauge: sweepFaulty, value: Number(fault !== undefined) },
      ...things.map(({ kind, count }) => ({ gauge: unmanaged, labels: { kind }, value: count })),
      ...timestamp(heartbeatPublished, publishedAt),
    ];
  });
}

function timestamp(gauge: Reading['gauge'], at: Date | null | undefined): Reading[] {
  return at ? [{ gauge, value: at.getTime() / 1000 }] : [];
}
