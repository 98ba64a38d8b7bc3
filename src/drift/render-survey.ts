/** A survey as text for people: groups, worst first. Pure: no clock; colour only as it is given. */
import { CODES } from '../shared/errors.ts';
import { count, nameFew, printable } from '../shared/printable.ts';
import type { Effect } from '../reconcile/action.ts';
import { isHeeded } from '../reconcile/plan.ts';
import { heededIn, type Report, undecidedOf } from '../reconcile/report.ts';
import { countAccounts, groupSurvey, type Group } from './survey-groups.ts';

/** How many items of each group are shown in full. */
const SHOWN = 5;

/** What a difference means to a reader. */
const WORDS: Record<Effect, string> = {
  revoke: 'too much access',
  destroy: 'to be destroyed',
  create: 'missing',
  change: 'different',
};

/** How much of everything a survey found. */
export interface SurveyTotals {
  subjects: number;
  drifts: number;
  /** with drift */
  accounts: number;
  revoke: number;
  destroy: number;
  create: number;
  change: number;
  findings: number;
  waiting: number;
  unreadable: number;
}

/** Counts what a survey found; each step is one drift. */
export function countSurvey(report: Report): SurveyTotals {
  const effects = { revoke: 0, destroy: 0, create: 0, change: 0 };
  for (const { effect } of report.steps) effects[effect] += 1;
  return {
    subjects: report.subjects,
    drifts: report.steps.length,
    accounts: countAccounts(report.steps),
    ...effects,
    findings: heededIn(report),
    waiting: report.waiting.length,
    unreadable: report.unreadable.length,
  };
}

/**
 * Renders a survey: what could not be read, then what only an admin may decide, then drift, starting with
 * too much access. Each group has its count and its first few items. The totals come last.
 *
 * @param heading marks a heading for the reader, for example with bold type
 * @param planned the commands that show and take the steps, if that is not `plan` with the same arguments
 */
export function renderSurvey(
  report: Report,
  heading: (text: string) => string = (text) => text,
  planned = { plan: '`chamberlain plan` with the same arguments', repair: '`chamberlain repair`' },
): string {
  const groups = groupSurvey(report);
  const parts = joinUnreadable(groups).map((group) =>
    [heading(printable(titleOf(group))), ...renderItems(group).map(printable)].join('\n'),
  );
  parts.push([renderTotals(countSurvey(report), groups), ...hintsOn(report, planned)].join('\n'));
  return parts.join('\n\n');
}

/** A reason that leaves several targets unread, such as an unreachable server, is shown once. */
function joinUnreadable(groups: readonly Group[]): Group[] {
  const reasons = Map.groupBy(groups, (group) =>
    group.kind === 'unreadable' ? JSON.stringify(group.items) : group,
  );
  return [...reasons.values()].flatMap(([first, ...others]) => {
    if (first === undefined || others.length === 0) return first ?? [];
    return { ...first, target: [first, ...others].map(({ target }) => target).join(', ') };
  });
}

function titleOf(group: Group): string {
  const { kind, code, target, effect, what } = group;
  if (kind === 'unreadable') {
    return `UNREADABLE: ${target} (could not be read, so its state is unknown)`;
  }
  if (kind !== 'drift') {
    const meaning = code === undefined ? '' : CODES[code].meaning;
    const isUnmanaged = code === 'UNMANAGED';
    const texts = countTexts(group);
    const blocksNone = texts === 1 ? '; it blocks no step' : '; they block no step';
    const isAside = kind === 'advisory';
    const aside =
      kind === 'ignored' || (isAside && isUnmanaged) ? '; ignored' : isAside ? blocksNone : '';
    if (isUnmanaged)
      return `${code}, ${what}: ${count(group.count, 'finding')}${aside}. ${meaning}`;
    const found =
      texts < group.count
        ? `${count(texts, 'finding')} about ${count(group.accounts, 'account')}`
        : many(group, 'finding');
    return `${code}: ${found}${aside}. ${meaning}`;
  }
  const meaning = effect === undefined ? '' : `${WORDS[effect]}, `;
  return `${target}, ${what}: ${meaning}${many(group, 'difference')}`;
}

