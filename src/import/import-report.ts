/** What `chamberlain import` prints: what was taken, what was not and why, and what a plan will show. */
import { CODES } from '../shared/errors.ts';
import type { JudgedHomes } from './credentials.ts';
import type { Refusal } from './refusal.ts';
import { timeOf } from '../shared/time.ts';
import { renderSurvey } from '../drift/render-survey.ts';
import type { Report } from '../reconcile/report.ts';
import { paint, renderTable } from '../cli/table.ts';

export interface ImportReport {
  /** everything was undone again */
  check: boolean;
  taken: {
    people: number;
    suspended: number;
    realmMembers: number;
    tools: number;
    disabled: number;
    keys: number;
    maintainers: number;
  };
  known: { people: number; tools: number };
  /** tools that are to be deleted: the time in the directory, and when they are archived (ISO 8601) */
  deletions: { account: string; was: string; deleteAfter: string }[];
  /** undefined: homes were not looked at */
  homes: Pick<JudgedHomes, 'kept' | 'lost'> | undefined;
  refusals: Refusal[];
  /** people who are taken over without any key, and had one in the directory */
  keyless: string[];
  /** what `plan --all` shows of who was taken over */
  foreseen: Report;
  /** nobody is an admin, and this is the tool that would make one */
  adminless: string | undefined;
}

/** Lines of one list; --json has them all. */
const MOST_LINES = 20;

export function renderImport(report: ImportReport): string {
  const { refusals, deletions, homes, foreseen, adminless } = report;
  return [
    renderTaken(report),
    renderNotTaken(refusals.filter(({ part }) => isSubject(part))),
    renderLeftOut(refusals.filter(({ part }) => !isSubject(part))),
    renderKeyless(report.keyless),
    renderDeletions(deletions),
    renderLost(homes),
    renderForeseen(foreseen),
    adminless === undefined
      ? ''
      : `${paint('yellow', 'Nobody is an admin:')} the directory has no tool ${adminless} with a ` +
        'maintainer who is a realm member.\nMake it there, with group, account and members, and import again.',
  ]
    .filter((part) => part !== '')
    .join('\n\n');
}

function renderTaken({ check, taken, known, homes }: ImportReport): string {
  const head = check ? 'Would be taken over' : 'Taken over';
  const { people, suspended, realmMembers, tools, disabled, keys, maintainers } = taken;
  return [
    `${paint('bold', `${head}:`)} ${count(people, 'person', 'people')} (${count(realmMembers, 'realm member')}, ` +
      `${suspended} suspended), ${count(tools, 'tool')} (${disabled} disabled), ${count(keys, 'key')}, ` +
      count(maintainers, 'maintainer'),
    ...(known.people + known.tools === 0
      ? []
      : [
          `Known before: ${count(known.people, 'person', 'people')}, ${count(known.tools, 'tool')}`,
        ]),
    homes === undefined
      ? 'Homes were not looked at: there are no new credentials. `import --from-directory --homes` adds them.'
      : `Credentials: ${count(homes.kept.length, 'file')} kept, ${homes.lost.length} to be made`,
  ].join('\n');
}

/** Whole subjects, by why; the reason that most have comes first. */
function renderNotTaken(refusals: readonly Refusal[]): string {
  if (refusals.length === 0) return '';
  const of = (part: Refusal['part']) => refusals.filter((each) => each.part === part).length;
  const groups = [...Map.groupBy(refusals, ({ code }) => code)].toSorted(
    ([a, left], [b, right]) => right.length - left.length || (a < b ? -1 : 1),
  );
  return [
    `${paint('bold', 'Not taken over:')} ${count(of('person'), 'person', 'people')}, ${count(of('tool'), 'tool')}\n` +
      'Their entries stay as they are, another’s: nobody is given their names or numbers. But whoever of them is a\n' +
      'member of a group that is taken over is left out there, and a repair takes them out of that group.\n' +
      'Mend what is wrong in the directory, and import again.',
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

/** Parts of who was taken over. */
function renderLeftOut(refusals: readonly Refusal[]): string {
  if (refusals.length === 0) return '';
  const groups = PARTS.map(([part, one, several]) => {
    const each = refusals.filter((refusal) => refusal.part === part);
    return { part, each, title: count(each.length, one, several) };
  }).filter(({ each }) => each.length > 0);
  return [
    `${paint('bold', 'Left out of who was taken over:')} ${groups.map(({ title }) => title).join(', ')}\n` +
      'They still stand in the directory; `chamberlain plan --all` shows which of them a repair takes out.\n' +
      'What should stay is asked for: key.add, maintainer.add, access.grant, person.update, tool.delete.',
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

/** Never cut: each of them loses their way in. */
function renderKeyless(keyless: readonly string[]): string {
  if (keyless.length === 0) return '';
  return (
    `${paint('bold', 'Without any key:')} ${count(keyless.length, 'person', 'people')}, whose every key in the directory is left out.\n` +
    `They cannot log in once a repair has taken those out, until they send a new one (key.add):\n${indent(keyless.join('\n'))}`
  );
}

/** Members of groups that are left out. */
export function lostMembers(refusals: readonly Refusal[]): Refusal[] {
  return refusals.filter(({ part }) => part === 'member');
}

/** What others lose by an import: members that are left out, and people without a key; nothing: ''. */
export function renderLosses({
  refusals,
  keyless,
}: Pick<ImportReport, 'refusals' | 'keyless'>): string {
  return [renderLeftOut(lostMembers(refusals)), renderKeyless(keyless)]
    .filter((part) => part !== '')
    .join('\n\n');
}

/** Countdowns of the running platform, as they go on here. */
function renderDeletions(deletions: ImportReport['deletions']): string {
  if (deletions.length === 0) return '';
  return renderList(
    `${paint('bold', 'To be deleted:')} ${count(deletions.length, 'tool')}. The countdown begins anew, and every warning is still ahead.\n` +
      'Other programs count from the old time until a repair has written the new one. `tool.enable` ends it.',
    ['account', 'pwdAccountLockedTime', 'archived from'],
    deletions.map(({ account, was, deleteAfter }) => [account, was, timeOf(deleteAfter)]),
  );
}

function renderLost(homes: ImportReport['homes']): string {
  if (homes === undefined || homes.lost.length === 0) return '';
  return renderList(
    `${paint('bold', 'A new password')} is made when the plan is carried out: ${homes.lost.length}`,
    ['account', 'why'],
    homes.lost.map(({ account, why }) => [account, why]),
  );
}

function renderForeseen(foreseen: Report): string {
  const { steps, findings, unreadable } = foreseen;
  if (steps.length + findings.length + unreadable.length === 0) {
    return 'Who was taken over is as wanted: `chamberlain plan --all` shows nothing of them.';
  }
  return `${paint('bold', 'Not as wanted')} of who was taken over, as \`chamberlain plan --all\` shows:\n\n${indent(
    renderSurvey(foreseen, (text) => paint('yellow', text)),
  )}`;
}

function renderList(
  title: string,
  headings: string[],
  rows: readonly string[][],
  most = MOST_LINES,
): string {
  const more = rows.length - most;
  return [
    title,
    indent(renderTable(headings, rows.slice(0, most))),
    ...(more > 0 ? [paint('dim', `  … and ${more} more, see --json`)] : []),
  ].join('\n');
}

function isSubject(part: Refusal['part']): boolean {
  return part === 'person' || part === 'tool';
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gmu, '  ');
}

/** `1 tool`, `2 tools`. */
function count(many: number, one: string, several = `${one}s`): string {
  return `${many} ${many === 1 ? one : several}`;
}
