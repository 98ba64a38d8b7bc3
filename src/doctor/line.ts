/** What `chamberlain doctor` says: one line for each thing that it has looked at. */

/**
 * `ok`: as it should be · `fix`: something is to be done, and `todo` says what · `unreadable`: it could
 * not be known · `elsewhere`: it can be seen from another machine, or by another user.
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

/** Looks at one thing. What it throws is told as unreadable. */
export interface Check {
  group: string;
  /** it finds nothing out without these; the first is what it looks at */
  needs?: readonly Server[];
  /** what is being looked at, for where no answer comes, such as `the server replica` */
  subject: string;
  look: () => Promise<Line[]>;
  /** what to do where no answer comes */
  todo: string;
  /** may take longer than a server */
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
/** What is not looked at for want of a secret, such as `postgres-admin`: each machine has its own. */
export const notHere = (what: string, secret: string): Line =>
  elsewhere(
    what,
    `The secret ${secret} is not on this machine, or not for this user: run it where it is.`,
  );

/** `good` where it holds, else something to fix. */
export function expectThat(holds: boolean, good: string, bad: string, todo: string): Line {
  return holds ? ok(good) : fix(bad, todo);
}

/** Clocks that differ by less are taken for the same. */
const MOST_SKEW_MS = 1000;

/**
 * Judges a clock that was read between two moments of this machine's.
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
  if (skewMs <= MOST_SKEW_MS) return ok(`the clock of ${whose} is this machine's`);
  const way = before > 0 ? 'behind' : 'ahead of';
  return fix(
    `the clock of ${whose} is ${(skewMs / 1000).toFixed(1)} s ${way} this machine's`,
    'Set both by NTP: keys, requests and markers end by the clock.',
  );
}
