/** Keys from the request to the line in the directory: exact, complete, and each only for one person. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Config } from '../../../src/shared/config.ts';
import { parseSshKey } from '../../../src/ssh-keys/ssh-key.ts';
import type { WantedKey, WantedPerson } from '../../../src/reconcile/wanted.ts';
import { putKey } from '../../../src/ssh-keys/keys-table.ts';
import { type Pool, transact } from '../../../src/database/connection.ts';
import { readWanted } from '../../../src/reconcile/wanted-queries.ts';
import { type BootstrappedRealm, openBootstrappedRealm } from '../bootstrapped-realm.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIND0k9UN/Drd9ADbQRf/x4MAWO3WcOIkixt20iCch4JR';
const OTHER_KEY =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKUwH8v/5b4GYB8M7oRkUEjfDDPGJmKzYnxo5Cd2yqn';

let realm: BootstrappedRealm;
let world: BootstrappedRealm['world'];
let owner: Pool;
const uids = new Map<string, number>();

beforeAll(async () => {
  realm = await openBootstrappedRealm('keys');
  ({ world, owner } = realm);
  for (const shellName of ['alice', 'bob']) {
    await ask('person.create', {
      requestedBy: shellName,
      shellName,
      displayName: shellName,
      email: `${shellName}@example.org`,
    });
  }
  const { rows } = await owner.query('SELECT uid, shell_name FROM people');
  for (const { uid, shell_name: name } of rows as { uid: number; shell_name: string }[]) {
    uids.set(name, uid);
  }
});
afterAll(() => realm.close());

/** The code of the refusal. Undefined if the request was accepted. */
async function ask(
  kind: string,
  rest: Record<string, unknown> & { requestedBy: string },
  config: Config = world.config,
): Promise<string | undefined> {
  const { code } = await realm.ask({ kind, ...rest }, config);
  return code;
}

async function keysOf(name: string): Promise<WantedKey[]> {
  const [person] = await readWanted(owner, 'directory', [uids.get(name)!]);
  return (person as WantedPerson).keys ?? [];
}
const linesOf = async (name: string) => (await keysOf(name)).map(({ line }) => line);
const labelsOf = async (name: string) => (await keysOf(name)).map(({ label }) => label);

const add = (name: string, key: string, rest: Record<string, unknown> = {}, config?: Config) =>
  ask('key.add', { requestedBy: name, person: name, key, ...rest }, config);
const remove = (name: string, key: string) =>
  ask('key.remove', { requestedBy: name, person: name, key });

test('the restrictions of a key go with it into the directory', async () => {
  const options = 'from="192.0.2.0/24",no-pty,restrict';
  expect(await add('alice', `${options} ${KEY} my laptop`)).toBeUndefined();
  expect(await linesOf('alice')).toEqual([`${options} ${KEY}`]);
  await remove('alice', KEY);
  expect(await add('alice', `restrict ${KEY}`, { expiresAt: '2100-04-01T12:00:00Z' })).toBe(
    undefined,
  );
  expect(await linesOf('alice')).toEqual([`restrict,expiry-time="21000401120000Z" ${KEY}`]);
  await remove('alice', KEY);
});

test('a removed key is no longer wanted, but nobody else can add it', async () => {
  expect(await add('alice', KEY)).toBeUndefined();
  expect(await remove('alice', KEY)).toBeUndefined();
  expect(await linesOf('alice')).toEqual([]);
  expect(await add('bob', KEY)).toBe('KEY_TAKEN');
  // not even with a statement that did not check
  const { fingerprint } = keyOf(KEY);
  await transact(realm.intake, () =>
    putKey(realm.intake, {
      person: uids.get('bob')!,
      fingerprint,
      line: KEY,
      options: [],
      label: '',
      expiresAt: undefined,
    }),
  );
  expect([await linesOf('alice'), await linesOf('bob')]).toEqual([[], []]);
});

