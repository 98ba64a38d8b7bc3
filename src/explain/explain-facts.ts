/** What the tables say about subjects. Each statement reads all of them at once. Read only. */
import type { Role } from '../reconcile/wanted.ts';
import type { AccessFact, HistoryFact } from './explanation.ts';
import { type Leaver, readLeaving } from '../lifecycle/leaving-facts.ts';
import type { Client } from '../database/connection.ts';
import { KEY_END } from '../ssh-keys/keys-table.ts';

/** How many of the latest rows of the audit are read, besides the first. */
const MOST_HISTORY = 12;

export interface SubjectRow {
  uid: number;
  kind: 'person' | 'tool';
  account: string;
  state: string;
  since: Date;
  title: string | null;
  display_name: string | null;
  email: string | null;
  mail_verified_at: Date | null;
  member_since: Date | null;
  admitted_at: Date | null;
  /** rows of the audit about it */
  acts: number;
  wanted_epoch: number | null;
  /** the previous password ends at once */
  at_once: boolean | null;
  recorded_epoch: number | null;
  recorded_at: Date | null;
  previous_until: Date | null;
}

const SUBJECTS = `
  SELECT s.*, (SELECT count(*)::int FROM audit a WHERE a.subject = s.uid) AS acts, m.since AS member_since, c.wanted_epoch, c.overlap_seconds = 0 AS at_once, v.epoch AS recorded_epoch, v.recorded_at, v.previous_until
  FROM (
    SELECT uid, 'person' AS kind, shell_name AS account, state, created_at AS since, NULL AS title,
           display_name, email, mail_verified_at, admitted_at
    FROM people WHERE uid = ANY ($1)
    UNION ALL
    SELECT uid, 'tool', account, state, created_at, title, NULL, NULL, NULL, NULL FROM tools WHERE uid = ANY ($1)
  ) s LEFT JOIN realm_members m ON m.person = s.uid LEFT JOIN credentials c ON c.account = s.uid
    LEFT JOIN database_verifiers v ON v.account = s.uid`;

export interface KeyRow {
  person: number;
  fingerprint: string;
  line: string;
  label: string;
  options: string[];
  added_at: string;
  /** see KEY_END */
  ends_at: string | null;
  removed_at: string | null;
}

/** A person or tool in the graph of maintainers. */
export interface NodeRow {
  uid: number;
  account: string;
  kind: 'person' | 'tool';
  state: string;
  realm_member: boolean;
  keys: KeyRow[] | null;
}

interface EdgeRow {
  tool: number;
  maintainer: number;
  since: Date;
}

// UNION, not UNION ALL: a node that was found is not followed again, so that cycles end. Whoever uses it makes an array
// of it: PostgreSQL expects hundreds of nodes, and would join them by reading everybody (18 ms more with 40,000).
const CLOSURE = `
  WITH RECURSIVE up (uid) AS (
    SELECT unnest($1::int[]) UNION
    SELECT m.maintainer FROM up JOIN maintainers m ON m.tool = up.uid
  ), down (uid) AS (
    SELECT unnest($1::int[]) UNION
    SELECT m.tool FROM down JOIN maintainers m ON m.maintainer = down.uid
  )`;
const EDGES = `${CLOSURE}
  SELECT tool, maintainer, since FROM maintainers
  WHERE tool = ANY (ARRAY(SELECT uid FROM up)) OR maintainer = ANY (ARRAY(SELECT uid FROM down))`;
const BOTH_WAYS = 'ARRAY(SELECT uid FROM up UNION SELECT uid FROM down)';
const NODES = `${CLOSURE}
  SELECT p.uid, p.shell_name AS account, 'person' AS kind, p.state,
         EXISTS (SELECT FROM realm_members r WHERE r.person = p.uid) AS realm_member,
         (SELECT jsonb_agg(to_jsonb(k) || jsonb_build_object('ends_at', ${KEY_END}) ORDER BY k.id) FROM ssh_keys k
          WHERE k.person = p.uid) AS keys
  FROM people p WHERE p.uid = ANY (${BOTH_WAYS})
  UNION ALL
  SELECT t.uid, t.account, 'tool', t.state, false, NULL FROM tools t WHERE t.uid = ANY (${BOTH_WAYS})`;

