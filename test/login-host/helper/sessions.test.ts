/** Ending a person's sessions: which processes are theirs, on a machine with process ids of its own. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { eventually } from '../../scenarios/eventually.ts';
import { rightsOfUnit } from '../helper-host.ts';
import { CLONE, NODE, NO_LOGIN, openHelperMachine, type HelperMachine } from '../helper-machine.ts';

const ALICE = 10_001;
const BOB = 10_002;
const CAROL = 10_003;
const BOT = 50_001;

const as = (uid: number): string[] => [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];

let machine: HelperMachine;
beforeAll(async () => {
  machine = await openHelperMachine();
});
afterAll(async () => machine.close());

/** Ends the sessions of these people as the helper does; returns how many processes there were. */
const end = (...uids: number[]): Promise<number> => endBy('/proc', uids);

async function endBy(proc: string, uids: number[]): Promise<number> {
  return Number(await machine.must([NODE, '--input-type=module', '--eval', ending(proc, uids)]));
}

/** As the agent does: tries again if it could not be sure, for example on a busy machine. */
const endAtLast = (...uids: number[]): Promise<boolean> =>
  eventually('their sessions to be ended', async () => {
    const { code, stderr } = await machine.run([
      NODE,
      '--input-type=module',
      '--eval',
      ending('/proc', uids),
    ]);
    if (code !== 0 && !stderr.includes('ending sessions:')) throw new Error(stderr);
    return code === 0;
  });

const ending = (proc: string, uids: number[]): string => `
  import { endSessions } from '${CLONE}/src/login-host/helper/sessions.ts';
  console.log(await endSessions(new Set(${JSON.stringify(uids)}), '${proc}'));`;

