import { expect, test } from '@jest/globals';
import { doing } from '../../src/shared/errors.ts';

const CAUSE = new Error('no such entry');
const SAID = { code: 'BACKEND_UNREADABLE', message: 'reading the entry', cause: CAUSE };

test('what is done is returned, now or later', async () => {
  expect(doing('BACKEND_UNREADABLE', 'reading the entry', () => 7)).toBe(7);
  await expect(doing('BACKEND_UNREADABLE', 'reading the entry', async () => 7)).resolves.toBe(7);
});

test('a failure says what was being done, now or later', async () => {
  const fail = (): never => {
    throw CAUSE;
  };
  expect(() => doing('BACKEND_UNREADABLE', 'reading the entry', fail)).toThrow(
    expect.objectContaining(SAID),
  );
  await expect(
    doing('BACKEND_UNREADABLE', 'reading the entry', async () => fail()),
  ).rejects.toMatchObject(SAID);
});
