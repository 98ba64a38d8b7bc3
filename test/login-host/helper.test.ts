/** The root helper as a program: who may ask, what it takes, how it starts and ends, ending and listing. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect } from 'node:net';
import { parseRequest } from '../../src/login-host/helper-request.ts';
import { parseLocalAccounts } from '../../src/login-host/passwd-list.ts';
import { eventually } from '../scenarios/eventually.ts';
import { NO_LOGIN } from './helper-machine.ts';
import {
  AGENT,
  HELPER,
  IDS,
  openHelperHost,
  person,
  SOCKET,
  type HelperHost,
} from './helper-host.ts';

const ALICE = 10_001;
const DB = '/var/lib/misc/passwd.db';

let host: HelperHost;
let machine: HelperHost['machine'];
let daemon: HelperHost['daemon'];
let helper: HelperHost['helper'];
let ask: HelperHost['ask'];
let begun: HelperHost['begun'];
let hold: HelperHost['hold'];
beforeAll(async () => {
  host = await openHelperHost();
  ({ machine, daemon, helper, ask, begun, hold } = host);
});
afterAll(async () => machine.close());
beforeEach(async () => host.begin());

describe('who may ask', () => {
  const CLIENT = `
    use IO::Socket::UNIX;
    my $socket = IO::Socket::UNIX->new(Peer => '${SOCKET}') or do { print "$!\\n"; exit };
    print $socket "passwd 0\\n"; shutdown $socket, 1; print <$socket>;`;
  const askAs = (uid: number, gid: number) =>
    machine.must([
      ...['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'],
      ...['perl', '-e', CLIENT],
    ]);

  test('the agent, and nobody else', async () => {
    expect(await askAs(AGENT, AGENT)).toBe('ok\n');
    expect(await askAs(ALICE, 500)).toBe('Permission denied\n');
  });

  test('because folder and socket say so, each for itself', () => {
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

  test('in a folder of root that was there, and closes it', async () => {
    await daemon.stop();
    await machine.must(['rm', '-rf', '/run/chamberlain']);
    await machine.must(['mkdir', '-m', '755', '/run/chamberlain']);
    await daemon.start();
    expect(statSync(machine.inside('/run/chamberlain')).mode & 0o7777).toBe(0o750);
  });

  test('in the place of one that was killed', async () => {
    await daemon.stop('SIGKILL');
    expect(existsSync(machine.inside(SOCKET))).toBe(true);
    await daemon.start();
    expect(await ask('passwd 0\n')).toBe('ok\n');
  });

  test('and not beside one that serves', async () => {
    const { code, stderr } = await machine.run(HELPER);
    expect([code, stderr]).toEqual([2, expect.stringContaining('another helper serves')]);
    expect(await ask('passwd 0\n')).toBe('ok\n');
  });

  test.each([
    ['that all may write', 'mkdir -m 777 /run/chamberlain', 'nobody else may write'],
    ['that a group may write', 'mkdir -m 770 /run/chamberlain', 'nobody else may write'],
    ['of another', `mkdir /run/chamberlain; chown ${ALICE} /run/chamberlain`, 'nobody else'],
    ['that is a link', 'mkdir /run/x; ln -s /run/x /run/chamberlain', 'as a folder'],
  ])('not in a folder %s', async (_, prepare, why) => {
    await daemon.stop();
    await machine.must(['sh', '-c', `rm -rf /run/chamberlain; ${prepare}`]);
    const before = await machine.must(['sh', '-c', 'stat -L -c %a:%u /run/chamberlain']);
    const { code, stderr } = await machine.run(HELPER, { timeoutMs: 10_000 });
    expect([code, stderr]).toEqual([2, expect.stringContaining(why)]);
    expect(await machine.must(['stat', '-L', '-c', '%a:%u', '/run/chamberlain'])).toBe(before);
  });

  test('with a socket that is closed to others from its first instant', async () => {
    await daemon.stop();
    // who may not give it to the group gets no further than that instant
    const { code, stderr } = await machine.run([
      ...['sh', '-c', 'umask 0; exec setpriv --bounding-set=-chown "$@"', 'sh', ...HELPER],
    ]);
    expect([code, stderr]).toEqual([1, expect.stringContaining('EPERM')]);
    expect(statSync(machine.inside(SOCKET)).mode & 0o7777).toBe(0o600);
  });

  test('not in the place of what is no socket', async () => {
    await daemon.stop();
    writeFileSync(machine.inside(SOCKET), 'kept');
    const { code, stderr } = await machine.run(HELPER, { timeoutMs: 10_000 });
    expect([code, stderr]).toEqual([2, expect.stringContaining(`${SOCKET} is no socket`)]);
    expect(readFileSync(machine.inside(SOCKET), 'utf8')).toBe('kept');
  });

  test('not without the group', async () => {
    await daemon.stop();
    await machine.must(['sed', '-i.kept', 's/^chamberlain-keys/other/', '/etc/group']);
    const { code, stderr } = await machine.run(HELPER, { timeoutMs: 10_000 });
    expect([code, stderr]).toEqual([2, expect.stringContaining('chamberlain-keys')]);
    await machine.must(['mv', '/etc/group.kept', '/etc/group']);
  });

  test('not with an option that it does not know', async () => {
    const { code, stderr } = await machine.run([...HELPER, '--listen', 'x']);
    expect([code, stderr]).toEqual([
      2,
      expect.stringContaining("USAGE: reading the options: Unknown option '--listen'"),
    ]);
  });

  test.each(['TERM', 'INT'])(
    'and ends with 0 at SIG%s, though a request is in hand',
    async (name) => {
      const letGo = hold('p1');
      const { pid, ended } = await host.startBelowShell();
      const refused = expect(helper.forget(['p1'])).rejects.toMatchObject({
        code: 'BACKEND_UNAVAILABLE',
      });
      await eventually('it is in hand', () => begun().length === 1);
      await machine.must(['kill', `-${name}`, pid]);
      await refused;
      expect((await ended).code).toBe(0);
      expect(existsSync(machine.inside(SOCKET))).toBe(false);
      letGo();
    },
  );
});

describe('the grammar', () => {
  const local = parseLocalAccounts('root:x:0:0::/:/bin/sh\nlocaladmin:x:10500:10500::/:/bin/sh\n');
  const parse = (request: string | Buffer) =>
    parseRequest(Buffer.from(request as string), { realm: 'tools', ids: IDS }, local);

  test('takes names, numbers and lists', () => {
    expect(parse('forget alice\nend 10001\nforget tools.bridge-bot_2\nend 10999\n')).toEqual({
      verb: 'accounts',
      forget: ['alice', 'tools.bridge-bot_2'],
      end: [10_001, 10_999],
    });
    expect(parse(`passwd 2\n${person('a', 1)}\n\n`)).toEqual({
      verb: 'passwd',
      lines: [person('a', 1), ''],
    });
    expect(parse('passwd 0\n')).toEqual({ verb: 'passwd', lines: [] });
    expect(parse('forget a\n'.repeat(10_000))).toMatchObject({ verb: 'accounts' });
  });

  test.each([
    ['nothing', ''],
    ['an empty line', '\n'],
    ['an empty line at the end', 'forget alice\n\n'],
    ['no line end', 'forget alice'],
    ['a number that was cut', 'forget alice\nend 1000'],
    ['a carriage return', 'forget alice\r\n'],
    ['another verb', 'kill 10001\n'],
    ['a verb in capitals', 'FORGET alice\n'],
    ['a blank in front', ' forget alice\n'],
    ['a blank behind', 'forget alice \n'],
    ['two blanks', 'forget  alice\n'],
    ['a tab', 'forget\talice\n'],
    ['two names', 'forget alice bob\n'],
    ['no name', 'forget\n'],
    ['an option for a name', 'forget -U\n'],
    ['a path for a name', 'forget ../alice\n'],
    ['a name in capitals', 'forget Alice\n'],
    ['a name in other letters', 'forget älice\n'],
    ['a name of 33', `forget ${'a'.repeat(33)}\n`],
    ['a tool of another realm', 'forget other.bot\n'],
    ['a realm without a tool', 'forget tools.\n'],
    ['a name of two dots', 'forget tools.a.b\n'],
    ['NUL', 'forget alice\0\n'],
    ['what is not UTF-8', Buffer.from('forget a\xff\n', 'latin1')],
    ['a list that is not UTF-8', Buffer.from(`passwd 1\n${person('a', 1, '\xff')}\n`, 'latin1')],
    ['a byte order mark', '\ufeffforget alice\n'],
    ['root', 'end 0\n'],
    ['a number below the range', 'end 9999\n'],
    ['a number above the range', 'end 11000\n'],
    ['a number between the ranges', 'end 49999\n'],
    ['a number above the range of tools', 'end 51000\n'],
    ['the number of a local account', 'end 10500\n'],
    ['a number with a sign', 'end +10001\n'],
    ['a number with a leading zero', 'end 010001\n'],
    ['a number in hex', 'end 0x2711\n'],
    ['a fraction', 'end 10001.5\n'],
    ['a name for a number', 'end alice\n'],
    ['no number', 'end \n'],
    ['more than 10,000 lines', 'forget a\n'.repeat(10_001)],
    ['a list without its count', 'passwd\n'],
    ['a list that is too short', `passwd 2\n${person('a', 1)}\n`],
    ['a list that is too long', `passwd 0\n${person('a', 1)}\n`],
    ['a list after something else', `forget alice\npasswd 1\n${person('a', 1)}\n`],
  ])('refuses %s', (_, request) => {
    expect(parse(request)).toEqual(expect.any(String));
  });

  test('and then nothing of it is done', async () => {
    const victim = await machine.start(ALICE, [`--reuid=${ALICE}`]);
    for (const wrong of ['end 0\n', 'end 10500\n', 'forget -U\n', 'end 1000']) {
      expect(await ask(`forget p1\nend ${ALICE}\n${wrong}`)).toMatch(/^refused: .+\n$/);
    }
    expect([victim.lives(), begun()]).toEqual([true, []]);
    await machine.must(['kill', '-KILL', String(victim.pid)]);
  });

  test('a request of more than 32 MiB is refused', async () => {
    const line = `${person('a', 1)}\n`;
    const count = Math.ceil(2 ** 25 / line.length);
    expect(await ask(`passwd ${count}\n${line.repeat(count)}`)).toMatch(/^refused: .*32 MiB/);
  });

  test('the client does not send a line within a line', async () => {
    await expect(helper.forget([`p1\nend ${ALICE}`])).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});

test('a person is ended, and nobody else', async () => {
  const hers = await machine.start(ALICE, ['--reuid=50001'], ['stubborn']);
  const other = await machine.start(NO_LOGIN, ['--reuid=50001']);
  await helper.end(ALICE);
  expect([hers.lives(), other.lives()]).toEqual([false, true]);
  await machine.must(['kill', '-KILL', String(other.pid)]);
});

test('a tool is ended, whoever has started it, and nobody else', async () => {
  const started = [
    await machine.start(NO_LOGIN, ['--reuid=50001'], ['stubborn']),
    await machine.start(ALICE, ['--reuid=50001']),
  ];
  const others = [
    await machine.start(ALICE, [`--reuid=${ALICE}`]),
    await machine.start(ALICE, ['--reuid=50002']),
  ];
  await helper.end(50_001);
  expect(started.map((one) => one.lives())).toEqual([false, false]);
  expect(others.map((one) => one.lives())).toEqual([true, true]);
  await helper.end(ALICE);
});

test('many people are ended by one request', async () => {
  const all = Array.from({ length: 400 }, (_, n) => 10_000 + n);
  const victims = [
    await machine.start(10_000, ['--reuid=50001']),
    await machine.start(10_399, ['--reuid=50001']),
  ];
  const bystander = await machine.start(10_400, ['--reuid=50001']);
  await helper.end(...all);
  expect(victims.map((one) => one.lives())).toEqual([false, false]);
  expect(bystander.lives()).toBe(true);
  await machine.must(['kill', '-KILL', String(bystander.pid)]);
});

describe('passwd', () => {
  const getent = (key: string) => machine.run(['getent', '-s', 'db', 'passwd', key]);

  test('makes what nss_db tells of', async () => {
    expect(await helper.passwd([person('alice', ALICE, 'Zoë'), person('bob', 10_002)])).toBe(
      undefined,
    );
    const line = 'alice:*:10001:500:Zoë:/home/alice:/bin/bash\n';
    expect(await getent('alice')).toMatchObject({ code: 0, stdout: line });
    expect(await getent('10001')).toMatchObject({ code: 0, stdout: line });
    expect((await getent('carol')).code).toBe(2);
    const all = await machine.must(['getent', '-s', 'db', 'passwd']);
    expect(all.split('\n').filter((each) => each !== '')).toHaveLength(2);
    const db = statSync(machine.inside(DB));
    expect([db.mode & 0o7777, db.uid, db.gid]).toEqual([0o644, 0, 0]);
  });

  test('leaves out what does not fit, and says so', async () => {
    expect(
      await helper.passwd([
        person('alice', ALICE),
        'toor:x:0:0::/root:/bin/sh',
        person('localadmin', 10_003),
        person('eve', 10_500),
      ]),
    ).toBe('left out 3: toor: its uid is out of the ranges');
    expect(await machine.must(['getent', '-s', 'db', 'passwd'])).toMatch(/^alice:.*\n$/);
    await expect(helper.passwd(['toor:x:0:0::/root:/bin/sh'])).rejects.toMatchObject({
      code: 'STEP_FAILED',
      cause: 'no line fits; left out 1: toor: its uid is out of the ranges',
    });
    expect((await getent('alice')).code).toBe(0);
  });

  test('does nothing where nothing is new, and nothing by half a list', async () => {
    const lines = [person('alice', ALICE), person('bob', 10_002)];
    await helper.passwd(lines);
    await host.begin();
    await helper.passwd(lines);
    const half = connect(machine.inside(SOCKET));
    half.write(`passwd 2\n${lines[0]}\n`);
    half.end();
    await once(half.resume(), 'close');
    expect(begun()).toEqual([]);
    expect((await getent('bob')).code).toBe(0);
  });

  test('keeps the old db where there is no room for a new one', async () => {
    await machine.must(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', '/var/lib/misc']);
    await helper.passwd([person('alice', ALICE)]);
    const many = Array.from({ length: 900 }, (_, n) => person(`p${n}`, 10_000 + n, 'x'.repeat(90)));
    many.splice(500, 1); // the local account's
    await expect(helper.passwd(many)).rejects.toMatchObject({ code: 'STEP_FAILED' });
    expect((await getent('alice')).code).toBe(0);
    expect(existsSync(machine.inside(`${DB}.new`))).toBe(false);
    await machine.must(['umount', '/var/lib/misc']);
  });

  test('holds up nobody else, while it is in hand', async () => {
    const letGo = hold('--output');
    const making = helper.passwd([person('bob', 10_002)]);
    await eventually('it is in hand', () => begun().length === 1);
    expect(await ask('end 10900\n')).toBe('ok\n');
    letGo();
    await making;
    expect((await getent('bob')).code).toBe(0);
  });
});
