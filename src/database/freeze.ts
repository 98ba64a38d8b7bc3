/**
 * The table `frozen`: one row. Frozen, no request gets a verdict and no worker acts.
 *
 * Who acts looks under what it holds: intake under the row itself, which it holds until its verdicts
 * are committed; a role under the locks of the subjects that it works on. So whoever has frozen, and
 * has then waited for both, knows that nothing acts any more.
 */
import { ChamberlainError } from '../shared/errors.ts';
import type { Role } from '../reconcile/wanted.ts';
import { writeOperatorAction } from '../audit/operator-actions.ts';
import { type Client, LOCK_CLASS, sqlState, transact } from './connection.ts';

/** Since when, by whom and why the realm is frozen. */
export interface Freeze {
  frozenAt: Date;
  frozenBy: string;
  reason: string | null;
}

/** Whether a role has frozen that found our database older (functions freeze_older and freeze_older_than). */
export function isByItself({ frozenBy }: Pick<Freeze, 'frozenBy'>): boolean {
  return frozenBy.startsWith('the role ');
}

/** The freeze that holds; undefined: none does. */
export async function readFreeze(client: Pick<Client, 'query'>): Promise<Freeze | undefined> {
  const { rows } = await client.query({
    name: 'read-freeze',
    text: `SELECT frozen_at AS "frozenAt", frozen_by AS "frozenBy", reason FROM frozen
           WHERE frozen_at IS NOT NULL`,
  });
  return rows[0] as Freeze | undefined;
}

/** Whether the realm is frozen, as committed now: ask it under the locks of what is to be done. */
export async function isFrozen(client: Pick<Client, 'query'>): Promise<boolean> {
  return (await readFreeze(client)) !== undefined;
}

/**
 * Whether verdicts may be given in this transaction. If so, no freeze is over and done with before the
 * transaction has ended. Waits where another holds VERDICTS_LOCK alone: the row is not held yet then, so
 * that it can be frozen and thawed meanwhile.
 */
export async function holdThawed(client: Client): Promise<boolean> {
  const { rows } = await client.query({
    name: 'hold-thawed',
    // the select list comes before the lock on the row
    text: 'SELECT frozen_at, hold_verdicts() FROM frozen FOR KEY SHARE',
  });
  return (rows[0] as { frozen_at: Date | null } | undefined)?.frozen_at === null;
}

/**
 * Freezes, as that operator. Where an admin has frozen already, the operator and the reason are these from now on,
 * unless that freeze is to be kept as it is; the program's own always is. Returns the freeze that holds now, and the
 * one that held before.
 */
export async function freeze(
  client: Client,
  { by, reason, keep = false }: { by: string; reason: string; keep?: boolean },
): Promise<{ freeze: Freeze; was: Freeze | undefined }> {
  return transact(
    client,
    async () => {
      const was = await holdFreeze(client);
      const isNew = was?.reason !== reason || was.frozenBy !== by;
      const isKept = was !== undefined && (keep || isByItself(was));
      if (isNew && !isKept) {
        await client.query(
          `UPDATE frozen SET frozen_at = coalesce(frozen_at, now()), frozen_by = $1, reason = $2`,
          [by, reason],
        );
        await writeOperatorAction(client, {
          kind: 'freeze',
          by,
          fields: was === undefined ? [] : ['reason'],
        });
      }
      return { freeze: (await readFreeze(client)) as Freeze, was };
    },
    { durable: true },
  );
}

/** The freeze that holds, which nobody changes before the transaction ends. */
async function holdFreeze(client: Client): Promise<Freeze | undefined> {
  // whoever freezes or thaws at the same time is waited for here, and what he did is read below
  await client.query('SELECT FROM frozen FOR NO KEY UPDATE');
  return readFreeze(client);
}

/**
 * Ends an admin's freeze. Returns it; undefined where none held. Throws DATABASE_OLDER where the program
 * itself has frozen, were it in this very moment: a restoration alone ends that.
 */
export async function thaw(client: Client, by: string): Promise<Freeze | undefined> {
  return transact(
    client,
    async () => {
      const held = await endFreeze(client, by);
      if (held !== undefined && isByItself(held)) {
        throw new ChamberlainError(
          'DATABASE_OLDER',
          held.reason ?? 'the realm is frozen by itself',
        );
      }
      return held;
    },
    { durable: true },
  );
}

/** Ends whatever freeze holds, as a part of what a transaction does. Returns it. */
export async function endFreeze(client: Client, by: string): Promise<Freeze | undefined> {
  const held = await holdFreeze(client);
  if (held === undefined) return undefined;
  await client.query('UPDATE frozen SET frozen_at = NULL, frozen_by = NULL, reason = NULL');
  await writeOperatorAction(client, { kind: 'thaw', by });
  return held;
}

/** Who still acts although it is frozen: intake, or a role that works on a subject. */
export interface Acting {
  role: Role | 'intake';
  subject?: number;
}

/** SQLSTATE of a lock that was not given within lock_timeout. */
const LOCK_NOT_AVAILABLE = '55P03';

const ROLE_OF_CLASS = new Map(
  Object.entries(LOCK_CLASS).map(([role, lockClass]) => [lockClass, role as Role]),
);

/**
 * Waits for the transactions that were giving verdicts when it was frozen, then returns what roles
 * still work on. Nothing of it can begin anew: it ends with what is returned.
 */
export async function readActing(client: Client): Promise<Acting[]> {
  // conflicts with what intake holds, which an UPDATE of the other columns does not
  const isJudging = await transact(client, () =>
    client.query('SELECT FROM frozen FOR UPDATE'),
  ).then(
    () => false,
    (error: unknown) => {
      if (sqlState(error) === LOCK_NOT_AVAILABLE) return true;
      throw error;
    },
  );
  const { rows } = await client.query(
    `SELECT classid::int AS class, objid::bigint::int AS subject FROM pg_locks
     WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid::int = ANY ($1)
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
     ORDER BY 1, 2`,
    [[...ROLE_OF_CLASS.keys()]],
  );
  const working = (rows as { class: number; subject: number }[]).map((row) => ({
    role: ROLE_OF_CLASS.get(row.class) as Role,
    subject: row.subject,
  }));
  return isJudging ? [{ role: 'intake' }, ...working] : working;
}
