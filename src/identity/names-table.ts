/** The tables `names` and `unmanaged_sightings`: one namespace, in normal form. A name is never freed. */
import type { WantedPerson, WantedTool } from '../reconcile/wanted.ts';
import type { Client } from '../database/connection.ts';

export type NameState = 'free' | 'taken' | 'unmanaged';

/** Whether an account name, in normal form, is free. */
export async function readNameState(client: Client, name: string): Promise<NameState> {
  if (name.includes('\0')) return 'free'; // PostgreSQL cannot store it in a text, and the grammar refuses it later
  const { rows } = await client.query({
    name: 'name-state',
    text: `SELECT coalesce(bool_or(NOT unmanaged), false) AS taken, coalesce(bool_or(unmanaged), false) AS unmanaged
           FROM known_names WHERE name = $1`,
    values: [name],
  });
  const row = rows[0] as { taken: boolean; unmanaged: boolean };
  return row.taken ? 'taken' : row.unmanaged ? 'unmanaged' : 'free';
}

/** The subject that an account name belongs to. */
export type NamedSubject = { uid: number; account: string; realmMember: boolean } & (
  { kind: 'person'; state: WantedPerson['state'] } | { kind: 'tool'; state: WantedTool['state'] }
);

/** Finds subjects by account name, exact bytes: people by shell name, tools as `tools.<name>`. */
export async function findSubjects(
  client: Client,
  accounts: readonly string[],
): Promise<Map<string, NamedSubject>> {
  const { rows } = await client.query({
    name: 'find-subjects',
    // the subquery hides the length of the list from the planner, so that one plan serves all lists
    text: `SELECT p.uid, 'person' AS kind, p.shell_name AS account, p.state,
                  EXISTS (SELECT FROM realm_members m WHERE m.person = p.uid) AS "realmMember"
             FROM people p WHERE p.shell_name = ANY ((SELECT $1::text[])::text[])
           UNION ALL
           SELECT t.uid, 'tool', t.account, t.state, false FROM tools t
             WHERE t.account = ANY ((SELECT $1::text[])::text[])`,
    values: [accounts],
  });
  return new Map((rows as NamedSubject[]).map((row) => [row.account, row]));
}
