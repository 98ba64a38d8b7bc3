/** `chamberlain-whoami`, by the real sudo in a machine of its own, about a real directory. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { appendFileSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { openMachine, type Ended, type Machine } from '../../dev/servers/private-machine.ts';
import { parseSshKey } from '../../src/model/ssh-key.ts';
import { changeDirectory } from '../scenarios/outside.ts';
import { openWorld, runningPid, signalTree, type World } from '../stack.ts';
import { modify, newKey, person } from './agent-world.ts';

const PROJECT = join(import.meta.dirname, '../..');
const KEYS = '/var/lib/chamberlain/keys';
const AGENT_UID = 990;

const [laptop, office, phone] = [newKey(), newKey(), newKey()];
const print = (line: string) => {
  const verdict = parseSshKey(line);
  return verdict.ok ? verdict.key.fingerprint : '';
};

let world: World;
let machine: Machine;
let uid: number;
let toolUid: number;
/** the first does not answer */
let uris: string[];

beforeAll(async () => {
  world = await openWorld('whoami', { needs: ['slapd'] });
  uid = world.config.ids.people[0]!.first;
  toolUid = world.config.ids.tools[0]!.first;
  const { base } = world.config.ldap;
  const member = (name: string) => `member: uid=${name},ou=people,${base}`;
  const tool = (name: string) => `member: uid=tools.${name},ou=people,ou=servicegroups,${base}`;
  await change(
    person(base, 'alice', uid, [
      `from="127.0.0.1",expiry-time="21000401120000Z" ${laptop}`,
      office,
      'ssh-ed25519 AAAA',
    ]),
    person(base, 'bob', uid + 1, []),
    person(base, 'carol', uid + 2, [office]),
    modify(
      `uid=alice,ou=people,${base}`,
      ['add', 'description', `${print(laptop)} my \u001b[2Jlaptop`, 'grows beans'],
      ['add', 'mail', 'alice@example.org'],
      // how her password must be, for whoever binds as her: that locks nobody
      ['add', 'pwdPolicySubentry', `cn=strict,ou=ppolicies,${base}`],
    ),
    modify(`uid=bob,ou=people,${base}`, ['add', 'pwdAccountLockedTime', '000001010000Z']),
    modify(`cn=project-tools,ou=groups,${base}`, ['add', 'member', `uid=alice,ou=people,${base}`]),
    ...['bridge', 'wiki', 'far'].flatMap((name, index) => [
      toolAccount(name, toolUid + index),
      toolGroup(name, toolUid + index, [
        tool(name),
        ...(name === 'far' ? [tool('wiki')] : [member('alice')]),
      ]),
    ]),
  );
  machine = await openMachine([{ from: PROJECT, at: '/opt/chamberlain', readOnly: true }]);
  uris = ['ldap://127.0.0.1:1', world.slapd.tcpUri()];
  await prepare();
});

afterAll(async () => {
  await machine.close();
  await world.close();
});

/** What `install` does, as far as this goes; people are local accounts, for want of an sssd. */
async function prepare(): Promise<void> {
  const accounts: [string, number][] = [
    ['chamberlain-keys', AGENT_UID],
    ['alice', uid],
    ['bob', uid + 1],
    ['carol', 4242],
    ['tools.wiki', toolUid + 1],
  ];
  appendFileSync(
    inside('/etc/passwd'),
    accounts.map(([name, id]) => `${name}:*:${id}:100::/tmp:/bin/sh\n`).join(''),
  );
  appendFileSync(inside('/etc/shadow'), accounts.map(([name]) => `${name}:*:1::::::\n`).join(''));
  for (const folder of ['/etc/chamberlain', '/usr/lib/chamberlain', KEYS]) {
    mkdirSync(inside(folder), { recursive: true });
  }
  copyFileSync(
    join(PROJECT, 'deploy/login-host/templates/sudoers'),
    inside('/etc/sudoers.d/chamberlain'),
  );
  copyFileSync(
    join(PROJECT, 'deploy/login-host/chamberlain-whoami'),
    inside('/usr/bin/chamberlain-whoami'),
  );
  const program = '/opt/chamberlain/node_modules/.bin/node /opt/chamberlain/src/bin/whoami.ts';
  const wrapper = `#!/bin/sh\nexec ${program} "$@"\n`;
  writeFileSync(inside('/usr/lib/chamberlain/whoami'), wrapper, { mode: 0o755 });
  writeFileSync(
    inside('/etc/chamberlain/password'),
    readFileSync(join(world.config.secrets, 'ldap-keys-agent')),
    { mode: 0o400 },
  );
  await machine.must(['chown', 'chamberlain-keys', '/etc/chamberlain/password', KEYS]);
  await machine.must(['chmod', '440', '/etc/sudoers.d/chamberlain']);
  configure({ uris });
}

