/** Reads people and tools for the API: one by its name or its number, and pages of them. */
import type { PERSON_STATES, SubjectsPage, TOOL_STATES } from '../database/listing.ts';
import type { Client } from '../database/connection.ts';

/** A person, as far as anybody may see. `email` and `mailVerifiedAt` are only for callers with a right to them. */
export interface PersonRow {
  uid: number;
  name: string;
  /** null: erased */
  displayName: string | null;
  state: (typeof PERSON_STATES)[number];
  since: Date;
  realmMember: boolean;
  /** accounts of tools */
  maintains: string[];
  email: string | null;
  mailVerifiedAt: Date | null;
}

// not EXISTS: for a page, PostgreSQL would read all realm members at once, which takes 10 ms for 30,000
const PERSON = (people: string) => `
  SELECT p.uid, p.shell_name AS name, p.display_name AS "displayName", p.state, p.created_at AS since,
         (SELECT count(*) = 1 FROM realm_members r WHERE r.person = p.uid) AS "realmMember",
         ARRAY(SELECT t.account FROM maintainers m JOIN tools t ON t.uid = m.tool
               WHERE m.maintainer = p.uid ORDER BY 1) AS maintains, p.email,
         p.mail_verified_at AS "mailVerifiedAt"
  FROM ${people} p`;

export async function readPerson(client: Client, name: string): Promise<PersonRow | undefined> {
  const { rows } = await client.query({
    name: 'read-person',
    text: `${PERSON('people')} WHERE p.shell_name = $1`,
    values: [name],
  });
  return rows[0] as PersonRow | undefined;
}

/** A page of a list, in which only what contains a text is. */
export type SearchPage = Omit<SubjectsPage, 'prefix'> & {
  /** in normal form; empty: everything */
  search: string;
};

// The page is cut before anything else is read of its people. The statements have no name, so that PostgreSQL plans each
// for its own values, and reads the index from the last name on.
/** In the order of names. `search` is part of the name or of the display name. */
export async function readPeople(
  client: Client,
  { state, search, after, limit }: SearchPage,
): Promise<PersonRow[]> {
  const { rows } = await client.query(
    `${PERSON(`(
       SELECT * FROM people WHERE shell_name > $1 AND ($2::text IS NULL OR state = $2)
         AND ($3 = '' OR strpos(shell_name, $3) > 0 OR strpos(display_name_key, $3) > 0)
       ORDER BY shell_name LIMIT $4)`)} ORDER BY p.shell_name`,
    [after, state ?? null, search, limit],
  );
  return rows as PersonRow[];
}

/** A tool, as far as anybody may see. */
export interface ToolRow {
  uid: number;
  name: string;
  account: string;
  title: string;
  state: (typeof TOOL_STATES)[number];
  since: Date;
  /** shell names of people, and accounts of tools */
  maintainers: string[];
}

const TOOL = (tools: string) => `
  SELECT t.uid, t.name, t.account, t.title, t.state, t.created_at AS since,
         ARRAY(SELECT coalesce(o.account, p.shell_name) FROM maintainers m
               LEFT JOIN people p ON p.uid = m.maintainer LEFT JOIN tools o ON o.uid = m.maintainer
               WHERE m.tool = t.uid ORDER BY 1) AS maintainers
  FROM ${tools} t`;

export async function readTool(client: Client, name: string): Promise<ToolRow | undefined> {
  const { rows } = await client.query({
    name: 'read-tool',
    text: `${TOOL('tools')} WHERE t.name = $1`,
    values: [name],
  });
  return rows[0] as ToolRow | undefined;
}

/** In the order of names. `search` is part of the name or of the title. */
export async function readTools(
  client: Client,
  { state, search, after, limit }: SearchPage,
): Promise<ToolRow[]> {
  const { rows } = await client.query(
    `${TOOL(`(
       SELECT * FROM tools WHERE name > $1 AND ($2::text IS NULL OR state = $2)
         AND ($3 = '' OR strpos(name, $3) > 0 OR strpos(lower(title), $3) > 0)
       ORDER BY name LIMIT $4)`)} ORDER BY t.name`,
    [after, state ?? null, search, limit],
  );
  return rows as ToolRow[];
}

/** Whose a number is, or was. */
export interface SubjectRow {
  uid: number;
  kind: 'person' | 'tool';
  name: string;
  account: string;
  state: string;
}

export async function readSubjectOf(client: Client, uid: number): Promise<SubjectRow | undefined> {
  const { rows } = await client.query({
    name: 'read-subject-of',
    text: `SELECT uid, 'person' AS kind, shell_name AS name, shell_name AS account, state FROM people WHERE uid = $1
           UNION ALL SELECT uid, 'tool', name, account, state FROM tools WHERE uid = $1`,
    values: [uid],
  });
  return rows[0] as SubjectRow | undefined;
}

/** A person's request for access. */
export interface AccessRow {
  state: 'open' | 'granted' | 'refused';
  reason: string;
  portal: string | null;
  openedAt: Date;
  decidedAt: Date | null;
  decidedBy: string | null;
  decisionReason: string | null;
}

/** The oldest first. */
export async function readAccessRequests(client: Client, person: number): Promise<AccessRow[]> {
  const { rows } = await client.query({
    name: 'read-access-requests',
    text: `SELECT state, reason, portal, opened_at AS "openedAt", decided_at AS "decidedAt",
                  decided_by AS "decidedBy", decision_reason AS "decisionReason"
           FROM access_requests WHERE person = $1 ORDER BY id`,
    values: [person],
  });
  return rows as AccessRow[];
}
