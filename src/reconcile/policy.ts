/** Which steps of a plan a repair may do. Pure: the admin's side and the worker's ask the same. */
import type { Action } from './action.ts';
import type { Step } from './plan.ts';
import { verbOf } from '../roles/index.ts';

export interface Policy {
  /** the one target whose steps are meant; undefined: every target */
  target: string | undefined;
  /** whether steps that destroy may be done */
  destroy: boolean;
}

/**
 * Parts steps, each half in the order in which they came:
 *
 * | target  | effect  | destroy | is        |
 * | ------- | ------- | ------- | --------- |
 * | another | any     | any     | not meant |
 * | meant   | destroy | no      | withheld  |
 * | meant   | any     | any     | allowed   |
 */
export function partSteps(
  steps: readonly Step[],
  { target, destroy }: Policy,
): { allowed: Step[]; withheld: Step[] } {
  const meant = steps.filter((step) => target === undefined || step.target === target);
  const isAllowed = ({ effect }: Step) => destroy || effect !== 'destroy';
  return {
    allowed: meant.filter(isAllowed),
    withheld: meant.filter((step) => !isAllowed(step)),
  };
}

/** What of a subject's survey stands beside its steps. */
interface SideCondition {
  findings: readonly { target: string; object: string; advisory?: true }[];
  waiting: readonly { target: string }[];
  unreadable: readonly { target: string }[];
}

/**
 * What stands beside the steps of one subject, a word each, so that whoever plans anew knows what has
 * come to it: a step that is gone because its server does not answer is not done.
 */
export function sideConditionsOf(
  { findings, waiting, unreadable }: SideCondition,
  { target }: Pick<Policy, 'target'>,
): string[] {
  const isMeant = (each: { target: string }) => target === undefined || each.target === target;
  return [
    ...findings
      .filter((finding) => isMeant(finding) && finding.advisory !== true)
      .map((finding) => `${finding.target} finding ${finding.object}`),
    ...waiting.filter(isMeant).map((each) => `${each.target} waiting`),
    ...unreadable.filter(isMeant).map((each) => `${each.target} unreadable`),
  ];
}

/** Whether a step takes access away, and loses no data: it may be done wherever, whoever came back from a backup. */
export function takesAway({ effect, action }: Pick<Step, 'effect' | 'action'>): boolean {
  return effect === 'revoke' || verbOf(action)?.losesNothing === true;
}

/** The MariaDB servers, or the area of homes, that an action changes. */
export function placesOf(action: Action): readonly string[] {
  if ('server' in action) return [action.server];
  if ('servers' in action) return action.servers;
  return 'home' in action ? [action.home.area] : [];
}