function configure(changes: { uris: readonly string[]; knownBadKeys?: string[] }): void {
  const { uris: asked, ...others } = changes;
  const { ids, ldap } = world.config;
  writeFileSync(
    inside('/etc/chamberlain/login-host.yaml'),
    stringify({
      realm: 'tools',
      ids: { people: ids.people, tools: ids.tools },
      ldap: { uris: asked, base: ldap.base, passwordFile: '/etc/chamberlain/password' },
      ...others,
    }),
  );
}

function inside(path: string): string {
  return join(machine.root, path);
}

async function change(...ldif: string[]): Promise<void> {
  await changeDirectory(world, 'ldapmodify', ldif.join('\n'));
}

function toolAccount(name: string, id: number): string {
  return `dn: uid=tools.${name},ou=people,ou=servicegroups,${world.config.ldap.base}
changetype: add
objectClass: person
objectClass: posixAccount
uid: tools.${name}
cn: tools.${name}
sn: tools.${name}
uidNumber: ${id}
gidNumber: ${id}
homeDirectory: /data/project/${name}
`;
}

function toolGroup(name: string, id: number, members: string[]): string {
  return `dn: cn=tools.${name},ou=servicegroups,${world.config.ldap.base}
changetype: add
objectClass: groupOfNames
objectClass: posixGroup
cn: tools.${name}
gidNumber: ${id}
${members.join('\n')}
`;
}

async function whoami(user: string, ...args: string[]): Promise<Ended> {
  return machine.run(['/usr/bin/chamberlain-whoami', ...args], { user });
}

async function ask(user: string): Promise<{ code: number | null; answer: unknown }> {
  const { code, stdout, stderr } = await whoami(user, '--json');
  return { code, answer: stdout === '' ? stderr : JSON.parse(stdout) };
}

/** What sshd is given for alice; times are days from now. */
function writeKeyFile(...lines: [key: string, days: number][]): void {
  const text = lines.map(([key, days]) => `expiry-time="${digits(timeIn(days))}" ${key}\n`);
  writeFileSync(inside(`${KEYS}/alice`), text.join(''));
}

function timeIn(days: number): string {
  const time = new Date(Date.now() + days * 86_400_000);
  return `${time.toISOString().slice(0, 10)}T12:00:00Z`;
}

function digits(time: string): string {
  return time.replaceAll(/[-:T]/g, '');
}

test('a person sees access, tools, and each key with its label, end, and until when it is taken', async () => {
  writeKeyFile([laptop, 2], [phone, -2]);
  const key = { type: 'ssh-ed25519', label: '', options: [], end: null, takenUntil: null };
  const { code, answer } = await ask('alice');
  expect(code).toBe(0);
  expect(answer).toEqual({
    name: 'alice',
    uid,
    realm: 'tools',
    kind: 'person',
    unreadable: null,
    locked: false,
    realmMember: true,
    tools: ['bridge', 'wiki'],
    maintainers: null,
    keys: expect.arrayContaining([
      {
        ...key,
        fingerprint: print(laptop),
        label: 'my \u001b[2Jlaptop',
        options: ['from="127.0.0.1"'],
        end: '2100-04-01T12:00:00Z',
        takenUntil: timeIn(2),
      },
      { ...key, fingerprint: print(office) },
      { ...key, fingerprint: print(phone) },
    ]),
    refusedKeys: [expect.stringMatching(/^KEY_MALFORMED: /)],
  });
  expect((answer as { keys: unknown[] }).keys).toHaveLength(3);
});

test('a key that this host’s configuration knows as bad is not taken', async () => {
  configure({ uris, knownBadKeys: [print(office)] });
  try {
    expect((await ask('alice')).answer).toMatchObject({
      refusedKeys: expect.arrayContaining([expect.stringMatching(/^KEY_KNOWN_BAD: /)]),
    });
  } finally {
    configure({ uris });
  }
});

