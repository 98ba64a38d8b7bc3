/** The outcome of a repair, for people and for programs. */
import type { Step } from '../reconcile/plan.ts';
import { failureLine, RUN_AGAIN } from '../cli/exit.ts';
import type { FollowedPart, Owed } from './follow-repair.ts';
import { roleOfTarget } from '../roles/index.ts';
import type { Asked } from './asking.ts';
import { renderTable } from '../cli/table.ts';
import { count, nameFew } from '../shared/printable.ts';

export interface Repaired extends Asked {
  /** undefined: nothing was requested */
  id: string | undefined;
  parts: readonly FollowedPart[];
  owed: readonly Owed[];
  /** steps that destroy, without --destroy */
  withheld: readonly Step[];
}

/** How many rows are shown. The totals count all of them, and `--json` holds all of them. */
const MOST_ROWS = 50;

/** The outcome of a part, as shown: a part that is still `asked` was not answered, or takes long. */
type Ending = 'done' | 'refused' | 'failed' | 'unanswered' | 'unfinished';

/** The outcome of a part, as people see it. */
export function endingOf({ state, code }: FollowedPart): Ending {
  if (state !== 'asked') return state;
  return code === 'STILL_AT_WORK' ? 'unfinished' : 'unanswered';
}

/** One JSON value: each part with its outcome, what is owed and withheld, findings, the digest. */
export function toJson({ id, parts, owed, withheld, report, digest }: Repaired) {
  return {
    repair: id ?? null,
    parts: parts.map((part) => ({
      subject: part.subject,
      account: part.account,
      role: part.role,
      state: endingOf(part),
      steps: part.steps.length,
      code: part.code,
      sentence: part.sentence,
    })),
    owed,
    withheld,
    findings: report.findings,
    unreadable: report.unreadable,
    digest,
  };
}

/** Each part that was not done, with its reason, and what is owed or withheld; then what was done. */
export function renderRepaired({ parts, owed, withheld, report }: Repaired): string {
  const rows = [
    ...parts
      .filter(({ state }) => state !== 'done')
      .map((part) => [part.account, part.role, endingOf(part), part.code, part.sentence]),
    ...owed.map(({ account, code, sentence }) => [account, 'databases', 'behind', code, sentence]),
    ...withheld.map(({ account, target, object, change }) => [
      account,
      roleOfTarget(target),
      'withheld',
      'DESTROY_WITHHELD',
      `${target}: ${object}: ${change}`,
    ]),
  ];
  const table = renderTable(
    ['account', 'role', 'outcome', 'code', 'why'],
    rows.slice(0, MOST_ROWS),
  );
  const more = rows.length > MOST_ROWS ? `\n… and ${rows.length - MOST_ROWS} more` : '';
  const summary = summaryOf({ parts, owed, withheld, report });
  return [...(rows.length === 0 ? [] : [`\n${table}${more}`]), `\n${summary}`].join('\n');
}

function summaryOf(repaired: Pick<Repaired, 'parts' | 'owed' | 'withheld' | 'report'>): string {
  const { parts, owed, withheld, report } = repaired;
  const stepsOf = (ending: Ending) =>
    parts
      .filter((part) => endingOf(part) === ending)
      .reduce((sum, { steps }) => sum + steps.length, 0);
  const done = stepsOf('done');
  const others = (['refused', 'failed', 'unanswered', 'unfinished'] as const)
    .map((ending) => ({ ending, steps: stepsOf(ending) }))
    .filter(({ steps }) => steps > 0)
    .map(({ ending, steps }) => `${steps} ${ending}`);
  const unread = report.unreadable.length;
  const left = [
    ...(owed.length === 0 ? [] : [`${count(owed.length, 'account')} behind`]),
    ...(withheld.length === 0 ? [] : [`${withheld.length} withheld`]),
    ...(unread === 0 ? [] : ['something is UNREADABLE']),
  ];
  if (parts.length === 0) {
    return left.length === 0 ? 'there was nothing to do' : `nothing was done, ${left.join(', ')}`;
  }
  const again = parts.filter((part) => endingOf(part) === 'done' && part.steps.length === 0);
  const subjects = new Set(again.map(({ subject }) => subject)).size;
  return [
    `${count(done, 'step')} done`,
    ...others,
    ...(subjects === 0 ? [] : [`${count(subjects, 'parked subject')} tried again`]),
    ...left,
  ].join(', ');
}

/** One line for standard error for each code of what was not done: `CODE: sentence. What to do.` */
export function failuresOf({ parts, owed, withheld }: Repaired): string[] {
  const bad = Map.groupBy(
    parts.filter(({ state }) => state !== 'done'),
    ({ code }) => code ?? 'INTERNAL',
  );
  return [
    ...[...bad].map(([code, of]) =>
      notDone(
        code,
        nameAccounts(of, code === 'STILL_AT_WORK' ? 'not done yet for' : 'not done for'),
        of.every((part) => endingOf(part) === 'unanswered') ? SEE_WHY : THEN[code],
      ),
    ),
    ...[...Map.groupBy(owed, ({ code }) => code)].map(([code, of]) =>
      failureLine(code, nameAccounts(of, 'the new verifier is not yet on every server for')),
    ),
    ...(withheld.length === 0
      ? []
      : [failureLine('DESTROY_WITHHELD', nameAccounts(withheld, 'not done for'))]),
  ];
}

/** What to do then: the reason shows whether a worker or a server is missing. */
const SEE_WHY = 'Remove the cause that the column `why` shows, and run the command again.';

/** What to do then. Unlike other work, a repair does not continue by itself. */
const THEN: Record<string, string> = {
  BACKEND_UNAVAILABLE: RUN_AGAIN,
  BACKEND_UNREADABLE: RUN_AGAIN,
  STEP_STALE: 'Run the command again.',
  STEP_FAILED: SEE_WHY,
};

function notDone(code: string, sentence: string, then: string | undefined): string {
  return then === undefined ? failureLine(code, sentence) : `${code}: ${sentence}. ${then}`;
}

function nameAccounts(of: readonly { account: string }[], what: string): string {
  return `${what} ${nameFew([...new Set(of.map(({ account }) => account))])}`;
}
