/** What `explain` reads of PostgreSQL, with no role that answers. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { listKeys } from '../../src/database/listing.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { type Found, readSubject } from '../../src/database/overview.ts';
import { readFacts } from '../../src/explain/explain-facts.ts';
import { explain } from '../../src/explain/explaining.ts';
import { knownPage } from '../../src/explain/explain-pages.ts';
import { renderExplanation } from '../../src/explain/render-explain.ts';
import { realmOf } from '../../src/shared/config.ts';
import { openWorld, type World } from '../stack.ts';

const PERSON = 3_000_001;

let world: World;
let owner: Pool;

beforeAll(async () => {
  world = await openWorld('explain-queries', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  await owner.query(`
    INSERT INTO posix_ids (id, kind) VALUES (${PERSON}, 'person');
    INSERT INTO people (uid, shell_name, display_name, display_name_key, email)
      VALUES (${PERSON}, 'p1', 'P 1', 'p 1', 'p1@example.org');
    INSERT INTO realm_members (person) VALUES (${PERSON})`);
});
afterAll(async () => {
  await owner?.end();
  await world?.close();
});

const about = (word: string, config = world.config) =>
  explain(config, word, { timeoutMs: 1, now: new Date() });

/** A person's only key. */
async function giveKey({
  fingerprint = 'SHA256:one',
  options = [],
  expiresAt = null,
}: {
  fingerprint?: string;
  options?: string[];
  expiresAt?: string | null;
}): Promise<void> {
  await owner.query('DELETE FROM ssh_keys');
  await owner.query(
    `INSERT INTO ssh_keys (person, fingerprint, line, options, expires_at)
     VALUES ($1, $2, 'ssh-ed25519 AAAA', $3, $4)`,
    [PERSON, fingerprint, options, expiresAt],
  );
}

describe('a key ends', () => {
  test.each([
    ['never', [], null, null],
    [
      'at its option',
      ['no-pty', 'expiry-time="20200102030405Z"'],
      null,
      '2020-01-02T03:04:05.000Z',
    ],
    ['without seconds', ['expiry-time="202001020304Z"'], null, '2020-01-02T03:04:00.000Z'],
    ['a day alone', ['expiry-time="20200102Z"'], null, '2020-01-02T00:00:00.000Z'],
    ['without a time zone: in UTC', ['expiry-time="20200102"'], null, '2020-01-02T00:00:00.000Z'],
    ['in future', ['expiry-time="99991231Z"'], null, '9999-12-31T00:00:00.000Z'],
    [
      'at the option, which is sooner',
      ['expiry-time="20200102Z"'],
      '2100-01-01T00:00:00Z',
      '2020-01-02T00:00:00.000Z',
    ],
    [
      'before the option',
      ['expiry-time="99991231Z"'],
      '2020-01-02T00:00:00Z',
      '2020-01-02T00:00:00.000Z',
    ],
  ])('%s', async (_what, options, expiresAt, end) => {
    await giveKey({ options, expiresAt });
    const isOver = end?.startsWith('2020') === true;
    const { subjects } = await about('p1');
    expect(subjects[0]).toMatchObject({
      stops: isOver ? ['every key of p1 has expired'] : [],
      keys: [{ options, expiresAt: end, stops: isOver ? ['expired'] : [] }],
    });
    const expected = end === null ? null : new Date(end);
    for (const role of ['admin', 'api'] as const) {
      const pool = openPool(world.config, role, { max: 1, durable: false });
      try {
        await withClient(pool, async (client) => {
          const page = { person: PERSON, after: 0, limit: 2 };
          expect(await listKeys(client, page)).toMatchObject([{ expiresAt: expected }]);
          expect(await listKeys(client, { ...page, expired: true })).toHaveLength(isOver ? 1 : 0);
          const facts = await readFacts(client, [PERSON]);
          const parts = { facts, realm: realmOf(world.config), base: '', now: new Date() };
          expect(knownPage(PERSON, parts).keys).toEqual(subjects[0]?.keys);
          if (role === 'api') return;
          const view = await readSubject(client, { kind: 'person', uid: PERSON, account: 'p1' });
          expect(view.keys?.map((key) => key.expiresAt && new Date(key.expiresAt))).toEqual([
            expected,
          ]);
        });
      } finally {
        await pool.end();
      }
    }
  });
});