test('it is a text for people, too, which steers no terminal', async () => {
  writeKeyFile([laptop, 2]);
  const { code, stdout, stderr } = await whoami('alice');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).not.toContain('\u001b');
  const lines = stdout.split('\n').map((text) => text.replaceAll(/ {2,}/g, ' | '));
  expect(lines).toEqual([
    `alice | person ${uid}`,
    ' | access | to the realm tools',
    ' | state | active',
    ' | tools | bridge',
    ' | wiki',
    '',
    'key | fingerprint | label | options | ends | taken until',
    `ssh-ed25519 | ${print(laptop)} | my ?[2Jlaptop | from="127.0.0.1" | 2100-04-01T12:00:00Z | ${timeIn(2)}`,
    `ssh-ed25519 | ${print(office)} | - | - | - | not taken`,
    expect.stringMatching(/^A key in the directory is not taken\. KEY_MALFORMED: /),
    expect.stringMatching(/^The last column /),
    '',
  ]);
});

test('who is locked and has no access is told so', async () => {
  const { code, stdout } = await whoami('bob');
  expect(code).toBe(0);
  expect(stdout).toMatch(
    /access +none to the realm tools\n +state +locked\n +tools +none\n\nno keys\n/,
  );
});

test('a tool sees its maintainers, and the tools that it maintains', async () => {
  const { code, answer } = await ask('tools.wiki');
  expect(code).toBe(0);
  expect(answer).toMatchObject({
    kind: 'tool',
    realmMember: null,
    locked: false,
    maintainers: ['alice'],
    tools: ['far'],
    keys: [],
  });
  expect((await whoami('tools.wiki')).stdout).not.toContain('key');
});

test('a local account learns nothing of the person who has its name and another number', async () => {
  expect(await ask('carol')).toEqual({
    code: 1,
    answer: expect.stringMatching(
      /^PERSON_UNKNOWN: carol \(uid 4242\) is an account of this host, not of the realm\./,
    ),
  });
});

test('it answers about nobody but who asks', async () => {
  expect(await whoami('alice', 'bob')).toMatchObject({ code: 2, stdout: '' });
  expect(await whoami('alice', '--config', '/tmp/x')).toMatchObject({ code: 2, stdout: '' });
  const asBob = machine.run(['env', 'SUDO_USER=bob', '/usr/bin/chamberlain-whoami'], {
    user: 'alice',
    env: { SUDO_USER: 'bob', SUDO_UID: String(uid + 1) },
  });
  expect((await asBob).stdout).toMatch(/^alice {2}person /);
  // without sudo, it does not know who asks
  const bare = await machine.run(['/usr/lib/chamberlain/whoami']);
  expect(bare).toMatchObject({ code: 2, stdout: '' });
});

test('what this host knows alone is shown where the directory hangs, and it does not wait for that', async () => {
  writeKeyFile([laptop, 2]);
  const pid = runningPid(world.slapd) ?? 0;
  signalTree(pid, 'SIGSTOP');
  try {
    // frozen until this has answered
    const { code, answer } = await ask('alice');
    expect(code).toBe(4);
    expect(answer).toMatchObject({
      name: 'alice',
      unreadable: expect.stringContaining('directory'),
      locked: null,
      realmMember: null,
      tools: null,
      keys: [{ fingerprint: print(laptop), label: '', end: null, takenUntil: timeIn(2) }],
    });
  } finally {
    signalTree(pid, 'SIGCONT');
  }
});

test('the help says what is shown', async () => {
  const { code, stdout } = await whoami('alice', '--help');
  expect(code).toBe(0);
  expect(stdout).toMatch(/^Usage: chamberlain-whoami \[--json\]\n/);
});

test('a directory that lets us read nothing is unreadable, not empty', async () => {
  const password = inside('/etc/chamberlain/password');
  const right = readFileSync(password);
  writeFileSync(password, 'wrong');
  try {
    const { code, stdout } = await whoami('alice');
    expect(code).toBe(4);
    expect(stdout).toMatch(
      /\n {2}The directory could not be read\. This is what this host knows alone\.\n/,
    );
    expect(stdout).not.toMatch(/none|wrong/);
  } finally {
    writeFileSync(password, right);
  }
});

test('nor is one whose marker cannot be seen', async () => {
  const marker = `dn: cn=chamberlain,${world.config.ldap.base}\nchangetype: `;
  await change(`${marker}delete\n`);
  try {
    expect(await ask('alice')).toMatchObject({ code: 4, answer: { realmMember: null } });
  } finally {
    await change(`${marker}add\nobjectClass: applicationProcess\ncn: chamberlain\n`);
  }
});
