import { describe, expect, test } from '@jest/globals';
import { parseDn, readDnsOf } from '../../../src/backends/ldap/dn.ts';

const dns = readDnsOf(parseDn('dc=example,dc=org') ?? [], 'tools');

describe('DNs', () => {
  test.each([
    ['uid=alice,ou=people,dc=example,dc=org', 'people/uid=alice'],
    ['UID = Alice , OU=People, DC=Example ,DC=ORG', 'people/uid=alice'],
    ['uid=tools.x,ou=people,ou=servicegroups,dc=example,dc=org', 'toolAccounts/uid=tools.x'],
    ['cn=tools.x,ou=servicegroups,dc=example,dc=org', 'toolGroups/cn=tools.x'],
    ['cn=project-tools,ou=groups,dc=example,dc=org', 'groups/cn=project-tools'],
    ['cn=r,ou=sudoers,cn=tools,ou=projects,dc=example,dc=org', 'sudoRules/cn=r'],
    ['cn=disabled,ou=ppolicies,dc=example,dc=org', 'policies/cn=disabled'],
    ['cn=chamberlain,dc=example,dc=org', 'base/cn=chamberlain'],
    [String.raw`uid=a\2Cb\20\5c,ou=people,dc=example,dc=org`, 'people/uid=a,b \\'],
    [String.raw`uid=a\,ou\=people,ou=people,dc=example,dc=org`, 'people/uid=a,ou=people'],
    [String.raw`uid=\61lice,ou=p\65ople,dc=example,dc=org`, 'people/uid=alice'],
  ])('%s is %s', (dn, ref) => {
    expect(dns.value(dn)).toBe(ref);
  });

  test.each([
    ['it is elsewhere', 'uid=alice,ou=people,dc=example,dc=com'],
    ['it is deeper', 'uid=alice,ou=x,ou=people,dc=example,dc=org'],
    ['it has two values in its name', 'uid=alice+cn=x,ou=people,dc=example,dc=org'],
    ['its place has two values', 'uid=alice,ou=people+ou=x,dc=example,dc=org'],
    ['its place is only written like ours', String.raw`uid=alice,ou=people\,dc\=example,dc=org`],
    ['its value is in hex', 'uid=#0405616c696365,ou=people,dc=example,dc=org'],
    ['it is quoted', 'uid="alice",ou=people,dc=example,dc=org'],
    ['its name is not ASCII', 'uid=alic\u00e9,ou=people,dc=example,dc=org'],
    ['its name has an outer blank', String.raw`uid=\20alice,ou=people,dc=example,dc=org`],
    ['its name has a line end', String.raw`uid=alice\0a,ou=people,dc=example,dc=org`],
    ['it is the suffix', 'dc=example,dc=org'],
    ['it is empty', ''],
    ['it is not a DN', 'alice'],
    ['it ends in a comma', 'uid=alice,ou=people,dc=example,dc=org,'],
  ])('a DN stays as it is if %s', (_, dn) => {
    expect(dns.value(dn)).toBe(`dn:${dn}`);
    expect(dns.entry(dn)).toBe(`dn:${dn}`);
  });

  test('an entry’s own name keeps its bytes, so that a different case is a different name', () => {
    expect(dns.entry('uid=Alice,OU=people,dc=example,dc=org')).toBe('people/uid=Alice');
  });
});
