/** The login helper as a program: who may report to it, how it starts and stops, and which processes it ends. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { appendFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PLACES } from '../../../src/login-host/places.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { NO_LOGIN } from '../helper-machine.ts';
import { AGENT, HELPER, openHelperHost, SOCKET, type HelperHost } from '../helper-host.ts';
import * as seals from '../seals.ts';
import { newKey } from '../seals.ts';

const ALICE = 10_001;
const BOB = 10_002;
const BOT = 50_001;
const KEY = newKey();
const person = (name: string, uid: number, more = {}) =>
  seals.person(name, 0, { uid, keys: [KEY], ...more });
const tool = (name: string, uid: number, more = {}) => seals.tool(name, 0, { uid, ...more });
/** Numbers only grow, whatever earlier tests have reported. */
let number = 10;
const next = () => ({ number: (number += 1) });

let host: HelperHost;
let machine: HelperHost['machine'];
let daemon: HelperHost['daemon'];
beforeAll(async () => {
  host = await openHelperHost();
  ({ machine, daemon } = host);
});
afterAll(async () => machine.close());
beforeEach(async () => daemon.start());

describe('the accounts that may report to it', () => {
  const CLIENT = `
    use IO::Socket::UNIX;
    my $socket = IO::Socket::UNIX->new(Peer => '${SOCKET}') or do { print "$!\\n"; exit };
    shutdown $socket, 1; print <$socket>;`;
  const askAs = (uid: number, gid: number) =>
    machine.must([
      ...['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'],
      ...['perl', '-e', CLIENT],
    ]);

  test('are only that of the agent', async () => {
    expect(JSON.parse(await askAs(AGENT, AGENT))).toMatchObject({ trusted: false });
    expect(await askAs(ALICE, 500)).toBe('Permission denied\n');
  });

  test('are limited by folder and socket, each by itself', () => {
    const folder = statSync(machine.inside('/run/chamberlain'));
    expect([folder.mode & 0o7777, folder.uid, folder.gid]).toEqual([0o750, 0, AGENT]);
    const socket = statSync(machine.inside(SOCKET));
    expect([socket.mode & 0o7777, socket.uid, socket.gid]).toEqual([0o660, 0, AGENT]);
  });
});

