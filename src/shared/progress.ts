/**
 * Whether the loops of this process make progress, as the watchdog of systemd is told (src/shared/systemd.ts). A loop
 * that waits for a server that is away makes progress: each of its tries ends, after a few seconds at most.
 */

/** A loop that has made no progress for so long hangs: nothing in it may take longer. */
export const HANGS_MS = 60_000;

export interface Progress {
  /** Notes that the loop makes progress. `forMs` is how long it may take to make more: Infinity if nobody can say. */
  made(forMs?: number): void;
  /** The loop has ended. */
  close(): void;
}

const loops = new Set<{ name: string; until: number }>();

/** Follows a loop until it is closed. */
export function openProgress(name: string): Progress {
  const loop = { name, until: performance.now() + HANGS_MS };
  loops.add(loop);
  return {
    made: (forMs = HANGS_MS) => void (loop.until = performance.now() + forMs),
    close: () => void loops.delete(loop),
  };
}

/** The names of the loops that hang. */
export function hangingLoops(now = performance.now()): string[] {
  return [...loops].filter(({ until }) => now > until).map(({ name }) => name);
}
