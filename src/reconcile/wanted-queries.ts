/** Reads the wanted state of subjects, as far as a role may know it. */
import type { AccountName, ShellName, ToolName } from '../identity/names.ts';
import type {
  BaseRow,
  IgnoredFinding,
  Role,
  Wanted,
  WantedColumns,
  WantedPerson,
  WantedTool,
} from './wanted.ts';
import type { Client, Pool } from '../database/connection.ts';
import { REGISTRY } from '../roles/index.ts';

type Reader = Pick<Client | Pool, 'query'>;

// What remains of revoked access always counts: nothing is known to be ignored of whom has none.
const IGNORED = (uid: string, hasAccess: string) => `(
  SELECT jsonb_agg(jsonb_build_object('target', f.target, 'object', f.object, 'code', f.code,
    'sentence', f.sentence, 'by', f.by, 'at', f.at, 'reason', f.reason, 'until', f.until))
  FROM ignored_findings f
  WHERE f.subject = ${uid} AND (f.until IS NULL OR f.until > now()) AND ${hasAccess}) AS ignored`;

// What every role may know of a person and of a tool.
const MEMBER = 'EXISTS (SELECT FROM realm_members m WHERE m.person = p.uid)';
const PERSON = `
  SELECT p.uid, p.shell_name, p.state, p.admitted_at IS NOT NULL AS ever_admitted,
         ${MEMBER} AS realm_member, ${IGNORED('p.uid', `p.state = 'active' AND ${MEMBER}`)}`;
const TOOL = `
  SELECT t.uid, t.name, t.account, t.state, ${IGNORED('t.uid', `t.state = 'active'`)}`;

const NOTHING_MORE: WantedColumns = { person: '', tool: '', toWanted: () => ({}) };

const STATEMENTS = new Map(
  REGISTRY.map(({ name, wanted: { person, tool, toWanted } = NOTHING_MORE }) => [
    name,
    {
      person: `${PERSON}${person} FROM people p WHERE p.uid = ANY ($1)`,
      tool: `${TOOL}${tool} FROM tools t WHERE t.uid = ANY ($1)`,
      toWanted,
    },
  ]),
);

/** The wanted state of these subjects, in the order of their uids; one that does not exist is left out. */
export async function readWanted(
  db: Reader,
  role: Role,
  uids: readonly number[],
): Promise<Wanted[]> {
  const { person, tool, toWanted } = STATEMENTS.get(role) ?? unknownRole(role);
  const [tools, people] = await Promise.all([
    db.query({ name: `wanted-tool-${role}`, text: tool, values: [uids] }),
    db.query({ name: `wanted-person-${role}`, text: person, values: [uids] }),
  ]);
  return [
    ...(people.rows as PersonRow[]).map((row): Wanted => {
      const base = toPerson(row);
      return { ...base, ...toWanted(row, { ...base, isRealmMember: base.realmMember }) };
    }),
    ...(tools.rows as ToolRow[]).map((row): Wanted => {
      const base = toTool(row);
      return { ...base, ...toWanted(row, { ...base, isRealmMember: false } satisfies BaseRow) };
    }),
  ].sort((a, b) => a.uid - b.uid);
}

function unknownRole(role: string): never {
  throw new Error(`there is no role ${role}`);
}

/** The uids of every subject, people and tools. */
export async function readSubjects(db: Reader): Promise<number[]> {
  const { rows } = await db.query(
    'SELECT uid FROM people UNION ALL SELECT uid FROM tools ORDER BY uid',
  );
  return rows.map((row: { uid: number }) => row.uid);
}

interface PersonRow {
  uid: number;
  shell_name: string;
  state: WantedPerson['state'];
  ever_admitted: boolean;
  realm_member: boolean;
  ignored: IgnoredFinding[] | null;
}
interface ToolRow {
  uid: number;
  name: string;
  account: string;
  state: WantedTool['state'];
  ignored: IgnoredFinding[] | null;
}

function toPerson(row: PersonRow): WantedPerson {
  return {
    kind: 'person',
    uid: row.uid,
    account: row.shell_name as AccountName,
    shellName: row.shell_name as ShellName,
    state: row.state,
    realmMember: row.realm_member,
    everAdmitted: row.ever_admitted,
    ...ignoredOf(row),
  };
}

function toTool(row: ToolRow): WantedTool {
  return {
    kind: 'tool',
    uid: row.uid,
    account: row.account as AccountName,
    name: row.name as ToolName,
    state: row.state,
    ...ignoredOf(row),
  };
}

/** PostgreSQL writes times into JSON in another format. */
function ignoredOf({ ignored }: { ignored: IgnoredFinding[] | null }) {
  if (ignored === null) return {};
  const isoOf = (time: string) => new Date(time).toISOString();
  return {
    ignored: ignored.map((finding) => ({
      ...finding,
      at: isoOf(finding.at),
      until: finding.until === null ? null : isoOf(finding.until),
    })),
  };
}
