/** The root helper as a program, asked by its client: who may ask, what it takes, and what then happens. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { appendFileSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import type { Daemon } from '../../dev/servers/private-machine.ts';
import { openLoginHelper, type LoginHelper } from '../../src/edges/login-helper.ts';
import { parseRequest } from '../../src/login-host/helper-request.ts';
import { parseLocalAccounts } from '../../src/login-host/passwd-list.ts';
import { eventually } from '../scenarios/eventually.ts';
import { CLONE, NODE, NO_LOGIN, openHelperMachine, type HelperMachine } from './helper-machine.ts';

const AGENT = 19_900;
const ALICE = 10_001;
const SOCKET = '/run/chamberlain/login-helper.sock';
const DB = '/var/lib/misc/passwd.db';
const CONFIG = '/etc/chamberlain/login-host.yaml';
const HELPER = [NODE, `${CLONE}/src/bin/login-helper.ts`];

const IDS = { people: [{ first: 10_000, last: 10_999 }], tools: [{ first: 50_000, last: 50_999 }] };
const person = (name: string, uid: number, gecos = '') =>
  `${name}:x:${uid}:500:${gecos}:/home/${name}:/bin/bash`;

/**
 * In the place of a program: tells when it begins and ends, begins only when there is no
 * /tmp/hold-<second argument>, and then is that program.
 */
const witness = (program: string) => `#!/bin/sh
echo "begin $*" >>/tmp/witness
while [ -e "/tmp/hold-$2" ]; do /usr/bin/sleep 0.02; done
${program}.real "$@"
code=$?
echo "end $*" >>/tmp/witness
exit $code
`;

let machine: HelperMachine;
let daemon: Daemon;
let helper: LoginHelper;

beforeAll(async () => {
  machine = await openHelperMachine();
  appendFileSync(machine.inside('/etc/group'), `chamberlain-keys:x:${AGENT}:\n`);
  appendFileSync(machine.inside('/etc/passwd'), 'localadmin:x:10500:10500::/:/bin/sh\n');
  await machine.must(['mkdir', '-p', '/etc/chamberlain']);
  writeFileSync(
    machine.inside(CONFIG),
    `realm: tools\nids: ${JSON.stringify(IDS)}\nldap: { uris: ['ldapi://%2Fnowhere'], base: dc=x }\n`,
  );
  for (const program of ['/usr/sbin/sss_cache', '/usr/bin/makedb']) {
    await machine.must(['mv', program, `${program}.real`]);
    writeFileSync(machine.inside(program), witness(program), { mode: 0o755 });
  }
  daemon = machine.daemon({
    name: 'login-helper',
    command: () => ['/bin/sh', '-c', 'umask 0; exec "$@"', 'umask', ...HELPER],
    answers: async () => (await ask('')) !== undefined,
  });
  helper = openLoginHelper(machine.inside(SOCKET));
});
afterAll(async () => machine.close());

beforeEach(async () => {
  await daemon.start();
  writeFileSync(machine.inside('/tmp/witness'), '');
});

/** Holds a program back, which is known by its second argument; returns how to let it go. */
function hold(argument: string): () => void {
  const file = machine.inside(`/tmp/hold-${argument}`);
  writeFileSync(file, '');
  return () => rmSync(file);
}

const witnessed = () => readFileSync(machine.inside('/tmp/witness'), 'utf8').trimEnd().split('\n');
const begun = () => witnessed().flatMap((line) => /^begin (.*)/.exec(line)?.[1] ?? []);

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

