/** An LDAP directory that others use already: what `chamberlain setup` adds to it, and what it leaves. A real slapd. */
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { DIRECTORY_ACCOUNTS } from '../../deploy/ldap/render.ts';
import { makeFolder, type Server, startServer, stopServer } from '../../dev/servers/daemon.ts';
import { makePlace } from '../../dev/servers/place.ts';
import { run } from '../../dev/servers/processes.ts';
import { keepOrChoosePort } from '../../dev/servers/redis.ts';
import { ensurePassword } from '../../dev/servers/secret.ts';
import { slapdServer, type SlapdServer } from '../../dev/servers/slapd.ts';
import { directoryPlace } from '../../src/backends/ldap/directory-health.ts';
import { withHosts } from '../../src/backends/ldap/directory-hosts.ts';
import { changePassword } from '../../src/backends/ldap/directory-passwords.ts';
import { lookAtAccount, lookAtAnonymous, lookAtSlapd } from '../../src/doctor/directory.ts';
import {
  addShown,
  faultOfDirectory,
  planAdditions,
  shownPieces,
} from '../../src/setup/named-directory.ts';
import { allPieces } from '../../src/setup/pieces.ts';
import { showAddition } from '../../src/setup/directory-additions.ts';
import {
  completeAnswers,
  type DirectoryLogin,
  type NamedDirectory,
} from '../../src/setup/answers.ts';
import { type Config, readSecret } from '../../src/shared/config.ts';
import { saltedSha1 } from '../../src/secrets/secret.ts';
import { ROOT } from '../../src/shared/root.ts';
import { makeTemporaryFolder } from '../shared-servers.ts';

const BASE = 'dc=example,dc=org';
const ADMIN = `cn=admin,${BASE}`;
const PASSWORD = 'a password of theirs';
const IDS = {
  people: [{ first: 20_000, last: 49_999 }],
  tools: [{ first: 50_000, last: 59_999 }],
  realmGid: 500,
};
const PUBLIC = generateKeyPairSync('ed25519')
  .publicKey.export({ type: 'spki', format: 'pem' })
  .toString();
const dir = makeTemporaryFolder();
const { secrets, servers } = makePlace(dir);
const started: Server[] = [];

/** A server as Debian's package makes it, apart from the schema of accounts. */
const CONFIG = `dn: cn=config
objectClass: olcGlobal
cn: config

dn: cn=module{0},cn=config
objectClass: olcModuleList
cn: module{0}
olcModulePath: /usr/lib/ldap
olcModuleLoad: back_mdb
olcModuleLoad: unique.la

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file:///etc/ldap/schema/core.ldif

include: file:///etc/ldap/schema/cosine.ldif

include: file://SCHEMA

include: file:///etc/ldap/schema/inetorgperson.ldif

dn: olcDatabase={-1}frontend,cn=config
objectClass: olcDatabaseConfig
objectClass: olcFrontendConfig
olcDatabase: {-1}frontend
olcAccess: {0}to * by dn.exact=gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth manage by * break
olcAccess: {1}to dn.exact="" by * read
olcAccess: {2}to dn.base="cn=Subschema" by * read

dn: olcDatabase={0}config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: {0}config
olcRootDN: cn=admin,cn=config
olcRootPW: ${PASSWORD}
olcAccess: {0}to * by dn.exact=gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth manage by * break

dn: olcDatabase={1}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {1}mdb
olcSuffix: ${BASE}
olcRootDN: ${ADMIN}
olcRootPW: ${PASSWORD}
olcDbDirectory: DATA
olcDbIndex: objectClass eq
olcDbIndex: cn,uid pres,eq,sub
olcAccess: {0}to attrs=userPassword by self write by anonymous auth by * none
olcAccess: {1}to dn.subtree="ou=people,${BASE}" attrs=mail by dn.exact="uid=zoe,ou=people,${BASE}" write by users read by * none
olcAccess: {2}to * by dn.exact="uid=zoe,ou=people,${BASE}" write by * read

dn: olcOverlay={0}unique,olcDatabase={1}mdb,cn=config
objectClass: olcOverlayConfig
objectClass: olcUniqueConfig
olcOverlay: {0}unique
olcUniqueURI: ldap:///?mail?sub
`;

