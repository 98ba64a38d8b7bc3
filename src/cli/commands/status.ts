/** `chamberlain status`: what is applied, behind or failing, and why. */
import { readOldestWaiting, type Waiting } from '../../backends/redis/waiting-requests.ts';
import { effectiveOf } from '../../configuration/effective.ts';
import type { Config } from '../../shared/config.ts';
import { ChamberlainError, codeOf } from '../../shared/errors.ts';
import type { LeavingPage } from '../../lifecycle/leaving-page.ts';
import { DAY_MS, timeOf } from '../../shared/time.ts';
import { nounOf } from '../../unmanaged/unmanaged.ts';
import { ROLES } from '../../roles/index.ts';
import { leavingRows } from '../../lifecycle/render-leaving.ts';
import { describeMail } from '../../identity/mail.ts';
import { type Leaver, readLeaving, readOrphans } from '../../lifecycle/leaving-facts.ts';
import { describeScarce } from '../../identity/id-allocation-table.ts';
import { isRecent, type JunkCount } from '../../requests/junk-table.ts';
import { readRemovedPortals } from '../../requests/portals-table.ts';
import * as overview from '../../database/overview.ts';
import type { RoleStatus, SubjectView } from '../../database/overview.ts';
import type { Client } from '../../database/connection.ts';
import { readWork } from '../../database/realm-status.ts';
import { requireSubjects, withAdmin } from '../admin.ts';
import { type Away, describeAway, findRedisAway, postgresAway } from '../status/away.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { EXIT } from '../exit.ts';
import { renderLeaving } from '../status/leaving.ts';
import {
  describeLastSweep,
  describeBlockers,
  describeConfig,
  describeWork,
  readBlockers,
  type Blockers,
} from '../status/blockers.ts';
import { printPage } from '../fold.ts';
import { printable } from '../../shared/printable.ts';
import { paint, print, printJson, renderAge, renderColumns, renderTable } from '../table.ts';

/** A reason up to this length is repeated for each row. */
const SHORT = 40;

export function define(command: Command): void {
  command
    .description(
      'Compares what is applied with what is wanted.\n\n' +
        'Without SUBJECT, it shows for the whole realm:\n' +
        '- which server or folder cannot be reached, since when, and what that stops;\n' +
        '- whether the realm is frozen, or a sweep is held;\n' +
        '- whether the directory, a MariaDB server or an area of homes is an older copy of itself, and by how\n' +
        '  much;\n' +
        '- whether an archival, a deletion or a reinstatement is overdue, requests wait too long, or numbers\n' +
        '  for accounts run out;\n' +
        '- the totals of each role, and what is behind, failing or parked, and why;\n' +
        '- who is leaving, and when;\n' +
        '- events that portals have not taken, and invalid jobs in their queues;\n' +
        '- how many unmanaged things there are;\n' +
        '- which workers run, since when, and whether they make progress, and which are missing;\n' +
        '- which configuration is in use, since when, and which process does not use what the file says;\n' +
        '- who holds a lock that should belong to a worker.\n\n' +
        'With SUBJECT, it shows the wanted state of one person or tool, whether and when they leave, and how\n' +
        'far each role is with them.',
    )
    .argument('[SUBJECT]', 'a shell name, a tool (bridgebot or tools.bridgebot), or a uid')
    .option('--orphaned', 'show the tools that have no maintainer who may log in')
    .examples('status', 'status tools.bridgebot', 'status alice --json', 'status --orphaned')
    .exits({
      3: 'a worker is missing or hangs, a portal takes no events, or something fails, runs out, takes too long, or is invalid, parked, overdue, unmanaged, frozen, held, in doubt or unreachable',
    })
    .action(async (subject: string | undefined) => {
      const config = configOf(command);
      const { orphaned } = command.opts<{ orphaned?: true }>();
      if (orphaned && subject !== undefined) {
        throw new ChamberlainError(
          'USAGE',
          '--orphaned and SUBJECT exclude each other: give one of them',
        );
      }
      const json = wantsJson(command);
      const isAll = !orphaned && subject === undefined;
      const redis = isAll ? findRedisAway(config) : Promise.resolve([]);
      const show = orphaned ? showOrphans : subject === undefined ? showAll : showSubject(subject);
      try {
        await withAdmin(config, (client) => show(client, json, config, redis));
      } catch (error) {
        if (codeOf(error) !== 'BACKEND_UNAVAILABLE') throw error;
        showAway([postgresAway(config, error), ...(await redis)], json);
      }
    });
}

