/**
 * The figures of a recovery in a realm of 10,000 tools and 30,000 people:
 *
 *   list         PostgreSQL comes back without the last 1,000 decisions: from `chamberlain recover` to its list, all
 *                servers available, next to the time that the servers alone take to list everything
 *   overGranted  who has more access after that recovery than before the loss, as the servers themselves show it
 *   notice       each other server, and an area of homes, comes back older: how soon `chamberlain status` says so
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { mustRun, runCommand } from './tools/command.ts';
import { type Figure, judge, quantile, voidIfFailed } from './tools/figure.ts';
import { RECOVER_GOALS as GOALS, type RecoverOptions } from './goals.ts';
import { readCpu, renderCpu } from './load.ts';
import { cpuSeconds, endedCpuSeconds } from './tools/processes.ts';
import { type MeasuredRealm, closeAll, type Closers, type WorkingRealm } from './realm.ts';
import { readAccess, whoHasMore } from './recover/recover-access.ts';
import { decideMuch } from './recover/recover-changes.ts';
import { keepOlder, OLDER_PLACES } from './recover/recover-older.ts';
import { measureSurveyFloor } from './sweep/sweep-floor.ts';
import { MAINTAINERS, openFilled } from './sweep.ts';

const LOOK_MS = 200;
const SETTLED_WITHIN_MS = 900_000;
/** The markers of servers and homes are published every 20 s: a loss may come at any moment between two. */
const PUBLISHED_EVERY_MS = 20_000;

export async function measureRecover(options: RecoverOptions): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measureAll(options, closers), options.interrupted]);
  } finally {
    await closeAll(closers);
  }
}

async function measureAll(options: RecoverOptions, closers: Closers): Promise<Figure[]> {
  const { size, say } = options;
  const filled = await openFilled(options, closers, size.among);
  const recovered = await voidIfFailed([GOALS.list, GOALS.overGranted], say, () =>
    measureLost(filled, options),
  );
  const noticed = await voidIfFailed([GOALS.notice], say, () => measureNotice(filled, options));
  return [...recovered, ...noticed];
}

/** PostgreSQL comes back older than everything else. */
async function measureLost(
  { realm, portal, work }: WorkingRealm,
  { size, say, show, void: why }: RecoverOptions,
): Promise<Figure[]> {
  const floors = await measureSurveyFloor(realm, size.among);
  await untilPublished(realm);
  await work.stop();
  const lose = await keepOlder(realm.stack.postgres);
  const atBackup = await readAccess(realm);
  Object.assign(work, await realm.startWork());
  say(`recover: ${size.changes} decisions since the backup`);
  await decideMuch(portal, { ...size.among, maintainers: MAINTAINERS }, size.changes);
  await untilSettled(realm, say);
  await untilPublished(realm);
  const before = await readAccess(realm);
  await work.stop();
  await lose();
  // as docs/recovery.md says: before any worker looks
  await mustRun(realm, 0, 'freeze', '--reason', 'PostgreSQL came back');
  Object.assign(work, await realm.startWork());
  await until(realm, 'the older database to be noticed', async (count) => {
    const seen = `SELECT count(*)::int AS count FROM directory_heartbeat WHERE older = 'database'`;
    return (await count(seen)) > 0;
  });
  say('recover: the list');
  const [workBefore, ownBefore, serversBefore] = [
    cpuSeconds(work.pid),
    endedCpuSeconds(),
    readCpu(realm),
  ];
  const listed = await mustRun(realm, 3, 'recover', '--json');
  const cpu = {
    'chamberlain work': cpuSeconds(work.pid) - workBefore,
    'chamberlain recover': endedCpuSeconds() - ownBefore,
    ...readCpu(realm, serversBefore),
  };
  const { digest, takings, open } = JSON.parse(listed.out) as {
    digest: string;
    takings: unknown[];
    open: unknown[];
  };
  say('recover: confirmed');
  const done = await mustRun(realm, 0, 'recover', '--json', '--expect', digest);
  await untilSettled(realm, say);
  const after = await readAccess(realm);
  const more = whoHasMore({ before, after, atBackup });
  const lost = whoHasMore({ before, after: atBackup, atBackup });
  if (lost.length === 0) throw new Error('nobody has lost anything since the backup');
  show(renderCpu('the list', cpu, size.among.tools + size.among.people, listed.ms / 1000));
  show(
    `Taken of ${takings.length} subjects, ${open.length} left to an admin; confirmed, it read everything again and was ` +
      `done in ${(done.ms / 1000).toFixed(1)} s. With the backup alone, ${lost.length} would have had more than before the ` +
      `loss; now ${more.length} have${more.length === 0 ? '' : `: ${more.slice(0, 10).join(', ')}`}.`,
  );
  const [value, floor] = [listed.ms / 1000, Math.max(...Object.values(floors)) / 1000];
  return [
    judge(GOALS.list, { value, floor, ratio: value / floor, void: why }),
    judge(GOALS.overGranted, { value: more.length, floor: undefined, void: why }),
  ];
}

