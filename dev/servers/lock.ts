import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Place } from './place.ts';

/**
 * Holds a lock until the returned function is called or this process ends: a name in the kernel's namespace of
 * abstract sockets (unix(7), "abstract") leaves no file to clean up.
 */
export async function lock(place: Place): Promise<() => void> {
  for (;;) {
    const unlock = await tryLock(place);
    if (unlock !== undefined) return unlock;
    await sleep(50);
  }
}

/** As `lock`, but undefined where another process holds it. */
export function tryLock(place: Place): Promise<(() => void) | undefined> {
  const server = createServer();
  return new Promise((done, fail) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? done(undefined) : fail(error),
    );
    server.listen(`\0chamberlain-stack-${place.mark}`, () => done(() => server.close()));
  });
}
