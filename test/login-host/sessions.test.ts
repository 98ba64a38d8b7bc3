/** Ending a person's sessions: which processes are hers, on a machine with process ids of its own. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { existsSync } from 'node:fs';
import { eventually } from '../scenarios/eventually.ts';
import { CLONE, NODE, NO_LOGIN, openHelperMachine, type HelperMachine } from './helper-machine.ts';

const ALICE = 10_001;
const BOB = 10_002;
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
  const program = `
    import { endSessions } from '${CLONE}/src/login-host/sessions.ts';
    console.log(await endSessions(new Set(${JSON.stringify(uids)}), '${proc}'));`;
  return Number(await machine.must([NODE, '--input-type=module', '--eval', program]));
}

describe('is ended', () => {
  test.each([
    ['what she has started', ALICE, as(ALICE), []],
    ['what she has started as a tool', ALICE, as(BOT), []],
    ['what she has started as root', ALICE, ['--reuid=0'], []],
    ['what hears neither SIGHUP nor SIGTERM', ALICE, as(BOT), ['stubborn']],
    ['what another has started as her', BOB, as(ALICE), []],
    ['what has her real uid', NO_LOGIN, [`--ruid=${ALICE}`, `--euid=${BOT}`], []],
    ['what has her effective uid', NO_LOGIN, [`--ruid=${BOT}`, `--euid=${ALICE}`], []],
    [
      'what can have her uid again',
      NO_LOGIN,
      [`--ruid=${BOT}`, `--euid=${ALICE}`],
      ['euid is ruid'],
    ],
    ['what goes on when its first thread has ended', ALICE, as(BOT), ['headless']],
    ['what calls itself the sshd that listens', ALICE, as(ALICE), ['title sshd: x [listener]']],
  ])('%s', async (_, login, setpriv, how) => {
    const victim = await machine.start(login, setpriv, how);
    expect(victim.lives()).toBe(true);
    expect(await end(ALICE)).toBe(1);
    expect(victim.lives()).toBe(false);
  });

  test('without loginuids, what is below hers, also when hers is gone first', async () => {
    const hers = await machine.start(
      NO_LOGIN,
      [`--ruid=${ALICE}`],
      [
        // as by way of sudo
        ...['then', 'setpriv', '--reuid=0', 'stay', 'low', 'stubborn'],
        ...['then', 'setpriv', `--reuid=${BOT}`, 'stay', 'lower', 'stubborn'],
      ],
    );
    const low = await machine.started('low');
    const lower = await machine.started('lower');
    await end(ALICE);
    expect([hers, low, lower].map((one) => one.lives())).toEqual([false, false, false]);
  });

  test('what forks and exits all the time', async () => {
    await machine.start(ALICE, as(BOT), ['stubborn', 'hopping']);
    await end(ALICE);
    for (let look = 0; look < 50; look += 1) expect(await loginsNow()).not.toContain(ALICE);
  });

  test.each(['HUP', 'TERM'])('only after a while, where it hears SIG%s', async (signal) => {
    const victim = await machine.start(ALICE, as(BOT), ['stubborn', `tidies on ${signal}`]);
    await end(ALICE);
    expect(victim.lives()).toBe(false);
    expect(existsSync(machine.inside(`/tmp/${victim.name}.tidy`))).toBe(true);
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

describe('lives on', () => {
  test.each([
    ['what another has started', BOB, as(BOB), []],
    ['what another has started as the same tool', BOB, as(BOT), []],
    ['what nobody has started', NO_LOGIN, ['--reuid=0'], []],
    ['what a number that begins like hers has started', ALICE * 10, as(ALICE * 10), []],
    [
      'the sshd that listens, which she has started as root',
      ALICE,
      ['--reuid=0'],
      ['title sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups'],
    ],
  ])('%s', async (_, login, setpriv, how) => {
    const hers = await machine.start(ALICE, as(BOT));
    const bystander = await machine.start(login, setpriv, how);
    expect(await end(ALICE)).toBe(1);
    expect(hers.lives()).toBe(false);
    expect(bystander.lives()).toBe(true);
    await machine.must(['kill', '-KILL', String(bystander.pid)]);
  });

  test('what another login has started below hers', async () => {
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

  test('what has been given the number of one that has ended meanwhile', async () => {
    // keeps the call looking for as long as a second
    const stubborn = await machine.start(ALICE, as(BOT), ['stubborn']);
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
    expect([stubborn.lives(), bystander.pid, bystander.lives()]).toEqual([false, first.pid, true]);
    await machine.must(['kill', '-KILL', String(bystander.pid)]);
  });
});

test('a number that was given to another between look and signal is let alone', async () => {
  const heir = await machine.start(BOB, as(BOB));
  // Stands for /proc. It tells of hers until the last file has been read, and of the heir from then on.
  const folder = `/tmp/proc/${heir.pid}`;
  await machine.must([
    '/bin/sh',
    '-c',
    `mkdir -p ${folder} && cd ${folder} && cp /proc/${heir.pid}/status status
     cp /proc/${heir.pid}/stat heirs && sed 's/ [0-9]*/ 7/21' heirs >stat
     echo -n ${BOB} >other && mkfifo loginuid
     { exec 3>loginuid; mv heirs stat; mv other loginuid; echo -n ${ALICE} >&3; } >/tmp/told 2>&1 &`,
  ]);
  expect(await endBy('/tmp/proc', [ALICE])).toBe(1);
  expect(heir.lives()).toBe(true);
  await machine.must(['kill', '-KILL', String(heir.pid)]);
});

test('nobody there is no error', async () => {
  expect(await end(ALICE)).toBe(0);
});

test('what has ended already is not waited for, though nobody has buried it', async () => {
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

test('who calls is not ended, though he is hers', async () => {
  const program = `
    import { endSessions } from '${CLONE}/src/login-host/sessions.ts';
    await endSessions(new Set([${ALICE}]));
    console.log('lives');`;
  const said = await machine.must([
    ...['/bin/sh', '-c', `echo ${ALICE} >/proc/self/loginuid; exec "$@"`, 'as-hers'],
    ...[NODE, '--input-type=module', '--eval', program],
  ]);
  expect(said).toBe('lives\n');
});

/** The loginuid of every process of the machine. */
async function loginsNow(): Promise<number[]> {
  const said = await machine.must([
    '/bin/sh',
    '-c',
    'cat /proc/[0-9]*/loginuid | tr "\\0" " "; true',
  ]);
  return (said.match(/\d{5}/g) ?? []).map(Number);
}
