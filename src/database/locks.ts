/**
 * Which process leads the work that only one process at a time does (migrations/0012_leases.sql), and who holds
 * our locks. Each lock belongs to its own role (migrations/0009_locks.sql), unless the database lets others
 * take it.
 */
import { timeOf } from '../shared/time.ts';
import type { Role } from '../reconcile/wanted.ts';
import { type Client, LOCK_CLASS, readerOf } from './connection.ts';
import { ROLES } from '../roles/index.ts';

/** The work that only one process at a time does, and that the realm cannot do without. */
export const WORKS = ['intake', 'relay', 'sweep'] as const;
export type Work = (typeof WORKS)[number];

/** The process that has the lease of a work, on any machine; its connection is alive. */
export interface Leader {
  work: Work | `${Role}_reader`;
  /** of the PostgreSQL process that serves it */
  pid: number;
  /** null if it came by the socket, or PostgreSQL does not say */
  address: string | null;
  since: Date;
  /** the last progress */
  renewedAt: Date;
  /** whether it has made no progress for so long that another process may take over */
  hangs: boolean;
}

/** Must be called as the role admin. */
export async function readLeaders(client: Client): Promise<Leader[]> {
  const { rows } = await client.query(
    'SELECT work, pid, address, since, renewed_at AS "renewedAt", hangs FROM leaders()',
  );
  return rows as Leader[];
}

/**
 * Everything that `chamberlain work` must do somewhere, as it is named there, and the lease by which a process is
 * known to do it. Of the processes of a role, one has the lease of its reader.
 */
const NEEDED: readonly (readonly [name: Work | Role, lease: Leader['work']])[] = [
  ...WORKS.map((work) => [work, work] as const),
  ...ROLES.map((role) => [role, readerOf(role)] as const),
];

function nameOf(lease: Leader['work']): string {
  return NEEDED.find(([, each]) => each === lease)?.[0] ?? lease;
}

/** What is needed and has a leader, in order. */
export function needed(leaders: readonly Leader[]): { name: Work | Role; leader: Leader }[] {
  return NEEDED.flatMap(([name, lease]) =>
    leaders.filter(({ work }) => work === lease).map((leader) => ({ name, leader })),
  );
}

/** What is needed and has no leader, in order: for a short time, as during a restart, or for longer. */
export interface Absent {
  lately: string[];
  long: string[];
}

/** Must be called as the role admin. */
export async function readAbsent(client: Client, leaders: readonly Leader[]): Promise<Absent> {
  const { rows } = await client.query('SELECT work FROM vacant_leases()');
  const vacant = new Set((rows as { work: string }[]).map(({ work }) => work));
  const absent = NEEDED.filter(([, lease]) => !leaders.some(({ work }) => work === lease));
  return {
    lately: absent.flatMap(([name, lease]) => (vacant.has(lease) ? [] : [name])),
    long: absent.flatMap(([name, lease]) => (vacant.has(lease) ? [name] : [])),
  };
}

/** Says that no process does these, and what to do: a sentence without its full stop. */
export function describeAbsent(names: readonly string[]): string {
  return `no process works as ${names.join(', ')}: start \`chamberlain work ${names.join(' ')}\``;
}

/** Whether a process does that work and makes progress. */
export function isAtWork(leaders: readonly Leader[], work: Work): boolean {
  return leaders.some((leader) => leader.work === work && !leader.hangs);
}

/** Describes a leader that makes no progress: a sentence without its full stop. */
export function describeHanging({ work, renewedAt, ...leader }: Leader): string {
  return `the leader of ${nameOf(work)} (${whereOf(leader)}) has made no progress since ${timeOf(renewedAt)}`;
}

/** What to do about it. */
export function remedyForHanging(hanging: readonly Leader[]): string {
  const works = hanging.map(({ work }) => nameOf(work)).join(' ');
  const logs = hanging.length === 1 ? 'its log' : 'their logs';
  return `See ${logs}. While a server is away, wait until it is back. If that does not help, start another \`chamberlain work ${works}\`, which takes over.`;
}

