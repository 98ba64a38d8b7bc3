/** The metrics that Prometheus reads. */
import { request } from 'node:http';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { noteMarker, serveMetrics } from '../../src/shared/metrics.ts';

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
