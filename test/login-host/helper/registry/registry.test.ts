/** What a login host makes of the reports: the case tables of src/login-host/helper/registry/registry.ts. */
import { beforeEach, describe, expect, test } from '@jest/globals';
import type { Marker } from '../../../../src/seals/heartbeat.ts';
import { verifyPayload, type PersonSeal, type ToolSeal } from '../../../../src/seals/seal.ts';
import { sealKeysOf } from '../../../../src/login-host/config.ts';
import { openHeartbeats } from '../../../../src/login-host/helper/registry/directory-trust.ts';
import { judgePayload } from '../../../../src/login-host/helper/registry/judge.ts';
import { parseLocalAccounts } from '../../../../src/login-host/helper/local-accounts.ts';
import {
  acceptDoubted,
  disappearedNames,
  heldOf,
  settle,
  takeHeartbeat,
  takeUnkept,
} from '../../../../src/login-host/helper/registry/disappeared.ts';
import {
  knowsSeal,
  loadLine,
  takeGone,
  takeReading,
  takeSeal,
  takeUnsealed,
} from '../../../../src/login-host/helper/registry/entries.ts';
import {
  NOTHING_KEPT,
  openRegistry,
  type Consequences,
  type Kept,
  type Registry,
  keptOf,
  lookAtAll,
  setLocal,
  signersOf,
  takeConsequences,
  takeNeedForFullReport,
} from '../../../../src/login-host/helper/registry/registry.ts';
import { digestOf, type Subject } from '../../../../src/login-host/helper/registry/subject.ts';
import {
  heartbeat,
  IDS,
  newKey,
  newSigner,
  PEOPLE,
  person,
  sign,
  tool,
  TOOLS,
  until,
} from '../../seals.ts';

const NOW = Date.parse('2026-11-25T10:00:00Z');
const HOUR_MS = 3_600_000;
const RULES = {
  realm: 'tools',
  ids: IDS,
  homes: { people: '/home', tools: '/data/project' },
  knownBadKeys: [],
  offlineLimitSeconds: 86_400,
};
const LOCAL = parseLocalAccounts('root:x:0:0::/root:/bin/sh\n', 'root:x:0:\n');

const signer = newSigner();
const keys = sealKeysOf({ sealKeys: [signer.pem] });
const KEY = newKey();
const OTHER_KEY = newKey();

const alice = (more: Partial<PersonSeal> = {}) =>
  person('alice', 1, { keys: [KEY], until: until(NOW + 100 * HOUR_MS), ...more });
const bot = (more: Partial<ToolSeal> = {}) =>
  tool('bot', 1, { members: ['alice'], until: until(NOW + 100 * HOUR_MS), ...more });

let registry: Registry;
let now: number;
/** when the last heartbeat was written */
let at: number;
beforeEach(() => {
  registry = open();
  now = NOW;
  at = NOW;
  beat({ people: 0, tools: 0 });
});

function open(kept?: Kept, local = LOCAL): Registry {
  const heartbeats = openHeartbeats('tools', kept?.at);
  return openRegistry(RULES, new Set(keys.keys()), heartbeats, local, kept);
}

/** Reports an entry that shows a text, as the helper does. */
function show(name: string, text: string): void {
  const digest = digestOf(text);
  if (knowsSeal(registry, name, digest)) {
    takeSeal(registry, name, 'known', now);
    return;
  }
  const verified = verifyPayload(text, keys);
  const verdict = verified.ok ? judgePayload(name, verified.payload, RULES) : verified;
  takeSeal(registry, name, { text, digest, verdict }, now);
}

function told(...seals: (PersonSeal | ToolSeal)[]): void {
  for (const seal of seals) show(seal.name, sign(seal, signer));
}

function beat(more: Partial<Marker> = {}): void {
  at += 1;
  const text = heartbeat(now, signer, { at: new Date(at).toISOString(), ...more });
  takeHeartbeat(registry, verifyPayload(text, keys), now);
}

/** Everything is reported: only these entries exist. */
function all(...seals: (PersonSeal | ToolSeal)[]): void {
  takeReading(registry, 'token', 'begin');
  told(...seals);
  takeReading(registry, 'token', 'end');
}

const trust = () => settle(registry, now);
const follows = (): Consequences => {
  settle(registry, now);
  return takeConsequences(registry);
};
const names = (subjects: Iterable<Subject>) => [...subjects].map(({ name }) => name).sort();
const refused = () => registry.refusals.list().map(({ entry, why }) => `${entry}: ${why}`);
const many = (count: number, from = 100) =>
  Array.from({ length: count }, (_, n) => person(`p${from + n}`, from + n));

describe('while the heartbeat is in doubt, because an older seal may be below a floor', () => {
  beforeEach(() => {
    registry = open();
  });
  const listOf = (name: string) => registry.byName.get(name)?.list;

  test('a seal of an unknown subject gives no key and no member; reported again after a heartbeat, it counts', () => {
    told(alice(), bot());
    expect([listOf('alice'), listOf('tools.bot')]).toEqual(['', '']);
    expect(follows().journal).toEqual([]);
    expect(refused()).toContainEqual(expect.stringContaining('does not count until the heartbeat'));
    beat({ people: 1, tools: 1 });
    follows();
    expect(takeNeedForFullReport(registry)).toBe(true);
    told(alice(), bot());
    expect([listOf('alice'), listOf('tools.bot')]).toEqual([KEY, 'alice']);
    expect(follows().journal).toHaveLength(2);
    expect(refused()).toEqual([]);
  });

  test('or it does not count any more, if the heartbeat says so', () => {
    told(alice({ number: 2 }));
    beat({ people: 1, tools: 0, floors: [[alice().uid, 4]] });
    follows();
    told(alice({ number: 2 }));
    expect(listOf('alice')).toBe('');
    expect(registry.byName.get('alice')?.isInForce).toBe(false);
  });

  test('what a seal takes from a known subject counts at once, and what it gives does not', () => {
    beat({ people: 1, tools: 1 });
    told(alice({ number: 2, keys: [KEY] }), bot({ number: 2 }));
    follows();
    now += 120_000;
    told(
      alice({ number: 3, keys: [OTHER_KEY] }),
      bot({ number: 3, members: ['alice', 'tools.other'] }),
    );
    expect([listOf('alice'), listOf('tools.bot')]).toEqual(['', 'alice']);
    const { journal } = follows();
    told(alice({ number: 4, state: 'suspended', keys: [] }));
    expect(registry.byName.get('alice')?.isClosed).toBe(true);
    journal.push(...follows().journal);
    const running = registry;
    registry = open();
    for (const line of [sign(alice({ number: 2 }), signer), ...journal]) {
      expect(loadLine(registry, line, false)).toBe(true);
    }
    setLocal(registry, LOCAL, now);
    expect([listOf('alice'), registry.byName.get('alice')?.isClosed]).toEqual(['', true]);
    registry = running;
    told(alice({ number: 5 }));
    expect(registry.byName.get('alice')?.isClosed).toBe(true);
    beat({ people: 1, tools: 1 });
    follows();
    told(alice({ number: 5 }));
    expect(registry.byName.get('alice')).toMatchObject({ isClosed: false, list: KEY });
  });
});

