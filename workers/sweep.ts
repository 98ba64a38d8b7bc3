/**
 * The sweep's worker: surveys everything on a timer, and touches what has drifted. What it does about what
 * it finds is decided in src/drift/sweep-decisions.ts.
 *
 * One sweep at a time, in all processes: whoever has the lease, and all it writes it writes on the
 * very connection that has taken it. It has no writer: it asks the roles, and what it touches they do.
 */
import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { adminOfPortal, type Config } from '../src/shared/config.ts';
import { openQueues, type Queues } from '../src/backends/redis/queue.ts';
import { describeError } from '../src/shared/errors.ts';
import type { Log } from '../src/shared/log.ts';
import {
  readBehindPlaces,
  readTouchedSince,
  touchPlaces,
  writeDrifts,
} from '../src/drift/drifts.ts';
import type { NewEvent } from '../src/events/events-table.ts';
import { isFrozen } from '../src/database/freeze.ts';
import { readDoubt } from '../src/seals/heartbeat-table.ts';
import { isPublishedSinceReport } from '../src/drift/sweep-reports.ts';
import * as store from '../src/drift/sweeps-table.ts';
import { readUnmanaged } from '../src/unmanaged/unmanaged-table.ts';
import { isUndecided } from '../src/unmanaged/unmanaged.ts';
import { type Leased, startLeased } from '../src/database/leased.ts';
import type { Worker } from '../src/shared/loop.ts';
import { judgeSweep, type Judgement } from '../src/drift/sweep-decisions.ts';
import { surveyEverything, type SweepPatience } from '../src/drift/sweep-survey.ts';

/** A role may be at a long survey of an admin's, and is then heard of. */
const PATIENCE: SweepPatience = { askAgainMs: 20_000, silentMs: 120_000 };
/** The marker is told every three seconds. */
const PUBLISHED_WITHIN_MS = 15_000;
/** Notices may be lost, so it is looked this often whether a sweep is asked for. */
const LOOK_MS = 5000;
/** After a sweep that failed, or was cut; after the next that fails, twice as long, and so on. */
const AGAIN_MS = 5000;

export function startSweep(config: Config, log: Log, patience = PATIENCE): Worker {
  const queues = openQueues(config, 'sweep');
  const worker = startLeased({ config, role: 'sweep', log }, sweepOn);

  /** Sweeps whenever it is time, or asked for, as long as it has the lease. */
  async function sweepOn(leased: Leased): Promise<void> {
    const { client, progress } = leased;
    const held = leased.held.signal;
    const { everyMinutes } = config.sweep;
    await client.query('LISTEN chamberlain_sweep');
    await client.query('LISTEN chamberlain_reports');
    await store.cutSweeps(client);
    const leftMs = (await store.readNextInMs(client, everyMinutes)) ?? -1;
    // One that was cut is done again. One that is overdue is not done at once, but somewhere within the
    // interval, so that after a power cut not all realms sweep together.
    const spreadMs = shareOf(config) * everyMinutes * 60_000;
    let dueAt = performance.now() + (leftMs < 0 ? spreadMs : Math.max(leftMs, AGAIN_MS));
    let againMs = AGAIN_MS;
    while (!held.aborted) {
      await progress();
      const restMs = dueAt - performance.now();
      const releases = await store.readReleases(client);
      if (restMs > 0 && releases.length === 0) {
        await untilAsked(client, Math.min(restMs, LOOK_MS), held);
        continue;
      }
      try {
        await sweepOnce(client, queues, releases, { config, log, patience, held, progress });
        dueAt = performance.now() + ((await store.readNextInMs(client, everyMinutes)) ?? 0);
        againMs = AGAIN_MS;
      } catch (error) {
        await store.cutSweeps(client); // where this fails, the lease is worth nothing any more
        if (held.aborted) return;
        log.warn({ error: describeError(error) }, 'a sweep was cut, and is done again');
        const againAt = performance.now() + againMs;
        for (let ms = againMs; ms > 0 && !held.aborted; ms = againAt - performance.now()) {
          await sleep(Math.min(ms, LOOK_MS), undefined, { signal: held }).catch(() => {});
          await progress();
        }
        againMs = Math.min(againMs * 2, everyMinutes * 60_000);
      }
    }
  }

  return {
    async close() {
      await worker.close();
      await queues.close();
    },
  };
}

/** From 0 to 1, the same for the same realm. */
function shareOf({ realm, postgres }: Config): number {
  const digest = createHash('sha256').update(`${realm} ${postgres.database}`).digest();
  return digest.readUInt32BE(0) / 2 ** 32;
}

interface Sweeping {
  config: Config;
  log: Log;
  patience: SweepPatience;
  held: AbortSignal;
  progress: () => Promise<void>;
}

/** One sweep, from its row to what is touched. */
async function sweepOnce(
  client: pg.Client,
  queues: Queues,
  releases: readonly store.Release[],
  { config, log, patience, ...way }: Sweeping,
): Promise<Judgement> {
  const { held } = way;
  const id = randomUUID();
  const began = await store.beginSweep(client, id);
  const before = await readBehindPlaces(client);
  const last = await store.readHeld(client);
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
  await touchPlaces(client, id, touch);
  const isNews = ending.state === 'held' && last?.digest !== ending.digest;
  await store.endSweep(client, id, ending, {
    heeded: releases.map((release) => release.id),
    events: isNews ? heldEvents(config, id, ending) : [],
  });
  const level = ending.state === 'held' ? 'error' : 'info';
  log[level]({ sweep: id, ...ending }, 'swept');
  return judgement;
}

/**
 * Why what the directory showed may be of an older copy; undefined where it is none. What is drifted
 * is believed only when the marker has been told after the report: so the directory was of now then.
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
      return 'the marker was not told after the survey, so it may be an older copy';
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

async function untilAsked(client: pg.Client, ms: number, held: AbortSignal): Promise<void> {
  const woken = new AbortController();
  const onNotice = ({ channel }: pg.Notification) => {
    if (channel === 'chamberlain_sweep') woken.abort();
  };
  client.on('notification', onNotice);
  try {
    await sleep(ms, undefined, { signal: AbortSignal.any([woken.signal, held]) }).catch(() => {});
  } finally {
    client.removeListener('notification', onNotice);
  }
}
