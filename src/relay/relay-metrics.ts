/** What the relay measures: what is behind, how long requests took, and the events that portals have not taken. */
import { openQueueDepths } from '../backends/redis/queue-depths.ts';
import { slowQueue, urgentQueue } from '../backends/redis/queue.ts';
import {
  readOldestRequest,
  readPortalEvents,
  readRoleTotals,
  type RoleTotal,
} from '../database/overview.ts';
import { openPostgresSource } from '../database/postgres-source.ts';
import type { SettledRequest } from '../reconcile/relay-queries.ts';
import { isArchiving, ROLES } from '../roles/index.ts';
import { adminOfPortal, type Config } from '../shared/config.ts';
import type { Log } from '../shared/log.ts';
import { newGauge, newHistogram, type Reading } from '../shared/metrics.ts';

const requestDone = newHistogram(
  'chamberlain_request_done_seconds',
  'Time from the verdict on a request until everything that it touched was applied, by kind. It includes the wait for an admin.',
  { labelNames: ['kind'], buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600] },
);
const subjects = newGauge(
  'chamberlain_subjects',
  'Subjects by role and state. All but applied are behind; ignored: parked for findings that an admin ignores.',
  ['role', 'state'],
);
const oldestRequest = newGauge(
  'chamberlain_oldest_request_seconds',
  'Age of the oldest accepted request that is not done. 0: all are done.',
);
const undelivered = newGauge(
  'chamberlain_undelivered_events',
  'Events that a portal has not taken. 10001: more than 10000.',
  ['portal'],
);
const silent = newGauge(
  'chamberlain_portal_silent_seconds',
  'For how long a portal has taken no event although some wait. 0: none waits.',
  ['portal'],
);

const STATES: readonly RoleTotal['state'][] = [
  ...(['applied', 'due', 'waiting', 'failing', 'parked'] as const),
  'ignored',
];

/** Notes how long requests took that are done. */
export function noteDone(done: readonly SettledRequest[]): void {
  for (const { kind, seconds } of done) requestDone.observe({ kind }, seconds);
}

/** What only the leader of the relay measures, as long as it leads. */
export function openRelayMetrics(config: Config, log: Log): { close(): void } {
  const queues = ROLES.flatMap((role) => [
    ...[role, urgentQueue(role)],
    ...(isArchiving(role) ? [slowQueue(role)] : []),
  ]);
  const depths = openQueueDepths({ config, work: 'relay', log }, () => queues);
  const tables = openPostgresSource({ config, work: 'relay', log }, async (pool) => {
    const totals = await readRoleTotals(pool);
    const oldest = await readOldestRequest(pool);
    const portals = await readPortalEvents(pool);
    const ageOf = (since: Date | null | undefined): number =>
      since ? Math.max(0, (Date.now() - since.getTime()) / 1000) : 0;
    return [
      ...ROLES.flatMap((role) =>
        STATES.map((state): Reading => {
          const total = totals.find((each) => each.role === role && each.state === state);
          return { gauge: subjects, labels: { role, state }, value: total?.subjects ?? 0 };
        }),
      ),
      { gauge: oldestRequest, value: ageOf(oldest?.at) },
      ...portals
        .filter(({ portal }) => adminOfPortal(portal) === undefined)
        .flatMap(({ portal, outstanding, since }): Reading[] => [
          { gauge: undelivered, labels: { portal }, value: Number(outstanding) },
          { gauge: silent, labels: { portal }, value: ageOf(since) },
        ]),
    ];
  });
  return {
    close() {
      depths.close();
      tables.close();
    },
  };
}
