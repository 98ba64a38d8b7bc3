/** What `chamberlain import` prints: what was imported, what was not and why, and what a plan will show. */
import { CODES } from '../shared/errors.ts';
import type { JudgedHomes } from './credentials.ts';
import type { Refusal } from './refusal.ts';
import { timeOf } from '../shared/time.ts';
import { count } from '../shared/printable.ts';
import { renderSurvey } from '../drift/render-survey.ts';
import type { Report } from '../reconcile/report.ts';
import { paint, renderTable } from '../cli/table.ts';

export interface ImportReport {
  /** everything was rolled back */
  check: boolean;
  taken: {
    people: number;
    suspended: number;
    realmMembers: number;
    tools: number;
    disabled: number;
    keys: number;
    maintainers: number;
    mailAddresses: number;
    /** how many of them count as verified */
    mailVerified: number;
  };
  known: { people: number; tools: number };
  /** tools with a pending deletion: the time in the directory, and when they are archived (ISO 8601) */
  deletions: { account: string; was: string; deleteAfter: string }[];
  /** undefined: homes were not read */
  homes: Pick<JudgedHomes, 'kept' | 'lost'> | undefined;
  refusals: Refusal[];
  /** people who had keys in the directory and are imported without any */
  keyless: string[];
  /** what `plan --all` shows about the imported subjects */
  foreseen: Report;
  /** set if the realm has no admin: the name of the admin tool */
  adminless: string | undefined;
}

/** The most lines of a list. --json has all of them. */
const MOST_LINES = 20;

/** What `import` and `adopt` each call what they do. */
const WORDS = {
  import: {
    done: 'Imported',
    would: 'Would be imported',
    not: 'Not imported',
    again: 'import again',
    homesBefore: '`import --from-directory --homes` adds them.',
    homes: '`import --from-directory --homes` adds them.',
  },
  adopt: {
    done: 'Taken over',
    would: 'Would be taken over',
    not: 'Not taken over',
    again: 'adopt them again',
    homesBefore: '`adopt … --homes` takes them over with the account.',
    homes:
      '`adopt … --homes` takes them over with the account; for an account that is taken over already,\n`import --from-directory --homes` adds them.',
  },
} as const;
type Words = (typeof WORDS)[keyof typeof WORDS];

export function renderImport(report: ImportReport, by: keyof typeof WORDS = 'import'): string {
  const words = WORDS[by];
  const { refusals, deletions, homes, foreseen, adminless } = report;
  const lost = homes?.lost ?? [];
  return renderSections([
    renderTaken(report, words),
    renderNotTaken(refusals.filter(isOfSubject), words, report.check),
    renderLeftOut(
      refusals.filter((each) => !isOfSubject(each)),
      report.check,
    ),
    renderKeyless(report.keyless),
    renderList(
      `${paint('bold', 'To be deleted:')} ${count(deletions.length, 'tool')}. The grace time begins again: now, or at the time in the directory if that is still to come.\n` +
        'Portals get every warning (tool.deleting) first. If the time in the directory is past, other programs still delete\n' +
        'by it until a repair, a request or the sweep has written the new one. ' +
        '`tool.enable` cancels the deletion of a tool.',
      ['account', 'pwdAccountLockedTime', 'archived on'],
      deletions.map(({ account, was, deleteAfter }) => [account, was, timeOf(deleteAfter)]),
    ),
    renderList(
      `${paint('bold', 'A new password')} is made when the plan is carried out: ${lost.length}`,
      ['account', 'why'],
      lost.map(({ account, why }) => [account, why]),
    ),
    renderForeseen(foreseen, report.check),
    renderAdminless(adminless),
  ]);
}

function renderAdminless(adminless: ImportReport['adminless']): string {
  if (adminless === undefined) return '';
  return (
    `${paint('yellow', 'No admin:')} no active realm member maintains the tool ${adminless}, and only an admin can ` +
    'add one.\nAn import adds maintainers only to a tool that it takes over. So before the import, make the tool in the\n' +
    'directory, with group, account, and members who are also in the realm group.'
  );
}

/** Leaves out the sections that are empty. */
function renderSections(sections: readonly string[]): string {
  return sections.filter((section) => section !== '').join('\n\n');
}

function renderTaken({ check, taken, known, homes }: ImportReport, words: Words): string {
  const head = check ? words.would : words.done;
  const { people, suspended, realmMembers, tools, disabled, keys, maintainers } = taken;
  const { mailAddresses, mailVerified } = taken;
  return [
    `${paint('bold', `${head}:`)} ${count(people, 'person', 'people')} (${count(realmMembers, 'realm member')}, ` +
      `${suspended} suspended), ${count(tools, 'tool')} (${disabled} disabled), ${count(keys, 'key')}, ` +
      count(maintainers, 'maintainer'),
    ...(mailAddresses === 0
      ? []
      : [`${count(mailAddresses, 'mail address', 'mail addresses')}; verified: ${mailVerified}`]),
    ...(known.people + known.tools === 0
      ? []
      : [
          `Known before: ${count(known.people, 'person', 'people')}, ${count(known.tools, 'tool')}`,
        ]),
    homes === undefined
      ? `Homes were not read, so there are no new credentials. ${check ? words.homesBefore : words.homes}`
      : `Credentials: ${count(homes.kept.length, 'file')} kept, ${homes.lost.length} to be made`,
  ].join('\n');
}

