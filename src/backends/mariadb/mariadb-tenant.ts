/**
 * Access to a tenant's account on a server: locked while its databases are archived, lent to us while they are
 * loaded.
 */
import { ChamberlainError } from '../../shared/errors.ts';
import { verifierOf } from '../../credentials/credentials.ts';
import { accountName, endConnections, give, isThere } from './mariadb.ts';
import { loadingRole } from './mariadb-inventory.ts';
import {
  type Connection,
  type DatabaseLogin,
  type DatabaseServerPlace,
  usePatiently,
} from './mariadb-connections.ts';

export interface TenantMaker {
  newPassword(): string;
  /** the verifiers recorded for an account, the newest first; empty if there are none */
  readVerifiers(uid: number): Promise<string[]>;
}

/** If a server does not answer for this long while an account is being locked again, it is left as it is. */
const TAKE_BACK_MS = 30_000;

/** The user whose databases are loaded. */
export interface Tenant extends DatabaseLogin {
  /** a role with the privilege EVENT, which a session must set */
  role: string;
}

/** Locks the user's account, and ends its connections. */
export async function lockUser(connection: Connection, user: string): Promise<void> {
  await connection.query(`ALTER USER IF EXISTS ${accountName(connection, user)} ACCOUNT LOCK`);
  await endConnections(connection, user);
}

/**
 * Lends the tenant's own account, created if it does not exist, with a password that is used for nothing else.
 * Afterwards the account is locked, its connections are ended, and it is as it was before: absent, or with the
 * recorded password. If this is interrupted, the account has a password that nobody knows.
 *
 * An event would run as soon as it is loaded, on whatever has been loaded by then. It does not run if its
 * definer has the privilege EVENT only by a role, because the scheduler checks the account's own privileges.
 */
export async function withTenant<T>(
  { place, login, user }: { place: DatabaseServerPlace; login: DatabaseLogin; user: string },
  terms: TenantMaker,
  act: (tenant: Tenant) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const password = terms.newPassword();
  const role = loadingRole(user);
  const wasThere = await usePatiently(place, login, signal, async (connection) => {
    const account = accountName(connection, user);
    const own = `${user}\\_\\_%`;
    const there = await isThere(connection, user);
    await connection.query(
      there
        ? `ALTER USER ${account} IDENTIFIED BY PASSWORD ? ACCOUNT LOCK`
        : `CREATE USER ${account} IDENTIFIED BY PASSWORD ? ACCOUNT LOCK`,
      [verifierOf(password)],
    );
    await give(connection, user, [`ALL but EVENT on ${own}.*`]);
    await connection.query(`REVOKE EVENT ON ${connection.escapeId(own)}.* FROM ${account}`);
    await endConnections(connection, user);
    await connection.query(`CREATE OR REPLACE ROLE ${role}`);
    await connection.query(`GRANT EVENT ON ${connection.escapeId(own)}.* TO ${role}`);
    await connection.query(`GRANT ${role} TO ${account}`);
    await connection.query(`ALTER USER ${account} ACCOUNT UNLOCK`);
    return there;
  });
  let result: T;
  try {
    result = await act({ user, password, role });
  } catch (error) {
    await takeBack().catch(() => {}); // the first error is the one to report
    throw error;
  }
  await takeBack();
  return result;

  /** Also if the work was interrupted: the account must not stay open because of that. */
  async function takeBack(): Promise<void> {
    const late = new AbortController();
    const why = new ChamberlainError('BACKEND_UNAVAILABLE', `locking ${user} on ${place.name}`, {
      cause: new Error(`no answer within ${TAKE_BACK_MS / 1000} s`),
    });
    const timer = setTimeout(() => late.abort(why), TAKE_BACK_MS);
    try {
      await usePatiently(place, login, late.signal, lock);
    } finally {
      clearTimeout(timer);
    }
  }

  async function lock(connection: Connection): Promise<void> {
    const account = accountName(connection, user);
    await lockUser(connection, user);
    await connection.query(`DROP ROLE IF EXISTS ${role}`);
    if (!wasThere) {
      await connection.query(`DROP USER ${account}`);
      return;
    }
    const verifiers = await terms.readVerifiers(Number(user.slice(1)));
    if (verifiers.length === 0) return;
    const ways = verifiers.map(() => 'mysql_native_password USING ?').join(' OR ');
    await connection.query(`ALTER USER ${account} IDENTIFIED VIA ${ways}`, verifiers);
  }
}