const person = (name: string, number: number) => `dn: uid=${name},ou=people,${BASE}
objectClass: inetOrgPerson
objectClass: posixAccount
uid: ${name}
cn: Somebody
sn: ${name}
mail: ${name}@example.org
uidNumber: ${number}
gidNumber: 100
homeDirectory: /home/${name}
userPassword: ${PASSWORD}
`;
const ENTRIES = `dn: ${BASE}
objectClass: dcObject
objectClass: organization
dc: example
o: Others

dn: ou=people,${BASE}
objectClass: organizationalUnit
ou: people
description: everybody

${person('zoe', 20_007)}
${person('yan', 1500)}
dn: ou=groups,${BASE}
objectClass: organizationalUnit
ou: groups

dn: cn=staff,ou=groups,${BASE}
objectClass: groupOfNames
objectClass: posixGroup
cn: staff
gidNumber: 50001
member: uid=zoe,ou=people,${BASE}
`;

const NIS = `${ENTRIES.slice(0, ENTRIES.indexOf('dn: cn=staff'))}
dn: cn=printer,${BASE}
objectClass: device
objectClass: posixAccount
cn: printer
uid: printer
uidNumber: 20008
gidNumber: 100
homeDirectory: /
`;

async function startTheirs(name: string, schema: string, entries: string): Promise<SlapdServer> {
  const folder = join(servers, name);
  const server = slapdServer(folder, { base: BASE, realm: 'tools', ids: IDS, secrets });
  const [data, config] = [join(folder, 'data'), join(folder, 'config')];
  const theirs = {
    ...server,
    async prepare() {
      for (const path of [data, config]) makeFolder(path, 'openldap', 0o700);
      const add = (database: string, input: string) =>
        run('/usr/sbin/slapadd', ['-F', config, '-n', database], { input });
      await add('0', CONFIG.replace('DATA', data).replace('SCHEMA', schema));
      await add('1', entries);
      await run('/usr/bin/chown', ['-R', 'openldap:openldap', config, data]);
      const port = join(folder, 'port');
      writeFileSync(port, String(await keepOrChoosePort(port)));
    },
  };
  started.push(theirs);
  await startServer(theirs);
  return theirs;
}

/** rfc2307bis, but an older one. */
function theirSchema(): string {
  const text = readFileSync(join(ROOT, 'deploy/ldap/schema/rfc2307bis.ldif'), 'utf8');
  const path = join(dir, 'rfc2307bis.ldif');
  writeFileSync(path, text.slice(0, text.lastIndexOf('olcObjectClasses: ')), { mode: 0o644 });
  return path;
}

let theirs: SlapdServer;
let config: Config;
let ldap: NamedDirectory & { administrator: DirectoryLogin };
beforeAll(async () => {
  for (const account of [...DIRECTORY_ACCOUNTS, 'admin'])
    ensurePassword(secrets, `ldap-${account}`);
  theirs = await startTheirs('theirs', theirSchema(), ENTRIES);
  const passwordFile = join(dir, 'password');
  writeFileSync(passwordFile, `${PASSWORD}\n`, { mode: 0o600 });
  ldap = { uri: theirs.uri, administrator: { user: ADMIN, passwordFile } };
  config = {
    ...{ realm: 'tools', secrets, ids: { ...IDS, others: [] } },
    ldap: { uri: theirs.uri, base: BASE, shared: true },
  } as unknown as Config;
}, 60_000);
afterAll(async () => {
  for (const server of started.reverse()) await stopServer(server);
  rmSync(dir, { recursive: true, force: true });
});

/** Everything that these options of ldapsearch(1) show, entry by entry, without what is new of ours. */
async function seen(uri: string, ...options: string[]): Promise<string[]> {
  const text = await run('/usr/bin/ldapsearch', [
    ...['-LLL', '-o', 'ldif-wrap=no', '-H', uri, '-b', BASE, ...options],
    ...['(objectClass=*)', '*', '+'],
  ]);
  return text
    .replaceAll(/^contextCSN: .*\n/gmu, '') // which the overlay syncprov keeps at the suffix
    .split('\n\n')
    .filter((entry) => entry.trim() !== '' && !OURS.test(entry));
}
const OURS =
  /^dn: (?:.*ou=chamberlain,|cn=chamberlain,|.*ou=(?:servicegroups|projects|ppolicies),|cn=project-tools,)/u;
const ALL = ['-x', '-D', ADMIN, '-w', PASSWORD];
const ZOE = ['-x', '-D', `uid=zoe,ou=people,${BASE}`, '-w', PASSWORD];

