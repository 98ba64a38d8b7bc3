/** A plan as text for people. Pure: no clock, and colour only as it is given. */
import type { Effect } from './action.ts';
import { type Finding, isHeeded } from './plan.ts';
import { describeIgnoring } from '../drift/survey-groups.ts';
import type { Paint, Style } from '../explain/render-explain.ts';
import { renderUnmanaged } from '../unmanaged/render-unmanaged.ts';
import { heededIn, type Report, type Unreadable } from './report.ts';
import { UNSEALED } from '../seals/seal.ts';
import { count, nameFew, printableLines } from '../shared/printable.ts';

const MARKS: Record<Effect, string> = { create: '+', change: '~', revoke: '-', destroy: '!' };

const COLOURS: Readonly<Record<string, Style>> = {
  '+': 'green',
  '~': 'yellow',
  '-': 'red',
  '!': 'red',
  '?': 'cyan',
  '…': 'dim',
};

/** The words for each effect, in the order in which totals name them. */
const EFFECTS: readonly Effect[] = ['create', 'change', 'revoke', 'destroy'];

/** How much of everything a plan holds. */
export interface Totals {
  subjects: number;
  steps: number;
  create: number;
  change: number;
  revoke: number;
  destroy: number;
  findings: number;
  waiting: number;
  unreadable: number;
}

/** Counts what a plan holds. */
export function countPlan(report: Report): Totals {
  const effects = { create: 0, change: 0, revoke: 0, destroy: 0 };
  for (const step of report.steps) effects[step.effect] += 1;
  return {
    subjects: report.subjects,
    steps: report.steps.length,
    ...effects,
    findings: heededIn(report),
    waiting: report.waiting.length,
    unreadable: report.unreadable.length,
  };
}

/**
 * Renders a plan: per account each step (`+` create, `~` change, `-` revoke, `!` destroy), each
 * finding (`?`) and what it waits for (`…`); then what was found beside many accounts, what is not ours, and
 * what could not be read; then totals and digest. Where several accounts get their first seal, as after an import, that is
 * one line.
 *
 * @param paint colours the marks for who watches
 */
export function renderPlan(
  report: Report,
  digest: string,
  paint: Paint = (_, text) => text,
): string {
  const { steps, findings, waiting, unreadable } = report;
  const width = [...steps, ...findings, ...waiting].reduce(
    (most, { target }) => Math.max(most, target.length),
    0,
  );
  const accounts = new Map<string, string[]>();
  const add = (account: string, mark: string, target: string, what: string, why: string) => {
    const lines = accounts.get(account) ?? [];
    lines.push(`  ${mark} ${target.padEnd(width)}  ${what}`, `    ${' '.repeat(width)}  ${why}`);
    accounts.set(account, lines);
  };
  const first = steps.filter(({ target, because }) => target === 'seal' && because === UNSEALED);
  const together = new Set(first.length > 1 ? first : []);
  for (const step of steps) {
    if (together.has(step)) continue;
    const what = `${step.object}: ${step.change}`;
    add(step.account, MARKS[step.effect], step.target, what, `because ${step.because}`);
  }
  const shared = sharedFindings(findings);
  for (const finding of findings) {
    const { account, target, object, code, ignored } = finding;
    const what = `${object}: ${code}${ignored === undefined ? '' : ', ignored'}`;
    if (!shared.has(textOf(finding))) add(account, '?', target, what, whyOf(finding));
  }
  for (const { account, target, sentence } of waiting) {
    add(account, '…', target, 'waiting', sentence);
  }
  const parts = [...accounts]
    .toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([account, lines]) => [account, ...lines].join('\n'));
  if (together.size > 0) {
    const of = nameFew(first.map(({ account }) => account));
    parts.push(`Not sealed yet\n  ~ seal  ${together.size} accounts: none → a seal (${of})`);
  }
  if (shared.size > 0) {
    const lines = [...shared].map(([text, of]) => `  ? ${text} (${nameFew(of)})`);
    parts.push(['Findings that concern several accounts', ...lines].join('\n'));
  }
  const notOurs = renderUnmanaged(report.unmanaged ?? []);
  if (notOurs !== '') parts.push(notOurs);
  if (unreadable.length > 0) {
    parts.push(
      [
        'UNREADABLE: these could not be read, so their state is unknown',
        ...renderUnreadable(unreadable).map((line) => `  ${line}`),
      ].join('\n'),
    );
  }
  parts.push(`${renderTotals(countPlan(report), shared)}\ndigest ${digest}`);
  return printableLines(parts.join('\n\n')).replace(/(?<=^ {2})[-+~!?…](?= )/gmu, (mark) =>
    paint(COLOURS[mark] ?? 'dim', mark),
  );
}

/**
 * What could not be read, a line for each cause: a server that is away is unreadable for each target of each subject,
 * and is said once, with the targets and the first few accounts.
 */
function renderUnreadable(unreadable: readonly Unreadable[]): string[] {
  const causes = new Map<string, { targets: Set<string>; accounts: Set<string> }>();
  for (const { target, account, sentence } of unreadable) {
    const of = causes.get(sentence) ?? { targets: new Set(), accounts: new Set() };
    of.targets.add(target);
    if (account !== undefined) of.accounts.add(account);
    causes.set(sentence, of);
  }
  return [...causes].map(([sentence, { targets, accounts }]) => {
    const what = `${[...targets].join(', ')}: ${sentence}`;
    return accounts.size === 0 ? what : `${what} (${nameFew([...accounts])})`;
  });
}

/** What is seen beside several accounts, such as a nameless database account, with whose they are. */
function sharedFindings(findings: readonly Finding[]): Map<string, string[]> {
  const accounts = new Map<string, string[]>();
  for (const finding of findings.filter((each) => each.advisory && isHeeded(each))) {
    const text = textOf(finding);
    const of = accounts.get(text) ?? [];
    of.push(finding.account);
    accounts.set(text, of);
  }
  return new Map([...accounts].filter(([, of]) => of.length > 1));
}

function textOf(finding: Finding): string {
  const { target, object, code } = finding;
  return `${target}  ${object}: ${code}. ${whyOf(finding)}`;
}

function whyOf({ sentence, ignored }: Finding): string {
  return ignored === undefined ? sentence : `${sentence} (${describeIgnoring(ignored)})`;
}

/** @param shared the accounts of each finding that concerns several */
function renderTotals(totals: Totals, shared: ReadonlyMap<string, readonly string[]>): string {
  const effects = EFFECTS.filter((effect) => totals[effect] > 0).map(
    (effect) => `${totals[effect]} ${effect}`,
  );
  const nothing = totals.unreadable + totals.findings === 0 ? 'nothing to do' : 'no step';
  const repeated = [...shared.values()].reduce((sum, of) => sum + of.length - 1, 0);
  const findings = totals.findings - repeated;
  const areAll = shared.size === findings;
  const ofSeveral = areAll ? ' about several accounts' : ` (${shared.size} about several accounts)`;
  return [
    `${count(totals.subjects, 'subject')} checked: `,
    totals.steps > 0 ? `${count(totals.steps, 'step')} (${effects.join(', ')})` : nothing,
    findings === 0 ? '' : `, ${count(findings, 'finding')}${shared.size === 0 ? '' : ofSeveral}`,
    totals.waiting === 0 ? '' : `, ${totals.waiting} waiting`,
    totals.unreadable === 0 ? '' : ', something is UNREADABLE',
  ].join('');
}
