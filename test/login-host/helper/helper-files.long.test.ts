/** The login helper, with real files: from the agent's reports to what sshd, NSS, sudo and PAM read. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { LoginHostConfig } from '../../../src/login-host/config.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { openHelperWorld, type HelperWorld } from '../helper-world.ts';
import { newKey, newSigner, PEOPLE, person, sign, tool, TOOLS, until } from '../seals.ts';

const KEY = newKey();
const OTHER_KEY = newKey();
const alice = person('alice', 1, { keys: [KEY] });
const bob = person('bob', 2, { keys: [OTHER_KEY] });
const bot = tool('bot', 1, { members: ['alice', 'bob'] });
const people = (count: number) =>
  Array.from({ length: count }, (_, n) => person(`p${n}`, 100 + n, { keys: [KEY] }));

/** The folder is watched, and checked every minute from the start. */
const SEEN_MS = 20_000;

let world: HelperWorld;
let settings: Partial<LoginHostConfig> = {};
const begin = async (more: Partial<LoginHostConfig> = {}) => {
  settings = more;
  world = openHelperWorld(settings);
  await world.start();
};
beforeEach(async () => begin());
afterEach(async () => {
  await world.close();
  // whatever was reported, the helper itself had no fault
  expect(world.logged.filter((line) => line.includes('"level":"error"'))).toEqual([]);
});

test('makes files of what is signed, and shows it in its status', async () => {
  expect(await world.all(alice, bob, bot)).toEqual({ run: expect.any(String), trusted: true });
  expect(world.key('alice')).toMatch(/^expiry-time="\d{14}Z" ssh-ed25519 \S+\n$/);
  expect(world.list('passwd')).toContain(`alice:*:${PEOPLE + 1}:1500::/home/alice:/bin/bash\n`);
  expect(world.list('group')).toContain(`tools.bot:*:${TOOLS + 1}:alice,bob\n`);
  expect(world.list('shadow')).toContain('tools.bot:*:::::::\n');
  expect(world.list('sudoers')).toBe('%tools.bot ALL=(tools.bot) NOPASSWD: ALL\n');
  expect(world.list('closed')).toBe('');
  await eventually('the status says so', () => world.status().trusted);
  expect(world.status()).toMatchObject({
    ...{ people: 2, tools: 1, files: 2, refused: [], refusedInAll: 0, unwritten: [] },
    ...{ pid: process.pid, offlineLimitSeconds: 86_400 },
  });
  expect(statSync(join(world.places.login, 'seals')).mode & 0o7777).toBe(0o600);
  expect(statSync(join(world.places.login, 'state.json')).mode & 0o7777).toBe(0o600);
});

test('a change is in the files when it is answered', async () => {
  await world.all(alice, bob, bot);
  await world.tell(...world.seal({ ...alice, keys: [OTHER_KEY], number: 6 }));
  expect(world.key('alice')).toContain(OTHER_KEY);
  expect(world.key('alice')).not.toContain(KEY);
  await world.tell(...world.seal({ ...bot, members: ['bob'], number: 6 }));
  expect(world.list('group')).toContain(':bob\n');
  await world.tell(...world.seal({ ...bob, state: 'suspended', number: 6 }));
  expect([world.key('bob'), world.list('closed')]).toEqual([undefined, 'bob\n']);
  await world.tell(...world.seal({ ...bot, state: 'disabled', members: ['bob'], number: 7 }));
  expect([world.list('sudoers'), world.list('closed')]).toEqual(['', 'bob\ntools.bot\n']);
  // become must be able to say that it is disabled
  expect(world.list('group')).toContain(':bob\n');
});

test('while there are two keys, the status says how many seals are by each', async () => {
  const next = newSigner();
  await world.close();
  await begin();
  const { sealKeys } = world.config;
  await world.stop();
  sealKeys.push(next.pem);
  await world.start();
  await world.tell(
    world.beat({ people: 2 }),
    ['all', 'x', 'begin'],
    ...world.seal(alice),
    ['seal', 'bob', sign(bob, next)],
    ['all', 'x', 'end'],
  );
  await eventually('it says so', () => world.status().people === 2);
  expect(new Map(world.status().signers)).toEqual(
    new Map([
      [world.signer.id, 1],
      [next.id, 1],
    ]),
  );
});

