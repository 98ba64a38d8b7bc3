import { randomInt } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { dirname, join } from 'node:path';
import { Redis } from 'ioredis';
import { redisPasswords, renderUsers, type RedisUser } from '../../deploy/redis/render.ts';
import { redisUser } from '../../src/backends/redis/redis-connection.ts';
import type { Certificate } from './certificate.ts';
import { ANSWER_TIMEOUT_MS, makeFolder, type Server } from './daemon.ts';
import { ensurePassword } from './secret.ts';

export interface RedisServer extends Server {
  /** Without a user, because each program has its own. Known after the first start. */
  url(): string;
  /** The path of its unix socket. */
  socket: string;
  /** With the user and password of an account in the ACL file. */
  urlOf(user: RedisUser): string;
  /** Gives each portal a user of its own, and removes the users of all other portals, unless they are kept. */
  admitPortals(portals: readonly string[], others?: 'kept'): Promise<void>;
}

const SETTINGS = join(import.meta.dirname, '../../deploy/redis/redis.conf');

/**
 * A Redis on a free port of 127.0.0.1, with the settings and the users of deploy/redis.
 *
 * @param secrets the folder of the passwords; missing ones are created
 */
export function redisServer(folder: string, secrets: string): RedisServer {
  const data = join(folder, 'data');
  const socket = join(folder, 'run/redis.sock');
  const portFile = join(folder, 'port');
  const confFile = join(folder, 'redis.conf');
  // in a folder that Redis may write to
  const usersFile = join(folder, 'acl/users.acl');
  const port = (): number => Number(readFileSync(portFile, 'utf8'));
  const passwordOf = (user: RedisUser): string => ensurePassword(secrets, `redis-${user}`);
  const urlOf = (user: RedisUser): string =>
    `redis://${redisUser(user)}:${passwordOf(user)}@127.0.0.1:${port()}/0`;
  const passwordsOf = (user: RedisUser): string[] => {
    passwordOf(user); // creates it
    return redisPasswords({ secrets }, user);
  };
  const writeUsers = (portals: readonly string[], others = ''): void => {
    ensurePassword(secrets, 'redis-portals');
    const named = portals.map((portal) => ({ name: portal }));
    writeFileSync(usersFile, renderUsers(named, passwordsOf) + others, { mode: 0o644 });
  };
  /** What `chamberlain redis-users` has added. */
  const usersBesides = (portals: readonly string[]): string =>
    readFileSync(usersFile, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('user portal.'))
      .filter((line) => !portals.some((portal) => line.startsWith(`user portal.${portal} `)))
      .map((line) => `${line}\n`)
      .join('');
  return {
    name: 'redis',
    folder,
    user: 'redis',
    socket,
    stopSignal: 'SIGTERM',
    url: () => `redis://127.0.0.1:${port()}/0`,
    urlOf,
    async admitPortals(portals, others) {
      writeUsers(portals, others && usersBesides(portals));
      const redis = new Redis(urlOf('owner'));
      try {
        await redis.acl('LOAD');
      } finally {
        redis.disconnect();
      }
    },
    async prepare() {
      makeFolder(data, 'redis', 0o700);
      makeFolder(dirname(usersFile), 'redis', 0o755);
      writeFileSync(portFile, String(await keepOrChoosePort(portFile)));
      if (!existsSync(usersFile)) writeUsers([]);
      const conf = [
        `include ${SETTINGS}`,
        `aclfile ${usersFile}`,
        'bind 127.0.0.1',
        `unixsocket ${socket}`,
        'unixsocketperm 777', // its users have passwords
        `port ${port()}`,
        `dir ${data}`,
        'daemonize no',
        'set-proc-title no', // it would overwrite the environment, which identifies an orphan
        'save ""',
      ];
      writeFileSync(confFile, `${conf.join('\n')}\n`);
    },
    command: () => ['/usr/bin/redis-server', confFile],
    answers: () => ping(port(), redisUser('owner'), passwordOf('owner')),
  };
}

/** Has a running Redis also listen at addresses of this machine, by TLS. Returns its port there. */
export async function listenByTls(
  redis: RedisServer,
  addresses: readonly string[],
  { certificate, key }: Certificate,
): Promise<number> {
  const port = await freePort();
  const owner = new Redis(redis.urlOf('owner'));
  try {
    await owner.config('SET', 'bind', `127.0.0.1 ${addresses.join(' ')}`);
    await owner.config(
      ...(['SET', 'tls-cert-file', certificate, 'tls-key-file', key] as const),
      ...['tls-auth-clients', 'no', 'tls-port', String(port)],
    );
  } finally {
    owner.disconnect();
  }
  return port;
}

/**
 * The port of the last start if it is still free, or ours listens there; otherwise another. Other programs remember the
 * address.
 */
export async function keepOrChoosePort(
  portFile: string,
  isOurs: (port: number) => Promise<boolean> = () => Promise.resolve(false),
): Promise<number> {
  let kept = 0;
  try {
    kept = Number(readFileSync(portFile, 'utf8'));
  } catch {
    // the first start
  }
  if (kept > 0 && (await isOurs(kept))) return kept;
  // a server that was killed may hold it for a moment longer
  for (let tries = 0; kept > 0 && tries < 40; tries += 1) {
    if (await isFree(kept)) return kept;
    await sleep(50);
  }
  return freePort();
}

/** A port of 127.0.0.1 on which nothing listens now. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries += 1) {
    const port = randomInt(...PORTS);
    if (await isFree(port)) return port;
  }
  throw new Error('no free port');
}

/**
 * Below the ports that Linux gives to outgoing connections (net.ipv4.ip_local_port_range). A connection could
 * take such a port while its server is down, and the server could not come back at the same address.
 */
const PORTS = [10_000, 32_768] as const;

/** Whether a server can listen on it. */
function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(false));
    server.listen({ port, host: '127.0.0.1' }, () => server.close(() => done(true)));
  });
}

function ping(port: number, user: string, password: string): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect({ port, host: '127.0.0.1', timeout: ANSWER_TIMEOUT_MS });
    const end = (answer: boolean): void => {
      socket.destroy();
      done(answer);
    };
    let answer = '';
    socket.once('connect', () => socket.write(`AUTH ${user} ${password}\r\nPING\r\n`));
    socket.on('data', (data) => {
      answer += data.toString();
      if (answer.split('\r\n').length > 2) end(answer.includes('+PONG'));
    });
    socket.once('timeout', () => end(false));
    socket.once('error', () => end(false));
  });
}
