/** The keys agent against a real slapd: what it believes, and what its key files then hold. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { renderKeyFile, type KeyLine } from '../../src/login-host/key-lines.ts';
import { runningPid, signalTree } from '../stack.ts';
import { eventually } from '../scenarios/eventually.ts';
import { modify, newKey, openAgentWorld, person, type AgentWorld } from './agent-world.ts';

const HOURS = 3_600_000;
const LIMIT_SECONDS = 3600;
const NAMES = Array.from({ length: 40 }, (_, n) => `p${n}`);
const KEYS = Object.fromEntries(NAMES.map((name) => [name, newKey()]));

let agents: AgentWorld;
let base: string;

beforeAll(async () => {
  agents = await openAgentWorld('agent', { offlineLimitSeconds: LIMIT_SECONDS });
  base = agents.world.config.ldap.base;
  await agents.change(
    NAMES.map((name, n) => person(base, name, agents.uid(n), [KEYS[name] ?? ''])).join('') +
      modify(agents.realmGroup, ['add', 'member', ...NAMES.map(dn)]),
  );
});

afterAll(async () => agents.close());

/** Each test begins with forty people who may log in, and an agent that trusts what it reads. */
beforeEach(async () => {
  await agents.mark({ people: NAMES.length, keyed: NAMES.length });
  await agents.start();
  await eventually('all files are there', () => Object.keys(agents.files()).length === 40);
});

function dn(name: string): string {
  return `uid=${name},${agents.people}`;
}

/** Puts a person back as they were at the beginning. */
async function restore(name: string): Promise<void> {
  await agents.change(modify(dn(name), ['replace', 'sshPublicKey', KEYS[name] ?? '']));
}

