/**
 * Replaces a secret while it is in use, so that no login is refused:
 *
 * | secret                       | first step                                                      | `--finish`                  |
 * | ---------------------------- | --------------------------------------------------------------- | --------------------------- |
 * | a password of Redis, the     | the server accepts a new password too ─▶ NAME has the new one,  | the server accepts only     |
 * | directory or MariaDB, which  | NAME.old the previous one                                       | NAME ─▶ NAME.old is removed |
 * | accept two                   |                                                                 |                             |
 * | a password of PostgreSQL,    | NAME.next is made, which stops new logins ─▶ pending logins     |                             |
 * | which accepts one            | finish ─▶ the server accepts the new one ─▶ NAME has it         |                             |
 * | of the directory's admin, as | the server accepts the new password ─▶ NAME has it              |                             |
 * | whom no program logs in      |                                                                 |                             |
 * | a key                        | NAME.next is made; its public half is given to the others       | NAME is the new key         |
 *
 * After an interruption anywhere, run it again. A password that was given to a server but not written to a file is
 * known to nobody, and stops working when the next run finishes.
 */
import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Config, oldOf, readSecret, type SecretServer } from '../shared/config.ts';
import { directoryPlace } from '../backends/ldap/directory-health.ts';
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
  alone,
  readSecretFiles,
  removeOld,
  type SecretFiles,
  takeNext,
  writeNext,
} from './secret-files.ts';
import { withAdmin } from '../cli/admin.ts';
import { changeOwnPasswords } from './redis-users.ts';

/** Reports the next step. */
export type Say = (step: string) => void;

/** How a secret is replaced. */
export type Rotation = { name: string; what: string } & (
  | {
      way: 'two at once';
      server: string;
      /**
       * makes the server accept exactly these passwords, of which the first may be new; with only one, no other works
       */
      set(passwords: readonly string[]): Promise<void>;
      /** ends what was opened with an old password, if the server lets us */
      endSessions?(): Promise<void>;
    }
  | {
      way: 'one at a time';
      server: string;
      /** returns when the server accepts only that password; calls `begin` before it changes anything */
      change(files: SecretFiles, next: string, begin: () => Promise<void>, say: Say): Promise<void>;
    }
  | { way: 'key'; others: string }
);

/**
 * @param name one of `secretsOf`
 * @param endsOthers whether programs on other machines are not waited for, and their sessions end
 */
export function rotationOf(
  config: Config,
  name: string,
  { endsOthers = false }: { endsOthers?: boolean } = {},
): Rotation {
  if (name === 'seal-key') {
    return { name, way: 'key', what: 'the key that signs seals', others: 'login host' };
  }
  if (name === 'events-key') {
    return { name, way: 'key', what: 'the key that signs events', others: 'portal' };
  }
  const [, server, account = ''] = /^([a-z]+)-(.+)$/u.exec(name) ?? [];
  switch (server) {
    case 'postgres':
      return ofPostgres(config, name, account as PostgresRole, endsOthers);
    case 'ldap':
      return account === 'admin' && config.ldap.shared !== true
        ? ofDirectoryAdmin(config, name)
        : ofDirectory(config, name, account);
    case 'mariadb':
      return ofMariadb(config, name, account);
    default:
      if (account === 'portals') return ofPortals(config, name);
      return ofRedis(config, name, account as RedisAccount | 'owner');
  }
}

function ofPostgres(
  config: Config,
  name: string,
  role: PostgresRole,
  endsOthers: boolean,
): Rotation {
  return {
    ...{ name, way: 'one at a time', server: 'PostgreSQL' },
    what: `the password of ${loginOf(role)} in PostgreSQL`,
    async change(files, next, begin, say) {
      const passwords = [files.now, ...(files.next === undefined ? [] : [files.next])];
      const login = await logInByAny(config, role, passwords);
      try {
        // otherwise an earlier run was interrupted after this
        if (login.password !== files.next) {
          const elsewhere = endsOthers ? [] : await login.elsewhere();
          if (elsewhere.length > 0) throw alsoElsewhere(role, elsewhere);
          await begin();
          writeNext(files.path, next);
          say('waiting until pending logins are finished');
          await sleep(CHANGING_MS.settles);
          say('giving PostgreSQL the new password');
          await login.change(scramVerifier(next, randomBytes(16)));
        }
        if (endsOthers) await login.endOthers();
      } finally {
        await login.close();
      }
      // until its session ended, a program there could have changed the password, too
      if (endsOthers) await (await logInByAny(config, role, [next])).close();
    },
  };
}

