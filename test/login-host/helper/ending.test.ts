/**
 * Which processes end, and when: src/login-host/helper/ending.ts. sessions.test.ts covers how a process is
 * ended.
 */
import { expect, test } from '@jest/globals';
import { ChamberlainError } from '../../../src/shared/errors.ts';
import { openLog } from '../../../src/shared/log.ts';
import { openEnding } from '../../../src/login-host/helper/ending.ts';
import { eventually } from '../../scenarios/eventually.ts';

const STUCK = 10_666;

/** Replaces the function that ends processes: one of them never ends. */
function openEnds(mayEnd = (_uid: number) => true) {
  const calls: { at: number; uids: number[] }[] = [];
  let letGo = () => {};
  const stuck = new Promise<void>((done) => (letGo = done));
  const log = openLog('silent');
  const ending = openEnding(mayEnd, log, async (uids) => {
    calls.push({ at: performance.now(), uids: [...uids] });
    if (!uids.has(STUCK)) return uids.size;
    await stuck;
    throw new ChamberlainError('STEP_FAILED', 'ending sessions: 1 process did not end');
  });
  return { calls, ending, letGo };
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => from + n);

test('at once, and again two seconds later', async () => {
  const { calls, ending } = openEnds();
  ending.end([1, 2]);
  expect(calls.map(({ uids }) => uids)).toEqual([[1, 2]]);
  await eventually('it looks again', () => calls.length === 2);
  const [first, second] = calls;
  expect(second?.uids).toEqual([1, 2]);
  expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThan(1900);
});

test('not those who may be here by then', async () => {
  const back = new Set<number>();
  const { calls, ending } = openEnds((uid) => !back.has(uid));
  ending.end([1, 2]);
  back.add(2);
  await eventually('it looks again', () => calls.length === 2);
  expect(calls[1]?.uids).toEqual([1]);
  back.add(1);
  ending.endLeft([1, 2]);
  expect(calls).toHaveLength(2);
});

test('what does not end holds up nobody else', async () => {
  const { calls, ending, letGo } = openEnds();
  ending.end([STUCK]);
  ending.end([1]);
  expect(calls.map(({ uids }) => uids)).toEqual([[STUCK], [1]]);
  letGo();
});

test('of more than ten thousand, with one that does not end, all are asked for, time and again', async () => {
  const { calls, ending, letGo } = openEnds();
  const all = [...range(20_000, 45_000), STUCK];
  ending.endLeft(all);
  expect(calls[0]?.uids).toHaveLength(25_001);
  // not while the last time still goes on
  ending.endLeft(all);
  expect(calls).toHaveLength(1);
  letGo();
  await eventually('it is asked again', () => {
    ending.endLeft(all);
    return calls.length === 2;
  });
  expect(calls[1]?.uids).toHaveLength(25_001);
});

test('many that come while it is busy are ended together', async () => {
  const { calls, ending, letGo } = openEnds();
  ending.end([STUCK, 1]);
  ending.end([STUCK, 2]);
  for (const uid of range(100, 200)) ending.end([uid]);
  expect(calls).toHaveLength(2);
  letGo();
  await eventually('the others are ended', () => calls.length === 3);
  expect(calls[2]?.uids).toEqual(range(100, 200));
});