describe('what was reported in doubt is kept over a restart', () => {
  const restart = (lines: string[]) => {
    registry = open(keptOf(registry));
    for (const line of lines) expect(loadLine(registry, line, false)).toBe(true);
    setLocal(registry, LOCAL, now);
  };
  const listOf = (name: string) => registry.byName.get(name)?.list;
  let lines: string[];
  beforeEach(() => {
    beat({ people: 1, tools: 1 });
    told(alice({ number: 2, keys: [KEY] }), bot({ number: 2, members: ['alice', 'bob'] }));
    lines = follows().journal;
    now += 120_000;
  });

  test('where it takes something away', () => {
    told(alice({ number: 3, state: 'suspended', keys: [] }), bot({ number: 3, members: ['bob'] }));
    restart([...lines, ...follows().journal]);
    expect(registry.byName.get('alice')).toMatchObject({ isClosed: true, list: '', number: 3 });
    expect(listOf('tools.bot')).toBe('bob');
    told(alice({ number: 2 }));
    expect(refused()).toEqual([expect.stringContaining('but only 3 and higher numbers are valid')]);
  });

  test('where it takes something away and gives something else, without what it gives', () => {
    told(alice({ number: 3, keys: [OTHER_KEY] }), bot({ number: 3, members: ['alice', 'eve'] }));
    const more = follows().journal;
    expect(more.map((line) => line[0])).toEqual(['?', '?']);
    told(alice({ number: 3, keys: [OTHER_KEY] }));
    expect(follows().journal).toEqual([]);
    restart([...lines, ...more]);
    expect([listOf('alice'), listOf('tools.bot')]).toEqual(['', 'alice']);
    beat({ people: 1, tools: 1 });
    told(alice({ number: 3, keys: [OTHER_KEY] }));
    expect(listOf('alice')).toBe(OTHER_KEY);
    restart([...lines, ...more, ...follows().journal]);
    expect(listOf('alice')).toBe(OTHER_KEY);
  });

  test('and the account is closed if the line before it is lost', () => {
    told(alice({ number: 3, keys: [KEY, OTHER_KEY].sort() }));
    restart(follows().journal);
    expect(listOf('alice')).toBe('');
  });
});

describe('a valid seal', () => {
  test('counts at once, with nothing else read', () => {
    told(alice(), bot());
    const { changed, lists, journal, lost } = follows();
    expect(names(changed)).toEqual(['alice', 'tools.bot']);
    expect([...lists].sort()).toEqual(['group', 'passwd', 'shadow', 'sudoers']);
    expect(journal).toEqual([sign(alice(), signer), sign(bot(), signer)]);
    expect(lost.size).toBe(0);
    expect(registry.byName.get('alice')).toMatchObject({
      ...{ isShown: true, isInForce: true, isClosed: false, list: KEY },
    });
    expect(trust()).toMatchObject({ trusted: false });
  });

  test('that is reported again changes nothing, and is not kept again', () => {
    told(alice());
    follows();
    told(alice());
    expect(follows()).toMatchObject({ journal: [], changed: new Set(), lists: new Set() });
  });

  test('signed again with the same number and content is not kept again', () => {
    told(alice());
    follows();
    // four bits of the last letter have no meaning
    const text = sign(alice(), signer).replace(/(.)==/, (_, last: string) => {
      const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
      return `${letters[letters.indexOf(last) ^ 1]}==`;
    });
    show('alice', text);
    expect(refused()).toEqual([]);
    expect(follows().journal).toEqual([]);
  });

  test.each<[string, PersonSeal | ToolSeal, string[], boolean]>([
    ['a suspended person', alice({ state: 'suspended', number: 6 }), ['closed'], true],
    ['an archived person', alice({ state: 'archived', number: 6 }), ['closed'], true],
    ['a person removed from the realm', alice({ member: false, number: 6 }), ['closed'], true],
    ['a removed key', alice({ keys: [], number: 6 }), [], false],
    ['an added key', alice({ keys: [KEY, OTHER_KEY].sort(), number: 6 }), [], false],
    ['another shell', alice({ shell: '/bin/zsh', number: 6 }), ['passwd'], false],
    ['a renewal', alice({ until: until(NOW + 200 * HOUR_MS), number: 6 }), [], false],
    [
      'a disabled tool',
      bot({ state: 'disabled', gecos: 'disabled - too loud', number: 6 }),
      ['closed', 'passwd', 'sudoers'],
      true,
    ],
    ['a removed member', bot({ members: [], number: 6 }), ['group'], false],
  ])('of %s makes its lists be rewritten, and no others', (_, seal, lists, ends) => {
    told(alice(), bot());
    follows();
    told(seal);
    const found = follows();
    expect([...found.lists].sort()).toEqual(lists);
    expect(found.ended).toEqual(ends ? [seal.uid] : []);
    expect(found.journal).toEqual([sign(seal, signer)]);
  });

  test.each<[string, PersonSeal | ToolSeal, boolean]>([
    ['a removed key', alice({ keys: [OTHER_KEY], number: 6 }), true],
    ['an added key', alice({ keys: [KEY, OTHER_KEY].sort(), number: 6 }), false],
    ['a removed member', bot({ members: ['carol'], number: 6 }), true],
    ['a suspended person', alice({ state: 'suspended', number: 6 }), true],
    ['a renewal', bot({ until: until(NOW + 200 * HOUR_MS), number: 6 }), false],
  ])('of %s shows whether something is lost by it', (_, seal, isLoss) => {
    told(alice(), bot());
    follows();
    told(seal);
    expect(names(follows().lost)).toEqual(isLoss ? [seal.name] : []);
  });

  test('suspends five hundred at once', () => {
    const people = many(500);
    all(...people);
    beat({ people: 500 });
    follows();
    told(...people.map((each) => ({ ...each, state: 'suspended' as const, number: 6 })));
    expect(follows().ended).toHaveLength(500);
    expect(trust()).toEqual({ trusted: true });
  });

  test('of a closed account opens it again', () => {
    told(alice({ state: 'suspended' }));
    expect(follows().ended).toEqual([PEOPLE + 1]);
    told(alice({ number: 6 }));
    const { lists, ended, lost } = follows();
    expect([[...lists], ended, lost.size]).toEqual([['closed'], [], 0]);
    expect(registry.byName.get('alice')).toMatchObject({ isClosed: false });
  });
});

