/**
 * What a directory may hold besides accounts and groups, on a real slapd: referrals, aliases, entries and
 * values of any size and bytes. Each is read as an entry that is not ours, and all others are read as if it did
 * not exist.
 */
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { startServer, stopServer } from '../../../dev/servers/daemon.ts';
import { slapdServer } from '../../../dev/servers/slapd.ts';
import { openDirectoryReader, openDirectoryWriter } from '../../../src/backends/ldap/directory.ts';
import { readAccountHealth } from '../../../src/backends/ldap/directory-health.ts';
import { openLoginDirectory, type SeenEntry } from '../../../src/backends/ldap/login-directory.ts';
import { readDirectory } from '../../../src/import/directory.ts';
import { sealKeyId } from '../../../src/seals/seal.ts';
import type { Wanted } from '../../../src/reconcile/wanted.ts';
import type { Place } from '../../../src/reconcile/action.ts';
import type { DirectoryReader } from '../../../src/targets/directory-reader.ts';
import { oddityOf } from '../../../src/unmanaged/sightings.ts';
import { DIRECTORY_TARGETS } from '../../../src/roles/directory/role.ts';
import { survey } from '../../../src/reconcile/engine.ts';
import { person, REALM, tool } from '../../targets/directory-cases.ts';

const BASE = 'dc=example,dc=org';
const THROTTLE = { piece: 3, yieldTurn: async () => {} };

const folder = mkdtempSync(join(tmpdir(), 'odd-'));
chmodSync(folder, 0o755);
const slapd = slapdServer(join(folder, 'slapd'), {
  base: BASE,
  realm: 'tools',
  ids: {
    people: [{ first: 1000, last: 49999 }],
    tools: [{ first: 50000, last: 59999 }],
    realmGid: 500,
  },
  secrets: join(folder, 'secrets'),
});
const passwordOf = (account: string) =>
  readFileSync(join(folder, 'secrets', `ldap-${account}`), 'utf8');
const settings = (account: string) => ({
  ...{ uri: slapd.uri, base: BASE, realm: 'tools', password: passwordOf(account) },
});
const { privateKey } = generateKeyPairSync('ed25519');
const sealKey = { id: sealKeyId(privateKey), privateKey };

const asAdmin = () => [
  ...['-M', '-H', slapd.uri, '-x', '-D', `cn=admin,${BASE}`],
  ...['-y', join(folder, 'secrets/ldap-admin')],
];
const write = (ldif: string) =>
  execFileSync('ldapmodify', asAdmin(), { input: ldif, stdio: ['pipe', 'ignore', 'pipe'] });
const line = (attribute: string, value: string | Buffer) =>
  `${attribute}:: ${Buffer.from(value).toString('base64')}`;

const planted: string[] = [];
/** Adds an entry as the administrator, until the end of the test. */
function plant(...entry: Parameters<typeof addition>) {
  write(addition(...entry));
}
/** What adds an entry, until the end of the test. */
function addition(
  dn: string,
  classes: readonly string[],
  ...values: [string, string | Buffer][]
): string {
  planted.push(dn);
  const lines = [line('dn', dn), 'changetype: add'];
  lines.push(...classes.map((each) => `objectClass: ${each}`));
  return [...lines, ...values.map((pair) => line(...pair)), '', ''].join('\n');
}
const addValues = (dn: string, attribute: string, values: readonly string[]) =>
  write(
    `dn: ${dn}\nchangetype: modify\nadd: ${attribute}\n${values.map((v) => line(attribute, v)).join('\n')}\n\n`,
  );

const alice = person();
const bot = tool({ members: tool().members!.filter(({ account }) => account !== 'tools.other') });
const WITHOUT_SEAL = DIRECTORY_TARGETS.filter(({ name }) => name !== 'seal');

let reader: ReturnType<typeof openDirectoryReader>;
let writer: ReturnType<typeof openDirectoryWriter>;
let login: ReturnType<typeof openLoginDirectory>;

