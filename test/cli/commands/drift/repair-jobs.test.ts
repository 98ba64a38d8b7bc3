import { expect, test } from '@jest/globals';
import { jobsOf } from '../../../../src/drift/follow-repair.ts';
import type { Action } from '../../../../src/reconcile/action.ts';

const part = (subject: number, ...verbs: Action['verb'][]) => ({
  subject,
  steps: verbs.map((verb) => ({ action: { verb } })) as never[],
});

test('a part that may take hours is a job of its own, apart from the rest', () => {
  const parts = [
    ...Array.from({ length: 17 }, (_, n) => part(n + 1, 'dir.create')),
    part(20, 'home.withdraw', 'home.archive'),
    part(21, 'databases.restore'),
    part(22, 'home.withdraw'),
  ];
  const { prompt, slow } = jobsOf(parts);
  expect(prompt.map(({ length }) => length)).toEqual([16, 2]);
  expect(prompt.flat()).not.toContain(20);
  expect(slow).toEqual([[20], [21]]);
  expect(jobsOf([parts[17]!])).toEqual({ prompt: [], slow: [[20]] });
});
