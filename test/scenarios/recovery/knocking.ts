/** Programs that log in with a secret of the realm again and again. */
import { setTimeout as sleep } from 'node:timers/promises';
import { secretReader } from '../../../src/shared/config.ts';
import { readAccountHealth } from '../../../src/backends/ldap/directory-health.ts';
import { openServers } from '../../../src/backends/mariadb/mariadb-connections.ts';
import {
  connectProducer,
  type RedisAccount,
} from '../../../src/backends/redis/redis-connection.ts';
import { openPool, type PostgresRole, withClient } from '../../../src/database/connection.ts';
import type { World } from '../../stack.ts';

export interface Knocker {
  /** Throws if the login is refused. */
  knock: () => Promise<unknown>;
  close: () => Promise<unknown>;
}

/** Logs in anew as a program does: with the secret that it has read since it started. */
export function openKnocker({ config }: World, name: string): Knocker {
  const [, server, account = ''] = /^([a-z]+)-(.+)$/u.exec(name) ?? [];
  const nothing = { close: () => Promise.resolve() };
  if (server === 'postgres') {
    const pool = openPool(config, account as PostgresRole, { max: 1, durable: false });
    return {
      // each of its connections is used once
      knock: () =>
        withClient(pool, (client) =>
          client.query('SELECT pg_terminate_backend(pg_backend_pid())').catch(() => {}),
        ),
      close: () => pool.end(),
    };
  }
  if (server === 'ldap') {
    const place = { uri: config.ldap.uri, base: config.ldap.base, realm: config.realm };
    const read = secretReader(config, 'ldap', account);
    return { ...nothing, knock: () => readAccountHealth(place, account, read()) };
  }
  if (server === 'mariadb') {
    const user = `chamberlain_${account.replace('-', '_')}`;
    const login = { user, password: secretReader(config, 'mariadb', account) };
    return {
      ...nothing,
      async knock() {
        const servers = openServers(config.databases.servers, login, 1);
        for (const { name: at } of config.databases.servers) {
          await servers.use(at, (connection) => connection.query('SELECT 1'));
        }
        await servers.close();
      },
    };
  }
  return {
    ...nothing,
    async knock() {
      const redis = connectProducer(config, account as RedisAccount);
      await redis.ping().finally(() => redis.disconnect());
    },
  };
}

/** Logs in with each of these secrets again and again, while `act` goes on; throws what was refused. */
export async function whileKnocking<T>(
  world: World,
  names: readonly string[],
  act: () => Promise<T>,
): Promise<T> {
  let isOver = false;
  const knocking = Promise.all(
    names.map(async (name) => {
      const { knock, close } = openKnocker(world, name);
      try {
        for (let isLast = false; !isLast; await sleep(50)) {
          isLast = isOver; // once more afterwards, with the new one
          await knock();
        }
      } finally {
        await close();
      }
    }),
  );
  knocking.catch(() => {}); // it is thrown below
  try {
    return await act();
  } finally {
    isOver = true;
    await knocking;
  }
}
