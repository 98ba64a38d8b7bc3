/**
 * Finding what a word names, and asking the roles about it in the same statement: they look while the
 * tables are read.
 */
import type { Config } from '../shared/config.ts';
import type { Role } from '../reconcile/wanted.ts';
import type { Report } from '../reconcile/report.ts';
import { look } from '../database/overview.ts';
import { type Client, openPool } from '../database/connection.ts';
import { SURVEY_CALLS } from '../drift/survey-calls.ts';

/** What to look for; whatever is left out is not looked for. */
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

/** What is read of one word, on one connection. */
export interface Looking {
  client: Client;
  /** people first */
  found: FoundSubject[];
  /**
   * The roles' reports, by role, as soon as each of them has answered, or what there is so long after
   * they were asked. Empty at once where nothing was found.
   */
  reports: (roles: readonly Role[], timeoutMs: number) => Promise<Map<Role, Report>>;
}

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

/** Opens a connection, looks, and runs `act` with what was found. `id` is a new UUID. */
export async function withLooking<T>(
  config: Config,
  id: string,
  sought: Sought,
  act: (looking: Looking) => Promise<T>,
): Promise<T> {
  // a survey that a crash loses is asked for again by whoever wants it
  const pool = openPool(config, 'admin', { max: 1, durable: false });
  try {
    return await look(pool, async (client) => {
      let wake: (() => void) | undefined;
      client.on('notification', ({ payload }) => {
        if (payload === id) wake?.();
      });
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
          const deadline = askedAt + timeoutMs;
          for (let reports = new Map<Role, Report>(); ;) {
            const woken = new Promise<void>((resolve) => (wake = resolve));
            if (rows.length > 0) reports = await readReports(client, id);
            const leftMs = deadline - performance.now();
            const isWhole = rows.length === 0 || roles.every((role) => reports.has(role));
            // what is late must find its row: whoever asks next throws it away
            if (isWhole) await client.query('DELETE FROM surveys WHERE id = $1', [id]);
            if (isWhole || leftMs <= 0) return reports;
            await withinMs(woken, leftMs);
          }
        },
      });
    });
  } finally {
    await pool.end();
  }
}

async function readReports(client: Client, id: string): Promise<Map<Role, Report>> {
  const { rows } = await client.query('SELECT role, report FROM reports WHERE survey = $1', [id]);
  return new Map((rows as { role: Role; report: Report }[]).map((row) => [row.role, row.report]));
}

/** Waits for it, but no longer; a timer that is left would keep the process. */
async function withinMs(event: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([event, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]);
  clearTimeout(timer);
}
