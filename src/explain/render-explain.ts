/** An explanation as a page for people. Pure: no clock, and colour only as it is given. */
import { printable } from '../shared/printable.ts';
import { timeOf } from '../shared/time.ts';
import { describeMail } from '../identity/mail.ts';
import type {
  Becoming,
  Entrant,
  Explanation,
  HistoryFact,
  KeyFact,
  KeyPage,
  SubjectPage,
  TargetPage,
  TargetState,
  WayPage,
} from './explanation.ts';
import { leavingRows } from '../lifecycle/render-leaving.ts';

export type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan';
export type Paint = (style: Style, text: string) => string;

/** How many people or accounts of each list are shown; the JSON holds all. */
const MOST_SHOWN = 40;

/** The length of the longest state. */
const STATE_WIDTH = 'unreadable'.length;

const COLOURS: Record<TargetState, Style> = {
  'as wanted': 'green',
  differs: 'yellow',
  finding: 'yellow',
  waiting: 'yellow',
  unreadable: 'red',
  'no answer': 'red',
};

/** Renders the page: what the word is, its key, then each subject that it names. */
export function renderExplanation(
  explanation: Explanation,
  paint: Paint = (_, text) => text,
): string {
  const { known, key, subjects } = explanation;
  const parts = [
    ...(known.length === 0 ? [] : [known.map(printable).join('\n')]),
    ...(key === null ? [] : [renderKeyPage(key, paint)]),
    ...subjects.map((subject) => renderSubject(subject, new Date(explanation.at), paint)),
  ];
  return parts.join('\n\n');
}

function renderKeyPage(key: KeyPage, paint: Paint): string {
  const rows: Row[] = [
    ['held by', key.removedAt === null ? key.holder : `${key.holder}, until it was removed`],
    ['type', key.type],
    ['label', key.label],
    ['options', key.options.join(',')],
    ['added', timeOf(key.addedAt)],
    ['expires', key.expiresAt === null ? '' : timeOf(key.expiresAt)],
    ['removed', key.removedAt === null ? '' : timeOf(key.removedAt)],
    ['known bad', key.knownBad ?? ''],
    [
      'gives access',
      key.stops.length === 0
        ? `to what ${key.holder} may use: see below`
        : `to nothing: ${key.stops.join(', ')}`,
    ],
  ];
  return [`${paint('bold', printable(key.fingerprint))}  key`, ...renderRows(rows)].join('\n');
}

function renderSubject(page: SubjectPage, now: Date, paint: Paint): string {
  const { kind, uid, account, state, stops, targets, entrants, becomes } = page;
  const head = `${paint('bold', printable(account))}  ${kind} ${uid}, ${state}`;
  const section = (title: string, lines: readonly string[], none?: string): string[] => {
    const shown = lines.length === 0 && none !== undefined ? [`  ${none}`] : lines;
    return shown.length === 0 ? [] : ['', paint('dim', title), ...shown];
  };
  return [
    head,
    ...renderRows(factsOf(page, now)),
    ...section(
      'who requested what, and who approved it',
      historyOf(page),
      'no request: created by `chamberlain bootstrap`, or imported',
    ),
    ...section('what is wanted, and what exists', targetLines(targets, paint)),
    ...(entrants === undefined
      ? []
      : section(
          `who can become ${printable(account)}`,
          entrantLines(entrants, stops, paint),
          'nobody',
        )),
    ...section(`what ${printable(account)} can become`, becomingLines(becomes, stops, paint)),
  ].join('\n');
}

type Row = readonly [name: string, value: string];

/** Rows without a value are left out. */
function renderRows(rows: readonly Row[]): string[] {
  return rows
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `  ${name.padEnd(13)}  ${printable(value)}`);
}

function factsOf(page: SubjectPage, now: Date): Row[] {
  const { credentials, leaving, kind, account, state } = page;
  return [
    ['title', page.title ?? ''],
    ['display name', page.displayName ?? ''],
    ['mail', describeMail(page.email, page.mailVerifiedAt)],
    ['created', timeOf(page.since)],
    ...page.dns.map((dn): Row => ['DN', dn]),
    ...leavingRows(leaving, { kind, account, state, now }),
    ['maintainers', page.maintainers?.join(', ') ?? ''],
    ['realm member', memberOf(page)],
    ['can log in', page.kind === 'tool' ? '' : getsIn(page)],
    ['database user', `${page.databaseUser}, ${credentialsOf(credentials)}`],
    ...page.access.map((fact): Row => ['access', accessOf(fact)]),
    ...(page.keys ?? []).map((key): Row => ['key', describeKey(key)]),
  ];
}

