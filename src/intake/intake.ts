/**
 * Intake gives requests their verdicts, one after another: the portals by turns, and the requests that take access away
 * before the others of their portal.
 *
 * One intake works at a time in all processes: the one that has the lease, on the very connection that it writes with.
 * Requests that wait at the same time are decided in one transaction, so that they wait for the disk together; each
 * portal is told after COMMIT. If PostgreSQL is lost, the jobs in hand go back into their queue, and nothing is taken
 * until the lease is held again. While Redis is away the lease is not renewed: another process may reach it.
 *
 * An invalid job (one that is not a request signed by the portal in whose queue it lies) costs a look and a check of
 * its signature. It is counted by portal and code, and nothing of it is kept.
 *
 * Between batches intake makes the moves of the calendar that are due (src/lifecycle/calendar.ts), on the same
 * connection, and never beside a batch.
 *
 * While the realm is frozen no request is taken, and those in hand go back. Each transaction of verdicts looks under the
 * row that says so. A thaw is announced by NOTIFY.
 */
import type pg from 'pg';
import { putBackRequests, untilSomething } from '../backends/redis/request-inbox.ts';
import {
  changePortals,
  closeInbox,
  openInbox,
  tidyInbox,
} from '../backends/redis/request-queues.ts';
import { confirmLease, transact } from '../database/connection.ts';
import { isFrozen } from '../database/freeze.ts';
import type { Leased } from '../database/leased.ts';
import { hearNotices } from '../database/notices.ts';
import { syncRanges } from '../identity/id-allocation-table.ts';
import { hostCalendar } from '../lifecycle/calendar-runs.ts';
import {
  decideBatch,
  decideChecks,
  freeze,
  type Intaking,
  takeJobs,
  tidy,
  TIDY_MS,
} from './batch.ts';
import type { Follower } from '../configuration/config-in-use.ts';
import { noteListedPortals, removeReplacedPortals } from '../requests/portals-table.ts';
import { type Config, queuesOf } from '../shared/config.ts';
import { openNews } from '../shared/news.ts';
import { openIntakeMetrics } from './intake-metrics.ts';

/** Notices of a thaw are lost when a connection breaks, so intake also looks this often. */
const LOOK_THAWED_MS = 500;

export type IntakeTerms = Pick<Intaking, 'inUse' | 'log' | 'clock' | 'failures'>;

/** Takes requests in whenever the realm is not frozen, as long as the lease is held. */
export async function takeIn(leased: Leased, terms: IntakeTerms): Promise<void> {
  const { client, held } = leased;
  const metrics = openIntakeMetrics(terms.inUse, terms.log);
  let tidiedAt = performance.now();
  try {
    while (!held.signal.aborted) {
      if (!(await isFrozen(client))) {
        await takeInThawed(leased, terms);
        continue;
      }
      if (performance.now() - tidiedAt >= TIDY_MS) {
        tidiedAt = performance.now();
        await tidyFrozen(terms);
      }
      await leased.progress();
      await untilNotice(client, held.signal);
    }
  } finally {
    metrics.close();
  }
}

/** Works until the realm is frozen, or the lease ends. */
async function takeInThawed(leased: Leased, terms: IntakeTerms): Promise<void> {
  const { client, held, progress, waits } = leased;
  const frozen = new AbortController();
  const following = terms.inUse.follow(() => of.woken.abort());
  const config = following.take();
  const of: Intaking = {
    ...{ ...terms, config, client, held, frozen },
    stop: AbortSignal.any([held.signal, frozen.signal]),
    inbox: openPortals(config),
    calendar: hostCalendar({ ...terms, client }, () => of.woken.abort()),
    woken: new AbortController(),
    said: openNews(),
    since: performance.now(),
    ...{ countedAt: 0, tidiedAt: 0, hasFailed: false, isAllTaken: false },
  };
  const { stop, inbox, calendar } = of;
  try {
    await syncRanges(client, config);
    await noteListed(client, config);
    while (!stop.aborted) {
      of.woken = new AbortController();
      await takeConfig(of, following);
      const taken = await takeJobs(of);
      const jobs = taken ?? [];
      const requests = jobs.filter(({ job }) => job.signed.claims.check === undefined);
      if (await decideBatch(of, requests)) await decideChecks(of, jobs);
      if (calendar.isDue() && !stop.aborted && !(await calendar.turn(of.config, of.isAllTaken)))
        freeze(of);
      await tidy(of);
      if (taken === undefined) waits();
      else await progress();
      if (jobs.length > 0 || calendar.isDue() || stop.aborted) continue;
      await untilSomething(inbox, AbortSignal.any([stop, of.woken.signal]));
    }
  } finally {
    following.close();
    calendar.close();
    // a batch that failed lets the others pass
    await confirmLease(client)
      .then(() => putBackRequests(inbox, of.hasFailed ? 'last' : 'first'))
      .catch(() => {});
    await closeInbox(inbox);
  }
}

/** Before anything is decided by the configuration. */
const noteListed = (client: pg.Client, config: Config): Promise<void> =>
  transact(client, async () => {
    await noteListedPortals(client, config);
    await removeReplacedPortals(client, config);
  });

/** Takes nothing, but forgets what ended as ever, so that no queue becomes too long. */
async function tidyFrozen(terms: IntakeTerms): Promise<void> {
  const inbox = openPortals(terms.inUse.current());
  await tidyInbox(inbox).catch(() => {});
  await closeInbox(inbox);
}

function openPortals(config: Config) {
  return openInbox(config, queuesOf(config));
}

/** Takes the configuration for the next turn. What the last one has left undecided goes back into its queue first. */
async function takeConfig(of: Intaking, following: Follower): Promise<void> {
  const config = following.take();
  if (config === of.config) return;
  await noteListed(of.client, config);
  of.config = config;
  // where Redis does not answer, the next look puts it back
  await putBackRequests(of.inbox, 'first').catch(() => {});
  await changePortals(of.inbox, config, queuesOf(config));
}

/**
 * Returns when PostgreSQL says that something is due, as a thaw does; or soon anyway. Thawed, only the calendar
 * listens, while it waits for a role.
 */
async function untilNotice(client: pg.Client, signal: AbortSignal): Promise<void> {
  const notices = hearNotices(client);
  await client.query('LISTEN chamberlain');
  await notices.wait(LOOK_THAWED_MS, signal);
  notices.close();
  await client.query('UNLISTEN chamberlain');
}
