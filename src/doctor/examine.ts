/** Runs checks in parallel, each with a time limit. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, describeRootCause } from '../shared/errors.ts';
import { nameFew } from '../shared/printable.ts';
import { readWaitedMs } from './processor.ts';
import { type Check, type GroupedLine, type Line, type Server, unreadable } from './line.ts';

/** The time limit of a check. Our clients wait longer for a connection, so every hang is reported in the same way. */
const LIMIT_MS = 2500;
/** If this process has waited for a processor for this share of a limit, the machine is too busy to judge by it. */
const BUSY_SHARE = 0.25;

/** What a check has found. */
interface Found {
  check: Check;
  lines: Line[];
  /** why it failed: no answer in time, or what it threw */
  failed?: string;
}

/**
 * The lines of every check, in the order of the checks. Never throws. A server that cannot be reached has one line,
 * which counts the checks that failed for that reason.
 *
 * @param say is called with what is still being checked
 * @param waitedMs for how long this process has waited for a processor since it was started
 * @param sinceOf since when a server cannot be reached, such as `, since …`, if that is known
 */
export async function examine(
  checks: readonly Check[],
  say?: (text: string) => void,
  sinceOf: (server: Server) => string = () => '',
  waitedMs: () => number = readWaitedMs,
): Promise<GroupedLine[]> {
  const open = new Set(checks);
  const found = await Promise.all(
    checks.map(async (check) => {
      const each = await lookInTime(check, waitedMs);
      open.delete(check);
      say?.(`checking ${nameFew([...new Set([...open].map(({ subject }) => subject))])}`);
      return each;
    }),
  );
  for (const server of new Set(checks.flatMap(({ needs }) => needs?.[0] ?? []))) {
    reportOnce(server, found, sinceOf);
  }
  return found.flatMap(({ check: { group }, lines }) => lines.map((line) => ({ group, ...line })));
}

/** If no check of a server got an answer, the first one reports it, and the others that failed for it report nothing. */
function reportOnce(server: Server, found: Found[], sinceOf: (server: Server) => string): void {
  const its = found.filter(({ check }) => check.needs?.[0] === server);
  const isAnswering = its.some(({ lines }) => lines.some(({ state }) => state === 'ok'));
  const [first, ...others] = found.filter(
    ({ check, failed }) => failed !== undefined && check.needs?.includes(server),
  );
  if (isAnswering || first === undefined || first.check.needs?.[0] !== server) return;
  for (const each of others) each.lines = [];
  const skipped = others.length === 0 ? '' : ` ${countOf(others.length)} skipped.`;
  first.lines = [
    unreadable(
      `${server.name} cannot be reached${sinceOf(server)}: ${first.failed}`,
      `Meanwhile ${server.stops}. ${server.todo}${skipped}`,
    ),
  ];
}

function countOf(checks: number): string {
  return checks === 1
    ? 'One other check needs this server and was'
    : `${checks} other checks need this server and were`;
}

async function lookInTime(check: Check, waitedMs: () => number): Promise<Found> {
  const { subject, look, todo, limitMs = LIMIT_MS } = check;
  const done = new AbortController();
  const before = waitedMs();
  try {
    return await Promise.race([
      look().then((lines) => ({ check, lines })),
      sleep(limitMs, undefined, { signal: done.signal }).then(() => {
        const late = describeLate(limitMs, waitedMs() - before);
        return { check, lines: [unreadable(`${subject}: ${late}`, todo)], failed: late };
      }),
    ]);
  } catch (error) {
    const lines = [unreadable(`${subject}: ${describeError(error)}`, todo)];
    return { check, lines, failed: describeRootCause(error) };
  } finally {
    done.abort();
  }
}

function describeLate(limitMs: number, waitedMs: number): string {
  const late = `no answer within ${limitMs / 1000} s`;
  if (waitedMs < limitMs * BUSY_SHARE) return late;
  return `${late}, of which this command itself waited ${(waitedMs / 1000).toFixed(1)} s for a processor: this machine is too busy, so run the command again later`;
}
