/**
 * Decides whether what the agent reads is of now, by the heartbeats that it passes on.
 *
 * | the last heartbeat that was told            | then                                                    |
 * | ------------------------------------------- | ------------------------------------------------------- |
 * | none, not signed by us, or of another realm | doubt                                                   |
 * | its `at` is before one that was accepted    | an older copy, or a replica that lags: doubt            |
 * | else                                        | accepted: its counts and floors count                   |
 * | accepted, its `clock` a minute off ours     | doubt: nobody writes it any more, or a clock is wrong   |
 * | accepted, and its `clock` within the minute | no doubt                                                |
 */
import { parseHeartbeat, type Marker } from '../../seals/heartbeat.ts';
import type { Verified } from '../../seals/seal.ts';
import { shown } from './judge.ts';

/** How old a heartbeat may be, and how far this clock may be behind its writer's. */
const MAX_OFF_MS = 60_000;

export interface Heartbeats {
  /** Takes a heartbeat as it was told; undefined: there is none. True where it is accepted. */
  take(verified: Verified | undefined): boolean;
  /** Why what is read cannot be taken to be of now; undefined where it can. */
  doubt(now: number): string | undefined;
  /** The last that was accepted in this run. */
  last(): Marker | undefined;
  /** The highest `at` that was accepted, ever. */
  at(): number;
  /** Takes the one that was told last, if only its `at` is in the way; what it says of that, undefined if nothing was. */
  accept(): string | undefined;
}

/** @param at the highest that was accepted before this run; 0 for none */
export function openHeartbeats(realm: string, at = 0): Heartbeats {
  let highest = at;
  let last: Marker | undefined;
  let wrong: string | undefined = 'no heartbeat of the directory role has been read yet';
  let older: Marker | undefined;

  function judge(verified: Verified | undefined): Marker | string {
    if (verified === undefined) {
      return 'the directory shows no heartbeat (does `chamberlain work directory` run?)';
    }
    if (!verified.ok) return `the heartbeat of the directory is not taken: ${verified.why}`;
    const marker = parseHeartbeat(verified.payload);
    if (marker === undefined) {
      return 'the heartbeat of the directory is not of a form that this version reads';
    }
    if (marker.realm === realm) return marker;
    return `the heartbeat of the directory is of the realm ${shown(marker.realm)}`;
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
          `the directory is as of ${marker.at}, and was seen as of ${new Date(highest).toISOString()} before: ` +
          'it is an older copy, or a replica that lags; if it is the right one, run `keys-agent accept`';
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
      const by = `${Math.round(Math.abs(off) / 1000)} s`;
      const which = `it was ${last.clock} by the clock of its database, and is ${new Date(now).toISOString()} here`;
      return off > 0
        ? `the directory role has not been heard of for ${by} (does \`chamberlain work directory\` run? Is this host's clock right?): ${which}`
        : `the heartbeat of the directory is ${by} ahead of this host: ${which}; set the clock right that is wrong`;
    },
    last: () => last,
    at: () => highest,
    accept() {
      if (older === undefined) return undefined;
      const { at: of } = older;
      accept(older);
      return `the directory as of ${of}`;
    },
  };
}