/** Sends bytes as they are, half-closes, and returns the answer. */
function ask(request: string | Buffer): Promise<string> {
  return new Promise((done, fail) => {
    let answer = '';
    const socket = connect(machine.inside(SOCKET));
    socket.setEncoding('utf8').on('data', (text) => (answer += String(text)));
    socket.once('error', fail).once('end', () => done(answer));
    socket.end(request);
  });
}

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
    [
      'with a file in its place',
      `mkdir /run/chamberlain; echo >${SOCKET}`,
      'another helper serves',
    ],
  ])('not in a folder %s', async (_, prepare, why) => {
    await daemon.stop();
    await machine.must(['sh', '-c', `rm -rf /run/chamberlain; ${prepare}`]);
    const before = await machine.must(['sh', '-c', 'stat -L -c %a:%u /run/chamberlain']);
    const { code, stderr } = await machine.run(HELPER, { timeoutMs: 10_000 });
    expect([code, stderr]).toEqual([2, expect.stringContaining(why)]);
    expect(await machine.must(['stat', '-L', '-c', '%a:%u', '/run/chamberlain'])).toBe(before);
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
      await daemon.stop();
      const ended = machine.run([
        ...[
          'sh',
          '-c',
          `"$@" & helper=$!; echo $helper >/tmp/helper; wait $helper`,
          'sh',
          ...HELPER,
        ],
      ]);
      await eventually('it serves', async () => (await ask('')) !== '');
      const answer = helper.forget(['p1']);
      await eventually('it is in hand', () => begun().length === 1);
      await machine.must([
        'kill',
        `-${name}`,
        readFileSync(machine.inside('/tmp/helper'), 'utf8').trim(),
      ]);
      await expect(answer).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
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
    ['a byte order mark', '\ufeffforget alice\n'],
    ['root', 'end 0\n'],
    ['a number below the range', 'end 9999\n'],
    ['a number above the range', 'end 11000\n'],
    ['the number of a tool', 'end 50001\n'],
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

describe('forget', () => {
  const SSSD = `[sssd]
services = nss, sudo
domains = x
[domain/x]
id_provider = ldap
ldap_uri = ldap://127.0.0.1:PORT
ldap_search_base = dc=x
ldap_id_use_start_tls = false
sudo_provider = ldap
`;
  const SLAPD = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix dc=x
rootdn cn=admin,dc=x
rootpw admin
directory /run/ldap
`;
  const account = (n: number) => `dn: uid=p${n},dc=x
objectClass: account
objectClass: posixAccount
uid: p${n}
cn: p${n}
uidNumber: ${10_100 + n}
gidNumber: 500
homeDirectory: /home/p${n}
loginShell: /bin/bash

`;
  let uri: string;
  const add = (n: number) =>
    machine.must(['ldapadd', '-x', '-H', uri, '-D', 'cn=admin,dc=x', '-w', 'admin'], {
      input: account(n),
    });
  const isKnown = async (name: string) =>
    (await machine.run(['getent', '-s', 'sss', 'passwd', name])).code === 0;

  beforeAll(async () => {
    await daemon.start();
    writeFileSync(machine.inside('/tmp/witness'), '');
    await expect(helper.forget(['p1'])).rejects.toMatchObject({
      code: 'STEP_FAILED',
      cause: expect.stringContaining("Can't find configuration db"),
    });

    const port = await freePort();
    uri = `ldap://127.0.0.1:${port}`;
    await machine.must(['mkdir', '-p', '/run/ldap']);
    writeFileSync(machine.inside('/etc/ldap/slapd.conf'), SLAPD);
    await machine.must(['slapadd', '-q', '-f', '/etc/ldap/slapd.conf'], {
      input: `dn: dc=x\nobjectClass: domain\ndc: x\n\n${account(1)}`,
    });
    const slapd = machine.daemon({
      name: 'slapd',
      command: () => ['slapd', '-f', '/etc/ldap/slapd.conf', '-h', uri, '-d', '0'],
      answers: async () => (await machine.run(['ldapsearch', '-xH', uri, '-b', 'dc=x'])).code === 0,
    });
    await slapd.start();
    writeFileSync(machine.inside('/etc/sssd/sssd.conf'), SSSD.replace('PORT', String(port)), {
      mode: 0o600,
    });
    const sssd = machine.daemon({
      name: 'sssd',
      command: () => ['sssd', '--interactive', '--logger=stderr'],
      answers: () => isKnown('p1'),
    });
    await sssd.start();
  });

  test('makes sssd know at once who was asked for too early', async () => {
    expect(await isKnown('p2')).toBe(false);
    await add(2);
    expect(await isKnown('p2')).toBe(false);
    await helper.forget(['p2']);
    expect(await isKnown('p2')).toBe(true);
    expect(begun()).toEqual(['-u p2 -g p2 -R']);
  });

  test('does so too, where everything is forgotten at once', async () => {
    const names = Array.from({ length: 20 }, (_, n) => `p${n + 3}`);
    for (const name of names) expect(await isKnown(name)).toBe(false);
    await add(3);
    await add(22);
    await helper.forget(names);
    expect([await isKnown('p3'), await isKnown('p22')]).toEqual([true, true]);
    expect(begun()).toEqual(['-U -G -R']);
  });

  test('a name that nobody has is no error', async () => {
    await helper.forget(['nobody-has-this', 'tools.nobody-has-this']);
  });

  test('runs one after another, and answers each when its own names are done', async () => {
    const letFirstGo = hold('p1');
    const letLastGo = hold('p3');
    const first = helper.forget(['p1']);
    await eventually('it is in hand', () => begun().length === 1);
    const second = helper.forget(['p2']);
    const last = helper.forget(['p1', 'p3', 'p2']);
    let isLastDone = false;
    void last.then(() => (isLastDone = true));
    // the helper has read both when it answers a third
    expect(await ask('end 10900\n')).toBe('ok\n');
    letFirstGo();
    await first;
    await second;
    await eventually('the last is in hand', () => begun().includes('-u p3 -g p3 -R'));
    expect(isLastDone).toBe(false);
    letLastGo();
    await last;
    const calls = ['p1', 'p2', 'p1', 'p3'].map((name) => `-u ${name} -g ${name} -R`);
    expect(witnessed()).toEqual(calls.flatMap((call) => [`begin ${call}`, `end ${call}`]));
  });

  test('gathers what comes meanwhile: more than a few become one call', async () => {
    const letGo = hold('p1');
    const first = helper.forget(['p1']);
    await eventually('it is in hand', () => begun().length === 1);
    const others = Array.from({ length: 13 }, (_, n) => helper.forget([`q${n}`]));
    expect(await ask('end 10900\n')).toBe('ok\n');
    letGo();
    await Promise.all([first, ...others]);
    expect(begun()).toEqual(['-u p1 -g p1 -R', '-U -G -R']);
  });

  test('a few are done one by one', async () => {
    await helper.forget(Array.from({ length: 12 }, (_, n) => `q${n}`));
    expect(begun()).toHaveLength(12);
  });

  test('a call that hangs is ended, and the next one goes on', async () => {
    const program = '/usr/sbin/sss_cache';
    await machine.must(['mv', program, `${program}.kept`]);
    writeFileSync(machine.inside(program), '#!/bin/sh\nexec /usr/bin/sleep 1000\n', {
      mode: 0o755,
    });
    const hanging = helper.forget(['p1']);
    hanging.catch(() => {});
    await eventually(
      'it hangs',
      async () => (await machine.run(['pgrep', '-x', 'sleep'])).code === 0,
    );
    await machine.must(['mv', `${program}.kept`, program]);
    const next = helper.forget(['p2']);
    await expect(hanging).rejects.toMatchObject({
      code: 'STEP_FAILED',
      cause: 'running /usr/sbin/sss_cache (of sssd-tools): it did not end in 10 s',
    });
    await next;
    expect(await machine.run(['pgrep', '-x', 'sleep'])).toMatchObject({ code: 1 });
  });

  test('without sssd, it is refused, and the helper lives on', async () => {
    const program = '/usr/sbin/sss_cache';
    await machine.must(['mv', program, `${program}.kept`]);
    await expect(helper.forget(['p1'])).rejects.toMatchObject({
      code: 'STEP_FAILED',
      cause: expect.stringContaining('ENOENT'),
    });
    await machine.must(['mv', `${program}.kept`, program]);
    await helper.forget(['p1']);
  });
});

