/** What `/metrics` shows after a story in which every name and text is hostile. */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openQueues } from '../../../src/backends/redis/queue.ts';
import { REQUEST_KINDS } from '../../../src/requests/kinds.ts';
import { ROLES } from '../../../src/roles/index.ts';
import { serveMetrics } from '../../../src/shared/metrics.ts';
import { WORK_ROLES } from '../../../workers/main.ts';
import { startServer, stopServer } from '../../stack.ts';
import { metricsOf, readPrometheus } from '../../deploy/prometheus.ts';
import { eventually } from '../eventually.ts';
import { settled } from '../outside.ts';
import { admit, openRunning, type Running } from '../running.ts';

/** It would end a label, a line or a comment, and begin a metric. */
const HOSTILE = 'Xavier\\"} 1\nchamberlain_up{work="relay",server="redis"} 0\n# EOF';
const NAMES = ['mallory', 'xbot', 'steward', 'Xavier', 'example.org'];

let running: Running;
let served: Awaited<ReturnType<typeof serveMetrics>>;
let text = '';

async function read(): Promise<string> {
  return (await fetch(`http://127.0.0.1:${served.port}/metrics`)).text();
}

/** The value of one sample; undefined if there is none. */
function valueOf(sample: string): number | undefined {
  const line = text.split('\n').find((each) => each.startsWith(`${sample} `));
  return line === undefined ? undefined : Number(line.slice(sample.length + 1));
}

