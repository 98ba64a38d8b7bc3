/** A check says what the verdict on a request would be now, and does nothing else. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { giveVerdict } from '../../src/requests/verdict.ts';
import { type BootstrappedRealm, openBootstrappedRealm, type Wish } from './bootstrapped-realm.ts';

let realm: BootstrappedRealm;
beforeAll(async () => {
  realm = await openBootstrappedRealm('check');
});
afterAll(() => realm.close());

/** All rows of all tables, as one text each. */
async function everything(): Promise<Record<string, string[]>> {
  const { owner } = realm;
  const { rows } = await owner.query(
    `SELECT relname AS name FROM pg_class
      WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname`,
  );
  const all: Record<string, string[]> = {};
  for (const { name } of rows as { name: string }[]) {
    const found = await owner.query(`SELECT t::text AS row FROM "${name}" AS t ORDER BY 1`);
    all[name] = (found.rows as { row: string }[]).map(({ row }) => row);
  }
  return all;
}

const by = { requestedBy: 'steward' };
const WISHES: readonly [string, Wish][] = [
  [
    'a person',
    { ...by, kind: 'person.create', shellName: 'alice', displayName: 'A', email: 'a@example.org' },
  ],
  ['a name that is taken', { ...by, kind: 'tool.create', name: 'admin', title: 'T' }],
  ['a tool', { ...by, kind: 'tool.create', name: 'bridgebot', title: 'T' }],
  ['a field that is missing', { ...by, kind: 'tool.create', name: 'bridgebot' }],
  ['a person that does not exist', { ...by, kind: 'person.suspend', person: 'bob', reason: 'x' }],
  ['an actor that does not exist', { kind: 'access.request', requestedBy: 'carol' }],
];

test.each(WISHES)('%s: the same verdict, and no row of any table changes', async (_, wish) => {
  const before = await everything();
  const checked = await realm.ask(wish, undefined, { check: true, as: 'steward' });
  expect(await everything()).toEqual(before);
  const { check, ...verdict } = checked;
  expect(check).toBe(true);
  expect(verdict).toEqual(await realm.ask(wish, undefined, { as: 'steward' }));
});

test('where the request has its verdict already: that one', async () => {
  const jti = randomUUID();
  const wish = { ...by, kind: 'tool.create', name: 'oncebot', title: 'T' };
  await realm.ask(wish, undefined, { jti });
  const again = await realm.ask(wish, undefined, { jti, check: true });
  expect(again).toEqual({ verdict: 'accepted', check: true });
  const other = await realm.ask({ ...wish, title: 'U' }, undefined, { jti, check: true });
  expect(other).toMatchObject({ verdict: 'refused', code: 'REQUEST_REPLAYED' });
});

test('it is never carried out, not even by a fault of the program', async () => {
  const claims = { check: true } as never;
  const job = { sha256: Buffer.alloc(32), signed: { claims } } as never;
  const of = { urgentQueue: false, now: new Date() };
  await expect(giveVerdict(realm.intake, realm.world.config, job, of)).rejects.toThrow(TypeError);
});