/** Programs on another machine would be refused until that machine has the new file. */
function alsoElsewhere(role: PostgresRole, addresses: readonly string[]): ChamberlainError {
  const what = `${loginOf(role)} is also logged in from ${addresses.join(' and ')}, and PostgreSQL accepts only one password for a role`;
  return new ChamberlainError('STEP_FAILED', what, {
    action: 'Stop its programs there, run the command again, and start them with the new secret.',
  });
}

function ofDirectory(config: Config, name: string, account: string): Rotation {
  return {
    ...{ name, way: 'two at once', server: 'the directory' },
    what: `the password of cn=${account} in the directory`,
    async set([first = '', second]) {
      const adminPassword = requireSecret(config, 'ldap', 'admin');
      await changePassword(directoryPlace(config), adminPassword, {
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
      await changeAdminPassword(directoryPlace(config), saltedSha1(next, randomBytes(16)));
    },
  };
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
    async endSessions() {
      const password = requireSecret(config, 'mariadb', 'databases');
      for (const server of config.databases.servers) {
        await mariadb.endSessions(server, { user: 'chamberlain_databases', password }, user);
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
    endSessions: () => redis.endSessions(config, account),
  };
}

function ofPortals(config: Config, name: string): Rotation {
  return {
    ...{ name, way: 'two at once', server: 'Redis' },
    what: 'from which Chamberlain derives its own passwords for the Redis users of portals that were added by request',
    async set(passwords) {
      requireSecret(config, 'redis', 'owner');
      await changeOwnPasswords(config, passwords);
    },
  };
}

/** Reads a secret that is needed to change others. */
function requireSecret(config: Config, server: SecretServer, account: string): string {
  try {
    return readSecret(config, server, account);
  } catch (cause) {
    throw new ChamberlainError(
      'CONFIG_INVALID',
      `changing a password with the secret ${server}-${account}`,
      {
        cause,
        action:
          'Run the command as a user who may read this secret, on a machine that has it and the secret to be replaced. If no machine has both, copy this one here until the command has ended.',
      },
    );
  }
}

/** The result of a run. */
export interface Rotated {
  name: string;
  /**
   * `rotated`: nothing is left to do · `beside`: the server still accepts the old one too · `announced`: a new key is
   * made but not in use yet · `finished` · `nothing`: there was nothing to finish
   */
  step: 'rotated' | 'beside' | 'announced' | 'finished' | 'nothing';
  /** the public half of the new key, in PEM */
  publicKey?: string;
}

/** Does the first step, or everything if there is only one. Throws STEP_FAILED if another run is in progress. */
export async function rotate(config: Config, secret: Rotation, say: Say): Promise<Rotated> {
  return alone(config, secret.name, () => rotateAlone(config, secret, say));
}

/** Does the second step. Throws STEP_FAILED if the first was interrupted or another run is in progress. */
export async function finish(config: Config, secret: Rotation, say: Say): Promise<Rotated> {
  return alone(config, secret.name, () => finishAlone(config, secret, say));
}

/**
 * Replaces a password that somebody may know who must not have it, and ends what they have opened with it: the
 * sessions in PostgreSQL, Redis and MariaDB. What is bound in the directory stays so until slapd is restarted. It may be
 * run again if it was interrupted.
 */
export async function replaceAtOnce(config: Config, name: string, say: Say): Promise<void> {
  const secret = rotationOf(config, name, { endsOthers: true });
  await alone(config, name, async () => {
    if (secret.way === 'two at once') {
      // of a rotation that somebody has begun, they may know both passwords
      if (readSecretFiles(config, name).next !== undefined) await rotateAlone(config, secret, say);
      await finishAlone(config, secret, say);
    }
    await rotateAlone(config, secret, say);
    if (secret.way !== 'two at once') return;
    await finishAlone(config, secret, say);
    say(`ending what is open in ${secret.server}`);
    await secret.endSessions?.();
  });
}

async function rotateAlone(config: Config, secret: Rotation, say: Say): Promise<Rotated> {
  const { name } = secret;
  const files = readSecretFiles(config, name);
  const { path } = files;
  if (secret.way === 'key') {
    const next = files.next ?? makeSigningKey();
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
  say(`giving ${secret.server} the new password in addition to the present one`);
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
    throw new ChamberlainError(
      'STEP_FAILED',
      `finishing the rotation of ${name}, which was interrupted`,
      {
        action: `First run \`chamberlain secret rotate ${name}\` again.`,
      },
    );
  }
  if (secret.way === 'one at a time' || !hasOld) return { name, step: 'nothing' };
  await record(config, name, say);
  say(`removing the old password from ${secret.server}`);
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

/** A new Ed25519 key: PKCS #8 in PEM. */
export function makeSigningKey(): string {
  const { privateKey } = generateKeyPairSync('ed25519');
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}
