/**
 * Events over HTTP: the API takes each portal's job (src/backends/redis/event-inbox.ts) and answers with the token in
 * it, unchanged, until the portal says that it has the events. What the portal has is the relay's to keep
 * (src/events/course.ts): the API remembers nothing, so any of several APIs may be asked.
 */
import type { EventInbox } from '../backends/redis/event-inbox.ts';

/** Events that come next for a portal. */
export interface NextEvents {
  /** as the relay signed it */
  token: string;
  /** the portal has every event up to this one when it has taken them */
  last: number;
}

/**
 * The events after `after`, which the portal thereby says that it has. Waits for them; undefined if the signal aborts
 * before. May throw BACKEND_UNAVAILABLE.
 */
export async function takeEvents(
  inbox: EventInbox,
  portal: string,
  after: number,
  signal: AbortSignal,
): Promise<NextEvents | undefined> {
  for (let isFirst = true; ; isFirst = false) {
    const look = await inbox.look(portal);
    const waiting = look.events;
    const found = waiting === undefined ? undefined : readBounds(waiting.token);
    if (waiting !== undefined && found !== undefined && isNext(found, after)) {
      return { token: waiting.token, last: found.last };
    }
    // also if events are missing: the relay then goes back to what the portal has
    if (waiting !== undefined) await inbox.confirm(portal, waiting.job, after);
    else if (isFirst) await inbox.tellPosition(portal, after);
    if (signal.aborted) return undefined;
    await inbox.untilSomething(portal, look, signal);
  }
}

/** Events after `after`, up to `last`. */
interface Bounds {
  after: number;
  last: number;
}

function isNext(bounds: Bounds, after: number): boolean {
  return bounds.after <= after && after < bounds.last;
}

/** Not verified: the portal does that. Undefined for a token that is not the relay's. */
function readBounds(token: string): Bounds | undefined {
  try {
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as {
      after: number;
      removed?: number;
      events: readonly { seq: number }[];
    };
    const last = claims.events.at(-1)?.seq ?? claims.removed;
    return last === undefined ? undefined : { after: claims.after, last };
  } catch {
    return undefined;
  }
}