test('five hundred are suspended by one report', async () => {
  const all = people(500);
  await world.all(...all, alice);
  const answer = await world.tell(
    ...world.seal(...all.map((each) => ({ ...each, state: 'suspended' as const, number: 6 }))),
  );
  expect(answer.trusted).toBe(true);
  expect(readdirSync(world.places.keys)).toEqual(['alice']);
  expect(world.list('closed')?.split('\n')).toHaveLength(501);
});

describe('on a host that is new', () => {
  test('lists are written once everything was reported, and keys at once; the list of closed accounts exists from the start', async () => {
    await eventually('there is a list', () => world.list('closed') === '');
    await world.tell(world.beat({ people: 2 }), ['all', 'a', 'begin'], ...world.seal(alice));
    expect(world.key('alice')).toContain(KEY);
    expect(world.list('passwd')).toBeUndefined();
    await world.tell(...world.seal(bob), ['all', 'a', 'end']);
    expect(world.list('passwd')?.split('\n')).toHaveLength(3);
  });

  test('existing files are left until everything was reported', async () => {
    await world.stop();
    rmSync(world.places.login, { recursive: true });
    mkdirSync(world.places.keys, { recursive: true });
    writeFileSync(join(world.places.keys, 'carol'), `expiry-time="20991231Z" ${KEY}\n`);
    writeFileSync(join(world.places.extrausers, 'passwd'), 'carol:*:1:1::/:/bin/sh\n');
    await world.start();
    await world.tell(...world.seal(alice));
    expect([world.key('carol'), world.list('passwd')]).not.toContain(undefined);
    await world.all(alice);
    expect(world.list('passwd')).toMatch(/^alice/);
    await eventually('the file of an unknown person is gone', async () => {
      await world.tell();
      return world.key('carol') === undefined;
    });
  });
});

