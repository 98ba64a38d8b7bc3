import { readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { ANSWER_TIMEOUT_MS, makeFolder, type Server } from './daemon.ts';

export interface RedisServer extends Server {
  /** Known once the server has been started once. */
  url(): string;
}

/** A Redis on a free port of 127.0.0.1 that loses nothing on purpose: append-only file, no eviction. */
export function redisServer(folder: string): RedisServer {
  const data = join(folder, 'data');
  const portFile = join(folder, 'port');
  const confFile = join(folder, 'redis.conf');
  const port = (): number => Number(readFileSync(portFile, 'utf8'));
  return {
    name: 'redis',
    folder,
    user: 'redis',
    stopSignal: 'SIGTERM',
    url: () => `redis://127.0.0.1:${port()}/0`,
    async prepare() {
      makeFolder(data, 'redis', 0o700);
      writeFileSync(portFile, String(await keepOrChoosePort(portFile)));
      const conf = [
        'bind 127.0.0.1',
        `port ${port()}`,
        `dir ${data}`,
        'daemonize no',
        'set-proc-title no', // it would write over the environment, by which an orphan is known
        'save ""',
        'appendonly yes',
        'maxmemory-policy noeviction',
      ];
      writeFileSync(confFile, `${conf.join('\n')}\n`);
    },
    command: () => ['/usr/bin/redis-server', confFile],
    answers: () => ping(port()),
  };
}

/** The port of the last start if it is still free, else one that is: others have addresses to remember. */
export async function keepOrChoosePort(portFile: string): Promise<number> {
  let kept = 0;
  try {
    kept = Number(readFileSync(portFile, 'utf8'));
  } catch {
    // the first start
  }
  return (await freePort(kept)) ?? (await freePort(0)) ?? Promise.reject(new Error('no free port'));
}

/** The port if it can be listened on (any free one for 0), undefined if it is taken. */
function freePort(wanted: number): Promise<number | undefined> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(undefined));
    server.listen({ port: wanted, host: '127.0.0.1' }, () => {
      const address = server.address();
      server.close(() => done(typeof address === 'object' ? address?.port : undefined));
    });
  });
}

function ping(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect({ port, host: '127.0.0.1', timeout: ANSWER_TIMEOUT_MS });
    const end = (answer: boolean): void => {
      socket.destroy();
      done(answer);
    };
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (data) => end(data.toString().startsWith('+PONG')));
    socket.once('timeout', () => end(false));
    socket.once('error', () => end(false));
  });
}