/** A finding about several accounts counts once, as in a plan. */
const countTexts = ({ items }: Group): number => new Set(items.map(({ text }) => text)).size;

/** `1 difference`, `3 differences`; also the number of accounts, where that is lower. */
function many({ count: number, accounts }: Group, noun: string): string {
  const of = accounts < number ? ` of ${count(accounts, 'account')}` : '';
  return `${count(number, noun)}${of}`;
}

/** The first few items, one line each. An item that several accounts share is shown once. */
function renderItems({ kind, items, count: number }: Group): string[] {
  const accounts = Map.groupBy(items, ({ text }) => text);
  const shown = [...accounts].slice(0, SHOWN).map(([text, of]) => {
    const names = of.flatMap(({ account }) => account ?? []);
    return { text, names, of: of.length, isOfOne: names.length === 1 && kind !== 'unreadable' };
  });
  const width = Math.max(
    0,
    ...shown.map(({ isOfOne, names }) => (isOfOne ? names.join().length : 0)),
  );
  const lines = shown.map(({ text, names, isOfOne }) => {
    if (isOfOne) return `  ${names.join().padEnd(width)}  ${text}`;
    return names.length === 0 ? `  ${text}` : `  ${text} (${nameFew(names)})`;
  });
  const left = number - shown.reduce((sum, { of }) => sum + of, 0);
  return left === 0 ? lines : [...lines, `  … and ${left} more`];
}

function renderTotals(totals: SurveyTotals, groups: readonly Group[]): string {
  const repeated = groups
    .filter(({ kind, code }) => (kind === 'finding' || kind === 'advisory') && code !== 'UNMANAGED')
    .reduce((sum, group) => sum + group.count - countTexts(group), 0);
  const findings = totals.findings - repeated;
  const effects = (Object.keys(WORDS) as Effect[])
    .filter((effect) => totals[effect] > 0)
    .map((effect) => `${totals[effect]} ${WORDS[effect]}`);
  const found = [
    findings === 0 ? '' : count(findings, 'finding'),
    totals.drifts === 0
      ? ''
      : `${count(totals.drifts, 'difference')} on ${count(totals.accounts, 'account')} (${effects.join(', ')})`,
    totals.waiting === 0 ? '' : `${totals.waiting} waiting for another role`,
    totals.unreadable === 0 ? '' : 'something is UNREADABLE',
  ].filter(Boolean);
  return `${count(totals.subjects, 'subject')} checked: ${found.join(', ') || 'all as wanted'}`;
}

/** What to do next. */
function hintsOn(report: Report, { plan, repair }: { plan: string; repair: string }): string[] {
  const { steps } = report;
  const heeded = report.findings.filter(isHeeded);
  const withheld = steps.some(({ effect }) => effect === 'destroy')
    ? ', those that destroy data only with `--destroy`'
    : '';
  return [
    ...(steps.length === 0
      ? []
      : [`${plan} shows each step; ${repair} carries them out${withheld}.`]),
    ...(heeded.length === 0 ? [] : [hintOnFindings(heeded)]),
    ...(undecidedOf(report).length === 0
      ? []
      : [
          'For unmanaged objects: remove them yourself, or run `chamberlain adopt OBJECT` (an account, or the group of a tool) or `chamberlain ignore OBJECT --reason TEXT`.',
        ]),
  ];
}

/** Advisory findings block no step. */
function hintOnFindings(findings: Report['findings']): string {
  const decide = 'An admin must decide on the findings.';
  const blocking = findings.filter(({ advisory }) => advisory !== true);
  if (blocking.length === 0) return decide;
  const except =
    blocking.length === findings.length ? '' : ', unless the heading says that they block no step';
  return `${decide} Until then, no step of the same target changes the objects that they name${except}.`;
}
