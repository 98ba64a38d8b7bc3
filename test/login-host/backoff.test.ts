import { expect, test } from '@jest/globals';
import { openBackoff } from '../../src/login-host/backoff.ts';

test('what costs much is done at once, then ever more seldom, and after a rest as at first', () => {
  let now = 0;
  const pace = openBackoff(() => now);
  const done: number[] = [];
  for (; now < 300_000; now += 250) if (pace.take()) done.push(now / 1000);
  expect(done).toEqual([0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
  now += 121_000;
  expect([pace.take(), pace.take()]).toEqual([true, false]);
  now += 1000;
  expect(pace.take()).toBe(true);
});
