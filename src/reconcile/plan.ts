/** Plans: what to do, what only an admin may decide, and in which order. All pure. */
import type { Action, Effect } from './action.ts';
import type { Code } from '../shared/errors.ts';

/** Whose a step or a finding is. The engine adds it to what a target drafts. */
interface OfTarget {
  target: string;
  /** the subject's uid */
  subject: number;
  account: string;
}

/** One thing to do. */
export type Step = OfTarget & DraftStep;

/** A step as a target drafts it. */
export interface DraftStep {
  /** what is touched, for people: an entry, a path, `user on server` */
  object: string;
  effect: Effect;
  /** what changes, for people: `absent → present`, `mode 0777 → 2775` */
  change: string;
  /** why: the difference that was seen, in a sentence without a full stop */
  because: string;
  action: Action;
}

/** One thing seen that only an admin may decide; it withholds the steps on that very object. */
export type Finding = OfTarget & DraftFinding & { ignored?: Ignoring };

/** That an admin knows of a finding: it is shown, and does not count. Times in ISO 8601. */
export interface Ignoring {
  by: string;
  at: string;
  reason: string;
  /** when it counts again by itself; null: when it changes */
  until: string | null;
}

/** Whether a finding counts. */
export function isHeeded({ ignored }: Pick<Finding, 'ignored'>): boolean {
  return ignored === undefined;
}

/** A finding as a target drafts it. */
export interface DraftFinding {
  object: string;
  code: Code;
  /** what is there, and what to do about it */
  sentence: string;
  /** seen beside the subject, which is as it should be nevertheless: nothing waits for it */
  advisory?: true;
}

/** What one target found for one subject. */
export interface TargetPlan {
  steps: DraftStep[];
  findings: DraftFinding[];
  /** The role that must do something first, and what is to be said of it: the subject is waiting, not failing. */
  waitingFor?: string;
  /** A part of the backend, such as one of several servers, that could not be read. */
  unreadable?: string;
}

/** No step and no finding: as it should be. */
export const NOTHING_TO_DO: TargetPlan = { steps: [], findings: [] };

/**
 * Orders the steps of one subject and role: what revokes comes first, over all targets; otherwise
 * the order of the targets, and within a target the order that it gave.
 */
export function orderSteps<T extends DraftStep>(steps: readonly T[]): T[] {
  return [
    ...steps.filter((step) => step.effect === 'revoke'),
    ...steps.filter((step) => step.effect !== 'revoke'),
  ];
}
