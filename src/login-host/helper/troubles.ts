/** Files that are not in their wanted state: each affects only itself, is named, and is tried again. */
import { describeError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import type { LoginStatus } from '../status.ts';

export interface Troubles {
  /** Runs `act`, and returns whether it succeeded. */
  attempt(path: string, act: () => void): boolean;
  add(path: string, error: unknown): void;
  /** The file is as it must be. */
  remove(path: string): void;
  list(): LoginStatus['unwritten'];
}

const MOST_NAMED = 100;

export function openTroubles(log: Log, clock: () => number): Troubles {
  const troubles = new Map<string, { why: string; since: number }>();

  function add(path: string, error: unknown): void {
    const why = describeError(error);
    const before = troubles.get(path);
    if (before?.why !== why) log.warn({ path, why }, 'a file cannot be written');
    troubles.set(path, { why, since: before?.since ?? clock() });
  }

  return {
    attempt(path, act) {
      try {
        act();
        troubles.delete(path);
        return true;
      } catch (error) {
        add(path, error);
        return false;
      }
    },
    add,
    remove: (path) => void troubles.delete(path),
    list() {
      const named = [...troubles].slice(0, MOST_NAMED);
      return named.map(([path, trouble]) => ({ path, ...trouble }));
    },
  };
}
