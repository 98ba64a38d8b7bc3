/** The door of a tenant's account on a server: closed while databases are put away, lent while they are loaded. */
import { verifierOf } from '../model/credentials.ts';
import { endConnections, isThere } from './mariadb.ts';
import { grantStatement } from './mariadb-accounts.ts';
import {
  type Connection,
  type DatabaseLogin,
  type DatabaseServerPlace,
  usePatiently,
} from './mariadb-connections.ts';

export interface TenantMaker {
  newPassword(): string;
  /** the verifiers recorded for an account, the newest first; none where none is */
  readVerifiers(uid: number): Promise<string[]>;
}

/** Nobody gets in as the user, and nobody is in. */
export async function closeDoor(connection: Connection, user: string): Promise<void> {
  await connection.query(`ALTER USER IF EXISTS ${accountOf(connection, user)} ACCOUNT LOCK`);
  await endConnections(connection, user);
}

/**
 * Lends the tenant's own account, made where there is none, with a password that is used for nothing
 * else. Afterwards it is locked, its connections ended, and it is what it was: not there, or with the
 * recorded password. Cut between, it is an account with a password that nobody knows.
 */
export async function withTenant<T>(
  { place, login, user }: { place: DatabaseServerPlace; login: DatabaseLogin; user: string },
  terms: TenantMaker,
  act: (tenant: DatabaseLogin) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const password = terms.newPassword();
  const wasThere = await usePatiently(place, login, signal, async (connection) => {
    const account = accountOf(connection, user);
    await closeDoor(connection, user);
    const there = await isThere(connection, user);
    await connection.query(
      there
        ? `ALTER USER ${account} IDENTIFIED BY PASSWORD ? ACCOUNT UNLOCK`
        : `CREATE USER ${account} IDENTIFIED BY PASSWORD ? ACCOUNT UNLOCK`,
      [verifierOf(password)],
    );
    for (const grant of [`ALL on ${user}\\_\\_%.*`, 'SELECT, SHOW VIEW on %\\_p.*']) {
      await connection.query(grantStatement(grant, account, (name) => connection.escapeId(name)));
    }
    return there;
  });
  try {
    return await act({ user, password });
  } finally {
    // also where the work was cut short: the door is not left open for that
    const whatever = new AbortController().signal;
    const verifiers = wasThere ? await terms.readVerifiers(Number(user.slice(1))) : [];
    await usePatiently(place, login, whatever, async (connection) => {
      const account = accountOf(connection, user);
      await closeDoor(connection, user);
      if (!wasThere) await connection.query(`DROP USER ${account}`);
      if (verifiers.length === 0) return;
      const ways = verifiers.map(() => 'mysql_native_password USING ?').join(' OR ');
      await connection.query(`ALTER USER ${account} IDENTIFIED VIA ${ways}`, verifiers);
    });
  }
}

function accountOf(connection: Connection, user: string): string {
  return `${connection.escapeId(user)}@${connection.escapeId('%')}`;
}
