/** What intake measures: the verdicts that it gives, the requests that wait for one, and those that wait for an admin. */
import { openQueueDepths } from '../backends/redis/queue-depths.ts';
import { requestsQueue } from '../backends/redis/queue.ts';
import type { ConfigInUse } from '../configuration/config-in-use.ts';
import { isFrozen } from '../database/freeze.ts';
import { openPostgresSource } from '../database/postgres-source.ts';
import { countOpenAccessRequests } from '../requests/access-requests-table.ts';
import { countOpenApprovals } from '../requests/approvals-table.ts';
import { REQUEST_KINDS } from '../requests/kinds.ts';
import type { Given, SignedJob } from '../requests/verdict.ts';
import type { Log } from '../shared/log.ts';
import { newCounter, newGauge, portalLabel } from '../shared/metrics.ts';

const requests = newCounter(
  'chamberlain_requests_total',
  'Requests that got their verdict, by kind. unknown: there is no such kind.',
  ['kind', 'verdict'],
);
const invalidJobs = newCounter(
  'chamberlain_invalid_jobs_total',
  'Jobs in the queues of requests that are not requests of the portal, or were too many. `chamberlain status` says why.',
  ['portal'],
);
const waitingForAdmin = newGauge(
  'chamberlain_waiting_for_admin',
  'What waits for the decision of an admin: requests for access (access) and for an approval (approval).',
  ['what'],
);
const frozen = newGauge(
  'chamberlain_frozen',
  'Whether the realm is frozen: no request gets a verdict.',
);

/** Counts the verdicts of a batch that is committed. One that was given before is not counted again. */
export function countVerdicts(jobs: readonly SignedJob[], given: readonly Given[]): void {
  for (const [n, { verdict, isRepeated = false }] of given.entries()) {
    if (isRepeated) continue;
    requests.inc({ kind: jobs[n]?.signed.kind ?? 'unknown', verdict: verdict.verdict });
  }
}

/** Counts invalid jobs. */
export function countInvalidJobs(junk: readonly { portal: string; count: number }[]): void {
  for (const { portal, count } of junk) invalidJobs.inc({ portal: portalLabel(portal) }, count);
}

/** What only the leader of intake measures, as long as it leads. */
export function openIntakeMetrics(inUse: ConfigInUse, log: Log): { close(): void } {
  const config = inUse.current();
  // from 0 on: Prometheus does not see the first of a series that begins with 1
  for (const kind of [...REQUEST_KINDS, 'unknown']) {
    for (const verdict of ['accepted', 'refused']) requests.inc({ kind, verdict }, 0);
  }
  countInvalidJobs(config.portals.map(({ name }) => ({ portal: name, count: 0 })));
  const queues = () =>
    inUse
      .current()
      .portals.flatMap(({ name }) => [false, true].map((urgent) => requestsQueue(name, urgent)));
  const depths = openQueueDepths({ config, work: 'intake', log }, queues);
  const tables = openPostgresSource({ config, work: 'intake', log }, async (pool) => [
    {
      ...{ gauge: waitingForAdmin, labels: { what: 'access' } },
      value: await countOpenAccessRequests(pool),
    },
    {
      ...{ gauge: waitingForAdmin, labels: { what: 'approval' } },
      value: await countOpenApprovals(pool),
    },
    { gauge: frozen, value: Number(await isFrozen(pool)) },
  ]);
  return {
    close() {
      depths.close();
      tables.close();
    },
  };
}
