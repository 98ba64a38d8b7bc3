/** Many events, and a reader that is cut off again and again: each comes, in order, and none is left out. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { inTransaction, openPool, type Pool } from '../../src/database/connection.ts';
import { writeEvents } from '../../src/events/events-table.ts';
import { type ApiWorld, openApiWorld } from './api-world.ts';
import { type Batch, openStream, readBatch } from './event-reader.ts';

const EVENTS = 100_000;
const CUTS = 50;
/** Written by one transaction. */
const TOGETHER = 1000;

let api: ApiWorld;
let intake: Pool;
beforeAll(async () => {
  api = await openApiWorld('api many events', {
    roles: ['relay'],
    api: { mostCallsPerMinute: { portal: 1_000_000 } },
  });
  intake = openPool(api.world.config, 'intake', { max: 1, durable: false });
});
afterAll(async () => {
  await intake.end();
  await api.close();
});

async function writeMany(portal: string): Promise<void> {
  for (let written = 0; written < EVENTS; written += TOGETHER) {
    const events = Array.from({ length: TOGETHER }, (_, n) => ({
      ...{ portal, event: 'tool.updated', subject: undefined, request: undefined },
      data: { n: written + n + 1 },
    }));
    await inTransaction(intake, (client) => writeEvents(client, events));
  }
}

/** A portal that stores how far it has come. */
function openReader(portal: string) {
  const disorder: string[] = [];
  return {
    have: 0,
    disorder,
    take({ after, events }: Batch) {
      if (after > this.have) disorder.push(`after ${after}, but have ${this.have}`);
      for (const { seq, data } of events) {
        if (seq <= this.have) continue;
        if (seq !== this.have + 1 || data['n'] !== seq) {
          disorder.push(`${portal}: ${seq} with ${JSON.stringify(data)} after ${this.have}`);
        }
        this.have = seq;
      }
    },
  };
}

/** After how many batches it is cut, each time another number. */
const cutsAfter = (cut: number) => 1 + ((cut * 7) % 12);

test('as a stream', async () => {
  const writing = writeMany('other');
  const reader = openReader('other');
  let cuts = 0;
  while (reader.have < EVENTS) {
    const stream = await openStream(api, 'other', reader.have);
    expect(stream.status).toBe(200);
    let batches = 0;
    for await (const { data } of stream.messages()) {
      if (cuts < CUTS && batches === cutsAfter(cuts)) break; // it was received and not stored
      batches += 1;
      reader.take(readBatch(api, 'other', data));
      if (reader.have === EVENTS) break;
    }
    stream.cut();
    cuts += 1;
  }
  await writing;
  expect(reader.disorder).toEqual([]);
  expect(cuts).toBeGreaterThan(CUTS);
}, 600_000);

test('one call after another', async () => {
  const writing = writeMany('may-own');
  const reader = openReader('may-own');
  let [calls, cuts] = [0, 0];
  while (reader.have < EVENTS) {
    calls += 1;
    const { status, text } = await api.get(`/v1/events?after=${reader.have}`, { as: 'may-own' });
    if (status === 204) continue;
    expect(status).toBe(200);
    if (cuts < CUTS && calls % 7 === 0)
      cuts += 1; // the answer was lost
    else reader.take(readBatch(api, 'may-own', text));
  }
  await writing;
  expect(reader.disorder).toEqual([]);
  expect(cuts).toBe(CUTS);
}, 600_000);
