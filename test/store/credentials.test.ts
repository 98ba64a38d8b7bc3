import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { readVerifier, recordVerifier, wantNewEpoch } from '../../src/store/credentials.ts';
import { openPool, type Pool, withClient } from '../../src/store/postgres.ts';
import { wantTool } from '../laws-world.ts';
import { openWorld, type World } from '../stack.ts';

const VERIFIERS = ['A', 'B'].map((digit) => `*${digit.repeat(40)}`) as [string, string];

let world: World;
let owner: Pool;
let uid: number;

beforeAll(async () => {
  world = await openWorld('credentials', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  ({ uid } = await wantTool(owner, world, []));
});
afterAll(async () => {
  await owner.end();
  await world.close();
});

test('a verifier is given for the very epoch that it was made for, and for no other', async () => {
  expect(await readVerifier(owner, uid, 1)).toBeUndefined();
  await withClient(owner, (client) => recordVerifier(client, uid, 1, VERIFIERS[0]));
  expect(await readVerifier(owner, uid, 1)).toBe(VERIFIERS[0]);
  expect(await readVerifier(owner, uid, 2)).toBeUndefined();
  expect(await withClient(owner, (client) => wantNewEpoch(client, uid))).toBe(2);
  await withClient(owner, (client) => recordVerifier(client, uid, 2, VERIFIERS[1]));
  expect(await readVerifier(owner, uid, 1)).toBeUndefined();
  expect(await readVerifier(owner, uid, 2)).toBe(VERIFIERS[1]);
});

test.each(['', 'password', `*${'a'.repeat(40)}`, `*${'A'.repeat(39)}`, `*${'A'.repeat(41)}`])(
  'what is no verifier, such as %j, is not kept',
  async (verifier) => {
    await expect(
      withClient(owner, (client) => recordVerifier(client, uid, 2, verifier)),
    ).rejects.toThrow();
    expect(await readVerifier(owner, uid, 2)).toBe(VERIFIERS[1]);
  },
);
