/** `chamberlain-whoami`, by the real sudo, in a machine of its own with the files that the login helper writes. */
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { INSTALL, openBareHost } from '../../dev/servers/login-host.ts';
import type { Ended, Machine } from '../../dev/servers/private-machine.ts';
import { PLACES } from '../../src/login-host/places.ts';
import { writeStatus, type LoginStatus } from '../../src/login-host/status.ts';
import { parseSshKey } from '../../src/ssh-keys/ssh-key.ts';
import { newSealKey } from './seal-key.ts';

const OWN_KEYS = '/usr/lib/chamberlain/own-keys';
/** What Node has compiled for each of them: root's is not theirs to write. */
const COMPILED = '/var/cache/compiled-for-people';
const UIDS = { alice: 20_001, bob: 20_002, carol: 20_003, dora: 20_004 };
const print = (line: string) => {
  const verdict = parseSshKey(line);
  return verdict.ok ? verdict.key.fingerprint : '';
};

let machine: Machine;
/** type and base64 */
let laptop: string;
let office: string;

beforeAll(async () => {
  machine = await openBareHost();
  await machine.must(['mkdir', '-m', '1777', COMPILED]);
  put('/root/agent', 'a-secret');
  put('/root/seal.pub', newSealKey().publicPem);
  await machine.must([
    ...[INSTALL, '--ldap-uri', 'ldap://127.0.0.1:1', '--base', 'dc=example,dc=org'],
    ...['--agent-password-file', '/root/agent', '--seal-key', '/root/seal.pub'],
  ]);
  [laptop, office] = [await newKey('laptop'), await newKey('office')];
  const tools = ['wiki', 'far', 'off'].map((tool, n) => {
    const [gecos, shell] =
      tool === 'off' ? ['disabled - It \u001b[2Jfloods', 'disabledtoolshell'] : ['', 'bash'];
    return `tools.${tool}:*:${50_001 + n}:${50_001 + n}:${gecos}:/data/project/${tool}:/bin/${shell}\n`;
  });
  const people = Object.entries(UIDS).map(
    ([name, uid]) => `${name}:*:${uid}:500::/home/${name}:/bin/bash\n`,
  );
  put(join(PLACES.extrausers, 'passwd'), [...tools, ...people].join(''));
  put(
    join(PLACES.extrausers, 'shadow'),
    [...tools, ...people].map((line) => `${line.split(':')[0]}:*:::::::\n`).join(''),
  );
  put(
    join(PLACES.extrausers, 'group'),
    `project-tools:*:500:
tools.wiki:*:50001:alice,bob
tools.far:*:50002:aliceandbob,tools.wiki
tools.off:*:50003:alice
other.wiki:*:50004:alice
`,
  );
  put(join(PLACES.login, 'closed'), 'bob\ntools.off\n');
  // a local account that was made since: it has carol's name, and another number
  appendFileSync(
    inside('/etc/passwd'),
    'carol:x:4242:4242::/:/bin/sh\nlocal:x:4243:4243::/:/bin/sh\n',
  );
  appendFileSync(inside('/etc/shadow'), 'carol:*:1::::::\nlocal:*:1::::::\n');
  await writeKeys('carol', `${office}\n`);
});
beforeEach(async () => {
  await writeKeys('alice', '');
  tell({});
});
afterAll(() => machine.close());

const inside = (path: string): string => join(machine.root, path);
const put = (path: string, text: string): void => writeFileSync(inside(path), text);

