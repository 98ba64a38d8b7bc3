/** The page of one subject, from the tables and from what the roles saw. Pure. */
import { databaseUser } from '../identity/posix-id.ts';
import type { AccountName } from '../identity/names.ts';
import { type ReachGraph, type Way, waysFrom, waysInto } from '../identity/reach.ts';
import type { Realm, Role, Wanted, WantedArchive, WantedCredentials } from '../reconcile/wanted.ts';
import type { Effect } from '../reconcile/action.ts';
import type {
  Entrant,
  KeyFact,
  KnownPage,
  SubjectPage,
  TargetPage,
  Trouble,
  WayPage,
} from './explanation.ts';
import type { LeavingPage } from '../lifecycle/leaving-page.ts';
import type { Report } from '../reconcile/report.ts';
import { KNOWN_BAD_KEYS } from '../ssh-keys/known-bad-keys.ts';
import { describeIgnoring } from '../drift/survey-groups.ts';
import type { Facts, KeyRow, NodeRow, SubjectRow } from './explain-facts.ts';
import type { Leaver } from '../lifecycle/leaving-facts.ts';
import { isArchiving, REGISTRY } from '../roles/index.ts';
import { readableRef } from '../targets/directory-reader.ts';
import { accountRef } from '../targets/unix-account.ts';
import { groupRef } from '../targets/unix-group.ts';

/** What is needed of a subject without what the roles see. */
interface KnownParts {
  facts: Facts;
  realm: Realm;
  /** the suffix of the directory */
  base: string;
  now: Date;
}

export interface PageParts extends KnownParts {
  wanted: readonly Wanted[];
  answers: ReadonlyMap<Role, Report>;
  timeoutMs: number;
}

const MARKS: Record<Effect, Trouble['mark']> = {
  create: '+',
  change: '~',
  revoke: '-',
  destroy: '!',
};

export function subjectPage(uid: number, parts: PageParts): SubjectPage {
  const row = rowOf(uid, parts);
  return { ...knownPage(uid, parts), targets: targetPages(uid, row, parts) };
}

function rowOf(uid: number, { facts }: KnownParts): SubjectRow {
  return facts.subjects.find((each) => each.uid === uid) as SubjectRow;
}

/** What the tables alone say of a subject. */
export function knownPage(uid: number, parts: KnownParts): KnownPage {
  const { facts, now } = parts;
  const row = rowOf(uid, parts);
  const graph = graphOf(facts, now);
  const { kind, account, state } = row;
  const of = <T extends { subject: number }>(rows: readonly T[]) =>
    rows.flatMap(({ subject, ...rest }) => (subject === uid ? [rest] : []));
  return {
    uid,
    kind,
    account,
    state,
    since: row.since.toISOString(),
    stops: [...(graph.nodes.get(uid)?.stops ?? [])],
    dns: dnsOf(row, parts),
    ...(kind === 'tool' ? aboutTool(row, graph) : aboutPerson(row, facts, now)),
    databaseUser: databaseUser(kind, uid),
    // the row stays when an account is deleted: if that is restored, its password has the next number
    credentials:
      row.wanted_epoch === null || state === 'deleted'
        ? null
        : {
            wantedEpoch: row.wanted_epoch,
            recordedEpoch: row.recorded_epoch,
            recordedAt: row.recorded_at?.toISOString() ?? null,
            previousUntil: row.previous_until?.toISOString() ?? null,
            lockedOut: row.at_once === true && (row.recorded_epoch ?? Infinity) < row.wanted_epoch,
          },
    leaving: leavingPage(uid, facts),
    access: of(facts.access).map((fact) => ({
      ...fact,
      openedAt: fact.openedAt.toISOString(),
      decidedAt: fact.decidedAt?.toISOString() ?? null,
    })),
    acts: row.acts,
    history: of(facts.history).map((fact) => ({ ...fact, at: fact.at.toISOString() })),
    ...(kind === 'tool' ? { entrants: entrantsOf(uid, graph, facts, now) } : {}),
    becomes: waysFrom(graph, uid).map((way) => {
      const page = wayPage(way, graph, facts);
      return { account: page.path.at(-1) as string, ...page };
    }),
  };
}

/** The DNs of its account, and of a tool's group. */
function dnsOf(row: SubjectRow, { realm, base }: KnownParts): string[] {
  if (row.state === 'deleted') return [];
  const account = row.account as AccountName;
  const refs = [
    accountRef({ kind: row.kind, account }),
    ...(row.kind === 'tool' ? [groupRef({ account })] : []),
  ];
  return refs.map((ref) => `${readableRef(ref, realm.realm)},${base}`);
}

function aboutTool({ uid, title }: SubjectRow, { nodes, maintainers }: ReachGraph) {
  const accounts = (maintainers.get(uid) ?? []).flatMap((each) => nodes.get(each)?.account ?? []);
  return { title: title ?? '', maintainers: accounts.toSorted() };
}

