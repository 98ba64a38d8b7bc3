/** The process that gives verdicts. */
import { startLeased } from '../src/database/leased.ts';
import { openFailures } from '../src/intake/failures.ts';
import { takeIn } from '../src/intake/intake.ts';
import type { ConfigInUse } from '../src/configuration/config-in-use.ts';
import type { Log } from '../src/shared/log.ts';
import type { Worker } from '../src/shared/loop.ts';

/** @param clock what time it is: for verdicts and for the calendar */
export function startIntake(
  inUse: ConfigInUse,
  log: Log,
  clock: () => Date = () => new Date(),
): Worker {
  const terms = { inUse, log, clock, failures: openFailures() };
  return startLeased({ config: inUse.current(), role: 'intake', log }, (leased) =>
    takeIn(leased, terms),
  );
}
