/** Keeps a log short: what is said about one thing again and again is news once, and again after ten minutes. */

const STALE_MS = 10 * 60_000;

/** What was said last about each thing, by its key. */
export interface News<Key> {
  /** Whether this is another text than the last one about that thing, or that one is ten minutes old. */
  isNew(key: Key, text: string): boolean;
  /** Forgets what was said: nothing is wrong with the thing any more. */
  forget(key: Key): void;
}

export function openNews<Key>(now: () => number = () => performance.now()): News<Key> {
  const last = new Map<Key, { text: string; at: number }>();
  return {
    isNew(key, text) {
      const before = last.get(key);
      if (before?.text === text && now() - before.at < STALE_MS) return false;
      last.set(key, { text, at: now() });
      return true;
    },
    forget: (key) => void last.delete(key),
  };
}
