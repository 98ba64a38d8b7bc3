/**
 * The figures of an admin's questions about a long history: `status` and `audit --since 2h` among millions of
 * requests that were done and reported long ago, each as a whole process, next to one that selects 1 from
 * PostgreSQL.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { mustRun } from '../tools/command.ts';
import { type Figure, judge, quantile } from '../tools/figure.ts';
import { SWEEP_GOALS as GOALS, type SweepOptions } from '../goals.ts';
import type { MeasuredRealm } from '../realm.ts';

/** Rows that are written at a time, so that progress can be shown. */
const PART = 1_000_000;
/** As in dev/chamberlain. */
const COMPILED = join(import.meta.dirname, '../../node_modules/.cache/chamberlain');
/** The triggers that note, touch or announce each row have nothing to do for what is over. */
const TRIGGERS = [
  ['audit', 'audit_unsealed_note'],
  ['events', 'events_notify'],
] as const;

export async function measureHistory(
  { realm }: { realm: MeasuredRealm },
  { size, say, show, void: why }: SweepOptions,
): Promise<Figure[]> {
  await realm.fill(() => fillHistory(realm, size.history, say));
  const times = { floor: [] as number[], status: [] as number[], audit: [] as number[] };
  for (let n = 0; n < size.looks; n++) {
    times.floor.push(await askForOne(realm));
    times.status.push((await mustRun(realm, 0, 'status')).ms);
    times.audit.push((await mustRun(realm, 0, 'audit', '--since', '2h')).ms);
  }
  const p50 = (of: keyof typeof times) => quantile(times[of], 0.5);
  const describe = (of: keyof typeof times) =>
    `p50 ${p50(of).toFixed(0)} ms, most ${Math.max(...times[of]).toFixed(0)} ms`;
  show(
    `Among ${size.history} requests: status ${describe('status')}; audit --since 2h ${describe('audit')}; ` +
      `a process that selects 1 ${describe('floor')}.`,
  );
  const floor = p50('floor');
  return [
    judge(GOALS.historyStatus, { value: p50('status'), floor, void: why }),
    judge(GOALS.historyAudit, { value: p50('audit'), floor, void: why }),
  ];
}

/** Requests with their audit and an event each, the last ones an hour ago. */
async function fillHistory(
  realm: MeasuredRealm,
  history: number,
  say: (line: string) => void,
): Promise<void> {
  const client = await realm.connect();
  try {
    for (const [table, trigger] of TRIGGERS) {
      await client.query(`ALTER TABLE ${table} DISABLE TRIGGER ${trigger}`);
    }
    for (let from = 0; from < history; from += PART) {
      say(`history: ${from} of ${history} requests`);
      const numbers = [from + 1, Math.min(from + PART, history), history];
      for (const insert of HISTORY) await client.query(insert, numbers);
    }
    for (const [table, trigger] of TRIGGERS) {
      await client.query(`ALTER TABLE ${table} ENABLE TRIGGER ${trigger}`);
    }
    await client.query('VACUUM (ANALYZE) requests, audit, events');
  } finally {
    await client.end();
  }
}

/** One every 30 s: 10 million in nine years. */
const PAST = `generate_series($1::int, $2::int) AS n,
  LATERAL (SELECT now() - interval '1 h' - ($3::int - n) * interval '30 s' AS at) AS t`;
const ID = `lpad(to_hex(n), 32, '0')::uuid`;
const HISTORY = [
  `INSERT INTO requests (portal, jti, body_sha256, kind, requested_by, approved_by, verdict, at, done_at)
   SELECT 'portal', ${ID}, sha256(n::text::bytea), 'tool.update', 'someone', 'someone', 'accepted', at, at FROM ${PAST}`,
  `INSERT INTO audit (at, portal, kind, requested_by, approved_by, subject, fields, verdict)
   SELECT at, 'portal', 'tool.update', 'someone', 'someone', 1000000 + n % 40000, '{title}', 'accepted' FROM ${PAST}`,
  // before the first event of this realm
  `INSERT INTO events (portal, seq, at, event, subject, request)
   SELECT 'portal', n - 1000000000, at, 'request.done', 1000000 + n % 40000, ${ID} FROM ${PAST}`,
];

/** Milliseconds until a process has connected as the command does, has received its answer, and has ended. */
async function askForOne({ stack }: MeasuredRealm): Promise<number> {
  const begin = performance.now();
  const program = join(import.meta.dirname, 'history-floor.ts');
  const child = spawn(process.execPath, [program, stack.place.configFile], {
    env: { ...process.env, NODE_COMPILE_CACHE: COMPILED },
    stdio: 'inherit',
  });
  const [exit] = (await once(child, 'close')) as [number | null];
  if (exit !== 0) throw new Error(`${program} exited with code ${exit}`);
  return performance.now() - begin;
}
