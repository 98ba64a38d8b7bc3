/** Checks run in parallel, each with a time limit; and how clocks and roles are judged. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { examine } from '../../src/doctor/examine.ts';
import { type Check, judgeClock, type Line, ok } from '../../src/doctor/line.ts';
import { judgeRoles } from '../../src/doctor/roles.ts';
import type { Role } from '../../src/reconcile/wanted.ts';
import type { Report } from '../../src/reconcile/report.ts';

const check = (subject: string, look: () => Promise<Line[]>, limitMs?: number): Check => ({
  group: 'a group',
  subject,
  todo: `Look at ${subject}.`,
  look,
  ...(limitMs === undefined ? {} : { limitMs }),
});
const never = () => new Promise<Line[]>(() => {});

test('a check that hangs or fails is unreadable, with what to do; the others are shown in order', async () => {
  const checks = [
    check('one that hangs', never),
    check('a good one', async () => [ok('good')]),
    check('one that fails', async () => {
      throw new Error('looking', { cause: new Error('refused') });
    }),
    check('an impatient one', never, 100),
  ];
  const lines = await examine(checks, undefined, undefined, () => 0);
  expect(lines.map(({ state, what, todo }) => [state, what, todo])).toEqual([
    ['unreadable', 'one that hangs: no answer within 2.5 s', 'Look at one that hangs.'],
    ['ok', 'good', undefined],
    ['unreadable', 'one that fails: looking: refused', 'Look at one that fails.'],
    ['unreadable', 'an impatient one: no answer within 0.1 s', 'Look at an impatient one.'],
  ]);
});

test('a check that had no answer while this process waited for a processor says so', async () => {
  const seen = [1000, 1020, 2000, 2090];
  const look = () =>
    examine([check('one', never, 100)], undefined, undefined, () => seen.shift() ?? NaN);
  expect(await look()).toMatchObject([{ what: 'one: no answer within 0.1 s' }]);
  expect(await look()).toMatchObject([
    {
      state: 'unreadable',
      what: 'one: no answer within 0.1 s, of which this command itself waited 0.1 s for a processor: this machine is too busy, so run the command again later',
    },
  ]);
});

test('all begin before any has ended, and the progress names those that are left', async () => {
  let begun = 0;
  let open: () => void = () => {};
  const all = new Promise<void>((resolve) => (open = resolve));
  const said: string[] = [];
  const lines = await examine(
    Array.from({ length: 40 }, (_, index) =>
      check(`check ${index % 2}`, async () => {
        begun += 1;
        if (begun === 40) open();
        await all;
        if (index % 2 === 1) await sleep(50);
        return [ok(`${index}`)];
      }),
    ),
    (text) => said.push(text),
  );
  expect(lines.map(({ what }) => what)).toEqual(Array.from({ length: 40 }, (_, n) => `${n}`));
  expect(said[0]).toMatch(/^checking check \d, check \d$/u);
  expect(said).toContain('checking check 1');
});

test('if many are left, a few are named', async () => {
  const said: string[] = [];
  const of = (n: number) => check(`check ${n}`, async () => [ok('good')]);
  await examine([1, 2, 3, 4, 5, 6, 7, 8].map(of), (text) => said.push(text));
  expect(said[0]).toMatch(/^checking (check \d, ){5}and 2 more$/u);
});

test.each([
  // the clock that was read between 10.0 s (asked) and 10.5 s (answered)
  [10_200, 'ok', "the clock of it agrees with this machine's"],
  [9_001, 'ok', "the clock of it agrees with this machine's"],
  [11_499, 'ok', "the clock of it agrees with this machine's"],
  [8_900, 'fix', "the clock of it is 1.1 s behind this machine's"],
  [11_600, 'fix', "the clock of it is 1.1 s ahead of this machine's"],
  [3_610_500, 'fix', "the clock of it is 3600.0 s ahead of this machine's"],
])('a clock that says %d ms is judged %s', (readAt, state, what) => {
  expect(judgeClock('it', readAt, { askedAt: 10_000, answeredAt: 10_500 })).toMatchObject({
    state,
    what,
  });
});

test('a role is judged by its report and by its clock', () => {
  const report: Report = { steps: [], findings: [], waiting: [], unreadable: [], subjects: 0 };
  const at = Date.parse('2026-11-25T10:00:00Z');
  const reports = new Map<Role, Report>([
    ['directory', { ...report, clock: '2026-11-25T10:00:00.000Z' }],
    ['homes', { ...report, clock: '2026-11-25T09:58:00.000Z' }],
    ['databases', { ...report, unreadable: [{ target: 'databases', sentence: 'no answer' }] }],
  ]);
  const lines = judgeRoles(reports, { askedAt: at, answeredAt: at + 10 });
  expect(lines.map(({ state, what }) => [state, what])).toEqual([
    ['ok', 'directory answers'],
    ['ok', "the clock of the machine of directory agrees with this machine's"],
    ['ok', 'homes answers'],
    ['fix', "the clock of the machine of homes is 120.0 s behind this machine's"],
    ['unreadable', 'databases: no answer'],
  ]);
  for (const { state, todo } of lines) expect(todo === undefined).toBe(state === 'ok');
});
