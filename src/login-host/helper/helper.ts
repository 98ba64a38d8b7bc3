/**
 * The login helper of a login host: the agent reports to it what the directory shows; it believes what the
 * directory role has signed, and makes files of it. It has no network, and the agent has no rights.
 *
 * report-lines.ts describes reports and answers; registry/ decides what counts of them; apply.ts does what
 * follows. The helper does one thing at a time: a piece of a report, or a tick.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, lstatSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as yieldTurn } from 'node:timers/promises';
import { describeError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import { apply, applyKnown, becomeWhole, keepState, keepUnkept, makeStale, mend } from './apply.ts';
import type { LoginHostConfig } from '../config.ts';
import { gidOf, openHost, type Host } from './host.ts';
import { closeKeyFolder, lastingOf, renewKeyFiles, watchKeyFolder } from './key-folder.ts';
import { openLocalFiles } from './local-accounts.ts';
import { openBackoff } from '../backoff.ts';
import { PLACES, type Places } from '../places.ts';
import type { ReportAnswer, ReportLine } from '../report-lines.ts';
import { acceptDoubted, disappearedNames, heldOf, settle } from './registry/disappeared.ts';
import { lookAtAll, setLocal, signersOf, takeNeedForFullReport } from './registry/registry.ts';
import { openReportSocket } from './report-socket.ts';
import { removeFile } from '../../shared/durable-file.ts';
import { ACCEPT_FILE, writeStatus, type LoginStatus } from '../status.ts';
import { beginPiece, readLine, takePiece, type Piece } from './take-report.ts';

const AGENT_GROUP = 'chamberlain-keys';

const TICK_MS = 500;
const MINUTE_MS = 60_000;
const SCAN_MS = 5000;
const STATUS_MS = 5000;
/** Lines of a report that are handled before anything else may be done. */
const LINES_AT_ONCE = 100;
/** Invalid lines that are skipped before anything else may be done. */
const GARBAGE_AT_ONCE = 10_000;
/** After this many invalid lines, the rest of the report is not read. */
const MOST_GARBAGE = 100_000;
/** Key files that one scan renews at most. */
const RENEWED_AT_ONCE = 500;
/** A clock that differs by more than this from the time that has passed was set. */
const CLOCK_SET_MS = 5000;
const MOST_NAMED = 1000;

export interface Helper {
  /** Stops the helper once the current work is done. */
  close(): Promise<void>;
}

/**
 * Starts the helper. Throws CONFIG_INVALID if anyone but root can write to a folder, a group is missing, or
 * another helper is running.
 */
export async function startHelper(
  config: LoginHostConfig,
  log: Log,
  places: Places = PLACES,
): Promise<Helper> {
  process.umask(0o022);
  const gid = gidOf(AGENT_GROUP, openLocalFiles(places).read(), places);
  // before anything is opened that another helper may be writing
  const socket = await openReportSocket(places.socket, gid, log);
  let host: Host;
  try {
    host = openHost(config, log, places);
  } catch (error) {
    socket.close();
    throw error;
  }
  const queue = openQueue();
  socket.serve((lines) => report(host, queue, lines));
  if (host.isWhole) watchFolder(host);
  void applyKnown(host).catch((error: unknown) =>
    log.error({ error }, 'applying the stored state at the start failed'),
  );
  const stopTicking = startTicking(host, queue);
  return {
    async close() {
      socket.close();
      stopTicking();
      await queue(async () => {
        closeKeyFolder(host.folder);
        keepState(host, false);
        closeSync(host.journal.fd);
      });
    },
  };
}

/**
 * Only after everything was reported once: before that, each of the helper's own 30,000 files would wake it.
 */
function watchFolder({ folder, log }: Host): void {
  const onError = (error: unknown) => log.warn({ error }, 'the folder of key files is not watched');
  try {
    watchKeyFolder(folder, Date.now, onError);
  } catch (error) {
    onError(error); // it is still checked every minute
  }
}

/** Runs one action after another. */
type Queue = (act: () => Promise<void>) => Promise<void>;

function openQueue(): Queue {
  let before: Promise<unknown> = Promise.resolve();
  return (act) => {
    const done = before.then(act);
    before = done.catch(() => {});
    return done;
  };
}

async function report(host: Host, queue: Queue, lines: Iterable<Buffer>): Promise<ReportAnswer> {
  const { log } = host;
  try {
    let unread = 0;
    let piece: ReportLine[] = [];
    /** the piece whose seals are being verified while files are made of the piece before it */
    let ahead = beginPiece(host, []);
    for (const bytes of lines) {
      const line = readLine(bytes);
      if (line !== undefined) piece.push(line);
      else if ((unread += 1) % GARBAGE_AT_ONCE === 0) await yieldTurn();
      if (unread > MOST_GARBAGE) break;
      if (piece.length < LINES_AT_ONCE) continue;
      const [some, next] = [ahead, beginPiece(host, piece)];
      [ahead, piece] = [next, []];
      await queue(() => takeAndApply(host, some));
    }
    const last = beginPiece(host, piece);
    if (unread > 0) log.warn({ unread }, 'some lines of a report are invalid');
    await queue(async () => {
      await takeAndApply(host, ahead);
      await takeAndApply(host, last);
      host.agentAt = Date.now();
      await conclude(host);
    });
    return answer(host);
  } catch (error) {
    log.error({ error }, 'a report failed');
    host.needsFullReport = true; // perhaps only a part of it was taken
    const why = `the login helper failed: ${describeError(error)}`;
    return { run: host.run, trusted: false, why };
  }
}

async function takeAndApply(host: Host, piece: Piece): Promise<void> {
  try {
    await takePiece(host, piece);
  } finally {
    await apply(host);
  }
}