beforeAll(async () => {
  mkdirSync(join(folder, 'secrets'), { mode: 0o700 });
  await startServer(slapd);
  reader = openDirectoryReader(settings('directory-reader'));
  writer = openDirectoryWriter({ ...settings('directory'), sealKey: () => sealKey });
  login = openLoginDirectory(settings('keys-agent'));
  for (let turn = 0; turn < 3; turn++) {
    for (const { steps } of await look(reader))
      for (const { action } of steps) await writer.do(action);
  }
});

afterEach(() => {
  if (planted.length > 0) execFileSync('ldapdelete', [...asAdmin(), ...planted.splice(0)]);
});

afterAll(async () => {
  await Promise.all([reader.close(), writer.close(), login.close()]);
  await stopServer(slapd);
  rmSync(folder, { recursive: true });
});

/** All of which can be read. */
async function look(through: DirectoryReader, subjects: readonly Wanted[] = [alice, bot]) {
  const found = await survey(WITHOUT_SEAL, subjects, REALM, through);
  expect(found.flatMap(({ unreadable }) => unreadable)).toEqual([]);
  return found;
}

/** `carol: NAME_FOREIGN …` for each finding, once. */
async function findingsOf(through: DirectoryReader, ...subjects: Wanted[]): Promise<string[]> {
  const found = await look(through, subjects);
  return [
    ...new Set(
      found
        .flatMap(({ findings }) => findings)
        .map(({ account, code, sentence }) => `${account}: ${code} ${sentence}`),
    ),
  ];
}

async function all<T>(pages: AsyncIterable<readonly T[]>): Promise<T[]> {
  const found: T[] = [];
  for await (const page of pages) found.push(...page);
  return found;
}

/** Everything that reads the directory goes on, and nothing of ours has changed. */
async function expectAllGoesOn(): Promise<void> {
  const everything = await reader.readEverything(THROTTLE, REALM.realmGid);
  for (const through of [reader, everything.reader]) {
    expect((await look(through)).flatMap(({ steps }) => steps)).toEqual([]);
  }
  expect(everything.people).toBe(1);
  const seen = await readDirectory(everything, REALM);
  expect(seen.people.map(({ ref }) => ref)).toContain('people/uid=alice');
  expect(seen.toolGroups.map(({ ref }) => ref)).toContain('toolGroups/cn=tools.bot');
  for (const place of ['people', 'toolAccounts', 'toolGroups', 'groups', 'sudoRules'] as const) {
    await all(reader.list(place, ['objectClass', 'cn', 'mail', 'description', 'member']));
  }
  expect(await writer.tell(String(Math.random()), await writer.heartbeats())).toBe(true);
  expect(await reader.heartbeats()).toHaveLength(1);
  expect(await login.heartbeat()).not.toBe('');
  expect(await login.contextCsns()).toHaveLength(1);
  const start = '20000101000000.000000Z#000000#000#000000';
  for (const read of [login.everything(), login.names(), login.changedSince(start)]) {
    expect((await all<SeenEntry>(read)).map(({ name }) => name)).toEqual(
      expect.arrayContaining(['alice', 'tools.bot']),
    );
  }
  expect(await login.entries([`uid=alice,ou=people,${BASE}`, ...planted])).not.toEqual([]);
  for (const account of ['directory', 'directory-reader', 'keys-agent']) {
    const health = await readAccountHealth(settings(account), account, passwordOf(account));
    const unseen = health.places.flatMap(({ place, isSeen }) => (isSeen ? [] : [place]));
    expect(unseen).toEqual(
      account === 'keys-agent' ? ['toolGroups', 'groups', 'sudoRules', 'policies'] : [],
    );
    expect(health.entries).toHaveLength(2);
  }
}

/** Wherever somebody may put an entry: our five places, the one above one of them, the base. */
const PLACES = [
  `ou=people,${BASE}`,
  `ou=people,ou=servicegroups,${BASE}`,
  `ou=servicegroups,${BASE}`,
  `ou=groups,${BASE}`,
  `ou=sudoers,cn=tools,ou=projects,${BASE}`,
  `ou=projects,${BASE}`,
  BASE,
];

/**
 * `ref: what it is` of each odd entry in a place, as the reader of everything and a look at the place return
 * it.
 */
