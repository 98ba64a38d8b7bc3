/** The lists of a login host: passwd, group, shadow, sudoers and closed accounts, as NSS and sudo read them. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLog } from '../../../src/shared/log.ts';
import { verifyPayload, type PersonSeal, type ToolSeal } from '../../../src/seals/seal.ts';
import { sealKeysOf } from '../../../src/login-host/config.ts';
import { openHeartbeats } from '../../../src/login-host/helper/registry/directory-trust.ts';
import { judgePayload } from '../../../src/login-host/helper/registry/judge.ts';
import { openListFiles, type ListFiles } from '../../../src/login-host/helper/list-files.ts';
import { parseLocalAccounts } from '../../../src/login-host/helper/local-accounts.ts';
import type { Places } from '../../../src/login-host/places.ts';
import { settle, takeHeartbeat } from '../../../src/login-host/helper/registry/disappeared.ts';
import { takeReading, takeSeal } from '../../../src/login-host/helper/registry/entries.ts';
import {
  openRegistry,
  type ListName,
  type Registry,
  setLocal,
} from '../../../src/login-host/helper/registry/registry.ts';
import { digestOf } from '../../../src/login-host/helper/registry/subject.ts';
import { openTroubles, type Troubles } from '../../../src/login-host/helper/troubles.ts';
import { heartbeat, IDS, newKey, newSigner, PEOPLE, person, sign, tool, TOOLS } from '../seals.ts';
import { onSmallDisk } from '../small-disk.ts';

const CONFIG = {
  realm: 'tools',
  realmGid: 1500,
  ids: IDS,
  homes: { people: '/home', tools: '/data/project' },
  knownBadKeys: [],
  offlineLimitSeconds: 86_400,
};
const SHADOW = 42;
const ALL = new Set<ListName>(['passwd', 'shadow', 'group', 'sudoers', 'closed']);
const signer = newSigner();
const keys = sealKeysOf({ sealKeys: [signer.pem] });

let root: string;
let places: Places;
let registry: Registry;
let lists: ListFiles;
let troubles: Troubles;
let local = parseLocalAccounts('', '');
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'chamberlain-lists-'));
  for (const each of ['login', 'extrausers', 'sudoers.d']) mkdirSync(join(root, each));
  places = {
    keys: join(root, 'keys'),
    login: join(root, 'login'),
    extrausers: join(root, 'extrausers'),
    sudoers: join(root, 'sudoers.d/chamberlain-tools'),
    socket: join(root, 'socket'),
    passwd: join(root, 'passwd'),
    group: join(root, 'group'),
  };
  local = parseLocalAccounts('root:x:0:0::/:/bin/sh\n', `root:x:0:\nshadow:x:${SHADOW}:\n`);
  registry = openRegistry(CONFIG, new Set(keys.keys()), openHeartbeats('tools'), local);
  takeHeartbeat(registry, verifyPayload(heartbeat(Date.now(), signer), keys), Date.now());
  troubles = openTroubles(openLog('error'), Date.now);
  lists = openListFiles(CONFIG, places, registry, () => local, troubles);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function told(...seals: (PersonSeal | ToolSeal)[]): void {
  for (const seal of seals) {
    const text = sign(seal, signer);
    const verified = verifyPayload(text, keys);
    const verdict = verified.ok ? judgePayload(seal.name, verified.payload, CONFIG) : verified;
    takeSeal(registry, seal.name, { text, digest: digestOf(text), verdict }, Date.now());
  }
}

const pathOf = (list: ListName) =>
  list === 'sudoers'
    ? places.sudoers
    : join(list === 'closed' ? places.login : places.extrausers, list);
const read = (list: ListName) => readFileSync(pathOf(list), 'utf8');
const inode = (list: ListName) => statSync(pathOf(list)).ino;

test('name all accounts', async () => {
  told(
    tool('bot', 1, { members: ['alice', 'bob', 'tools.other'] }),
    tool('other', 2, { state: 'disabled', shell: '/bin/disabledtoolshell', members: ['bob'] }),
    person('bob', 2, { state: 'suspended', shell: '/usr/bin/zsh' }),
    person('alice', 1, { keys: [newKey()] }),
    tool('why', 3, { state: 'disabled', gecos: 'disabled - too loud' }),
  );
  await lists.write(ALL);
  expect(read('passwd')).toBe(
    [
      `alice:*:${PEOPLE + 1}:1500::/home/alice:/bin/bash\n`,
      `bob:*:${PEOPLE + 2}:1500::/home/bob:/usr/bin/zsh\n`,
      `tools.bot:*:${TOOLS + 1}:${TOOLS + 1}::/data/project/bot:/bin/bash\n`,
      `tools.other:*:${TOOLS + 2}:${TOOLS + 2}::/data/project/other:/bin/disabledtoolshell\n`,
      `tools.why:*:${TOOLS + 3}:${TOOLS + 3}:disabled - too loud:/data/project/why:/bin/bash\n`,
    ].join(''),
  );
  expect(read('shadow')).toBe(
    ['alice', 'bob', 'tools.bot', 'tools.other', 'tools.why']
      .map((n) => `${n}:*:::::::\n`)
      .join(''),
  );
  expect(read('group')).toBe(
    [
      'project-tools:*:1500:\n',
      `tools.bot:*:${TOOLS + 1}:alice,bob,tools.other\n`,
      `tools.other:*:${TOOLS + 2}:bob\n`,
      `tools.why:*:${TOOLS + 3}:\n`,
    ].join(''),
  );
  expect(read('sudoers')).toBe('%tools.bot ALL=(tools.bot) NOPASSWD: ALL\n');
  expect(read('closed')).toBe('bob\ntools.other\ntools.why\n');
  const rights = [...ALL].map((list) => {
    const { mode, uid, gid } = statSync(pathOf(list));
    return [list, (mode & 0o7777).toString(8), uid, gid];
  });
  expect(rights).toEqual([
    ['passwd', '644', 0, 0],
    ['shadow', '640', 0, SHADOW],
    ['group', '644', 0, 0],
    ['sudoers', '440', 0, 0],
    ['closed', '644', 0, 0],
  ]);
  expect(readdirSync(places.extrausers).sort()).toEqual(['group', 'passwd', 'shadow']);
  expect(readdirSync(join(root, 'sudoers.d'))).toEqual(['chamberlain-tools']);
});

describe('accounts that are in no group of a tool', () => {
  test.each<[string, string, () => void]>([
    ['one that does not exist', 'alice', () => {}],
    ['a local account', 'localadmin', () => told(person('localadmin', 7))],
    ['one that disappeared', 'carol', () => told(person('carol', 8))],
  ])('%s', async (_, name, tell) => {
    local = parseLocalAccounts('localadmin:x:70:70::/:/bin/sh\n', '');
    setLocal(registry, local, Date.now());
    tell();
    told(person('bob', 2), tool('bot', 1, { members: [name, 'bob'] }));
    takeReading(registry, 't', 'begin');
    told(person('bob', 2), tool('bot', 1, { members: [name, 'bob'] }));
    takeReading(registry, 't', 'end');
    takeHeartbeat(registry, verifyPayload(heartbeat(Date.now(), signer), keys), Date.now());
    settle(registry, Date.now());
    await lists.write(ALL);
    expect(read('group')).toContain(`tools.bot:*:${TOOLS + 1}:bob\n`);
  });

  test('those of a tool whose seal does not count, which has no rule either', async () => {
    told(person('bob', 2), tool('bot', 1, { members: ['bob'] }));
    const floors: [number, number][] = [[TOOLS + 1, 6]];
    const text = heartbeat(Date.now(), signer, { floors });
    takeHeartbeat(registry, verifyPayload(text, keys), Date.now());
    await lists.write(ALL);
    expect(read('group')).toContain(`tools.bot:*:${TOOLS + 1}:\n`);
    expect(read('sudoers')).toBe('');
    expect(read('passwd')).toContain('tools.bot:');
  });
});

test.each([
  ['name', 'project-tools:x:70:\n'],
  ['number', 'other:x:1500:\n'],
])("the realm's group is the host's own if a local one has its %s", async (_, group) => {
  local = parseLocalAccounts('', group);
  await lists.write(ALL);
  expect(read('group')).toBe('');
});

test('an account that is gone is closed, but not another that has the name now', async () => {
  told(person('alice', 1), person('bob', 2));
  takeReading(registry, 't', 'begin');
  takeReading(registry, 't', 'end');
  const floors: [number, number][] = [
    [PEOPLE + 1, 6],
    [PEOPLE + 2, 6],
  ];
  takeHeartbeat(
    registry,
    verifyPayload(heartbeat(Date.now(), signer, { floors }), keys),
    Date.now(),
  );
  settle(registry, Date.now());
  told(person('alice', 3));
  await lists.write(ALL);
  expect(read('closed')).toBe('bob\n');
  expect(read('passwd')).toBe(`alice:*:${PEOPLE + 3}:1500::/home/alice:/bin/bash\n`);
});

test('are as long as they must be', async () => {
  told(...Array.from({ length: 3000 }, (_, n) => person(`p${n}`, n)));
  await lists.write(ALL);
  expect(read('passwd').split('\n')).toHaveLength(3001);
});

describe('a list', () => {
  beforeEach(async () => {
    told(person('alice', 1), tool('bot', 1, { members: ['alice'] }));
    await lists.write(ALL);
  });

  test('is not replaced if it says the same, but is if somebody has changed it', async () => {
    const before = [...ALL].map(inode);
    await lists.write(ALL);
    expect([...ALL].map(inode)).toEqual(before);
    expect(lists.check()).toEqual(new Set());
    chmodSync(places.sudoers, 0o600);
    writeFileSync(pathOf('passwd'), 'toor:*:0:0::/:/bin/sh\n');
    rmSync(pathOf('closed'));
    expect([...lists.check()].sort()).toEqual(['closed', 'passwd', 'sudoers']);
    await lists.write(lists.check());
    expect(read('passwd')).toMatch(/^alice/);
    expect(statSync(places.sudoers).mode & 0o7777).toBe(0o440);
    expect(existsSync(pathOf('closed'))).toBe(true);
  });

  test('is written despite the remains of an interrupted run', async () => {
    writeFileSync(`${pathOf('passwd')}.new`, 'half');
    told(person('bob', 2));
    await lists.write(ALL);
    expect(read('passwd').split('\n')).toHaveLength(4);
  });

  test('that cannot be written affects only itself, is named, and is written again', async () => {
    mkdirSync(`${pathOf('group')}.new`);
    told(person('bob', 2), tool('bot', 1, { members: ['bob'], number: 6 }));
    await lists.write(ALL);
    expect(read('passwd')).toContain('bob');
    expect(read('group')).toContain(':alice\n');
    expect(troubles.list()).toMatchObject([{ path: pathOf('group') }]);
    rmSync(`${pathOf('group')}.new`, { recursive: true });
    expect(lists.check()).toEqual(new Set(['group']));
    await lists.write(lists.check());
    expect(read('group')).toContain(':bob\n');
    expect(troubles.list()).toEqual([]);
  });

  test('stays if there is no room for a new one', async () => {
    const folder = places.extrausers;
    await onSmallDisk(folder, '64k', async () => {
      await lists.write(ALL);
      told(...Array.from({ length: 2000 }, (_, n) => person(`p${n}`, 100 + n)));
      await lists.write(ALL);
      expect(read('passwd')).toMatch(/^alice.*\ntools.bot.*\n$/);
      expect(readdirSync(folder).some((name) => name.endsWith('.new'))).toBe(false);
      expect(troubles.list().map(({ why }) => why)).toContainEqual(
        expect.stringContaining('ENOSPC'),
      );
    });
  });

  test('of rules that visudo does not accept is not installed, and the old one stays', async () => {
    // as if a name had come through that sudo reads differently
    const bot = registry.byName.get('tools.bot');
    if (bot === undefined) throw new Error('it is there');
    bot.name = 'tools.bot ALL=(ALL) ((';
    await lists.write(new Set<ListName>(['sudoers']));
    expect(read('sudoers')).toBe('%tools.bot ALL=(tools.bot) NOPASSWD: ALL\n');
    expect(troubles.list()).toMatchObject([
      { path: places.sudoers, why: expect.stringContaining('visudo does not accept it') },
    ]);
    expect(readdirSync(join(root, 'sudoers.d'))).toEqual(['chamberlain-tools']);
  });

  test('without any rules is accepted, too', async () => {
    told(tool('bot', 1, { state: 'archived', number: 6 }));
    await lists.write(ALL);
    expect([read('sudoers'), troubles.list()]).toEqual(['', []]);
  });

  test('in a read-only folder is named, and the others are written', async () => {
    const folder = join(root, 'sudoers.d');
    execFileSync('mount', ['--bind', folder, folder]);
    execFileSync('mount', ['-o', 'remount,bind,ro', folder]);
    try {
      told(tool('bot', 1, { state: 'disabled', number: 6 }));
      await lists.write(ALL);
      expect(read('closed')).toBe('tools.bot\n');
      expect(troubles.list()).toMatchObject([
        { path: places.sudoers, why: expect.stringContaining('EROFS') },
      ]);
    } finally {
      execFileSync('umount', [folder]);
    }
    await lists.write(lists.check());
    expect([read('sudoers'), troubles.list()]).toEqual(['', []]);
  });
});
