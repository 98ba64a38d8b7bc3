/** The password of a role of ours, as it changes it itself: for its own, no role needs another's right. */
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

/** A connection of a role, and which of some passwords has let it in. */
export interface RoleLogin {
  password: string;
  /** other machines on which the role is logged in: their addresses */
  elsewhere(): Promise<string[]>;
  change(verifier: string): Promise<void>;
  close(): Promise<void>;
}

/** Logs in as a role by the first of these passwords that PostgreSQL takes. */
export async function logInByAny(
  config: Config,
  role: PostgresRole,
  passwords: readonly string[],
): Promise<RoleLogin> {
  const as = ` as ${loginOf(role)}`;
  for (const password of passwords) {
    const client = new pg.Client({ ...connectionSettings(config, role), password });
    client.on('error', () => {}); // the statement in hand reports
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
        // what of it a server logs is no password
        await client.query(`ALTER ROLE CURRENT_USER PASSWORD ${pg.escapeLiteral(verifier)}`);
      },
      close: () => client.end(),
    };
  }
  throw new ChamberlainError('STEP_FAILED', `logging in to PostgreSQL${as}`, {
    cause: new Error('its secret is not its password'),
    action: 'Give it the password of its secret first: see docs/install.md, step 5.',
  });
}