/** What is shown when PostgreSQL cannot be read. */
function showAway(away: readonly Away[], json: boolean): void {
  process.exitCode = EXIT.pending;
  if (json) printJson({ away });
  else for (const each of away) printPage(paint('red', describeAway(each)));
}

function isTrouble({ state }: { state: string }): boolean {
  return state === 'failing' || state === 'parked';
}

async function showAll(
  client: Client,
  json: boolean,
  config: Config,
  redis: Promise<Away[]>,
): Promise<void> {
  const redisAway = await redis;
  const effective = await effectiveOf(config, client);
  const found = await readBlockers(client, effective, redisAway.length > 0);
  const work = await readWork(client);
  const { totals, behind, portals, junk, oldestRequest, waitingForApproval, toApprove } = work;
  const { leaving, unmanaged, numbers } = work;
  const { away, blockers } = mergeRedisAway(redisAway, found);
  const seen = { isRedisAway: away.length > 0, now: new Date() };
  const warnings = [
    ...away.map(describeAway),
    ...describeBlockers(blockers, seen),
    ...numbers.flatMap((each) => {
      const scarce = describeScarce(each);
      return scarce === undefined ? [] : [`Scarce: ${scarce.what}. ${scarce.todo}`];
    }),
  ];
  const listed = new Set(effective.portals.map(({ name }) => name));
  const left = away.length > 0 ? null : await readLeft(effective, portals);
  const removed = await readRemovedPortals(client);
  const isPending =
    warnings.length > 0 ||
    totals.some(isTrouble) ||
    unmanaged.length > 0 ||
    (oldestRequest !== null && overview.isTooOld(oldestRequest, seen.now)) ||
    portals.some((portal) => overview.needsAttention(portal, listed, seen.now)) ||
    junk.some((each) => isRecent(each, seen.now));
  if (isPending) process.exitCode = EXIT.pending;
  if (json) {
    printJson({
      ...{ away, ...blockers, numbers, totals, behind, leaving, portals, junk },
      ...{ oldestRequest, waitingForApproval, toApprove, unmanaged, left },
    });
    return;
  }
  for (const line of warnings) printPage(`${paint('red', line)}\n`);
  printPage(renderTotals(totals));
  const { now } = seen;
  if (behind.length > 0) printPage(`\n${renderRoleStatuses(behind, now)}`);
  const count = totals.filter((t) => t.state !== 'applied').reduce((sum, t) => sum + t.subjects, 0);
  if (count > behind.length) print(paint('dim', `… and ${count - behind.length} more`));
  const leavingText = renderLeaving(leaving, now);
  if (leavingText !== '') printPage(`\n${leavingText}`);
  const pages = [renderPortals(portals, { listed, removed }, now), renderJunk(junk, now)];
  for (const page of pages) if (page !== '') printPage(`\n${page}`);
  if (left !== null) {
    print(
      `\nrequests of portals that are not in the configuration are waiting; the oldest, of the portal ${left.portal}, has waited for ${renderAge(left.since, now)}. They get verdicts only if the configuration lists their portal again, with the keys that signed them`,
    );
  }
  if (oldestRequest !== null) {
    const { kind, id, at } = oldestRequest;
    const what = [kind ?? '?', ...(id === null ? [] : [id])].join(' ');
    print(`\noldest unfinished request: ${what}, ${renderAge(at, now)} old`);
  }
  const waits = [
    ...(waitingForApproval.length === 0 ? [] : [`${waitingForApproval.length} for access`]),
    ...(toApprove.length === 0 ? [] : [`${toApprove.length} to be approved`]),
  ];
  if (waits.length > 0) {
    print(`\nwaiting for an admin: ${waits.join(', ')}: see \`chamberlain requests\``);
  }
  if (unmanaged.length > 0) {
    const kinds = unmanaged.map(({ kind, count: many }) => `${many} ${nounOf(kind, many)}`);
    print(`\nunmanaged, and undecided: ${kinds.join(', ')}: see \`chamberlain list unmanaged\``);
  }
  const about = [
    ...describeWork(blockers, seen),
    describeConfig(blockers, now),
    describeLastSweep(blockers, now),
  ];
  printPage(`\n${about.filter((line) => line !== undefined).join('\n')}`);
}

