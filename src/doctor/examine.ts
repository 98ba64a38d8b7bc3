/** Runs checks beside each other, each with a bound on how long it may take. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from '../errors.ts';
import { type Check, type GroupedLine, type Line, unreadable } from './line.ts';

/** A server that hangs costs no more. */
const LIMIT_MS = 2000;

/**
 * The lines of every check, in the order of the checks. Never throws.
 *
 * @param say is told what is still being looked at
 */
export async function examine(
  checks: readonly Check[],
  say?: (text: string) => void,
): Promise<GroupedLine[]> {
  const open = new Set(checks);
  const found = await Promise.all(
    checks.map(async (check) => {
      const lines = await lookInTime(check);
      open.delete(check);
      say?.(`looking at ${[...new Set([...open].map(({ subject }) => subject))].join(', ')}`);
      return lines.map((line) => ({ group: check.group, ...line }));
    }),
  );
  return found.flat();
}

async function lookInTime({ subject, look, todo, limitMs = LIMIT_MS }: Check): Promise<Line[]> {
  const done = new AbortController();
  try {
    return await Promise.race([
      look(),
      sleep(limitMs, undefined, { signal: done.signal }).then(() => [
        unreadable(`${subject}: no answer within ${limitMs / 1000} s`, todo),
      ]),
    ]);
  } catch (error) {
    return [unreadable(`${subject}: ${describeError(error)}`, todo)];
  } finally {
    done.abort();
  }
}