async function newKey(name: string): Promise<string> {
  await machine.must(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', `/root/${name}`]);
  const line = await machine.must(['cat', `/root/${name}.pub`]);
  return line.split(' ').slice(0, 2).join(' ');
}

/** As the login helper leaves it. */
async function writeKeys(name: string, text: string): Promise<void> {
  const file = join(PLACES.keys, name);
  put(file, text);
  await machine.must(['/bin/chgrp', 'chamberlain-lookup', file]);
  await machine.must(['/bin/chmod', '640', file]);
}

/** What the login helper says of itself. */
function tell(changes: Partial<LoginStatus>): void {
  writeStatus(inside(PLACES.login), {
    ...{ pid: 1, startedAt: 0, at: Date.now(), trusted: true, server: '', offlineLimitSeconds: 60 },
    ...{ people: 4, tools: 3, files: 2, refused: [], refusedInAll: 0, unwritten: [] },
    ...changes,
  });
}

const as = (uid: number): string[] => [
  '/usr/bin/setpriv',
  ...[`--reuid=${uid}`, '--regid=500', '--clear-groups'],
];
const whoami = (uid: number, ...args: string[]): Promise<Ended> =>
  machine.run([...as(uid), '/usr/bin/chamberlain-whoami', ...args], {
    env: { NODE_COMPILE_CACHE: COMPILED },
  });
const ownKeys = (uid: number, ...options: string[]): Promise<Ended> =>
  machine.run([...as(uid), 'sudo', '-n', ...options]);

async function ask(uid: number): Promise<unknown> {
  const { code, stdout, stderr } = await whoami(uid, '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout);
}

const NOW = Date.now();
/** Days from now. */
function timeIn(days: number): string {
  const time = new Date(NOW + days * 86_400_000);
  return `${time.toISOString().slice(0, 10)}T12:00:00Z`;
}
const expiry = (days: number): string => `expiry-time="${timeIn(days).replaceAll(/[-:T]/g, '')}"`;

test('a person sees the tools that they may become, and until when each key is taken', async () => {
  const lines = [`from="127.0.0.1",${expiry(2)} ${laptop}`, `${expiry(-2)} ${office}`];
  await writeKeys('alice', `${lines.join('\n')}\n`);
  expect(await ask(UIDS.alice)).toEqual({
    ...{ name: 'alice', uid: UIDS.alice, realm: 'tools', kind: 'person' },
    ...{ state: 'active', reason: null, tools: ['wiki'], maintainers: null },
    keys: [
      {
        ...{ type: 'ssh-ed25519', fingerprint: print(laptop), options: ['from="127.0.0.1"'] },
        takenUntil: timeIn(2),
      },
      { type: 'ssh-ed25519', fingerprint: print(office), options: [], takenUntil: null },
    ],
    ...{ refused: null, trouble: null },
  });
});

test('it is a text for people, too, which steers no terminal', async () => {
  await writeKeys('alice', `${expiry(2)} ${laptop}\n`);
  const { code, stdout, stderr } = await whoami(UIDS.alice);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout.split('\n').map((text) => text.replaceAll(/ {2,}/g, ' | '))).toEqual([
    `alice | person ${UIDS.alice}`,
    ' | access | to the realm tools',
    ' | tools | wiki',
    '',
    'key | fingerprint | options | accepted until',
    `ssh-ed25519 | ${print(laptop)} | - | ${timeIn(2)}`,
    expect.stringMatching(/times in the last column /),
    '',
  ]);
  const off = await whoami(50_003);
  expect(off.stdout).toContain('  state         disabled: It ?[2Jfloods\n');
});

test('a person without access is told so', async () => {
  const { stdout } = await whoami(UIDS.bob);
  expect(stdout).toMatch(/access +none to the realm tools\n +tools +wiki\n\nno keys\n/);
  expect(await ask(UIDS.bob)).toMatchObject({ state: 'closed', keys: [] });
});

test('a tool sees its maintainers, and the tools that it may become', async () => {
  expect(await ask(50_001)).toMatchObject({
    ...{ name: 'tools.wiki', kind: 'tool', state: 'active', keys: [] },
    ...{ maintainers: ['alice', 'bob'], tools: ['far'] },
  });
  expect(await ask(50_003)).toMatchObject({ state: 'disabled', reason: 'It \u001b[2Jfloods' });
  expect((await whoami(50_001)).stdout).not.toContain('key');
});

test('it says what this host does not take, and when what it shows may be old', async () => {
  const since = 0;
  tell({
    ...{ trusted: false, why: 'the heartbeat is of yesterday' },
    refused: [
      { entry: 'bob', why: 'this is not for alice to see', since },
      { entry: 'alice', why: 'the signature is not valid', since },
    ],
  });
  expect(await ask(UIDS.alice)).toMatchObject({
    refused: 'the signature is not valid',
    trouble: 'it does not trust what the directory shows: the heartbeat is of yesterday',
  });
  expect((await whoami(UIDS.alice)).stdout).not.toContain('not for alice');
  tell({ at: Date.now() - 60_000 });
  expect((await whoami(UIDS.alice)).stdout).toContain(
    'What this host knows may be old: the login helper has been silent since ',
  );
});

test('a local account learns nothing of the person who has its name and another number', async () => {
  const { code, stderr } = await whoami(4242);
  expect([code, stderr]).toEqual([
    1,
    expect.stringMatching(
      /^PERSON_UNKNOWN: your account \(uid 4242\) belongs to this host, not .*\. Run this as a person or a tool of the realm\.\n$/,
    ),
  ]);
  for (const uid of [4242, 4243, 0]) {
    expect(await ownKeys(uid, '-u', 'chamberlain-lookup', OWN_KEYS)).toEqual({
      ...{ code: 1, stdout: '', stderr: '' },
    });
  }
});

test('it answers about nobody but the account that asks', async () => {
  await writeKeys('alice', `${expiry(2)} ${laptop}\n`);
  expect(await whoami(UIDS.bob, 'alice')).toMatchObject({ code: 2, stdout: '' });
  expect(await whoami(UIDS.bob, '--config', '/tmp/x')).toMatchObject({ code: 2, stdout: '' });
  const forged = ['SUDO_USER=alice', `SUDO_UID=${UIDS.alice}`, 'OPTIND=x', 'ENV=/tmp/x'];
  const asLookup = ['-u', 'chamberlain-lookup'];
  const mine = await machine.run([
    ...[...as(UIDS.dora), 'env', ...forged, 'sudo', '-n', ...asLookup, OWN_KEYS],
  ]);
  expect(mine).toEqual({ code: 0, stdout: '', stderr: '' });
  // nor does sudo take anything but exactly this
  for (const options of [
    [...asLookup, OWN_KEYS, 'alice'],
    ['-u', 'root', OWN_KEYS],
    ['-u', 'chamberlain-keys', OWN_KEYS],
    [...asLookup, '/usr/lib/chamberlain/authorized-keys', 'alice'],
    [...asLookup, `SUDO_USER=alice`, OWN_KEYS],
    [...asLookup, '-D', '/var/lib/chamberlain/keys', OWN_KEYS],
    [...asLookup, '-s'],
  ]) {
    const { code, stdout, stderr } = await ownKeys(UIDS.dora, ...options);
    expect([code, stdout, stderr]).toEqual([1, '', expect.stringMatching(/^sudo: .*\n$/)]);
  }
});

/**
 * Starts own-keys, sends a signal through sudo while it waits for its reader, then reads what there is. Prints which
 * programs have run as chamberlain-lookup, and says what was read.
 */
const SIGNALLED = `
mkfifo "$1"
sudo -n -u chamberlain-lookup ${OWN_KEYS} >"$1" & sudo=$!
exec 3<"$1"
until ps -u chamberlain-lookup -o comm= | grep -q tee; do sleep 0.02; done
ps -u chamberlain-lookup -o comm= >"$1.programs"
kill -"$2" $sudo
sleep 0.05
ps -u chamberlain-lookup -o comm= >>"$1.programs"
kill -CONT $sudo 2>/dev/null
cat <&3 >"$1.read"
wait $sudo
sort -u "$1.programs"
`;

test('no signal that sudo passes on gives more than one’s own keys', async () => {
  // more than a pipe holds
  const file = `${expiry(2)} ${laptop}\n`.repeat(1000);
  await writeKeys('alice', file);
  await machine.must([...as(0), 'install', '-d', '-m', '777', '/tmp/signals']);
  for (const signal of ['HUP', 'INT', 'QUIT', 'USR1', 'USR2', 'TERM', 'ALRM', 'TSTP', 'WINCH']) {
    const at = `/tmp/signals/${signal}`;
    const script = ['/bin/bash', '-c', SIGNALLED, 'bash', at, signal];
    const { stdout } = await machine.run([...as(UIDS.alice), ...script], { cwd: '/tmp/signals' });
    expect([signal, stdout.split('\n').filter((name) => !['tee', ''].includes(name))]).toEqual([
      ...[signal, []],
    ]);
    const read = await machine.must(['cat', `${at}.read`]);
    expect(file.startsWith(read)).toBe(true);
  }
  const left = await machine.must(['find', '/tmp/signals', '-user', 'chamberlain-lookup']);
  expect(left).toBe('');
});
