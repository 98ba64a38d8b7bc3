/** The tables `unmanaged` and `unmanaged_looks`: unmanaged things, and when each place was looked at. */
import type { Looked, UnmanagedThing } from './unmanaged.ts';
import type { Role } from '../reconcile/wanted.ts';
import { writeOperatorActions } from '../audit/operator-actions.ts';
import { type Client, type Pool, transact, withClient } from '../database/connection.ts';

type Reader = Pick<Client | Pool, 'query'>;

/**
 * The clock of PostgreSQL, as PostgreSQL prints it: a Date would lose the microseconds. A thing that was first seen
 * after that time is not part of a look that began then.
 */
export async function readClock(pool: Reader): Promise<string> {
  const { rows } = await pool.query('SELECT clock_timestamp()::text AS now');
  return (rows[0] as { now: string }).now;
}

/**
 * Writes what a role has seen in one place. A known thing keeps its row; if another thing has replaced it, an admin
 * must decide again. A thing that is gone is deleted from the list, unless it was ignored.
 *
 * @param began when the look began, from `readClock`
 */
export async function recordLook(
  pool: Pool,
  role: Role,
  { place, things, gone }: Looked,
  began: string,
): Promise<void> {
  const seen = things.map(({ object, kind, name, number, madeBy, madeAt, identity }) => ({
    ...{ object: textOf(object), kind, name: textOf(name), made_by: textOf(madeBy) },
    ...{
      identity: textOf(identity),
      number: number !== undefined && isInt(number) ? number : null,
    },
    // a user can set the time of a folder to any value
    made_at: madeAt !== undefined && Math.abs(madeAt.getTime()) < Date.UTC(9000) ? madeAt : null,
  }));
  const [isRest, objects] =
    gone === 'the rest' ? [true, seen.map(({ object }) => object)] : [false, gone.map(textOf)];
  await withClient(pool, (client) =>
    transact(client, async () => {
      await client.query({
        name: 'record-unmanaged',
        text: `INSERT INTO unmanaged AS u (role, place, object, kind, name, number, made_by, made_at, identity)
               SELECT DISTINCT ON (t.object) $1, $2, t.* FROM jsonb_to_recordset($3::jsonb) AS t (object text,
                 kind text, name text, number int, made_by text, made_at timestamptz, identity text)
               ON CONFLICT (role, place, md5(object)) DO UPDATE
               SET kind = excluded.kind, name = excluded.name, number = excluded.number, gone_at = NULL,
                   made_by = coalesce(excluded.made_by, u.made_by), made_at = coalesce(excluded.made_at, u.made_at),
                   identity = excluded.identity
               WHERE u.gone_at IS NOT NULL OR (u.kind, u.name, u.number, u.identity)
                 IS DISTINCT FROM (excluded.kind, excluded.name, excluded.number, excluded.identity)`,
        values: [role, place, JSON.stringify(seen)],
      });
      const which = `role = $1 AND place = $2 AND since < $5 AND (object = ANY ($3)) <> $4`;
      const values = [role, place, objects, isRest, began];
      await client.query({
        name: 'drop-unmanaged',
        text: `DELETE FROM unmanaged WHERE ${which} AND ignored_at IS NULL`,
        values,
      });
      await client.query({
        name: 'mark-unmanaged-gone',
        text: `UPDATE unmanaged SET gone_at = now() WHERE ${which} AND gone_at IS NULL`,
        values,
      });
      await client.query({
        name: 'record-unmanaged-look',
        text: `INSERT INTO unmanaged_looks (role, place) VALUES ($1, $2)
               ON CONFLICT (role, place) DO UPDATE SET at = now()`,
        values: [role, place],
      });
    }),
  );
}

function isInt(number: number): boolean {
  return number >= 0 && number < 2 ** 31;
}

/** PostgreSQL cannot store U+0000 in a text. */
function textOf(text: string): string;
function textOf(text: string | undefined): string | undefined;
function textOf(text: string | undefined): string | undefined {
  return text?.replaceAll('\0', '\uFFFD');
}

/** The listed things in a place, for checking whether they still exist. */
export async function readListed(
  pool: Reader,
  role: Role,
  place: string,
): Promise<{ object: string; kind: string; identity: string | null }[]> {
  const { rows } = await pool.query({
    name: 'read-unmanaged-listed',
    text: `SELECT object, kind, identity FROM unmanaged WHERE role = $1 AND place = $2
           ORDER BY gone_at IS NOT NULL, object`,
    values: [role, place],
  });
  return rows as { object: string; kind: string; identity: string | null }[];
}

const LISTED = `role, place, object, kind, name, number, made_by AS "madeBy", made_at AS "madeAt", since,
  gone_at AS "goneAt", ignored_at AS "ignoredAt", ignored_by AS "ignoredBy", reason`;

/** All listed things, in order. */
export async function readUnmanaged(client: Reader): Promise<UnmanagedThing[]> {
  const { rows } = await client.query(
    `SELECT ${LISTED} FROM unmanaged ORDER BY role, kind, object COLLATE "C", place`,
  );
  return rows as UnmanagedThing[];
}

/** Where a thing stands in the pages of the list: its role, its place, and the hash of the object. */
export type UnmanagedPlace = [role: string, place: string, hash: string];

/** A page of the list, in the order of its index. */
export async function readUnmanagedAfter(
  client: Reader,
  after: UnmanagedPlace | undefined,
  limit: number,
): Promise<(UnmanagedThing & { hash: string })[]> {
  const { rows } = await client.query(
    `SELECT ${LISTED}, md5(object) AS hash FROM unmanaged
     ${after === undefined ? '' : 'WHERE (role, place, md5(object)) > ($2, $3, $4)'}
     ORDER BY role, place, md5(object) LIMIT $1`,
    [limit, ...(after ?? [])],
  );
  return rows as (UnmanagedThing & { hash: string })[];
}