describe('it starts', () => {
  afterEach(async () => {
    await daemon.stop();
    await machine.must(['rm', '-rf', '/run/chamberlain']);
  });

  test('in an existing folder of root’s, and restricts it', async () => {
    await daemon.stop();
    await machine.must(['rm', '-rf', '/run/chamberlain']);
    await machine.must(['mkdir', '-m', '755', '/run/chamberlain']);
    await daemon.start();
    expect(statSync(machine.inside('/run/chamberlain')).mode & 0o7777).toBe(0o750);
  });

  test('in place of one that was killed', async () => {
    await daemon.stop('SIGKILL');
    expect(existsSync(machine.inside(SOCKET))).toBe(true);
    await daemon.start();
    expect(await host.tell()).toMatchObject({ trusted: false });
  });

  test('but not next to a running one, whose files it leaves alone', async () => {
    await host.all(person('alice', ALICE, next()));
    const journal = machine.inside(join(PLACES.login, 'seals'));
    appendFileSync(journal, 'half of a line that the other is writing');
    const before = [statSync(journal).ino, readFileSync(journal, 'utf8')];
    const { code, stderr } = await machine.run(HELPER);
    expect([code, stderr]).toEqual([
      2,
      expect.stringContaining('another login helper already serves'),
    ]);
    expect([statSync(journal).ino, readFileSync(journal, 'utf8')]).toEqual(before);
    expect(await host.tell()).toMatchObject({ trusted: true });
  });

  test.each([
    ['that all may write', 'mkdir -m 777 /run/chamberlain', 'no other account can write'],
    ['that a group may write', 'mkdir -m 770 /run/chamberlain', 'no other account can write'],
    ['of another', `mkdir /run/chamberlain; chown ${ALICE} /run/chamberlain`, 'no other account'],
    ['that is a link', 'mkdir /run/x; ln -s /run/x /run/chamberlain', 'as a folder'],
  ])('not in a folder %s', async (_, prepare, why) => {
    await daemon.stop();
    await machine.must(['sh', '-c', `rm -rf /run/chamberlain; ${prepare}`]);
    const before = await machine.must(['sh', '-c', 'stat -L -c %a:%u /run/chamberlain']);
    const { code, stderr } = await machine.run(HELPER, { timeoutMs: 10_000 });
    expect([code, stderr]).toEqual([2, expect.stringContaining(why)]);
    expect(await machine.must(['stat', '-L', '-c', '%a:%u', '/run/chamberlain'])).toBe(before);
  });

  test('with a socket that others can never open', async () => {
    await daemon.stop();
    // without the right to give it to the group, the helper gets no further than that instant
    const { code, stderr } = await machine.run([
      ...['sh', '-c', 'umask 0; exec setpriv --bounding-set=-chown "$@"', 'sh', ...HELPER],
    ]);
    expect([code, stderr]).toEqual([1, expect.stringContaining('EPERM')]);
    expect(statSync(machine.inside(SOCKET)).mode & 0o7777).toBe(0o600);
  });

  test('not in place of something that is not a socket', async () => {
    await daemon.stop();
    writeFileSync(machine.inside(SOCKET), 'kept');
    const { code, stderr } = await machine.run(HELPER, { timeoutMs: 10_000 });
    expect([code, stderr]).toEqual([2, expect.stringContaining(`${SOCKET} is not a socket`)]);
    expect(readFileSync(machine.inside(SOCKET), 'utf8')).toBe('kept');
  });

  test.each(['chamberlain-keys', 'chamberlain-lookup'])(
    'not without the group %s',
    async (group) => {
      await daemon.stop();
      await machine.must(['sed', '-i.kept', `s/^${group}/other/`, '/etc/group']);
      const { code, stderr } = await machine.run(HELPER, { timeoutMs: 10_000 });
      expect([code, stderr]).toEqual([2, expect.stringContaining(group)]);
      await machine.must(['mv', '/etc/group.kept', '/etc/group']);
    },
  );

  test('not with an option that it does not know', async () => {
    const { code, stderr } = await machine.run([...HELPER, '--listen', 'x']);
    expect([code, stderr]).toEqual([
      2,
      expect.stringContaining("USAGE: reading the options: Unknown option '--listen'"),
    ]);
  });

  test('with a folder of keys that belonged to the agent, and takes it over', async () => {
    await daemon.stop();
    const planted = `${newKey()}\n`;
    await machine.must([
      ...['sh', '-c'],
      `chown ${AGENT}:${AGENT} ${PLACES.keys} && chmod 770 ${PLACES.keys} && rm -f ${PLACES.login}/state.json`,
    ]);
    writeFileSync(machine.inside(join(PLACES.keys, 'alice')), planted);
    await machine.must(['chown', `${AGENT}:${AGENT}`, join(PLACES.keys, 'alice')]);
    await daemon.start();
    await host.all(person('alice', ALICE, next()));
    const folder = statSync(machine.inside(PLACES.keys));
    expect([folder.mode & 0o7777, folder.uid, folder.gid]).toEqual([0o2750, 0, AGENT + 1]);
    const file = statSync(machine.inside(join(PLACES.keys, 'alice')));
    expect([file.mode & 0o7777, file.uid, file.gid]).toEqual([0o640, 0, AGENT + 1]);
    expect(host.read(join(PLACES.keys, 'alice'))).toContain(KEY);
    expect(host.read(join(PLACES.keys, 'alice'))).not.toContain(planted.trim());
  });

  test.each(['TERM', 'INT'])('and ends with 0 at SIG%s', async (name) => {
    const { pid, ended } = await host.startBelowShell();
    const answers = Promise.all([host.ask(''), host.ask('').catch(() => '')]);
    await machine.must(['kill', `-${name}`, pid]);
    expect((await ended).code).toBe(0);
    await answers.catch(() => {});
    expect(existsSync(machine.inside(SOCKET))).toBe(false);
  });
});

describe('what a seal ends', () => {
  test('is a person, and nobody else', async () => {
    const hers = await machine.start(ALICE, [`--reuid=${BOT}`], ['stubborn']);
    const other = await machine.start(NO_LOGIN, [`--reuid=${BOT}`]);
    await host.tell(
      host.beat(),
      ...host.seal(person('alice', ALICE, { state: 'suspended', ...next() })),
    );
    await eventually('it has ended', () => !hers.lives());
    expect(other.lives()).toBe(true);
    await machine.must(['kill', '-KILL', String(other.pid)]);
  });

  test('is a tool, whoever has started its processes, and nobody else', async () => {
    await host.tell(host.beat(), ...host.seal(person('alice', ALICE, next())));
    const started = [
      await machine.start(NO_LOGIN, [`--reuid=${BOT}`], ['stubborn']),
      await machine.start(ALICE, [`--reuid=${BOT}`]),
    ];
    const others = [
      await machine.start(ALICE, [`--reuid=${ALICE}`]),
      await machine.start(ALICE, ['--reuid=50002']),
    ];
    await host.tell(host.beat(), ...host.seal(tool('bot', BOT, { state: 'disabled', ...next() })));
    await eventually('they have ended', () => started.every((one) => !one.lives()));
    expect(others.map((one) => one.lives())).toEqual([true, true]);
    await host.tell(
      host.beat(),
      ...host.seal(person('alice', ALICE, { member: false, ...next() })),
    );
    await eventually('they have ended', () => others.every((one) => !one.lives()));
  });

  test('is also a login that was let in right before', async () => {
    await host.tell(host.beat(), ...host.seal(person('alice', ALICE, next())));
    const first = await machine.start(ALICE, [`--reuid=${ALICE}`]);
    await host.tell(
      host.beat(),
      ...host.seal(person('alice', ALICE, { state: 'suspended', ...next() })),
    );
    await eventually('it has ended', () => !first.lives());
    // the helper would end the next one, maybe before that has begun
    daemon.signal('SIGSTOP');
    const late = await machine.start(ALICE, [`--reuid=${ALICE}`]);
    daemon.signal('SIGCONT');
    await eventually('it has ended', () => !late.lives());
  });

  test('is no process of a local account, even with the same number', async () => {
    const passwd = host.read('/etc/passwd') ?? '';
    appendFileSync(machine.inside('/etc/passwd'), `localadmin:x:${BOB}:${BOB}::/:/bin/sh\n`);
    // alice is suspended: her process would be ended, maybe before it has begun
    await daemon.stop();
    const own = await machine.start(BOB, [`--reuid=${BOB}`]);
    const hers = await machine.start(ALICE, [`--reuid=${ALICE}`]);
    await daemon.start();
    await host.tell(
      ...host.seal(
        person('bob', BOB, { state: 'suspended', ...next() }),
        person('alice', ALICE, { state: 'archived', ...next() }),
      ),
    );
    await eventually('hers has ended', () => !hers.lives());
    expect(own.lives()).toBe(true);
    writeFileSync(machine.inside('/etc/passwd'), passwd);
    await eventually('it is hers now', () => !own.lives());
  });

  test('is four hundred at once', async () => {
    const people = Array.from({ length: 400 }, (_, n) => person(`p${n}`, 10_100 + n, next()));
    await host.tell(host.beat(), ...host.seal(...people));
    const victims = [
      await machine.start(10_100, [`--reuid=${BOT}`]),
      await machine.start(10_499, [`--reuid=${BOT}`]),
    ];
    const bystander = await machine.start(10_500, ['--reuid=50002']);
    const closed = people.map((each) => ({ ...each, state: 'suspended' as const, ...next() }));
    await host.tell(host.beat(), ...host.seal(...closed));
    await eventually('they have ended', () => victims.every((one) => !one.lives()));
    expect(bystander.lives()).toBe(true);
    await machine.must(['kill', '-KILL', String(bystander.pid)]);
  });
});

