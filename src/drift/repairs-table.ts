/** The tables `repairs` and `repair_parts`: what an admin asks of the roles, and what came of it. */
import type { Role, Wanted } from '../reconcile/wanted.ts';
import { type OperatorAction, writeOperatorActions } from '../audit/operator-actions.ts';
import {
  type BehindRow,
  type Outcome,
  sentenceColumn,
  underLocks,
  writeOutcomes,
} from '../reconcile/convergence-table.ts';
import type { Due } from '../reconcile/relay-queries.ts';
import { digestSteps } from '../reconcile/digest.ts';
import type { Policy } from '../reconcile/policy.ts';
import { type Client, LOCK_CLASS, type Pool, transact } from '../database/connection.ts';
import { type AskedPart, takesHours } from './repair-parts.ts';

/** Repairs whose caller waits, or did so a moment ago. No part of another is begun: nobody expects that any more. */
const WAITED_FOR = 'ARRAY(SELECT id FROM repairs WHERE waited_until > now())';
export const WAITED_FOR_SECONDS = 10;

export interface NewRepair extends Policy {
  id: string;
  by: string;
  /** the parts that may begin now */
  parts: readonly AskedPart[];
  /** one for each subject */
  acts: readonly OperatorAction[];
}

/** Records a repair, its first parts and its audit in one transaction. */
export async function recordRepair(client: Client, repair: NewRepair): Promise<void> {
  const { id, by, destroy, target, acts } = repair;
  await beginRepair(client, repair, async () => {
    await client.query(
      'INSERT INTO repairs (id, asked_by, destroy, target) VALUES ($1, $2, $3, $4)',
      [id, by, destroy, target ?? null],
    );
    await writeOperatorActions(client, acts);
  });
}

/** Asks for the first parts of a repair, in one transaction with `record`, which writes its row. */
export async function beginRepair(
  client: Client,
  { id, parts }: Pick<NewRepair, 'id' | 'parts'>,
  record: () => Promise<void>,
): Promise<void> {
  await transact(
    client,
    async () => {
      await record();
      await keepWaiting(client, id);
      await askParts(client, id, parts);
    },
    { durable: true },
  );
}

/** Asks for parts of a recorded repair: the relay gives them to the roles. A part that was asked for stays as it is. */
export async function askParts(
  client: Client,
  repair: string,
  parts: readonly AskedPart[],
): Promise<void> {
  const rows = parts.map(({ subject, role, steps, sideConditions }) => ({
    ...{ subject, role, sideConditions },
    ...{ digest: digestSteps(steps), slow: takesHours(steps) },
  }));
  await client.query(
    `WITH asked AS (
       INSERT INTO repair_parts (repair, subject, role, digest, side_conditions, slow)
       SELECT $1, p.subject, p.role, p.digest, p."sideConditions", p.slow FROM jsonb_to_recordset($2::jsonb)
         AS p (subject int, role text, digest text, "sideConditions" text[], slow boolean)
       ON CONFLICT DO NOTHING)
     SELECT pg_notify('chamberlain', 'due')`,
    [repair, JSON.stringify(rows)],
  );
}

/**
 * Says that the caller of a repair waits for so long; 0: no more, so that no part is begun from now on. It writes only
 * if little of that time is left.
 */
