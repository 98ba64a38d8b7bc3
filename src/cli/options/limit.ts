/** The option --limit. */
import { InvalidArgumentError } from 'commander';

/** Parses a number of rows on the command line. It is limited, because rows are read into memory. */
export function limitUpTo(most: number): (text: string) => number {
  return (text) => {
    const limit = Number(text);
    if (!Number.isSafeInteger(limit) || limit < 1 || limit > most) {
      throw new InvalidArgumentError(`It must be a whole number from 1 to ${most}.`);
    }
    return limit;
  };
}
