/**
 * A login host whose clock jumps, ahead and back: what holds meanwhile, and that everything is as before once
 * it is right.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { eventually } from '../eventually.ts';
import { openLogin, type Login, type Session, untilSound, untilStatus } from './login.ts';
import { difference, filesBySeals, filesOf } from '../drift/sealed-files.ts';

const HOUR = 3600;
const DAY = 24 * HOUR;

let login: Login;
let his: Session;

beforeAll(async () => {
  login = await openLogin('login-clock', { hasOwnClock: true });
  for (const name of ['alice', 'bob', 'carol']) {
    await login.create(name);
    await login.admit(name);
  }
  const wish = { kind: 'tool.create', requestedBy: 'alice', name: 'bot', title: 'A bot' };
  await login.portal.get({ ...wish, maintainers: ['alice', 'bob'] });
  await eventually('a login', async () => (await login.ssh('bob', 'true')).code === 0);
  his = await login.openSession('bob');
  await eventually('bob becomes bot', async () => (await his.run('become bot true')).code === 0);
});

afterAll(async () => {
  await his?.close();
  await login?.close();
});

afterEach(async () => {
  login.host.setClock(0);
  await untilStatus(login, 'trust', ({ trusted }) => trusted);
});

const getsIn = async (name: string, key?: string) =>
  (await login.ssh(name, 'true', key === undefined ? {} : { key })).code === 0;

/** When a person's keys end, in seconds from now on by the clock of this machine. */
function lasts(name: string): number[] {
  return login.keyFile(name).map((line) => {
    const [, ...parts] = /expiry-time="(....)(..)(..)(..)(..)(..)Z"/.exec(line) ?? [];
    const [year, month, day, hour, minute, second] = parts;
    const end = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
    return Math.round((end - Date.now()) / 1000);
  });
}

/** Everybody's keys last a day, and the files match the seals. */
async function expectAsBefore(): Promise<void> {
  await eventually('keys for a day', () =>
    ['alice', 'bob', 'carol'].every((name) => {
      const seconds = lasts(name);
      return seconds.length > 0 && seconds.every((each) => each > DAY / 2 && each <= DAY + 60);
    }),
  );
  await eventually('what the seals say', async () => {
    const unlike = difference(filesOf(login), await filesBySeals(login));
    if (unlike === undefined) return true;
    throw new Error(unlike);
  });
  expect((await his.run('become bot id -un')).output).toBe('tools.bot\n');
}

describe.each([
  [
    'ahead',
    2 * DAY,
    /^the directory role has published no heartbeat for (?:48 h|2 d): the last one says/,
  ],
  [
    'back',
    -2 * DAY,
    /^the heartbeat of the directory is (?:48 h|2 d) ahead of this host: .*; correct the cl/,
  ],
])('a clock that jumps two days %s', (_, ahead, sentence) => {
  test('costs trust, names what to check, and ends no session', async () => {
    login.host.setClock(ahead);
    await untilStatus(login, 'distrust', ({ why }) => sentence.test(why ?? ''));
    // no key whose end was set by another clock lasts longer than a day by this one
    await eventually('none that lasts longer', () =>
      ['alice', 'bob', 'carol'].every((name) =>
        lasts(name).every((seconds) => seconds - ahead <= DAY + 60),
      ),
    );
    expect(await getsIn('bob')).toBe(ahead < 0);
    expect((await his.run('id -un')).output).toBe('bob\n');
    if (ahead < 0) {
      expect((await his.run('become bot id -un')).output).toBe('tools.bot\n');
      return;
    }
    // by this clock, nobody has confirmed his membership for two days
    await eventually('its end', async () =>
      (await his.run('become bot true')).output.includes('You are not a member of the group'),
    );
  });

  test('delays nothing that takes access away; changes made meanwhile take effect, and keys are renewed, once the clock is right', async () => {
    login.host.setClock(ahead);
    await untilStatus(login, 'distrust', ({ why }) => sentence.test(why ?? ''));
    const { portal } = login;
    const key = await login.host.newKey(`new-${ahead}`);
    await portal.get({ kind: 'key.add', requestedBy: 'alice', person: 'alice', key: key.line });
    await portal.get({ kind: 'access.revoke', requestedBy: 'steward', person: 'carol' });
    await eventually('no key', () => login.keyFile('carol').length === 0);

    login.host.setClock(0);
    await login.admit('carol');
    await untilStatus(login, 'trust', ({ trusted }) => trusted);
    await expectAsBefore();
    for (const file of [key.file, login.keys.get('alice')]) {
      expect([file, await getsIn('alice', file)]).toEqual([file, true]);
    }
    await untilSound(login);
  });
});

test('a clock beyond the end of all seals lets nobody in, and ends no session', async () => {
  login.host.setClock(8 * DAY);
  await eventually('no keys', () => login.keyFile('alice').length === 0);
  const { refused } = await untilStatus(login, 'why', (status) => status.refused.length >= 4);
  expect(refused.map(({ entry, why }) => [entry, why])).toContainEqual([
    'alice',
    expect.stringMatching(/^its seal ended at \S+ \(is this host's clock right\?\)$/),
  ]);
  expect((await his.run('become bot true')).output).toContain('You are not a member of the group');

  login.host.setClock(0);
  await untilSound(login);
  await expectAsBefore();
});

test('a host that boots with a wrong clock is as before once the clock is right', async () => {
  const { agent, helper } = login.host;
  for (const one of [agent, helper]) await one.stop();
  login.host.setClock(-400 * DAY);
  await helper.start();
  await agent.start();
  await untilStatus(login, 'distrust', ({ trusted, why }) => !trusted && /ahead/.test(why ?? ''));
  login.host.setClock(0);
  await untilStatus(login, 'trust', ({ trusted }) => trusted);
  await expectAsBefore();
  expect(await getsIn('carol')).toBe(true);
});
