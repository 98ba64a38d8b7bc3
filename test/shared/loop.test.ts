/** The loop runs when it is woken, never twice at once, misses no wake, and runs again after a failure. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { openLog } from '../../src/shared/log.ts';
import { startLoop, type Loop } from '../../src/shared/loop.ts';
import { eventually } from '../scenarios/eventually.ts';

const lines: string[] = [];
const log = openLog('trace', { write: (line) => void lines.push(line) });
/** Never, within a test. */
const NEVER_MS = 3_600_000;

const open: Loop[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((loop) => loop.close()));
});

function start(everyMs: number, run: () => Promise<void>): Loop {
  const loop = startLoop('test', { everyMs, log }, run);
  open.push(loop);
  return loop;
}

/** A run that lasts until it is released. */
function gated() {
  let runs = 0;
  let atOnce = 0;
  let most = 0;
  const gates: (() => void)[] = [];
  return {
    run: async () => {
      runs += 1;
      atOnce += 1;
      most = Math.max(most, atOnce);
      await new Promise<void>((resolve) => gates.push(resolve));
      atOnce -= 1;
    },
    runs: () => runs,
    most: () => most,
    letGo: () => gates.shift()?.(),
  };
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('a loop', () => {
  test('runs at once when it is started, and may name itself in the first run', async () => {
    let named: Loop | undefined;
    const loop: Loop = start(NEVER_MS, () => {
      named = loop;
      return Promise.resolve();
    });
    await eventually('a run', () => named === loop);
  });

  test('says once why its runs fail, while the reason is the same', async () => {
    const from = lines.length;
    let runs = 0;
    start(5, () => {
      runs += 1;
      return runs < 3 ? Promise.reject(new Error('away')) : Promise.resolve();
    });
    await eventually('a run that does not fail', () => runs >= 3);
    expect(lines.slice(from)).toEqual([expect.stringContaining('away')]);
  });

  test('runs regularly without being woken', async () => {
    let runs = 0;
    start(5, () => Promise.resolve(void (runs += 1)));
    await eventually('five runs', () => runs >= 5);
  });

  test('runs once more if it is woken during a run, and never twice at once', async () => {
    const { run, runs, most, letGo } = gated();
    const loop = start(NEVER_MS, run);
    await eventually('a run', () => runs() === 1);
    for (let n = 0; n < 10; n += 1) loop.wake();
    letGo();
    await eventually('the run after it', () => runs() === 2);
    letGo();
    await turn();
    await turn();
    expect(runs()).toBe(2);
    expect(most()).toBe(1);
    loop.wake();
    await eventually('another', () => runs() === 3);
    letGo();
  });

  test('uses the nearer of two times to wake', async () => {
    let runs = 0;
    const loop = start(NEVER_MS, () => Promise.resolve(void (runs += 1)));
    await eventually('a run', () => runs === 1);
    loop.wakeIn(NEVER_MS);
    loop.wakeIn(5);
    loop.wakeIn(NEVER_MS);
    await eventually('another', () => runs === 2);
  });

  test('keeps a time to wake that was set during a run', async () => {
    let runs = 0;
    const loop: Loop = start(NEVER_MS, () => {
      runs += 1;
      if (runs < 3) loop.wakeIn(5);
      return Promise.resolve();
    });
    await eventually('three runs', () => runs === 3);
  });

  test('logs a run that fails, and repeats it after a pause', async () => {
    let runs = 0;
    lines.length = 0;
    start(NEVER_MS, () => {
      runs += 1;
      return runs < 3 ? Promise.reject(new Error(`no luck ${runs}`)) : Promise.resolve();
    });
    await eventually('the third run', () => runs === 3);
    expect(lines.map((line) => (JSON.parse(line) as { error: string }).error)).toEqual([
      'no luck 1',
      'no luck 2',
    ]);
  });

  test('closing waits for the current run, and no other begins', async () => {
    const { run, runs, letGo } = gated();
    const loop = start(1, run);
    await eventually('a run', () => runs() === 1);
    let closed = false;
    const closing = loop.close().then(() => (closed = true));
    loop.wake();
    await turn();
    expect(closed).toBe(false);
    letGo();
    await closing;
    loop.wake();
    loop.wakeIn(1);
    await turn();
    expect(runs()).toBe(1);
  });
});
