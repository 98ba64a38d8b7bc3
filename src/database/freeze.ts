/**
 * The table `frozen`: one row. While the realm is frozen, no request gets a verdict and no worker acts.
 *
 * Everything that acts checks the freeze while it holds a lock: intake holds the row itself until its verdicts
 * are committed; a role holds the locks of the subjects that it works on. So a process that has frozen the
 * realm, and has then waited for both, knows that nothing acts any more.
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

/**
 * Whether a role has frozen the realm because it found our database older (functions freeze_older and
 * freeze_older_than).
 */
export function isByItself({ frozenBy }: Pick<Freeze, 'frozenBy'>): boolean {
  return frozenBy.startsWith('the role ');
}

/** The freeze in effect; undefined if there is none. */
export async function readFreeze(client: Pick<Client, 'query'>): Promise<Freeze | undefined> {
  const { rows } = await client.query({
    name: 'read-freeze',
    text: `SELECT frozen_at AS "frozenAt", frozen_by AS "frozenBy", reason FROM frozen
           WHERE frozen_at IS NOT NULL`,
  });
  return rows[0] as Freeze | undefined;
}

/** Whether the realm is frozen, as committed now: call this while holding the locks of the work to be done. */
export async function isFrozen(client: Pick<Client, 'query'>): Promise<boolean> {
  return (await readFreeze(client)) !== undefined;
}

/**
 * Whether verdicts may be given in this transaction. If so, no freeze can be completed before the transaction
 * has ended. Waits if another process holds VERDICTS_LOCK alone: the row is not held yet at that point, so that
 * the realm can be frozen and thawed meanwhile.
 */
export async function holdThawed(client: Client): Promise<boolean> {
  const { rows } = await client.query({
    name: 'hold-thawed',
    // the select list is evaluated before the row is locked
    text: 'SELECT frozen_at, hold_verdicts() FROM frozen FOR KEY SHARE',
  });
  return (rows[0] as { frozen_at: Date | null } | undefined)?.frozen_at === null;
}

/**
 * Freezes the realm in the name of that operator. If an operator has frozen it already, the operator and the
 * reason are replaced, unless `keep` is set. The program's own freeze is never replaced. Returns the freeze
 * that is in effect now, and the one before.
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

/** The freeze in effect, which nobody can change before the transaction ends. */
async function holdFreeze(client: Client): Promise<Freeze | undefined> {
  // wait for anyone who freezes or thaws at the same time; the result is read below
  await client.query('SELECT FROM frozen FOR NO KEY UPDATE');
  return readFreeze(client);
}

/**
 * Ends an operator's freeze. Returns it; undefined if there was none. Throws DATABASE_OLDER if the program itself
 * has frozen the realm, even in this very moment: only a recovery ends that.
 */
export async function thaw(client: Client, by: string): Promise<Freeze | undefined> {
  return transact(
    client,
    async () => {
      const held = await endFreeze(client, by);
      if (held !== undefined && isByItself(held)) {
        throw new ChamberlainError(
          'DATABASE_OLDER',
          held.reason ?? 'Chamberlain itself has frozen the realm',
        );
      }
      return held;
    },
    { durable: true },
  );
}

/** Ends any freeze as a part of a transaction. Returns it. */
export async function endFreeze(client: Client, by: string): Promise<Freeze | undefined> {
  const held = await holdFreeze(client);
  if (held === undefined) return undefined;
  await client.query('UPDATE frozen SET frozen_at = NULL, frozen_by = NULL, reason = NULL');
  await writeOperatorAction(client, { kind: 'thaw', by });
  return held;
}

/** A process that still acts although the realm is frozen: intake, or a role that works on a subject. */
export interface Acting {
  role: Role | 'intake';
  subject?: number;
}

/** SQLSTATE of a lock that was not obtained within lock_timeout. */
const LOCK_NOT_AVAILABLE = '55P03';

const ROLE_OF_CLASS = new Map(
  Object.entries(LOCK_CLASS).map(([role, lockClass]) => [lockClass, role as Role]),
);

/**
 * Waits for the transactions that were giving verdicts when the realm was frozen, then returns what roles still
 * work on. No new work can start: when the returned work has ended, none is left.
 */
export async function readActing(client: Client): Promise<Acting[]> {
  // FOR UPDATE conflicts with intake's lock; an UPDATE of the other columns would not
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
