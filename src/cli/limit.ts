/** How many rows a command lists. */
import { InvalidArgumentError } from 'commander';

/** Reads a number of rows on the command line, which has a bound: rows are read into memory. */
export function limitUpTo(most: number): (text: string) => number {
  return (text) => {
    const limit = Number(text);
    if (!Number.isSafeInteger(limit) || limit < 1 || limit > most) {
      throw new InvalidArgumentError(`It wants a whole number from 1 to ${most}.`);
    }
    return limit;
  };
}
