/** What the demo reads in PostgreSQL and Redis: whether everything is applied, and what has been recorded. */
import { setTimeout as sleep } from 'node:timers/promises';
import { output, type StackEnvironment } from './outside.ts';

const RECORDS = ['requests', 'audit', 'events'] as const;

/** Runs one statement as the owner of the database; returns the row's columns. */
async function queryRow(env: StackEnvironment, sql: string): Promise<string[]> {
  const text = await output('psql', ['-X', '-A', '-t', '-c', sql], { env });
  return text.trim().split('|');
}

/** Whether the realm was used by anything but this demo: its scenario would give other results there. */
export async function isSomebodyElses(env: StackEnvironment): Promise<boolean> {
  const [answer] = await queryRow(
    env,
    `SELECT (SELECT count(*) FROM people) > 1 AND NOT EXISTS (
       SELECT FROM requests WHERE jti::text LIKE '00000000-0000-4000-8000-%')`,
  );
  return answer === 't';
}

/** The row counts of the tables that only ever grow. */
export async function countRecords(env: StackEnvironment): Promise<string> {
  const counts = RECORDS.map((table) => `(SELECT count(*) FROM ${table})`).join(', ');
  const row = await queryRow(env, `SELECT ${counts}`);
  return RECORDS.map((table, index) => `${row[index]} ${table}`).join(', ');
}

/** The code of the last invalid job; '' if there was none. */
export async function readLastForgery(env: StackEnvironment): Promise<string> {
  for (let tries = 0; tries < 100; tries += 1) {
    const [code = ''] = await queryRow(env, 'SELECT code FROM junk ORDER BY last_at DESC LIMIT 1');
    if (code !== '') return code;
    await sleep(100); // intake counts once a second
  }
  return '';
}

/** Returns when each request that was sent has its verdict and everything that it touched is applied. */
export async function untilSettled(env: StackEnvironment): Promise<void> {
  const lists = ['portal', 'urgent.portal', 'admin.steward', 'urgent.admin.steward'].flatMap(
    (of) => [`bull:requests.${of}:wait`, `bull:requests.${of}:active`],
  );
  const input = lists.map((list) => `LLEN ${list}\n`).join('');
  for (let tries = 0; tries < 300; tries += 1) {
    const lengths = await output('redis-cli', ['-u', env['REDIS_ADMIN_URL'] ?? ''], { input });
    const [behind] = await queryRow(
      env,
      `SELECT (SELECT count(*) FROM convergence WHERE applied < wanted)
            + (SELECT count(*) FROM requests WHERE verdict = 'accepted' AND done_at IS NULL)`,
    );
    if (/^(0\s*)+$/.test(lengths) && behind === '0') return;
    await sleep(100);
  }
  throw new Error('after 30 s, a request has no verdict, or something is not applied');
}