/** The result code of a change. */
async function change(login: readonly string[], ldif: string): Promise<number> {
  const { status } = spawnSync('/usr/bin/ldapmodify', ['-H', theirs.uri, ...login], {
    input: ldif,
    encoding: 'utf8',
  });
  return status ?? -1;
}
const as = (account: string) => [
  ...['-x', '-D', `cn=${account},ou=chamberlain,${BASE}`],
  ...['-w', readSecret(config, 'ldap', account)],
];
/** A new person, as the role writes one: without a password, and with a seal. */
const ours = (name: string, number: number, cn = name): string =>
  person(name, number)
    .replace(/^userPassword.*\n/mu, '')
    .replace('gidNumber: 100', `gidNumber: ${IDS.realmGid}`)
    .replace('cn: Somebody', `objectClass: chamberlainSealed\ncn: ${cn}`)
    .replace('\n', '\nchangetype: add\n');

const modify = (name: string, what: string): string =>
  `dn: uid=${name},ou=people,${BASE}\nchangetype: modify\n${what}\n`;

const plan = (of = ldap, ids = config.ids) =>
  planAdditions({ ...config, ids }, of, (account) => readSecret(config, 'ldap', account));
const textsOf = (found: Awaited<ReturnType<typeof plan>>) => found.map(showAddition);

test('what is missing is shown first, without secrets, and only that is added', async () => {
  const answers = completeAnswers({
    given: { realm: 'tools', base: BASE },
    rest: { ldap, ids: IDS },
  });
  const path = join(dir, 'for-administrators/directory.ldif');
  const [piece] = shownPieces(
    { ...answers, admin: { ...answers.admin, name: 'alice', signingKey: PUBLIC } },
    path,
  );
  const before = await seen(theirs.uri, ...ALL);
  const readBefore = [await seen(theirs.uri, '-x'), await seen(theirs.uri, ...ZOE)];
  expect(await piece?.check()).toBe(
    'was not shown yet: 27 additions (schemas: 4, modules: 3, access rules: 54, indexes: 5, overlays: 3, entries: 17)',
  );
  await expect(piece?.make()).rejects.toThrow('nothing was added yet: ');
  expect(await piece?.check()).toBeUndefined();
  const shown = readFileSync(path, 'utf8');
  expect(shown).not.toContain('{SSHA}');
  expect(shown).toContain('userPassword: (the hash of a secret)');
  expect(await seen(theirs.uri, ...ALL)).toEqual(before);
  const found = await plan();
  // what nobody was shown is not added
  const missing = shown.replace(textsOf(found).at(-1)?.trimEnd() ?? '', '');
  await expect(addShown(found, ldap, missing)).rejects.toThrow('has changed since');
  expect(textsOf(await plan())).toEqual(textsOf(found));
  // it may be killed after each operation: the rest is what was shown
  for (let at = 0; at < found.length; at++) {
    const rest = await plan();
    expect(textsOf(rest)).toEqual(textsOf(found).slice(at));
    await addShown(rest.slice(0, 1), ldap, shown);
  }
  expect(await plan()).toEqual([]);
  expect(await seen(theirs.uri, ...ALL)).toEqual(before);
  expect([await seen(theirs.uri, '-x'), await seen(theirs.uri, ...ZOE)]).toEqual(readBefore);
}, 60_000);

test('doctor finds nothing to correct', async () => {
  const lines = [
    ...(await Promise.all(DIRECTORY_ACCOUNTS.map((name) => lookAtAccount(config, name)))).flat(),
    ...(await lookAtAnonymous(config)),
    ...(await lookAtSlapd(config)),
  ];
  expect(lines.filter(({ state }) => state !== 'ok')).toEqual([]);
});

test('others write as before, and nobody but our accounts sees or writes what is ours', async () => {
  const theirPerson = person('xan', 1500)
    .replace('\n', '\nchangetype: add\n')
    .replace(/^userPassword: .*\n/mu, ''); // which zoe may not write, according to their rules
  expect(await change(ZOE, theirPerson)).toBe(0); // a number outside the ranges, which another one has
  expect(await change(ZOE, modify('xan', 'replace: uidNumber\nuidNumber: 20007'))).toBe(0);
  expect(await change(ZOE, modify('xan', 'replace: mail\nmail: yan@example.org'))).toBe(19); // by their own rule
  const password = modify('xan', `add: userPassword\nuserPassword: ${PASSWORD}`);
  expect(await change(ALL, password)).toBe(0);
  const self = ['-x', '-D', `uid=xan,ou=people,${BASE}`, '-w', PASSWORD];
  expect(
    await change(self, modify('xan', `replace: userPassword\nuserPassword: ${PASSWORD}`)),
  ).toBe(0);

  expect(await change(as('directory'), ours('alice', 20_100))).toBe(0);
  expect(await change(as('directory'), ours('bob', 20_100))).toBe(19);
  expect(await change(as('directory'), ours('bob', 20_101, 'alice'))).toBe(19);
  expect(await change(as('directory'), ours('bob', 1501))).toBe(19);
  const unsealed = ours('bob', 1501).replace('objectClass: chamberlainSealed\n', '');
  expect(await change(as('directory'), unsealed)).toBe(50);
  expect(await change(ALL, modify('alice', 'replace: uidNumber\nuidNumber: 0'))).toBe(19);
  for (const login of [['-x'], ZOE, self, as('sssd')]) {
    const isSeen = (await seen(theirs.uri, ...login)).some((text) => /uid=alice/u.test(text));
    expect(isSeen).toBe(login.includes(`cn=sssd,ou=chamberlain,${BASE}`));
  }
  expect(await change(ZOE, modify('alice', 'replace: mail\nmail: zoe@example.org'))).not.toBe(0);
  const admin = `cn=directory,ou=chamberlain,${BASE}`;
  expect(
    await change(ZOE, `dn: ${admin}\nchangetype: modify\nreplace: userPassword\nuserPassword: x\n`),
  ).not.toBe(0);
});

