/** By which rules the kept seals of a login host were judged: where they differ, all are judged again. */
import { expect, test } from '@jest/globals';
import type { LoginHostConfig } from '../../../src/login-host/config.ts';
import { rulesOf } from '../../../src/login-host/helper/kept-state.ts';
import { KNOWN_BAD_KEYS } from '../../../src/ssh-keys/known-bad-keys.ts';

test('a key that the next version of the program knows to be bad is another rule', () => {
  const config = { realm: 'tools', knownBadKeys: [] } as unknown as LoginHostConfig;
  const before = rulesOf(config);
  expect(rulesOf(config)).toBe(before);
  const known = KNOWN_BAD_KEYS as Map<string, string>;
  known.set('SHA256:new', 'a key that was published');
  try {
    expect(rulesOf(config)).not.toBe(before);
  } finally {
    known.delete('SHA256:new');
  }
});
