/** What a survey found, in groups for reading, worst first. Pure. */
import type { Code } from '../shared/errors.ts';
import type { Action, Effect } from '../reconcile/action.ts';
import { verbOf } from '../roles/index.ts';
import { isUndecided } from '../unmanaged/unmanaged.ts';
import { describeThing } from '../unmanaged/render-unmanaged.ts';
import type { Ignoring } from '../reconcile/plan.ts';
import type { Report } from '../reconcile/report.ts';
import { timeOf } from '../shared/time.ts';

/** One thing in a group: its text, and its account. */
interface Item {
  /** undefined if it concerns a whole role or target */
  account?: string;
  text: string;
}

/** Things of one kind, which have one cause or are corrected in the same way. */
export interface Group {
  /** `advisory`: a finding about a subject that is as wanted nevertheless; `ignored`: one that an admin ignores */
  kind: 'unreadable' | 'finding' | 'advisory' | 'ignored' | 'drift';
  /** of findings */
  code?: Code;
  /** of something unreadable: a target or a role; of drift: the target */
  target?: string;
  /** of drift: what would be done about it */
  effect?: Effect;
  /** of drift: which part of the target differs, such as `member` or `mode of logs`; of something unmanaged: its kind */
  what?: string;
  /** how many items */
  count: number;
  /** how many accounts they concern */
  accounts: number;
  items: Item[];
}

const KINDS: readonly Group['kind'][] = ['unreadable', 'finding', 'advisory', 'ignored', 'drift'];

/** Too much access comes before what is missing, and that before what merely differs. */
const EFFECTS: readonly Effect[] = ['revoke', 'destroy', 'create', 'change'];

/**
 * The groups of a report, in this order:
 *
 * | group                                       | order among its kind               |
 * | ------------------------------------------- | ---------------------------------- |
 * | UNREADABLE, by target                       | whole roles first, then as below   |
 * | findings, by code; unmanaged things by kind | the largest first, then by name    |
 * | advisory findings, by code                  | likewise                           |
 * | findings that an admin ignores, by code     | likewise                           |
 * | drift, by effect, target and what differs   | revoke, destroy, create, change;   |
 * |                                             | in each the largest first          |
 *
 * What waits for another role is not a group: the fault is in the other role's own groups.
 */
export function groupSurvey(report: Report): Group[] {
  const groups = new Map<string, Group>();
  const add = (of: Omit<Group, 'count' | 'accounts' | 'items'>, item: Item): void => {
    const key = JSON.stringify([of.kind, of.code, of.target, of.effect, of.what]);
    let group = groups.get(key);
    if (group === undefined) {
      group = { ...of, count: 0, accounts: 0, items: [] };
      groups.set(key, group);
    }
    group.count += 1;
    group.items.push(item);
  };
  for (const { target, account, sentence } of report.unreadable) {
    const item = { text: sentence, ...(account === undefined ? {} : { account }) };
    add({ kind: 'unreadable', target }, item);
  }
  for (const finding of report.findings) {
    const { account, object, code, sentence, advisory, ignored } = finding;
    const what = sentence.startsWith(object) ? sentence : `${object}: ${sentence}`;
    const text = ignored === undefined ? what : `${what} (${describeIgnoring(ignored)})`;
    const kind = ignored !== undefined ? 'ignored' : advisory === true ? 'advisory' : 'finding';
    add({ kind, code }, { account, text });
  }
  for (const thing of report.unmanaged ?? []) {
    const kind = isUndecided(thing) ? 'finding' : 'advisory';
    add({ kind, code: 'UNMANAGED', what: thing.kind }, { text: describeThing(thing) });
  }
  for (const { account, target, object, effect, change, because, action } of report.steps) {
    const item = { account, text: `${object}: ${change}, because ${because}` };
    add({ kind: 'drift', target, effect, what: describePart(action) }, item);
  }
  for (const group of groups.values()) group.accounts = countAccounts(group.items);
  return [...groups.values()].toSorted(
    (a, b) =>
      KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind) ||
      Number(a.accounts > 0) - Number(b.accounts > 0) ||
      rankOf(a.effect) - rankOf(b.effect) ||
      b.count - a.count ||
      (nameOf(a) < nameOf(b) ? -1 : 1),
  );
}

/** Who ignores a finding, until when and why. */
export function describeIgnoring({ by, until, reason }: Ignoring): string {
  return `ignored by ${by}${until === null ? '' : ` until ${timeOf(new Date(until))}`}: ${reason}`;
}

/** How many accounts the items concern. */
export function countAccounts(items: readonly { account?: string }[]): number {
  return new Set(items.flatMap(({ account }) => (account === undefined ? [] : [account]))).size;
}

function rankOf(effect: Effect | undefined): number {
  return effect === undefined ? 0 : EFFECTS.indexOf(effect);
}

function nameOf({ code, target, what }: Group): string {
  return [code, target, what].filter(Boolean).join(' ');
}

/** Which part of its target an action concerns, in words that many accounts may share. */
function describePart(action: Action): string {
  return verbOf(action)?.part(action) ?? action.verb;
}
