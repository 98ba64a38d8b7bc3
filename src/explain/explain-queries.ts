/**
 * Finds what a word names, and asks the roles about it in the same statement, so that they look while the
 * tables are read.
 */
import type { Config } from '../shared/config.ts';
import type { Role } from '../reconcile/wanted.ts';
import type { Report } from '../reconcile/report.ts';
import { look } from '../database/overview.ts';
import { type Client, openPool } from '../database/connection.ts';
import { collectReports } from '../drift/collecting.ts';
import { SURVEY_CALLS } from '../drift/survey-calls.ts';
import { deleteSurvey } from '../drift/surveys-table.ts';

/** What to look for; an absent field is not looked for. */
export interface Sought {
  shellName?: string | undefined;
  /** a tool's name, or its account */
  tool?: string | undefined;
  /** in normal form */
  displayName?: string | undefined;
  email?: string | undefined;
  uid?: number | undefined;
  personUid?: number | undefined;
  toolUid?: number | undefined;
  fingerprint?: string | undefined;
}

interface FoundSubject {
  uid: number;
  kind: 'person' | 'tool';
}

/** What is read about one word, on one connection. */
export interface Looking {
  client: Client;
  /** people first */
  found: FoundSubject[];
  /**
   * The reports by role, as soon as every role has answered, or those that exist after `timeoutMs`. Empty at
   * once if nothing was found.
   */
  reports: (roles: readonly Role[], timeoutMs: number) => Promise<Map<Role, Report>>;
}

/** How often roles that have not answered are called again: one may have lost its connection when it was called. */
const CALL_AGAIN_MS = 1000;

const FIND_AND_ASK = `
  WITH found AS (
    SELECT uid, 'person' AS kind FROM people WHERE shell_name = $2
    UNION SELECT uid, 'person' FROM people WHERE display_name_key = $4
    UNION SELECT uid, 'person' FROM people WHERE lower(email) = lower($9)
    UNION SELECT uid, 'person' FROM people WHERE uid IN ($5, $6)
    UNION SELECT person, 'person' FROM ssh_keys WHERE fingerprint = $8
    UNION SELECT uid, 'tool' FROM tools WHERE account = $3
    UNION SELECT uid, 'tool' FROM tools WHERE name = $3
    UNION SELECT uid, 'tool' FROM tools WHERE uid IN ($5, $7)
  ), asked AS (
    INSERT INTO surveys (id, subjects) SELECT $1::uuid, array_agg(uid) FROM found HAVING count(*) > 0
    RETURNING pg_notify('${SURVEY_CALLS}', id::text)
  )
  SELECT uid, kind, (SELECT true FROM asked) AS asked FROM found ORDER BY kind, uid`;

/** Opens a connection, looks, and runs `act` with what was found. `id` must be a new UUID. */
export async function withLooking<T>(
  config: Config,
  id: string,
  sought: Sought,
  act: (looking: Looking) => Promise<T>,
): Promise<T> {
  // if a crash loses the survey, the caller asks again
  const pool = openPool(config, 'admin', { max: 1, durable: false });
  try {
    return await look(pool, async (client) => {
      const [, { rows }] = await Promise.all([
        client.query('LISTEN chamberlain_reports'),
        client.query(FIND_AND_ASK, [
          id,
          sought.shellName,
          sought.tool,
          sought.displayName,
          sought.uid,
          sought.personUid,
          sought.toolUid,
          sought.fingerprint,
          sought.email,
        ]),
      ]);
      const askedAt = performance.now();
      return await act({
        client,
        found: rows as FoundSubject[],
        async reports(roles, timeoutMs) {
          if (rows.length === 0) return new Map();
          const silentMs = askedAt + timeoutMs - performance.now();
          let calledAt = askedAt;
          const callAgain = async (): Promise<void> => {
            if (performance.now() - calledAt < CALL_AGAIN_MS) return;
            calledAt = performance.now();
            await client.query('SELECT pg_notify($1, $2)', [SURVEY_CALLS, id]);
          };
          const patience = { silentMs, mostPutOff: 1 };
          const reports = await collectReports(client, id, roles, patience, callAgain);
          // a late role must find the row, so the next caller deletes it
          if (reports.size === roles.length) await deleteSurvey(client, id);
          return reports;
        },
      });
    });
  } finally {
    await pool.end();
  }
}
