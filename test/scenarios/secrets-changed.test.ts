/**
 * Every password that a worker logs in with, and every key that it signs by, is changed while the workers run: they go
 * on by the new one, unrestarted.
 */
import { createPublicKey } from 'node:crypto';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { createMariadbAccounts } from '../../dev/servers/mariadb.ts';
import { setRolePasswords } from '../../dev/servers/postgres.ts';
import { ensurePassword, ensureSigningKey } from '../../dev/servers/secret.ts';
import { adminOfPortal } from '../../src/config.ts';
import { openDirectoryServers } from '../../src/login-host/directory-servers.ts';
import { sealKeyId, verifyPayload } from '../../src/model/seal.ts';
import { administer, asSuperuser, startServer, stopServer, type World } from '../stack.ts';
import { changeDirectory, faultsOf, readDirectory, settled } from './outside.ts';
import { admit, openRunning, type Running } from './running.ts';

let running: Running;
let world: World;

beforeAll(async () => {
  running = await openRunning('secrets changed', { own: true });
  ({ world } = running);
  await admit(running.portal, 'alice');
}, 120_000);
afterAll(async () => running?.close(), 60_000);

/** Removes the files of these secrets, so that whoever makes the accounts anew makes other passwords. */
function forget(which: RegExp): string[] {
  const { secrets } = world.config;
  const files = readdirSync(secrets).filter((file) => which.test(file));
  for (const file of files) rmSync(join(secrets, file));
  expect(files).not.toEqual([]);
  return files;
}

async function changeOfDirectory(): Promise<void> {
  const accounts = forget(/^ldap-(directory|keys-agent)/).map((file) => file.replace('ldap-', ''));
  await changeDirectory(
    world,
    'ldapmodify',
    accounts
      .map((account) => {
        const password = ensurePassword(world.config.secrets, `ldap-${account}`);
        const dn = `cn=${account},ou=chamberlain,${world.config.ldap.base}`;
        return `dn: ${dn}\nchangetype: modify\nreplace: userPassword\nuserPassword: ${password}\n`;
      })
      .join('\n'),
  );
  await stopServer(world.slapd);
  await startServer(world.slapd);
}

const CHANGES: [string, () => Promise<void>][] = [
  [
    'PostgreSQL',
    async () => {
      forget(/^postgres-(?!owner)/);
      await setRolePasswords(world.postgres, world.config.secrets);
      await asSuperuser(world.postgres, 'postgres', (client) =>
        client.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'chamberlain\\_%'`,
        ),
      );
    },
  ],
  [
    'MariaDB',
    async () => {
      forget(/^mariadb-/);
      for (const server of [world.replica, world.tools]) {
        await createMariadbAccounts(server, world.config.secrets);
        await administer(
          server.socket,
          'KILL USER chamberlain_databases; KILL USER chamberlain_databases_eyes;',
        );
      }
    },
  ],
  ['the directory', changeOfDirectory],
  [
    'Redis',
    async () => {
      forget(/^redis-(?!owner|portal)/);
      const portals = world.config.portals.map(({ name }) => name);
      await world.redis.admitPortals(portals.filter((name) => adminOfPortal(name) === undefined));
      const redis = new Redis(world.redis.urlOf('owner'));
      await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      redis.disconnect();
    },
  ],
  [
    'the keys',
    async () => {
      forget(/-key$/);
      const { secrets } = world.config;
      const sealKey = ensureSigningKey(join(secrets, 'seal-key'));
      Object.assign(world, { sealKey, eventsKey: ensureSigningKey(join(secrets, 'events-key')) });
    },
  ],
];

test.each(CHANGES)(
  '%s',
  async (server, change) => {
    await change();
    const name = server.replaceAll(/[^a-z]+/gi, '-').toLowerCase();
    const wish = { kind: 'tool.create', requestedBy: 'alice', name, title: 'After the change' };
    await running.portal.get(wish);
    await settled(world);
    expect(await faultsOf(world, [name])).toEqual([]);
    const entries = await readDirectory(world, { filter: `(uid=tools.${name})` });
    const [[seal = ''] = []] = [...entries.values()].map((entry) => entry['chamberlainSeal'] ?? []);
    const publicKey = createPublicKey(world.sealKey);
    const keys = new Map([[sealKeyId(publicKey), publicKey]]);
    expect(verifyPayload(seal, keys)).toMatchObject({ ok: true });
  },
  90_000,
);

test('the agent of a login host, by a connection that it opens after its password was changed', async () => {
  const { ldap, realm, secrets } = world.config;
  const passwordFile = join(secrets, 'ldap-keys-agent');
  const servers = openDirectoryServers({
    realm,
    ldap: { uris: [ldap.uri], base: ldap.base, passwordFile },
  });
  const countNames = async () => {
    let count = 0;
    for await (const page of servers.open().names()) count += page.length;
    return count;
  };
  const count = await countNames();
  await changeOfDirectory();
  expect(await countNames()).toBe(count);
  await servers.turnAway();
});