/** The oldest request in the queues of portals that were removed. */
async function readLeft(
  config: Config,
  portals: readonly overview.PortalEvents[],
): Promise<Waiting | null> {
  const listed = new Set(config.portals.map(({ name }) => name));
  const gone = portals.map(({ portal }) => portal).filter((name) => !listed.has(name));
  if (gone.length === 0) return null;
  return (await readOldestWaiting(config, gone).catch(() => undefined)) ?? null;
}

function renderTotals(totals: Awaited<ReturnType<typeof overview.readRoleTotals>>): string {
  const hasIgnored = totals.some(({ state }) => state === 'ignored');
  const states = [
    ...(['applied', 'due', 'waiting', 'failing', 'parked'] as const),
    ...(hasIgnored ? (['ignored'] as const) : []),
  ];
  return renderTable(
    ['role', ...states],
    ROLES.map((role) => [
      role,
      ...states.map(
        (state) => totals.find((t) => t.role === role && t.state === state)?.subjects ?? 0,
      ),
    ]),
  );
}

/** What this command sees of Redis replaces what the relay saw, but the start of the outage is the relay's. */
function mergeRedisAway(
  away: readonly Away[],
  found: Blockers,
): { away: readonly Away[]; blockers: Blockers } {
  if (away.length === 0) return { away, blockers: found };
  const troubles = found.troubles.filter(({ place }) => place !== 'redis');
  const since = found.troubles.find(({ place }) => place === 'redis')?.since ?? null;
  return {
    away: away.map((each) => ({ ...each, since })),
    blockers: { ...found, troubles },
  };
}

/** The portals that do not have all their events. */
function renderPortals(
  portals: readonly overview.PortalEvents[],
  { listed, removed }: { listed: ReadonlySet<string>; removed: ReadonlySet<string> },
  now: Date,
): string {
  const outstanding = portals.filter((portal) => portal.outstanding !== '0');
  if (outstanding.length === 0) return '';
  const whyNot = (name: string) =>
    removed.has(name)
      ? 'it was removed by request: portal.hand-over gives them to another portal'
      : 'it is no longer in the configuration';
  const deaf = (since: Date | null) =>
    overview.isDeaf(since, now) ? 'it takes none: see `chamberlain doctor`' : null;
  const most = overview.MOST_OUTSTANDING;
  return renderColumns(outstanding, [
    ['portal', (p) => p.portal],
    ['last event', (p) => p.last],
    ['not taken', (p) => (Number(p.outstanding) > most ? `more than ${most}` : p.outstanding)],
    ['since', (p) => p.since && renderAge(p.since, now)],
    ['why', (p) => (listed.has(p.portal) ? (p.wrong ?? deaf(p.since)) : whyNot(p.portal))],
  ]);
}

/** The invalid jobs of the last day. */
function renderJunk(junk: readonly JunkCount[], now: Date): string {
  const recent = junk.filter(({ lastAt }) => now.getTime() - lastAt.getTime() < DAY_MS);
  if (recent.length === 0) return '';
  return renderTable(
    ['portal', 'invalid jobs', 'why', 'last'],
    recent.map(({ portal, code, count, lastAt }) => [portal, count, code, renderAge(lastAt, now)]),
  );
}

