/** Who holds our locks: each is its own role's (migrations/0009_locks.sql), unless the database lets others take it. */
import { timeOf } from '../model/time.ts';
import { type Role, ROLES } from '../model/wanted.ts';
import {
  type Client,
  INTAKE_LOCK,
  LOCK_CLASS,
  RELAY_LOCK,
  SWEEP_LOCK,
  VERDICTS_LOCK,
  WATCH_LOCK,
} from './postgres.ts';

/** A session that holds locks of one kind. */
export interface Holder {
  /** the work of one process, the right to give verdicts, subjects of a role, or a role's look at what is unmanaged */
  lock: Work | 'verdicts' | Role | Watch;
  /** how many subjects, where it is a role's; else 1 */
  locks: number;
  /** the PostgreSQL user */
  user: string;
  /** of the PostgreSQL process that serves it */
  pid: number;
  /** null: it came by the socket, or PostgreSQL does not say */
  address: string | null;
  /** since when it is connected; null: PostgreSQL does not say */
  since: Date | null;
  /** whether the lock is that user's to take; one that is not stands in the way */
  isOwn: boolean;
}

/** What one process at a time does. */
export const WORKS = ['intake', 'relay', 'sweep'] as const;
export type Work = (typeof WORKS)[number];

type Watch = `${Role}_eyes`;

const LOCK_OF_NUMBER = new Map<number, Work | 'verdicts' | Watch>([
  [INTAKE_LOCK, 'intake'],
  [RELAY_LOCK, 'relay'],
  [SWEEP_LOCK, 'sweep'],
  [VERDICTS_LOCK, 'verdicts'],
  ...ROLES.map((role) => [WATCH_LOCK[role], `${role}_eyes`] as const),
]);
const ROLE_OF_CLASS = new Map(
  Object.entries(LOCK_CLASS).map(([role, lockClass]) => [lockClass, role as Role]),
);

/** Every session that holds one of our locks now; asked as the role admin. */
export async function readHolders(client: Client): Promise<Holder[]> {
  const { rows } = await client.query(
    `SELECT class, number, subjects, is_alone AS "isAlone", holder AS user, pid, address, since
     FROM lock_holders()`,
  );
  return (rows as HolderRow[]).map((row) => {
    const { class: lockClass, number, subjects, isAlone, user, pid, address, since } = row;
    const lock =
      lockClass === 0
        ? (LOCK_OF_NUMBER.get(number ?? 0) as Holder['lock'])
        : (ROLE_OF_CLASS.get(lockClass) as Role);
    const alone = ['chamberlain', 'chamberlain_sweep'];
    const owners =
      lock !== 'verdicts' ? [`chamberlain_${lock}`] : isAlone ? alone : ['chamberlain_intake'];
    return { lock, locks: subjects, user, pid, address, since, isOwn: owners.includes(user) };
  });
}

interface HolderRow {
  class: number;
  number: number | null;
  subjects: number;
  isAlone: boolean;
  user: string;
  pid: number;
  address: string | null;
  since: Date | null;
}

/** Whether a process of that work, on whichever machine, is connected and has its lock. */
export function isAtWork(holders: readonly Holder[], work: Work): boolean {
  return holders.some(({ lock, isOwn }) => lock === work && isOwn);
}

/** What is held by somebody who has no business with it, and what that stops: a sentence without its full stop. */
export function describeIntruder({ lock, locks, user, pid, address, since }: Holder): string {
  const where = [
    `PostgreSQL process ${pid}`,
    ...(address === null ? [] : [`from ${address}`]),
    ...(since === null ? [] : [`since ${timeOf(since)}`]),
  ].join(', ');
  const who = `the PostgreSQL user ${user} (${where})`;
  if (lock === 'verdicts') return `${who} holds the lock of verdicts: no request is decided`;
  if (lock.endsWith('_eyes')) {
    return `${who} holds a lock of ${lock}: unmanaged things there are seen by a sweep alone`;
  }
  return (WORKS as readonly string[]).includes(lock)
    ? `${who} holds the lock of ${lock}: no process can work as ${lock}`
    : `${who} holds locks of ${lock}: that role cannot work on ${locks} of its subjects`;
}

/** What to do about it. */
export function remedyFor({ pid }: Holder): string {
  return (
    `As PostgreSQL's superuser: SELECT pg_terminate_backend(${pid}). ` +
    '`chamberlain doctor` says how to keep others from the locks.'
  );
}
