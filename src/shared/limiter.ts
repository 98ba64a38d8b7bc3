/** A limiter: runs only so many pieces of work at once, and lets others wait. */

/** Runs the work when its turn comes. Returns false, without running it, if too many wait already. */
export type Limiter = (work: () => Promise<void>) => Promise<boolean>;

export function openLimiter({ atOnce, waiting }: { atOnce: number; waiting: number }): Limiter {
  let running = 0;
  const queue: (() => void)[] = [];
  return async (work) => {
    if (running < atOnce) running += 1;
    else if (queue.length >= waiting) return false;
    else await new Promise<void>((resolve) => void queue.push(resolve));
    try {
      await work();
      return true;
    } finally {
      const next = queue.shift();
      if (next === undefined) running -= 1;
      else next();
    }
  };
}