async function odditiesIn(place: Place): Promise<string[]> {
  const everything = await reader.readEverything(THROTTLE, REALM.realmGid);
  const listed = async (through: DirectoryReader) =>
    (await all(through.list(place, ['objectClass'])))
      .filter((entry) => oddityOf(entry) !== undefined)
      .map((entry) => `${entry.ref}: ${oddityOf(entry)}`);
  const found = await listed(reader);
  expect(await listed(everything.reader)).toEqual(found);
  return found;
}

describe('a referral', () => {
  const refer = (dn: string, ...values: [string, string][]) =>
    plant(dn, ['referral', 'extensibleObject'], ['ref', 'ldap://ldap.elsewhere/o=far'], ...values);

  test('in any place stops nobody', async () => {
    for (const place of PLACES) {
      refer(`uid=far,${place}`, ['uid', 'far']);
      refer(`ou=far,${place}`, ['ou', 'far']);
    }
    await expectAllGoesOn();
  });

  test('is reported as what it is', async () => {
    refer(`cn=far,ou=groups,${BASE}`, ['cn', 'far']);
    expect(await odditiesIn('groups')).toEqual(['groups/cn=far: referral']);
    const { sightings } = await reader.readEverything(THROTTLE, REALM.realmGid);
    expect(sightings).toContainEqual({ name: 'far', id: undefined });
  });

  test('in the place of one of our entries is a finding about that entry', async () => {
    refer(`uid=carol,ou=people,${BASE}`, ['uid', 'carol']);
    const carol = person({
      account: 'carol' as never,
      shellName: 'carol' as never,
      uid: 1004,
      displayName: 'Carol',
    });
    const everything = await reader.readEverything(THROTTLE, REALM.realmGid);
    for (const through of [reader, everything.reader]) {
      expect(await findingsOf(through, carol, alice)).toEqual([
        'carol: NAME_FOREIGN uid=carol,ou=people (referral, uidNumber none) is not managed by Chamberlain, but has the name of ' +
          'uid=carol,ou=people (uidNumber 1004): rename or remove it',
      ]);
    }
  });
});

describe('an alias', () => {
  const alias = (dn: string, name: string, to: string) =>
    plant(dn, ['alias', 'extensibleObject'], ['cn', name], ['aliasedObjectName', to]);

  test('in any place, and a loop of them, stops nobody', async () => {
    for (const place of PLACES) {
      alias(`cn=one,${place}`, 'one', `cn=two,${place}`);
      alias(`cn=two,${place}`, 'two', `cn=one,${place}`);
      alias(`cn=three,${place}`, 'three', `uid=alice,ou=people,${BASE}`);
    }
    await expectAllGoesOn();
  });

  test('is reported as what it is, not as its target', async () => {
    alias(`cn=one,ou=people,${BASE}`, 'one', `uid=alice,ou=people,${BASE}`);
    expect(await odditiesIn('people')).toEqual(['people/cn=one: alias']);
  });
});