describe('what is not believed', () => {
  beforeEach(async () => {
    await world.all(alice, bob, bot);
  });

  test('affects only itself, and is named with its reason and since when', async () => {
    const before = [world.key('alice'), world.list('group'), world.list('passwd')];
    const began = Date.now();
    await world.tell(
      ['seal', 'alice', sign({ ...alice, keys: [], number: 9 }, newSigner())],
      ['seal', 'John.Doe', 'x'],
      ['unsealed', 'Printers'],
      ...world.seal(person('carol', 3, { keys: [KEY] })),
    );
    expect(world.key('carol')).toContain(KEY);
    expect([world.key('alice'), world.list('group')]).toEqual(before.slice(0, 2));
    await eventually('they are named', () => world.status().refusedInAll === 3);
    const { refused } = world.status();
    expect(refused.map(({ entry, why }) => `${entry}: ${why}`)).toEqual([
      expect.stringContaining('alice: this host does not know the key'),
      'John.Doe: the value is not a seal',
      'Printers: its entry has no seal',
    ]);
    for (const { since } of refused) expect(since).toBeGreaterThanOrEqual(began);
  });

  test('is a seal that is older, before and after a restart', async () => {
    await world.tell(...world.seal({ ...alice, keys: [], number: 6 }));
    expect(world.key('alice')).toBeUndefined();
    for (const again of [false, true]) {
      if (again) {
        await world.stop();
        await world.start();
      }
      await world.all(alice, bob, bot);
      expect(world.key('alice')).toBeUndefined();
      await eventually('it is named', () => world.status().refused[0]?.entry === 'alice');
    }
  });

  test('such as that everybody is gone, is shown, and lasts until the counts agree', async () => {
    const all = people(30);
    await world.all(...all);
    await eventually('they are there', () => world.status().people === 30);
    const answer = await world.tell(
      world.beat({ people: 30 }),
      ['all', 'x', 'begin'],
      ['all', 'x', 'end'],
    );
    expect(answer).toMatchObject({
      ...{ trusted: false, tryAnother: true },
      why: expect.stringContaining('30 entries have disappeared from the directory'),
    });
    expect(readdirSync(world.places.keys)).toHaveLength(30);
    expect(world.list('closed')).not.toContain('p');
    await eventually('it is shown', () => world.status().held?.inAll === 30);
    await world.tell(world.beat({ people: 0 }));
    expect(readdirSync(world.places.keys)).toEqual([]);
    expect(world.list('passwd')).toBe('');
    // counts do not say who is gone: none of their processes end
    expect(world.list('closed')).not.toContain('p');
  });

  test('or until root accepts it, and the status says what was accepted', async () => {
    const all = people(30);
    await world.all(...all);
    await world.tell(world.beat({ people: 30 }), ['all', 'x', 'begin'], ['all', 'x', 'end']);
    const what = await world.accept();
    expect(what).toContain('p0 has disappeared');
    expect(what).toContain('30 people are missing');
    expect(readdirSync(world.places.keys)).toEqual([]);
    expect((await world.tell(world.beat({ people: 30 }))).trusted).toBe(true);
    // and it stays accepted over a restart
    await world.stop();
    await world.start();
    await world.tell(world.beat({ people: 30 }), ['all', 'x', 'begin'], ['all', 'x', 'end']);
    expect((await world.tell()).trusted).toBe(true);
  });

  test('is an older heartbeat, after a restart too, until root accepts it', async () => {
    const older = { people: 2, tools: 1, at: new Date(Date.now() - 5000).toISOString() };
    await world.stop();
    await world.start();
    await world.all(alice, bob, bot);
    expect(await world.tell(world.beat(older))).toMatchObject({
      ...{ trusted: false, why: expect.stringContaining('keys-agent accept') },
    });
    expect(await world.accept()).toEqual([expect.stringContaining('the heartbeat published at')]);
    expect((await world.tell()).trusted).toBe(true);
  });
});

describe('keys', () => {
  const seconds = (name: string) => {
    const [, digits = ''] = /expiry-time="(\d{14})Z"/.exec(world.key(name) ?? '') ?? [];
    const iso = digits.replace(/^(....)(..)(..)(..)(..)(..)$/, '$1-$2-$3T$4:$5:$6Z');
    return (Date.parse(iso) - Date.now()) / 1000;
  };

  test('are renewed only while the directory is trusted', async () => {
    await world.close();
    await begin({ offlineLimitSeconds: 8 });
    await world.all(alice);
    const first = world.key('alice');
    await eventually('it is renewed', async () => {
      await world.tell(world.beat({ people: 1 }));
      return world.key('alice') !== first;
    });
    await world.tell(['trouble', 'ldaps://one', 'it does not answer']);
    const last = world.key('alice');
    await eventually('it is over', () => seconds('alice') < 0);
    expect(world.key('alice')).toBe(last);
    await world.tell(['trouble', 'ldaps://one', ''], world.beat({ people: 1 }));
    await eventually('it is renewed', () => seconds('alice') > 4);
  });

  test('are not renewed for a person whose entry no longer shows a valid seal', async () => {
    await world.close();
    await begin({ offlineLimitSeconds: 8 });
    await world.all(alice, bob);
    const first = world.key('alice');
    await eventually('the other one is renewed', async () => {
      await world.tell(world.beat({ people: 2 }), ['seal', 'alice', 'x'], ...world.seal(bob));
      return seconds('bob') > 7 && seconds('alice') < 3;
    });
    expect(world.key('alice')).toBe(first);
  });

  test('are removed when the seal ends', async () => {
    const soon = until(Date.now() + 6000);
    await world.all({ ...alice, until: soon }, { ...bot, until: soon, members: ['alice'] });
    expect(world.key('alice')).toContain(`expiry-time="${soon.replaceAll(/[-:T]/g, '')}"`);
    await eventually('they are gone', () => world.list('sudoers') === '');
    expect(world.key('alice')).toBeUndefined();
    expect(world.list('group')).toContain(`tools.bot:*:${TOOLS + 1}:\n`);
    expect(world.list('passwd')).toContain('alice');
    expect(world.list('closed')).toBe('');
  });

  test('that somebody has added are removed at once', async () => {
    await world.all(alice);
    appendFileSync(join(world.places.keys, 'alice'), `${OTHER_KEY}\n`);
    writeFileSync(join(world.places.keys, 'eve'), `${OTHER_KEY}\n`);
    const began = performance.now();
    await eventually('they are gone', () => {
      return world.key('alice')?.includes(OTHER_KEY) === false && world.key('eve') === undefined;
    });
    expect(world.key('alice')).toContain(KEY);
    expect(performance.now() - began).toBeLessThan(SEEN_MS);
  });
});

