/** The tables `repairs` and `repair_parts`, as the caller of a repair uses them. */
import type { Role } from '../reconcile/wanted.ts';
import { type OperatorAction, writeOperatorActions } from '../audit/operator-actions.ts';
import { type Client, LOCK_CLASS, transact } from '../database/connection.ts';

/** What one role must do for one subject. */
interface NewPart {
  subject: number;
  role: Role;
  /** of the steps that were read */
  digest: string;
  /** see src/reconcile/policy.ts */
  sideConditions: readonly string[];
}

export interface NewRepair {
  id: string;
  by: string;
  destroy: boolean;
  target: string | undefined;
  parts: readonly NewPart[];
  /** one for each subject */
  acts: readonly OperatorAction[];
}

/**
 * Records a repair, its parts and its audit in one transaction; the caller must then notify the roles through their
 * queues.
 */
export async function recordRepair(client: Client, repair: NewRepair): Promise<void> {
  const { id, by, destroy, target, parts, acts } = repair;
  await transact(
    client,
    async () => {
      await client.query(
        'INSERT INTO repairs (id, asked_by, destroy, target) VALUES ($1, $2, $3, $4)',
        [id, by, destroy, target ?? null],
      );
      await client.query(
        `INSERT INTO repair_parts (repair, subject, role, digest, side_conditions)
         SELECT $1, p.subject, p.role, p.digest, p."sideConditions" FROM jsonb_to_recordset($2::jsonb)
           AS p (subject int, role text, digest text, "sideConditions" text[])`,
        [id, JSON.stringify(parts)],
      );
      await writeOperatorActions(client, acts);
    },
    { durable: true },
  );
}

/** A part that has ended. */
export interface EndedPart {
  subject: number;
  role: Role;
  state: 'done' | 'refused' | 'failed';
  code: string | null;
  sentence: string | null;
  endedAt: Date;
}

/**
 * The parts that have ended since `since`, or all if it is undefined. A part may be returned more than once: a row
 * becomes visible when it is committed, which may be a little later than its time.
 */
export async function readEnded(
  client: Client,
  id: string,
  since: Date | undefined,
): Promise<EndedPart[]> {
  const { rows } = await client.query({
    name: 'read-ended',
    text: `SELECT subject, role, state, code, sentence, ended_at AS "endedAt" FROM repair_parts
           WHERE repair = $1 AND state <> 'asked'
             AND ($2::timestamptz IS NULL OR ended_at > $2::timestamptz - interval '10 s')`,
    values: [id, since ?? null],
  });
  return rows as EndedPart[];
}

/** A part on which a role is working. */
export interface UnderWay {
  subject: number;
  role: Role;
  /** of slow work; `total` is null if it is not known */
  progress: { act: string; done: number; total: number | null } | null;
}

/** The parts whose subject is locked by their role, which is therefore working on it. */
export async function readUnderWay(
  client: Client,
  parts: readonly { subject: number; role: Role }[],
): Promise<UnderWay[]> {
  const { rows } = await client.query({
    name: 'read-under-way',
    text: `SELECT u.subject, u.role,
             CASE WHEN p.role IS NOT NULL THEN
               jsonb_build_object('act', p.act, 'done', p.done, 'total', p.total) END AS progress
           FROM unnest($1::int[], $2::text[], $3::int[]) AS u (subject, role, class)
             LEFT JOIN archive_progress p ON p.subject = u.subject AND p.role = u.role
           WHERE EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
               AND classid = u.class::oid AND objid = u.subject::oid
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`,
    values: [
      parts.map(({ subject }) => subject),
      parts.map(({ role }) => role),
      parts.map(({ role }) => LOCK_CLASS[role]),
    ],
  });
  return rows as UnderWay[];
}

/** A subject that a role has given up on. */
export interface GivenUp {
  subject: number;
  account: string;
  role: Role;
}

/** What these roles have given up on, among these subjects, or among all if undefined. */
export async function readGivenUp(
  client: Client,
  roles: readonly Role[],
  subjects: readonly number[] | undefined,
): Promise<GivenUp[]> {
  const { rows } = await client.query(
    `SELECT c.subject, coalesce(p.shell_name, t.account) AS account, c.role FROM convergence c
       LEFT JOIN people p ON p.uid = c.subject LEFT JOIN tools t ON t.uid = c.subject
     WHERE c.state = 'parked' AND c.role = ANY ($1) AND ($2::int[] IS NULL OR c.subject = ANY ($2))
     ORDER BY account, c.role`,
    [roles, subjects ?? null],
  );
  return rows as GivenUp[];
}

/** The state of a subject on the database servers. */
export interface DatabasesStatus {
  subject: number;
  applied: boolean;
  state: string;
  code: string | null;
  sentence: string | null;
}

/** The state of these subjects in the role databases. */
export async function readDatabasesStatuses(
  client: Client,
  subjects: readonly number[],
): Promise<DatabasesStatus[]> {
  const { rows } = await client.query({
    name: 'read-databases-statuses',
    text: `SELECT subject, applied >= wanted AS applied, state, code, sentence FROM convergence
           WHERE role = 'databases' AND subject = ANY ($1)`,
    values: [subjects],
  });
  return rows as DatabasesStatus[];
}