beforeAll(async () => {
  running = await openRunning('metrics', { looksMs: 500 });
  served = await serveMetrics('127.0.0.1:0');
  const { portal, world } = running;
  await admit(portal, 'mallory');
  const tool = {
    kind: 'tool.create',
    requestedBy: 'mallory',
    name: 'xbot',
    title: 'Xavier"} 1 # EOF',
  };
  const id = await portal.get(tool);
  await portal.ask(tool, { id });
  await portal.ask({ kind: HOSTILE, requestedBy: 'mallory' });
  await portal.ask({ ...tool, title: HOSTILE });
  await portal.get({
    ...{ kind: 'person.create', requestedBy: 'xenia', shellName: 'xenia' },
    ...{ displayName: 'Xavier"} 1 # EOF', email: 'x@example.org' },
  });
  await portal.get({ kind: 'access.request', requestedBy: 'xenia', reason: 'Xavier"} 1' });
  await portal.refusal({ token: HOSTILE });
  // the queue of an admin's own key has their name
  await world.chamberlain('submit', 'tool.update', '--tool', 'xbot', '--title', 'Xavier', '--wait');
  const queues = openQueues(world.config, 'admin');
  await queues.addRequest('admin.steward', HOSTILE, false);
  await queues.close();
  mkdirSync(join(world.dataRoot, 'home', 'Xavier"} 1 # EOF'));
  await settled(world);
  await world.chamberlain('sweep', 'now');
  await portal.pause();
  await portal.send({ kind: 'tool.update', requestedBy: 'mallory', tool: 'xbot', title: 'x' });
  text = await eventually('all of it', async () => {
    const now = await read();
    const shows = [
      /^chamberlain_unmanaged_things\{/mu,
      /^chamberlain_invalid_jobs_total\{portal="admin[^"]*"\} 1$/mu,
      /^chamberlain_requests_total\{kind="tool.update",verdict="accepted"\} 2$/mu,
      /^chamberlain_sweep_ended_timestamp_seconds /mu,
      /^chamberlain_place_published_timestamp_seconds\{role="databases",/mu,
      /^chamberlain_place_published_timestamp_seconds\{role="homes",/mu,
      /^chamberlain_portal_silent_seconds\{portal="portal"\} [^0]/mu,
    ];
    expect(shows.filter((each) => !each.test(now))).toEqual([]);
    return now;
  });
});
afterAll(async () => {
  await served?.close();
  await running?.close();
});

test('each verdict is counted once, also if the request is repeated', () => {
  const requests = (kind: string, verdict: string) =>
    valueOf(`chamberlain_requests_total{kind="${kind}",verdict="${verdict}"}`);
  expect(requests('tool.create', 'accepted')).toBe(1);
  expect(requests('tool.create', 'refused')).toBe(1);
  expect(requests('unknown', 'refused')).toBe(1);
  expect(requests('tool.update', 'accepted')).toBe(2);
  expect(requests('tool.delete', 'accepted')).toBe(0);
});

test.each([
  ['chamberlain_invalid_jobs_total{portal="portal"}', 1],
  ['chamberlain_invalid_jobs_total{portal="admin"}', 1],
  ['chamberlain_request_done_seconds_count{kind="tool.create"}', 1],
  ['chamberlain_request_done_seconds_bucket{le="+Inf",kind="tool.create"}', 1],
  ['chamberlain_waiting_for_admin{what="access"}', 1],
  ['chamberlain_waiting_for_admin{what="approval"}', 0],
  ['chamberlain_frozen', 0],
  ['chamberlain_oldest_request_seconds', 0],
  ['chamberlain_subjects{role="homes",state="parked"}', 0],
  ['chamberlain_queue_jobs{queue="requests.portal"}', 0],
  ['chamberlain_queue_jobs{queue="requests.urgent.admin"}', 0],
  ['chamberlain_queue_jobs{queue="homes.slow"}', 0],
  ['chamberlain_queue_age_seconds{queue="databases.urgent"}', 0],
  ['chamberlain_sweep_held', 0],
  ['chamberlain_sweep_drifted', 0],
  ['chamberlain_unmanaged_things{kind="home"}', 1],
  ...['intake', 'relay', 'sweep'].map((work) => [`chamberlain_leads{work="${work}"}`, 1] as const),
  ...ROLES.map((role) => [`chamberlain_leads{work="${role}"}`, 1] as const),
  ['chamberlain_up{work="intake",server="redis"}', 1],
  ['chamberlain_up{work="relay",server="postgresql"}', 1],
] as const)('%s is %d', (sample, value) => {
  expect([sample, valueOf(sample)]).toEqual([sample, value]);
});

test('a portal that takes no events is shown with what waits for it', () => {
  expect(valueOf('chamberlain_undelivered_events{portal="portal"}')).toBeGreaterThan(0);
  expect(valueOf('chamberlain_portal_silent_seconds{portal="portal"}')).toBeGreaterThan(0);
});

test('the times are of now', () => {
  const now = Date.now() / 1000;
  for (const metric of ['sweep_ended', 'heartbeat_published']) {
    const at = valueOf(`chamberlain_${metric}_timestamp_seconds`) ?? 0;
    expect(Math.abs(now - at)).toBeLessThan(120);
  }
});

describe('no name and no secret is shown:', () => {
  test('each label has a value that the program or the configuration gives', () => {
    const { config } = running.world;
    const portals = ['portal', 'admin'];
    const known = new Set([
      ...REQUEST_KINDS,
      ...WORK_ROLES,
      ...portals,
      ...['unknown', 'accepted', 'refused', 'access', 'approval', 'home', '+Inf'],
      ...['applied', 'due', 'waiting', 'failing', 'parked', 'ignored', 'postgresql', 'redis'],
      ...[
        'directory',
        'toolHomes',
        'personHomes',
        ...config.databases.servers.map(({ name }) => name),
      ],
      ...ROLES.flatMap((role) => [`${role}.urgent`, `${role}.slow`]),
      ...portals.flatMap((portal) => [`requests.${portal}`, `requests.urgent.${portal}`]),
    ]);
    const samples = text.split('\n').filter((line) => line.includes('{') && !line.startsWith('#'));
    const values = samples.flatMap((line) =>
      [...line.matchAll(/[{,]\w+="((?:[^"\\]|\\.)*)"/gu)].map(([, value = '']) => value),
    );
    expect(values.length).toBeGreaterThan(100);
    expect(
      [...new Set(values)].filter((each) => !known.has(each) && !/^[\d.]+$/u.test(each)),
    ).toEqual([]);
  });

  test.each(NAMES)('not %s', (name) => expect(text).not.toContain(name));

  test('nor what is in the folder of secrets', () => {
    const { secrets } = running.world.config;
    const lines = readdirSync(secrets).flatMap((file) =>
      readFileSync(join(secrets, file), 'utf8').split('\n'),
    );
    const long = lines.filter((line) => line.length >= 16 && !line.startsWith('-----'));
    expect(long.length).toBeGreaterThan(5);
    expect(long.filter((line) => text.includes(line))).toEqual([]);
  });
});

test('every line is a comment, a sample or the end', () => {
  const lines = text.split('\n');
  expect(lines.splice(-2)).toEqual(['# EOF', '']);
  const sample = /^chamberlain_\w+(\{\w+="[^"\n]*"(,\w+="[^"\n]*")*\})? ([\d.e+-]+|\+Inf)$/u;
  expect(
    lines.filter((line) => !/^# (HELP|TYPE) chamberlain_/u.test(line) && !sample.test(line)),
  ).toEqual([]);
});

describe('there are values for every metric of an alert or a panel:', () => {
  test.each(metricsOf(readPrometheus()))('%s', (name) => {
    expect(
      text.split('\n').some((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `)),
    ).toBe(true);
  });
});

test('while Redis is away, what is read there is left out, and the rest stays', async () => {
  await stopServer(running.world.redis);
  try {
    text = await eventually('the outage', async () => {
      const now = await read();
      return now.includes('chamberlain_up{work="relay",server="redis"} 0') ? now : undefined;
    });
    expect(text).not.toContain('chamberlain_queue_jobs{');
    expect(valueOf('chamberlain_up{work="relay",server="postgresql"}')).toBe(1);
    expect(valueOf('chamberlain_subjects{role="homes",state="parked"}')).toBe(0);
  } finally {
    await startServer(running.world.redis);
    await running.portal.resume();
  }
  await running.portal.get({
    kind: 'tool.create',
    requestedBy: 'mallory',
    name: 'ybot',
    title: 'y',
  });
  text = await read();
  expect(valueOf('chamberlain_up{work="relay",server="redis"}')).toBe(1);
});

test('a process that leads nothing shows what it has counted, and nothing that it has read', async () => {
  await running.stopWork();
  text = await read();
  expect(valueOf('chamberlain_leads{work="relay"}')).toBe(0);
  expect(text).not.toMatch(/^chamberlain_(queue_jobs|subjects|frozen|sweep_held)/mu);
  expect(valueOf('chamberlain_requests_total{kind="tool.create",verdict="accepted"}')).toBe(2);
});
