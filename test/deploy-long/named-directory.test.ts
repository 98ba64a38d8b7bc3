/** `chamberlain setup` with a directory that others use already, on another machine: Debian's slapd, without its schema nis. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { blockOf } from '../page-blocks.ts';
import { ANSWERS, AS_ALICE, bootBare, IMAGES, REALM_ADDRESS, SETUP } from './bare-machine.ts';
import { sharedDaemon } from './daemon.ts';
import { type Machine, machinesOf } from './systemd-machines.ts';

const machines = machinesOf(sharedDaemon(), 'directory');

const BASE = 'dc=example,dc=org';
const ADMIN = `cn=admin,${BASE}`;
const PASSWORD = 'a-password-of-theirs';
const HOST = 'ldap.example.org';
const URI = `ldaps://${HOST}`;

/** People and groups of others, with numbers that Chamberlain would give. */
const THEIRS = `dn: ou=people,${BASE}
objectClass: organizationalUnit
ou: people

dn: uid=zoe,ou=people,${BASE}
objectClass: inetOrgPerson
objectClass: posixAccount
uid: zoe
cn: Zoe
sn: Z
mail: zoe@example.org
uidNumber: 20000
gidNumber: 100
homeDirectory: /home/zoe
userPassword: ${PASSWORD}

dn: ou=groups,${BASE}
objectClass: organizationalUnit
ou: groups

dn: cn=staff,ou=groups,${BASE}
objectClass: posixGroup
cn: staff
gidNumber: 50001
memberUid: zoe
`;
/** slapd as Debian's package makes it, with a login for cn=config, and reached by TLS. */
const THERE = `
  set -e; cd /root
  printf 'slapd slapd/%s\\n' 'domain string example.org' 'password1 password ${PASSWORD}' \
    'password2 password ${PASSWORD}' 'no_configuration boolean false' | debconf-set-selections
  rm -rf /etc/ldap/slapd.d /var/lib/ldap/*
  DEBIAN_FRONTEND=noninteractive dpkg-reconfigure slapd
  openssl req -x509 -noenc -newkey rsa:2048 -keyout own.key -out /srv/ca.pem -subj /CN=mine -days 999
  openssl req -x509 -noenc -newkey rsa:2048 -keyout /srv/key.pem -out /srv/certificate.pem -subj /CN=${HOST} \
    -days 99 -addext subjectAltName=DNS:${HOST} -addext basicConstraints=critical,CA:FALSE -CA /srv/ca.pem -CAkey own.key
  chown openldap /srv/key.pem
  sed -i 's,^SLAPD_SERVICES=.*,SLAPD_SERVICES="ldapi:/// ldaps:///",' /etc/default/slapd
  systemctl restart slapd
  printf '%s\\n' 'dn: cn=config' 'changetype: modify' 'add: olcTLSCertificateKeyFile' \
    'olcTLSCertificateKeyFile: /srv/key.pem' '-' 'add: olcTLSCertificateFile' \
    'olcTLSCertificateFile: /srv/certificate.pem' '' 'dn: olcDatabase={0}config,cn=config' 'changetype: modify' \
    'replace: olcRootPW' 'olcRootPW: ${PASSWORD}' | ldapmodify -Q -Y EXTERNAL -H ldapi:///
  ldapadd -x -H ldapi:/// -D ${ADMIN} -w ${PASSWORD}`;

let directory: Machine;
let realm: Machine;
beforeAll(async () => {
  directory = await machines.boot('theirs', { image: IMAGES.bare, address: HOST });
  directory.write('/root/theirs.ldif', THEIRS);
  directory.run('sh', '-c', `${THERE} -f theirs.ldif`);
  const login = (user: string) => `{ user: "${user}", passwordFile: /root/password }`;
  const ldap =
    `ldap: { uri: "${URI}", caFile: /srv/ca.pem, administrator: ${login(ADMIN)}, ` +
    `config: ${login('cn=admin,cn=config')} }\n`;
  const where = { address: REALM_ADDRESS };
  realm = await bootBare(machines, 'realm', { answers: `${ANSWERS}${ldap}`, ...where });
  realm.write('/srv/ca.pem', directory.run('cat', '/srv/ca.pem'));
  realm.write('/root/password', `${PASSWORD}\n`);
});
afterAll(() => machines.removeAll());

const SHOWN = '/etc/chamberlain/for-administrators/directory.ldif';

/** The entries of others, after the exchange of the schema. */
let theirs: string[];
/** What the directory contains, entry by entry, to the last byte. Something of ours makes the server keep contextCSN. */
const entries = (): string[] =>
  directory
    .run('slapcat', '-n', '1', '-o', 'ldif-wrap=no')
    .replaceAll(/^contextCSN: .*\n/gmu, '')
    .split('\n\n')
    .filter((entry) => entry !== '');
