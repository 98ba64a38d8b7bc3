/**
 * What `plan --all` will show about the imported subjects: the roles' own survey, with the future wanted state. So an
 * import shows beforehand where the running platform differs.
 */
import type { Realm, Wanted } from '../reconcile/wanted.ts';
import type { Report } from '../reconcile/report.ts';
import { type AnyTarget, survey } from '../reconcile/engine.ts';

/** How many subjects one role surveys at a time. */
const SLICE = 500;

/** What a role will plan, with a reader that reads as the role does, or that has read everything beforehand. */
export async function foresee<Reader>(
  targets: readonly AnyTarget<Reader>[],
  reader: Reader,
  wanted: readonly Wanted[],
  realm: Realm,
  say: (text: string) => void,
): Promise<Report> {
  const report: Report = {
    ...{ steps: [], findings: [], waiting: [], unreadable: [] },
    subjects: wanted.length,
  };
  for (let at = 0; at < wanted.length; at += SLICE) {
    say(`comparing ${targets.map(({ name }) => name).join(', ')}: ${at} of ${wanted.length}`);
    for (const found of await survey(targets, wanted.slice(at, at + SLICE), realm, reader)) {
      const { subject, account } = found;
      report.steps.push(...found.steps);
      report.findings.push(...found.findings);
      report.waiting.push(...found.waiting.map((each) => ({ subject, account, ...each })));
      report.unreadable.push(
        ...found.unreadable.map(({ target, sentence }) => ({ subject, account, target, sentence })),
      );
    }
  }
  return report;
}
