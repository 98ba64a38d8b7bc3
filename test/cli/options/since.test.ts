/** Times in the past, and timeouts, on the command line. */
import { expect, test } from '@jest/globals';
import { parseSeconds } from '../../../src/cli/options/seconds.ts';
import { parseSince } from '../../../src/cli/options/since.ts';

const NOW = new Date('2026-11-24T12:00:00Z');

test.each([
  ['90s', '2026-11-24T11:58:30.000Z'],
  ['30min', '2026-11-24T11:30:00.000Z'],
  ['2h', '2026-11-24T10:00:00.000Z'],
  ['3d', '2026-11-21T12:00:00.000Z'],
  ['1w', '2026-11-17T12:00:00.000Z'],
  ['999999w', '1970-01-01T00:00:00.000Z'],
  ['2026-11-20', '2026-11-20T00:00:00.000Z'],
  ['2026-11-20T09:30', '2026-11-20T09:30:00.000Z'],
  ['2026-11-20 09:30:15', '2026-11-20T09:30:15.000Z'],
  ['2026-11-20T09:30:15.250Z', '2026-11-20T09:30:15.250Z'],
  ['2026-11-20T09:30+01:00', '2026-11-20T08:30:00.000Z'],
])('%s is %s', (text, iso) => {
  expect(parseSince(text, NOW).toISOString()).toBe(iso);
});

test.each(['', 'h', '2', '2y', '-2h', '2026-13-01', '2026-02-30', '2026-11-20T25:00', 'x2h'])(
  '%j is none',
  (text) => {
    expect(() => parseSince(text, NOW)).toThrow('It must be a time');
  },
);

test.each(['', ' ', '0', '-1', 'x', 'Infinity', '2000001', '1e300'])(
  '%j is no number of seconds that a timer takes',
  (text) => {
    expect(() => parseSeconds(text)).toThrow('It must be a number of seconds');
  },
);
