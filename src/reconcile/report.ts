/** What the roles say of a survey, and how their reports become one. All pure. */
import type { SeenDeletion } from '../archives/deletion.ts';
import type { ErasedPerson } from '../lifecycle/erased-person.ts';
import type { MarkerDoubt } from '../seals/heartbeat.ts';
import type { Seal } from '../seals/seal.ts';
import { isUndecided, type UnmanagedThing } from '../unmanaged/unmanaged.ts';
import { ROLES } from '../roles/index.ts';
import { type Finding, isHeeded, type Step } from './plan.ts';
import type { Role } from './wanted.ts';

/** A subject that waits for another role: nothing is wrong. */
export interface Waiting {
  target: string;
  subject: number;
  account: string;
  sentence: string;
}

/** What could not be read: of a subject, of a whole target, or of a whole role. */
export interface Unreadable {
  target: string;
  subject?: number;
  account?: string;
  sentence: string;
}

/** One role's answer to a survey. */
export interface Report {
  steps: Step[];
  findings: Finding[];
  waiting: Waiting[];
  unreadable: Unreadable[];
  /** how many subjects it looked at */
  subjects: number;
  /** of a survey of everything, as the command line reads it: what is not ours, ignored or not */
  unmanaged?: UnmanagedThing[];
  /** the clock of the role's machine when it answered, ISO 8601 */
  clock?: string;
  /** of a survey of everything: numbers of the ranges of ids that were seen, and are no subject's */
  unmanagedNumbers?: number[];
  /** of a survey of everything, from the homes: who was erased by law */
  erased?: ErasedPerson[];
  /** of a survey of everything: valid seals in the directory with a higher number than our database knows */
  newerSeals?: Seal[];
  /** of a survey of everything, from homes and databases: archives that our database has not recorded */
  deletions?: SeenDeletion[];
  /** of a survey of everything: the time of the newest marker that the role's places show, ISO 8601; null: none has one */
  markedAt?: string | null;
  /** of a survey of everything: why the markers cannot all be read; `markedAt` is then not known */
  markersUnread?: string;
  /** of a survey of everything: the directory, or our database, is an older copy of itself */
  doubt?: MarkerDoubt;
}

/**
 * Puts the reports of several roles together, in the order in which they are given: everything about
 * one account stands together, accounts in the order of their names. Steps stay in the order in which
 * they are to be done; the rest is sorted, so that the same world gives the same report.
 */
export function mergeReports(reports: readonly Report[]): Report {
  return {
    steps: byAccount(reports.flatMap((report) => report.steps)),
    findings: byAccount(
      reports.flatMap(({ findings }) =>
        sortBy(findings, ({ target, object, code, sentence }) => [target, object, code, sentence]),
      ),
    ),
    waiting: byAccount(
      reports.flatMap(({ waiting }) =>
        sortBy(waiting, ({ target, sentence }) => [target, sentence]),
      ),
    ),
    unreadable: byAccount(
      reports.flatMap(({ unreadable }) =>
        sortBy(unreadable, ({ target, sentence }) => [target, sentence]),
      ),
    ),
    subjects: Math.max(0, ...reports.map((report) => report.subjects)),
  };
}

/** What is not ours, and nobody has decided about: a finding each. */
export function undecidedOf({ unmanaged = [] }: Pick<Report, 'unmanaged'>): UnmanagedThing[] {
  return unmanaged.filter(isUndecided);
}

/** How many findings count: an admin must decide on them. */
export function heededIn(report: Report): number {
  return report.findings.filter(isHeeded).length + undecidedOf(report).length;
}

/** The part of a report that is about one target; what a whole role could not read is part of it. */
export function onlyTarget(report: Report, target: string): Report {
  return {
    steps: report.steps.filter((step) => step.target === target),
    findings: report.findings.filter((finding) => finding.target === target),
    waiting: report.waiting.filter((waiting) => waiting.target === target),
    unreadable: report.unreadable.filter((each) => each.target === target || isOfRole(each)),
    subjects: report.subjects,
  };
}

/** The report of a role of which nothing could be read, and why. */
export function unreadableRole(role: Role, sentence: string): Report {
  const unreadable = [{ target: role, sentence }];
  return { steps: [], findings: [], waiting: [], unreadable, subjects: 0 };
}

function isOfRole({ target }: Unreadable): boolean {
  return ROLES.some((role) => role === target);
}

/** In the order of the accounts' names; within a subject the order stays. */
export function byAccount<T extends { account?: string; subject?: number }>(
  items: readonly T[],
): T[] {
  return sortBy(items, ({ account = '', subject = 0 }) => [
    account,
    String(subject).padStart(10, '0'),
  ]);
}

/** Sorts by texts, code unit by code unit, as everywhere else. It is stable. */
function sortBy<T>(items: readonly T[], keysOf: (item: T) => readonly string[]): T[] {
  return items
    .map((item) => ({ item, keys: keysOf(item) }))
    .toSorted((a, b) => {
      const at = a.keys.findIndex((key, index) => key !== b.keys[index]);
      return at < 0 ? 0 : (a.keys[at] as string) < (b.keys[at] as string) ? -1 : 1;
    })
    .map(({ item }) => item);
}