describe('an entry with large values', () => {
  const classes = ['account', 'extensibleObject'];
  const MEGABYTE = 'x'.repeat(2 ** 20);

  test('of 100,000 values is read', async () => {
    const dn = `cn=tools.bot,ou=groups,${BASE}`; // it has a tool's name, so it is in the answer about the tool
    plant(dn, ['groupOfNames'], ['cn', 'tools.bot'], ['member', 'cn=nobody']);
    for (let from = 0; from < 100_000; from += 25_000) {
      const values = Array.from({ length: 25_000 }, (_, i) => `uid=u${from + i},ou=people,o=far`);
      addValues(dn, 'member', values);
    }
    await expectAllGoesOn();
    expect(await findingsOf(reader, bot)).toHaveLength(1);
  });

  // one at a time: all of them would be one answer of a hundred megabytes
  test.each(PLACES)('that is oversized in %s stops nobody', async (place) => {
    const dn = `uid=large,${place}`;
    const isOurPlace = place === `ou=people,${BASE}`;
    // it has alice's number, so it is in the answer about her
    const number: [string, string][] = isOurPlace ? [] : [['uidNumber', '1003']];
    plant(dn, classes, ['uid', 'large'], ...number);
    for (let i = 0; i < 17; i++) addValues(dn, 'mail', [i + MEGABYTE]);
    await expectAllGoesOn();
  });

  test('that is oversized is a finding that shows what could be read of it', async () => {
    const dn = `uid=large,ou=groups,${BASE}`;
    plant(dn, classes, ['uid', 'large'], ['uidNumber', '1003']);
    for (let i = 0; i < 70; i++) addValues(dn, 'mail', [i + MEGABYTE]);
    addValues(dn, 'cn', ['later']);
    const everything = await reader.readEverything(THROTTLE, REALM.realmGid);
    for (const through of [reader, everything.reader]) {
      expect(await findingsOf(through, alice)).toEqual([
        'alice: ID_FOREIGN uid=large,ou=groups (oversized, uidNumber 1003) is not managed by Chamberlain, but has the number of ' +
          'uid=alice,ou=people (uidNumber 1003): give it another number, or remove it',
      ]);
    }
    const attributes = ['objectClass', 'cn', 'mail'];
    const found = await everything.reader.find({
      any: [{ attribute: 'cn', values: ['later'] }],
      attributes,
    });
    expect(found).toMatchObject([
      { ref: 'groups/uid=large', attributes: { objectClass: ['oversized'], cn: ['later'] } },
    ]);
    expect(found[0]?.attributes).not.toHaveProperty('mail');
  });

  test('that is ours, and oversized, is a finding and no step', async () => {
    const dn = `uid=alice,ou=people,${BASE}`;
    for (let i = 0; i < 20; i++) addValues(dn, 'sshPublicKey', [i + MEGABYTE]);
    try {
      expect((await look(reader)).flatMap(({ steps }) => steps)).toEqual([]);
      expect(await findingsOf(reader, alice, bot)).toEqual([
        'alice: NAME_FOREIGN uid=alice,ou=people is too large to be read as a whole: ' +
          'remove the values that nobody needs',
      ]);
    } finally {
      const [key] = alice.keys!;
      write(`dn: ${dn}\nchangetype: modify\nreplace: sshPublicKey\nsshPublicKey: ${key!.line}\n`);
    }
    await expectAllGoesOn();
  });
});

test('an entry of ours with very many names more is one short finding', async () => {
  const dn = `uid=alice,ou=people,${BASE}`;
  addValues(
    dn,
    'uid',
    Array.from({ length: 2000 }, (_, i) => `other${i}`),
  );
  try {
    expect(await findingsOf(reader, alice)).toEqual([
      'alice: NAME_FOREIGN uid=alice,ou=people also has 2000 other values of uid: ' +
        'remove those that nobody needs',
    ]);
  } finally {
    write(`dn: ${dn}\nchangetype: modify\nreplace: uid\nuid: alice\n`);
  }
});

describe('rubbish', () => {
  const RUBBISH = Buffer.from([0xff, 0xfe, 0x00, 0x80, 0x0a, 0xc3, 0x28, 0xed, 0xa0, 0x80]);
  const ODD = [
    'a,b+c="d"<e>;#\\',
    ' x ',
    '\0',
    'a\0b',
    '\uFEFFz',
    '\u202Etxt',
    '🙈',
    '\n\r\t',
    'é\u0301',
  ];
  const escaped = (name: string) =>
    [...Buffer.from(name)].map((byte) => `\\${byte.toString(16).padStart(2, '0')}`).join('');
  const any = ['account', 'extensibleObject'];

  test('in names and values in any place stops nobody', async () => {
    const entries = PLACES.flatMap((place) => [
      ...ODD.map((name, i) =>
        addition(
          `uid=${escaped(name)},${place}`,
          any,
          ['uid', name],
          ['sshPublicKey', RUBBISH],
          ['description', `${i} a\0b \uFFFD`],
          ['mail', 'a@b'],
          ['mail', 'c@d'],
          ['cn', name],
          ['cn', `other ${i}`],
          ['jpegPhoto', RUBBISH],
          ['loginShell', '/x'],
          ['homeDirectory', 'x'],
        ),
      ),
      addition(`cn=q+uid=z,${place}`, any, ['uid', 'z'], ['cn', 'q'], ['uid', 'y']),
      addition(
        `uid=long,${place}`,
        any,
        ['uid', 'long'],
        ['cn', randomBytes(4000).toString('hex')],
      ),
    ]);
    write(entries.join(''));
    await expectAllGoesOn();
  });
});
