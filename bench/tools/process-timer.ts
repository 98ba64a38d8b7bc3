/** Times processes by process-timer.pl: the same few instructions around each process. */
import { join } from 'node:path';

/** One process to be timed. */
export interface TimedRun {
  /** the name under which its time is listed */
  name: string;
  /** a full path and arguments; [] for a process that runs nothing */
  argv: readonly string[];
  /** how much it must write to standard output; undefined: anything but nothing */
  bytes: number | undefined;
}

/** The path of the timer, below the project. */
export const PROCESS_TIMER = join('bench', 'tools', 'process-timer.pl');

/**
 * Runs them one after another, and lists the milliseconds of each name.
 *
 * @param runTimer runs the timer with this standard input, and returns its standard output
 * @throws if one of them fails, or does not write what it must
 */
export async function timeProcesses(
  runs: readonly TimedRun[],
  runTimer: (input: string) => Promise<string>,
): Promise<Map<string, number[]>> {
  const input = runs.map(({ argv }) => `${argv.join('\t')}\n`).join('');
  const lines = (await runTimer(input)).trim().split('\n');
  const times = new Map<string, number[]>();
  for (const [index, { name, argv, bytes }] of runs.entries()) {
    const [us = NaN, status = NaN, written = NaN] = (lines[index] ?? '').split(' ').map(Number);
    const isRight = bytes === undefined ? written > 0 : written === bytes;
    if (argv.length > 0 && (status !== 0 || !isRight)) {
      const wanted = bytes ?? 'some';
      throw new Error(
        `${argv.join(' ')} ended with status ${status} and ${written} bytes instead of ${wanted}`,
      );
    }
    const samples = times.get(name) ?? [];
    samples.push(us / 1000);
    times.set(name, samples);
  }
  return times;
}

/** The same in a random order. */
export function shuffle<T>(items: readonly T[]): T[] {
  const shuffled = [...items];
  for (let at = shuffled.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [shuffled[at], shuffled[other]] = [shuffled[other] as T, shuffled[at] as T];
  }
  return shuffled;
}
