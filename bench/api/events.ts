/** A thousand listeners: how soon an event arrives after its COMMIT, and the memory of the API. */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { API_GOALS as GOALS, type ApiOptions } from '../goals.ts';
import { beginPeak, cpuSeconds, memoryMib, peakMemoryMib } from '../tools/processes.ts';
import type { MeasuredRealm, Work } from '../realm.ts';
import { type Figure, judge, now, quantile } from '../tools/figure.ts';
import { listenerName, LISTENERS_PER_PORTAL } from './api-process.ts';
import { openCaller } from './callers.ts';
import { listen, type Listener } from './http-client.ts';

const TARGET = '/v1/events/stream';
const PATIENCE_MS = 10_000;

export async function measureEvents(
  { realm, port, api }: { realm: MeasuredRealm; port: number; api: Work },
  { size, say, show, void: why }: ApiOptions,
): Promise<Figure[]> {
  const atRest = memoryMib(api.pid);
  beginPeak(api.pid);
  const all: Listener[] = [];
  const heard: { portal: number; id: number; at: number }[] = [];
  try {
    for (let n = 0; n < size.listeners; n++) {
      if (n % 250 === 0) say(`events: ${n} of ${size.listeners} listeners`);
      const portal = Math.floor(n / LISTENERS_PER_PORTAL);
      const caller = openCaller(realm, listenerName(portal), { 'last-event-id': '0' });
      const bytes = caller.sign('GET', TARGET);
      all.push(await listen(port, bytes, (id) => heard.push({ portal, id, at: now() })));
    }
    say('events: the listeners are left alone');
    const [cpu, begin] = [cpuSeconds(api.pid), performance.now()];
    await sleep(size.listenMs);
    const percent = (100 * (cpuSeconds(api.pid) - cpu)) / ((performance.now() - begin) / 1000);
    say(`events: ${size.events} events`);
    const sent = await sendEvents(realm, size, () => heard.length);
    const peak = peakMemoryMib(api.pid);
    const delays = heard.map(({ portal, id, at }) => at - (sent.at[portal]?.[id - 1] ?? NaN));
    show(
      `${size.listeners} listeners of ${Math.ceil(size.listeners / LISTENERS_PER_PORTAL)} portals: ` +
        `the API takes ${percent.toFixed(1)} % of a core while nothing happens, and at most ${peak.toFixed(0)} MiB ` +
        `(${atRest.toFixed(0)} before).\n` +
        `From COMMIT to a listener, ms: p50 ${quantile(delays, 0.5).toFixed(1)}, p99 ${quantile(delays, 0.99).toFixed(1)}, ` +
        `at most ${Math.max(...delays).toFixed(1)}; to a bare LISTEN of PostgreSQL p99 ${quantile(sent.bare, 0.99).toFixed(1)}.`,
    );
    return [
      judge(GOALS.sseDelay, {
        value: quantile(delays, 0.99),
        floor: quantile(sent.bare, 0.99),
        void: why,
      }),
      judge(GOALS.sseMemory, { value: peak, floor: atRest, void: why }),
    ];
  } finally {
    for (const { socket } of all) socket.destroy();
  }
}

/** Writes events for one portal after another, each when all of its listeners have the one before. */
async function sendEvents(
  realm: MeasuredRealm,
  { events, listeners, pauseMs }: ApiOptions['size'],
  heard: () => number,
): Promise<{ at: number[][]; bare: number[] }> {
  const [writer, notified] = [await realm.connect(), await realm.connect()];
  const portals = Math.ceil(listeners / LISTENERS_PER_PORTAL);
  const sent: { at: number[][]; bare: number[] } = {
    at: Array.from({ length: portals }, () => []),
    bare: [],
  };
  let noticed = Promise.withResolvers<number>();
  notified.on('notification', ({ payload }) => {
    if (payload === 'events') noticed.resolve(now());
  });
  try {
    await notified.query('LISTEN chamberlain');
    for (let n = 0; n < events; n++) {
      const portal = n % portals;
      noticed = Promise.withResolvers();
      const before = heard();
      const at = await writeEvent(writer, listenerName(portal), n);
      sent.at[portal]?.push(at);
      sent.bare.push((await noticed.promise) - at);
      const first = portal * LISTENERS_PER_PORTAL;
      const all = Math.min(LISTENERS_PER_PORTAL, listeners - first);
      const deadline = performance.now() + PATIENCE_MS;
      while (heard() < before + all) {
        if (performance.now() > deadline) {
          throw new Error(`only ${heard() - before} of ${all} listeners received an event`);
        }
        await sleep(5);
      }
      await sleep(pauseMs);
    }
    return sent;
  } finally {
    await Promise.all([writer.end(), notified.end()]);
  }
}

/** Returns when its COMMIT was sent. */
async function writeEvent(client: pg.Client, portal: string, n: number): Promise<number> {
  await client.query('BEGIN');
  await client.query('INSERT INTO events (portal, event, data) VALUES ($1, $2, $3)', [
    portal,
    'bench.event',
    { n, tool: 'bridgebot', account: 'tools.bridgebot' },
  ]);
  const at = now();
  await client.query('COMMIT');
  return at;
}
