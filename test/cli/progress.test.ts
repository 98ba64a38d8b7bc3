/** The progress of slow commands: a line that changes, or plain lines. */
import { mock } from 'node:test';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { startProgress } from '../../src/cli/progress.ts';

let nowMs: number;
beforeEach(() => {
  nowMs = 0;
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  mock.method(performance, 'now', () => nowMs);
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

/** Lets time pass, a timer's least at a time. */
function pass(ms: number): void {
  for (let passed = 0; passed < ms; passed += 1) {
    nowMs += 1;
    mock.timers.tick(1);
  }
}

function streamWith(isTTY: boolean, columns = 80) {
  const written: string[] = [];
  const stream = {
    isTTY,
    columns,
    write: (text: string) => (written.push(text), true),
  };
  return { written, stream: stream as unknown as NodeJS.WriteStream };
}

test.each([true, false])('a command faster than a second shows nothing (terminal: %s)', (isTTY) => {
  const { written, stream } = streamWith(isTTY);
  const progress = startProgress({ stream });
  progress.say('homes 1 of 2');
  pass(990);
  progress.end();
  pass(60_000);
  expect(written).toEqual([]);
});

test('on a terminal it is one line that changes, fits, and is erased at the end', () => {
  const { written, stream } = streamWith(true, 30);
  const progress = startProgress({ stream });
  progress.say('homes 1 of 2');
  pass(1000);
  expect(written).toEqual(['\r\u001b[Khomes 1 of 2 1 s']);
  progress.say(`homes \u001b[2J${'x'.repeat(100)}`);
  pass(1000);
  const last = written.at(-1) as string;
  expect(last.replace('\r\u001b[K', '')).toMatch(/^homes \?\[2Jx+ 2 s$/u);
  expect(last.length).toBe('\r\u001b[K'.length + 29);
  progress.end();
  expect(written.at(-1)).toBe('\r\u001b[K');
  const { length } = written;
  progress.end();
  pass(60_000);
  expect(written).toHaveLength(length);
});

test('without a terminal it is a plain line after one second, then one every five seconds', () => {
  const { written, stream } = streamWith(false);
  const progress = startProgress({ stream });
  progress.say('homes 1 of 2');
  pass(1000);
  progress.say('homes 2 of 2');
  pass(9999);
  progress.end();
  expect(written).toEqual(['homes 1 of 2, 1 s\n', 'homes 2 of 2, 6 s\n']);
});

test('with --json there are no plain lines; on a terminal the line is shown', () => {
  const [log, terminal] = [streamWith(false), streamWith(true)];
  const both = [log, terminal].map(({ stream }) => startProgress({ json: true, stream }));
  for (const progress of both) progress.say('homes 1 of 2');
  pass(20_000);
  for (const progress of both) progress.end();
  expect(log.written).toEqual([]);
  expect(terminal.written.length).toBeGreaterThan(10);
});