describe('an invalid seal affects only itself, and is named', () => {
  test.each<[string, string, () => string, string]>([
    ['no seal', 'alice', () => 'x', 'the value is not a seal'],
    ['of another key', 'alice', () => sign(alice(), newSigner()), 'does not know the key'],
    [
      'changed',
      'alice',
      () => sign(alice(), signer).replace('"number":5', '"number":7'),
      'the signature is not valid',
    ],
    ['of another entry', 'bob', () => sign(alice(), signer), 'its seal belongs to alice'],
    ['a heartbeat', 'alice', () => heartbeat(now, signer), 'a form that this version cannot read'],
    [
      'older',
      'alice',
      () => sign(alice({ number: 4 }), signer),
      'its seal has the number 4, but only 5 and higher numbers are valid',
    ],
    [
      'ended',
      'alice',
      () => sign(alice({ number: 6, until: until(NOW) }), signer),
      `its seal ended at ${new Date(NOW).toISOString()}`,
    ],
    [
      'with a number of another',
      'carol',
      () => sign(person('carol', 1, { number: 9 }), signer),
      'alice has the same number',
    ],
    [
      'with the name of another',
      'alice',
      () => sign(person('alice', 2, { number: 9 }), signer),
      `its number is ${PEOPLE + 2}, but alice has the number ${PEOPLE + 1} here`,
    ],
  ])('%s', (_, name, text, why) => {
    told(alice());
    all(alice(), person('dave', 4));
    beat({ people: 2 });
    follows();
    show(name, text());
    expect(refused()).toEqual([expect.stringContaining(why)]);
    expect(refused()[0]).toMatch(new RegExp(`^${name}: `));
    const found = follows();
    expect([found.journal, found.ended, found.lost.size]).toEqual([[], [], 0]);
    expect(registry.byName.get('alice')).toMatchObject({
      ...{ number: 5, uid: PEOPLE + 1, isInForce: true, isRefused: name === 'alice' },
    });
  });

  test('with the time since when, until it is accepted', () => {
    show('alice', 'x');
    now += 1000;
    show('alice', 'y');
    expect(registry.refusals.list()).toMatchObject([{ entry: 'alice', since: NOW }]);
    told(alice());
    expect(refused()).toEqual([]);
  });

  test('a key or a member that is refused affects only itself', () => {
    told(alice({ keys: [KEY, 'ssh-ed25519 AAAA'] }), bot({ members: ['John.Doe', 'alice'] }));
    expect(registry.byName.get('alice')).toMatchObject({ list: KEY, isInForce: true });
    expect(registry.byName.get('tools.bot')).toMatchObject({ list: 'alice', isInForce: true });
    expect(refused()).toEqual([
      expect.stringMatching(/^alice: a key is not accepted/),
      'tools.bot: its member John.Doe is not accepted: no account may have this name',
    ]);
    // and is judged whole again after a restart
    expect(follows().journal.map((line) => line[0])).toEqual(['!', '!']);
  });

  test('a million names fill neither the memory nor the status', () => {
    takeReading(registry, 'token', 'begin');
    for (let n = 0; n < 1_000_000; n += 1) takeUnsealed(registry, `x${n}${'y'.repeat(20)}`, now);
    expect(registry.refusals.list()).toHaveLength(1000);
    expect(registry.refusals.count()).toBe(1_000_000);
    takeReading(registry, 'token', 'end');
    all(alice());
    expect(registry.refusals.count()).toBe(0);
  });

  test('subjects that this host knows are named before all others', () => {
    told(alice());
    for (let n = 0; n < 2000; n += 1) takeUnsealed(registry, `x${n}`, now);
    show('alice', 'x');
    expect(refused()).toContainEqual(expect.stringContaining('alice: '));
    expect([registry.refusals.list().length, registry.refusals.count()]).toEqual([1000, 2001]);
  });

  test('the names of a refusal contain nothing that could disturb a terminal', () => {
    takeUnsealed(registry, `a\u0000\u009b\u2028\t${'b'.repeat(500)}`, now);
    expect(refused()[0]).toMatch(/^[\x20-\x7e]{1,91}…: its entry has no seal$/);
  });

  test('entries beyond the first thousand are asked for once there is room', () => {
    all();
    for (let n = 0; n < 1200; n += 1) takeUnsealed(registry, `x${n}`, now);
    expect(takeNeedForFullReport(registry)).toBe(false);
    for (let n = 0; n < 600; n += 1) takeGone(registry, `x${n}`);
    expect(takeNeedForFullReport(registry)).toBe(true);
  });
});

describe('a floor in the heartbeat', () => {
  beforeEach(() => {
    all(alice(), bot());
    beat({ people: 1, tools: 1 });
    follows();
  });

  test.each([
    ['a person', PEOPLE + 1, 'alice', []],
    ['a tool', TOOLS + 1, 'tools.bot', ['group', 'sudoers']],
  ])('takes away what %s had by an older seal, and ends no process', (_, uid, name, lists) => {
    beat({ people: 1, tools: 1, floors: [[uid, 6]] });
    const found = follows();
    expect([names(found.lost), found.ended]).toEqual([[name], []]);
    expect([...found.lists].sort()).toEqual(lists);
    expect(registry.byName.get(name)).toMatchObject({
      ...{ isShown: true, isInForce: false, isClosed: false },
    });
    expect(refused()).toEqual([
      expect.stringContaining('but only 6 and higher numbers are valid: the newer seal is missing'),
    ]);
    expect(found.isKeptNew).toBe(true);
    expect(keptOf(registry).floors).toEqual([[uid, 6]]);
  });

  test('keeps older seals from coming back, even of a person who was never seen', () => {
    beat({
      people: 1,
      tools: 1,
      floors: [
        [PEOPLE + 1, 6],
        [PEOPLE + 9, 3],
      ],
    });
    told(alice(), person('eve', 9, { number: 2 }));
    expect(registry.byName.get('alice')).toMatchObject({ isInForce: false });
    expect(registry.byName.get('eve')).toBeUndefined();
    told(alice({ number: 6 }), person('eve', 9, { number: 3 }));
    expect(registry.byName.get('alice')).toMatchObject({ isInForce: true });
    expect(registry.byName.get('eve')).toMatchObject({ isInForce: true });
    expect(refused()).toEqual([]);
  });

  test('counts after a restart, and after it is no longer reported', () => {
    beat({ people: 1, tools: 1, floors: [[PEOPLE + 1, 6]] });
    beat({ people: 1, tools: 1 });
    expect(registry.byName.get('alice')).toMatchObject({ isInForce: false });
    beat({ people: 1, tools: 1, floors: [[PEOPLE + 9, 3]] });
    registry = open(keptOf(registry));
    told(person('eve', 9, { number: 2 }));
    expect(refused()).toEqual([
      expect.stringMatching(/^eve: .* but only 3 and higher numbers are valid/),
    ]);
  });
});