/** Draws the conclusions from all that was reported. */
async function conclude(host: Host): Promise<void> {
  const { registry, log, trust } = host;
  const now = Date.now();
  // by that time no old key file is valid, so files of unknown accounts may be removed
  const isPastLimit = now - host.startedAt > host.config.offlineLimitSeconds * 1000;
  if (!host.isWhole && (registry.hasRead || isPastLimit)) {
    becomeWhole(host);
    watchFolder(host);
  }
  const next = settle(registry, now);
  if (next.trusted !== trust.trusted) {
    host.since = now;
    if (next.trusted) log.info(registry.present, 'the directory is trusted');
    else log.warn({ why: next.why }, 'the directory is not trusted: no key file is renewed');
  }
  host.trust = next;
  if (next.trusted) host.trustedAt = now;
  if (takeNeedForFullReport(registry)) host.needsFullReport = true;
  await apply(host);
}

function answer({ run, trust, registry }: Host): ReportAnswer {
  const common = { run, ...defined({ reading: registry.reading }) };
  if (trust.trusted) return { ...common, trusted: true };
  const { why, tryAnother } = trust;
  return { ...common, trusted: false, why, ...(tryAnother ? { tryAnother } : {}) };
}

/** Returns a function that stops the ticks. */
function startTicking(host: Host, queue: Queue): () => void {
  const due = openTimes();
  const repeating = openBackoff();
  due('mend', MINUTE_MS); // the start has just done the same
  let shownState = '';
  let isTicking = false;
  let offset = Date.now() - performance.now();

  async function onTick(): Promise<void> {
    rereadLocal(host);
    const before = offset;
    offset = Date.now() - performance.now();
    if (Math.abs(offset - before) > CLOCK_SET_MS) {
      host.log.warn({ byMs: Math.round(offset - before) }, 'the clock was set');
      host.needsFullReport ||= host.registry.refusals.mayPass();
    }
    if (due('scan', Math.min(SCAN_MS, (host.config.offlineLimitSeconds * 1000) / 8))) {
      lookAtAll(host.registry, Date.now());
      renewKeyFiles(host.folder, Date.now(), RENEWED_AT_ONCE);
      keepUnkept(host);
    }
    if (due('mend', MINUTE_MS)) mend(host);
    await acceptIfAsked(host);
    await conclude(host);
    // not during a reading: each new refusal would interrupt it
    const isReading = host.registry.reading !== undefined;
    if (host.needsFullReport && !isReading && repeating.take()) askAnew(host);
    const { trust, registry, server, trouble } = host;
    const state = [trust.trusted, registry.refusals.count(), server, trouble].join(' ');
    if (state !== shownState || due('status', STATUS_MS)) {
      shownState = state;
      reportStatus(host);
    }
  }

  const timer = setInterval(() => {
    if (isTicking) return;
    isTicking = true;
    void queue(onTick)
      .catch((error: unknown) =>
        host.log.error({ error }, 'a regular check failed; it is repeated'),
      )
      .finally(() => (isTicking = false));
  }, TICK_MS);
  return () => clearInterval(timer);
}

/** Returns a function that says whether a time has passed since it last said so; at the first call it has. */
function openTimes(): (what: string, everyMs: number) => boolean {
  const last = new Map<string, number>();
  return (what, everyMs) => {
    const now = performance.now();
    if (now - (last.get(what) ?? -Infinity) < everyMs) return false;
    last.set(what, now);
    return true;
  };
}

/** The admin may add a local account at any time. */
function rereadLocal(host: Host): void {
  host.troubles.attempt(host.places.passwd, () => {
    const local = host.localFiles.read();
    if (local === host.local) return;
    host.local = local;
    setLocal(host.registry, local, Date.now());
    makeStale(host, ['group']);
  });
}

function askAnew(host: Host): void {
  host.needsFullReport = false;
  host.run = randomUUID();
  host.log.info('everything must be reported again: entries that were refused may be accepted now');
}

async function acceptIfAsked(host: Host): Promise<void> {
  const file = join(host.places.login, ACCEPT_FILE);
  if (lstatSync(file, { throwIfNoEntry: false }) === undefined) return;
  host.accepted = { at: Date.now(), what: acceptDoubted(host.registry, Date.now()) };
  host.log.warn(host.accepted, 'accepted what root asked for');
  await conclude(host);
  reportStatus(host); // the caller reads it once the file is gone
  host.troubles.attempt(file, () => removeFile(file));
}

function reportStatus({ places, troubles, ...host }: Host): void {
  const { registry, folder, trust } = host;
  const held = heldOf(registry);
  const disappeared = disappearedNames(registry);
  const status: LoginStatus = {
    ...{ pid: process.pid, startedAt: host.startedAt, at: Date.now() },
    trusted: trust.trusted,
    ...(trust.trusted ? {} : { since: host.since, why: trust.why }),
    ...defined({ trustedAt: host.trustedAt, trouble: host.trouble || undefined }),
    server: host.server,
    ...defined({ agentAt: host.agentAt, lasts: lastingOf(folder), accepted: host.accepted }),
    offlineLimitSeconds: host.config.offlineLimitSeconds,
    ...registry.present,
    files: folder.marks.size,
    signers: signersOf(registry),
    refused: registry.refusals.list(),
    refusedInAll: registry.refusals.count(),
    ...(held === undefined
      ? {}
      : { held: { ...held, names: held.names.slice(0, MOST_NAMED), inAll: held.names.length } }),
    ...(disappeared.length === 0 ? {} : { disappeared: disappeared.slice(0, MOST_NAMED) }),
    unwritten: troubles.list(),
  };
  troubles.attempt(join(places.login, 'status.json'), () => writeStatus(places.login, status));
}

/** Leaves out undefined values. */
function defined<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(values).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}