/** One after another comes back older, again and again, each a random time after the realm was complete. */
async function measureNotice(
  { realm }: WorkingRealm,
  { size, say, show, void: why }: RecoverOptions,
): Promise<Figure[]> {
  const all: number[] = [];
  const floors: number[] = [];
  const rows: string[] = [];
  for (const place of OLDER_PLACES) {
    const name = place.nameIn(realm.config);
    await untilPublished(realm);
    const kept = await place.keep(realm);
    const samples: number[] = [];
    for (let turn = 0; turn < size.restores; turn++) {
      await untilPublished(realm);
      await sleep(Math.random() * PUBLISHED_EVERY_MS);
      await kept.lose();
      const begin = performance.now();
      await place.read(realm);
      floors.push(performance.now() - begin);
      while (!(await runCommand(realm, 'status')).out.includes(`In doubt: ${name} `)) {
        await sleep(LOOK_MS);
      }
      samples.push(performance.now() - begin);
      say(
        `${name} came back older, ${turn + 1} of ${size.restores}: ${samples.at(-1)?.toFixed(0)} ms`,
      );
      await kept.end();
      await untilPublished(realm);
    }
    all.push(...samples);
    const at = (share: number) => quantile(samples, share).toFixed(0).padStart(8);
    rows.push(`${at(0.5)}${at(1)}  ${name}`);
  }
  show(['Until `status` names it, ms:', '     p50     max', ...rows].join('\n'));
  const [value, floor] = [quantile(all, 0.95), quantile(floors, 0.95)];
  return [judge(GOALS.notice, { value, floor, void: why })];
}

/** Waits until nothing is behind except what waits for an admin. */
async function untilSettled(realm: MeasuredRealm, say: (line: string) => void): Promise<void> {
  let said = performance.now();
  await until(realm, 'everything to be applied', async (count) => {
    const behind = await count(
      `SELECT count(*)::int AS count FROM convergence WHERE applied < wanted AND state <> 'parked'`,
    );
    if (behind > 0 && performance.now() - said > 10_000) {
      said = performance.now();
      say(`  ${behind} are behind`);
    }
    return behind === 0;
  });
}

/** Waits until the directory, each server and each area has a new marker, and nothing is in doubt. */
async function untilPublished(realm: MeasuredRealm): Promise<void> {
  const since = new Date();
  await until(
    realm,
    'all markers to be published',
    async (count) =>
      (await count(
        `SELECT count(*)::int AS count FROM (SELECT published_at, older FROM directory_heartbeat
           UNION ALL SELECT published_at, older FROM place_markers) AS m
         WHERE published_at IS NULL OR published_at < $1 OR older IS NOT NULL`,
        [since],
      )) === 0,
  );
}

async function until(
  realm: MeasuredRealm,
  what: string,
  look: (count: (sql: string, values?: unknown[]) => Promise<number>) => Promise<boolean>,
): Promise<void> {
  const client = await realm.connect();
  const deadline = performance.now() + SETTLED_WITHIN_MS;
  try {
    const count = async (sql: string, values?: unknown[]) => {
      const { rows } = await client.query<{ count: number }>(sql, values);
      return rows[0]?.count ?? NaN;
    };
    while (!(await look(count))) {
      if (performance.now() > deadline) throw new Error(`timed out waiting for ${what}`);
      await sleep(LOOK_MS);
    }
  } finally {
    await client.end();
  }
}