const HISTORY = `
  SELECT s.uid AS subject, a.at, a.kind, a.requested_by AS "requestedBy", a.approved_by AS "approvedBy",
         a.portal, a.fields, a.verdict, a.code
  FROM unnest($1::int[]) AS s (uid), LATERAL (
    (SELECT * FROM audit WHERE subject = s.uid ORDER BY id LIMIT 1) UNION
    (SELECT * FROM audit WHERE subject = s.uid ORDER BY id DESC LIMIT ${MOST_HISTORY})) a
  ORDER BY a.id`;

const ACCESS = `
  SELECT person AS subject, state, opened_at AS "openedAt", reason, decided_at AS "decidedAt",
         decided_by AS "decidedBy", decision_reason AS "decisionReason"
  FROM access_requests WHERE person = ANY ($1) ORDER BY id`;

// of people who are not realm members
const REVOKED = `
  SELECT DISTINCT ON (a.subject) a.subject, a.at, a.requested_by AS by FROM audit a
  WHERE a.subject = ANY ($1) AND a.kind = 'access.revoke' AND a.verdict = 'accepted'
    AND NOT EXISTS (SELECT FROM realm_members m WHERE m.person = a.subject)
  ORDER BY a.subject, a.id DESC`;

/** When an admin last revoked a person's access, and who that was. */
interface RevokedRow {
  subject: number;
  at: Date;
  by: string;
}

/** How far a role is with a subject, if it is behind. */
interface BehindRow {
  subject: number;
  role: Role;
  state: string;
  code: string | null;
  sentence: string | null;
  since: Date;
}

// `next_try_at` of an applied row is the moment when it was applied. Drift that a sweep saw before that moment was
// repaired then. If the same drift exists now, it is new.
const DRIFTS = `
  SELECT subject, target, object, since FROM drifts d
  WHERE subject = ANY ($1) AND NOT EXISTS (
    SELECT FROM convergence c
    WHERE c.subject = d.subject AND c.role = d.role AND c.applied = c.wanted AND c.next_try_at > d.since)`;

/** Drift that the last sweep found, and that nothing has corrected since. */
interface DriftRow {
  subject: number;
  target: string;
  object: string;
  since: Date;
}

type HistoryRow = Omit<HistoryFact, 'at'> & { subject: number; at: Date };

type AccessRow = Omit<AccessFact, 'openedAt' | 'decidedAt'> & {
  subject: number;
  openedAt: Date;
  decidedAt: Date | null;
};

export interface Facts {
  subjects: SubjectRow[];
  nodes: NodeRow[];
  edges: EdgeRow[];
  history: HistoryRow[];
  access: AccessRow[];
  revoked: RevokedRow[];
  behind: BehindRow[];
  drifts: DriftRow[];
  leaving: Leaver[];
}

/** Reads everything about these subjects. The queries are sent at once, and answered in order. */
export async function readFacts(client: Client, uids: readonly number[]): Promise<Facts> {
  const of = async <Row>(text: string) => (await client.query(text, [uids])).rows as Row[];
  const read = await Promise.all([
    of<SubjectRow>(SUBJECTS),
    of<NodeRow>(NODES),
    of<EdgeRow>(EDGES),
    of<HistoryRow>(HISTORY),
    of<AccessRow>(ACCESS),
    of<RevokedRow>(REVOKED),
    of<BehindRow>(
      `SELECT subject, role, state, code, sentence, since FROM convergence
       WHERE subject = ANY ($1) AND applied < wanted`,
    ),
    of<DriftRow>(DRIFTS),
    readLeaving(client, uids),
  ]);
  const [subjects, nodes, edges, history, access, revoked, behind, drifts, leaving] = read;
  return { subjects, nodes, edges, history, access, revoked, behind, drifts, leaving };
}
