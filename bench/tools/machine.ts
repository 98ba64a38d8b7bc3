/**
 * The floor of one tool: the operations that no chain of this kind can do without, each done alone, one after
 * another. The idle latency is measured against their sum.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { administer } from '../../dev/servers/mariadb.ts';
import { quantile } from './figure.ts';
import { FLOOR_IDS, type MeasuredRealm } from '../realm.ts';
import { accountStatement } from './shapes.ts';

/** One operation, how often it happens for a tool, and what it took each time, in milliseconds. */
interface Part {
  name: string;
  times: number;
  samples: number[];
}

export interface MachineFloor {
  /** of the sums of one sample of each part */
  p50: number;
  p99: number;
  table: string;
}

/** Takes `count` samples of each part. */
export async function measureMachine(realm: MeasuredRealm, count: number): Promise<MachineFloor> {
  const parts: Part[] = [
    {
      name: 'a job through a queue (BullMQ): request, homes, databases, event',
      times: 4,
      samples: await sampleQueue(realm, count),
    },
    {
      name: 'a durable commit of one row (PostgreSQL): verdict, verifier, readiness',
      times: 3,
      samples: await sampleCommit(realm, count),
    },
    {
      name: 'a home with two folders, a file with fsync and rename, an fsync of each parent',
      times: 1,
      samples: await sampleHome(realm, count),
    },
    {
      name: 'an account with its rights on one of two MariaDB servers, the slower',
      times: 1,
      samples: await sampleAccount(realm, count),
    },
  ];
  const sums = Array.from({ length: count }, (_, n) =>
    parts.reduce(
      (sum, { times, samples }) =>
        // the same operation at another moment, not the same sample again
        sum +
        Array.from({ length: times }, (_unused, k) => samples[(n + 7 * k) % count] ?? 0).reduce(
          add,
          0,
        ),
      0,
    ),
  );
  const row = (name: string, samples: readonly number[]) =>
    `${[0.5, 0.99].map((share) => quantile(samples, share).toFixed(1).padStart(8)).join('')}  ${name}`;
  return {
    p50: quantile(sums, 0.5),
    p99: quantile(sums, 0.99),
    table: [
      'The time of the servers and the disk alone, ms:',
      '     p50     p99',
      ...parts.map(({ name, times, samples }) =>
        row(times === 1 ? name : `${times} × ${name}`, samples),
      ),
      row('the sum: the floor', sums),
    ].join('\n'),
  };
}

async function sample(count: number, act: (n: number) => Promise<unknown>): Promise<number[]> {
  const samples: number[] = [];
  for (let n = 0; n < count; n++) {
    const begin = performance.now();
    await act(n);
    samples.push(performance.now() - begin);
  }
  return samples;
}

/** From `Queue.add` to the first line of the handler. */
async function sampleQueue({ config }: MeasuredRealm, count: number): Promise<number[]> {
  const producer = new Redis(config.redis.url);
  const consumer = new Redis(config.redis.url, { maxRetriesPerRequest: null });
  const queue = new Queue('bench', { connection: producer });
  let taken = () => {};
  const worker = new Worker('bench', async () => taken(), { connection: consumer });
  try {
    await worker.waitUntilReady();
    return await sample(count, async () => {
      const arrival = new Promise<void>((resolve) => (taken = resolve));
      await queue.add('bench', { subject: 1 }, { removeOnComplete: true });
      await arrival;
    });
  } finally {
    await worker.close();
    await queue.close();
    producer.disconnect();
    consumer.disconnect();
  }
}

async function sampleCommit(realm: MeasuredRealm, count: number): Promise<number[]> {
  const client = await realm.connect();
  try {
    await client.query('CREATE TABLE IF NOT EXISTS bench_commits (id uuid PRIMARY KEY)');
    return await sample(count, () =>
      client.query({
        name: 'bench',
        text: 'INSERT INTO bench_commits VALUES ($1)',
        values: [randomUUID()],
      }),
    );
  } finally {
    await client.query('DROP TABLE IF EXISTS bench_commits');
    await client.end();
  }
}

async function sampleHome({ config }: MeasuredRealm, count: number): Promise<number[]> {
  const area = join(config.files.root, 'bench');
  await mkdir(area);
  try {
    return await sample(count, async (n) => {
      const home = join(area, String(n));
      for (const folder of [home, join(home, 'public_html'), join(home, 'logs')])
        await mkdir(folder);
      await syncPath(area);
      const file = await open(join(home, 'new'), 'wx');
      await file.writeFile('x'.repeat(80));
      await file.sync();
      await file.close();
      await rename(join(home, 'new'), join(home, 'replica.my.cnf'));
      await syncPath(home);
    });
  } finally {
    await rm(area, { recursive: true });
  }
}

async function syncPath(path: string): Promise<void> {
  const directory = await open(path);
  await directory.sync();
  await directory.close();
}

/** On one server, without the start of the client: the server's own measurement of the statements. */
export async function sampleAccount({ stack }: MeasuredRealm, count: number): Promise<number[]> {
  const statements = Array.from({ length: count }, (_, n) => {
    const user = `s${FLOOR_IDS.first + n}`;
    return `SET @begin = SYSDATE(6);
      ${accountStatement(user, 'toolsdb', `*${'0123456789'.repeat(4)}`)}
      SELECT TIMESTAMPDIFF(MICROSECOND, @begin, SYSDATE(6)); DROP USER '${user}'@'%';`;
  });
  const answer = await administer(stack.tools.socket, statements.join('\n'));
  return answer
    .trim()
    .split('\n')
    .map((line) => Number(line) / 1000);
}

function add(a: number, b: number): number {
  return a + b;
}
