import { expect, test } from '@jest/globals';
import { type ArchiveKeeping, asLongStep, patiently } from '../../src/archives/archive-keeping.ts';
import { ChamberlainError, codeOf } from '../../src/shared/errors.ts';

const failing = (code: ConstructorParameters<typeof ChamberlainError>[0]) => async () => {
  throw new ChamberlainError(code, 'asking');
};
const endOf = (promise: Promise<unknown>) => promise.then(() => 'passed', codeOf);

/** the answers, one after another; how each question ends */
const CASES: [string, number, (() => Promise<void>)[], string[]][] = [
  [
    'passes over a silence after an answer',
    60_000,
    [async () => {}, failing('BACKEND_UNAVAILABLE'), failing('BACKEND_UNAVAILABLE')],
    ['passed', 'passed', 'passed'],
  ],
  ['begins with no silence', 60_000, [failing('BACKEND_UNAVAILABLE')], ['BACKEND_UNAVAILABLE']],
  [
    'ends when it is silent for too long',
    -1,
    [async () => {}, failing('BACKEND_UNAVAILABLE')],
    ['passed', 'BACKEND_UNAVAILABLE'],
  ],
  [
    'ends at once when the answer is no, or a refusal',
    60_000,
    [async () => {}, failing('STEP_STALE'), failing('STEP_FAILED')],
    ['passed', 'STEP_STALE', 'STEP_FAILED'],
  ],
];

test.each(CASES)('a patient check %s', async (_, silentMs, answers, ends) => {
  const left = [...answers];
  const check = patiently(async () => left.shift()!(), silentMs);
  for (const end of ends) expect(await endOf(check())).toBe(end);
});

test('a long step goes on while PostgreSQL is away for a moment, and ends when it is not wanted', async () => {
  const answers = [
    async () => true,
    failing('BACKEND_UNAVAILABLE'),
    async () => false,
  ] as (() => Promise<boolean>)[];
  const keeping: ArchiveKeeping = {
    ...({} as ArchiveKeeping),
    stillWanted: async () => answers.shift()!(),
    clear: async () => {},
  };
  const endless = asLongStep(
    keeping,
    { subject: 1, archival: 1, returning: false },
    new AbortController().signal,
    ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error));
      }),
  );
  expect(await endOf(endless)).toBe('STEP_STALE');
  expect(answers).toEqual([]);
});
