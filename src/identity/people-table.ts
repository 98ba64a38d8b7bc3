/** The tables `people` and `realm_members`. */
import type { AccountName, ShellName } from './names.ts';
import { normalName } from './names.ts';
import type { PosixId } from './posix-id.ts';
import { IS_ERASING } from '../requests/approvals-table.ts';
import type { Change } from '../roles/descriptor.ts';
import { type RoleTouch, touchesOfChange } from '../roles/touches.ts';
import type { Client } from '../database/connection.ts';

/** A person, as the rules need it. */
export interface Person {
  uid: number;
  account: AccountName;
  state: 'active' | 'suspended' | 'archived' | 'deleted';
  /** set if a deletion is approved: when the person is archived */
  deleteAfter: Date | null;
  /** the person requested that deletion, and nothing else closed the account, so they may cancel it */
  ownDeletion: boolean;
  /** if suspended: when the suspension ends; null: not without a request */
  suspendedUntil: Date | null;
  realmMember: boolean;
  /** a direct maintainer of the admin tool, a realm member, and active */
  admin: boolean;
}

/** SQL, for a row of `people`: only the deletion that the person requested closed the account. */
export const IS_OWN_DELETION = `(delete_after IS NOT NULL AND coalesce(delete_requested_by = shell_name
  AND suspended_by = shell_name, false) AND NOT ${IS_ERASING('uid')})`;

const PEOPLE = (which: string) => `
  SELECT p.uid, p.shell_name AS account, p.state, p.delete_after AS "deleteAfter",
         ${IS_OWN_DELETION} AS "ownDeletion", p.suspended_until AS "suspendedUntil", m.person IS NOT NULL AS "realmMember",
         m.person IS NOT NULL AND p.state = 'active' AND EXISTS (
           SELECT FROM maintainers a JOIN tools t ON t.uid = a.tool
           WHERE t.name = $2 AND a.maintainer = p.uid) AS admin
  FROM people p LEFT JOIN realm_members m ON m.person = p.uid WHERE ${which}`;

/** Finds a person by shell name, exact bytes. `adminAccount` is the account of the admin tool. */
export async function findPerson(
  client: Client,
  shellName: string,
  adminTool: string,
): Promise<Person | undefined> {
  // compared with a single name, so that the plan is kept. A list is planned anew each time, which takes ten times
  // longer
  const { rows } = await client.query({
    name: 'find-person',
    text: PEOPLE('p.shell_name = $1'),
    values: [shellName, adminTool],
  });
  return (rows as Person[])[0];
}

/** Finds people by shell name, exact bytes. */
export async function findPeople(
  client: Client,
  shellNames: readonly string[],
  adminTool: string,
): Promise<Map<string, Person>> {
  const { rows } = await client.query({
    name: 'find-people',
    text: PEOPLE('p.shell_name = ANY ($1)'),
    values: [shellNames, adminTool],
  });
  return new Map((rows as Person[]).map((person) => [person.account, person]));
}

/** Whether another person has that display name, in any case. */
export async function isDisplayNameTaken(
  client: Client,
  displayName: string,
  exceptUid: number,
): Promise<boolean> {
  const { rowCount } = await client.query(
    'SELECT FROM people WHERE display_name_key = $1 AND uid <> $2',
    [normalName(displayName), exceptUid],
  );
  return rowCount !== 0;
}

export async function insertPerson(
  client: Client,
  person: { uid: PosixId; shellName: ShellName; displayName: string; email: string },
): Promise<void> {
  await client.query({
    name: 'insert-person',
    text: `WITH name AS (INSERT INTO names (name, subject) VALUES ($2, $1))
           INSERT INTO people (uid, shell_name, display_name, display_name_key, email)
           VALUES ($1, $2, $3, $4, $5)`,
    values: [
      person.uid,
      person.shellName,
      person.displayName,
      normalName(person.displayName),
      person.email,
    ],
  });
}

