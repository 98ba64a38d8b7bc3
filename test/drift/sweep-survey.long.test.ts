/** How long the sweep waits for a role, and when it asks it again. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openQueues, type Queues } from '../../src/backends/redis/queue.ts';
import type { Report } from '../../src/reconcile/report.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { writeReport } from '../../src/drift/surveys-table.ts';
import { surveyEverything } from '../../src/drift/sweep-survey.ts';
import { openWorld, type World } from '../stack.ts';

const REPORT: Report = { steps: [], findings: [], waiting: [], unreadable: [], subjects: 7 };
/** Far longer than a working role needs between two signs of life, even on a busy machine. */
const PATIENCE = { askAgainMs: 1000, silentMs: 5000, mostPutOff: 3 };
/** How far progress on other surveys extends the wait. */
const MOST_MS = PATIENCE.mostPutOff * PATIENCE.silentMs;

let world: World;
let owner: Pool;
let sweep: Pool;
let queues: Queues;
let redis: Redis;
let queue: Queue;

beforeAll(async () => {
  world = await openWorld('patience', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  sweep = openPool(world.config, 'sweep', { max: 1, durable: false });
  queues = openQueues(world.config, 'sweep');
  redis = new Redis(world.config.redis.url);
  queue = new Queue('homes', { connection: redis });
});
afterAll(async () => {
  await Promise.all([owner, sweep].map((pool) => pool?.end()));
  await queues?.close();
  await queue?.close();
  redis?.disconnect();
  await world?.close();
});

/** A survey that all roles but homes have answered; `move` is repeated until it ends, as by a working role. */
async function waitForHomes(
  move: (survey: string, other: string, done: number) => Promise<unknown>,
): Promise<{ report: Report | undefined; jobs: number; ms: number }> {
  await queue.obliterate({ force: true });
  const [survey, other] = [randomUUID(), randomUUID()];
  await owner.query('INSERT INTO surveys (id) VALUES ($1), ($2)', [survey, other]);
  await writeReport(owner, survey, 'directory', REPORT);
  await writeReport(owner, survey, 'databases', REPORT);
  const ended = new AbortController();
  const moving = (async () => {
    for (let done = 0; !ended.signal.aborted; done += 1) {
      await move(survey, other, done);
      await sleep(50);
    }
  })();
  const start = performance.now();
  try {
    const reports = await withClient(sweep, async (client) => {
      await client.query('LISTEN chamberlain_reports');
      const never = new AbortController().signal;
      return surveyEverything(client, queues, survey, PATIENCE, {
        held: never,
        progress: async () => {},
      });
    });
    const ms = performance.now() - start;
    return { report: reports.get('homes'), jobs: await queue.getWaitingCount(), ms };
  } finally {
    ended.abort();
    await moving;
  }
}

const progress = (survey: string, done: number) =>
  owner.query(
    `INSERT INTO survey_progress (survey, role, done, total) VALUES ($1, 'homes', $2, 100)
     ON CONFLICT (survey, role) DO UPDATE SET done = excluded.done`,
    [survey, done],
  );

test('a role without progress is asked again, and soon counts as silent', async () => {
  const { report, jobs, ms } = await waitForHomes(async () => {});
  expect(report?.unreadable).toMatchObject([
    { target: 'homes', sentence: expect.stringMatching(/^no answer for/) },
  ]);
  expect(jobs).toBeGreaterThan(1);
  expect(ms).toBeLessThan(MOST_MS - 100);
});

test('a role that works on another survey is asked again too, and is waited for longer, but not for ever', async () => {
  const { report, jobs, ms } = await waitForHomes((_, other, done) => progress(other, done));
  expect(report?.unreadable).toHaveLength(1);
  expect(jobs).toBeGreaterThan(5);
  expect(ms).toBeGreaterThan(MOST_MS - 100);
});

test('a role that works on this survey is not asked again, and is waited for as long as it makes progress', async () => {
  const begin = performance.now();
  const { report, jobs } = await waitForHomes(async (survey, _, done) => {
    await progress(survey, done);
    if (performance.now() - begin > 1.2 * MOST_MS)
      await writeReport(owner, survey, 'homes', REPORT);
  });
  expect(report).toEqual(REPORT);
  expect([1, 2]).toContain(jobs); // a machine that stalls may let it look silent once
});
