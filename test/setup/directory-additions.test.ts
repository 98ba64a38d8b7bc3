/** What a directory of others lacks, and what cannot be added to it. No servers. */
import { expect, test } from '@jest/globals';
import {
  additionsTo,
  type FoundDirectory,
  parseLdif,
  showAddition,
  type WantedDirectory,
} from '../../src/setup/directory-additions.ts';
import type { Values } from '../../src/backends/ldap/directory-login.ts';

const BASE = 'dc=example,dc=org';
const WANTED: WantedDirectory = {
  base: BASE,
  schemas: parseLdif(`dn: cn=keys,cn=schema,cn=config
objectClass: olcSchemaConfig
cn: keys
olcAttributeTypes: ( 1.1 NAME 'sshPublicKey' EQUALITY octetStringMatch SYNTAX 1.40 )
olcAttributeTypes: ( 1.2 NAME 'memberOf' EQUALITY distinguishedNameMatch SYNTAX 1.12 )
olcObjectClasses: ( 1.3 NAME 'ldapPublicKey' SUP top AUXILIARY MAY ( sshPublicKey $ uid ) )
`),
  modules: ['back_mdb', 'unique'],
  indexes: ['uid,cn eq', 'member eq'],
  limits: 'dn.subtree="ou=chamberlain" size=unlimited',
  access: ['to a by * none', `to dn.subtree="ou=chamberlain,${BASE}" by * none`, 'to c by * break'],
  overlays: parseLdif(`dn: olcOverlay=unique
objectClass: olcUniqueConfig
olcOverlay: unique
olcUniqueURI: serialize ldap:///?uid?sub
`),
  entries: parseLdif(`dn: ${BASE}
objectClass: domain

dn: ou=people,${BASE}
objectClass: top
objectClass: organizationalUnit
ou: people
`),
};
const DATABASE = [
  ['objectClass', 'olcMdbConfig'],
  ['olcSuffix', 'dc=example, dc=org'],
  ['olcRootDN', `CN=admin, ${BASE}`],
  ['olcAccess', '{0}to * by * read'],
] as const;

/** A server with a base and nothing of ours; with these values besides. */
function server(
  {
    config = [],
    schema = [],
    entries = [],
  }: { config?: Values[]; schema?: string[]; entries?: Values[] },
  database: Values['attributes'] = [],
): FoundDirectory {
  const dn = 'olcDatabase={1}mdb,cn=config';
  const all = [{ dn: BASE, attributes: [] }, ...entries];
  return {
    config: [...config, { dn, attributes: [...DATABASE, ...database] }],
    ...{ schema, login: `cn=admin,${BASE}` },
    entries: new Map(all.map((entry) => [entry.dn.toLowerCase(), entry])),
  };
}
const conflictsOf = (found: FoundDirectory) => additionsTo(found, WANTED).conflicts.join();

test('everything that is missing, in an order in which it can be added', () => {
  const { additions, conflicts } = additionsTo(server({}), WANTED);
  expect(conflicts).toEqual([]);
  expect(additions.map(showAddition).join('\n')).toBe(`dn: cn=keys,cn=schema,cn=config
changetype: add
objectClass: olcSchemaConfig
cn: keys
olcAttributeTypes: ( 1.1 NAME 'sshPublicKey' EQUALITY octetStringMatch SYNTAX 1.40 )
olcAttributeTypes: ( 1.2 NAME 'memberOf' EQUALITY distinguishedNameMatch SYNTAX 1.12 )
olcObjectClasses: ( 1.3 NAME 'ldapPublicKey' SUP top AUXILIARY MAY ( sshPublicKey $ uid ) )

dn: cn=module,cn=config
changetype: add
objectClass: olcModuleList
cn: module
olcModuleLoad: back_mdb
olcModuleLoad: unique

dn: olcDatabase={1}mdb,cn=config
changetype: modify
add: olcAccess
olcAccess: {0}to a by * none
olcAccess: {1}to dn.subtree="ou=chamberlain,${BASE}" by * none
olcAccess: {2}to c by * break
-
add: olcLimits
olcLimits: {0}dn.subtree="ou=chamberlain" size=unlimited
-
add: olcAddContentAcl
olcAddContentAcl: TRUE
-
add: olcDbIndex
olcDbIndex: uid,cn eq
olcDbIndex: member eq
-

dn: olcOverlay=unique,olcDatabase={1}mdb,cn=config
changetype: add
objectClass: olcUniqueConfig
olcOverlay: unique
olcUniqueURI: serialize ldap:///?uid?sub

dn: ou=people,${BASE}
changetype: add
objectClass: top
objectClass: organizationalUnit
ou: people
`);
});