function aboutPerson(row: SubjectRow, { nodes, revoked }: Facts, now: Date) {
  const last = revoked.find(({ subject }) => subject === row.uid);
  return {
    displayName: row.display_name ?? '',
    email: row.email ?? '',
    mailVerifiedAt: row.mail_verified_at?.toISOString() ?? null,
    realmMember: row.member_since === null ? null : { since: row.member_since.toISOString() },
    ...(last === undefined ? {} : { accessRevoked: { at: last.at.toISOString(), by: last.by } }),
    keys: keyFacts(nodes.find(({ uid }) => uid === row.uid)?.keys ?? null, now),
  };
}

/**
 * Keys, and why they give no access, whoever holds them. Every login host refuses the known bad keys that are shipped;
 * those of `keys.knownBad` only a host with the same in its own configuration, so they are no reason here.
 */
export function keyFacts(keys: readonly KeyRow[] | null, now: Date): KeyFact[] {
  return (keys ?? []).map((key) => {
    const expired = key.ends_at !== null && new Date(key.ends_at) <= now;
    const bad = KNOWN_BAD_KEYS.has(key.fingerprint);
    return {
      fingerprint: key.fingerprint,
      type: key.line.split(' ', 1)[0] ?? '',
      label: key.label,
      options: key.options,
      addedAt: isoOf(key.added_at),
      expiresAt: key.ends_at === null ? null : isoOf(key.ends_at),
      removedAt: key.removed_at === null ? null : isoOf(key.removed_at),
      stops:
        key.removed_at === null
          ? [...(expired ? ['expired'] : []), ...(bad ? ['known bad'] : [])]
          : ['removed'],
    };
  });
}

/** JSON from PostgreSQL has another format of times. */
function isoOf(text: string): string {
  return new Date(text).toISOString();
}

function goodKeys(node: NodeRow, now: Date): KeyFact[] {
  return keyFacts(node.keys, now).filter(({ stops }) => stops.length === 0);
}

function graphOf({ nodes, edges }: Facts, now: Date): ReachGraph {
  const maintainers = new Map<number, number[]>();
  for (const { tool, maintainer } of edges) {
    maintainers.set(tool, [...(maintainers.get(tool) ?? []), maintainer]);
  }
  return {
    maintainers,
    nodes: new Map(nodes.map((node) => [node.uid, { ...node, stops: stopsOf(node, now) }])),
  };
}

/** What stops all access through this account: keys, groups, sudo. */
function stopsOf(node: NodeRow, now: Date): string[] {
  const { account, kind, state } = node;
  const stops = state === 'active' ? [] : [`${account} is ${state}`];
  if (kind === 'tool' || state === 'deleted') return stops;
  if (!node.realm_member) stops.push(`${account} is not a realm member`);
  if (goodKeys(node, now).length === 0) {
    const why = new Set(keyFacts(node.keys, now).flatMap((key) => key.stops));
    const faults = [
      ...(why.has('expired') ? ['has expired'] : []),
      ...(why.has('known bad') ? ['is known bad'] : []),
    ];
    stops.push(
      faults.length === 0
        ? `${account} has no key`
        : `every key of ${account} ${faults.join(' or ')}`,
    );
  }
  return stops;
}

function entrantsOf(uid: number, graph: ReachGraph, facts: Facts, now: Date): Entrant[] {
  const people = Map.groupBy(waysInto(graph, uid), ({ path }) => path[0] as number);
  return [...people]
    .map(([person, ways]) => {
      const node = facts.nodes.find((each) => each.uid === person) as NodeRow;
      return {
        person: node.account,
        keys: goodKeys(node, now),
        open: ways.some(({ stops }) => stops.length === 0),
        ways: ways.map((way) => wayPage(way, graph, facts)),
      };
    })
    .toSorted((a, b) => Number(b.open) - Number(a.open) || (a.person < b.person ? -1 : 1));
}

function wayPage({ path, stops }: Way, { nodes }: ReachGraph, { edges }: Facts): WayPage {
  const [maintainer, tool] = path.slice(-2);
  const last = edges.find((edge) => edge.tool === tool && edge.maintainer === maintainer);
  return {
    path: path.map((uid) => nodes.get(uid)?.account ?? String(uid)),
    since: last?.since.toISOString() ?? '',
    stops,
  };
}

function leavingPage(uid: number, { leaving }: Facts): LeavingPage {
  return (leaving.find((each) => each.uid === uid) as Leaver).leaving;
}

/** Its archive, as a role sees it. */
function archiveOf(role: Role, { archivals }: LeavingPage): { archive?: WantedArchive } {
  const open = archivals.findLast(({ backAt }) => backAt === null);
  if (open === undefined || !isArchiving(role)) return {};
  const { archival, returningAt, expiredAt, archives } = open;
  const made = archives.find((archive) => archive.role === role)?.made;
  return {
    archive: {
      archival,
      manifest: made?.manifestSha256,
      returning: returningAt !== null,
      expired: expiredAt !== null,
    },
  };
}