test('a seal that has ended is treated like one below its floor, and reported as such', () => {
  all(alice({ until: until(NOW + HOUR_MS) }));
  beat({ people: 1 });
  follows();
  now = NOW + HOUR_MS;
  lookAtAll(registry, now);
  const found = follows();
  expect([names(found.lost), found.ended, [...found.lists]]).toEqual([['alice'], [], []]);
  expect(refused()).toEqual([expect.stringContaining('alice: its seal ended at')]);
  now = NOW; // the clock was wrong
  lookAtAll(registry, now);
  expect(names(follows().changed)).toEqual(['alice']);
  expect(refused()).toEqual([]);
});

describe('a subject that disappears', () => {
  const people = many(300);
  const tools = Array.from({ length: 40 }, (_, n) => tool(`t${n}`, n));
  beforeEach(() => {
    all(...people, ...tools);
    beat({ people: 300, tools: 40 });
    expect(trust()).toEqual({ trusted: true });
    follows();
  });
  const gone = (from: number, to: number) => {
    for (const { name } of people.slice(from, to)) takeGone(registry, name);
  };
  const toolsGone = (from: number, to: number) => {
    for (const { name } of tools.slice(from, to)) takeGone(registry, name);
  };

  test('alone is honoured: no key, no account; its processes go on, and its number stays', () => {
    gone(0, 1);
    const found = follows();
    expect([...found.lists].sort()).toEqual(['group', 'passwd', 'shadow']);
    expect([names(found.lost), found.ended]).toEqual([['p100'], []]);
    expect(found.journal).toEqual([`missing ${PEOPLE + 100} p100 5`]);
    expect(trust()).toEqual({ trusted: true });
    told({ ...people[0]!, number: 4 });
    expect(refused()).toEqual([expect.stringContaining('but only 5 and higher numbers are valid')]);
    told(people[0]!);
    expect(registry.byName.get('p100')).toMatchObject({ isInForce: true, isClosed: false });
  });

  test.each<[string, () => void]>([
    ['has an entry without a seal', () => takeUnsealed(registry, 'p100', now)],
    ['is gone', () => takeGone(registry, 'p100')],
    ['is not named while everything is reported', () => all(...people.slice(1), ...tools)],
  ])('it does so when it %s', (_, tell) => {
    tell();
    expect(names(follows().lost)).toEqual(['p100']);
  });

  test('within 5 % is honoured; beyond that, within an hour, it is held: nothing more is lost', () => {
    gone(0, 15); // 5 % of 300
    expect(follows().lost.size).toBe(15);
    gone(15, 16);
    expect(follows()).toMatchObject({ ended: [], lost: new Set(), lists: new Set() });
    expect(heldOf(registry)).toEqual({ names: ['p115'], since: NOW });
    expect(trust()).toMatchObject({
      trusted: false,
      why: expect.stringContaining('the entry p115 has disappeared from the directory, and'),
      tryAnother: true,
    });
    expect(registry.byName.get('p115')).toMatchObject({ isShown: true, isInForce: true });
  });

  test('with others in one report is held with all of them', () => {
    gone(0, 16);
    expect(follows().lost.size).toBe(0);
    expect(heldOf(registry)?.names).toHaveLength(16);
  });

  test.each([
    ['people', () => all(...tools)],
    ['tools', () => all(...people)],
    ['everybody', () => all()],
  ])('is held if %s are hidden, and none of their processes end', (_, tell) => {
    tell();
    const found = follows();
    expect([found.ended, found.lost.size, found.lists.size, found.journal]).toEqual([[], 0, 0, []]);
    expect(trust()).toMatchObject({ trusted: false });
    expect(names(registry.byUid.values()).length).toBe(340);
  });

  test('of one kind is counted separately', () => {
    gone(0, 15);
    toolsGone(0, 10); // ten, though 5 % are two
    expect(follows().lost.size).toBe(25);
    toolsGone(10, 11);
    expect(follows().lost.size).toBe(0);
  });

  test.each([
    ['people', 16, gone],
    ['tools', 11, toolsGone],
  ])('too many %s within an hour are held, even if few are missing', (_, count, go) => {
    // fifteen people and ten tools disappear, and are counted: there were 300 and 40
    for (let n = 0; n < count - 1; n += 1) {
      go(n, n + 1);
      expect(follows().lost.size).toBe(1);
    }
    // so that at most six will be missing: only the hour decides
    beat({ people: 290, tools: 35 });
    go(count - 1, count);
    expect(follows().lost.size).toBe(0);
  });

  test('is held as long as it stays away, and returns as it was', () => {
    gone(0, 20);
    follows();
    now += 2 * HOUR_MS;
    beat({ people: 300, tools: 40 });
    // an hour later it is still too many at once
    expect(follows().lost.size).toBe(0);
    told(...people.slice(0, 20));
    expect(trust()).toEqual({ trusted: true });
    expect(follows()).toMatchObject({ ended: [], journal: [] });
  });

  test('from an older copy is not honoured while the newer one is being read', () => {
    const older = heartbeat(now, signer, { at: new Date(at - 1000).toISOString() });
    takeHeartbeat(registry, verifyPayload(older, keys), now);
    all(...people.slice(1), ...tools);
    expect(trust()).toMatchObject({
      why: expect.stringContaining('the directory is an older copy'),
    });
    beat({ people: 300, tools: 40 });
    takeReading(registry, 'newer', 'begin');
    expect(follows().lost.size).toBe(0);
    told(...people, ...tools);
    takeReading(registry, 'newer', 'end');
    expect(follows()).toMatchObject({ ended: [], journal: [] });
    expect(trust()).toEqual({ trusted: true });
  });

  test('beyond 5 % is not honoured while returned entries are being reported', () => {
    gone(0, 20);
    follows();
    takeReading(registry, 'again', 'begin');
    told(...people.slice(11));
    expect(follows().lost.size).toBe(0);
    told(...people.slice(0, 11), ...tools);
    takeReading(registry, 'again', 'end');
    expect(follows().lost.size).toBe(0);
    expect(trust()).toEqual({ trusted: true });
  });

  test('may do so again after an hour, if no more than 5 % are missing in all', () => {
    gone(0, 10);
    expect(follows().lost.size).toBe(10);
    now += HOUR_MS + 1;
    beat({ people: 300, tools: 40 });
    gone(10, 15);
    expect(follows().lost.size).toBe(5);
    now += HOUR_MS + 1;
    beat({ people: 300, tools: 40 });
    gone(15, 16);
    expect(follows().lost.size).toBe(0);
    expect(trust()).toMatchObject({ trusted: false });
  });

  test('within the hour is counted over a restart, too', () => {
    gone(0, 15);
    const { journal } = follows();
    const kept = keptOf(registry);
    registry = open(kept);
    for (const seal of [...people, ...tools]) loadLine(registry, sign(seal, signer), false);
    for (const line of journal) loadLine(registry, line, false);
    setLocal(registry, LOCAL, now);
    all(...people.slice(16), ...tools);
    beat({ people: 300, tools: 40 });
    follows();
    expect(heldOf(registry)?.names).toEqual(['p115']);
  });

  test('by a floor above its number is honoured, whatever else disappears, and is not counted', () => {
    const floors = people.slice(0, 100).map(({ uid }): [number, number] => [uid, 6]);
    gone(0, 100);
    expect(follows().ended).toEqual([]);
    beat({ people: 200, tools: 40, floors });
    expect(follows().ended).toHaveLength(100);
    expect(trust()).toEqual({ trusted: true });
    gone(100, 110);
    expect(follows()).toMatchObject({ ended: [], journal: { length: 10 } });
    // the heartbeat says later, and once, that one of them has ended
    beat({ people: 190, tools: 40, floors: [...floors, [people[100]!.uid, 6]] });
    expect(follows()).toMatchObject({ ended: [people[100]!.uid], lists: new Set(['closed']) });
  });

  test('is honoured if the signed counts say that nothing is missing', () => {
    gone(0, 100);
    follows();
    beat({ people: 200, tools: 40 });
    expect(follows().lost.size).toBe(100);
    expect(trust()).toEqual({ trusted: true });
  });

  test.each<[string, () => void]>([
    ['the heartbeat is not current', () => (now += 61_000)],
    ['there is none', () => takeHeartbeat(registry, undefined, now)],
    ['the agent cannot read', () => (registry.trouble = 'it does not answer')],
  ])('is not concluded while %s', (_, doubt) => {
    doubt();
    gone(0, 1);
    expect(follows().lost.size).toBe(0);
    registry.trouble = '';
    beat({ people: 300, tools: 40 });
    expect(names(follows().lost)).toEqual(['p100']);
  });

  test('is not concluded from a reading that was started again, or in another run', () => {
    takeReading(registry, 'one', 'begin');
    takeReading(registry, 'two', 'begin');
    takeReading(registry, 'one', 'end');
    takeReading(registry, 'three', 'end');
    expect(follows().lost.size).toBe(0);
    expect(trust()).toEqual({ trusted: true });
  });

  test('is not concluded from an entry whose seal is refused', () => {
    takeReading(registry, 'token', 'begin');
    told(...people.slice(1), ...tools);
    show('p100', 'x');
    takeReading(registry, 'token', 'end');
    expect(follows().lost.size).toBe(0);
    expect(registry.byName.get('p100')).toMatchObject({ isInForce: true, isRefused: true });
  });

  test('is honoured once root accepts it, and what is missing then is no longer missed', () => {
    gone(0, 100);
    follows();
    const what = acceptDoubted(registry, now);
    expect(what).toHaveLength(101);
    expect(what).toContain('p100 has disappeared');
    expect(what).toContain('100 people are missing');
    expect(follows().lost.size).toBe(100);
    expect(trust()).toEqual({ trusted: true });
    // entries that have come back must not vanish unnoticed, even after a restart
    told(...people.slice(0, 80));
    expect(trust()).toEqual({ trusted: true });
    expect(keptOf(registry).accepted).toEqual({ people: 20, tools: 0 });
    gone(0, 1);
    now += HOUR_MS + 1;
    beat({ people: 300, tools: 40 });
    expect(follows().lost.size).toBe(0);
  });

  test.each<[string, () => void]>([
    ['has disappeared', () => gone(0, 1)],
    ['is held with many', () => gone(0, 100)],
    ['is not named while everything is reported', () => all(...tools)],
    ['has an invalid seal', () => show('p100', 'x')],
  ])('that %s is asked for again, once: the report may have been false', (_, tell) => {
    expect(takeNeedForFullReport(registry)).toBe(false);
    tell();
    follows();
    expect(takeNeedForFullReport(registry)).toBe(true);
    tell();
    follows();
    expect(takeNeedForFullReport(registry)).toBe(false);
    all(...people, ...tools);
    expect(trust()).toEqual({ trusted: true });
    expect(registry.byName.get('p100')).toMatchObject({ isInForce: true, isClosed: false });
  });

  test('but not if a floor says that it has ended', () => {
    beat({ people: 299, tools: 40, floors: [[PEOPLE + 100, 6]] });
    gone(0, 1);
    follows();
    expect(takeNeedForFullReport(registry)).toBe(false);
  });

  test('without a signature is reported by name for an hour, or until it is back', () => {
    gone(0, 3);
    follows();
    expect(disappearedNames(registry)).toEqual(['p100', 'p101', 'p102']);
    told(people[0]!);
    follows();
    expect(disappearedNames(registry)).toEqual(['p101', 'p102']);
    beat({ people: 298, tools: 40, floors: [[PEOPLE + 101, 6]] });
    follows();
    expect(disappearedNames(registry)).toEqual(['p102']);
    now += HOUR_MS + 1;
    follows();
    expect(disappearedNames(registry)).toEqual([]);
    expect(keptOf(registry).disappeared).toEqual([]);
  });

  test('ends no session because the counts agree: they do not say which subject it was', () => {
    // p101 is deleted, and somebody keeps showing the old seal
    beat({ people: 299, tools: 40, floors: [[PEOPLE + 101, 6]] });
    gone(0, 1);
    expect(follows()).toMatchObject({ ended: [], journal: [`missing ${PEOPLE + 100} p100 5`] });
    // a new entry is shown that the heartbeat does not count yet
    told(person('new', 999));
    gone(2, 3);
    expect(follows().ended).toEqual([]);
  });

  test('is not a loss that may use the last room of a full disk: false reports could go on forever', () => {
    told({ ...people[1]!, state: 'suspended', number: 6 });
    expect(follows().isLoss).toBe(true);
    for (let count = 0; count < 3; count += 1) {
      gone(0, 2);
      expect(follows()).toMatchObject({ journal: { length: 2 }, isLoss: false });
      told(people[0]!, { ...people[1]!, state: 'suspended', number: 6 });
      expect(follows().isLoss).toBe(false);
    }
    beat({ people: 299, tools: 40, floors: [[PEOPLE + 100, 6]] });
    gone(0, 1);
    expect(follows().isLoss).toBe(true);
  });

  test('is not offset by the old seal of a deleted person that somebody has put back', () => {
    beat({ people: 299, tools: 40, floors: [[PEOPLE + 101, 6]] });
    expect(registry.present).toEqual({ people: 299, tools: 40 });
    gone(0, 12); // p101 is among them
    follows();
    expect(registry.present.people).toBe(288);
    told(people[1]!);
    expect(registry.present.people).toBe(288);
    told({ ...people[1]!, number: 6 });
    expect(registry.present.people).toBe(289);
  });

  test('leaves a closed account closed, in whatever order this is reported', () => {
    told({ ...people[0]!, state: 'suspended', number: 6 });
    expect(follows().ended).toEqual([PEOPLE + 100]);
    gone(0, 1);
    expect(follows().journal).toEqual([`gone ${PEOPLE + 100} p100 6`]);
    expect(registry.byUid.get(PEOPLE + 100)?.isClosed).toBe(true);
    told({ ...people[1]!, state: 'suspended', number: 6 });
    gone(1, 2);
    expect(follows().ended).toEqual([PEOPLE + 101]);
    expect(registry.byUid.get(PEOPLE + 101)?.isClosed).toBe(true);
  });

  test('is kept again until that succeeds, because it will not be reported again', () => {
    gone(0, 1);
    for (let count = 0; count < 3; count += 1) {
      const { journal, changed, isLoss } = follows();
      expect([journal, isLoss]).toEqual([[`missing ${PEOPLE + 100} p100 5`], false]);
      takeUnkept(registry, changed);
    }
    follows();
    expect(follows().journal).toEqual([]);
  });

  test('is ended by a later floor, even after a restart without that floor', () => {
    gone(0, 1);
    const before = follows().journal;
    beat({ people: 299, tools: 40, floors: [[PEOPLE + 100, 6]] });
    const after = follows();
    expect([after.ended, after.journal]).toEqual([[PEOPLE + 100], [`gone ${PEOPLE + 100} p100 5`]]);
    registry = open();
    for (const line of [...before, ...after.journal]) loadLine(registry, line, false);
    setLocal(registry, LOCAL, now);
    expect(takeConsequences(registry).ended).toEqual([PEOPLE + 100]);
  });

  test('is ended once root accepts it, even if it was honoured before', () => {
    gone(0, 2);
    expect(follows().ended).toEqual([]);
    expect(acceptDoubted(registry, now)).toEqual(['p100 has disappeared', 'p101 has disappeared']);
    expect(follows()).toMatchObject({
      ended: [PEOPLE + 100, PEOPLE + 101],
      journal: [`gone ${PEOPLE + 100} p100 5`, `gone ${PEOPLE + 101} p101 5`],
    });
  });
});

