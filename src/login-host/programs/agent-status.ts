/** The output of `keys-agent status`: as lines, as JSON, and its exit code. */
import type { LoginStatus } from '../status.ts';
import { EXIT } from '../../cli/exit.ts';
import { printable } from '../../shared/printable.ts';
import { paint, renderAge, renderTable } from '../../cli/table.ts';

/** The helper writes its status every 5 s, and hears from the agent as often; either may hang for a while. */
const SILENT_MS = 30_000;
/** The width of a row's text. */
const WIDTH = 88;
/** How many names of kept subjects are shown; the JSON has all of them. */
const NAMES_SHOWN = 20;

export interface Running {
  /** its process lives, and has recently written the status */
  helper: boolean;
  /** its process lives */
  lives: boolean;
  agent: boolean;
}

/** Which programs run. `lives` says whether a process exists. */
export function runningOf(
  status: LoginStatus,
  now: number,
  lives: (pid: number) => boolean,
): Running {
  const isHeard = (at: number | undefined) => at !== undefined && now - at < SILENT_MS;
  const isAlive = lives(status.pid);
  return { helper: isAlive && isHeard(status.at), lives: isAlive, agent: isHeard(status.agentAt) };
}

export function exitOf(status: LoginStatus, running: Running): number {
  const { trusted, trouble, refusedInAll, held, unwritten } = status;
  if (!running.helper || !running.agent) return EXIT.failed;
  if (!trusted || (trouble ?? '') !== '') return EXIT.unreadable;
  return refusedInAll > 0 || held !== undefined || unwritten.length > 0 ? EXIT.pending : EXIT.done;
}

export function statusJson(status: LoginStatus, now: number, running: Running): object {
  const time = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString());
  const since = <T extends { since: number }>(each: T) => ({ ...each, since: time(each.since) });
  const { lasts, trustedAt, held, accepted } = status;
  return {
    running: running.helper && running.agent,
    helper: { running: running.helper, pid: status.pid, at: time(status.at) },
    agent: { running: running.agent, at: time(status.agentAt) },
    trusted: running.helper && status.trusted,
    since: time(status.since),
    why: status.why ?? null,
    server: status.server,
    trouble: status.trouble || null,
    trustedAt: time(trustedAt),
    ageSeconds: trustedAt === undefined ? null : Math.round((now - trustedAt) / 1000),
    offlineLimitSeconds: status.offlineLimitSeconds,
    firstEndsAt: time(lasts?.first),
    lastEndsAt: time(lasts?.last),
    lastsSeconds: lasts === undefined ? null : Math.max(0, Math.round((lasts.first - now) / 1000)),
    people: status.people,
    tools: status.tools,
    files: status.files,
    signers: Object.fromEntries(status.signers ?? []),
    refused: status.refused.map(since),
    refusedInAll: status.refusedInAll,
    held: held === undefined ? null : since(held),
    disappeared: status.disappeared ?? [],
    unwritten: status.unwritten.map(since),
    accepted: accepted === undefined ? null : { ...accepted, at: time(accepted.at) },
  };
}

export function renderStatus(status: LoginStatus, now: number, running: Running): string {
  const age: Age = (ms) => renderAge(new Date(ms), new Date(now));
  const { lasts, accepted } = status;
  const heard = running.helper && status.trusted ? status.at : status.trustedAt;
  const rows: Row[] = [
    ...rowsOfPrograms(status, running, age),
    ...rowsOfDirectory(status, running, age),
    ['knowledge', heard === undefined ? 'none yet' : `${age(heard)} old`],
    ['offline', lasts === undefined ? '-' : endOfLogins(lasts, now)],
    ['people', `${status.people}, ${status.files} of them with a key file`],
    ['tools', String(status.tools)],
  ];
  const { signers = [] } = status;
  if (signers.length > 1) {
    rows.push(['sealed by', signers.map(([key, seals]) => `${key} (${seals})`).join(', ')]);
  }
  if (accepted !== undefined) {
    rows.push([
      'accepted',
      `with \`keys-agent accept\`, ${age(accepted.at)} ago: ${printable(accepted.what.join('; ')) || 'nothing was in doubt'}`,
    ]);
  }
  return [
    ...rows.flatMap(([word, text, colour]) => renderRow(word, text, colour)),
    ...renderRefused(status, age),
    ...renderHeld(status, age),
    ...renderDisappeared(status),
    ...renderUnwritten(status, running, age),
  ].join('\n');
}

/** When people can log in no more if the directory stays away. */
function endOfLogins({ first, last }: { first: number; last: number }, now: number): string {
  const left = (ms: number) => renderAge(new Date(now), new Date(ms));
  if (last <= now) return 'logins have ended for everybody';
  if (first <= now)
    return `logins have ended for the first person, and end in ${left(last)} for the last`;
  return `without the directory, logins end in ${left(first)} for the first person, in ${left(last)} for the last`;
}

