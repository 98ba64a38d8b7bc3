/** `take` of very many files, in a mount namespace. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ALICE, X, makeDirectory, startTakeHost, type TakeHost } from './take-host.ts';

let host: TakeHost;

beforeAll(async () => {
  host = await startTakeHost();
});
afterAll(async () => await host.stop());

test('100,000 files in one directory are taken in seconds', () => {
  const home = makeDirectory(host.path('x'), X, X);
  makeDirectory(`${home}/wide`, ALICE, X);
  host.as(ALICE, `${home}/wide`, 'seq 100000 | xargs touch');
  expect(host.take(X, home, ['wide'])).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(host.asRoot(`find ${home} ! -uid ${X} | wc -l; find ${home} | wc -l`).stdout).toBe(
    '0\n100002\n',
  );
});