describe('is ended', () => {
  test.each([
    ['a process that she has started', ALICE, as(ALICE), []],
    ['a process that she has started as a tool', ALICE, as(BOT), []],
    ['a process that she has started as root', ALICE, ['--reuid=0'], []],
    ['a process that ignores SIGHUP and SIGTERM', ALICE, as(BOT), ['stubborn']],
    ['a process that somebody else has started as her', BOB, as(ALICE), []],
    ['a process with her real uid', NO_LOGIN, [`--ruid=${ALICE}`, `--euid=${BOT}`], []],
    ['a process with her effective uid', NO_LOGIN, [`--ruid=${BOT}`, `--euid=${ALICE}`], []],
    [
      'a process that can get her uid back',
      NO_LOGIN,
      [`--ruid=${BOT}`, `--euid=${ALICE}`],
      ['euid is ruid'],
    ],
    ['a process that goes on after its first thread has ended', ALICE, as(BOT), ['headless']],
    [
      'a process that calls itself the listening sshd',
      ALICE,
      as(ALICE),
      ['title sshd: x [listener]'],
    ],
    ['a tool’s process that calls itself cron', ALICE, as(BOT), ['title cron']],
    ...(
      [
        ['cron', 'cron'],
        ['the listening sshd', 'sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups'],
        ['sssd, which a login host no longer has', '/usr/sbin/sssd'],
      ] as const
    ).map(([what, title]): [string, number, string[], string[]] => [
      `a process of root's that calls itself ${what}`,
      ALICE,
      ['--reuid=0'],
      [`title ${title}`],
    ]),
  ])('%s', async (_, login, setpriv, how) => {
    const victim = await machine.start(login, setpriv, how);
    expect(victim.lives()).toBe(true);
    expect(await end(ALICE)).toBe(1);
    expect(victim.lives()).toBe(false);
  });

  test('without loginuids, a process below hers, even if hers is gone first', async () => {
    const hers = await machine.start(
      NO_LOGIN,
      [`--ruid=${ALICE}`],
      [
        // as if through sudo
        ...['then', 'setpriv', '--reuid=0', 'stay', 'low', 'stubborn'],
        ...['then', 'setpriv', `--reuid=${BOT}`, 'stay', 'lower', 'stubborn'],
      ],
    );
    const low = await machine.started('low');
    const lower = await machine.started('lower');
    await end(ALICE);
    expect([hers, low, lower].map((one) => one.lives())).toEqual([false, false, false]);
  });

  describe('among many others, processes that fork and exit all the time', () => {
    beforeAll(async () => {
      const many = 'i=0; while [ $((i += 1)) -le 500 ]; do sleep 86400 & done; : >/tmp/many; wait';
      await machine.start(CAROL, as(CAROL), ['then', 'sh', '-c', many]);
      await eventually('many others', () => existsSync(machine.inside('/tmp/many')));
    });
    afterAll(async () => end(CAROL));

    test.each([
      ['as her', as(ALICE), 1],
      ['as a tool', as(BOT), 1],
      ['in several places as her', as(ALICE), 3],
      ['in several places as a tool', as(BOT), 3],
    ])('%s', async (_, setpriv, places) => {
      const others = [
        await machine.start(BOB, as(BOT)),
        await machine.start(NO_LOGIN, as(BOT)),
        await machine.start(BOB, as(BOT)),
      ];
      const stopped = String(others[2]?.pid);
      await machine.must(['kill', '-STOP', stopped]);
      const hopping = await machine.start(ALICE, setpriv, ['stubborn', `hopping by ${places}`]);
      await endAtLast(ALICE);
      // one of our looks may miss it, too
      const beats = () => statSync(machine.inside(`/tmp/${hopping.name}.beat`)).size;
      const before = beats();
      for (let round = 0; round < 5; round += 1) await machine.must(['true']);
      expect(beats()).toBe(before);
      expect(others.map((one) => [one.lives(), one.isStopped()])).toEqual([
        [true, false],
        [true, false],
        [true, true],
      ]);
      await machine.must(['kill', '-KILL', ...others.map(({ pid }) => String(pid))]);
    });
  });

  test('a process that would flee from a signal that it receives, even without loginuids', async () => {
    const hers = await machine.start(
      NO_LOGIN,
      [`--ruid=${ALICE}`],
      ['then', 'setpriv', `--reuid=${BOT}`, 'stay', 'low', 'flees on HUP', 'flees on TERM'],
    );
    const low = await machine.started('low');
    await end(ALICE);
    expect([hers.lives(), low.lives()]).toEqual([false, false]);
    expect(existsSync(machine.inside('/tmp/low.fled'))).toBe(false);
  });

  test('several people at once', async () => {
    const victims = [
      await machine.start(ALICE, as(ALICE), ['stubborn']),
      await machine.start(BOB, as(BOT), ['stubborn']),
    ];
    expect(await end(ALICE, BOB)).toBe(2);
    expect(victims.map((one) => one.lives())).toEqual([false, false]);
  });
});

describe('where /proc shows a process only to those who may trace it (hidepid)', () => {
  const PROC = '/tmp/hidden';
  beforeAll(async () => {
    await machine.must([
      'sh',
      '-c',
      `mkdir ${PROC} && mount -t proc -o hidepid=2,gid=4 proc ${PROC}`,
    ]);
  });

  test.each([
    ['is ended', `-all${rightsOfUnit()}`, { code: 0, stdout: '1\n' }, false],
    ['is not, and that is reported', '-all,+dac_override,+kill', { code: 1, stdout: '' }, true],
  ])('her process %s', async (_, rights, said, isLeft) => {
    const hers = await machine.start(ALICE, as(BOT));
    const program = [NODE, '--input-type=module', '--eval', ending(PROC, [ALICE])];
    const ended = await machine.run(['setpriv', `--bounding-set=${rights}`, ...program]);
    expect(ended).toMatchObject(said);
    expect(hers.lives()).toBe(isLeft);
    await end(ALICE);
  });
});

