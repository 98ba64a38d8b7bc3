import { randomInt } from 'node:crypto';
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
  if (kept > 0 && (await isFree(kept))) return kept;
  for (let tries = 0; tries < 100; tries += 1) {
    const port = randomInt(...PORTS);
    if (await isFree(port)) return port;
  }
  throw new Error('no free port');
}

/**
 * Below the ports that Linux gives to outgoing connections (net.ipv4.ip_local_port_range). A connection could take such
 * a port while its server is down, and the server could not come back at the same address.
 */
const PORTS = [10_000, 32_768] as const;

/** Whether it can be listened on. */
function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(false));
    server.listen({ port, host: '127.0.0.1' }, () => server.close(() => done(true)));
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