/** Whether the person is to be able to log in. The directory decides, so it says if the directory may differ. */
function getsIn({ stops, keys = [], targets }: SubjectPage): string {
  const good = keys.filter((key) => key.stops.length === 0).length;
  const wanted =
    stops.length > 0
      ? `no: ${stops.join(', ')}`
      : `with ${good === 1 ? 'one key' : `${good} keys`}`;
  const late = targets.filter(({ role, state }) => role === 'directory' && state !== 'as wanted');
  if (late.length === 0) return wanted;
  const [since] = late
    .flatMap(({ trouble }) => trouble.flatMap((each) => each.since ?? []))
    .toSorted();
  const how = [
    ...(late.some(({ state }) => state === 'no answer') ? ['does not answer'] : []),
    ...(late.some(({ state }) => state === 'unreadable') ? ['cannot be read'] : []),
    ...(since === undefined ? [] : [`is behind since ${timeOf(since)}`]),
  ];
  const which = how.length === 0 ? 'is behind, as was found just now' : how.join(' and ');
  return `${wanted}, as is wanted of the directory, which ${which}`;
}

function memberOf({ realmMember: member, accessRevoked }: SubjectPage): string {
  if (member === undefined) return '';
  if (member !== null) return `since ${timeOf(member.since)}`;
  return accessRevoked === undefined
    ? 'no'
    : `no, access revoked ${timeOf(accessRevoked.at)} by ${accessRevoked.by}`;
}

function credentialsOf(credentials: SubjectPage['credentials']): string {
  if (credentials === null) return 'without credentials';
  const { wantedEpoch, recordedEpoch, recordedAt, previousUntil, lockedOut } = credentials;
  if (recordedEpoch === null || recordedAt === null) {
    return `password number ${wantedEpoch} is wanted, and there is none yet`;
  }
  const before =
    previousUntil === null
      ? ''
      : `; the password before number ${recordedEpoch} works until ${timeOf(previousUntil)}`;
  const number = `password number ${recordedEpoch}`;
  const made = `made ${timeOf(recordedAt)}`;
  if (recordedEpoch === wantedEpoch) return `${number}, ${made}${before}`;
  const out = lockedOut ? ' but lets nobody in until the role homes has made the wanted one' : '';
  return `password number ${wantedEpoch} is wanted; ${number}, ${made}, is in place${out}${before}`;
}

function accessOf(fact: SubjectPage['access'][number]): string {
  const asked = `requested ${timeOf(fact.openedAt)}${quoted(fact.reason)}`;
  if (fact.decidedAt === null) return `${asked}, open`;
  const decided = `${fact.state} ${timeOf(fact.decidedAt)} by ${fact.decidedBy}`;
  return `${asked}, ${decided}${quoted(fact.decisionReason ?? '')}`;
}

function quoted(text: string): string {
  return text === '' ? '' : ` “${text}”`;
}

function describeKey(key: KeyFact): string {
  return [
    key.fingerprint,
    ...(key.label === '' ? [] : [key.label]),
    // only the fingerprint is left of a person who was erased
    `${key.type === '' ? '' : `${key.type}, `}added ${timeOf(key.addedAt)}`,
    ...(key.options.length === 0 ? [] : [key.options.join(',')]),
    ...(key.expiresAt === null ? [] : [`until ${timeOf(key.expiresAt)}`]),
    ...(key.removedAt === null ? [] : [`removed ${timeOf(key.removedAt)}`]),
    ...key.stops.filter((stop) => stop !== 'removed'),
  ].join('  ');
}

function historyOf({ history, acts, account }: SubjectPage): string[] {
  const lines = history.map((fact) => `  ${printable(historyLine(fact))}`);
  const more = acts - history.length;
  if (more <= 0) return lines;
  const [first = '', ...latest] = lines;
  return [first, `  … ${more} more: chamberlain audit --subject ${printable(account)}`, ...latest];
}

