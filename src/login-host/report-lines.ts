/**
 * What the agent reports to the login helper, and what the helper answers.
 *
 * On a unix socket the agent sends one report and half-closes. A report is lines of JSON in UTF-8, each an
 * array that begins with a word. The helper answers with one line of JSON and closes, once the files are as the
 * report says. (While everything is being read, the helper writes the lists of accounts every few seconds, and
 * at the end.) A line that is not understood, or not believed, affects only itself; a report that was cut is ignored as a
 * whole.
 *
 * | line                       | says                                                                         |
 * | -------------------------- | ---------------------------------------------------------------------------- |
 * | `["seal", name, text]`     | an entry's seal as it is; `name` is the entry's own, whatever it is          |
 * | `["unsealed", name]`       | an entry of a person or a tool that has no seal                              |
 * | `["gone", name]`           | an entry that existed, and no longer does                                    |
 * | `["heartbeat", text]`      | the heartbeat as it is; '' if there is none                                  |
 * | `["all", token, "begin"]`  | everything is being read from here on, in as many reports as it takes        |
 * | `["all", token, "end"]`    | everything was reported: an entry not named since the beginning is gone      |
 * | `["trouble", server, why]` | where the agent reads, and why it cannot; '' if it can                       |
 *
 * If a reading of everything has another token, or belongs to another run of the helper, it does not count.
 */
import * as z from 'zod/mini';

export type ReportLine =
  | readonly ['seal', name: string, text: string]
  | readonly ['unsealed', name: string]
  | readonly ['gone', name: string]
  | readonly ['heartbeat', text: string]
  | readonly ['all', token: string, edge: 'begin' | 'end']
  | readonly ['trouble', server: string, why: string];

const answerSchema = z.object({
  /** the id of this run of the helper: everything must be reported to another run */
  run: z.string(),
  /** the token of the current reading of everything */
  reading: z.exactOptional(z.string()),
  /** what the agent reads is complete and current */
  trusted: z.boolean(),
  /** why it is not, and whether another server may be */
  why: z.exactOptional(z.string()),
  tryAnother: z.exactOptional(z.boolean()),
});
export type ReportAnswer = z.infer<typeof answerSchema>;

/** The helper hangs up if one report is larger. */
export const MAX_REPORT_BYTES = 32 * 2 ** 20;

/** A line of a report as it is sent. */
export function formatReportLine(line: ReportLine): string {
  return `${JSON.stringify(line)}\n`;
}

/** Reads the helper's answer. Throws if it is not a valid answer. */
export function parseReportAnswer(text: string): ReportAnswer {
  return answerSchema.parse(JSON.parse(text));
}

/** No seal is this long, however many members it has. */
const MAX_LINE_LENGTH = 4 * 2 ** 20;

/** Reads one line; undefined if it is not a valid line. */
export function parseReportLine(line: string): ReportLine | undefined {
  if (line.length > MAX_LINE_LENGTH || !holdsStrings(line)) return undefined;
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!Array.isArray(parsed) || !parsed.every((part) => typeof part === 'string')) return undefined;
  const [word, , third] = parsed;
  const isOne =
    (word === 'seal' && parsed.length === 3) ||
    (word === 'unsealed' && parsed.length === 2) ||
    (word === 'gone' && parsed.length === 2) ||
    (word === 'heartbeat' && parsed.length === 2) ||
    (word === 'all' && parsed.length === 3 && (third === 'begin' || third === 'end')) ||
    (word === 'trouble' && parsed.length === 3);
  return isOne ? (parsed as unknown as ReportLine) : undefined;
}

/**
 * Whether it can be an array of a few strings: parsing a megabyte of brackets would need a hundred megabytes.
 */
function holdsStrings(line: string): boolean {
  for (let count = 0, at = 1; count < 4; count += 1) {
    if (line[at] !== '"') return false;
    let end = line.indexOf('"', at + 1);
    while (end !== -1 && isEscaped(line, end)) end = line.indexOf('"', end + 1);
    if (end === -1) return false;
    if (line[end + 1] === ']') return end + 2 === line.length;
    if (line[end + 1] !== ',') return false;
    at = end + 2;
  }
  return false;
}

/** Whether an odd number of backslashes precedes it. */
function isEscaped(line: string, at: number): boolean {
  let from = at;
  while (line[from - 1] === '\\') from -= 1;
  return (at - from) % 2 === 1;
}