/** A request that waits this long for its verdict will not get one by itself. */
const LATE_MS = 15_000;

export function isLate({ since }: { since: Date }, now: Date): boolean {
  return now.getTime() - since.getTime() > LATE_MS;
}

/**
 * The oldest request that waits, and the process that should give it a verdict: a sentence without its full
 * stop.
 */
export function describeWaiting(
  { portal, since }: { portal: string; since: Date },
  leaders: readonly Leader[],
): string {
  const intake = leaders.find(({ work }) => work === 'intake');
  const who =
    intake === undefined
      ? 'no intake worker is running'
      : `intake (${whereOf(intake)}) made its last progress at ${timeOf(intake.renewedAt)}`;
  return `a request of the portal ${portal} has waited since ${timeOf(since)}; ${who}`;
}

function whereOf({ pid, address, since }: Pick<Leader, 'pid' | 'address' | 'since'>): string {
  const from = address === null ? '' : `from ${address}, `;
  return `PostgreSQL process ${pid}, ${from}since ${timeOf(since)}`;
}

/** A session that holds locks of one kind. */
export interface Holder {
  /** the right to give verdicts, or subjects of a role */
  lock: 'verdicts' | Role;
  /** how many subjects, for a role; otherwise 1 */
  locks: number;
  /** the PostgreSQL user */
  user: string;
  /** of the PostgreSQL process that serves it */
  pid: number;
  /** null if it came by the socket, or PostgreSQL does not say */
  address: string | null;
  /** when it connected; null if PostgreSQL does not say */
  since: Date | null;
  /** whether that user may take the lock; if not, the lock blocks our work */
  isOwn: boolean;
}

const ROLE_OF_CLASS = new Map(
  Object.entries(LOCK_CLASS).map(([role, lockClass]) => [lockClass, role as Role]),
);

/** Every session that holds one of our locks now; must be called as the role admin. */
export async function readHolders(client: Client): Promise<Holder[]> {
  const { rows } = await client.query(
    `SELECT class, subjects, is_alone AS "isAlone", holder AS user, pid, address, since
     FROM lock_holders()`,
  );
  return (rows as HolderRow[]).map((row) => {
    const { class: lockClass, subjects, isAlone, user, pid, address, since } = row;
    // the one without a class is VERDICTS_LOCK
    const lock = ROLE_OF_CLASS.get(lockClass) ?? 'verdicts';
    const alone = ['chamberlain', 'chamberlain_sweep'];
    const owners =
      lock !== 'verdicts' ? [`chamberlain_${lock}`] : isAlone ? alone : ['chamberlain_intake'];
    return { lock, locks: subjects, user, pid, address, since, isOwn: owners.includes(user) };
  });
}

interface HolderRow {
  class: number;
  subjects: number;
  isAlone: boolean;
  user: string;
  pid: number;
  address: string | null;
  since: Date | null;
}

/**
 * Describes a lock that is held by a user who may not take it, and what it blocks: a sentence without its full
 * stop.
 */
export function describeIntruder({ lock, locks, user, pid, address, since }: Holder): string {
  const where = [
    `PostgreSQL process ${pid}`,
    ...(address === null ? [] : [`from ${address}`]),
    ...(since === null ? [] : [`since ${timeOf(since)}`]),
  ].join(', ');
  const who = `the PostgreSQL user ${user} (${where})`;
  if (lock === 'verdicts') return `${who} holds the lock of verdicts: no request gets a verdict`;
  return `${who} holds locks of ${lock}: that role cannot work on ${locks} of its subjects`;
}

/** What to do about it. */
export function remedyFor({ pid }: Holder): string {
  return (
    `Run, as PostgreSQL's superuser: SELECT pg_terminate_backend(${pid}). ` +
    '`chamberlain doctor` says how to deny others the locks.'
  );
}
