/** Runs checks in parallel, each with a time limit. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, describeRootCause } from '../shared/errors.ts';
import { nameFew } from '../reconcile/render-plan.ts';
import { type Check, type GroupedLine, type Line, type Server, unreadable } from './line.ts';

/** The time limit of a check. Our clients wait longer for a connection, so every hang is reported in the same way. */
const LIMIT_MS = 2500;

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
 * @param sinceOf since when a server cannot be reached, such as `, since …`, if that is known
 */
export async function examine(
  checks: readonly Check[],
  say?: (text: string) => void,
  sinceOf: (server: Server) => string = () => '',
): Promise<GroupedLine[]> {
  const open = new Set(checks);
  const found = await Promise.all(
    checks.map(async (check) => {
      const each = await lookInTime(check);
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

async function lookInTime(check: Check): Promise<Found> {
  const { subject, look, todo, limitMs = LIMIT_MS } = check;
  const done = new AbortController();
  const late = `no answer within ${limitMs / 1000} s`;
  try {
    return await Promise.race([
      look().then((lines) => ({ check, lines })),
      sleep(limitMs, undefined, { signal: done.signal }).then(() => ({
        check,
        lines: [unreadable(`${subject}: ${late}`, todo)],
        failed: late,
      })),
    ]);
  } catch (error) {
    const lines = [unreadable(`${subject}: ${describeError(error)}`, todo)];
    return { check, lines, failed: describeRootCause(error) };
  } finally {
    done.abort();
  }
}
