/** Which signed payloads a login host turns into accounts: src/login-host/helper/registry/judge.ts. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { formatSeal, type PersonSeal, type ToolSeal } from '../../../../src/seals/seal.ts';
import { parseSshKey } from '../../../../src/ssh-keys/ssh-key.ts';
import { judgePayload, type Rules } from '../../../../src/login-host/helper/registry/judge.ts';
import { newKey, PEOPLE, person, tool, TOOLS } from '../../seals.ts';

const RULES: Rules = {
  realm: 'tools',
  ids: {
    people: [
      { first: PEOPLE, last: PEOPLE + 999 },
      { first: 30_000, last: 30_000 },
    ],
    tools: [{ first: TOOLS, last: TOOLS + 999 }],
  },
  homes: { people: '/home', tools: '/data/project' },
  knownBadKeys: [],
};
const KEY = newKey();

const alice = (more: Partial<PersonSeal> = {}) => person('alice', 1, more);
const bot = (more: Partial<ToolSeal> = {}) => tool('bridgebot', 1, more);
const judge = (seal: PersonSeal | ToolSeal, rules = RULES) =>
  judgePayload(seal.name, formatSeal(seal), rules);
const accountOf = (seal: PersonSeal | ToolSeal) => {
  const verdict = judge(seal);
  if (!verdict.ok) throw new Error(verdict.why);
  return verdict.account;
};

describe('a valid payload is accepted', () => {
  const long = `a${'b'.repeat(31)}`;
  test.each<[string, PersonSeal | ToolSeal]>([
    ['a person', alice()],
    ['the last number of a range', alice({ uid: PEOPLE + 999 })],
    ['another range', alice({ uid: 30_000 })],
    ['an imported name', person('a_b-c_', 2)],
    ['a name of 32', person(long, 2)],
    ['another shell', alice({ shell: '/usr/bin/zsh' })],
    ['a tool', bot()],
    ['a disabled tool', bot({ state: 'disabled', shell: '/bin/disabledtoolshell' })],
  ])('%s', (_, seal) => {
    const { name, uid, shell, number } = seal;
    expect(accountOf(seal)).toMatchObject({ name, uid, shell, number, remark: undefined });
  });

  test('with the state of the subject', () => {
    const states: [PersonSeal | ToolSeal, boolean][] = [
      [alice(), true],
      [alice({ member: false }), false],
      [alice({ state: 'suspended' }), false],
      [alice({ state: 'archived' }), false],
      [bot(), true],
      [bot({ state: 'disabled' }), false],
      [bot({ state: 'archived' }), false],
    ];
    for (const [seal, isActive] of states) expect(accountOf(seal)).toMatchObject({ isActive });
  });

  test('with keys and members as they are', () => {
    const bound = `restrict,expiry-time="20301231Z" ${newKey()}`;
    expect(accountOf(alice({ keys: [KEY, bound] })).list).toBe(`${KEY}\n${bound}`);
    expect(accountOf(bot({ members: ['alice', 'tools.other'] })).list).toBe('alice,tools.other');
  });

  test('with the reason why a tool is disabled, if it has our form', () => {
    const gecos = (text: string) => accountOf(bot({ state: 'disabled', gecos: text })).gecos;
    expect(gecos('disabled - too loud (see /etc)')).toBe('disabled - too loud (see /etc)');
    for (const other of [
      'x',
      'disabled - a:b',
      'disabled - a\nb',
      `disabled - ${'x'.repeat(200)}`,
    ]) {
      expect(gecos(other)).toBe('');
    }
  });
});

describe('an invalid payload is refused with a reason', () => {
  test.each<[string, PersonSeal | ToolSeal, string]>([
    ['another realm', alice({ realm: 'wiki' }), 'belongs to the realm wiki'],
    ['a number below the range', alice({ uid: PEOPLE - 1 }), 'outside every range of ids.people'],
    ['a number above the range', alice({ uid: PEOPLE + 1000 }), 'outside every range'],
    ['root', alice({ uid: 0 }), 'outside every range'],
    ['a number that wraps to root', alice({ uid: 4_294_967_296 }), 'outside every range'],
    ['a number of a tool', alice({ uid: TOOLS + 1 }), 'outside every range'],
    [
      'a tool with a number of a person',
      bot({ uid: PEOPLE + 1 }),
      'outside every range of ids.tools',
    ],
    ['the home of another', alice({ home: '/home/bob' }), 'its home /home/bob is not /home/alice'],
    ['a home with more path', alice({ home: '/home/alice/..' }), 'its home'],
    ['a home with a colon', alice({ home: '/home/alice:/bin/sh' }), 'its home'],
    ['a tool whose home is a person', bot({ home: '/home/bridgebot' }), 'its home'],
    ['a shell of her own', alice({ shell: '/home/alice/sh' }), 'its shell'],
    ['no shell', alice({ shell: '' }), 'its shell'],
    ['a shell and a line end', alice({ shell: '/bin/bash\n' }), 'its shell'],
    ['a tool with a shell of people', bot({ shell: '/bin/zsh' }), 'its shell'],
    ['a name with a dot', person('a.b', 1), 'not allowed for a person'],
    ['a person with the name of a tool', person('tools.bot', 1), 'not allowed for a person'],
    ['a tool with the name of a person', bot({ name: 'alice' }), 'not allowed for a tool'],
    ['a tool of another realm', bot({ name: 'toolz.bridgebot' }), 'not allowed for a tool'],
    ['a tool without a name', bot({ name: 'tools.' }), 'not allowed'],
    ['a tool of two dots', bot({ name: 'tools.a.b' }), 'not allowed'],
    ['a name in capitals', person('Alice', 1), 'not allowed'],
    ['a name in other letters', person('älice', 1), 'not allowed'],
    ['a name with a dot in front', person('.ssh', 1), 'not allowed'],
    ['a name that leads out', person('../etc', 1), 'not allowed'],
    ['a name with a dash in front', person('-u', 1), 'not allowed'],
    ['a name of 33', person('a'.repeat(33), 1), 'not allowed'],
    ['a name with a line end', person('alice\n', 1), 'not allowed'],
    ['no name', person('', 1), 'not allowed'],
  ])('%s', (_, seal, why) => {
    expect(judge(seal)).toEqual({ ok: false, why: expect.stringContaining(why) });
  });

  test.each<[string, string]>([
    ['nothing', ''],
    ['no JSON', '{'],
    ['a list', '[]'],
    ['blanks', formatSeal(alice()).replace(',', ', ')],
    [
      'another order',
      formatSeal(alice()).replace(/^\{("kind":"person"),("realm":"tools")/, '{$2,$1'),
    ],
    ['a field twice', formatSeal(alice()).replace('{', '{"uid":0,')],
    ['a field more', formatSeal(alice()).replace('{', '{"root":true,')],
    ['a field less', formatSeal(alice()).replace('"member":true,', '')],
    ['no number', formatSeal(alice()).replace('"number":5', '"number":0')],
    ['a fraction', formatSeal(alice()).replace('"number":5', '"number":5.5')],
    [
      'an invalid time',
      formatSeal(alice()).replace(/"until":"[^"]*"/, '"until":"2026-02-31T00:00:00Z"'),
    ],
    ['no time', formatSeal(alice()).replace(/"until":"[^"]*"/, '"until":"later"')],
  ])('a payload of another form: %s', (_, payload) => {
    expect(judgePayload('alice', payload, RULES)).toEqual({
      ...{ ok: false, why: 'its seal has a form that this version cannot read' },
    });
  });

  test('the sentence contains nothing of the seal that could break it', () => {
    const verdict = judge(alice({ home: `\u0000\u009b\u2028\n${'b'.repeat(500)}` }));
    expect(verdict.ok ? '' : verdict.why).toMatch(/^[\x20-\x7e…]{1,150}$/);
  });
});

describe('an invalid key affects only itself', () => {
  const good = newKey();
  test.each([
    ['no key', 'x', 'KEY_MALFORMED'],
    ['a cut key', KEY.slice(0, -4), 'KEY_MALFORMED'],
    ['a line end within it', `${KEY}\n${newKey()}`, 'KEY_MALFORMED'],
    ['a line end after it', `${KEY}\n`, 'not in canonical form'],
    ['a comment', `${KEY} alice@host`, 'not in canonical form'],
    ['two blanks', KEY.replace(' ', '  '), 'a key is not accepted'],
    ['a program', `command="/bin/sh" ${KEY}`, 'KEY_OPTION'],
    ['a certificate authority', `cert-authority ${KEY}`, 'KEY_OPTION'],
    ['an option in capitals', `RESTRICT ${KEY}`, 'not in canonical form'],
  ])('%s', (_, key, why) => {
    const account = accountOf(alice({ keys: [key, good] }));
    expect(account).toMatchObject({ list: good, remark: expect.stringContaining(why) });
  });

  test('one that the realm refuses', () => {
    const parsed = parseSshKey(KEY);
    if (!parsed.ok) throw new Error(parsed.sentence);
    const verdict = judge(alice({ keys: [KEY, good] }), {
      ...RULES,
      knownBadKeys: [parsed.key.fingerprint],
    });
    expect(verdict).toMatchObject({
      account: { list: good, remark: expect.stringContaining('KEY_KNOWN_BAD') },
    });
  });
});

test('whatever is signed, an accepted account belongs to the realm', () => {
  const field = fc.oneof(
    ...['alice', 'root', 'tools.a', '../x', 'x', '*', '', '0', '/home/alice', '/bin/bash', '/'].map(
      (each) => fc.constant(each),
    ),
    fc.string({ unit: 'binary', maxLength: 8 }),
  );
  const number = fc.oneof(fc.integer(), fc.constantFrom(0, 500, PEOPLE + 1, TOOLS + 1));
  const change = fc.oneof(
    fc.record({ name: field }),
    fc.record({ home: field }),
    fc.record({ shell: field }),
    fc.record({ uid: number }),
    fc.record({ realm: field }),
    fc.record({ gecos: field, members: fc.array(field) }),
    fc.record({ keys: fc.array(field) }),
  );
  fc.assert(
    fc.property(fc.constantFrom(alice(), bot()), change, (good, changed) => {
      const seal = { ...good, ...changed };
      const verdict = judge(seal);
      if (!verdict.ok) return;
      const { name, uid, shell, gecos, list } = verdict.account;
      expect(`${name}:*:${uid}:${gecos}:${shell}`).toMatch(
        /^([a-z][a-z0-9_-]*:\*:1500000\d\d\d|tools\.[a-z][a-z0-9_-]*:\*:1600000\d\d\d):[^:\n]*:\/(usr\/)?bin\/[a-z]+$/,
      );
      expect(list).toMatch(/^[a-z0-9_.,-]*$/);
    }),
    { numRuns: 500 },
  );
});
