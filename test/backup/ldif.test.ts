/** LDIF for slapadd. test/scenarios/recovery/backup-set.long.test.ts tests it with slapd itself. */
import { expect, test } from '@jest/globals';
import { compareDns, renderEntry } from '../../src/backup/ldif.ts';

test.each([
  ['plain text', 'plain text: with a colon', 'cn: plain text: with a colon'],
  ['a blank in front', ' x', 'cn:: IHg='],
  ['a blank at the end', 'x ', 'cn:: eCA='],
  ['a colon in front', ':x', 'cn:: Ong='],
  ['an angle bracket in front', '<x', 'cn:: PHg='],
  ['two lines', 'x\ny: z', 'cn:: eAp5OiB6'],
  ['other letters', 'Zoë', 'cn:: Wm/Dqw=='],
  ['bytes that are not text', Buffer.from([0xff, 0]), 'cn:: /wA='],
  ['nothing', '', 'cn: '],
])('a value with %s is one line', (_, value, line) => {
  expect(renderEntry('cn=x', [['cn', [value]]])).toBe(`dn: cn=x\n${line}\n\n`);
});

test('the same entry has the same bytes, without attributes that slapd computes', () => {
  const one = renderEntry('uid=a,o=b', [
    ['uid', ['a']],
    ['mail', ['y@x', 'x@x']],
    ['entryDN', ['uid=a,o=b']],
    ['hasSubordinates', ['FALSE']],
    ['subschemaSubentry', ['cn=Subschema']],
    ['contextCSN', ['20261129221700.000000Z#000000#000#000000']],
  ]);
  const other = renderEntry('uid=a,o=b', [
    ['mail', ['x@x', 'y@x']],
    ['uid', ['a']],
  ]);
  expect(one).toBe(other);
  expect(one).toBe('dn: uid=a,o=b\nmail: x@x\nmail: y@x\nuid: a\n\n');
});

test('an entry comes after its parents', () => {
  const dns = ['uid=b,ou=p,o=x', 'ou=q,o=x', 'o=x', String.raw`uid=a\2Cb,ou=q,o=x`, 'ou=P,o=x'];
  expect(dns.toSorted(compareDns)).toEqual([
    'o=x',
    'ou=P,o=x',
    'ou=q,o=x',
    String.raw`uid=a\2Cb,ou=q,o=x`,
    'uid=b,ou=p,o=x',
  ]);
});