describe('a tool that cannot be confirmed for longer than the limit has no members', () => {
  const LIMIT_MS = RULES.offlineLimitSeconds * 1000;
  const others = Array.from({ length: 20 }, (_, n) => tool(`t${n}`, 10 + n));
  const isInForce = () => registry.byName.get('tools.bot')?.isInForce;
  const later = (ms: number) => {
    now += ms;
    follows();
    lookAtAll(registry, now);
  };
  beforeEach(() => {
    all(alice(), bot());
    beat({ people: 1, tools: 1 });
    expect(trust()).toEqual({ trusted: true });
    follows();
  });

  test('because the directory is not trusted', () => {
    later(LIMIT_MS);
    expect(isInForce()).toBe(true);
    lookAtAll(registry, (now += 1));
    const found = follows();
    expect([names(found.lost), [...found.lists].sort()]).toEqual([
      ['tools.bot'],
      ['group', 'sudoers'],
    ]);
    // a person's keys have their own ends
    expect(registry.byName.get('alice')?.isInForce).toBe(true);
    beat({ people: 1, tools: 1 });
    expect(trust()).toEqual({ trusted: true });
    expect(isInForce()).toBe(true);
  });

  test.each<[string, () => void]>([
    ['its seal is refused', () => show('tools.bot', 'x')],
    [
      'it has disappeared with many',
      () => {
        told(...others);
        all(alice());
      },
    ],
  ])('because %s, and the limit starts again once it is shown', (_, tell) => {
    tell();
    follows();
    const beats = () => beat({ people: 1, tools: 1 });
    now += LIMIT_MS;
    beats();
    later(0);
    expect(isInForce()).toBe(true);
    now += 1;
    beats();
    later(0);
    expect(isInForce()).toBe(false);
    told(bot(), ...others);
    expect(trust()).toEqual({ trusted: true });
    expect(isInForce()).toBe(true);
  });

  test('even with a clock that was a year ahead', () => {
    const year = 365 * 24 * HOUR_MS;
    registry = open({
      ...NOTHING_KEPT,
      at: NOW,
      confirmedAt: NOW + year,
      doubted: [[TOOLS + 1, NOW + year]],
    });
    loadLine(registry, sign(bot(), signer), false);
    setLocal(registry, LOCAL, now);
    lookAtAll(registry, now);
    follows();
    later(LIMIT_MS);
    expect(isInForce()).toBe(true);
    later(1);
    expect(isInForce()).toBe(false);
    expect(keptOf(registry)).toMatchObject({ confirmedAt: NOW, doubted: [[TOOLS + 1, NOW]] });
  });

  test('and the time since when it is refused is kept', () => {
    show('tools.bot', 'x');
    expect(follows().isKeptNew).toBe(true);
    expect(keptOf(registry).doubted).toEqual([[TOOLS + 1, NOW]]);
    told(bot());
    expect(keptOf(registry).doubted).toEqual([]);
  });

  test('even after a restart', () => {
    const { confirmedAt } = keptOf(registry);
    expect(confirmedAt).toBe(NOW);
    now = NOW + LIMIT_MS + 1;
    registry = open(keptOf(registry));
    loadLine(registry, sign(bot(), signer), false);
    setLocal(registry, LOCAL, now);
    expect(isInForce()).toBe(false);
    // a restart gives a refused tool no more time
    registry = open({ ...NOTHING_KEPT, at: now, confirmedAt: now, doubted: [[TOOLS + 1, NOW]] });
    loadLine(registry, sign(bot(), signer), false);
    setLocal(registry, LOCAL, now);
    expect(isInForce()).toBe(false);
    registry = open({ ...NOTHING_KEPT, at: NOW, confirmedAt: NOW + 1 });
    loadLine(registry, sign(bot(), signer), false);
    setLocal(registry, LOCAL, now);
    expect(isInForce()).toBe(true);
  });
});