describe('after a restart', () => {
  beforeEach(async () => {
    await world.all(alice, bob, bot, person('carol', 3, { state: 'suspended' }));
    await world.tell(world.beat({ people: 2, tools: 1, floors: [[bob.uid, 6]] }), ['gone', 'bob']);
    await world.stop();
  });
  const files = () =>
    ['passwd', 'group', 'shadow', 'sudoers', 'closed'].map((name) => world.list(name as 'passwd'));

  test('it knows everybody while the directory is away, and corrects what was changed', async () => {
    const before = files();
    const key = world.key('alice');
    for (const name of ['passwd', 'group', 'shadow']) rmSync(join(world.places.extrausers, name));
    rmSync(world.places.sudoers);
    rmSync(join(world.places.keys, 'alice'));
    writeFileSync(join(world.places.keys, 'bob'), `${OTHER_KEY}\n`);
    await world.start();
    await eventually(
      'the files are there',
      () => world.key('bob') === undefined && world.list('shadow') !== undefined,
    );
    expect(files()).toEqual(before);
    expect(world.key('alice')).toContain(KEY);
    expect(key).toBeDefined();
    expect((await world.tell()).trusted).toBe(false);
  });

  test('a line that somebody adds is removed at once, too', async () => {
    const before = world.key('alice');
    await world.start();
    appendFileSync(join(world.places.keys, 'alice'), `${OTHER_KEY}\n`);
    const began = performance.now();
    await eventually('it is gone', () => world.key('alice') === before);
    expect(performance.now() - began).toBeLessThan(SEEN_MS);
  });

  test('nothing known is verified again, and the number of a subject that is gone is still known', async () => {
    // with no key at all, whatever was verified before still counts
    await world.start();
    await world.all(alice, bot, person('carol', 3, { state: 'suspended' }), { ...bob, number: 4 });
    await eventually('it is named', () => world.status().refused[0]?.entry === 'bob');
    expect(world.list('closed')).toBe('bob\ncarol\n');
  });

  test.each([
    [
      'in the middle of a line',
      (path: string) => truncateSync(path, readFileSync(path).indexOf(0) - 10),
    ],
    ['with a line that is garbage', (path: string) => appendFileSync(path, randomBytes(100))],
    ['that is gone', (path: string) => rmSync(path)],
  ])('with a journal that ends %s', async (_, harm) => {
    harm(join(world.places.login, 'seals'));
    await world.start();
    expect((await world.all(alice, bot, person('carol', 3))).trusted).toBe(true);
    expect(world.key('alice')).toContain(KEY);
  });

  test.each([
    ['that cannot be read', (path: string) => writeFileSync(path, '{')],
    ['of another form', (path: string) => writeFileSync(path, '{"at":"x"}')],
    ['that is gone', (path: string) => rmSync(path)],
  ])('with a state %s', async (_, harm) => {
    harm(join(world.places.login, 'state.json'));
    await world.start();
    expect((await world.all(alice, bot, person('carol', 3))).trusted).toBe(true);
    expect(world.list('passwd')).toContain('alice');
  });
});