async function showOrphans(client: Client, json: boolean): Promise<void> {
  const orphans = await readOrphans(client);
  if (json) {
    printJson({ orphans });
    return;
  }
  if (orphans.length === 0) {
    print('no tool is orphaned');
    return;
  }
  const now = new Date();
  printPage(
    renderColumns(orphans, [
      ['tool', ({ account }) => account],
      ['state', ({ state }) => state],
      ['orphaned', ({ since }) => renderAge(since, now)],
      ['maintainers', ({ maintainers }) => maintainers.join(', ')],
      ['title', ({ title }) => title],
    ]),
  );
  print(
    paint(
      'dim',
      '\nchamberlain submit maintainer.add --tool NAME --person PERSON --wait   (NAME without the prefix of the realm)',
    ),
  );
}

function showSubject(word: string) {
  return async (client: Client, json: boolean): Promise<void> => {
    const views: { subject: SubjectView; leaving: LeavingPage; roles: RoleStatus[] }[] = [];
    for (const found of await requireSubjects(client, word)) {
      views.push({
        subject: await overview.readSubject(client, found),
        leaving: ((await readLeaving(client, [found.uid]))[0] as Leaver).leaving,
        roles: await overview.readRoleStatuses(client, found.uid),
      });
    }
    if (views.some(({ roles }) => roles.some(isTrouble))) process.exitCode = EXIT.pending;
    for (const [index, { subject, leaving, roles }] of views.entries()) {
      if (json) {
        printJson({ ...subject, leaving, roles });
        continue;
      }
      if (index > 0) print('');
      printPage(renderSubject(subject, leaving));
      printPage(`\n${renderRoleStatuses(roles, new Date())}`);
    }
  };
}

function renderSubject(subject: SubjectView, leaving: LeavingPage): string {
  const { kind, account, state } = subject;
  const rows: [string, string | undefined][] = [
    ['title', subject.title],
    ['maintainers', subject.maintainers?.join(', ')],
    ['display name', subject.displayName ?? undefined],
    ['mail', describeMail(subject.email, subject.mailVerifiedAt) || undefined],
    ['access', subject.realmMember === undefined ? undefined : subject.realmMember ? 'yes' : 'no'],
    ['maintains', subject.maintains?.join(', ')],
    ...(subject.keys ?? []).map(({ fingerprint, label, expiresAt }): [string, string] => [
      'key',
      `${fingerprint}  ${label}${expiresAt === null ? '' : `  until ${timeOf(expiresAt)}`}`,
    ]),
    [
      'credentials',
      subject.credentials ? `password number ${subject.credentials.wantedEpoch}` : 'none',
    ],
    ['created', timeOf(subject.createdAt)],
    ...leavingRows(leaving, { kind, account, state, now: new Date() }),
  ];
  const head = `${paint('bold', subject.account)}  ${subject.kind} ${subject.uid}, ${subject.state}`;
  const lines = rows.flatMap(([name, value]) =>
    value === undefined ? [] : [`  ${name.padEnd(12)}  ${value === '' ? '-' : printable(value)}`],
  );
  return [head, ...lines].join('\n');
}

/**
 * Each row that is not as wanted shows why, and when it is tried again. A reason that an earlier row has
 * given, such as an unreachable server, is not repeated.
 */
function renderRoleStatuses(rows: readonly RoleStatus[], now: Date): string {
  const shown = new Map<string, string>();
  const whyOf = ({ account, role, code, sentence }: RoleStatus): string => {
    const text = [code, sentence].filter(Boolean).join(': ');
    const first = shown.get(`${role} ${text}`);
    if (first === undefined) shown.set(`${role} ${text}`, account);
    return first === undefined || text.length <= SHORT ? text : `${code}, as for ${first}`;
  };
  const nextTryOf = ({ state, nextTryAt }: RoleStatus): string =>
    state === 'failing' ? `next try ${timeOf(nextTryAt)}` : '';
  return renderColumns(rows, [
    ['account', ({ account }) => account],
    ['role', ({ role }) => role],
    ['state', ({ state }) => state],
    ['wanted', ({ wanted }) => wanted],
    ['applied', ({ applied }) => applied],
    ['since', ({ since }) => renderAge(since, now)],
    ['tries', ({ attempts }) => attempts || ''],
    ['why', (row) => [whyOf(row), nextTryOf(row)].filter(Boolean).join('; ')],
  ]);
}