/**
 * Changes the given fields. Returns the names of those that really changed; with another address, it is not verified
 * any more (0033_mail_verified.sql).
 */
export async function updatePerson(
  client: Client,
  uid: number,
  change: { displayName?: string | undefined; email?: string | undefined },
): Promise<string[]> {
  const { rows } = await client.query(
    `UPDATE people p SET display_name = coalesce($2, p.display_name),
            display_name_key = coalesce($3, p.display_name_key), email = coalesce($4, p.email)
     FROM people old WHERE p.uid = $1 AND old.uid = p.uid
     RETURNING old.display_name IS DISTINCT FROM p.display_name AS name, old.email IS DISTINCT FROM p.email AS email,
               old.mail_verified_at IS DISTINCT FROM p.mail_verified_at AS verified`,
    [
      uid,
      change.displayName,
      change.displayName === undefined ? undefined : normalName(change.displayName),
      change.email,
    ],
  );
  const row = rows[0] as { name: boolean; email: boolean; verified: boolean };
  return [
    ...(row.name ? ['displayName'] : []),
    ...(row.email ? ['email'] : []),
    ...(row.verified ? ['mailVerifiedAt'] : []),
  ];
}

/**
 * Records when the person's mail address was verified, unless a later time is recorded. Returns whether that changed
 * anything; undefined: the person has another address, so nothing was done.
 */
export async function verifyMail(
  client: Client,
  uid: number,
  address: string,
  at: Date,
): Promise<boolean | undefined> {
  const { rows } = await client.query(
    `UPDATE people p SET mail_verified_at = greatest(p.mail_verified_at, $3)
     FROM people old WHERE p.uid = $1 AND old.uid = p.uid AND p.email = $2
     RETURNING old.mail_verified_at IS DISTINCT FROM p.mail_verified_at AS changed`,
    [uid, address, at],
  );
  return (rows as { changed: boolean }[])[0]?.changed;
}

/** Admits people to the realm, and requests credentials for their accounts. */
export async function admitPeople(client: Client, people: readonly number[]): Promise<void> {
  await client.query('INSERT INTO realm_members (person) SELECT unnest($1::int[])', [people]);
  await client.query(
    'UPDATE people SET admitted_at = coalesce(admitted_at, now()) WHERE uid = ANY ($1)',
    [people],
  );
  await client.query(
    'INSERT INTO credentials (account) SELECT unnest($1::int[]) ON CONFLICT DO NOTHING',
    [people],
  );
}

export async function removeRealmMembers(client: Client, people: readonly number[]): Promise<void> {
  await client.query('DELETE FROM realm_members WHERE person = ANY ($1)', [people]);
}

/** Who suspends, why, and until when; null: until a request reinstates the person. */
export interface Suspension {
  by: string;
  reason: string;
  until: Date | null;
  now: Date;
}

/** Suspends the active people among these, for one common reason or each for their own. Returns those. */
export async function suspendPeople(
  client: Client,
  people: readonly number[],
  {
    by,
    reason,
    until,
    now,
  }: Omit<Suspension, 'reason'> & { reason: Suspension['reason'] | readonly string[] },
): Promise<number[]> {
  const { rows } = await client.query({
    name: 'suspend-people',
    text: `UPDATE people p SET state = 'suspended', suspended_at = $2, suspended_by = $3,
                  suspension_reason = s.reason, suspended_until = $5
           FROM unnest($1::int[], $4::text[]) AS s (uid, reason)
           WHERE p.uid = s.uid AND p.state = 'active' RETURNING p.uid`,
    values: [people, now, by, reasonsOf(people, reason), until],
  });
  return (rows as { uid: number }[]).map(({ uid }) => uid);
}

/** One reason for each. */
export function reasonsOf(
  of: readonly number[],
  reason: string | readonly string[],
): readonly string[] {
  return typeof reason === 'string' ? of.map(() => reason) : reason;
}

