/** What a sweep does about what the roles have reported. Pure: no clock, no server. */
import type { Role } from '../reconcile/wanted.ts';
import { ROLES } from '../roles/index.ts';
import { digestSteps } from '../reconcile/digest.ts';
import { mergeReports, type Report } from '../reconcile/report.ts';
import { isHeeded } from '../reconcile/plan.ts';
import type { Drift, ParkedRow, Row, Unseen } from './drifts.ts';
import { askRelease } from './sweep-fault.ts';
import type { SweepEnding } from './sweeps-table.ts';
import { notReportedOf } from '../unmanaged/unmanaged-things.ts';

export interface Seen {
  reports: ReadonlyMap<Role, Report>;
  /** rows that were behind when it began, or were touched since: a worker is busy with them */
  moving: readonly Row[];
  /** rows that were parked when it began */
  parked: readonly ParkedRow[];
  frozen: boolean;
  /** why the directory may be an older copy of itself */
  doubt: string | undefined;
  /** the last sweep that judged the state was held, or PostgreSQL was restored from a backup since */
  held: boolean;
  /** unmanaged things on which no admin has decided */
  undecided: readonly { object: string }[];
  /** the realm, and the suffix of its directory */
  realm: { realm: string; base: string };
  /** digests that an admin has released */
  released: readonly string[];
  settings: { mostShare: number; atLeast: number };
}

export interface Judgement {
  ending: SweepEnding;
  touch: Row[];
  drifts: Drift[];
  unseen: Unseen;
}

/**
 * First, for each subject and role:
 *
 * | its role's report                            | its row              | result                            |
 * | -------------------------------------------- | -------------------- | --------------------------------- |
 * | unreadable as a whole, or of a doubtful copy | any                  | unseen: nothing is concluded      |
 * | any                                          | in motion            | left to the worker that is busy   |
 * | a step that destroys                         | any                  | reported                          |
 * | steps                                        | applied, or none     | drifted                           |
 * | steps, or only advisory findings             | parked               | touched again; does not count     |
 * | findings, or part of it unreadable           | any                  | reported                          |
 * | a finding that counts                        | parked, ignored      | touched again: it has changed     |
 *
 * Then, for the sweep:
 *
 * | drifted subjects                              | realm  | result                                        |
 * | --------------------------------------------- | ------ | --------------------------------------------- |
 * | any, or parked ones to be touched again       | frozen | frozen: nothing is touched                    |
 * | more than the share, and than `atLeast`       | thawed | held: nothing is touched before a release     |
 * | any to be touched, while a sweep is held      | thawed | held: it needs the same release               |
 * | one of these two, and this digest is released | thawed | touched                                       |
 * | some, or parked ones to be touched again      | thawed | touched                                       |
 * | none, and something was unreadable            | any    | unreadable                                    |
 * | none, but there are steps on rows in motion   | any    | moving                                        |
 * | none                                          | any    | clean                                         |
 *
 * The digest is that of all steps that would be taken, as `plan --all` shows them.
 */
export function judgeSweep(seen: Seen): Judgement {
  const reports = ROLES.map((role): [Role, Report] => [role, seen.reports.get(role) ?? none(role)]);
  const roles = reports
    .filter(
      ([role, report]) =>
        (seen.doubt !== undefined && role === 'directory') || isUnreadable(report),
    )
    .map(([role]) => role);
  const found = driftIn(
    seen,
    reports.filter(([role]) => !roles.includes(role)),
  );
  const { drifted, again } = found;
  const merged = mergeReports(reports.map(([, report]) => report));
  const { steps } = mergeReports(found.toTouch);
  const digest = digestSteps(steps);
  const count = new Set([...drifted.values()].map(({ subject }) => subject)).size;
  const decided = decide(seen, found, { merged, digest, count });
  return {
    ending: {
      ...decided,
      subjects: merged.subjects,
      drifted: count,
      steps: steps.length,
      findings:
        merged.findings.filter(isHeeded).length +
        notReportedOf(seen.undecided, merged, seen.realm).length,
      unreadable: unreadableIn(seen, merged),
      digest: steps.length === 0 && decided.state !== 'held' ? null : digest,
    },
    touch: ['held', 'frozen'].includes(decided.state)
      ? []
      : [...drifted.values(), ...again.values()],
    drifts: found.drifts,
    unseen: {
      roles,
      places: seen.moving,
      targets: merged.unreadable.flatMap(({ subject, target }) =>
        subject === undefined ? [] : [{ subject, target }],
      ),
    },
  };
}

/** What the first table says of each subject and role. */
interface Found {
  drifted: Map<string, Row>;
  /** parked rows that are touched again */
  again: Map<string, Row>;
  drifts: Drift[];
  /** the steps that would be taken, by role */
  toTouch: Report[];
  /** subjects with steps on which a worker is busy */
  worked: Set<number>;
}