function historyLine(fact: HistoryFact): string {
  const who =
    fact.approvedBy === null || fact.approvedBy === fact.requestedBy
      ? (fact.requestedBy ?? '?')
      : `${fact.requestedBy ?? '?'}, approved by ${fact.approvedBy}`;
  return [
    timeOf(fact.at),
    (fact.kind ?? '?').padEnd(18),
    `by ${who}`,
    ...(fact.portal === null ? [] : [`through ${fact.portal}`]),
    ...(fact.fields.length === 0 ? [] : [`(${fact.fields.join(', ')})`]),
    ...(fact.verdict === 'accepted' ? [] : [`${fact.verdict}: ${fact.code}`]),
  ].join('  ');
}

function targetLines(targets: readonly TargetPage[], paint: Paint): string[] {
  const width = Math.max(0, ...targets.map(({ target }) => target.length));
  const silent = new Set<string>();
  return targets.flatMap(({ role, target, wanted, state, trouble }) => {
    const line = `  ${paint(COLOURS[state], state.padEnd(STATE_WIDTH))}  ${target.padEnd(width)}  ${printable(wanted)}`;
    // the silence of a role concerns each of its targets, and is shown once
    if (state === 'no answer' && silent.has(role)) return [line];
    if (state === 'no answer') silent.add(role);
    return [
      line,
      ...trouble.flatMap(({ mark, what, why, since }) => {
        const known = state === 'no answer' && since === null ? '' : sinceOf(since);
        const reason = [known, why].filter((text) => text !== '').join(': ');
        return [
          `${' '.repeat(STATE_WIDTH + 4)}${mark} ${printable(what)}`,
          ...(reason === '' ? [] : [`${' '.repeat(STATE_WIDTH + 6)}${printable(reason)}`]),
        ];
      }),
    ];
  });
}

function sinceOf(since: string | null): string {
  return since === null ? 'found just now' : `since ${timeOf(since)}`;
}

function entrantLines(
  entrants: readonly Entrant[],
  stops: readonly string[],
  paint: Paint,
): string[] {
  if (entrants.length === 0) return [];
  const width = Math.max(0, ...entrants.slice(0, MOST_SHOWN).map(({ person }) => person.length));
  const lines = entrants.slice(0, MOST_SHOWN).flatMap(({ person, open, keys, ways }) => [
    ...ways.map((way, at) => {
      const name = (at === 0 ? printable(person) : '').padEnd(width);
      return `  ${paint(open ? 'bold' : 'dim', name)}  ${wayLine(way, stops, paint)}`;
    }),
    ...(open ? keys.map((key) => `  ${' '.repeat(width)}  by ${printable(describeKey(key))}`) : []),
  ]);
  return [...stoppedBy(stops, 'nobody', paint), ...lines, ...moreThan(entrants.length)];
}

function becomingLines(
  becomes: readonly Becoming[],
  stops: readonly string[],
  paint: Paint,
): string[] {
  if (becomes.length === 0) return [];
  const shown = becomes.slice(0, MOST_SHOWN);
  const width = Math.max(0, ...shown.map(({ account }) => account.length));
  const lines = shown.map(
    (way) => `  ${printable(way.account).padEnd(width)}  ${wayLine(way, stops, paint)}`,
  );
  return [...stoppedBy(stops, 'nothing', paint), ...lines, ...moreThan(becomes.length)];
}

function moreThan(count: number): string[] {
  return count <= MOST_SHOWN ? [] : [`  … and ${count - MOST_SHOWN} more: see --json`];
}

/** What stops all ways is shown once, above them. */
function stoppedBy(stops: readonly string[], none: string, paint: Paint): string[] {
  return stops.length === 0
    ? []
    : [`  ${paint('red', `${none} while ${printable(stops.join(', '))}; otherwise:`)}`];
}

/** `through tools.c → tools.relay, since …`, and what else stops it; its two ends are shown elsewhere. */
function wayLine({ path, since, stops }: WayPage, said: readonly string[], paint: Paint): string {
  const between = path.slice(1, -1).join(' → ');
  const way = between === '' ? 'directly' : `through ${printable(between)}`;
  const line = `${way}, since ${timeOf(since)}`;
  const others = stops.filter((stop) => !said.includes(stop));
  return others.length === 0
    ? line
    : `${line}  ${paint('red', `no: ${printable(others.join(', '))}`)}`;
}