test('what changes while everything is being told is there, and is what was told last', () => {
  told(bot());
  takeReading(registry, 'token', 'begin');
  told(alice());
  told(bot({ members: ['alice', 'carol'], number: 6 }));
  told(person('carol', 3));
  takeUnsealed(registry, 'eve', now);
  told(person('eve', 4));
  takeReading(registry, 'token', 'end');
  beat({ people: 3, tools: 1 });
  expect(trust()).toEqual({ trusted: true });
  expect(registry.byName.get('tools.bot')).toMatchObject({ list: 'alice,carol', isShown: true });
  expect(registry.present).toEqual({ people: 3, tools: 1 });
  expect(refused()).toEqual([]);
});

describe('trust', () => {
  test('comes once everything was told, the heartbeat is of now, and nobody is missing', () => {
    beat({ people: 1, tools: 1 });
    told(alice(), bot());
    expect(trust()).toMatchObject({ why: 'the directory has not been read yet' });
    all(alice(), bot());
    expect(trust()).toEqual({ trusted: true });
  });

  test.each([
    ['people', { people: 30, tools: 0 }, 'seals of 19 people, but the heartbeat counts 30'],
    ['tools', { people: 19, tools: 11 }, 'seals of 0 tools, but the heartbeat counts 11'],
  ])('is not there where %s are hidden from the beginning', (_, counts, why) => {
    all(...many(19));
    beat(counts);
    expect(trust()).toMatchObject({ trusted: false, why: expect.stringContaining(why) });
  });

  test('bears that a few are missing, and that their seals are refused', () => {
    all(...many(20));
    beat({ people: 30 });
    expect(trust()).toEqual({ trusted: true });
    show('p100', 'x');
    expect(trust()).toMatchObject({ trusted: false });
  });

  test.each<[string, () => void, RegExp]>([
    ['there is no heartbeat', () => takeHeartbeat(registry, undefined, now), /shows no heartbeat/],
    [
      'it is not signed by us',
      () => takeHeartbeat(registry, verifyPayload(heartbeat(now, newSigner()), keys), now),
      /does not know the key/,
    ],
    [
      'it is a seal',
      () => takeHeartbeat(registry, verifyPayload(sign(alice(), signer), keys), now),
      /has a form that this version cannot read/,
    ],
    ['it is of another realm', () => beat({ realm: 'wiki' }), /belongs to the realm wiki/],
    [
      'it is older than an earlier one, although it is signed',
      () => beat({ at: new Date(NOW - 1).toISOString() }),
      /was published at 2026-11-25T09:59:59.999Z.*keys-agent accept/,
    ],
    [
      'its clock is behind',
      () => beat({ people: 1, clock: new Date(NOW - 61_000).toISOString() }),
      /published no heartbeat for 61 s: the last one says .*09:58:59.000Z, and the clock of this host says 2026-11-25T10:00:00.000Z; check that `chamberlain work directory` runs and that this host's clock/,
    ],
    [
      'its clock is ahead',
      () => beat({ people: 1, clock: new Date(NOW + 61_000).toISOString() }),
      /61 s ahead of this host.*correct the clock that is wrong/,
    ],
    ['this clock has gone on', () => (now += 61_000), /published no heartbeat/],
    ['this clock has jumped back', () => (now -= 61_000), /ahead of this host/],
  ])('is lost if %s, with advice', (_, doubt, why) => {
    all(alice());
    beat({ people: 1 });
    expect(trust()).toEqual({ trusted: true });
    doubt();
    expect(trust()).toMatchObject({
      ...{ trusted: false, why: expect.stringMatching(why), tryAnother: true },
    });
    now = NOW;
    at = NOW + 10;
    beat({ people: 1 });
    expect(trust()).toEqual({ trusted: true });
  });

  test('a clock that was two days ahead leaves nothing behind', () => {
    all(alice());
    beat({ people: 1 });
    const later = now + 48 * HOUR_MS;
    now = later;
    beat({ people: 1 });
    expect(trust()).toEqual({ trusted: true });
    now = NOW;
    beat({ people: 1 });
    expect(trust()).toEqual({ trusted: true });
  });

  test('an older copy is trusted once root accepts it, with the numbers that were seen', () => {
    all(alice({ number: 7 }));
    beat({ people: 1 });
    at = NOW - HOUR_MS;
    beat({ people: 1 });
    told(alice());
    expect(acceptDoubted(registry, now)).toEqual([
      'the heartbeat published at 2026-11-25T09:00:00.001Z',
    ]);
    expect(trust()).toEqual({ trusted: true });
    expect(keptOf(registry).at).toBe(NOW - HOUR_MS + 1);
    told(alice());
    expect(refused()).toEqual([expect.stringContaining('but only 7 and higher numbers are valid')]);
  });

  test('an older heartbeat is not accepted after a restart either', () => {
    beat();
    const kept = keptOf(registry);
    registry = open(kept);
    at = NOW - 1000;
    beat();
    all();
    expect(trust()).toMatchObject({ why: expect.stringContaining('keys-agent accept') });
  });
});