/** The credentials, as far as the wanted state depends on them: the verifier is shown to nobody. */
function credentialsOf(row: SubjectRow, wantedEpoch: number): WantedCredentials {
  const { at_once: atOnce, recorded_epoch: epoch } = row;
  const recorded = epoch === null ? undefined : { epoch, verifier: '' };
  return { wantedEpoch, atOnce: atOnce === true, recorded };
}

/** Every target of this kind of subject, in the order of the roles. */
function targetPages(uid: number, row: SubjectRow, parts: PageParts): TargetPage[] {
  const wanted = parts.wanted.find((each) => each.uid === uid) as Wanted;
  const leaving = leavingPage(uid, parts.facts);
  const pages: TargetPage[] = [];
  const targets = REGISTRY.flatMap(({ name: role, targets: its }) =>
    its.filter(({ of }) => of.includes(row.kind)).map((target) => ({ role, target })),
  );
  for (const { role, target } of targets) {
    const { name, needs } = target;
    const whole: Wanted = {
      ...wanted,
      ...(row.wanted_epoch === null ? {} : { credentials: credentialsOf(row, row.wanted_epoch) }),
      ...archiveOf(role, leaving),
    };
    const wantedText: string = target.describe(target.want(whole, parts.realm));
    const own = troubleWith({ role, name }, uid, parts);
    const report = parts.answers.get(role);
    const need =
      report === undefined || own.length > 0 || wantedText === 'none'
        ? undefined
        : pages.find((page) => needs.includes(page.target) && isInDoubt(page, uid, report));
    const trouble: Trouble[] =
      need === undefined
        ? own
        : [{ mark: '…', what: `withheld: see ${need.target}`, why: '', since: null }];
    const state = stateOf(role, trouble, parts);
    pages.push({ role, target: name, wanted: wantedText, state, trouble });
  }
  return pages.filter(hasSomething);
}

/** Archive targets are shown only for subjects that are leaving. */
function hasSomething({ target, wanted, state }: TargetPage): boolean {
  const isArchive = target.endsWith('-archive');
  return !isArchive || wanted !== 'none' || (state !== 'as wanted' && state !== 'no answer');
}

/** Whether the target's own object is a finding, or unread: then targets that need it were not looked at either. */
function isInDoubt({ target, wanted, state }: TargetPage, uid: number, report: Report): boolean {
  const isFinding = report.findings.some(
    (finding) =>
      finding.subject === uid &&
      finding.target === target &&
      finding.advisory !== true &&
      `${wanted},`.startsWith(`${finding.object},`),
  );
  return isFinding || state === 'unreadable';
}

function stateOf(role: Role, trouble: readonly Trouble[], { answers }: PageParts) {
  if (!answers.has(role)) return 'no answer';
  const has = (...marks: Trouble['mark'][]) => trouble.some(({ mark }) => marks.includes(mark));
  if (has('×')) return 'unreadable';
  if (has('?')) return 'finding';
  if (has('+', '~', '-', '!')) return 'differs';
  return has('…') ? 'waiting' : 'as wanted';
}

function troubleWith(
  { role, name }: { role: Role; name: string },
  uid: number,
  { facts, answers, timeoutMs }: PageParts,
): Trouble[] {
  const report = answers.get(role);
  const behind = facts.behind.find((row) => row.subject === uid && row.role === role);
  const knownFrom =
    behind === undefined ? '' : [behind.code, behind.sentence].filter(Boolean).join(': ');
  if (report === undefined) {
    const last = knownFrom === '' ? '' : `; last known: ${knownFrom}`;
    const why = behind === undefined ? '' : `behind${last}`;
    const since = behind?.since.toISOString() ?? null;
    return [{ mark: '×', what: `${role}: no answer within ${timeoutMs} ms`, why, since }];
  }
  const mine = <T extends { target: string; subject?: number }>(items: readonly T[]) =>
    items.filter(
      ({ target, subject = uid }) => subject === uid && (target === name || target === role),
    );
  const sinceOf = (object: string): string | null => {
    const drift = facts.drifts.find(
      (row) => row.subject === uid && row.target === name && row.object === object,
    );
    const known = [behind, drift].flatMap((row) => row?.since.toISOString() ?? []);
    return known.toSorted()[0] ?? null;
  };
  return [
    ...mine(report.unreadable).map(({ sentence }): Trouble => {
      return { mark: '×', what: 'UNREADABLE', why: sentence, since: sinceOf('') };
    }),
    ...mine(report.findings).map(({ object, code, sentence, ignored }): Trouble => {
      const what = `${object}: ${code}`;
      if (ignored === undefined) return { mark: '?', what, why: sentence, since: sinceOf(object) };
      const why = `${sentence} (${describeIgnoring(ignored)})`;
      return { mark: 'i', what, why, since: sinceOf(object) };
    }),
    ...mine(report.steps).map(({ effect, object, change, because }): Trouble => {
      const what = `${object}: ${change}`;
      return { mark: MARKS[effect], what, why: because, since: sinceOf(object) };
    }),
    ...mine(report.waiting).map(({ sentence }): Trouble => {
      return { mark: '…', what: 'waiting', why: sentence, since: sinceOf('') };
    }),
  ];
}