test('a subject that has disappeared is ended once a floor says so, and stays ended after a restart', async () => {
  const alice = person('alice', ALICE, next());
  const bob = person('bob', BOB, next());
  await host.all(alice, bob, tool('bot', BOT, next()));
  const [first, other] = [
    await machine.start(ALICE, [`--reuid=${ALICE}`]),
    await machine.start(BOB, [`--reuid=${BOB}`]),
  ];
  await host.tell(['gone', 'alice']);
  await eventually(
    'she is gone',
    () => host.read(join(PLACES.extrausers, 'passwd'))?.includes('alice') === false,
  );
  expect(host.read(join(PLACES.login, 'closed'))).not.toContain('alice');
  expect(first.lives()).toBe(true);
  await host.tell(host.beat({ people: 1, tools: 1, floors: [[ALICE, alice.number + 1]] }));
  await eventually('it has ended', () => !first.lives());
  await daemon.stop('SIGKILL');
  const late = await machine.start(ALICE, [`--reuid=${ALICE}`]);
  await daemon.start();
  await eventually('it has ended', () => !late.lives());
  expect(other.lives()).toBe(true);
  expect(host.read(join(PLACES.login, 'closed'))).toContain('alice\n');
  await machine.must(['kill', '-KILL', String(other.pid)]);
});

test('NSS and sudo accept what it writes', async () => {
  await daemon.stop();
  await machine.must(['rm', '-rf', PLACES.login]);
  await daemon.start();
  writeFileSync(
    machine.inside('/etc/nsswitch.conf'),
    'passwd: files extrausers\ngroup: files extrausers\nshadow: files extrausers\nsudoers: files\n',
  );
  await host.all(
    person('alice', ALICE, next()),
    person('bob', BOB, next()),
    tool('bot', BOT, { members: ['alice'], ...next() }),
  );
  const getent = (...key: string[]) => machine.must(['getent', ...key]);
  expect(await getent('passwd', 'alice')).toBe(`alice:*:${ALICE}:1500::/home/alice:/bin/bash\n`);
  expect(await getent('passwd', String(BOT))).toMatch(/^tools\.bot:/);
  expect(await getent('group', 'tools.bot')).toBe(`tools.bot:*:${BOT}:alice\n`);
  expect(await getent('shadow', 'alice')).toBe('alice:*:::::::\n');
  expect(await machine.must(['id', '-Gn', 'alice'])).toBe('project-tools tools.bot\n');
  const asBot = (name: string) =>
    machine.run([
      ...['setpriv', `--reuid=${name}`, '--regid=1500', '--init-groups'],
      ...['sudo', '-n', '-u', 'tools.bot', 'id', '-un'],
    ]);
  expect(await asBot('alice')).toMatchObject({ code: 0, stdout: 'tools.bot\n' });
  expect((await asBot('bob')).code).not.toBe(0);
  await host.tell(host.beat(), ...host.seal(tool('bot', BOT, { members: ['bob'], ...next() })));
  expect((await asBot('alice')).code).not.toBe(0);
  expect(await asBot('bob')).toMatchObject({ code: 0 });
});