describe('local accounts', () => {
  const locals: [string, string, string][] = [
    ['name of a person', 'alice:x:70:70::/:/bin/sh\n', ''],
    ['number of a person', `other:x:${PEOPLE + 1}:70::/:/bin/sh\n`, ''],
    ['name of a tool', 'tools.bot:x:70:70::/:/bin/sh\n', ''],
    ['number of a tool', `other:x:${TOOLS + 1}:70::/:/bin/sh\n`, ''],
    ['group of a tool', '', 'tools.bot:x:70:\n'],
    ['gid of a tool', '', `other:x:${TOOLS + 1}:\n`],
  ];

  test.each(locals)('the %s stays its own, and its processes are left', (what, passwd, group) => {
    const name = what.endsWith('person') ? 'alice' : 'tools.bot';
    all(alice({ state: 'suspended' }), bot({ state: 'disabled' }));
    beat({ people: 1, tools: 1 });
    expect(follows().ended).toHaveLength(2);
    setLocal(registry, parseLocalAccounts(passwd, group), now);
    expect(registry.byName.get(name)).toMatchObject({
      ...{ isShown: false, isInForce: false, isClosed: false },
    });
    expect(refused()).toEqual([expect.stringMatching(new RegExp(`^${name}: a local `))]);
    expect(trust()).toEqual({ trusted: true });
    setLocal(registry, LOCAL, now);
    expect(registry.byName.get(name)).toMatchObject({ isShown: true, isClosed: true });
    expect(refused()).toEqual([]);
  });

  test('that exist from the beginning keep a person without an account', () => {
    registry = open(undefined, parseLocalAccounts('alice:x:70:70::/:/bin/sh\n', ''));
    told(alice());
    expect(registry.byName.get('alice')).toMatchObject({ isShown: false });
    expect(follows().lists).toEqual(new Set());
  });
});