/** When each place was last looked at. */
export async function readLooks(
  client: Reader,
): Promise<{ role: Role; place: string; at: Date }[]> {
  const { rows } = await client.query('SELECT role, place, at FROM unmanaged_looks');
  return rows as { role: Role; place: string; at: Date }[];
}

/** How many undecided things there are of each kind. */
export async function countUndecided(
  client: Reader,
): Promise<{ kind: UnmanagedThing['kind']; count: number }[]> {
  const { rows } = await client.query(
    `SELECT kind, count(*)::int AS count FROM unmanaged WHERE ignored_at IS NULL GROUP BY kind ORDER BY kind`,
  );
  return rows as { kind: UnmanagedThing['kind']; count: number }[];
}

/** Ignores things. The audit records the operator and the reason. */
export async function ignoreThings(
  client: Client,
  things: readonly Pick<UnmanagedThing, 'role' | 'place' | 'object'>[],
  by: string,
  reason: string,
): Promise<void> {
  await transact(
    client,
    async () => {
      const { rows } = await client.query(
        `UPDATE unmanaged u SET ignored_at = now(), ignored_by = $2, reason = $3
         FROM jsonb_to_recordset($1::jsonb) AS t (role text, place text, object text)
         WHERE (u.role, u.place, u.object) = (t.role, t.place, t.object)
         RETURNING u.kind, u.object, u.place`,
        [JSON.stringify(things), by, reason],
      );
      await writeOperatorActions(
        client,
        (rows as { kind: string; object: string; place: string }[]).map((row) => ({
          kind: 'unmanaged.ignore',
          by,
          fields: [`${row.kind} ${row.object}`, `place=${row.place}`, `reason=${reason}`],
        })),
      );
    },
    { durable: true },
  );
}

/** Which of these names belong to our accounts, deleted ones included, and their numbers. */
export async function readAccounts(
  pool: Reader,
  names: readonly string[],
): Promise<Map<string, number>> {
  if (names.length === 0) return new Map();
  const { rows } = await pool.query({
    name: 'read-accounts',
    text: `SELECT shell_name AS account, uid FROM people WHERE shell_name = ANY ($1)
           UNION ALL SELECT account, uid FROM tools WHERE account = ANY ($1)`,
    values: [names.map(textOf)],
  });
  return mapOf(rows as { account: string; uid: number }[]);
}

/** All our accounts, also deleted ones, with their numbers. */
export async function readAllAccounts(pool: Reader): Promise<Map<string, number>> {
  const { rows } = await pool.query(
    'SELECT shell_name AS account, uid FROM people UNION ALL SELECT account, uid FROM tools',
  );
  return mapOf(rows as { account: string; uid: number }[]);
}

function mapOf(rows: readonly { account: string; uid: number }[]): Map<string, number> {
  return new Map(rows.map(({ account, uid }) => [account, uid]));
}

/** Which of these numbers belong to our accounts, and the accounts. */
export async function readNumbers(
  pool: Reader,
  numbers: readonly number[],
): Promise<Map<number, { account: string; kind: 'person' | 'tool' }>> {
  if (numbers.length === 0) return new Map();
  const { rows } = await pool.query({
    name: 'read-numbers',
    text: `SELECT uid, shell_name AS account, 'person' AS kind FROM people WHERE uid = ANY ($1)
           UNION ALL SELECT uid, account, 'tool' FROM tools WHERE uid = ANY ($1)`,
    values: [numbers.filter(isInt)],
  });
  const found = rows as { uid: number; account: string; kind: 'person' | 'tool' }[];
  return new Map(found.map(({ uid, ...whose }) => [uid, whose]));
}

/** The names of our archives: made, being made, or to be removed. */
export async function readArchiveNames(pool: Reader): Promise<Set<string>> {
  const { rows } = await pool.query({
    name: 'read-archive-names',
    text: `SELECT coalesce(p.shell_name, t.account) || '.' || d.archival AS name FROM archivals d
           LEFT JOIN people p ON p.uid = d.subject LEFT JOIN tools t ON t.uid = d.subject`,
  });
  return new Set((rows as { name: string }[]).map(({ name }) => name));
}

/**
 * The names of people who belong in the realm group, or whose row is behind: the directory role is working on those.
 */
export async function readRealmMembers(
  pool: Reader,
  names: readonly string[],
): Promise<Set<string>> {
  const { rows } = await pool.query({
    name: 'read-realm-members',
    text: `SELECT p.shell_name AS name FROM people p LEFT JOIN realm_members m ON m.person = p.uid
             LEFT JOIN convergence c ON c.subject = p.uid AND c.role = 'directory'
           WHERE p.shell_name = ANY ($1)
             AND (m.person IS NOT NULL AND p.state = 'active' OR c.applied < c.wanted)`,
    values: [names.map(textOf)],
  });
  return new Set((rows as { name: string }[]).map(({ name }) => name));
}

/** The subjects for which the directory role has nothing to do, as far as is known. */
export async function readAtRest(pool: Reader, subjects: readonly number[]): Promise<Set<number>> {
  const { rows } = await pool.query({
    name: 'read-at-rest',
    text: `SELECT subject FROM convergence
           WHERE subject = ANY ($1) AND role = 'directory' AND applied = wanted`,
    values: [subjects],
  });
  return new Set((rows as { subject: number }[]).map(({ subject }) => subject));
}
