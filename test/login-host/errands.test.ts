/** Who does the agent's errands is a double here, so that it can be slow, and fail, when it is told to. */
import { afterEach, expect, test } from '@jest/globals';
import { ChamberlainError } from '../../src/errors.ts';
import type { LoginHelper } from '../../src/edges/login-helper.ts';
import { startErrands, type Errands } from '../../src/login-host/errands.ts';
import { openLog } from '../../src/log.ts';
import { eventually } from '../scenarios/eventually.ts';

let errands: Errands | undefined;
afterEach(async () => errands?.close());

function open(act: (what: string) => Promise<void>, mayEnd: (uid: number) => boolean = () => true) {
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
  errands = startErrands(helper, () => ['a', 'b'], mayEnd, openLog('silent'));
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

test('who may run something again is not ended, when it comes to it', async () => {
  const first = Promise.withResolvers<void>();
  const closed = new Set([1001, 1002, 1003]);
  const { errands: all, asked } = open(
    (what) => (what === 'end 1001' ? first.promise : Promise.resolve()),
    (uid) => closed.has(uid),
  );
  all.end([1001]);
  all.end([1002, 1003]);
  closed.delete(1002);
  first.resolve();
  await eventually('the second', () => asked.length === 2);
  all.endLeft([1002]);
  all.end([1003]);
  await eventually('the third', () => asked.length === 3);
  expect(asked).toEqual(['end 1001', 'end 1003', 'end 1003']);
});

test('what does not end holds up nobody else, and is told', async () => {
  const { errands: all, asked } = open((what) =>
    what.includes('1001')
      ? Promise.reject(new ChamberlainError('STEP_FAILED', 'ending', { cause: 'it hangs' }))
      : Promise.resolve(),
  );
  all.end([1001]);
  await eventually('it was tried, and once more beside the others', () => asked.length === 2);
  all.end([1002]);
  await eventually('the next', () => asked.length === 3);
  expect(asked).toEqual(['end 1001', 'end 1001', 'end 1002']);
  expect(all.trouble()).toMatch(/it hangs/);
});

test('a helper that is away is asked again for who is to end now', async () => {
  let away = true;
  const { errands: all, asked } = open(() =>
    away
      ? Promise.reject(new ChamberlainError('BACKEND_UNAVAILABLE', 'ending'))
      : Promise.resolve(),
  );
  all.end([1001]);
  await eventually('trouble', () => all.trouble() !== undefined);
  away = false;
  await eventually('no trouble', () => all.trouble() === undefined);
  expect(asked).toEqual(['end 1001', 'end 1001']);
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
