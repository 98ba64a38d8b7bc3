/** The metrics that Prometheus reads. */
import { request } from 'node:http';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openLog } from '../../src/shared/log.ts';
import {
  newGauge,
  noteMarker,
  openSource,
  portalLabel,
  type Reading,
  READ_WITHIN_MS,
  serveMetrics,
} from '../../src/shared/metrics.ts';

const ANY = '127.0.0.1:0';
let served: Awaited<ReturnType<typeof serveMetrics>>;

beforeAll(async () => {
  served = await serveMetrics(ANY);
});

afterAll(() => served.close());

function ask(
  path: string,
  method = 'GET',
): Promise<{ status: number; type: string; text: string }> {
  return new Promise((resolve, reject) => {
    request({ port: served.port, path, method }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          type: response.headers['content-type'] ?? '',
          text,
        }),
      );
    })
      .on('error', reject)
      .end();
  });
}

const publishedAt = new Date('2026-05-01T12:00:00Z');
const publishing = { publishingAt: publishedAt, publishedAt, acceptedAt: undefined };

describe('a marker', () => {
  test.each([
    ['is as told', undefined, '0', '0'],
    ['of an older copy', { older: 'place', byMs: 90_500, sentence: 'x' }, '90.5', '0'],
    ['that is gone', { older: 'place', byMs: Infinity, sentence: 'x' }, '+Inf', '0'],
    ['newer than PostgreSQL', { older: 'database', byMs: 3000, sentence: 'x' }, '0', '3'],
  ] as const)('%s', async (_, doubt, place, database) => {
    noteMarker({ role: 'databases', place: 'tools"db' }, { doubt, publishing });
    const { status, type, text } = await ask('/metrics');
    expect([status, type]).toEqual([
      200,
      'application/openmetrics-text; version=1.0.0; charset=utf-8',
    ]);
    const labels = '{role="databases",place="tools\\"db"}';
    expect(text.split('\n').filter((line) => line.includes(labels))).toEqual([
      `chamberlain_place_older_seconds${labels} ${place}`,
      `chamberlain_database_older_seconds${labels} ${database}`,
      `chamberlain_place_published_timestamp_seconds${labels} ${publishedAt.getTime() / 1000}`,
    ]);
    expect(text).toMatch(/# EOF\n$/);
  });
});

describe('values that are read when somebody reads the metrics', () => {
  const bare = newGauge('chamberlain_test_bare', 'x');
  const labelled = newGauge('chamberlain_test_labelled', 'x', ['of']);
  const log: string[] = [];
  const open = (read: () => Promise<Reading[]>, server: 'postgresql' | 'redis' = 'redis') =>
    openSource(
      { work: 'test', server, read },
      openLog('warn', { write: (line) => void log.push(line) }),
    );
  const values = async (): Promise<string[]> =>
    (await ask('/metrics')).text
      .split('\n')
      .filter((line) => /^chamberlain_(test_\w+|up\{work="test".*)/u.test(line))
      .map((line) => line.replace('chamberlain_', ''));
  const isUp = (value: number) => `up{work="test",server="redis"} ${value}`;

  test('nobody asks for them before; two readers in five seconds share one answer', async () => {
    let asked = 0;
    const source = open(async () => [{ gauge: bare, value: (asked += 1) }]);
    try {
      expect(asked).toBe(0);
      const once = [isUp(1), 'test_bare 1'];
      expect(await Promise.all([values(), values()])).toEqual([once, once]);
      expect(await values()).toEqual(once);
    } finally {
      source.close();
    }
    expect(await values()).toEqual([]);
  });

  test('what cannot be read has no value; the other values stay, and the log says why once', async () => {
    const fails = open(() => Promise.reject(new Error('the disk is full')));
    const reads = open(
      async () => [{ gauge: labelled, labels: { of: 'b' }, value: 2 }],
      'postgresql',
    );
    try {
      await values();
      expect((await values()).toSorted()).toEqual([
        'test_labelled{of="b"} 2',
        'up{work="test",server="postgresql"} 1',
        isUp(0),
      ]);
      expect(log.filter((line) => line.includes('the disk is full'))).toHaveLength(1);
    } finally {
      fails.close();
      reads.close();
    }
  });

  test('a server that hangs is waited for no longer than the limit, and asked once at a time', async () => {
    let answer: (readings: Reading[]) => void = () => {};
    let asked = 0;
    const source = open(() => {
      asked += 1;
      return new Promise((resolve) => (answer = resolve));
    });
    try {
      const begin = performance.now();
      expect(await Promise.all([values(), values()])).toEqual([[isUp(0)], [isUp(0)]]);
      expect(performance.now() - begin).toBeLessThan(READ_WITHIN_MS + 3000);
      expect(asked).toBe(1);
      const again = values();
      answer([{ gauge: bare, value: 7 }]);
      expect(await again).toEqual([isUp(1), 'test_bare 7']);
    } finally {
      source.close();
    }
  });

  test('an answer that comes after the end counts for nothing', async () => {
    let answer: (readings: Reading[]) => void = () => {};
    const source = open(() => new Promise((resolve) => (answer = resolve)));
    expect(await values()).toEqual([isUp(0)]);
    source.close();
    answer([{ gauge: bare, value: 7 }]);
    expect(await values()).toEqual([]);
  });
});

test("the portal of an admin's own key has no label of its own: it is named after them", () => {
  expect([portalLabel('bridge'), portalLabel('admin.alice')]).toEqual(['bridge', 'admin']);
});

test.each([
  ['GET', '/'],
  ['GET', '/metrics/../metrics'],
  ['POST', '/metrics'],
])('%s %s is not found', async (method, path) => {
  expect(await ask(path, method)).toMatchObject({ status: 404, text: '' });
});

test('a client that connects and sends nothing blocks nobody, and is disconnected at the end', async () => {
  const silent = [connect(served.port), connect(served.port)];
  await Promise.all(
    silent.map((socket) => new Promise((resolve) => socket.on('connect', resolve))),
  );
  expect((await ask('/metrics')).status).toBe(200);
  const other = await serveMetrics(ANY);
  const held = connect(other.port);
  const ended = new Promise((resolve) => held.on('close', resolve));
  await new Promise((resolve) => held.on('connect', resolve));
  await other.close();
  await ended;
  for (const socket of silent) socket.destroy();
});

describe('an address', () => {
  test.each([
    '9464',
    'localhost',
    ':9464',
    '127.0.0.1:',
    '127.0.0.1:70000',
    '::1:9464',
    'a:b:1',
    '',
  ])('%j is none', async (address) => {
    await expect(serveMetrics(address)).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('that is not an address'),
    });
  });

  test.each([ANY, 'localhost:0', '[::1]:0'])('%j is one', async (address) => {
    await (await serveMetrics(address)).close();
  });

  test('reports an address where another program listens', async () => {
    const taken = `127.0.0.1:${served.port}`;
    await expect(serveMetrics(taken)).rejects.toMatchObject({
      code: 'USAGE',
      message: `listening for /metrics at ${taken}`,
      cause: { code: 'EADDRINUSE' },
    });
  });
});
