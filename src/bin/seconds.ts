/** How a time is written on the command line. */
import { InvalidArgumentError } from 'commander';

/** A number of seconds above 0, on the command line. */
export function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (text.trim() === '' || !(seconds > 0) || !Number.isFinite(seconds)) {
    throw new InvalidArgumentError('It wants a number of seconds above 0.');
  }
  return seconds;
}
