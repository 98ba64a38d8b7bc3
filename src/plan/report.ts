/** What the roles say of a survey, and how their reports become one. All pure. */
import type { Finding, Step } from './plan.ts';

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
}

/**
 * Puts the reports of several roles together, in the order of the roles: everything about one
 * account stands together, accounts in the order of their names, and what a role has put in order
 * stays so.
 */
export function mergeReports(reports: readonly Report[]): Report {
  return {
    steps: byAccount(reports.flatMap((report) => report.steps)),
    findings: byAccount(reports.flatMap((report) => report.findings)),
    waiting: byAccount(reports.flatMap((report) => report.waiting)),
    unreadable: byAccount(reports.flatMap((report) => report.unreadable)),
    subjects: Math.max(0, ...reports.map((report) => report.subjects)),
  };
}

/** The part of a report that is about one target. */
export function onlyTarget(report: Report, target: string): Report {
  return {
    steps: report.steps.filter((step) => step.target === target),
    findings: report.findings.filter((finding) => finding.target === target),
    waiting: report.waiting.filter((waiting) => waiting.target === target),
    // a role that does not answer is unreadable under its own name: it may have been the target's
    unreadable: report.unreadable,
    subjects: report.subjects,
  };
}

/** Sorting is stable: within an account the order stays. By code unit, as everywhere else. */
function byAccount<T extends { account?: string }>(items: readonly T[]): T[] {
  return items.toSorted((a, b) => {
    const [left, right] = [a.account ?? '', b.account ?? ''];
    return left < right ? -1 : left > right ? 1 : 0;
  });
}