export async function keepWaiting(
  client: Client,
  repair: string,
  seconds = WAITED_FOR_SECONDS,
): Promise<void> {
  await client.query(
    `UPDATE repairs SET waited_until = now() + make_interval(secs => $2)
     WHERE id = $1 AND ($2 = 0 OR waited_until < now() + make_interval(secs => $2 * 0.7))`,
    [repair, seconds],
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

/** So many parts of a repair are given to a role at a time. */
const ROOM = { prompt: 64, slow: 2 };

/** A job that is not heard of for so long may be lost, or have found its subjects locked. */
const LEASE_SECONDS = 4;

// along the index, for each repair that somebody waits for
const LEASE = `
  WITH due AS (
    SELECT c.* FROM repairs w CROSS JOIN unnest($1::text[]) AS r (role)
      CROSS JOIN (VALUES (false, ${ROOM.prompt}), (true, ${ROOM.slow})) AS s (slow, room), LATERAL (
      SELECT * FROM (
        SELECT p.repair, p.subject, p.role FROM repair_parts p
        WHERE p.repair = w.id AND p.role = r.role AND p.slow = s.slow AND p.state = 'asked'
          AND (p.leased_until IS NULL OR p.leased_until < now()) AND (SELECT frozen_at IS NULL FROM frozen)
        ORDER BY p.leased_until NULLS FIRST
        LIMIT greatest(0, s.room - (
          SELECT count(*) FROM repair_parts l
          WHERE l.repair = w.id AND l.role = r.role AND l.slow = s.slow AND l.state = 'asked'
            AND l.leased_until >= now()))
        FOR UPDATE SKIP LOCKED) AS those
      LIMIT ${ROOM.prompt} -- else thousands are expected, as in src/reconcile/relay-queries.ts
    ) AS c
    WHERE w.waited_until > now())
  UPDATE repair_parts p SET leased_until = now() + interval '${LEASE_SECONDS} s' FROM due
  WHERE p.repair = due.repair AND p.subject = due.subject AND p.role = due.role
  RETURNING p.subject, p.role, p.slow`;

export type DuePart = Pick<Due, 'subject' | 'role' | 'slow'>;

/** Leases parts for which jobs must be added, as far as there is room; none while the realm is frozen. */
export async function leaseParts(pool: Pool, roles: readonly Role[]): Promise<DuePart[]> {
  // nearly always there is none, and a read is enough to know that
  const waited = await pool.query({
    name: 'is-waited-for',
    text: 'SELECT FROM repairs WHERE waited_until > now() LIMIT 1',
  });
  if (waited.rowCount === 0) return [];
  const { rows } = await pool.query({ name: 'lease-parts', text: LEASE, values: [roles] });
  return rows as DuePart[];
}

/** A part that a worker is given under the lock of its subject. */
export interface HeldPart {
  repair: string;
  subject: number;
  /** of the steps that were read */
  digest: string;
  /** the side conditions of the plan that was read, see `sideConditionsOf` */
  sideConditions: readonly string[];
  destroy: boolean;
  /** null: every target */
  target: string | null;
  /** of the subject's row: its generation, and its earlier refusals; null if it is not behind */
  generation: string | null;
  attempts: number | null;
}

/** How a part ended. */
export interface PartEnd {
  subject: number;
  state: EndedPart['state'];
  code?: string;
  sentence?: string;
  /** what to write to the subject's row, if it is behind; undefined leaves it as it is */
  outcome?: Outcome;
}

// One part for each subject: after it, another one has to look again.
const PARTS = `
  SELECT DISTINCT ON (p.subject) p.repair, p.subject, p.digest, p.side_conditions AS "sideConditions", r.destroy,
         r.target, c.wanted AS generation, c.attempts
  FROM repair_parts p JOIN repairs r ON r.id = p.repair
    LEFT JOIN convergence c ON c.subject = p.subject AND c.role = p.role AND c.applied < c.wanted
  WHERE p.repair = ANY (${WAITED_FOR}) AND p.role = $1 AND p.subject = ANY ($2) AND p.slow = $3 AND p.state = 'asked'
    AND (SELECT frozen_at IS NULL FROM frozen)
  ORDER BY p.subject, r.at`;

const END = `
  WITH ended AS (
    UPDATE repair_parts p SET state = e.state, code = e.code, sentence = e.sentence, ended_at = now()
    FROM unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[]) AS e (repair, subject, state, code, sentence)
    WHERE p.repair = e.repair AND p.subject = e.subject AND p.role = $1 AND p.state = 'asked')
  SELECT pg_notify('chamberlain', 'due')`;

/**
 * Locks subjects for a role, runs `act` with their parts that have not ended, and writes how they ended. A part that
 * is not given to `act`, or has no end afterwards, is due again when its lease is over. Does nothing if the realm is
 * frozen.
 */
export async function withParts(
  pool: Pool,
  role: Role,
  { subjects, slow }: { subjects: readonly number[]; slow: boolean },
  act: (
    held: readonly HeldPart[],
    wanted: ReadonlyMap<number, Wanted>,
    client: Client,
  ) => Promise<(PartEnd & { repair: string })[]>,
): Promise<void> {
  const parts = { name: 'read-parts', text: PARTS, values: [role, subjects, slow] };
  await underLocks(pool, role, subjects, parts, async (found, wanted, client) => {
    if (found.length === 0) return;
    const held = found as HeldPart[];
    const ends = await act(held, wanted, client);
    // the rows first, because whoever reads an end may look at them
    const outcomes = new Map(
      ends.flatMap(({ subject, outcome }): [number, Outcome][] =>
        outcome === undefined ? [] : [[subject, outcome]],
      ),
    );
    const behind = held.flatMap(({ subject, generation, attempts }): BehindRow[] =>
      generation === null || !outcomes.has(subject)
        ? []
        : [{ subject, wanted: generation, attempts: attempts ?? 0 }],
    );
    await writeOutcomes(client, role, behind, outcomes);
    await client.query({
      name: 'end-parts',
      text: END,
      values: [
        role,
        ends.map(({ repair }) => repair),
        ends.map(({ subject }) => subject),
        ends.map(({ state }) => state),
        ends.map(({ code }) => code ?? null),
        ends.map(({ sentence }) => sentenceColumn(sentence)),
      ],
    });
  });
}
