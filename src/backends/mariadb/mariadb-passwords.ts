/** Changes the passwords of Chamberlain's own accounts on a MariaDB server. */
import { ChamberlainError, CORRECT_AND_RUN_AGAIN } from '../../shared/errors.ts';
import { verifierOf } from '../../credentials/credentials.ts';
import { identifiedBy } from './mariadb.ts';
import {
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
  try {
    await onServer(place, login, (connection) =>
      connection.query(`ALTER USER '${user}'@'%' ${identifiedBy(verifiers)}`, verifiers),
    );
  } catch (cause) {
    const act = `changing the password of ${user} on ${place.name}`;
    if (isUnavailable(cause)) throw new ChamberlainError('BACKEND_UNAVAILABLE', act, { cause });
    throw new ChamberlainError('STEP_FAILED', act, { cause, action: CORRECT_AND_RUN_AGAIN });
  }
}
