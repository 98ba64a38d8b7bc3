/**
 * How portals affect each other, and how fast one receives events:
 *
 *   portals  as many tools requested by eight portals as by one: tools a second, alternating
 *   junk     revocations by a portal while junk pours into the urgent queue of another
 *   events   events in order to one portal, against a BullMQ worker that does nothing
 *   backlog  tools of a portal while another, which was away, receives 50,000 events
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { type Figure, judge, mean, quantile, voidIfFailed } from './tools/figure.ts';
import { type ChainOptions, GOALS } from './goals.ts';
import { admit, latencies, MAKER, makeTools, STEWARD, toolRequest } from './idle.ts';
import { openPortal, type Portal } from './portal.ts';
import { type MeasuredRealm, OTHER_PORTALS, type WorkingRealm } from './realm.ts';

const TURNS = 3;

export async function measurePortals(
  working: WorkingRealm,
  options: ChainOptions,
): Promise<Figure[]> {
  const { say } = options;
  const opened: Portal[] = [];
  for (const name of OTHER_PORTALS) opened.push(await openPortal(working.realm, name));
  try {
    return [
      ...(await voidIfFailed([GOALS.portals], say, () => measureMany(working, opened, options))),
      ...(await voidIfFailed([GOALS.junk], say, () => measureJunk(working, options))),
      ...(await voidIfFailed([GOALS.events, GOALS.backlog], say, () =>
        measureBacklog(working, opened, options),
      )),
    ];
  } finally {
    for (const portal of opened) await portal.close();
  }
}

async function measureMany(
  { realm, portal }: WorkingRealm,
  others: readonly Portal[],
  { size, say, show, void: why }: ChainOptions,
): Promise<Figure[]> {
  const deadlocks = async () => {
    const client = await realm.connect();
    const { rows } = await client.query(
      'SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()',
    );
    await client.end();
    return (rows[0] as { deadlocks: number }).deadlocks;
  };
  const before = await deadlocks();
  const rates: { one: number[]; eight: number[] } = { one: [], eight: [] };
  for (let turn = 0; turn < TURNS; turn += 1) {
    for (const [kind, portals] of [
      ['one', [portal]],
      ['eight', others],
    ] as const) {
      say(`portals: ${size.portalTools} tools by ${kind}, turn ${turn + 1} of ${TURNS}`);
      const each = size.portalTools / portals.length;
      const asked = await Promise.all(
        portals.map(async (by, n) => ({
          by,
          signed: await Promise.all(
            Array.from({ length: each }, (_, tool) =>
              by.sign(MAKER, toolRequest(`by-${kind}-${turn}-${n}-${tool}`)),
            ),
          ),
        })),
      );
      const ready = asked.flatMap(({ by, signed }) =>
        signed.map(({ jti }) => by.until(jti, 'request.done')),
      );
      const begin = performance.now();
      await Promise.all(asked.map(({ by, signed }) => by.send(signed)));
      await Promise.all(ready);
      rates[kind].push(size.portalTools / ((performance.now() - begin) / 1000));
    }
  }
  const found = (await deadlocks()) - before;
  show(`${found} deadlocks; tools/s: ${JSON.stringify(rates, (_, x) => round1(x))}.`);
  const [one, eight] = [mean(rates.one), mean(rates.eight)];
  return [
    judge(GOALS.portals, {
      value: eight / one,
      floor: one,
      ratio: eight / one,
      void: why ?? (found > 0 ? `${found} deadlocks` : undefined),
    }),
  ];
}

async function measureJunk(
  { realm, portal }: WorkingRealm,
  { size, say, show, void: why }: ChainOptions,
): Promise<Figure[]> {
  const [quiet, loud] = ['quiet', 'loud'].map((of) =>
    Array.from({ length: size.junkRevokes }, (_, n) => `${of}-${n}`),
  ) as [string[], string[]];
  say('junk: admitting the people who will lose access');
  await Promise.all([...quiet, ...loud].map((person) => admit(portal, person)));
  const revoke = async (person: string) => {
    const signed = await portal.sign(STEWARD, { kind: 'access.revoke', person });
    const done = portal.until(signed.jti, 'request.done');
    const begin = performance.now();
    await portal.send([signed], { urgent: true });
    await done;
    return performance.now() - begin;
  };
  const without: number[] = [];
  for (const person of quiet) without.push(await revoke(person));
  const [from = ''] = OTHER_PORTALS;
  const redis = new Redis(realm.stack.redis.urlOf(`portal.${from}`), { maxRetriesPerRequest: 1 });
  const queue = new Queue(`requests.urgent.${from}`, { connection: redis });
  let poured = 0;
  let pouring = true;
  const pour = (async () => {
    while (pouring && poured < size.junk) {
      const jobs = Array.from({ length: 500 }, () => ({ name: 'x', data: { token: 'junk' } }));
      await queue.addBulk(jobs);
      poured += jobs.length;
    }
  })();
  const within: number[] = [];
  say(`junk: ${size.junk} jobs pour in`);
  const begin = performance.now();
  for (const person of loud) {
    within.push(await revoke(person));
    // spread over the time in which there is junk
    if ((await queue.getWaitingCount()) > 0) await sleep(200);
  }
  await pour;
  pouring = false;
  const left = await queue.getWaitingCount();
  show(
    `${poured} junk jobs in ${((performance.now() - begin) / 1000).toFixed(1)} s, ${left} of them left; revocations, p50 and p95: ` +
      `${round1(quantile(within, 0.5))} and ${round1(quantile(within, 0.95))} ms, without junk ${round1(quantile(without, 0.5))} and ${round1(quantile(without, 0.95))} ms.`,
  );
  while ((await queue.getWaitingCount()) > 0) await sleep(200);
  await queue.close();
  redis.disconnect();
  return [
    judge(GOALS.junk, {
      value: quantile(within, 0.95),
      floor: quantile(without, 0.95),
      void: why,
    }),
  ];
}

async function measureBacklog(
  { realm, portal }: WorkingRealm,
  others: readonly Portal[],
  { size, say, show, void: why }: ChainOptions,
): Promise<Figure[]> {
  say('backlog: tools without other load');
  const alone = latencies(await makeTools(portal, 'alone', size.besideTools));
  const [returning] = others as [Portal];
  const [name = ''] = OTHER_PORTALS;
  const events: number[] = [];
  returning.onHeard((heard) => {
    if (heard.event === 'bench.event') events.push(performance.now());
  });
  const floor = await plainJobsPerSecond(realm, size.backlog / 5);
  await returning.pause();
  await writeEvents(realm, name, size.backlog);
  say(`backlog: ${size.backlog} events to a portal that was away`);
  const begin = performance.now();
  await returning.resume();
  const beside: number[] = [];
  while (events.length < size.backlog) {
    beside.push(...latencies(await makeTools(portal, `beside-${beside.length}`, 1)));
  }
  // alone: as many again, without other requests
  await returning.pause();
  await writeEvents(realm, name, size.backlog);
  const second = performance.now();
  await returning.resume();
  while (events.length < 2 * size.backlog) await sleep(20);
  const seconds = ((events.at(-1) ?? 0) - second) / 1000;
  show(
    `${beside.length} tools during the backlog: p50 ${round1(quantile(beside, 0.5))} ms, alone ${round1(quantile(alone, 0.5))} ms; ` +
      `all events had come after ${(((events[size.backlog - 1] ?? 0) - begin) / 1000).toFixed(1)} s.`,
  );
  return [
    judge(GOALS.events, { value: size.backlog / seconds, floor, void: why }),
    judge(GOALS.backlog, {
      value: quantile(beside, 0.5) / quantile(alone, 0.5),
      floor: quantile(alone, 0.5),
      ratio: quantile(beside, 0.5) / quantile(alone, 0.5),
      void: why ?? (beside.length < 10 ? 'the backlog was gone too soon' : undefined),
    }),
  ];
}

/** Jobs a second that a BullMQ worker takes one by one, and does nothing with. */
async function plainJobsPerSecond(realm: MeasuredRealm, count: number): Promise<number> {
  const [name = ''] = OTHER_PORTALS;
  const url = realm.stack.redis.urlOf('owner');
  const connection = { url, maxRetriesPerRequest: null };
  const queue = new Queue(`plain.${name}`, { connection });
  const jobs = Array.from({ length: count }, (_, n) => ({ name: 'x', data: { n } }));
  await queue.addBulk(jobs);
  const begin = performance.now();
  let done = 0;
  const worker = new Worker(
    `plain.${name}`,
    () => {
      done += 1;
      return Promise.resolve();
    },
    { connection, removeOnComplete: { count: 0 } },
  );
  while (done < count) await sleep(5);
  const seconds = (performance.now() - begin) / 1000;
  await worker.close();
  await queue.obliterate({ force: true });
  await queue.close();
  return count / seconds;
}

async function writeEvents(realm: MeasuredRealm, portal: string, count: number): Promise<void> {
  const client = await realm.connect();
  await client.query(
    `INSERT INTO events (portal, event, subject, request, data)
     SELECT $1, 'bench.event', 50001, gen_random_uuid(), '{"tool": "bridgebot", "account": "tools.bridgebot"}'
     FROM generate_series(1, $2)`,
    [portal, count],
  );
  const numbered = `SELECT count(*)::int AS left FROM events WHERE portal = $1 AND seq IS NULL`;
  for (;;) {
    const { rows } = await client.query(numbered, [portal]);
    if ((rows[0] as { left: number }).left === 0) break;
    await sleep(50);
  }
  await client.end();
}

function round1<T>(value: T): T | number {
  return typeof value === 'number' ? Math.round(value * 10) / 10 : value;
}