test("a person cannot remove another person's key under their own name", async () => {
  expect(await add('bob', OTHER_KEY)).toBeUndefined();
  const { fingerprint } = keyOf(OTHER_KEY);
  expect(await ask('key.remove', { requestedBy: 'alice', person: 'alice', fingerprint })).toBe(
    'KEY_UNKNOWN',
  );
  expect(await linesOf('bob')).toEqual([OTHER_KEY]);
  await remove('bob', OTHER_KEY);
});

test.each([
  ['Alice', 'alice'],
  ['alice', 'Alice'],
])('%s may not add a key for %s: names are exact', async (requestedBy, person) => {
  expect(await ask('key.add', { requestedBy, person, key: OTHER_KEY })).toBe('PERSON_UNKNOWN');
});

test('a fingerprint that differs in case is another one', async () => {
  const { fingerprint } = keyOf(KEY);
  const swapped = fingerprint.replace(/(?<=:)[A-Za-z]/u, (letter) =>
    letter === letter.toLowerCase() ? letter.toUpperCase() : letter.toLowerCase(),
  );
  expect(swapped).not.toBe(fingerprint);
  const put = `INSERT INTO ssh_keys (person, fingerprint, line) VALUES ($1, $2, 'ssh-ed25519 swapped')`;
  await owner.query(put, [uids.get('bob'), swapped]);
  await owner.query('DELETE FROM ssh_keys WHERE fingerprint = $1', [fingerprint]);
  expect(await add('alice', KEY)).toBeUndefined();
  expect(await remove('alice', KEY)).toBeUndefined();
  expect([await linesOf('alice'), await linesOf('bob')]).toEqual([[], ['ssh-ed25519 swapped']]);
  await owner.query('DELETE FROM ssh_keys WHERE fingerprint = $1', [swapped]);
});

test('nobody can have more keys than are allowed, and removed keys do not count', async () => {
  const config = { ...world.config, keys: { ...world.config.keys, maxPerPerson: 1 } };
  expect(await add('bob', OTHER_KEY, {}, config)).toBeUndefined();
  await owner.query('DELETE FROM ssh_keys WHERE fingerprint = $1', [keyOf(KEY).fingerprint]);
  expect(await add('bob', KEY, {}, config)).toBe('KEY_TOO_MANY');
  expect(await remove('bob', OTHER_KEY)).toBeUndefined();
  expect(await add('bob', KEY, {}, config)).toBeUndefined();
  await remove('bob', KEY);
});

test('a key that the configuration lists as bad is refused by both kinds of request', async () => {
  const keys = { ...world.config.keys, knownBad: [keyOf(OTHER_KEY).fingerprint] };
  const config = { ...world.config, keys };
  expect(await add('bob', `restrict ${OTHER_KEY}`, {}, config)).toBe('KEY_KNOWN_BAD');
  const eve = { shellName: 'eve', displayName: 'Eve', email: 'eve@example.org', key: OTHER_KEY };
  expect(await ask('person.create', { requestedBy: 'eve', ...eve }, config)).toBe('KEY_KNOWN_BAD');
  // a key that became known as bad after it was added can be removed
  expect(await add('bob', OTHER_KEY)).toBeUndefined();
  expect(
    await ask('key.remove', { requestedBy: 'bob', person: 'bob', key: OTHER_KEY }, config),
  ).toBeUndefined();
});

test('a key keeps its label: the given one, or the comment', async () => {
  await add('bob', `${KEY} my laptop`);
  expect(await labelsOf('bob')).toEqual(['my laptop']);
  await remove('bob', KEY);
  await add('bob', `${KEY} my laptop`, { label: 'the old one' });
  expect(await labelsOf('bob')).toEqual(['the old one']);
  await remove('bob', KEY);
  await add('bob', KEY);
  expect(await labelsOf('bob')).toEqual(['']);
  await remove('bob', KEY);
});

test.each(['two\nlines', 'two\rlines', 'a\0b', '\u202ex'])(
  'a label must be one printable line, not %j',
  async (label) => {
    expect(await add('bob', KEY, { label })).toBe('REQUEST_INVALID');
  },
);

function keyOf(text: string) {
  const verdict = parseSshKey(text);
  if (!verdict.ok) throw new Error(verdict.sentence);
  return verdict.key;
}
