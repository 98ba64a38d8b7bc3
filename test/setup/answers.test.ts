/** What `chamberlain setup` is told, and the configuration that it writes from that. No servers. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import {
  answersFile,
  completeAnswers,
  knownAnswers,
  QUESTIONS,
  refuseListenWithout,
} from '../../src/setup/answers.ts';
import { differsFromAnswers, renderConfig } from '../../src/setup/config-text.ts';
import { listenersOf } from '../../src/setup/places.ts';
import { loadConfig } from '../../src/shared/config.ts';

const folder = mkdtempSync(join(tmpdir(), 'chamberlain-answers-'));
afterAll(() => rmSync(folder, { recursive: true }));

const pair = generateKeyPairSync('ed25519');
const PUBLIC = pair.publicKey.export({ type: 'spki', format: 'pem' }).toString();
const PRIVATE = pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
writeFileSync(join(folder, 'alice.pem'), PUBLIC);
const FILE = {
  ...{ realm: 'tools', base: 'dc=example,dc=org' },
  admin: { name: 'alice', signingKey: join(folder, 'alice.pem') },
};

test('the configuration is one that every command reads, and fits the answers', () => {
  const answers = completeAnswers(knownAnswers(FILE, undefined));
  const path = join(folder, 'config.yaml');
  writeFileSync(path, renderConfig(answers));
  const config = loadConfig(path);
  expect(config.portals).toMatchObject([
    { name: 'admin.alice', keys: [{ kid: 'alice-1', publicKey: PUBLIC }], kinds: 'all' },
  ]);
  expect(differsFromAnswers(config, answers)).toBeUndefined();
  expect(differsFromAnswers(config, { ...answers, realm: 'others' })).toBe(
    'says that realm is tools, but setup needs it to be others',
  );
  const ids = { ...answers.ids, tools: [{ first: 60_000, last: 60_999 }] };
  expect(differsFromAnswers(config, { ...answers, ids })).toBe(
    'says that ids.tools is 50000-59999, but setup needs it to be 60000-60999',
  );
  const database = { name: 'replica', kind: 'replica' } as const;
  expect(differsFromAnswers(config, { ...answers, database })).toBe(
    'says that the kind of the server replica is none, but setup needs it to be replica',
  );

  // a later run is told nothing
  expect(completeAnswers(knownAnswers({}, config))).toMatchObject({
    ...{ realm: 'tools', base: 'dc=example,dc=org', database: { name: 'toolsdb' } },
    admin: { name: 'alice', signingKey: PUBLIC },
  });
});

test('ranges that overlap are refused before anything is made', () => {
  const ids = { people: [{ first: 1000, last: 60_000 }], tools: [{ first: 50_000, last: 59_999 }] };
  expect(answersFile.safeParse({ ...FILE, ids }).error?.issues).toMatchObject([
    { message: 'ids: the ranges 1000-60000 and 50000-59999 overlap' },
  ]);
});

test('with a name for other machines, login hosts reach the directory by TLS', () => {
  const answers = completeAnswers(
    knownAnswers({ ...FILE, listen: 'realm.example.org' }, undefined),
  );
  const path = join(folder, 'listen.yaml');
  writeFileSync(path, renderConfig(answers));
  const config = loadConfig(path);
  expect(config.ldap).toMatchObject({
    hostsUri: 'ldaps://realm.example.org',
    caFile: '/etc/chamberlain/tls/ca.pem',
  });
  expect(differsFromAnswers(config, answers)).toBeUndefined();
  // a later run is told nothing
  expect(completeAnswers(knownAnswers({}, config))).toMatchObject({ listen: 'realm.example.org' });

  // the configuration of a realm that nobody else reaches is not changed
  writeFileSync(path, renderConfig({ ...answers, listen: undefined }));
  expect(differsFromAnswers(loadConfig(path), answers)).toBe(
    'says that ldap.hostsUri is none, but setup needs it to be ldaps://realm.example.org',
  );
});

test('servers that are there already are named as the configuration names them', () => {
  const caFile = '/etc/ssl/ca.pem';
  const ldap = { uri: 'ldaps://ldap.example.org', caFile };
  const named = {
    ldap,
    postgres: { host: 'db.example.org', port: 5432, database: 'chamberlain', caFile },
    redis: { url: 'rediss://cache.example.org', caFile },
    database: { name: 'tools', kind: 'toolsdb' as const, host: 'sql.example.org', caFile },
  };
  const administrator = { user: 'boss', passwordFile: '/root/password' };
  const answers = completeAnswers(
    knownAnswers(
      {
        ...FILE,
        redis: named.redis,
        ldap: { ...ldap, administrator: { user: 'cn=admin', passwordFile: '/root/password' } },
        postgres: { ...named.postgres, administrator },
        database: { ...named.database, administrator },
      },
      undefined,
    ),
  );
  expect(renderConfig(answers)).not.toContain('password');
  const path = join(folder, 'named.yaml');
  writeFileSync(path, renderConfig(answers));
  const config = loadConfig(path);
  expect(config).toMatchObject({
    ...{ postgres: named.postgres, redis: named.redis, ldap: { ...ldap, shared: true } },
    databases: { servers: [named.database] },
  });
  expect(differsFromAnswers(config, answers)).toBeUndefined();
  expect(listenersOf(answers)).toEqual([]);
  const again = completeAnswers(knownAnswers({}, config));
  expect(again).toMatchObject(named);
  expect(differsFromAnswers(config, { ...again, redis: undefined })).toMatch(
    /^says that redis\.url is rediss:\S+, but setup needs it to be unix:/u,
  );
  const refusalOf = (its: object) => answersFile.safeParse({ ldap: its }).error?.message;
  expect(refusalOf({ uri: 'ldap://ldap.example.org' })).toContain('must be ldaps://HOST');
  expect(refusalOf({ ...ldap, administrator: 'EXTERNAL' })).toContain(
    'EXTERNAL means root of this',
  );
  expect(refusalOf({ uri: 'ldapi://%2Frun%2Fldapi', administrator: 'EXTERNAL' })).toBeUndefined();
});

test('what the file does not say is not known', () => {
  const { given } = knownAnswers(FILE, undefined);
  const open = QUESTIONS.filter(({ key }) => given[key] === undefined).map(({ key }) => key);
  expect(open).toEqual(['listen', 'admin.sshKey']);
});

test.each([
  ['realm', 'Tools', 'A realm is a letter'],
  ['base', 'dc=Example', 'A base consists of'],
  ['listen', '192.0.2.1', 'A name consists of'],
  ['listen', 'localhost', 'A name consists of'],
  ['listen', 'x.localhost', 'A name consists of'],
  ['listen', 'localhost.localdomain', 'A name consists of'],
  ['listen', 'ip6-localhost', 'A name consists of'],
  ['listen', '127.1', 'A name consists of'],
  ['listen', '2130706433', 'A name consists of'],
  ['listen', '0x7f.1', 'A name consists of'],
  ['listen', '127.0x1', 'A name consists of'],
  ['listen', `${'a'.repeat(53)}.example.org`, 'A name consists of'],
  ['listen', 'https://realm.example.org', 'A name consists of'],
  ['admin.name', 'Alice', 'A shell name starts with'],
  ['admin.name', 'root', 'The name root is reserved'],
  ['admin.sshKey', 'alice', ''],
  ['admin.signingKey', PRIVATE, 'This is not an Ed25519 public key'],
])('%s: %j is refused', (key, text, sentence) => {
  const question = QUESTIONS.find((each) => each.key === key);
  expect(question?.refuses(text)).toEqual(expect.stringContaining(sentence));
});

test.each(['', 'realm.example.org', 'realm', '4.example.org', `${'a'.repeat(52)}.example.org`])(
  'listen: %j is accepted',
  (text) => {
    expect(QUESTIONS.find(({ key }) => key === 'listen')?.refuses(text)).toBeUndefined();
  },
);

test('without systemd, no server can listen for other machines', () => {
  const listen = 'realm.example.org';
  expect(() => refuseListenWithout(false, { listen, ldap: undefined })).toThrow(
    '`listen` needs systemd',
  );
  refuseListenWithout(true, { listen, ldap: undefined });
  expect(() =>
    refuseListenWithout(true, { listen, ldap: { uri: 'ldaps://ldap.example.org' } }),
  ).toThrow('`listen` and `ldap` exclude each other');
  refuseListenWithout(false, { listen: undefined, ldap: undefined });
});