describe('lives on', () => {
  test.each([
    ['a process that somebody else has started', BOB, as(BOB), []],
    ['a process that somebody else has started as the same tool', BOB, as(BOT), []],
    ['a process that nobody has started', NO_LOGIN, ['--reuid=0'], []],
    ['a process of a uid that begins like hers', ALICE * 10, as(ALICE * 10), []],
  ])('%s', async (_, login, setpriv, how) => {
    const hers = await machine.start(ALICE, as(BOT));
    const bystander = await machine.start(login, setpriv, how);
    expect(await end(ALICE)).toBe(1);
    expect(hers.lives()).toBe(false);
    expect(bystander.lives()).toBe(true);
    await machine.must(['kill', '-KILL', String(bystander.pid)]);
  });

  describe('a daemon that she has started as an admin', () => {
    beforeAll(async () => {
      // the file that runs is what counts: here it is perl's, under that name
      const copy = 'cp "$(readlink -f /usr/bin/perl)" "$1.new" && mv "$1.new" "$1"';
      for (const path of ['/usr/sbin/sshd', '/usr/sbin/cron', '/usr/sbin/atd']) {
        await machine.must(['sh', '-c', copy, 'copy', path]);
      }
    });

    test.each([
      ['sshd', 0, '/usr/sbin/sshd', 'sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups'],
      ['cron', 0, '/usr/sbin/cron', 'x'],
      ['atd', 1, '/usr/sbin/atd', 'x'],
    ])('%s', async (_, uid, file, title) => {
      const name = `daemon-${file.split('/').at(-1)}`;
      const program = ['then', 'setpriv', `--reuid=${uid}`, file, '/usr/local/bin/stay', name];
      const shell = await machine.start(ALICE, as(0), [...program, `title ${title}`]);
      const daemon = await machine.started(name);
      expect(await end(ALICE)).toBe(1);
      expect([shell.lives(), daemon.lives()]).toEqual([false, true]);
      await machine.must(['kill', '-KILL', String(daemon.pid)]);
    });
  });

  describe('the keys agent, which she has started as an admin', () => {
    const BIN = `${CLONE}/src/login-host/programs`;
    /** Stays until it is ended, in place of a program; its file in /tmp has the name of that program. */
    const STAY = `import { renameSync, writeFileSync } from 'node:fs';
      import { basename } from 'node:path';
      const file = '/tmp/' + basename(process.argv[1]);
      writeFileSync(file + '.new', String(process.pid));
      renameSync(file + '.new', file);
      setInterval(() => {}, 1e6);`;
    beforeAll(async () => {
      writeFileSync(machine.inside('/tmp/stay.ts'), STAY);
      for (const program of ['keys-agent.ts', 'take.ts']) {
        await machine.must(['mount', '--bind', '/tmp/stay.ts', `${BIN}/${program}`]);
      }
    });

    test.each([
      ['as it is started', 991, 'keys-agent.ts', ['run'], true],
      ['with another command', 991, 'keys-agent.ts', ['status'], false],
      ['as a person', BOB, 'keys-agent.ts', ['run'], false],
      [
        'named in the arguments of another program',
        0,
        'take.ts',
        ['x', `${BIN}/keys-agent.ts`, 'run', 'x'],
        false,
      ],
    ])('%s', async (_, uid, program, args, lives) => {
      await machine.must(['rm', '-f', `/tmp/${program}`]);
      const node = [NODE, '--disable-sigusr1', `${BIN}/${program}`, ...args];
      await machine.start(ALICE, as(0), ['then', 'setpriv', `--reuid=${uid}`, ...node]);
      const agent = await machine.started(program);
      expect(await end(ALICE)).toBe(lives ? 1 : 2);
      expect(agent.lives()).toBe(lives);
      if (lives) await machine.must(['kill', '-KILL', String(agent.pid)]);
    });
  });

  test('a process that is not Node, whatever its arguments are', async () => {
    const wait = 'echo $$ >/tmp/tail.new && mv /tmp/tail.new /tmp/tail && exec tail -f "$@"';
    const words = ['sh', '-c', wait, 'sh', `${CLONE}/src/login-host/programs/keys-agent.ts`, 'run'];
    await machine.start(ALICE, as(0), ['then', ...words]);
    const tail = await machine.started('tail');
    expect(await end(ALICE)).toBe(2);
    expect(tail.lives()).toBe(false);
  });

  test('a process that another login has started below hers', async () => {
    const hers = await machine.start(
      NO_LOGIN,
      [`--ruid=${ALICE}`],
      [
        ...[
          'then',
          'setpriv',
          '--reuid=0',
          'keep',
          `${BOB}`,
          'setpriv',
          ...as(BOB),
          'stay',
          'guest',
        ],
      ],
    );
    const guest = await machine.started('guest');
    await end(ALICE);
    expect([hers.lives(), guest.lives()]).toEqual([false, true]);
    await machine.must(['kill', '-KILL', String(guest.pid)]);
  });

  test('a process that has received the pid of one that has ended meanwhile', async () => {
    const first = await machine.start(ALICE, as(BOT));
    const heir = machine.must([
      '/bin/sh',
      '-c',
      `while [ -e /proc/${first.pid} ]; do :; done
       for try in 1 2 3 4 5 6 7 8 9; do
         echo ${first.pid - 1} >/proc/sys/kernel/ns_last_pid
         setpriv --reuid=${BOB} /usr/local/bin/stay heir stubborn </dev/null >/dev/null 2>&1 &
         [ $! = ${first.pid} ] && exit 0
         kill -KILL $!
       done
       exit 1`,
    ]);
    await end(ALICE);
    await heir;
    const bystander = await machine.started('heir');
    expect([bystander.pid, bystander.lives()]).toEqual([first.pid, true]);
    await machine.must(['kill', '-KILL', String(bystander.pid)]);
  });
});