/** A tool that is known already gets no maintainer by an import, and a known person no access. */
const AFTERWARDS =
  'Then send maintainer.add or\naccess.grant for each group that lacks one of them.';

/** Subjects that are not imported, by reason. The most frequent reason comes first. */
function renderNotTaken(refusals: readonly Refusal[], words: Words, check: boolean): string {
  if (refusals.length === 0) return '';
  const of = (part: Refusal['part']) => refusals.filter((each) => each.part === part).length;
  const groups = [...Map.groupBy(refusals, ({ code }) => code)].toSorted(
    ([a, left], [b, right]) => right.length - left.length || (a < b ? -1 : 1),
  );
  return [
    `${paint('bold', `${words.not}:`)} ${count(of('person'), 'person', 'people')}, ${count(of('tool'), 'tool')}\n` +
      'Their entries stay as they are, unmanaged, and their names and numbers are not given to others. If one of them is a\n' +
      'member of the group of an imported tool, it is left out there, and the next repair, request or sweep that concerns the\n' +
      'tool removes it from that group. In the realm group it stays until you remove it.\n' +
      `Correct the entries in the directory, and ${words.again}.${check ? '' : ` ${AFTERWARDS}`}`,
    ...groups.map(([code, each]) =>
      renderList(
        `${paint('yellow', code)}: ${each.length}. ${CODES[code].meaning}`,
        ['entry', 'why'],
        each.map(({ object, sentence }) => [object, sentence]),
      ),
    ),
  ].join('\n\n');
}

const PARTS = [
  ['key', 'key', 'keys'],
  ['member', 'member', 'members'],
  ['name', 'display name', 'display names'],
  ['mail', 'address', 'addresses'],
  ['deletion', 'deletion', 'deletions'],
] as const satisfies [Refusal['part'], string, string][];

/** Parts of imported subjects that were left out. */
function renderLeftOut(refusals: readonly Refusal[], check: boolean): string {
  if (refusals.length === 0) return '';
  const groups = PARTS.map(([part, one, several]) => {
    const each = refusals.filter((refusal) => refusal.part === part);
    return { part, each, title: count(each.length, one, several) };
  }).filter(({ each }) => each.length > 0);
  return [
    `${paint('bold', 'Left out of imported subjects:')} ${groups.map(({ title }) => title).join(', ')}\n` +
      (check
        ? 'These are in the directory. To import one after all, first correct the fault that its line names.\n' +
          'After the import, `chamberlain plan --all` shows which of the others the next repair, request or sweep removes.'
        : 'These are still in the directory. `chamberlain plan --all` shows which of them the next repair, request or\n' +
          'sweep removes. To have one after all, correct the fault that its line names, and send a request: key.add, maintainer.add, access.grant, person.update, tool.delete.'),
    ...groups.map(({ part, each, title }) =>
      renderList(
        paint('yellow', title),
        ['entry', 'code', 'why'],
        each.map(({ object, code, sentence }) => [object, code, sentence]),
        part === 'member' ? each.length : MOST_LINES,
      ),
    ),
  ].join('\n\n');
}

/** The list is never shortened, because each of these people loses access. */
function renderKeyless(keyless: readonly string[]): string {
  if (keyless.length === 0) return '';
  return (
    `${paint('bold', 'Without any key:')} ${count(keyless.length, 'person', 'people')}. All of their keys in the directory are left out.\n` +
    `After a repair, a request or the sweep has removed those keys, they cannot log in until they send a new one (key.add):\n${indent(keyless.join('\n'))}`
  );
}

/** The group members that are left out. */
export function lostMembers(refusals: readonly Refusal[]): Refusal[] {
  return refusals.filter(({ part }) => part === 'member');
}

/** What an operator must agree to: left out members, people without a key, and a realm without an admin. */
export type Losses = Pick<ImportReport, 'refusals' | 'keyless'> &
  Partial<Pick<ImportReport, 'adminless'>>;

/** What is lost through an import. '' if there is nothing. */
export function renderLosses({ refusals, keyless, adminless }: Losses): string {
  return renderSections([
    renderLeftOut(lostMembers(refusals), true),
    renderKeyless(keyless),
    renderAdminless(adminless),
  ]);
}

function renderForeseen(foreseen: Report, check: boolean): string {
  const { steps, findings, unreadable } = foreseen;
  if (steps.length + findings.length + unreadable.length === 0) {
    return 'All imported subjects are as wanted: `chamberlain plan --all` shows nothing about them.';
  }
  const plan = '`chamberlain plan --all`';
  return `${paint('bold', 'Not as wanted')}: \`chamberlain plan --all\` will show these differences for the imported subjects:\n\n${indent(
    renderSurvey(foreseen, (text) => paint('yellow', text), {
      plan: check ? `Afterwards, ${plan}` : plan,
      repair: '`chamberlain repair --all`',
    }),
  )}`;
}

/** '' if the list is empty. */
function renderList(
  title: string,
  headings: string[],
  rows: readonly string[][],
  most = MOST_LINES,
): string {
  if (rows.length === 0) return '';
  const more = rows.length - most;
  return [
    title,
    indent(renderTable(headings, rows.slice(0, most))),
    ...(more > 0 ? [paint('dim', `  … and ${more} more, see --json`)] : []),
  ].join('\n');
}

function isOfSubject({ part }: Refusal): boolean {
  return part === 'person' || part === 'tool';
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gmu, '  ');
}
