/** Changes the password of a PostgreSQL role as the role itself, because that needs no other role's rights. */
import pg from 'pg';
import type { Config } from '../shared/config.ts';
import { ChamberlainError } from '../shared/errors.ts';
import {
  connectionSettings,
  loginOf,
  type PostgresRole,
  sqlState,
  unreachable,
} from '../database/connection.ts';

/** A connection of a role, and the password with which it logged in. */
export interface RoleLogin {
  password: string;
  /** the addresses of other machines from which the role is logged in */
  elsewhere(): Promise<string[]>;
  change(verifier: string): Promise<void>;
  /** Ends every other session of the role. */
  endOthers(): Promise<void>;
  close(): Promise<void>;
}

/** Logs in as a role with the first of these passwords that PostgreSQL accepts. */
export async function logInByAny(
  config: Config,
  role: PostgresRole,
  passwords: readonly string[],
): Promise<RoleLogin> {
  const as = ` as ${loginOf(role)}`;
  for (const password of passwords) {
    const client = new pg.Client({ ...connectionSettings(config, role), password });
    client.on('error', () => {}); // the statement in progress reports it
    try {
      await client.connect();
    } catch (cause) {
      if (sqlState(cause) === '28P01') continue; // invalid_password
      throw unreachable(config.postgres, cause, as);
    }
    return {
      password,
      async elsewhere() {
        const { rows } = await client.query(
          `SELECT DISTINCT host(client_addr) AS address FROM pg_stat_activity
           WHERE usename = current_user AND client_addr IS DISTINCT FROM inet_client_addr()
             AND client_addr NOT IN ('127.0.0.1', '::1') ORDER BY 1`,
        );
        return (rows as { address: string }[]).map(({ address }) => address);
      },
      async change(verifier) {
        // if the server logs the statement, it logs no password
        await client.query(`ALTER ROLE CURRENT_USER PASSWORD ${pg.escapeLiteral(verifier)}`);
      },
      async endOthers() {
        await client.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE usename = current_user AND pid <> pg_backend_pid()`,
        );
      },
      close: () => client.end(),
    };
  }
  throw new ChamberlainError('STEP_FAILED', `logging in to PostgreSQL${as}`, {
    cause: new Error('the password of the role is not the one in its secret'),
    action:
      'First set the password of the role to the one in its secret: see docs/install.md, step 5.',
  });
}
