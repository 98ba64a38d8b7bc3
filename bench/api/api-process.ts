/** The two servers that are compared: `chamberlain work api`, and a bare Fastify route. Each is a process of its own. */
import { fork } from 'node:child_process';
import { join } from 'node:path';
import { freePort } from '../../dev/servers/redis.ts';
import { type Closers, type MeasuredRealm, openRealm } from '../realm.ts';

/** A portal may have 16 streams at once. */
export const LISTENERS_PER_PORTAL = 16;
export const listenerName = (n: number): string => `listener-${n + 1}`;

/** A realm with an API, which is not started yet, and a portal for each right that is needed. */
export async function openApiRealm(
  parent: string,
  closers: Closers,
  listeners: number,
): Promise<{ realm: MeasuredRealm; port: number }> {
  const port = await freePort();
  const ordinary = { kinds: 'all', subjectEvents: false, speaksForAdmins: false } as const;
  const count = Math.ceil(listeners / LISTENERS_PER_PORTAL);
  const realm = await openRealm(parent, closers, {
    api: {
      listen: `127.0.0.1:${port}`,
      mostCallsPerMinute: { portal: 10_000_000, address: 10_000_000 },
    },
    portals: [
      { ...ordinary, name: 'reader', reads: ['public'] },
      ...Array.from({ length: count }, (_, n) => ({
        ...ordinary,
        name: listenerName(n),
        events: 'http' as const,
      })),
    ],
  });
  return { realm, port };
}

/** Starts the bare route, and returns its port. */
export async function startBare(
  { stack }: MeasuredRealm,
  closers: Closers,
): Promise<{ port: number; pid: number }> {
  const child = fork(join(import.meta.dirname, 'bare-server.ts'), [stack.place.configFile]);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  closers.push(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const port = await new Promise<number>((resolve, reject) => {
    child.once('message', (message) => resolve(message as number));
    child.once('exit', () => reject(new Error('the bare server did not start')));
  });
  return { port, pid: child.pid as number };
}
