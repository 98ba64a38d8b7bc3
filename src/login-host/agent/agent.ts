/**
 * The agent of a login host: follows the directory, and reports to the login helper what it shows. It judges
 * nothing and keeps nothing on disk. Of each entry it remembers the entryCSN that it last reported.
 *
 * | when                                                                       | reads                          |
 * | -------------------------------------------------------------------------- | ------------------------------ |
 * | four times a second                                                        | the suffix's contextCSN        |
 * | that has moved                                                             | the heartbeat and what changed |
 * | every minute, and when it can be read again                                | all names                      |
 * | it starts; the helper was restarted; the contextCSN went back, or lacks a  | everything                     |
 * | server (an older copy, another directory); another server may do better    |                                |
 *
 * A report counts once the helper has answered it. The agent reads and reports one thing after another, from
 * one server, so nothing that was read earlier can overtake what was read later.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { openLoginHelper } from './helper-client.ts';
import { ChamberlainError, codeOf, describeError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import { openProgress } from '../../shared/progress.ts';
import type { LoginHostConfig } from '../config.ts';
import { changesFrom, olderThan, parseCsns, type Csns } from './csns.ts';
import { openDirectoryServers, type DirectoryServers } from './directory-servers.ts';
import { openBackoff, type Backoff } from '../backoff.ts';
import { PLACES, type Places } from '../places.ts';
import type { ReportLine } from '../report-lines.ts';
import { openReporting, type Reporting } from './reporting.ts';

const LOOK_MS = 250;
/** The agent reports to the helper at least this often. */
const SPEAK_MS = 5000;
const COMPARE_MS = 60_000;
/** The agent hangs if one look takes longer: not even a reading of everything does. */
const HANGS_MS = 30 * 60_000;
/** After a comparison that failed. */
const COMPARE_AGAIN_MS = 5000;
/** Up to this many entries of a comparison are read one by one; if there are more, everything is read. */
const READ_SINGLY = 500;

export interface Agent {
  close(): Promise<void>;
  /** resolves once it is closed */
  ended: Promise<void>;
}

interface State {
  readonly log: Log;
  readonly compareMs: number;
  readonly servers: DirectoryServers;
  readonly reporting: Reporting;
  /** for readings of everything, and for leaving a server when another may do better */
  readonly readingBackoff: Backoff;
  readonly turnBackoff: Backoff;
  /** the run of the helper that has received everything; undefined if it must be sent anew */
  reportedRun: string | undefined;
  /** the changes up to here have been reported */
  csns: Csns;
  /** as it was last read */
  heartbeat: string;
  /** by performance.now() */
  compareAt: number;
  /** how many servers have been skipped since one was last read */
  passedOver: number;
  /** why the directory could not be read; '' after a complete look */
  trouble: string;
  isHelperAway: boolean;
}

export function startAgent(
  config: LoginHostConfig,
  log: Log,
  { socket }: Pick<Places, 'socket'> = PLACES,
  compareMs = COMPARE_MS,
): Agent {
  const servers = openDirectoryServers(config);
  const preface = (): ReportLine => ['trouble', servers.uri(), state.trouble];
  const reporting = openReporting(openLoginHelper(socket), preface, log);
  const state: State = {
    ...{
      log,
      compareMs,
      servers,
      reporting,
      readingBackoff: openBackoff(),
      turnBackoff: openBackoff(),
    },
    ...{ reportedRun: undefined, csns: {}, heartbeat: '', compareAt: Infinity, passedOver: 0 },
    ...{ trouble: '', isHelperAway: false },
  };
  const closing = new AbortController();
  const progress = openProgress('agent');
  const ended = (async () => {
    while (!closing.signal.aborted) {
      progress.made(HANGS_MS);
      await lookOnce(state);
      await sleep(LOOK_MS, undefined, { signal: closing.signal }).catch(() => {});
    }
    progress.close();
  })();
  return {
    async close() {
      closing.abort();
      await ended;
      await servers.turnAway();
    },
    ended,
  };
}

async function lookOnce(state: State): Promise<void> {
  const { log, servers, reporting } = state;
  try {
    if (state.isHelperAway) await reporting.send();
    if (state.isHelperAway) log.info('the login helper answers again');
    state.isHelperAway = false;
    const isWhole = await look(state);
    if (!isWhole || state.trouble === '') return;
    log.info({ server: servers.uri() }, 'the directory can be read again');
    state.trouble = '';
    // the server that came back may be an older copy that was written to since; its contextCSN does not show
    // that
    state.compareAt = -Infinity;
    await reporting.send();
  } catch (error) {
    if (codeOf(error) === 'BACKEND_UNAVAILABLE') {
      if (!state.isHelperAway)
        log.warn({ error: describeError(error) }, 'the login helper does not answer');
      state.isHelperAway = true;
      return;
    }
    const isNew = state.trouble === '';
    state.trouble = describeError(error);
    if (isNew) log.warn({ error: state.trouble }, 'the directory cannot be read');
    if (isNew || performance.now() >= reporting.spokeAt() + SPEAK_MS) {
      await reporting.send().catch(() => (state.isHelperAway = true));
    }
    await servers.turnAway();
  }
}

