import { expect, test } from '@jest/globals';
import { parsePosixId } from '../../src/identity/posix-id.ts';

test.each([1, 1000, 65533, 65536, 2 ** 31 - 1])('%d may be an account', (number) => {
  expect(parsePosixId(number)).toBe(number);
});

test.each([0, -0, -1, 65534, 65535, 2 ** 31, 2 ** 32, 1000.5, Number.NaN, Infinity])(
  '%d may not',
  (number) => {
    expect(() => parsePosixId(number)).toThrow(RangeError);
  },
);

test.each([undefined, null, '', '1000', [1000], true])(
  '%j is not a number of an account',
  (value) => {
    expect(() => parsePosixId(value as unknown as number)).toThrow(RangeError);
  },
);
