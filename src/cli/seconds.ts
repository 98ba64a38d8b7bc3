/** How a time is written on the command line. */
import { InvalidArgumentError } from 'commander';

/** 23 days: a timer of Node takes no more milliseconds than 31 bits hold. */
const MOST_SECONDS = 2_000_000;

/** A number of seconds above 0, on the command line. */
export function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (text.trim() === '' || !(seconds > 0) || seconds > MOST_SECONDS) {
    throw new InvalidArgumentError(`It wants a number of seconds above 0, up to ${MOST_SECONDS}.`);
  }
  return seconds;
}