test('a pid that was given to another process between look and signal is left alone', async () => {
  const heir = await machine.start(BOB, as(BOB));
  // Replaces /proc. It shows her process until its last file has been read, and its successor from then on.
  const folder = `/tmp/proc/${heir.pid}`;
  await machine.must([
    '/bin/sh',
    '-c',
    `mkdir -p ${folder} /tmp/proc/1 && cp /proc/1/status /proc/1/stat /tmp/proc/1
     cd ${folder} && cp /proc/${heir.pid}/status status
     cp /proc/${heir.pid}/stat heirs && sed 's/ [0-9]*/ 7/21' heirs >stat
     echo -n ${BOB} >other && mkfifo loginuid
     { exec 3>loginuid; mv heirs stat; mv other loginuid; echo -n ${ALICE} >&3; } >/tmp/told 2>&1 &`,
  ]);
  expect(await endBy('/tmp/proc', [ALICE])).toBe(1);
  expect(heir.lives()).toBe(true);
  await machine.must(['kill', '-KILL', String(heir.pid)]);
});

test('a process that does not end is reported', async () => {
  // Replaces /proc, and shows a process that is there whatever is sent.
  await machine.must([
    ...['sh', '-c'],
    `mkdir -p /tmp/fast/1 && cp /proc/1/status /proc/1/stat /tmp/fast/1 &&
     cp -r /tmp/fast/1 /tmp/fast/4000000 && echo -n ${ALICE} >/tmp/fast/4000000/loginuid`,
  ]);
  await expect(endBy('/tmp/fast', [ALICE])).rejects.toThrow('1 process did not end');
});

test('it is no error if there is no process', async () => {
  expect(await end(ALICE)).toBe(0);
});

test('a process that has ended already is not waited for, even if it was not reaped', async () => {
  const parent = await machine.start(
    BOB,
    ['--reuid=0'],
    [...['then', 'sh', '-c', `echo ${ALICE} >/proc/self/loginuid; echo $$ >/tmp/dead`]],
  );
  const dead = await machine.started('dead');
  await eventually('it has ended', () => !dead.lives());
  expect(existsSync(machine.inside(`/proc/${dead.pid}`))).toBe(true);
  expect(await end(ALICE)).toBe(0);
  await machine.must(['kill', '-KILL', String(parent.pid)]);
});

test('the calling process is not ended, even if it is hers', async () => {
  const program = `
    import { endSessions } from '${CLONE}/src/login-host/helper/sessions.ts';
    await endSessions(new Set([${ALICE}]));
    console.log('lives');`;
  const said = await machine.must([
    ...['/bin/sh', '-c', `echo ${ALICE} >/proc/self/loginuid; exec "$@"`, 'as-hers'],
    ...[NODE, '--input-type=module', '--eval', program],
  ]);
  expect(said).toBe('lives\n');
});