describe('a key that became known as bad after it was added', () => {
  const VAGRANT = 'SHA256:WkvqjnyPAeC0cbPErYiGP9vqHdgL1MqqvPdIe3lvHgI';

  test('gives no access if it is among those that every login host refuses', async () => {
    await giveKey({ fingerprint: VAGRANT });
    const { key, subjects } = await about(VAGRANT);
    expect(key).toMatchObject({
      stops: ['known bad'],
      knownBad: "Vagrant's insecure key (Ed25519)",
    });
    expect(subjects[0]?.stops).toEqual(['every key of p1 is known bad']);
    const text = renderExplanation(await about(VAGRANT));
    expect(text).toMatch(/^ +gives access +to nothing: known bad$/mu);
    expect(text).toMatch(/^ +key +SHA256:Wkvq.* known bad$/mu);
    await giveKey({ fingerprint: VAGRANT, expiresAt: '2020-01-01T00:00:00Z' });
    expect((await about('p1')).subjects[0]?.stops).toEqual([
      'every key of p1 has expired or is known bad',
    ]);
  });

  test('may give access if only the configuration names it: a login host has a list of its own', async () => {
    const fingerprint = `SHA256:${'A'.repeat(43)}`;
    await giveKey({ fingerprint });
    const keys = { ...world.config.keys, knownBad: [fingerprint] };
    const { key, subjects } = await about(fingerprint, { ...world.config, keys });
    expect(key).toMatchObject({
      stops: [],
      knownBad:
        'the configuration refuses it as a new key; a login host refuses it only if its own knownBadKeys has it',
    });
    expect(subjects[0]?.stops).toEqual([]);
  });
});

test('of a name and a number that nobody has, what the last sweep found: not that they are free', async () => {
  const said = async (word: string) => (await about(word)).known.join('\n');
  const number = String((world.config.ids.people[0]?.last ?? 0) - 1);
  expect(await said('ghost')).toBe(
    [
      'There is no person ghost, and there never was; no sweep has looked yet for anything unmanaged with the name.',
      'There is no tool ghost, and there never was; no sweep has looked yet for anything unmanaged with the name.',
    ].join('\n'),
  );
  await owner.query(`
    INSERT INTO id_ranges (kind, first, last, next) VALUES ('person', ${number}, ${number}, ${number})
      ON CONFLICT DO NOTHING;
    INSERT INTO sweeps (id, began_at, ended_at, state) VALUES
      (gen_random_uuid(), '2026-01-02 03:04:05Z', now(), 'clean'),
      (gen_random_uuid(), '2026-01-02 04:00:00Z', now(), 'cut')`);
  const found = 'the last sweep, which began at 2026-01-02 03:04:05Z, found nothing unmanaged with';
  expect(await said('ghost')).toContain(
    `There is no person ghost, and there never was; ${found} the name.`,
  );
  expect(await said(number)).toContain(`was never assigned; ${found} the number.`);
});

test.each([
  ['person', 'gone', 'u3000002'],
  ['tool', 'tools.gone', 's4000002'],
])('a deleted %s has no password, although its epoch is kept', async (kind, account, user) => {
  await owner.query(`
    INSERT INTO posix_ids (id, kind) VALUES (3000002, 'person'), (4000002, 'tool') ON CONFLICT DO NOTHING;
    INSERT INTO people (uid, shell_name, state) VALUES (3000002, 'gone', 'deleted') ON CONFLICT DO NOTHING;
    INSERT INTO tools (uid, name, account, title, state)
      VALUES (4000002, 'gone', 'tools.gone', 'Gone', 'deleted') ON CONFLICT DO NOTHING;
    INSERT INTO credentials (account) VALUES (3000002), (4000002) ON CONFLICT DO NOTHING;
    INSERT INTO database_verifiers (account, epoch, verifier)
      SELECT account, 1, '*' || repeat('A', 40) FROM credentials ON CONFLICT DO NOTHING`);
  const explanation = await about(account);
  const page = explanation.subjects.find((each) => each.kind === kind);
  expect(page).toMatchObject({ account, credentials: null });
  const text = renderExplanation(explanation);
  expect(text).toContain(`  database user  ${user}, without credentials\n`);
  expect(text).not.toContain('password');
  const view = await withClient(owner, (client) => readSubject(client, page as Found));
  expect(view).toMatchObject({ state: 'deleted', credentials: null });
});