function driftIn(seen: Seen, reports: readonly [Role, Report][]): Found {
  const moving = new Set(seen.moving.map(keyOf));
  const parked = new Set(seen.parked.map(keyOf));
  const found: Found = {
    ...{ drifted: new Map(), again: new Map(), drifts: [], toTouch: [], worked: new Set() },
  };
  for (const [role, report] of reports) {
    const isAtRest = ({ subject }: { subject: number }) => !moving.has(keyOf({ subject, role }));
    const steps = report.steps.filter(isAtRest);
    const findings = report.findings.filter(isAtRest);
    for (const step of report.steps) {
      if (!isAtRest(step) && step.effect !== 'destroy') found.worked.add(step.subject);
    }
    found.drifts.push(
      ...steps.map((step) => ({ ...driftOf(role, step), what: step.change })),
      ...findings.map((finding) => ({
        ...driftOf(role, finding),
        what: finding.code,
        sentence: finding.sentence,
      })),
    );
    const destroyed = new Set(
      steps.filter(({ effect }) => effect === 'destroy').map(({ subject }) => subject),
    );
    const mendable = steps.filter(({ subject }) => !destroyed.has(subject));
    for (const { subject } of mendable) {
      const key = keyOf({ subject, role });
      (parked.has(key) ? found.again : found.drifted).set(key, { subject, role });
    }
    const stuck = new Set([
      ...destroyed,
      ...findings.filter(({ advisory }) => advisory !== true).map(({ subject }) => subject),
      ...report.unreadable.map(({ subject }) => subject),
    ]);
    const counting = new Set(findings.filter(isHeeded).map(({ subject }) => subject));
    for (const place of seen.parked) {
      if (place.role !== role || !isAtRest(place)) continue;
      const isNews = place.ignored === true && counting.has(place.subject);
      if (!stuck.has(place.subject) || isNews) {
        found.again.set(keyOf(place), place);
      }
    }
    found.toTouch.push({ ...NO_REPORT, steps: mendable });
  }
  return found;
}

function decide(
  seen: Seen,
  { drifted, again, worked }: Found,
  { merged, digest, count }: { merged: Report; digest: string; count: number },
): { state: SweepEnding['state']; sentence: string | null } {
  const hasDrift = drifted.size + again.size > 0;
  if (seen.frozen && hasDrift) {
    return { state: 'frozen', sentence: 'nothing is corrected while the realm is frozen' };
  }
  const { atLeast, mostShare } = seen.settings;
  const most = Math.max(atLeast, Math.floor(mostShare * merged.subjects));
  const isTooMuch = count > most;
  if ((isTooMuch || (seen.held && hasDrift)) && !seen.released.includes(digest)) {
    const why = isTooMuch
      ? `${count} of ${merged.subjects} subjects ${count === 1 ? 'has' : 'have'} drifted, but a sweep may correct only ${most} without a release`
      : `an earlier sweep was held, and ${count} of ${merged.subjects} subjects ${count === 1 ? 'has' : 'have'} drifted now`;
    return { state: 'held', sentence: `${why}: ${askRelease(digest)}` };
  }
  const unseen = unreadableIn(seen, merged) === 0 ? null : whyUnreadable(seen, merged);
  if (hasDrift) return { state: 'touched', sentence: unseen };
  if (unseen !== null) return { state: 'unreadable', sentence: unseen };
  if (worked.size > 0) {
    const who = worked.size === 1 ? 'one subject is' : `${worked.size} subjects are`;
    return { state: 'moving', sentence: `${who} being worked on` };
  }
  return { state: 'clean', sentence: null };
}

function unreadableIn({ doubt }: Seen, { unreadable }: Report): number {
  return unreadable.length + (doubt === undefined ? 0 : 1);
}

function whyUnreadable(seen: Seen, merged: Report): string {
  const [first] = merged.unreadable;
  const text =
    seen.doubt === undefined
      ? `${first?.target}: ${first?.sentence}`
      : `nothing was concluded about the directory: ${seen.doubt}`;
  const more = unreadableIn(seen, merged) - 1;
  return more > 0 ? `${text}; and ${more} more` : text;
}

const NO_REPORT: Report = { steps: [], findings: [], waiting: [], unreadable: [], subjects: 0 };

function none(role: Role): Report {
  return { ...NO_REPORT, unreadable: [{ target: role, sentence: 'there is no report' }] };
}

/** The report of a role that did not answer, or whose whole backend is in doubt, has an entry without a subject. */
function isUnreadable(report: Report): boolean {
  return report.unreadable.some(({ subject }) => subject === undefined);
}

function keyOf({ subject, role }: Row): string {
  return `${subject} ${role}`;
}

function driftOf(
  role: Role,
  { subject, target, object }: { subject: number; target: string; object: string },
): Omit<Drift, 'what'> {
  return { role, subject, target, object };
}