test('memberships and rules end with the limit, even if not everybody is known', async () => {
  await world.close();
  await begin({ offlineLimitSeconds: 10 });
  await world.all(alice, bob, bot);
  expect(world.list('group')).toContain('alice,bob');
  await world.stop();
  writeFileSync(join(world.places.login, 'state.json'), '{');
  await world.start();
  expect(world.list('group')).toContain('alice,bob');
  await eventually('they have ended', () => world.list('sudoers') === '');
  expect(world.list('group')).toContain(`tools.bot:*:${TOOLS + 1}:\n`);
  expect(world.list('passwd')).toContain('bob');
});

test('it asks for another reading when one is over, not at each refusal within it', async () => {
  const { run } = await world.all(alice, bob, bot);
  await world.tell(['all', 'x', 'begin'], ['seal', 'alice', 'x']);
  await eventually('it is named', () => world.status().refused[0]?.entry === 'alice');
  expect((await world.tell()).run).toBe(run);
  await world.tell(...world.seal(bob, bot), ['all', 'x', 'end']);
  await eventually('it asks', async () => (await world.tell()).run !== run);
});

test('a new local account takes its name, and the name is free again once it is removed', async () => {
  await world.all(alice, bob);
  const passwd = readFileSync(world.places.passwd, 'utf8');
  appendFileSync(world.places.passwd, 'alice:x:70:70::/:/bin/sh\n');
  await eventually('it is the local one', () => world.key('alice') === undefined);
  expect(world.list('passwd')).toMatch(/^bob.*\n$/);
  await eventually('it is named', () => world.status().refused[0]?.entry === 'alice');
  writeFileSync(world.places.passwd, passwd);
  await eventually('it is back', () => world.key('alice') !== undefined);
});

test('everything must be reported again if something that was refused may be accepted', async () => {
  const { run } = await world.all(alice);
  await world.tell(...world.seal(person('carol', 1, { number: 9 })));
  await world.tell(world.beat({ floors: [[alice.uid, 6]] }), ['gone', 'alice']);
  const answer = await eventually('it asks', async () => {
    const next = await world.tell();
    return next.run === run ? undefined : next;
  });
  expect(answer.run).not.toBe(run);
});

describe('whatever the agent sends, the helper goes on', () => {
  beforeEach(async () => {
    await world.all(alice, bob, bot);
  });
  afterEach(async () => {
    expect((await world.all(alice, bob, bot)).trusted).toBe(true);
    expect(world.key('alice')).toContain(KEY);
  });

  test('a report that was cut is ignored', async () => {
    const half = connect(world.places.socket);
    half.write('["gone","alice"]\n["gone","b');
    half.end();
    expect(await world.ask('["gone","alice"]')).toBe('');
    expect((await world.tell()).trusted).toBe(true);
    expect(world.list('closed')).toBe('');
  });

  test.each<[string, () => string | Buffer]>([
    ['invalid lines', () => 'x\n["gone"]\n[[[[\n\n["all","t","x"]\n'.repeat(1000)],
    ['what is not UTF-8', () => Buffer.from('["gone","a\xff"]\n', 'latin1')],
    ['one long line', () => `["seal","a","${'x'.repeat(30 * 2 ** 20)}"]\n`],
    ['brackets', () => `${'['.repeat(30 * 2 ** 20)}\n`],
    [
      'names without end',
      () => Array.from({ length: 200_000 }, (_, n) => `["unsealed","n${n}"]\n`).join(''),
    ],
    ['invalid seals', () => '["seal","alice","x"]\n'.repeat(50_000)],
    ['an end without a beginning', () => '["all","x","end"]\n'],
    ['invalid heartbeats', () => '["heartbeat",""]\n["heartbeat","x"]\n'],
  ])('%s', async (_, report) => {
    expect(JSON.parse(await world.ask(report()))).toMatchObject({ run: expect.any(String) });
    expect(world.list('closed')).toBe('');
  });

  test('32 MiB are read, and not a byte more', async () => {
    expect(await world.ask(Buffer.alloc(32 * 2 ** 20 + 1, '\n'))).toBe('');
    expect(JSON.parse(await world.ask(Buffer.alloc(32 * 2 ** 20, '\n')))).toMatchObject({
      trusted: true,
    });
  });

  test('many at once are answered one after the other', async () => {
    const answers = await Promise.all(
      Array.from({ length: 30 }, () => world.tell(...world.seal(alice))),
    );
    expect(answers.every(({ trusted }) => trusted)).toBe(true);
  });

  test('one who hangs up at once, in the middle, or before the answer', async () => {
    for (const bytes of ['', '["gone"', `${JSON.stringify(world.seal(alice)[0])}\n`]) {
      const socket = connect(world.places.socket);
      socket.on('error', () => {});
      socket.write(bytes, () => socket.destroy());
    }
    await world.tell();
  });
});