test('our rules come before those of others, and a new one after the one before it', () => {
  const [first = '', , third = ''] = WANTED.access;
  const found = server(
    {},
    [first, 'to others by * read', third].map((rule, at) => ['olcAccess', `{${at + 1}}${rule}`]),
  );
  const [rules] = additionsTo(found, WANTED).additions.filter(({ dn }) =>
    dn.startsWith('olcDatabase='),
  );
  expect(rules?.attributes.filter(([name]) => name === 'olcAccess')).toEqual([
    ['olcAccess', `{2}to dn.subtree="ou=chamberlain,${BASE}" by * none`],
  ]);
});

test.each<[string, FoundDirectory, string]>([
  [
    'another suffix',
    { ...server({}), config: [{ dn: 'x', attributes: [['olcSuffix', 'dc=org']] }] },
    'the suffixes are: dc=org',
  ],
  ['a copy', server({}, [['olcSyncrepl', 'x']]), 'is a copy (olcSyncrepl)'],
  ['one that is read-only', server({}, [['olcReadOnly', 'TRUE']]), 'is read-only'],
  [
    'one that checks no new entries',
    server({}, [['olcAddContentAcl', 'FALSE']]),
    'olcAddContentAcl: FALSE',
  ],
  ['a login that is not the olcRootDN', { ...server({}), login: 'cn=x' }, 'and not cn=x'],
  [
    'a rule of another version',
    server({}, [['olcAccess', `{1}to * by dn.exact="cn=x,ou=chamberlain,${BASE}" read`]]),
    'does not have: remove `olcAccess: {1}to *',
  ],
  [
    'a key that must be there',
    server({
      schema: [
        "( 1.3 NAME ( 'ldapPublicKey' 'x' ) SUP top AUXILIARY MUST ( uid $ sshPublicKey ) )",
      ],
    }),
    'ldappublickey is defined otherwise there: MUST sshpublickey uid',
  ],
  [
    'the overlay memberof',
    server({
      schema: [
        "( 1.2 NAME 'memberOf' EQUALITY distinguishedNameMatch SYNTAX 1.12 NO-USER-MODIFICATION USAGE dSAOperation )",
      ],
    }),
    'the server writes it itself',
  ],
  [
    'the overlay unique with its old settings',
    server({
      config: [
        {
          dn: 'olcOverlay={0}unique,olcDatabase={1}mdb,cn=config',
          attributes: [
            ['olcOverlay', '{0}unique'],
            ['olcUniqueBase', BASE],
          ],
        },
      ],
    }),
    'write its rules as olcUniqueURI',
  ],
  [
    'an entry with other contents',
    server({
      entries: [
        {
          dn: `ou=people,${BASE}`,
          attributes: [
            ['objectClass', 'container'],
            ['ou', 'people'],
          ],
        },
      ],
    }),
    `ou=people,${BASE} is there, but without \`objectClass: organizationalUnit\``,
  ],
])('%s is a conflict', (_, found, sentence) => {
  expect(conflictsOf(found)).toContain(sentence);
});

test('a database without access rules is one, because the first rule would end what everybody may read', () => {
  const found = server({});
  const [database] = found.config as [Values];
  const attributes = database.attributes.filter(([name]) => name !== 'olcAccess');
  expect(conflictsOf({ ...found, config: [{ ...database, attributes }] })).toContain(
    'has no access rules',
  );
});

test.each<[string, FoundDirectory]>([
  ['an index of whatever kinds', server({}, [['olcDbIndex', 'cn,uid pres,sub']])],
  [
    'an entry with more',
    server({
      entries: [
        {
          dn: `OU=People,${BASE}`,
          attributes: [
            ['objectClass', 'organizationalUnit'],
            ['ou', 'People'],
            ['description', 'x'],
          ],
        },
      ],
    }),
  ],
  [
    'a schema of another name',
    server({
      schema: ["( 1.1 NAME 'sshPublicKey' DESC 'x' EQUALITY octetStringMatch SYNTAX 1.40 )"],
    }),
  ],
])('%s is none', (_, found) => {
  expect(conflictsOf(found)).toBe('');
});
