/**
 * Where the time of one tool goes, seen from outside: by NOTIFY of PostgreSQL, the event streams that BullMQ
 * keeps in Redis (whole milliseconds), and timestamps in our tables (the moment at which the transaction began
 * that wrote them).
 */
import { Redis } from 'ioredis';
import type pg from 'pg';
import { mean, now, quantile } from './figure.ts';
import type { Heard } from '../portal.ts';
import type { MeasuredRealm } from '../realm.ts';

/** One tool that was requested without other load. */
export interface AskedTool {
  jti: string;
  askedAt: number;
  ready: Heard;
}

/** The chain that the last event waits for, in order; each step is named by its end. */
const STEPS = [
  ['taken', 'the request is taken out of its queue'],
  ['judged', 'signature and shape are checked, the transaction begins'],
  ['decided', 'the rules, a durable commit (PostgreSQL)'],
  ['homesQueued', 'the relay leases and enqueues'],
  ['homesTaken', 'the job for homes is taken out of its queue'],
  ['verifierBegun', 'survey; home, folders, staged file and their fsyncs'],
  ['databasesQueued', 'verifier: a durable commit; the relay leases and enqueues'],
  ['databasesTaken', 'the job for databases is taken out of its queue'],
  ['databasesDone', 'survey; the account and its rights on two MariaDB servers'],
  ['settleBegun', 'the relay is notified that it is applied'],
  ['eventQueued', 'readiness derived, a durable commit, the event put into Redis'],
  ['heard', "the event is taken out of the portal's queue"],
] as const;

type Mark = (typeof STEPS)[number][0] | 'asked' | 'homesDone' | 'directoryTaken' | 'directoryDone';
type Marks = Record<Mark, number>;

export interface Trace {
  /** The stages of the tools requested since the trace began; a tool with an undefined mark is left out. */
  explain(tools: readonly AskedTool[]): Promise<string>;
  close(): Promise<void>;
}

/** Begins to listen. */
export async function openTrace(realm: MeasuredRealm): Promise<Trace> {
  const client = await realm.connect();
  const redis = new Redis(realm.config.redis.url);
  const touched: number[] = [];
  const applied: number[] = [];
  client.on('notification', ({ payload = '' }) => {
    if (payload === 'due') touched.push(now());
    if (payload.startsWith('applied ')) applied.push(now());
  });
  await client.query('LISTEN chamberlain');
  return {
    async explain(tools) {
      const marks: Marks[] = [];
      for (const tool of tools) {
        const found = await marksOf(tool, client, redis, { touched, applied });
        if (found !== undefined) marks.push(found);
      }
      return marks.length === 0 ? 'no stage was observed' : renderStages(marks);
    },
    async close() {
      redis.disconnect();
      await client.end();
    },
  };
}

async function marksOf(
  { jti, askedAt, ready }: AskedTool,
  client: pg.Client,
  redis: Redis,
  { touched, applied }: { touched: readonly number[]; applied: readonly number[] },
): Promise<Marks | undefined> {
  const { rows } = await client.query<{ judged: string; verifier: string }>(
    `SELECT extract(epoch FROM r.at) * 1000 AS judged, extract(epoch FROM v.recorded_at) * 1000 AS verifier
     FROM requests r JOIN database_verifiers v ON v.account = r.subject WHERE r.jti = $1`,
    [jti],
  );
  const stream = async (queue: string, event: string): Promise<number[]> => {
    const entries = await redis.xrange(
      `bull:${queue}:events`,
      Math.floor(askedAt),
      Math.ceil(ready.heardAt),
    );
    // a stream's clock is truncated to whole milliseconds: on average, half of one is missing
    return entries.flatMap(([id, fields]) =>
      fields[1] === event ? [Number(id.split('-')[0]) + 0.5] : [],
    );
  };
  const [taken, homes, databases, directory] = await Promise.all(
    ['requests.portal', 'homes', 'databases', 'directory'].map(async (queue) => ({
      added: await stream(queue, 'added'),
      active: await stream(queue, 'active'),
      completed: await stream(queue, 'completed'),
    })),
  );
  const marks: Record<Mark, number | undefined> = {
    asked: askedAt,
    taken: taken?.active[0],
    judged: Number(rows[0]?.judged),
    decided: touched.find((at) => at > Number(rows[0]?.judged)),
    homesQueued: homes?.added[0],
    homesTaken: homes?.active[0],
    verifierBegun: Number(rows[0]?.verifier),
    homesDone: homes?.completed[0],
    directoryTaken: directory?.active[0],
    directoryDone: directory?.completed[0],
    databasesQueued: databases?.added.at(-1),
    databasesTaken: databases?.active.at(-1),
    databasesDone: applied.findLast((at) => at < ready.queuedAt + 1),
    settleBegun: ready.writtenAt,
    eventQueued: ready.queuedAt + 0.5,
    heard: ready.heardAt,
  };
  return Object.values(marks).every((mark) => Number.isFinite(mark)) ? (marks as Marks) : undefined;
}

function renderStages(tools: readonly Marks[]): string {
  const row = (name: string, samples: readonly number[]) =>
    `${[mean(samples), quantile(samples, 0.5), quantile(samples, 0.99)]
      .map((ms) => ms.toFixed(1).padStart(8))
      .join('')}  ${name}`;
  const lines = STEPS.map(([mark, name], index) => {
    const before: Mark = STEPS[index - 1]?.[0] ?? 'asked';
    return row(
      name,
      tools.map((tool) => tool[mark] - tool[before]),
    );
  });
  return [
    `Where the time goes, ms, over ${tools.length} tools:`,
    '    mean     p50     p99',
    ...lines,
    row(
      'all of it',
      tools.map((tool) => tool.heard - tool.asked),
    ),
    'In parallel:',
    row(
      'the whole job of directory (LDAP: group, account, sudo rule, seal)',
      tools.map((tool) => tool.directoryDone - tool.directoryTaken),
    ),
    row(
      'the rest of the job of homes: the file gets its place, the row is written',
      tools.map((tool) => tool.homesDone - tool.verifierBegun),
    ),
  ].join('\n');
}