/**
 * Lengthens the suspensions that end earlier, and turns own deletions that the person could still cancel into
 * suspensions by the admin. Returns the people it changed. No suspension is shortened.
 */
export async function lengthenSuspensions(
  client: Client,
  people: readonly number[],
  { by, reason, until }: Suspension,
): Promise<number[]> {
  const { rows } = await client.query({
    name: 'lengthen-suspensions',
    text: `UPDATE people SET suspended_by = $2, suspension_reason = $3,
                  suspended_until = CASE WHEN delete_after IS NULL THEN $4::timestamptz END
           WHERE uid = ANY ($1) AND state = 'suspended'
             AND (suspended_until < coalesce($4::timestamptz, 'infinity') OR ${IS_OWN_DELETION})
           RETURNING uid`,
    values: [people, by, reason, until],
  });
  return (rows as { uid: number }[]).map(({ uid }) => uid);
}

/** Gives everything back to suspended people who are not archived yet. */
export async function reinstatePeople(client: Client, people: readonly number[]): Promise<void> {
  await client.query(
    `UPDATE people SET state = 'active', suspended_at = NULL, suspended_by = NULL,
            suspension_reason = NULL, suspended_until = NULL, delete_after = NULL,
            delete_requested_by = NULL, days_warned = NULL, warned_at = NULL
     WHERE uid = ANY ($1) AND state = 'suspended'`,
    [people],
  );
}

/**
 * Marks an archived or deleted person as archived, not to be deleted. Their access stays closed while home and
 * databases are restored. A deleted person has a display name and an address again by then.
 */
export async function revivePerson(client: Client, uid: number): Promise<void> {
  await client.query(
    `UPDATE people SET state = 'archived', delete_after = NULL, delete_requested_by = NULL,
            days_warned = NULL, warned_at = NULL
     WHERE uid = $1 AND state IN ('archived', 'deleted')`,
    [uid],
  );
}

/** Makes a restored person active, and forgets their suspension. */
export async function reopenPerson(client: Client, uid: number): Promise<void> {
  await client.query(
    `UPDATE people SET state = 'active', suspended_at = NULL, suspended_by = NULL,
            suspension_reason = NULL, suspended_until = NULL
     WHERE uid = $1 AND state = 'archived'`,
    [uid],
  );
}

/** Sets the date on which a person is archived. They are warned now, and no date reinstates them any more. */
export async function wantPersonDeleted(
  client: Client,
  uid: number,
  { by, after, days, now }: { by: string; after: Date; days: number; now: Date },
): Promise<void> {
  await client.query(
    `UPDATE people SET delete_after = $2, delete_requested_by = $3, days_warned = $4, warned_at = $5,
            suspended_until = NULL WHERE uid = $1`,
    [uid, after, by, days, now],
  );
}

/**
 * Touches for everything that depends on a person's state and access: the account, its database account if there is
 * one, and the groups of which the person is an effective member only while they are active and a realm member.
 */
export async function touchesOfAccess(
  client: Client,
  people: readonly number[],
): Promise<RoleTouch[]> {
  const { rows } = await client.query({
    name: 'touches-of-access',
    text: `SELECT uid AS subject, 'access' AS change FROM unnest($1::int[]) AS uid
           UNION ALL SELECT account, 'databaseAccess' FROM credentials WHERE account = ANY ($1)
           UNION SELECT m.tool, 'members' FROM maintainers m JOIN tools t ON t.uid = m.tool
             WHERE m.maintainer = ANY ($1) AND t.state <> 'deleted'`,
    values: [people],
  });
  return (rows as { subject: number; change: Change }[]).flatMap(({ subject, change }) =>
    touchesOfChange(subject, change),
  );
}

/** Whether the realm has no person at all. */
export async function isRealmEmpty(client: Client): Promise<boolean> {
  const { rowCount } = await client.query('SELECT FROM people LIMIT 1');
  return rowCount === 0;
}
