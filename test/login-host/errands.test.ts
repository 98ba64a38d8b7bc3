/** Who does the agent's errands is a double here, so that it can be slow, and fail, when it is told to. */
import { afterEach, expect, test } from '@jest/globals';
import type { LoginHelper } from '../../src/edges/login-helper.ts';
import { startErrands, type Errands } from '../../src/login-host/errands.ts';
import { openLog } from '../../src/log.ts';
import { eventually } from '../scenarios/eventually.ts';

let errands: Errands | undefined;
afterEach(async () => errands?.close());

function open(act: (what: string) => Promise<void>) {
  const asked: string[] = [];
  const ask = (what: string) => {
    asked.push(what);
    return act(what);
  };
  const helper: LoginHelper = {
    forget: (names) => ask(`forget ${names.join(' ')}`),
    end: (...uids) => ask(`end ${uids.join(' ')}`),
    passwd: (lines) => ask(`passwd ${lines.length}`).then(() => undefined),
  };
  errands = startErrands(helper, () => ['a', 'b'], openLog('silent'));
  return { errands, asked };
}

test('what comes while one errand is under way is done together after it', async () => {
  const first = Promise.withResolvers<void>();
  const { errands: all, asked } = open((what) =>
    what === 'forget a' ? first.promise : Promise.resolve(),
  );
  all.forget(['a']);
  all.forget(['b', 'c']);
  all.forget(['a', 'b']);
  first.resolve();
  await eventually('the second', () => asked.length === 2);
  expect(asked).toEqual(['forget a', 'forget b c a']);
});

test('one kind does not wait for another that hangs', async () => {
  const never = Promise.withResolvers<void>();
  const { errands: all, asked } = open((what) =>
    what.startsWith('forget') ? Promise.resolve() : never.promise,
  );
  all.end([1001, 1002]);
  all.list();
  all.forget(['a']);
  await eventually('all', () => asked.length === 3);
  all.forget(['b']);
  await eventually('the next', () => asked.includes('forget b'));
  never.resolve();
});

test('what fails is told, and done again', async () => {
  let fails = true;
  const { errands: all, asked } = open(() =>
    fails ? Promise.reject(new Error('no such socket')) : Promise.resolve(),
  );
  all.forget(['a']);
  await eventually('trouble', () => all.trouble() === 'no such socket');
  fails = false;
  all.forget(['b']);
  await eventually('no trouble', () => all.trouble() === undefined);
  expect(asked).toEqual(['forget a', 'forget a b']);
});

test('the list is built once for many changes in a row', async () => {
  const { errands: all, asked } = open(() => Promise.resolve());
  for (let n = 0; n < 50; n += 1) all.list();
  await eventually('the list', () => asked.length > 0);
  for (let n = 0; n < 50; n += 1) all.list();
  all.forget(['a']);
  await eventually('what was asked later', () => asked.includes('forget a'));
  expect(asked).toEqual(['passwd 2', 'forget a']);
});
