/** The process that sweeps. */
import { openQueues } from '../src/backends/redis/queue.ts';
import { startLeased } from '../src/database/leased.ts';
import { sweepOn } from '../src/drift/sweep.ts';
import type { SweepPatience } from '../src/drift/sweep-survey.ts';
import type { Config } from '../src/shared/config.ts';
import type { Log } from '../src/shared/log.ts';
import type { Worker } from '../src/shared/loop.ts';

/** A role may be busy with a long survey for an admin; then it says how far it is. */
const PATIENCE: SweepPatience = { askAgainMs: 20_000, silentMs: 120_000 };

export function startSweep(config: Config, log: Log, patience = PATIENCE): Worker {
  const queues = openQueues(config, 'sweep');
  const worker = startLeased({ config, role: 'sweep', log }, (leased) =>
    sweepOn(leased, { config, log, queues, patience }),
  );
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
export async function sweepOnce(
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
    used: releases.map((release) => release.id),
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
