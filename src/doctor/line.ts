/** The output of `chamberlain doctor`: one line for each thing that it has checked. */

/**
 * `ok`: as it should be · `fix`: something must be corrected, and `todo` says how · `unreadable`: it could not
 * be checked · `elsewhere`: it can be checked on another machine, or as another user.
 */
export type State = 'ok' | 'fix' | 'unreadable' | 'elsewhere';

export interface Line {
  state: State;
  /** what was seen, without a full stop */
  what: string;
  /** what to do about it, a sentence */
  todo?: string;
}

/** A line, and what it is about, such as `PostgreSQL`. */
export interface GroupedLine extends Line {
  group: string;
}

/** A server that several checks need. */
export interface Server {
  /** with where it is, such as `the directory ldaps://ldap.example.org` */
  name: string;
  /** what it is called in the table of troubles */
  place: string;
  /** what does not happen while it is away */
  stops: string;
  /** what to do about it */
  todo: string;
}

/** Checks one thing. What it throws is reported as unreadable. */
export interface Check {
  group: string;
  /** the servers that it needs; the first is the one that it checks */
  needs?: readonly Server[];
  /** what it checks, such as `the server replica`; shown when there is no answer */
  subject: string;
  look: () => Promise<Line[]>;
  /** what to do when there is no answer */
  todo: string;
  /** set if it may take longer than a server */
  limitMs?: number;
}

export const ok = (what: string): Line => ({ state: 'ok', what });
export const fix = (what: string, todo: string): Line => ({ state: 'fix', what, todo });
export const unreadable = (what: string, todo: string): Line => ({
  state: 'unreadable',
  what,
  todo,
});
export const elsewhere = (what: string, todo: string): Line => ({
  state: 'elsewhere',
  what,
  todo,
});
/** What cannot be checked because a secret, such as `postgres-admin`, is missing: each machine has its own secrets. */
export const notHere = (what: string, secret: string): Line =>
  elsewhere(
    what,
    `The secret ${secret} is not on this machine, or this user may not read it: run this where it can be read.`,
  );

/** `good` if the condition holds, or else a line of what to fix. */
export function expectThat(holds: boolean, good: string, bad: string, todo: string): Line {
  return holds ? ok(good) : fix(bad, todo);
}

/** The difference between clocks that is tolerated. */
const MOST_SKEW_MS = 1000;

/**
 * Judges another clock that was read between two moments of this machine's clock.
 *
 * @param readAt milliseconds since the epoch, by the other clock
 */
export function judgeClock(
  whose: string,
  readAt: number,
  { askedAt, answeredAt }: { askedAt: number; answeredAt: number },
): Line {
  const before = askedAt - readAt;
  const after = readAt - answeredAt;
  const skewMs = Math.max(before, after, 0);
  if (skewMs <= MOST_SKEW_MS) return ok(`the clock of ${whose} agrees with this machine's`);
  const way = before > 0 ? 'behind' : 'ahead of';
  return fix(
    `the clock of ${whose} is ${(skewMs / 1000).toFixed(1)} s ${way} this machine's`,
    'Synchronise both with NTP: keys, requests and markers expire by the clock.',
  );
}
