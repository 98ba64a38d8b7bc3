/** Reads the output of a program line by line, in a bounded amount of memory. */

/** The beginning of a line that counts: the longest is a statement with the name of a table in a dump. */
const MOST_OF_LINE = 300;

/**
 * Calls back with the beginning of each complete line, as latin1: a path in a deep tree can be a megabyte long,
 * and a row of a dump a gigabyte.
 */
export function beginningsOfLines(each: (beginning: string) => void): (chunk: Buffer) => void {
  let beginning = '';
  return (chunk) => {
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      const room = Math.min(end, from + Math.max(0, MOST_OF_LINE - beginning.length));
      each(beginning + chunk.toString('latin1', from, room));
      beginning = '';
      from = end + 1;
    }
    const room = Math.max(0, MOST_OF_LINE - beginning.length);
    beginning += chunk.toString('latin1', from, Math.min(chunk.length, from + room));
  };
}