const dns = () => entries().map((entry) => /^dn: (\S+)/u.exec(entry)?.[1]);
/** What others see, without those that are new and that they may see, too. */
const seenByOthers = (): string =>
  directory.run('ldapsearch', '-x', '-LLL', '-H', 'ldapi:///', '-b', `ou=people,${BASE}`) +
  directory.run('ldapsearch', '-x', '-LLL', '-H', 'ldapi:///', '-b', `cn=staff,ou=groups,${BASE}`);

test('with the schema nis, setup says why not, and changes nothing', () => {
  const before = directory.run('slapcat', '-n', '0');
  const { status, stderr } = realm.start(...SETUP);
  expect([status, stderr]).toEqual([1, expect.stringContaining('(the schema nis)')]);
  expect(directory.run('slapcat', '-n', '0')).toBe(before);
});

test('the schema can be exchanged as docs/install.md says', () => {
  const schema = '/usr/lib/chamberlain/deploy/ldap/schema/rfc2307bis.ldif';
  expect(blockOf('install:nis')).toContain(`schema=${schema} `);
  const before = entries();
  directory.run('sh', '-c', blockOf('install:nis'));
  const withClass = (entry: string) =>
    entry
      .replace(/^objectClass: posixGroup$/mu, '$&\nobjectClass: groupOfMembers')
      .replace(/^structuralObjectClass: posixGroup$/mu, 'structuralObjectClass: groupOfMembers');
  theirs = entries();
  expect(theirs).toEqual(before.map(withClass));
});

test('setup shows what it would add, and stops; then it adds that, and doctor finds nothing to correct', () => {
  const seen = seenByOthers();
  expect(realm.run(...SETUP, '--print')).toMatch(
    /^make {2}what setup adds to the directory at \S+ was not shown yet: .*access rules/mu,
  );
  const first = realm.start(...SETUP);
  expect([first.status, first.stderr]).toEqual([
    1,
    expect.stringContaining(`${SHOWN} says what will be added`),
  ]);
  expect(realm.run('cat', SHOWN)).not.toMatch(/\{SSHA\}/u);
  expect(entries()).toEqual(theirs);

  const second = realm.start(...SETUP);
  expect([second.status, second.stdout]).toEqual([
    0,
    expect.stringMatching(/^0 fix, 0 unreadable, /mu),
  ]);
  expect(entries()).toEqual(expect.arrayContaining(theirs));
  expect(seenByOthers()).toBe(seen);
  expect(realm.run(...SETUP)).toMatch(/^nothing was to be done\n/u);
});

test('without the logins, --check finds nothing to do', () => {
  realm.run('rm', '/root/password', SHOWN);
  expect(realm.run('chamberlain', 'setup', '--check')).toBe('everything is as it must be\n');
  expect(realm.run('chamberlain', 'setup')).toMatch(/^nothing was to be done\n/u);
  expect(realm.run('cat', '/etc/chamberlain/config.yaml')).not.toContain(ADMIN);
});

test('a person and a tool get numbers that others do not have, and nothing of others is changed', () => {
  const submit = (request: string) =>
    realm.run('sh', '-c', `chamberlain submit ${request} ${AS_ALICE} --wait`);
  submit('person.create --shellName bob --displayName B --email bob@example.org');
  submit('access.grant --person bob');
  submit('tool.create --name bot --title T --maintainers bob');
  expect(dns()).toEqual(
    expect.arrayContaining([`uid=bob,ou=people,${BASE}`, `cn=tools.bot,ou=servicegroups,${BASE}`]),
  );
  const numbers = entries().flatMap((entry) => entry.match(/(?<=^uidNumber: )\d+$/gmu) ?? []);
  // zoe has the first of people, and staff the second of tools
  expect(numbers.toSorted()).toEqual(['20000', '20001', '20002', '50000', '50002']);
  expect(entries()).toEqual(expect.arrayContaining(theirs));
  const { status, stdout } = realm.start('chamberlain', 'list', 'unmanaged');
  expect([status, stdout]).toEqual([3, expect.stringMatching(/^uid=zoe,[^]*^cn=staff,/mu)]);
  expect(realm.run('chamberlain', 'doctor')).toMatch(/^0 fix, 0 unreadable, /mu);
});

test('--uninstall leaves what it has added, and says so', () => {
  const before = dns();
  expect(realm.run('chamberlain', 'setup', '--uninstall')).toContain(
    `what was added to the directory at ${URI} stays there`,
  );
  expect(dns()).toEqual(before);
  expect(entries()).toEqual(expect.arrayContaining(theirs));
});