test('an entry that was refused because of another is asked for again when the other is gone', () => {
  all(alice());
  show('carol', sign(person('carol', 1, { number: 9, until: until(NOW + HOUR_MS) }), signer));
  beat({ people: 1 });
  follows();
  expect(takeNeedForFullReport(registry)).toBe(false);
  takeGone(registry, 'alice');
  follows();
  expect(takeNeedForFullReport(registry)).toBe(true);
  expect(takeNeedForFullReport(registry)).toBe(false);
  told(person('carol', 1, { number: 9, until: until(NOW + HOUR_MS) }));
  expect(registry.byName.get('carol')).toMatchObject({ isInForce: true, isClosed: false });
});

describe('after a restart', () => {
  const load = (...lines: string[]) => {
    registry = open(keptOf(registry));
    const taken = lines.map((line) => loadLine(registry, line, false));
    setLocal(registry, LOCAL, now);
    return taken;
  };

  test('it knows what it knew before, and whose processes end', () => {
    told(alice(), bot(), person('bob', 2, { state: 'suspended' }), person('carol', 3));
    all(alice(), bot(), person('bob', 2, { state: 'suspended' }));
    beat({ people: 2, tools: 1 });
    const { journal } = follows();
    expect(load(...journal)).not.toContain(false);
    expect(follows().ended).toEqual([PEOPLE + 2]);
    expect(registry.byName.get('alice')).toMatchObject({ isInForce: true, list: KEY });
    expect(registry.byName.get('tools.bot')).toMatchObject({ isInForce: true, list: 'alice' });
    expect(registry.byName.get('carol')).toBeUndefined();
    expect(trust()).toMatchObject({ trusted: false });
    // it need not be verified
    expect(knowsSeal(registry, 'alice', digestOf(sign(alice(), signer)))).toBe(true);
  });

  test('the processes are left of a subject that merely disappeared from the directory', () => {
    all(alice(), person('carol', 3));
    beat({ people: 2, tools: 0 });
    follows();
    takeGone(registry, 'carol');
    const { journal } = follows();
    expect(journal).toEqual([`missing ${PEOPLE + 3} carol 5`]);
    load(...journal);
    expect(follows().ended).toEqual([]);
    told(person('carol', 3, { number: 4 }));
    expect(refused()).toEqual([expect.stringContaining('but only 5 and higher numbers are valid')]);
  });

  test('it knows which key signed each seal', () => {
    told(alice(), bot());
    beat({ people: 1, tools: 1 });
    const { journal } = follows();
    expect(signersOf(registry)).toEqual([[signer.id, 2]]);
    load(...journal);
    expect(signersOf(registry)).toEqual([[signer.id, 2]]);
  });

  test('the last line of a uid counts', () => {
    load(sign(alice(), signer), `gone ${PEOPLE + 1} alice 5`, sign(alice({ number: 6 }), signer));
    expect(registry.byName.get('alice')).toMatchObject({ number: 6, isClosed: false });
  });

  test.each(['', 'x', 'gone x', 'gone 5 alice', sign(alice(), signer).slice(0, -1)])(
    'an invalid line is ignored: %j',
    (line) => {
      expect(load(line, sign(bot(), signer))).toEqual([false, true]);
      expect(registry.byUid.size).toBe(1);
    },
  );

  test('of a seal whose key this host no longer knows, only the number counts', () => {
    load(sign(alice({ state: 'suspended', number: 9 }), newSigner()));
    expect(registry.byUid.get(PEOPLE + 1)).toMatchObject({ isShown: false, isClosed: false });
    told(alice({ number: 8 }));
    expect(refused()).toEqual([expect.stringContaining('but only 9 and higher numbers are valid')]);
    told(alice({ number: 9 }));
    expect(registry.byName.get('alice')).toMatchObject({ isInForce: true });
  });

  test('under other rules everything is judged anew', () => {
    registry = openRegistry(
      { ...RULES, homes: { people: '/people', tools: '/data/project' } },
      new Set(keys.keys()),
      openHeartbeats('tools'),
      LOCAL,
    );
    loadLine(registry, sign(alice(), signer), true);
    loadLine(registry, sign(bot({ members: ['John.Doe'] }), signer), true);
    setLocal(registry, LOCAL, now);
    expect(registry.byUid.get(PEOPLE + 1)).toMatchObject({ number: 5, isShown: false });
    expect(registry.byName.get('tools.bot')).toMatchObject({ isShown: true, list: '' });
  });

  test('a key that was refused is refused again', () => {
    told(alice({ keys: [KEY, 'ssh-ed25519 AAAA'] }));
    load(...follows().journal);
    expect(registry.byName.get('alice')).toMatchObject({ list: KEY });
    expect(refused()).toEqual([expect.stringContaining('a key is not accepted')]);
  });
});

test('a seal that could not be kept is verified and kept again when it is reported again', () => {
  told(alice());
  const { journal, changed } = follows();
  takeUnkept(registry, changed);
  expect(knowsSeal(registry, 'alice', digestOf(journal[0] ?? ''))).toBe(false);
  told(alice());
  expect(follows().journal).toEqual(journal);
});