test('the account of our own admin writes our accounts, and nothing else', async () => {
  const place = directoryPlace(config);
  const password = readSecret(config, 'ldap', 'admin');
  const record = {
    kind: 'host',
    key: 'key',
    fingerprint: 'k3f9-7ht2-aaaa-bbbb',
    joinedAt: 'now',
    by: 'test',
  };
  const listed = await withHosts(place, password, async (hosts) => {
    expect(await hosts.put('host', record, saltedSha1('secret', Buffer.alloc(16)))).toBe('done');
    return hosts.list();
  });
  expect(listed).toMatchObject([{ name: 'host', hasAccess: true }]);
  const kept = saltedSha1('another', Buffer.alloc(16));
  await changePassword(place, password, { account: 'admin', operation: 'add', kept });
  await changePassword(place, 'another', { account: 'sssd', operation: 'add', kept });
  expect(await change(as('admin'), modify('zoe', 'replace: mail\nmail: x@example.org'))).not.toBe(
    0,
  );
});

test('what would have to be changed is a conflict, and nothing is added', async () => {
  const conflictsOf = (...of: Parameters<typeof plan>) =>
    plan(...of).then(String, (error: unknown) => (error as Error).message);
  // the numbers of the realm were others when the rules were added
  const tools = [{ first: 60_000, last: 69_999 }];
  expect(await conflictsOf(ldap, { ...config.ids, tools })).toMatch(
    /^is not possible there: .*a rule about Chamberlain's accounts .*; .*a rule of another version of Chamberlain/u,
  );
  const passwordFile = join(dir, 'password');
  const zoe = { user: `uid=zoe,ou=people,${BASE}`, passwordFile };
  expect(await conflictsOf({ ...ldap, administrator: zoe })).toContain('only the olcRootDN');
  expect(await conflictsOf({ ...ldap, config: zoe })).toContain('cn=config cannot be read');
  const byPassword = { ...ldap, config: { user: 'cn=admin,cn=config', passwordFile } };
  expect(await plan(byPassword)).toEqual([]);
});

test('without a login, setup knows by its own accounts whether all was done', async () => {
  expect(await faultOfDirectory(config, { uri: theirs.uri })).toBeUndefined();
  const nis = await startTheirs('nis', '/etc/ldap/schema/nis.ldif', NIS);
  const place = { ...config, ldap: { ...config.ldap, uri: nis.uri } };
  expect(await faultOfDirectory(place, { uri: nis.uri })).toContain('cannot log in');
});

test('the schema nis is refused, and so are numbers of the realm in places where surveys do not look', async () => {
  const nis = started.at(-1) as SlapdServer;
  const place = { ...ldap, uri: nis.uri };
  await expect(plan(place)).rejects.toThrow(
    /^is not possible there: posixGroup is structural there \(the schema nis\).*; numbers .* \(1\), such as 20008 of cn=printer,\S+: choose other ranges for `ids`$/u,
  );
});

test('setup shows the additions before all else, makes no slapd, and remembers who is there before the first admin', () => {
  const answers = completeAnswers({ given: { realm: 'tools', base: BASE }, rest: { ldap } });
  const names = allPieces(answers).map(({ name }) => name);
  expect(names[0]).toBe(`what setup adds to the directory at ${theirs.uri}`);
  expect(names.filter((name) => name.includes('slapd'))).toEqual([]);
  const remembered = names.indexOf('the names and numbers of others in the directory');
  const admin = names.indexOf('the first admin');
  expect([remembered > 0, admin]).toEqual([true, remembered + 1]);
});
