/**
 * Replaces a secret while it is in use, so that nobody is refused:
 *
 * | what                         | first                                                          | asked to finish              |
 * | ---------------------------- | -------------------------------------------------------------- | ---------------------------- |
 * | of which a server takes two: | the server takes a new one too ─▶ NAME is that, NAME.old the   | the server takes NAME alone  |
 * | Redis, directory, MariaDB    | one before                                                     | ─▶ NAME.old is removed       |
 * | PostgreSQL, which takes one  | NAME.next is made: no login begins ─▶ logins that have begun   |                              |
 * |                              | are through ─▶ the server takes it ─▶ NAME is that             |                              |
 * | the directory's admin, as    | the server takes a new one ─▶ NAME is that                     |                              |
 * | whom no program logs in      |                                                                |                              |
 * | a key                        | NAME.next is made; others are given its public half            | NAME is that                 |
 *
 * Whoever is cut anywhere runs it again. A password that a server was given, and that was not written down, is known to
 * nobody, and ends with the next that finishes.
 */
import { createPublicKey, generateKeyPairSync, hash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Config, oldOf, readSecret, type SecretServer } from '../shared/config.ts';
import { changeAdminPassword, changePassword } from '../backends/ldap/directory-passwords.ts';
import * as mariadb from '../backends/mariadb/mariadb-passwords.ts';
import { type RedisAccount, redisUser } from '../backends/redis/redis-connection.ts';
import * as redis from '../backends/redis/redis-passwords.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { makePassword } from '../credentials/credentials.ts';
import { saltedSha1, scramVerifier } from './secret.ts';
import { writeOperatorAction } from '../audit/operator-actions.ts';
import { logInByAny } from './passwords.ts';
import { CHANGING_MS, loginOf, type PostgresRole } from '../database/connection.ts';
import { operatorName } from '../cli/operator.ts';
import {
  readSecretFiles,
  removeOld,
  type SecretFiles,
  takeNext,
  writeNext,
} from './secret-files.ts';
import { withAdmin } from '../cli/admin.ts';

/** Says what is done next. */
export type Say = (step: string) => void;

/** How a secret is replaced. */
export type Rotation = { name: string; what: string } & (
  | {
      way: 'two at once';
      server: string;
      /** the server takes these passwords from then on, the first of which may be new to it; of one alone, no other */
      set(passwords: readonly string[]): Promise<void>;
    }
  | {
      way: 'one at a time';
      server: string;
      /** returns once the server takes that password alone; calls `begin` before it changes anything */
      change(files: SecretFiles, next: string, begin: () => Promise<void>, say: Say): Promise<void>;
    }
  | { way: 'key'; others: string }
);

/** @param name as of `secretsOf` */
export function rotationOf(config: Config, name: string): Rotation {
  if (name === 'seal-key') {
    return { name, way: 'key', what: 'the key that seals are signed by', others: 'login host' };
  }
  if (name === 'events-key') {
    return { name, way: 'key', what: 'the key that events are signed by', others: 'portal' };
  }
  const [, server, account = ''] = /^([a-z]+)-(.+)$/u.exec(name) ?? [];
  switch (server) {
    case 'postgres':
      return ofPostgres(config, name, account as PostgresRole);
    case 'ldap':
      return account === 'admin'
        ? ofDirectoryAdmin(config, name)
        : ofDirectory(config, name, account);
    case 'mariadb':
      return ofMariadb(config, name, account);
    default:
      return ofRedis(config, name, account as RedisAccount | 'owner');
  }
}

function ofPostgres(config: Config, name: string, role: PostgresRole): Rotation {
  return {
    ...{ name, way: 'one at a time', server: 'PostgreSQL' },
    what: `the password of ${loginOf(role)} in PostgreSQL`,
    async change(files, next, begin, say) {
      const passwords = [files.now, ...(files.next === undefined ? [] : [files.next])];
      const login = await logInByAny(config, role, passwords);
      try {
        if (login.password === files.next) return; // it was cut when that was done
        const elsewhere = await login.elsewhere();
        if (elsewhere.length > 0) throw alsoElsewhere(role, elsewhere);
        await begin();
        writeNext(files.path, next);
        say('waiting until logins that have begun are through');
        await sleep(CHANGING_MS.settles);
        say('giving PostgreSQL the new password');
        await login.change(scramVerifier(next, randomBytes(16)));
      } finally {
        await login.close();
      }
    },
  };
}

/** What logs in on another machine would be refused until that has the new file. */
function alsoElsewhere(role: PostgresRole, addresses: readonly string[]): ChamberlainError {
  const what = `${loginOf(role)} is logged in from ${addresses.join(' and ')} too, and PostgreSQL takes one password of a role`;
  return new ChamberlainError('STEP_FAILED', what, {
    action: 'End its programs there, run this again, and start them by the new file.',
  });
}

function ofDirectory(config: Config, name: string, account: string): Rotation {
  return {
    ...{ name, way: 'two at once', server: 'the directory' },
    what: `the password of cn=${account} in the directory`,
    async set([first = '', second]) {
      const adminPassword = requireSecret(config, 'ldap', 'admin');
      await changePassword(placeOf(config), adminPassword, {
        account,
        operation: second === undefined ? 'replace' : 'add',
        kept: saltedSha1(first, randomBytes(16)),
      });
    },
  };
}

function ofDirectoryAdmin(config: Config, name: string): Rotation {
  return {
    ...{ name, way: 'one at a time', server: 'the directory' },
    what: "the password of the directory's cn=admin",
    async change(_files, next, begin, say) {
      await begin();
      say('giving the directory the new password');
      await changeAdminPassword(placeOf(config), saltedSha1(next, randomBytes(16)));
    },
  };
}

