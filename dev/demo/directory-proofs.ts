/** Proves with ldapsearch what the requests have changed in the directory. */
import { createHash, createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Numbers } from './numbers.ts';
import { searchDirectory, type StackEnvironment } from './outside.ts';
import { attempt, chapter, check, checkSame, remark } from './output.ts';

/** The entries' exact shapes: nothing else may be in them. */
export async function proveDirectory(env: StackEnvironment, numbers: Numbers): Promise<void> {
  chapter('The directory, as ldapsearch shows it');
  const people = `ou=people,${env['LDAP_BASE']}`;
  const toolAccounts = `ou=people,ou=servicegroups,${env['LDAP_BASE']}`;

  const [alice] = await searchDirectory(env, '(uid=alice)');
  remark([`dn: ${alice?.dn}`, ...(alice?.lines ?? [])].map((line) => line.slice(0, 90)).join('\n'));
  const [key = ''] = (alice?.lines ?? []).filter((line) => line.startsWith('sshPublicKey: '));
  await proveEntry(
    env,
    'alice: a person, the new address, one key left, and its label',
    `uid=alice,${people}`,
    `objectClass: chamberlainMember
     objectClass: chamberlainSealed
     objectClass: inetOrgPerson
     objectClass: ldapPublicKey
     objectClass: person
     objectClass: posixAccount
     uid: alice
     cn: Alice Arnold
     sn: Alice Arnold
     uidNumber: ${numbers.alice}
     gidNumber: 500
     homeDirectory: /home/alice
     loginShell: /bin/bash
     mail: alice@example.net
     ${key}
     memberOf: cn=project-tools,ou=groups,${env['LDAP_BASE']}
     memberOf: cn=tools.bridgebot,ou=servicegroups,${env['LDAP_BASE']}
     description: ${fingerprintOf(key)} alice@laptop`,
  );
  proveSeal(env, alice?.lines ?? [], key.slice('sshPublicKey: '.length));
  check(
    'her key is one canonical line, without its comment',
    /^sshPublicKey: ssh-ed25519 [A-Za-z0-9+/]+=*$/.test(key),
    `${key.slice(14, 40)}…`,
  );
  await proveTool(
    env,
    'bridgebot',
    numbers.bridgebot,
    [`uid=alice,${people}`, `uid=bob,${people}`, `uid=tools.bridgebot,${toolAccounts}`],
    ['bridgebot', 'archivebot'],
  );
  await proveTool(
    env,
    'archivebot',
    numbers.archivebot,
    [
      `uid=bob,${people}`,
      `uid=tools.archivebot,${toolAccounts}`,
      `uid=tools.bridgebot,${toolAccounts}`,
    ],
    ['archivebot'],
  );
  await attempt('the realm group', async () => {
    const [group] = await searchDirectory(env, '(cn=project-tools)', 'member');
    const seen = ['steward', 'alice', 'bob', 'carol', 'dave']
      .filter((name) => group?.lines.includes(`member: uid=${name},${people}`))
      .join(' ');
    checkSame('the realm group: carol was refused, dave has left', seen, 'steward alice bob');
  });
}

async function proveTool(
  env: StackEnvironment,
  name: string,
  number: number,
  members: readonly string[],
  memberOf: readonly string[],
): Promise<void> {
  const base = env['LDAP_BASE'];
  await proveEntry(
    env,
    `${name}: the group, and its members`,
    `cn=tools.${name},ou=servicegroups,${base}`,
    `objectClass: groupOfNames
     objectClass: posixGroup
     cn: tools.${name}
     gidNumber: ${number}
     ${members.map((dn) => `member: ${dn}`).join('\n')}`,
  );
  await proveEntry(
    env,
    `${name}: the account, uid = gid`,
    `uid=tools.${name},ou=people,ou=servicegroups,${base}`,
    `objectClass: chamberlainMember
     objectClass: chamberlainSealed
     objectClass: person
     objectClass: posixAccount
     objectClass: shadowAccount
     objectClass: top
     uid: tools.${name}
     cn: tools.${name}
     sn: tools.${name}
     uidNumber: ${number}
     gidNumber: ${number}
     homeDirectory: /data/project/${name}
     ${memberOf.map((of) => `memberOf: cn=tools.${of},ou=servicegroups,${base}`).join('\n')}
     loginShell: /bin/bash`,
  );
  await proveEntry(
    env,
    `${name}: the sudo rule, only for its members`,
    `cn=runas-tools.${name},ou=sudoers,cn=tools,ou=projects,${base}`,
    `objectClass: sudoRole
     cn: runas-tools.${name}
     sudoUser: %tools.${name}
     sudoHost: ALL
     sudoCommand: ALL
     sudoOption: !authenticate
     sudoRunAsUser: tools.${name}`,
  );
}

/** The fingerprint that ssh-keygen -l prints, from a line `sshPublicKey: type base64`. */
function fingerprintOf(line: string): string {
  const blob = Buffer.from(line.split(' ')[2] ?? '', 'base64');
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/** The seal verifies with the public key of the realm, and says what the entry says. */
function proveSeal(env: StackEnvironment, lines: readonly string[], key: string): void {
  const [, signature = '', payload = ''] =
    /^chamberlainSeal: [0-9a-f]{16} (\S+) (\{.*\})$/.exec(lines.find(isSeal) ?? '') ?? [];
  const publicKey = createPublicKey(readFileSync(join(env['SECRETS'] ?? '', 'seal-key')));
  const signed = Buffer.from(`chamberlain-seal-1\n${payload}`);
  const isSigned = verify(null, signed, publicKey, Buffer.from(signature, 'base64'));
  check(
    'her seal for login hosts verifies, and holds the same key',
    isSigned && payload.includes(`"keys":[${JSON.stringify(key)}]`),
    payload.slice(0, 60),
  );
}

function isSeal(line: string): boolean {
  return line.startsWith('chamberlainSeal: ');
}

/** The entry has these lines and no others, except the seal. */
async function proveEntry(
  env: StackEnvironment,
  what: string,
  dn: string,
  ldif: string,
): Promise<void> {
  await attempt(what, async () => {
    const [rdn = ''] = dn.split(',');
    const found = (await searchDirectory(env, `(${rdn})`)).find((entry) => entry.dn === dn);
    if (found === undefined) throw new Error(`the entry ${dn} does not exist`);
    const wanted = new Set(ldif.split('\n').map((line) => line.trim()));
    const seen = found.lines.filter((line) => !isSeal(line));
    const odd = [...wanted.symmetricDifference(new Set(seen))];
    check(what, odd.length === 0, odd.length === 0 ? rdn : `not as it must be: ${odd.join(' · ')}`);
  });
}
