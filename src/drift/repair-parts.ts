/** The parts of a repair: one for each subject and role. Pure. */
import type { Role } from '../reconcile/wanted.ts';
import type { Finding, Step } from '../reconcile/plan.ts';
import { sideConditionsOf, partSteps, type Policy } from '../reconcile/policy.ts';
import { byAccount, type Report, type Unreadable, type Waiting } from '../reconcile/report.ts';
import { verbOf } from '../roles/index.ts';

/** What one role must do for one subject. */
export interface AskedPart {
  subject: number;
  account: string;
  role: Role;
  /** in the role's order; empty if the role has given up, and must only try again */
  steps: readonly Step[];
  /** see `sideConditionsOf` */
  sideConditions: readonly string[];
}

/** A subject that a role has given up on. */
export interface GivenUp {
  subject: number;
  account: string;
  role: Role;
}

/** Because of the amount of data. Such a part has a job of its own, so that no other waits for it. */
export function takesHours(steps: readonly Step[]): boolean {
  return steps.some(({ action }) => verbOf(action)?.takesHours === true);
}

/** Whether a part makes a password, whose verifier the database servers must get. */
export function makesVerifier({ role, steps }: Pick<AskedPart, 'role' | 'steps'>): boolean {
  return role === 'homes' && steps.some(({ action }) => action.verb === 'credentials.write');
}

/**
 * Those of a repair's open parts that may begin. New credentials change what is wanted on the database servers, so the
 * subject's part there, which was planned before, is done first.
 */
export function mayBegin<Part extends AskedPart>(open: readonly Part[]): Part[] {
  const first = new Set(open.flatMap(({ role, subject }) => (role === 'databases' ? subject : [])));
  return open.filter((part) => !(makesVerifier(part) && first.has(part.subject)));
}

/**
 * The parts that follow from the reports, account by account, and the steps that the policy withholds. A subject that
 * a role has given up on is a part even without a step, so that the role tries it again.
 */
export function draftParts(
  reports: ReadonlyMap<Role, Report>,
  policy: Policy,
  givenUp: readonly GivenUp[],
): { parts: AskedPart[]; withheld: Step[] } {
  const parts: AskedPart[] = [];
  const allWithheld: Step[] = [];
  for (const [role, report] of reports) {
    const stepsOf = Map.groupBy(report.steps, ({ subject }) => subject);
    const beside = sideConditionsBySubject(report, policy);
    for (const [subject, [first, ...others]] of stepsOf) {
      if (first === undefined) continue;
      const { allowed, withheld } = partSteps([first, ...others], policy);
      allWithheld.push(...withheld);
      if (allowed.length === 0) continue;
      const { account } = first;
      parts.push({ subject, account, role, steps: allowed, sideConditions: beside(subject) });
    }
    for (const { subject, account } of givenUp.filter((each) => each.role === role)) {
      if (stepsOf.has(subject)) continue;
      parts.push({ subject, account, role, steps: [], sideConditions: beside(subject) });
    }
  }
  return { parts: byAccount(parts), withheld: allWithheld };
}

function sideConditionsBySubject(report: Report, policy: Policy): (subject: number) => string[] {
  const findings = Map.groupBy<number, Finding>(report.findings, ({ subject }) => subject);
  const waiting = Map.groupBy<number, Waiting>(report.waiting, ({ subject }) => subject);
  const unreadable = Map.groupBy<number | undefined, Unreadable>(
    report.unreadable,
    ({ subject }) => subject,
  );
  // an entry without a subject concerns a whole target
  const ofAll = unreadable.get(undefined) ?? [];
  return (subject) =>
    sideConditionsOf(
      {
        findings: findings.get(subject) ?? [],
        waiting: waiting.get(subject) ?? [],
        unreadable: [...ofAll, ...(unreadable.get(subject) ?? [])],
      },
      policy,
    );
}
