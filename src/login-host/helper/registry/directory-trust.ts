/**
 * Decides whether what the agent reads is current, by the heartbeats that it passes on.
 *
 * | the last heartbeat that was reported        | then                                                    |
 * | ------------------------------------------- | ------------------------------------------------------- |
 * | none, not signed by us, or of another realm | doubt                                                   |
 * | its `at` is before one that was accepted    | an older copy, or a replica that lags: doubt            |
 * | otherwise                                   | accepted: its counts and floors count                   |
 * | accepted, its `clock` a minute off ours     | doubt: it is no longer published, or a clock is wrong   |
 * | accepted, and its `clock` within the minute | no doubt                                                |
 */
import { parseHeartbeat, type Marker } from '../../../seals/heartbeat.ts';
import type { Verified } from '../../../seals/seal.ts';
import { spanOf } from '../../../shared/time.ts';
import { shown } from './judge.ts';

/** The maximum age of a heartbeat, and how far this clock may be behind its writer's. */
const MAX_OFF_MS = 60_000;

export interface Heartbeats {
  /** Takes a heartbeat as it was reported; undefined if there is none. Returns whether it is accepted. */
  take(verified: Verified | undefined): boolean;
  /** Why what is read may not be current; undefined if it is. */
  doubt(now: number): string | undefined;
  /** The last heartbeat that was accepted in this run. */
  last(): Marker | undefined;
  /** The highest `at` that was ever accepted. */
  at(): number;
  /**
   * Accepts the heartbeat that was reported last if only its `at` prevents that. Returns a sentence about it;
   * undefined if nothing was to accept.
   */
  accept(): string | undefined;
}

/** @param at the highest that was accepted before this run; 0 if none was */
export function openHeartbeats(realm: string, at = 0): Heartbeats {
  let highest = at;
  let last: Marker | undefined;
  let wrong: string | undefined = 'no heartbeat of the directory role has been read yet';
  let older: Marker | undefined;

  function judge(verified: Verified | undefined): Marker | string {
    if (verified === undefined) {
      return 'the directory shows no heartbeat (does `chamberlain work directory` run?)';
    }
    if (!verified.ok) {
      return `the heartbeat of the directory is not accepted: ${verified.why}; if the seal key was replaced, give this host the new one ("Replace the key that signs the seals" in docs/login-hosts.md)`;
    }
    const marker = parseHeartbeat(verified.payload);
    if (marker === undefined) {
      return 'the heartbeat of the directory has a form that this version cannot read';
    }
    if (marker.realm === realm) return marker;
    return `the heartbeat of the directory belongs to the realm ${shown(marker.realm)}`;
  }

  function accept(marker: Marker): void {
    highest = Date.parse(marker.at);
    last = marker;
    wrong = undefined;
    older = undefined;
  }

  return {
    take(verified) {
      const marker = judge(verified);
      older = undefined;
      if (typeof marker === 'string') {
        wrong = marker;
        return false;
      }
      if (Date.parse(marker.at) < highest) {
        older = marker;
        wrong =
          `the heartbeat of the directory was published at ${marker.at}, but this host has seen one that was ` +
          `published later, at ${new Date(highest).toISOString()}: the directory is an older copy, or a replica that lags; ` +
          'if it is the right directory, run `keys-agent accept`';
        return false;
      }
      accept(marker);
      return true;
    },
    doubt(now) {
      if (wrong !== undefined) return wrong;
      if (last === undefined) return undefined;
      const off = now - Date.parse(last.clock);
      if (Math.abs(off) <= MAX_OFF_MS) return undefined;
      const by = spanOf(Math.abs(off));
      const which = `the last one says ${last.clock}, and the clock of this host says ${new Date(now).toISOString()}`;
      return off > 0
        ? `the directory role has published no heartbeat for ${by}: ${which}; check that \`chamberlain work directory\` runs and that this host's clock is right`
        : `the heartbeat of the directory is ${by} ahead of this host: ${which}; correct the clock that is wrong`;
    },
    last: () => last,
    at: () => highest,
    accept() {
      if (older === undefined) return undefined;
      const { at: of } = older;
      accept(older);
      return `the heartbeat published at ${of}`;
    },
  };
}
