/** What could not be read is printed with what to do about it. */
import { mock } from 'node:test';
import { afterEach, expect, test } from '@jest/globals';
import { Command } from 'commander';
import { refuseUnread } from '../../src/recovery/recover-survey.ts';

afterEach(() => {
  mock.restoreAll();
  process.exitCode = undefined;
});

test('a file that is missing is not a server that is away; what several subjects share is printed once', () => {
  const written: string[] = [];
  mock.method(process.stdout, 'write', () => true);
  mock.method(process.stderr, 'write', (text: string) => written.push(text) > 0);
  const away = { target: 'unix-account', sentence: 'no answer' };
  const missing = { target: 'home-archive', sentence: 'no list', action: 'Restore it.' };
  expect(refuseUnread(new Command(), [missing, away, away], 'the realm stays frozen')).toBe(true);
  expect(written).toEqual([
    'BACKEND_UNREADABLE: home-archive: no list. Restore it.\n',
    'BACKEND_UNREADABLE: unix-account: no answer. Check that the server runs and can be reached. Then run the command again.\n',
  ]);
});