/** Returns false if this server is skipped. */
async function look(state: State): Promise<boolean> {
  const { log, servers, reporting } = state;
  const now = parseCsns(await servers.open().contextCsns());
  if (Object.keys(now).length === 0) {
    throw new ChamberlainError('BACKEND_UNREADABLE', 'the directory shows no contextCSN');
  }
  const older = olderThan(now, state.csns);
  if (older !== undefined) {
    state.heartbeat = await servers.open().heartbeat();
    const { tryAnother } = await reporting.send(['heartbeat', state.heartbeat]);
    if (tryAnother === true && state.passedOver < servers.count - 1) {
      state.passedOver += 1;
      await servers.turnAway();
      return false;
    }
    if (state.reportedRun !== undefined) {
      log.warn({ server: servers.uri(), older }, 'everything is read again');
    }
    state.reportedRun = undefined;
  }
  state.passedOver = 0;
  if (isEverythingDue(state) && state.readingBackoff.take()) {
    await readEverything(state, now);
  } else {
    await follow(state, now);
    if (!isEverythingDue(state) && performance.now() >= state.compareAt) await compare(state);
  }
  const mayTurn = servers.count > 1 && reporting.answer()?.tryAnother === true;
  if (mayTurn && state.turnBackoff.take()) {
    state.reportedRun = undefined; // the next one may show what this one hides, and its contextCSN does not show that
    await servers.turnAway();
  }
  return true;
}

/**
 * Also true if the helper still waits for the end of a reading while this agent is in none: another agent began
 * it.
 */
function isEverythingDue({ reportedRun, reporting }: State): boolean {
  const answer = reporting.answer();
  return reportedRun === undefined || reportedRun !== answer?.run || answer.reading !== undefined;
}

async function readEverything(state: State, now: Csns): Promise<void> {
  const { servers, reporting } = state;
  const token = randomUUID();
  state.heartbeat = await servers.open().heartbeat();
  const { run } = await reporting.send(['heartbeat', state.heartbeat], ['all', token, 'begin']);
  const isAnother = () => reporting.answer()?.run !== run;
  reporting.beginAnew();
  state.csns = now;
  const report = reporting.report();
  for await (const page of servers.open().everything()) {
    for (const entry of page) await report.add(entry);
    if (isAnother()) return;
  }
  await report.end();
  if (isAnother()) return;
  await follow(state, parseCsns(await servers.open().contextCsns())); // what has changed meanwhile
  if (isAnother()) return;
  state.compareAt = performance.now() + state.compareMs;
  await reporting.send(['all', token, 'end']);
  state.reportedRun = run;
}

/**
 * Reports what has changed, then the heartbeat that was read before it: everything that it counts has then been
 * reported.
 */
async function follow(state: State, now: Csns): Promise<void> {
  const { servers, reporting } = state;
  const from = changesFrom(now, state.csns);
  if (from === undefined && performance.now() < reporting.spokeAt() + SPEAK_MS) return;
  const before = state.heartbeat;
  state.heartbeat = await servers.open().heartbeat();
  // it was written, but the contextCSN has not moved: the clock of that server was ahead before
  if (from === undefined && state.heartbeat !== before) state.compareAt = -Infinity;
  const report = reporting.report();
  if (from !== undefined) {
    for await (const page of servers.open().changedSince(from)) {
      for (const entry of page) if (reporting.isNews(entry)) await report.add(entry);
    }
  }
  await report.end(['heartbeat', state.heartbeat]);
  state.csns = now;
}

/** Compares names: reports the entries that are gone, and those that no contextCSN has shown. */
async function compare(state: State): Promise<void> {
  const { compareMs, servers, reporting } = state;
  state.compareAt = performance.now() + Math.min(compareMs, COMPARE_AGAIN_MS);
  const reported = reporting.reported();
  const gone = new Set(reported.keys());
  const differing: string[] = [];
  // a change of access rules can reveal a seal without changing the entry
  const unsealed: string[] = [];
  for await (const page of servers.open().names()) {
    for (const { dn, name, csn } of page) {
      gone.delete(name);
      const before = reported.get(name);
      if (before === '') unsealed.push(dn);
      else if (before !== csn || csn === '') differing.push(dn);
    }
  }
  const areTooMany = unsealed.length > READ_SINGLY;
  if (differing.length > READ_SINGLY || (areTooMany && reporting.answer()?.trusted !== true)) {
    state.reportedRun = undefined;
    return;
  }
  const report = reporting.report();
  for (const name of gone) await report.addGone(name);
  const asked = areTooMany ? differing : [...differing, ...unsealed];
  for (const entry of await servers.open().entries(asked)) {
    if (reporting.isNews(entry)) await report.add(entry);
  }
  await report.end();
  state.compareAt = performance.now() + compareMs;
}
