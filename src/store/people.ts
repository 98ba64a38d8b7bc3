/** The tables `people` and `realm_members`. */
import type { AccountName, ShellName } from '../model/names.ts';
import { normalName } from '../model/names.ts';
import type { PosixId } from '../model/ids.ts';
import type { Client } from './postgres.ts';

/** A person as the rules see one. */
export interface Person {
  uid: number;
  account: AccountName;
  state: 'active' | 'suspended' | 'deleted';
  realmMember: boolean;
  /** a direct maintainer of the admin tool, a realm member, and active */
  admin: boolean;
}

/** Finds a person by shell name, exact bytes. `adminAccount` is the account of the admin tool. */
export async function findPerson(
  client: Client,
  shellName: string,
  adminTool: string,
): Promise<Person | undefined> {
  const { rows } = await client.query({
    name: 'find-person',
    text: `SELECT p.uid, p.shell_name AS account, p.state, m.person IS NOT NULL AS "realmMember",
                  m.person IS NOT NULL AND p.state = 'active' AND EXISTS (
                    SELECT FROM maintainers a JOIN tools t ON t.uid = a.tool
                    WHERE t.name = $2 AND a.maintainer = p.uid) AS admin
           FROM people p LEFT JOIN realm_members m ON m.person = p.uid WHERE p.shell_name = $1`,
    values: [shellName, adminTool],
  });
  return rows[0] as Person | undefined;
}

/** Whether another person has that display name, without regard to case. */
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

/** Changes what is given; returns the names of the fields that really changed. */
export async function updatePerson(
  client: Client,
  uid: number,
  change: { displayName?: string | undefined; email?: string | undefined },
): Promise<string[]> {
  const { rows } = await client.query(
    `UPDATE people p SET display_name = coalesce($2, p.display_name),
            display_name_key = coalesce($3, p.display_name_key), email = coalesce($4, p.email)
     FROM people old WHERE p.uid = $1 AND old.uid = p.uid
     RETURNING old.display_name <> p.display_name AS name, old.email <> p.email AS email`,
    [
      uid,
      change.displayName,
      change.displayName === undefined ? undefined : normalName(change.displayName),
      change.email,
    ],
  );
  const row = rows[0] as { name: boolean; email: boolean };
  return [...(row.name ? ['displayName'] : []), ...(row.email ? ['email'] : [])];
}

/** Admits a person to the realm, and wants credentials for the account. */
export async function admitPerson(client: Client, uid: number): Promise<void> {
  await client.query('INSERT INTO realm_members (person) VALUES ($1)', [uid]);
  await client.query(
    'UPDATE people SET admitted_at = coalesce(admitted_at, now()) WHERE uid = $1',
    [uid],
  );
  await client.query('INSERT INTO credentials (account) VALUES ($1) ON CONFLICT DO NOTHING', [uid]);
}

export async function removeRealmMember(client: Client, uid: number): Promise<void> {
  await client.query('DELETE FROM realm_members WHERE person = $1', [uid]);
}

/** Whether there is no person at all. */
export async function isRealmEmpty(client: Client): Promise<boolean> {
  const { rowCount } = await client.query('SELECT FROM people LIMIT 1');
  return rowCount === 0;
}