function placeOf({ ldap, realm }: Config) {
  return { uri: ldap.uri, base: ldap.base, realm, caFile: ldap.caFile };
}

function ofMariadb(config: Config, name: string, account: string): Rotation {
  const user = `chamberlain_${account.replace('-', '_')}`;
  return {
    ...{ name, way: 'two at once', server: 'each MariaDB server' },
    what: `the password of ${user} in MariaDB`,
    async set(passwords) {
      const password = requireSecret(config, 'mariadb', 'databases');
      for (const server of config.databases.servers) {
        await mariadb.setPasswords(
          server,
          { user: 'chamberlain_databases', password },
          user,
          passwords,
        );
      }
    },
  };
}

function ofRedis(config: Config, name: string, account: RedisAccount | 'owner'): Rotation {
  return {
    ...{ name, way: 'two at once', server: 'Redis' },
    what: `the password of ${redisUser(account)} in Redis`,
    async set(passwords) {
      requireSecret(config, 'redis', 'owner');
      await redis.setPasswords(config, account, passwords);
    },
  };
}

/** The secret by which others are changed. */
function requireSecret(config: Config, server: SecretServer, account: string): string {
  try {
    return readSecret(config, server, account);
  } catch (cause) {
    throw new ChamberlainError('CONFIG_INVALID', `changing a password by ${server}-${account}`, {
      cause,
      action: 'Run it where that secret is, as a user who may read it.',
    });
  }
}

/** What a run has come to. */
export interface Rotated {
  name: string;
  /**
   * `rotated`: nothing is left to do · `beside`: the server takes the old one too · `announced`: a key is made, and not
   * in use yet · `finished` · `nothing`: there was nothing to finish
   */
  step: 'rotated' | 'beside' | 'announced' | 'finished' | 'nothing';
  /** of a key that is made, in PEM */
  publicKey?: string;
}

/** The first step, or all of it where there is one. Throws STEP_FAILED where another run is at it. */
export async function rotate(config: Config, secret: Rotation, say: Say): Promise<Rotated> {
  return alone(config, secret.name, () => rotateAlone(config, secret, say));
}

/** The second step. Throws STEP_FAILED where the first was cut, or where another run is at it. */
export async function finish(config: Config, secret: Rotation, say: Say): Promise<Rotated> {
  return alone(config, secret.name, () => finishAlone(config, secret, say));
}

/** Of two runs at once, each would give the server a password that the other knows nothing of. */
async function alone<T>(config: Config, name: string, act: () => Promise<T>): Promise<T> {
  // an abstract address (unix(7), at most 107 bytes) ends with the process, however that ends
  const held = createServer().listen(`\0chamberlain-${hash('sha256', join(config.secrets, name))}`);
  try {
    await once(held, 'listening');
  } catch {
    throw new ChamberlainError('STEP_FAILED', `another run is replacing ${name}`, {
      action: 'Wait for its end.',
    });
  }
  try {
    return await act();
  } finally {
    held.close();
  }
}

async function rotateAlone(config: Config, secret: Rotation, say: Say): Promise<Rotated> {
  const { name } = secret;
  const files = readSecretFiles(config, name);
  const { path } = files;
  if (secret.way === 'key') {
    const next = files.next ?? newKey();
    if (files.next === undefined) {
      await record(config, name, say);
      writeNext(path, next);
    }
    const publicKey = createPublicKey(next).export({ type: 'spki', format: 'pem' }).toString();
    return { name, step: 'announced', publicKey };
  }
  if (secret.way === 'one at a time') {
    const next = files.next ?? makePassword(randomBytes);
    await secret.change(files, next, () => record(config, name, say), say);
    say(`replacing ${path}`);
    writeNext(path, next);
    takeNext(path, { keepsOld: false });
    return { name, step: 'rotated' };
  }
  if (files.hasOld && files.next === undefined) return { name, step: 'beside' };
  const next = makePassword(randomBytes);
  await record(config, name, say);
  say(`giving ${secret.server} the new password beside the present one`);
  await secret.set([next, files.now]);
  say(`replacing ${path}`);
  writeNext(path, next);
  say(`keeping the old password in ${oldOf(path)}`);
  takeNext(path, { keepsOld: true });
  return { name, step: 'beside' };
}

async function finishAlone(config: Config, secret: Rotation, say: Say): Promise<Rotated> {
  const { name } = secret;
  const { path, now, next, hasOld } = readSecretFiles(config, name);
  if (secret.way === 'key') {
    if (next === undefined) return { name, step: 'nothing' };
    await record(config, name, say);
    say(`replacing ${path}`);
    takeNext(path, { keepsOld: false });
    return { name, step: 'finished' };
  }
  if (next !== undefined) {
    throw new ChamberlainError('STEP_FAILED', `finishing the rotation of ${name}, which was cut`, {
      action: `Run \`chamberlain secret rotate ${name}\` again first.`,
    });
  }
  if (secret.way === 'one at a time' || !hasOld) return { name, step: 'nothing' };
  await record(config, name, say);
  say(`taking the old password from ${secret.server}`);
  await secret.set([now]);
  say(`removing ${oldOf(path)}`);
  removeOld(path);
  return { name, step: 'finished' };
}

async function record(config: Config, name: string, say: Say): Promise<void> {
  say('writing the audit');
  const act = { kind: 'secret.rotate', by: operatorName(), fields: [name] } as const;
  await withAdmin(config, (client) => writeOperatorAction(client, act));
}

function newKey(): string {
  const { privateKey } = generateKeyPairSync('ed25519');
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}
