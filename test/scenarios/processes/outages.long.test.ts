/** Outages of many lengths: shorter than a time-out, as long as one, and long enough for the longest pause. */
import { afterAll, beforeAll, test } from '@jest/globals';
import { expectWhole, OUTAGES, surviveOutage } from './outage.ts';
import { inOrder } from '../in-order.ts';
import { admit, openRunning, type Running } from '../running.ts';

let running: Running;
const names: string[] = [];
const unlessFailed = inOrder();

beforeAll(async () => {
  running = await openRunning('long outages', { own: true });
  await admit(running.portal, 'alice');
});

afterAll(async () => {
  await running?.close();
}, 60_000);

const LENGTHS_SECONDS = [0.5, 3, 4, 5, 6, 7, 8, 10, 11, 30];

test.each(OUTAGES.flatMap((outage) => LENGTHS_SECONDS.map((seconds) => ({ ...outage, seconds }))))(
  '$server $how for $seconds s',
  ({ server, how, seconds }) => {
    const name = `${server}-${how}-${String(seconds).replace('.', '-')}`;
    return unlessFailed(name, async () => {
      const outage = { server, how, outageMs: seconds * 1000, name };
      names.push(...(await surviveOutage(running, outage)));
    });
  },
  180_000,
);

test('in the end everything is complete', async () => {
  await unlessFailed('the end', () => expectWhole(running, names));
});
