/**
 * The sweep surveys everything on a timer, and touches what has drifted. src/drift/sweep-decisions.ts decides what it does
 * about what it finds.
 *
 * One sweep runs at a time in all processes: in the one that has the lease. It writes on the very connection that took the
 * lease. It changes no server: it asks the roles to survey, and they do what it touches.
 */
import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { adminOfPortal, type Config } from '../shared/config.ts';
import type { ConfigInUse } from '../configuration/config-in-use.ts';
import type { Queues } from '../backends/redis/queue.ts';
import { describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import { readBehindRows, readTouchedSince, touchRows, writeDrifts } from './drifts.ts';
import type { NewEvent } from '../events/events-table.ts';
import { isFrozen } from '../database/freeze.ts';
import { readDoubt } from '../seals/heartbeat-table.ts';
import { isPublishedSinceReport } from './reports-table.ts';
import * as store from './sweeps-table.ts';
import { readUnmanaged } from '../unmanaged/unmanaged-table.ts';
import { isUndecided } from '../unmanaged/unmanaged.ts';
import type { Leased } from '../database/leased.ts';
import { hearNotices } from '../database/notices.ts';
import { judgeSweep, type Judgement } from './sweep-decisions.ts';
import { runKeptSurveys } from './kept-surveys.ts';
import { openSweepMetrics } from './sweep-metrics.ts';
import { surveyEverything, type SweepPatience } from './sweep-survey.ts';

/** The heartbeat is published every three seconds. */
const PUBLISHED_WITHIN_MS = 15_000;
/** Notices may be lost, so it is looked this often whether a sweep is asked for. */
const LOOK_MS = 5000;
/** After a sweep that failed, or was cut; after the next that fails, twice as long, and so on. */
const AGAIN_MS = 5000;

export interface SweepTerms {
  inUse: ConfigInUse;
  log: Log;
  queues: Queues;
  patience: SweepPatience;
}

/** Sweeps whenever it is time, or asked for, as long as it has the lease. */
export async function sweepOn(leased: Leased, terms: SweepTerms): Promise<void> {
  const { inUse, log } = terms;
  const metrics = openSweepMetrics(inUse, log);
  const { client, held } = leased;
  // of the configuration, it needs only what a reload does not change
  const requested = runKeptSurveys({
    ...{ client, config: inUse.current(), log },
    held: held.signal,
  });
  try {
    await sweepAgainAndAgain(leased, terms);
  } finally {
    held.abort();
    await requested;
    metrics.close();
  }
}

async function sweepAgainAndAgain(leased: Leased, terms: SweepTerms): Promise<void> {
  const { client, progress } = leased;
  const { inUse, log } = terms;
  const held = leased.held.signal;
  const asked = hearNotices(client, ({ channel }) => channel === 'chamberlain_sweep');
  await client.query('LISTEN chamberlain_sweep');
  await client.query('LISTEN chamberlain_reports');
  await store.cutSweeps(client);
  let dueAt = performance.now() + (await firstInMs(client, inUse.current()));
  let againMs = AGAIN_MS;
  while (!held.aborted) {
    await progress();
    const config = inUse.current();
    const { everyMinutes } = config.sweep;
    const restMs = dueAt - performance.now();
    const releases = await store.readReleases(client);
    if (restMs > 0 && releases.length === 0) {
      await asked.wait(Math.min(restMs, LOOK_MS), held);
      continue;
    }
    try {
      await sweepOnce(client, releases, { ...terms, config, held, progress });
      dueAt = performance.now() + ((await store.readNextInMs(client, everyMinutes)) ?? 0);
      againMs = AGAIN_MS;
    } catch (error) {
      await store.cutSweeps(client); // where this fails, the lease is worth nothing any more
      if (held.aborted) return;
      log.warn({ error: describeError(error) }, 'a sweep was cut, and is done again');
      await rest(againMs, held, progress);
      againMs = Math.min(againMs * 2, everyMinutes * 60_000);
    }
  }
}

/**
 * A sweep that was cut is done again. One that is overdue is not done at once, but somewhere within the interval, so that
 * after a power cut not all realms sweep together.
 */
async function firstInMs(client: pg.Client, config: Config): Promise<number> {
  const { everyMinutes } = config.sweep;
  const leftMs = (await store.readNextInMs(client, everyMinutes)) ?? -1;
  return leftMs < 0 ? shareOf(config) * everyMinutes * 60_000 : Math.max(leftMs, AGAIN_MS);
}

async function rest(
  restMs: number,
  held: AbortSignal,
  progress: () => Promise<void>,
): Promise<void> {
  const until = performance.now() + restMs;
  for (let ms = restMs; ms > 0 && !held.aborted; ms = until - performance.now()) {
    await sleep(Math.min(ms, LOOK_MS), undefined, { signal: held }).catch(() => {});
    await progress();
  }
}

/** From 0 to 1, the same for the same realm. */
function shareOf({ realm, postgres }: Config): number {
  const digest = createHash('sha256').update(`${realm} ${postgres.database}`).digest();
  return digest.readUInt32BE(0) / 2 ** 32;
}

interface Sweeping extends Omit<SweepTerms, 'inUse'> {
  config: Config;
  held: AbortSignal;
  progress: () => Promise<void>;
}

/** One sweep, from its row to what is touched. */
async function sweepOnce(
  client: pg.Client,
  releases: readonly store.Release[],
  { config, log, queues, patience, ...way }: Sweeping,
): Promise<Judgement> {
  const { held } = way;
  const id = randomUUID();
  const began = await store.beginSweep(client, id);
  const before = await readBehindRows(client);
  const { held: last } = await store.readLastSweeps(client);
  const reports = await surveyEverything(client, queues, id, patience, way);
  const doubt = await doubtOfDirectory(
    client,
    id,
    way,
    (reports.get('directory')?.steps ?? []).length > 0,
  );
  const judgement = judgeSweep({
    reports,
    moving: [...before.moving, ...(await readTouchedSince(client, began))],
    parked: before.parked,
    frozen: await isFrozen(client),
    doubt,
    held: last !== undefined,
    undecided: (await readUnmanaged(client)).filter(isUndecided),
    realm: { realm: config.realm, base: config.ldap.base },
    released: releases.flatMap(({ digest }) => digest ?? []),
    settings: config.sweep,
  });
  const { ending, touch, drifts, unseen } = judgement;
  held.throwIfAborted();
  await writeDrifts(client, drifts, unseen);
  await touchRows(client, id, touch);
  const isNews = ending.state === 'held' && last?.digest !== ending.digest;
  await store.endSweep(client, id, ending, {
    used: releases.map((release) => release.id),
    events: isNews ? heldEvents(config, id, ending) : [],
  });
  const level = ending.state === 'held' ? 'error' : 'info';
  log[level]({ sweep: id, ...ending }, 'swept');
  return judgement;
}

/**
 * Why what the directory showed may be of an older copy; undefined where it is none. What is drifted
 * is believed only when the heartbeat was published after the report: so the directory was of now then.
 */
async function doubtOfDirectory(
  client: pg.Client,
  survey: string,
  { held, progress }: Pick<Sweeping, 'held' | 'progress'>,
  matters: boolean,
): Promise<string | undefined> {
  const deadline = performance.now() + PUBLISHED_WITHIN_MS;
  for (;;) {
    await progress();
    const { doubt } = await readDoubt(client);
    if (doubt !== null) return doubt;
    if (!matters || (await isPublishedSinceReport(client, survey))) return undefined;
    if (performance.now() >= deadline) {
      return 'the heartbeat was not published after the survey, so the directory may be an older copy';
    }
    await sleep(200, undefined, { signal: held });
  }
}

/** What portals that hear of subjects are told; where there is none, it is kept for admins. */
function heldEvents(config: Config, sweep: string, ending: store.SweepEnding): NewEvent[] {
  const { subjects, drifted, steps, digest } = ending;
  const portals = config.portals
    .filter(({ name, subjectEvents }) => subjectEvents && adminOfPortal(name) === undefined)
    .map(({ name }) => name);
  return (portals.length === 0 ? [undefined] : portals).map((portal) => ({
    portal,
    event: 'sweep.held',
    subject: undefined,
    request: undefined,
    data: { sweep, subjects, drifted, steps, digest },
  }));
}