describe('end', () => {
  test('ends what is of a person', async () => {
    const hers = await machine.start(ALICE, ['--reuid=50001'], ['stubborn']);
    const other = await machine.start(NO_LOGIN, ['--reuid=50001']);
    await helper.end(ALICE);
    expect([hers.lives(), other.lives()]).toEqual([false, true]);
    await machine.must(['kill', '-KILL', String(other.pid)]);
  });
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
    writeFileSync(machine.inside('/tmp/witness'), '');
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

describe('a person whom only the list of accounts knows', () => {
  const SSHD = `ListenAddress 127.0.0.1:PORT
HostKey /root/host-key
AuthorizedKeysFile /root/%u.pub
StrictModes no
UsePAM yes
PerSourcePenalties no
`;
  let port: number;

  beforeAll(async () => {
    port = await freePort();
    const etc = {
      'ssh/test.conf': SSHD.replace('PORT', String(port)),
      'nsswitch.conf': 'passwd: files db\ngroup: files\nshadow: files\nsudoers: files\n',
      'sudoers.d/tools': 'alice,bob ALL = (tools.bot) NOPASSWD: ALL\n',
    };
    for (const [name, text] of Object.entries(etc)) {
      writeFileSync(machine.inside(`/etc/${name}`), text, { mode: 0o644 });
    }
    await machine.must([
      'mkdir',
      '-p',
      '/run/sshd',
      '/home/alice',
      '/home/bob',
      '/data/project/bot',
    ]);
    for (const name of ['host-key', 'alice', 'bob']) {
      await machine.must(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', `/root/${name}`]);
    }
    const sshd = machine.daemon({
      name: 'sshd',
      command: () => ['/usr/sbin/sshd', '-D', '-e', '-f', '/etc/ssh/test.conf'],
      answers: async () => {
        const socket = connect(port, '127.0.0.1');
        await once(socket, 'connect');
        socket.destroy();
        return true;
      },
    });
    await sshd.start();
    await daemon.start();
    await helper.passwd([
      person('alice', ALICE),
      person('bob', 10_002),
      'tools.bot:x:50001:50001::/data/project/bot:/bin/bash',
    ]);
  });

  const ssh = (name: string, command: string) =>
    machine.run([
      ...['ssh', '-F', 'none', '-i', `/root/${name}`, '-p', String(port), '-o', 'BatchMode=yes'],
      ...['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null'],
      ...[`${name}@127.0.0.1`, command],
    ]);

  test('gets in', async () => {
    expect(await ssh('alice', 'id -un; pwd; cat /proc/self/loginuid')).toMatchObject({
      code: 0,
      stdout: `alice\n/home/alice\n${ALICE}`,
    });
  });

  test('and is put out, with all that was started as a tool; another who is that tool stays', async () => {
    const asTool = (what: string) => `sudo -niu tools.bot /usr/local/bin/stay ${what}`;
    const sessions = [
      ssh('alice', asTool('alices stubborn')),
      ssh('alice', `${asTool('left stubborn')} </dev/null >/dev/null 2>&1 & exit`),
      ssh('bob', asTool('bobs')),
    ];
    const names = ['alices', 'left', 'bobs'];
    const [hers, left, bobs] = await Promise.all(names.map((name) => machine.started(name)));
    expect((await sessions[1])?.code).toBe(0);
    await helper.end(ALICE);
    expect([hers?.lives(), left?.lives(), bobs?.lives()]).toEqual([false, false, true]);
    expect((await sessions[0])?.code).not.toBe(0);
    await helper.end(10_002);
    expect((await sessions[2])?.code).not.toBe(0);
  });
});
