import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Place } from './place.ts';

/**
 * Holds a lock until the returned function is called or this process ends: a name in the kernel's namespace of
 * abstract sockets (unix(7), "abstract") leaves no file to clean up.
 */
export async function lock(place: Place): Promise<() => void> {
  const name = `\0chamberlain-stack-${place.mark}`;
  for (;;) {
    const server = createServer();
    const held = await new Promise<boolean>((done, fail) => {
      server.once('error', (error: NodeJS.ErrnoException) =>
        error.code === 'EADDRINUSE' ? done(false) : fail(error),
      );
      server.listen(name, () => done(true));
    });
    if (held) return () => server.close();
    await sleep(50);
  }
}
