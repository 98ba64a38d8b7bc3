/** What doctor expects of the accounts of the directory, read from the access rules that deploy/ldap renders. */
import { expect, test } from '@jest/globals';
import {
  DIRECTORY_ACCOUNTS,
  directoryRules,
  type DirectoryAccount,
} from '../../deploy/ldap/render.ts';
import { levelOf, parseAccess } from '../../src/doctor/access-rules.ts';

const BASE = 'dc=Example,dc=org';
const { access } = directoryRules({
  ...{ base: BASE, realm: 'tools', realmGid: 500 },
  peopleIds: [{ first: 1000, last: 1999 }],
  toolIds: [{ first: 50_000, last: 59_999 }],
});
const rules = parseAccess(access);
const bindDn = (account: DirectoryAccount) => `cn=${account},ou=chamberlain,${BASE}`;

/** The accounts by their level, without those that have none. */
function levels(dn: string, attribute: string): Record<string, DirectoryAccount[]> {
  const all = Map.groupBy(DIRECTORY_ACCOUNTS, (account) =>
    levelOf(rules, bindDn(account), dn, attribute),
  );
  all.delete('none');
  return Object.fromEntries(all);
}

const READERS = DIRECTORY_ACCOUNTS.filter((account) => account !== 'directory');

test.each([
  `ou=groups,${BASE}`,
  `ou=servicegroups,${BASE}`,
  `ou=sudoers,cn=tools,ou=projects,${BASE}`,
])('everybody but the agent sees %s', (dn) => {
  expect(levels(dn, 'entry')).toEqual({
    read: DIRECTORY_ACCOUNTS.filter((account) => account !== 'keys-agent'),
  });
});

test.each([BASE, `ou=people,${BASE}`, `ou=people,ou=servicegroups,${BASE}`])(
  'every account sees %s',
  (dn) => expect(levels(dn, 'entry')).toEqual({ read: [...DIRECTORY_ACCOUNTS] }),
);

test.each([`uid=alice,ou=people,${BASE}`, `uid=tools.bot,ou=people,ou=servicegroups,${BASE}`])(
  'the directory role alone writes %s',
  (dn) => expect(levels(dn, 'objectClass')).toEqual({ write: ['directory'], read: READERS }),
);

test('of a tool that belongs to another realm, no account writes anything', () => {
  const dn = `uid=other.bot,ou=people,ou=servicegroups,${BASE}`;
  expect(levels(dn, 'objectClass')['write']).toBeUndefined();
});

test.each([
  ['mail', { write: ['directory'], read: ['directory-reader', 'mail-reader'] }],
  ['chamberlainSeal', { write: ['directory'], read: ['directory-reader', 'keys-agent'] }],
  ['sshPublicKey', { write: ['directory'], read: ['directory-reader'] }],
])('who sees and writes %s of a person', (attribute, expected) => {
  expect(levels(`uid=alice,ou=people,${BASE}`, attribute)).toEqual(expected);
});

test('accounts have no right on what is below another entry, or on themselves', () => {
  expect(levels(`cn=x,uid=alice,ou=people,${BASE}`, 'entry')).toEqual({});
  expect(levels(`uid=a\\,ou=people,ou=other,${BASE}`, 'entry')).toEqual({});
  expect(levels(bindDn('directory'), 'userPassword')).toEqual({});
});

test('a scope that is not understood is an error, not a rule for everything', () => {
  expect(() => parseAccess(['to dn.children="ou=x" by * none'])[0]?.isAbout('ou=x', 'cn')).toThrow(
    'unknown scope',
  );
});

test('what members of a group or of a set may do is no right of an account', () => {
  const set = 'set.exact="[cn=login-hosts,ou=x]/member & user"';
  const texts = [`group.exact="cn=login-hosts,ou=x"`, set, `dn.onelevel="ou=x" ${set}`];
  const level = (who: string) =>
    levelOf(parseAccess([`to * by ${who} read by * none`]), 'cn=a,ou=x', 'ou=x', 'cn');
  expect(texts.map(level)).toEqual(['none', 'none', 'none']);
  expect(level('dn.onelevel="ou=x"')).toBe('read');
});
