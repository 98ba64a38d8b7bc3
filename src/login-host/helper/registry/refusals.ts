/**
 * What of the directory is refused, and why: at most a thousand entries by name, known subjects first, and the
 * number of the others. So even a million entries fill neither this host's memory nor its status.
 */
import { shown } from './judge.ts';
import type { Refusal } from '../../status.ts';

const MOST_NAMED = 1000;

interface Named extends Refusal {
  /** it may be accepted later as it is: what it conflicts with may go, or a clock be corrected */
  mayPass: boolean;
  /** the last reading of everything in which it was reported */
  reading: number;
  /** it belongs to a subject that this host knows: it is named before all others */
  isKnown: boolean;
}

export interface Refusals {
  add(
    name: string,
    why: string,
    now: number,
    what?: { mayPass?: boolean; isKnown?: boolean },
  ): void;
  remove(name: string): void;
  /** A reading of everything begins; it lasts until `endReading`. */
  beginReading(): void;
  /** Everything was reported: an entry that was not refused in this reading is no longer refused. */
  endReading(): void;
  list(): Refusal[];
  count(): number;
  /**
   * Whether some entries were not named, and there would be room for them if everything were reported again.
   */
  hasRoom(): boolean;
  /** Whether some may be accepted as they are, now that something else has changed. */
  mayPass(): boolean;
}

export function openRefusals(): Refusals {
  const named = new Map<string, Named>();
  let reading = 0;
  let beyond = 0;
  let beyondBefore = 0;
  return {
    add(name, why, now, { mayPass = false, isKnown = false } = {}) {
      const entry = shown(name);
      const before = named.get(entry);
      if (before === undefined && named.size >= MOST_NAMED) {
        beyond += 1;
        const other = isKnown ? named.values().find((one) => !one.isKnown) : undefined;
        if (other === undefined) return;
        named.delete(other.entry);
      }
      const since = before?.since ?? now;
      named.set(entry, { entry, why, since, mayPass, reading, isKnown });
    },
    remove: (name) => void named.delete(shown(name)),
    beginReading() {
      reading += 1;
      beyondBefore = beyond;
    },
    endReading() {
      for (const [name, one] of named) if (one.reading !== reading) named.delete(name);
      beyond -= beyondBefore;
      beyondBefore = 0;
    },
    list: () => [...named.values()].map(({ entry, why, since }) => ({ entry, why, since })),
    count: () => named.size + beyond,
    hasRoom: () => beyond > 0 && named.size < MOST_NAMED / 2,
    mayPass: () => named.values().some((one) => one.mayPass),
  };
}
