/** Gives the roles what is due, as jobs in their queues. */
import type { Queues } from '../backends/redis/queue.ts';
import type { Pool } from '../database/connection.ts';
import { isFrozen } from '../database/freeze.ts';
import { type DuePart, leaseParts } from '../drift/repairs-table.ts';
import {
  type Due,
  leaseDue,
  readOutlook,
  readSlow,
  releaseAllLeases,
  releaseLeases,
} from '../reconcile/relay-queries.ts';
import { ROLES } from '../roles/index.ts';
import type { Loop } from '../shared/loop.ts';

/** What one run does at least when there is load. */
export const MUCH = 8;
/** Under load it runs no more often, and does all that has come since. */
const PAUSE_MS = 30;
/** The longest wait for the next row that will be due. */
const LONGEST_WAIT_MS = 1000;
/** How often subjects that wait to be archived are looked at for access that is not revoked yet. */
const ACCESS_MS = 5000;

/** Most subjects of one job: one lock, one look and one write serve them all. */
const GROUP = 16;
/** Of what is urgent: more at a time would fill the servers' connections, for which others wait as well. */
const URGENT_GROUP = 8;
/** So many urgent subjects at once are alone still: more, as after a suspension of many, are sooner done together. */
const MOST_ALONE = 4;

export interface Enqueueing {
  /** One run; returns the pause after it, in milliseconds. */
  run(loop: Loop): Promise<number>;
  /** Whether more was due than there was room for. */
  isFull(): boolean;
}

export function openEnqueueing(pool: Pool, queues: Queues): Enqueueing {
  let full = false;
  let wasFrozen = false;
  let accessAt = Number.NEGATIVE_INFINITY;
  return {
    isFull: () => full,
    async run(loop) {
      const due = await leaseDue(pool, ROLES);
      const frozen = due.length === 0 && (await isFrozen(pool));
      if (wasFrozen && !frozen) {
        // the roles dropped the jobs that they had shortly before the freeze; a row that is leased now is doubled
        await releaseAllLeases(pool);
        loop.wake();
      }
      wasFrozen = frozen;
      await add(pool, queues, due);
      if (performance.now() - accessAt >= ACCESS_MS) {
        accessAt = performance.now();
        await addAccessOfSlow(pool, queues);
      }
      // afterwards, so that a repair delays nothing else
      const parts = await leaseParts(pool, ROLES);
      await addParts(queues, parts);
      const { left, nextInMs } = await readOutlook(pool, ROLES);
      full = left;
      if (nextInMs !== undefined) loop.wakeIn(Math.min(nextInMs, LONGEST_WAIT_MS));
      return due.length + parts.length >= MUCH ? PAUSE_MS : 0;
    },
  };
}

/** Gives the leases back if Redis does not take the jobs. */
async function add(pool: Pool, queues: Queues, due: readonly Due[]): Promise<void> {
  try {
    for (const role of ROLES) {
      const [slow = [], prompt = []] = [true, false].map((isSlow) =>
        due.filter((each) => each.role === role && each.slow === isSlow),
      );
      const jobs = groupIntoJobs(prompt);
      if (jobs.length > 0) await queues.addSubjects(role, jobs);
      if (slow.length > 0) {
        await queues.addSlow(
          role,
          slow.map(({ subject }) => subject),
        );
      }
    }
  } catch (error) {
    await releaseLeases(pool, due);
    throw error;
  }
}

/** If Redis does not take the jobs, the parts wait until their leases are over. */
async function addParts(queues: Queues, parts: readonly DuePart[]): Promise<void> {
  for (const [role, of] of Map.groupBy(parts, (part) => part.role)) {
    const { prompt = [], slow = [] } = Object.groupBy(of, (part) =>
      part.slow ? 'slow' : 'prompt',
    );
    const jobs = inGroups(prompt, GROUP).map((subjects) => ({ subjects, repair: true }));
    if (jobs.length > 0) await queues.addSubjects(role, jobs);
    const alone = slow.map(({ subject }) => subject);
    if (alone.length > 0) await queues.addSlow(role, alone, 'slow', { repair: true });
  }
}

/** A subject may wait hours for its archive; its access is revoked meanwhile. Without a lease, since the row stays due. */
async function addAccessOfSlow(pool: Pool, queues: Queues): Promise<void> {
  const waiting = await readSlow(pool, ROLES);
  for (const role of ROLES) {
    const subjects = waiting.filter((each) => each.role === role).map(({ subject }) => subject);
    if (subjects.length > 0) await queues.addSlow(role, subjects, 'urgent');
  }
}

/** What is urgent, and what failed before, has a job of its own; others share one, and so do many that are urgent. */
function groupIntoJobs(due: readonly Due[]) {
  const failing = due.filter((each) => each.failing);
  const urgent = due.filter((each) => each.urgent && !each.failing);
  const others = due.filter((each) => !each.urgent && !each.failing);
  return [
    ...inGroups(urgent, urgent.length > MOST_ALONE ? URGENT_GROUP : 1).map((subjects) => ({
      subjects,
      urgent: true,
    })),
    ...failing.map(({ subject, urgent: isUrgent }) => ({
      subjects: [subject],
      urgent: isUrgent,
      failing: true,
    })),
    ...inGroups(others, GROUP).map((subjects) => ({ subjects })),
  ];
}

function inGroups(due: readonly { subject: number }[], size: number): number[][] {
  const subjects = due.map(({ subject }) => subject);
  return Array.from({ length: Math.ceil(subjects.length / size) }, (_, index) =>
    subjects.slice(index * size, (index + 1) * size),
  );
}
