/** Spans of time on the command line. */
import { InvalidArgumentError } from 'commander';

/** 23 days: a timer of Node.js is limited to 31 bits of milliseconds. */
const MOST_SECONDS = 2_000_000;

/** Parses a number of seconds above 0. */
export function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (text.trim() === '' || !(seconds > 0) || seconds > MOST_SECONDS) {
    throw new InvalidArgumentError(
      `It must be a number of seconds above 0, up to ${MOST_SECONDS}.`,
    );
  }
  return seconds;
}