type Row = readonly [word: string, text: string, colour?: 'green' | 'red'];

/** Wraps a long text; further lines are aligned with the first. */
function renderRow(word: string, text: string, colour: Row[2]): string[] {
  const lines: string[] = [];
  for (const next of text.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + next.length > WIDTH) lines.push(next);
    else lines[lines.length - 1] = `${last} ${next}`;
  }
  return lines.map((line, n) => {
    const shown = colour === undefined ? line : paint(colour, line);
    return `${(n === 0 ? word : '').padEnd(10)}  ${shown}`;
  });
}

function rowsOfPrograms(status: LoginStatus, running: Running, age: Age): Row[] {
  const { startedAt, at, agentAt } = status;
  const dead = running.lives
    ? `has written no status for ${age(at)}: is the disk full? see the log of chamberlain-login-helper`
    : `is not running: it last wrote its status ${age(at)} ago; start chamberlain-login-helper`;
  const silence = agentAt === undefined ? 'so far' : `for ${age(agentAt)}`;
  const silent = running.helper
    ? `silent ${silence}; start chamberlain-keys-agent`
    : 'not known while the helper does not run';
  return [
    running.helper ? ['helper', `running for ${age(startedAt)}`] : ['helper', dead, 'red'],
    running.agent ? ['agent', `last report ${age(agentAt ?? at)} ago`] : ['agent', silent, 'red'],
  ];
}

function rowsOfDirectory(status: LoginStatus, running: Running, age: Age): Row[] {
  const { trusted, at, since = at, why = '', server, trouble = '' } = status;
  const isSame = why === trouble; // the next row says so
  const judged: Row = trusted
    ? running.helper
      ? ['directory', 'trusted', 'green']
      : ['directory', 'was trusted then']
    : ['directory', `not trusted for ${age(since)}${isSame ? '' : `: ${printable(why)}`}`, 'red'];
  return [
    judged,
    ['server', printable(server) || '-'],
    ...(trouble === '' ? [] : [['', `cannot be read: ${printable(trouble)}`, 'red'] as const]),
  ];
}

type Age = (ms: number) => string;

export function renderRefused({ refused, refusedInAll }: LoginStatus, age: Age): string[] {
  if (refusedInAll === 0) return [];
  const more = refusedInAll - refused.length;
  return [
    '',
    `Refused entries of the directory (${refusedInAll}):`,
    renderTable(
      ['ENTRY', 'SINCE', 'WHY'],
      refused.map(({ entry, since, why }) => [entry, age(since), why]),
    ),
    ...(more > 0 ? [`and ${more} more`] : []),
    'Where Chamberlain runs, `chamberlain plan NAME` shows whether something is wrong with an entry, and `chamberlain repair NAME` corrects it.',
  ];
}

function renderHeld({ held }: LoginStatus, age: Age): string[] {
  if (held === undefined) return [];
  return [
    '',
    `Entries that have been missing from the directory for ${age(held.since)}, although the heartbeat does not say that they are gone (${held.inAll}):`,
    renderNames(held.names, held.inAll),
    'This host keeps them while it does not trust the directory. If they should exist, run `chamberlain repair NAME` where Chamberlain runs. If not, run `keys-agent accept` as root.',
  ];
}

function renderDisappeared({ disappeared = [] }: LoginStatus): string[] {
  if (disappeared.length === 0) return [];
  return [
    '',
    `Entries that disappeared in the last hour, although the heartbeat does not say that they are gone (${disappeared.length}):`,
    renderNames(disappeared, disappeared.length),
    'They are few, so their accounts and keys are removed, but their processes still run. If they should exist, run `chamberlain repair NAME` where Chamberlain runs. ' +
      'If not, run `keys-agent accept` as root: it ends the processes. It also accepts that the missing entries above are gone, and accepts a directory whose heartbeat is older than the last one. Refused entries stay refused.',
  ];
}

function renderNames(names: readonly string[], inAll: number): string {
  const shown = names.slice(0, NAMES_SHOWN);
  const more = inAll - shown.length;
  return `  ${printable(shown.join(' '))}${more > 0 ? ` and ${more} more` : ''}`;
}

function renderUnwritten({ unwritten }: LoginStatus, { helper }: Running, age: Age): string[] {
  if (unwritten.length === 0) return [];
  const then = helper ? '; the helper tries again every minute' : '';
  return [
    '',
    `Files that cannot be written (${unwritten.length})${then}:`,
    renderTable(
      ['PATH', 'SINCE', 'WHY'],
      unwritten.map(({ path, since, why }) => [path, age(since), why]),
    ),
  ];
}
