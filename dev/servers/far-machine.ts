/**
 * A machine at the other end of a cable, for tests of machines that vanish from the network without a word: a
 * network namespace of this machine, and a pair of interfaces. It shares files, processes and unix sockets; its
 * 127.0.0.1 is its own.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { makeCertificate } from './certificate.ts';
import { type StackConfig, writeConfig } from './config.ts';
import { type Server, startServer, stopServer } from './daemon.ts';
import { listeningAt, type PostgresServer } from './postgres.ts';
import { run } from './processes.ts';
import { listenByTls, type RedisServer } from './redis.ts';

export interface FarMachine {
  /** the address at which it reaches this machine, and at which a server here must listen */
  readonly here: string;
  /** The words before a command that run it there, in place of this process. */
  readonly prefix: readonly string[];
  /** From now on nothing comes from there, and nothing that is sent there is answered or refused. */
  vanish(): Promise<void>;
  /** Ends it. What runs there must have ended. */
  close(): Promise<void>;
}

let made = 0;

/** PostgreSQL, which is started again, and Redis, which runs, of a realm. */
interface Servers {
  postgres: PostgresServer;
  redis: RedisServer;
}

/**
 * Has both servers listen where the far machine reaches them, by TLS, and writes a configuration that names them so.
 *
 * @param folder a new one, for the certificates
 */
export async function serveFarMachine(
  { postgres, redis }: Servers,
  { here }: FarMachine,
  { folder, from, to }: { folder: string; from: string; to: string },
): Promise<void> {
  const of = (server: Server) =>
    makeCertificate(join(folder, server.name), { host: here, user: server.user });
  const [ofPostgres, ofRedis] = [await of(postgres), await of(redis)];
  await stopServer(postgres);
  await startServer(listeningAt(postgres, here, ofPostgres));
  const port = await listenByTls(redis, [here], ofRedis);
  const config = parse(readFileSync(from, 'utf8')) as StackConfig;
  const url = new URL(config.redis.url);
  url.protocol = 'rediss:';
  url.host = `${here}:${port}`;
  writeConfig(to, {
    ...config,
    postgres: { ...config.postgres, host: here, caFile: ofPostgres.ca },
    redis: { url: url.href, caFile: ofRedis.ca },
  });
}

/** Creates one; only root can. */
export async function openFarMachine(): Promise<FarMachine> {
  const number = (process.pid * 8 + made++) % 2 ** 14;
  const [name, ours, theirs] = [`chamberlain-${number}`, `cb${number}a`, `cb${number}b`];
  // reserved for benchmarks of networks (RFC 2544)
  const address = (host: number) => `198.18.${number >> 6}.${((number & 63) << 2) + host}`;
  const [here, there] = [address(1), address(2)];
  const ip = (...words: string[]) => run('/usr/sbin/ip', words);
  await ip('netns', 'add', name);
  await ip('link', 'add', ours, 'type', 'veth', 'peer', 'name', theirs, 'netns', name);
  await ip('address', 'add', `${here}/30`, 'dev', ours);
  await ip('link', 'set', ours, 'up');
  await ip('-n', name, 'address', 'add', `${there}/30`, 'dev', theirs);
  await ip('-n', name, 'link', 'set', theirs, 'up');
  return {
    here,
    prefix: ['/usr/sbin/ip', 'netns', 'exec', name],
    async vanish() {
      const link = JSON.parse(await ip('-j', '-n', name, 'link', 'show', theirs)) as [
        { address: string },
      ];
      // as if it were behind a router: this side of the cable does not notice that it does not answer
      await ip(
        ...['neighbour', 'replace', there, 'lladdr', link[0].address],
        ...['dev', ours, 'nud', 'permanent'],
      );
      // packets for an address that it does not have are dropped silently
      await ip('-n', name, 'address', 'flush', 'dev', theirs);
    },
    async close() {
      await ip('netns', 'delete', name);
    },
  };
}