const keyOf = (name: string): KeyLine => ({ line: KEYS[name] ?? '', options: [], end: undefined });
const bare = (text: string | undefined) => text?.replaceAll(/,?expiry-time="\d{14}Z" ?/g, '');
const ends = (text: string | undefined) =>
  [...(text ?? '').matchAll(/expiry-time="(....)(..)(..)(..)(..)(..)Z"/g)].map(
    ([, year, month, day, hour, minute, second]) =>
      Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`),
  );

describe('a directory that is trusted', () => {
  test('gives each person one canonical line for each key, ending at the limit', async () => {
    const files = agents.files();
    for (const name of NAMES) {
      const [end = 0] = ends(files[name]);
      expect(files[name]).toBe(renderKeyFile([keyOf(name)], end));
      expect(end).toBeGreaterThan(Date.now());
      expect(end).toBeLessThanOrEqual(Date.now() + LIMIT_SECONDS * 1000);
    }
    const status = await eventually('the first errand has failed: no root helper runs here', () => {
      const found = agents.status();
      return found.exit === 3 && found;
    });
    expect(status.json).toMatchObject({ running: true, trusted: true, people: 40, files: 40 });
    expect(status.json.refusals).toEqual([]);
    expect(status.text).toMatch(/^helper +.*nobody\.sock/m);
  });

  test('is followed: keys that come and go, options, ends of their own', async () => {
    const [second, third] = [newKey(), newKey()];
    await agents.change(
      modify(dn('p1'), [
        'add',
        'sshPublicKey',
        `restrict,from="192.0.2.0/24" ${second} a comment`,
        `expiry-time="20200101000000Z" ${third}`,
      ]),
    );
    const text = await eventually('three lines', () => {
      const file = agents.files()['p1'];
      return file?.trim().split('\n').length === 3 && file;
    });
    expect(text).toContain(`expiry-time="20200101000000Z" ${third}\n`);
    expect(text).toMatch(/^restrict,from="192.0.2.0\/24",expiry-time="\d{14}Z" ssh-ed25519 \S+$/m);
    expect(text).not.toContain('comment');
    await restore('p1');
    await eventually('one line', () => bare(agents.files()['p1']) === `${KEYS['p1']}\n`);
  });

  test.each([
    [
      'a lock',
      ['add', 'pwdAccountLockedTime', '000001010000Z'],
      ['delete', 'pwdAccountLockedTime'],
    ],
    ['no key', ['delete', 'sshPublicKey'], ['add', 'sshPublicKey', 'KEY']],
  ] as const)('with %s takes the file away, and gives it back', async (_, take, give) => {
    await agents.change(modify(dn('p2'), take as unknown as [string, string, ...string[]]));
    await eventually('no file', () => !('p2' in agents.files()));
    const back = give.map((word) => (word === 'KEY' ? (KEYS['p2'] ?? '') : word));
    await agents.change(modify(dn('p2'), back as [string, string, ...string[]]));
    await eventually('a file', () => 'p2' in agents.files());
  });

  test('takes the file of whoever leaves the realm group', async () => {
    await agents.change(modify(agents.realmGroup, ['delete', 'member', dn('p3')]));
    await eventually('no file', () => !('p3' in agents.files()));
    await agents.change(modify(agents.realmGroup, ['add', 'member', dn('p3')]));
    await eventually('a file', () => 'p3' in agents.files());
  });

  test('takes the file of whom the marker names as overdue, and of nobody else', async () => {
    await agents.mark({ people: 40, keyed: 40, overdue: [agents.uid(4)] });
    await eventually('no file', () => !('p4' in agents.files()));
    expect(Object.keys(agents.files())).toHaveLength(39);
    await agents.mark({ people: 40, keyed: 40 });
    await eventually('a file', () => 'p4' in agents.files());
  });

  test('takes the file of a person who is deleted', async () => {
    await agents.change(person(base, 'gone', agents.uid(99), [newKey()]));
    await agents.change(modify(agents.realmGroup, ['add', 'member', dn('gone')]));
    await eventually('a file', () => 'gone' in agents.files());
    await agents.kill('SIGTERM');
    await agents.change(modify(agents.realmGroup, ['delete', 'member', dn('gone')]));
    await agents.change(`dn: ${dn('gone')}\nchangetype: delete\n`);
    await agents.start();
    await eventually('no file', () => !('gone' in agents.files()));
  });

  test('has lines renewed when half of the limit is over, and not before', async () => {
    await agents.kill('SIGTERM');
    const now = Date.now();
    const [half, fresh] = [now + 0.49 * HOURS, now + 0.6 * HOURS];
    writeFileSync(join(agents.keys, 'p5'), renderKeyFile([keyOf('p5')], half));
    writeFileSync(join(agents.keys, 'p6'), renderKeyFile([keyOf('p6')], fresh));
    // longer than the limit: made under another one
    writeFileSync(join(agents.keys, 'p7'), renderKeyFile([keyOf('p7')], now + 9 * HOURS));
    const before = agents.files();
    await agents.start();
    await eventually('a renewed line', () => agents.files()['p5'] !== before['p5']);
    const after = agents.files();
    expect(after['p6']).toBe(before['p6']);
    expect(ends(after['p5'])[0]).toBeGreaterThan(now + 0.99 * HOURS);
    expect(ends(after['p7'])[0]).toBeLessThan(now + 1.1 * HOURS);
  });

  test('is found again after a restart: not a file is written anew', async () => {
    const before = NAMES.map((name) => statSync(join(agents.keys, name)).ino);
    await agents.start();
    await eventually('trust', () => agents.status().json.trusted);
    expect(NAMES.map((name) => statSync(join(agents.keys, name)).ino)).toEqual(before);
  });

  test('has no files beside those of its people', async () => {
    await agents.kill('SIGTERM');
    writeFileSync(join(agents.keys, 'stranger'), `${newKey()}\n`);
    writeFileSync(join(agents.keys, '.new'), 'half a fi');
    writeFileSync(join(agents.keys, 'p8'), `${newKey()}\n`);
    await agents.start();
    await eventually('no stranger', () => !('stranger' in agents.files()));
    expect(bare(agents.files()['p8'])).toBe(`${KEYS['p8']}\n`);
  });
});

describe('a directory that is not trusted', () => {
  /** Waits until the agent says why it does not trust what it reads. */
  const distrusts = (why: RegExp) =>
    eventually(`the agent says ${why}`, () => {
      const { exit, json, text } = agents.status();
      return exit === 4 && why.test(json.why ?? '') && text.includes('not trusted for');
    });

  test('by its heartbeat: no key comes, none is renewed, but keys go', async () => {
    await agents.mark({ people: 40, keyed: 40, at: new Date(Date.now() - 61_000).toISOString() });
    await distrusts(/not been heard of for 6\d s/);
    const second = newKey();
    await agents.change(
      modify(dn('p10'), ['replace', 'sshPublicKey', second]) +
        modify(dn('p11'), ['add', 'sshPublicKey', second]) +
        modify(dn('p12'), ['add', 'pwdAccountLockedTime', '000001010000Z']),
    );
    await eventually('the lock has been seen', () => !('p12' in agents.files()));
    expect(agents.files()['p10'] ?? '').toBe('');
    expect(bare(agents.files()['p11'])).toBe(`${KEYS['p11']}\n`);
    await agents.mark({ people: 40, keyed: 40 });
    await eventually('the new keys', () => bare(agents.files()['p10']) === `${second}\n`);
    await restore('p10');
    await restore('p11');
    await agents.change(modify(dn('p12'), ['delete', 'pwdAccountLockedTime']));
  });

  test('by its clock: a marker of the future', async () => {
    await agents.mark({ people: 40, keyed: 40, at: new Date(Date.now() + 99_000).toISOString() });
    await distrusts(/ahead of this host's clock/);
  });

  test('by a marker that is none', async () => {
    await agents.change(modify(`cn=chamberlain,${base}`, ['replace', 'description', 'people=40']));
    await distrusts(/no marker that can be read/);
  });

  test('by fewer people than there are: nobody who is missing loses a file', async () => {
    await agents.kill('SIGTERM');
    const gone = NAMES.slice(20);
    await agents.change(gone.map((name) => `dn: ${dn(name)}\nchangetype: delete\n\n`).join(''));
    const before = agents.files();
    await agents.start();
    await distrusts(/shows 20 people where there are 40/);
    expect(agents.files()).toEqual(before);
    await agents.mark({ people: 20, keyed: 20 });
    await eventually('those are gone', () => Object.keys(agents.files()).length === 20);
    await agents.change(
      gone.map((name, n) => person(base, name, agents.uid(20 + n), [KEYS[name] ?? ''])).join(''),
    );
  });

  test('by keys that may not be read: everybody keeps theirs', async () => {
    const before = agents.files();
    const rule = `to dn.onelevel="${agents.people}" attrs=sshPublicKey by * none`;
    await agents.kill('SIGTERM');
    agents.configure(['add', 'olcAccess', `{0}${rule}`]);
    try {
      await agents.start();
      await distrusts(/keys of 0 people where 40 have some/);
      await eventually('it has looked again', () => {
        const { since } = agents.status().json;
        return Date.now() - Date.parse(since ?? '') > 5000;
      });
      expect(agents.files()).toEqual(before);
    } finally {
      agents.configure(['delete', 'olcAccess', `{0}${rule}`]);
    }
    await agents.mark({ people: 40, keyed: 40 });
    await eventually('trust', () => agents.status().json.trusted);
    expect(agents.files()).toEqual(before);
  });

  test('by an older copy: nothing of it is taken', async () => {
    await agents.kill('SIGTERM');
    const file = join(agents.state, 'state.json');
    const text = readFileSync(file, 'utf8');
    const later = JSON.stringify({
      ...JSON.parse(text),
      csns: { '000': '20991231000000.000000Z#000000#000#000000' },
    });
    writeFileSync(file, later);
    await agents.change(modify(dn('p13'), ['replace', 'sshPublicKey', newKey()]));
    const before = agents.files();
    await agents.start();
    await distrusts(/an older copy/);
    expect(agents.files()).toEqual(before);
    rmSync(file);
    await agents.start();
    await eventually('the new key', () => agents.files()['p13'] !== before['p13']);
    await restore('p13');
  });

  test('by a clock that has gone back: nothing is renewed', async () => {
    await agents.kill('SIGTERM');
    const file = join(agents.state, 'state.json');
    const state = JSON.parse(readFileSync(file, 'utf8')) as object;
    writeFileSync(file, JSON.stringify({ ...state, clock: Date.now() + 60_000 }));
    const half = renderKeyFile([keyOf('p14')], Date.now() + 0.2 * HOURS);
    writeFileSync(join(agents.keys, 'p14'), half);
    await agents.start();
    await distrusts(/clock has gone back by (60|59|5\d) s/);
    expect(agents.files()['p14']).toBe(half);
    await agents.kill('SIGTERM');
    rmSync(file);
  });

  test('by silence: files stay, and it goes on when the server is back', async () => {
    const before = agents.files();
    const pid = runningPid(agents.world.slapd) ?? 0;
    signalTree(pid, 'SIGSTOP');
    try {
      await distrusts(/reading|binding/);
      expect(agents.files()).toEqual(before);
    } finally {
      signalTree(pid, 'SIGCONT');
    }
    await agents.mark({ people: 40, keyed: 40 });
    await eventually('trust', () => agents.status().json.trusted);
  });
});

describe('what does not belong there', () => {
  test('is refused, named with its reason, and costs nobody else anything', async () => {
    const good = newKey();
    const hostile = [
      person(base, 'root', agents.uid(50), [good]),
      person(base, '../x', agents.uid(51), [good]),
      person(base, 'newline', agents.uid(52), [`${good}\n${newKey()}`]),
      person(base, 'local', agents.uid(54), [good]),
      person(base, 'elsewhere', agents.uid(55), [good], { homeDirectory: '/root' }),
      person(base, 'weak', agents.uid(56), [`command="id" ${good}`, newKey()]),
      person(base, 'Capital', agents.uid(57), [good]),
      person(base, 'superuser', agents.uid(58), [good]),
    ];
    await agents.change(hostile.join(''));
    // the overlays let only this control past
    await agents.change(modify(dn('superuser'), ['replace', 'uidNumber', '0']), 'relax');
    const names = ['root', '../x', 'newline', 'local', 'elsewhere', 'weak', 'Capital', 'superuser'];
    await agents.change(modify(agents.realmGroup, ['add', 'member', ...names.map(dn)]));
    await eventually('the one good key', () => 'weak' in agents.files());
    const before = agents.files();
    expect(Object.keys(before).filter((name) => !NAMES.includes(name))).toEqual(['weak']);
    expect(before['weak']?.trim().split('\n')).toHaveLength(1);
    const { exit, json, text } = await eventually('the status', () => {
      const status = agents.status();
      return status.json.refusals.length === names.length && status;
    });
    expect(exit).toBe(3);
    const reasons = Object.fromEntries(
      json.refusals.map(({ entry, why }) => [entry.split(',')[0], why]),
    );
    expect(reasons['uid=root']).toBe('a local account of this host has its name');
    expect(reasons['uid=local']).toBe('a local account of this host has its name');
    expect(reasons['uid=newline']).toMatch(/KEY_MALFORMED.*more than one line/);
    expect(reasons['uid=weak']).toMatch(/KEY_OPTION/);
    expect(reasons['uid=elsewhere']).toMatch(/home "\/root" is not \/home\/elsewhere/);
    expect(reasons['uid=superuser']).toMatch(/uidNumber "0" is not in the realm's ranges/);
    expect(reasons['uid=../x']).toMatch(/its name is none/);
    expect(reasons['uid=Capital']).toMatch(/its name is none/);
    for (const { why } of json.refusals) expect(text).toContain(why.slice(0, 40));
    await agents.change(modify(agents.realmGroup, ['delete', 'member', ...names.map(dn)]));
    await agents.change(names.map((name) => `dn: ${dn(name)}\nchangetype: delete\n\n`).join(''));
  });
});

test('killed in the middle of a thousand changes, its files end equal to the directory', async () => {
  const wanted: Record<string, string> = { ...KEYS };
  let changes = '';
  for (let n = 0; n < 1000; n += 1) {
    const name = NAMES[(n * 7) % NAMES.length] ?? '';
    const key = newKey();
    wanted[name] = key;
    changes += modify(dn(name), ['replace', 'sshPublicKey', key]);
  }
  const changing = agents.change(changes);
  for (let kills = 0; kills < 5; kills += 1) {
    await agents.start();
    for (const text of Object.values(agents.files())) expect(text).toMatch(/^(?:[^\n]+\n)+$/);
    await agents.kill('SIGKILL');
  }
  await changing;
  await agents.mark({ people: 40, keyed: 40 });
  await agents.start();
  await eventually('the last keys', () =>
    NAMES.every((name) => bare(agents.files()[name]) === `${wanted[name]}\n`),
  );
  for (const name of NAMES) await restore(name);
});