describe('where files cannot be written', () => {
  const mounted: string[] = [];
  const mount = (folder: string, ...options: string[]) => {
    execFileSync('mount', [...options, folder]);
    mounted.push(folder);
  };
  afterEach(() => {
    for (const folder of mounted.splice(0)) execFileSync('umount', [folder]);
  });

  test('read-only rules of sudo are named, and everything else goes on', async () => {
    await world.all(alice, bot);
    const folder = join(world.places.sudoers, '..');
    mount(folder, '--bind', folder);
    execFileSync('mount', ['-o', 'remount,bind,ro', folder]);
    await world.tell(
      ...world.seal(
        { ...alice, state: 'suspended', number: 6 },
        { ...bot, state: 'disabled', number: 6 },
      ),
    );
    expect([world.key('alice'), world.list('closed')]).toEqual([undefined, 'alice\ntools.bot\n']);
    await eventually(
      'it is named',
      () => world.status().unwritten[0]?.path === world.places.sudoers,
    );
    expect(world.status().unwritten[0]?.why).toContain('EROFS');
  });

  test('on a full disk seals still count, losses are kept, and the rest must be reported again', async () => {
    await world.stop();
    mount(world.places.login, '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs');
    await world.start();
    const { run } = await world.all(alice, bob);
    const full = join(world.places.login, 'full');
    expect(() => writeFileSync(full, Buffer.alloc(2 ** 23))).toThrow('ENOSPC');
    const many = people(4000); // more than fits into the half that is not reserved for losses
    await world.tell(...world.seal(...many));
    await world.tell(...world.seal({ ...alice, state: 'suspended', number: 6 }));
    expect(world.key('alice')).toBeUndefined();
    expect(world.key('p3999')).toContain(KEY);
    const journal = () => readFileSync(join(world.places.login, 'seals'), 'utf8');
    expect(journal()).toContain('"state":"suspended"');
    expect(journal()).not.toContain('"name":"p3999"');
    rmSync(full);
    await eventually(
      'it asks for everything',
      async () => (await world.tell()).run !== run,
      90_000,
    );
    await world.all({ ...alice, state: 'suspended', number: 6 }, bob, ...many);
    expect(new Set(journal().match(/"name":"p\d+"/g)).size).toBe(4000);
    await world.stop();
  });

  test('a folder in place of a key file affects only itself', async () => {
    mkdirSync(join(world.places.keys, 'bob'));
    writeFileSync(join(world.places.keys, 'bob/x'), '');
    await world.all(alice, bob);
    expect(world.key('alice')).toContain(KEY);
    await world.tell(...world.seal({ ...alice, state: 'suspended', number: 6 }));
    expect([world.key('alice'), world.list('closed')]).toEqual([undefined, 'alice\n']);
    await eventually('it is named', () =>
      world.status().unwritten.some(({ path }) => path.endsWith('/bob')),
    );
    expect(existsSync(join(world.places.keys, 'bob/x'))).toBe(true);
  });
});
