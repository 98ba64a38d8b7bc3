/**
 * Pages of people, tools and keys. Each begins where the previous one ended, at a unique name or number. So the
 * last page costs as much as the first, and nothing is listed twice while some are added and removed.
 */
import { KEY_END } from '../ssh-keys/keys-table.ts';
import type { Client } from './connection.ts';

export const PERSON_STATES = ['active', 'suspended', 'archived', 'deleted'] as const;
export const TOOL_STATES = ['active', 'disabled', 'archived', 'deleted'] as const;

export interface SubjectsPage {
  state?: string;
  /** only names that begin with it */
  prefix: string;
  /** the last name of the previous page; empty: from the first */
  after: string;
  limit: number;
}

export interface ListedPerson {
  account: string;
  uid: number;
  state: string;
  realmMember: boolean;
  keys: number;
  displayName: string | null;
  email: string | null;
  mailVerifiedAt: Date | null;
  createdAt: Date;
}

export async function listPeople(
  client: Client,
  { state, prefix, after, limit }: SubjectsPage,
): Promise<ListedPerson[]> {
  const { rows } = await client.query(
    `SELECT p.shell_name AS account, p.uid, p.state,
       r.person IS NOT NULL AS "realmMember",
       (SELECT count(*)::int FROM ssh_keys k WHERE k.person = p.uid AND k.removed_at IS NULL) AS keys,
       p.display_name AS "displayName", p.email, p.mail_verified_at AS "mailVerifiedAt",
       p.created_at AS "createdAt"
     FROM people p LEFT JOIN realm_members r ON r.person = p.uid
     WHERE p.shell_name > $1 AND p.shell_name >= $2 AND starts_with(p.shell_name, $2)
       AND ($3::text IS NULL OR p.state = $3)
     ORDER BY p.shell_name LIMIT $4`,
    [after, prefix, state, limit],
  );
  return rows as ListedPerson[];
}

export interface ListedTool {
  name: string;
  account: string;
  uid: number;
  state: string;
  title: string;
  maintainers: string[];
  createdAt: Date;
}

export async function listTools(
  client: Client,
  { state, prefix, after, limit }: SubjectsPage,
): Promise<ListedTool[]> {
  const { rows } = await client.query(
    `SELECT t.name, t.account, t.uid, t.state, t.title,
       ARRAY(SELECT coalesce(o.account, p.shell_name) FROM maintainers m
             LEFT JOIN people p ON p.uid = m.maintainer LEFT JOIN tools o ON o.uid = m.maintainer
             WHERE m.tool = t.uid ORDER BY 1) AS maintainers,
       t.created_at AS "createdAt"
     FROM tools t
     WHERE t.name > $1 AND t.name >= $2 AND starts_with(t.name, $2)
       AND ($3::text IS NULL OR t.state = $3)
     ORDER BY t.name LIMIT $4`,
    [after, prefix, state, limit],
  );
  return rows as ListedTool[];
}

export interface KeysPage {
  /** the number of a person */
  person: number | undefined;
  /** only keys that have expired */
  expired?: true;
  /** the removed keys, instead of the present ones */
  removed?: true;
  /** the last number of the previous page; 0: from the first */
  after: number;
  limit: number;
}

export interface ListedKey {
  id: number;
  person: string;
  /** such as `ssh-ed25519`; null if the line is erased */
  type: string | null;
  fingerprint: string;
  label: string;
  addedAt: Date;
  expiresAt: Date | null;
  removedAt: Date | null;
}

export async function listKeys(
  client: Client,
  { person, expired, removed, after, limit }: KeysPage,
): Promise<ListedKey[]> {
  const { rows } = await client.query(
    `SELECT k.id::float8 AS id, p.shell_name AS person, nullif(split_part(k.line, ' ', 1), '') AS type,
       k.fingerprint, k.label, k.added_at AS "addedAt", ${KEY_END} AS "expiresAt",
       k.removed_at AS "removedAt"
     FROM ssh_keys k JOIN people p ON p.uid = k.person
     WHERE k.id > $1 AND ($2::int IS NULL OR k.person = $2)
       AND (k.removed_at IS NOT NULL) = $3 AND (NOT $4 OR ${KEY_END} <= now())
     ORDER BY k.id LIMIT $5`,
    [after, person, removed === true, expired === true, limit],
  );
  return rows as ListedKey[];
}
