/** How a call fails, and when to try again. */

/** The API has refused a call (RFC 9457). `code` is stable; `detail` is for people. */
export class Problem extends Error {
  override name = 'Problem';
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  /** after how many seconds it may succeed; null if it never will */
  readonly retryAfter: number | null;

  constructor(status: number, code: string, detail: string, retryAfter: number | null) {
    super(`${code}: ${detail}`);
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.retryAfter = retryAfter;
  }
}

/** The API has not answered, or a proxy has in its place. A request may have arrived nevertheless: send the same one again. */
export class Unreachable extends Error {
  override name = 'Unreachable';
}

/** Events after `after`, up to `removed`, are not kept any more: learn in another way what they said. */
export class EventsGone extends Error {
  override name = 'EventsGone';
  readonly after: number;
  readonly removed: number;

  constructor(after: number, removed: number) {
    super(`events ${after + 1} to ${removed} are not kept any more`);
    this.after = after;
    this.removed = removed;
  }
}

/** Pauses between two attempts while the API is away, in seconds. */
const PAUSE = { first: 0.5, growth: 2, most: 30 };

/** Counts the attempts that have failed one after another. */
export class Attempts {
  #pause = PAUSE.first;

  succeeded(): void {
    this.#pause = PAUSE.first;
  }

  /** How many seconds to wait before the next attempt. Throws the error if no attempt can succeed. */
  pauseAfter(error: unknown): number {
    const isProblem = error instanceof Problem && error.retryAfter !== null;
    if (!isProblem && !(error instanceof Unreachable)) throw error;
    const pause = this.#pause;
    this.#pause = Math.min(pause * PAUSE.growth, PAUSE.most);
    return isProblem ? Math.max(pause, error.retryAfter ?? 0) : pause;
  }
}

/** The problem that an answer of the API states; undefined if it states none. */
export function problemOf(
  status: number,
  retryAfter: string | null,
  text: string,
): Problem | undefined {
  const { code, detail } = (parsed(text) ?? {}) as { code?: unknown; detail?: unknown };
  if (typeof code !== 'string') return undefined;
  const given = /^\d+$/u.test(retryAfter ?? '') ? Number(retryAfter) : null;
  return new Problem(status, code, String(detail), given ?? (status >= 500 ? 5 : null));
}

/** The value of a text in JSON; undefined if it is none. */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
