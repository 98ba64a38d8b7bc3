/** Changes the passwords of Chamberlain's own accounts on a MariaDB server. */
import { ChamberlainError, CORRECT_AND_RUN_AGAIN } from '../../shared/errors.ts';
import { verifierOf } from '../../credentials/credentials.ts';
import { identifiedBy } from './mariadb.ts';
import {
  type Connection,
  type DatabaseLogin,
  type DatabaseServerPlace,
  isUnavailable,
  onServer,
} from './mariadb-connections.ts';

/** From then on each of these passwords lets an account in, and no other does; open sessions go on. */
export async function setPasswords(
  place: DatabaseServerPlace,
  login: DatabaseLogin,
  user: string,
  passwords: readonly string[],
): Promise<void> {
  const verifiers = passwords.map(verifierOf);
  const sql = `ALTER USER '${user}'@'%' ${identifiedBy(verifiers)}`;
  await run(place, login, `changing the password of ${user}`, (connection) =>
    connection.query(sql, verifiers),
  );
}

/** Ends the sessions of an account, but not the one that does so. */
export async function endSessions(
  place: DatabaseServerPlace,
  login: DatabaseLogin,
  user: string,
): Promise<void> {
  await run(place, login, `ending the sessions of ${user}`, async (connection) => {
    const sessions = await connection.query<{ id: bigint | number }[]>(
      'SELECT id FROM information_schema.processlist WHERE user = ? AND id <> CONNECTION_ID()',
      [user],
    );
    for (const { id } of sessions) {
      await connection.query(`KILL ${id}`).catch((error: unknown) => {
        if ((error as { errno?: number }).errno !== NO_SUCH_SESSION) throw error;
      });
    }
  });
}

/** ER_NO_SUCH_THREAD: it has ended by itself. */
const NO_SUCH_SESSION = 1094;

async function run(
  place: DatabaseServerPlace,
  login: DatabaseLogin,
  doing: string,
  work: (connection: Connection) => Promise<unknown>,
): Promise<void> {
  try {
    await onServer(place, login, work);
  } catch (cause) {
    const act = `${doing} on ${place.name}`;
    if (isUnavailable(cause)) throw new ChamberlainError('BACKEND_UNAVAILABLE', act, { cause });
    throw new ChamberlainError('STEP_FAILED', act, { cause, action: CORRECT_AND_RUN_AGAIN });
  }
}
