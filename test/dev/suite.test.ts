/** What the process of one test file reports: dev/jest/suite.ts; and when it is ended: dev/jest/runner.ts. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { runSuite } from '../../dev/jest/runner.ts';
import type { Order, Outcome } from '../../dev/jest/suite.ts';
import { makeTemporaryFolder } from '../shared-servers.ts';

const SUITE = join(import.meta.dirname, '../../dev/jest/suite.ts');

let dir: string;
beforeAll(() => {
  dir = makeTemporaryFolder();
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function writeTest(text: string): string {
  const path = join(dir, 'some.test.mjs');
  writeFileSync(path, `import { expect, test } from '@jest/globals';\n${text}`);
  return path;
}

async function outcomeOf(text: string, testNamePattern = ''): Promise<Outcome> {
  const path = writeTest(text);
  const suite = fork(SUITE, { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  const order: Order = {
    path,
    config: { rootDir: dir, testMatch: [], slowTestThreshold: 5 },
    globalConfig: { noStackTrace: false, testNamePattern },
    closeMs: 1000,
  };
  suite.send(order);
  const [outcome] = await once(suite, 'message');
  await once(suite, 'exit');
  return outcome as Outcome;
}

test('each test by its name, and why it failed', async () => {
  const outcome = await outcomeOf(`
    test('holds', () => expect(1).toBe(1));
    test('does not hold', () => expect(1).toBe(2));
    test('expects more than comes', () => expect.assertions(1));
    test('catches late', async () => {
      const failing = Promise.reject(new Error('caught late'));
      await new Promise((done) => setTimeout(done, 5));
      await failing.catch(() => {});
    });
    test.skip('is skipped', () => {});
  `);
  if ('error' in outcome) throw new Error(outcome.error.message);
  const { result } = outcome;
  expect(result.testResults.map(({ title, status }) => [title, status])).toEqual([
    ['holds', 'passed'],
    ['does not hold', 'failed'],
    ['expects more than comes', 'failed'],
    ['catches late', 'passed'],
    ['is skipped', 'pending'],
  ]);
  expect([result.numPassingTests, result.numFailingTests, result.numPendingTests]).toEqual([
    2, 2, 1,
  ]);
  expect(result.failureMessage).toContain('Expected: 2');
  expect(result.testExecError).toBeUndefined();
});

test('only the tests whose name was asked for', async () => {
  const outcome = await outcomeOf(
    `test('this one', () => {}); test('the other', () => { throw new Error(); });`,
    'this',
  );
  expect(outcome).toMatchObject({ result: { numPassingTests: 1, numPendingTests: 1 } });
});

test.each([
  [
    'a promise that nobody catches',
    `test('x', () => void Promise.reject(new Error('lost')))`,
    'lost',
  ],
  ['what is left open', `test('x', () => void setInterval(() => {}, 1000))`, 'still open: Timeout'],
])('%s fails the file', async (_, text, message) => {
  const outcome = await outcomeOf(text);
  expect(outcome).toMatchObject({
    result: { failureMessage: expect.stringContaining(message), testExecError: expect.anything() },
  });
});

test('a file that cannot be loaded', async () => {
  const outcome = await outcomeOf(`import './nowhere.mjs';`);
  expect(outcome).toMatchObject({ error: { message: expect.stringContaining('nowhere.mjs') } });
});

test('a file that waits for a program that hangs is ended, although no time-out of a test is heeded meanwhile', async () => {
  const path = writeTest(`
    import { execFileSync } from 'node:child_process';
    test('x', () => execFileSync('sleep', ['10']), 10);
  `);
  const context = { config: { rootDir: dir } } as Parameters<typeof runSuite>[0]['context'];
  const settings = {} as Parameters<typeof runSuite>[1];
  await expect(runSuite({ path, context }, settings, 3000)).rejects.toThrow(
    'has done nothing else but wait for a program',
  );
});
