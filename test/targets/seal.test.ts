import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { parseSeal, sealKeyId, signPayload } from '../../src/seals/seal.ts';
import type { DirectoryEntry } from '../../src/targets/directory-reader.ts';
import { addSealed, seal } from '../../src/targets/seal.ts';
import { unixAccount } from '../../src/targets/unix-account.ts';
import {
  completed,
  entry,
  KEY,
  linesOf,
  OTHER_KEY,
  person,
  REALM,
  tool,
} from './directory-cases.ts';

const { privateKey } = generateKeyPairSync('ed25519');
const signer = { id: sealKeyId(privateKey), privateKey };
const UNTIL = '2026-12-06T00:00:00Z';
const numbered = (number: number) => ({ seal: { number, until: UNTIL } });
type Subject = ReturnType<typeof person> | ReturnType<typeof tool>;
const wantedPayload = (subject: Subject) =>
  seal.want(subject, REALM).attributes['chamberlainSeal']?.[0] ?? '';
const sealed = (subject: Subject) => signPayload(wantedPayload(subject), signer);
const have = (subject: Subject, seals: string[], changes: Record<string, string[]> = {}) => {
  const place = subject.kind === 'person' ? 'people' : 'toolAccounts';
  return entry(`${place}/uid=${subject.account}`, {
    objectClass: ['inetOrgPerson', 'chamberlainsealed'],
    uid: [subject.account],
    uidNumber: [String(subject.uid)],
    chamberlainSeal: seals,
    ...changes,
  });
};
const planned = (subject: Subject, found: DirectoryEntry | undefined) =>
  seal.plan(seal.want(subject, REALM), found, subject);

const alice = person(numbered(5));
const bot = tool(numbered(3));
const ALICE = 'uid=alice,ou=people';
const BOT = 'uid=tools.bot,ou=people,ou=servicegroups';
const keysOf = (...lines: string[]) =>
  lines.map((line) => ({ line, fingerprint: `SHA256:${line.length}`, label: 'x' }));

describe('seal', () => {
  test('covers everything that a login host may know of a person', () => {
    expect(
      parseSeal(wantedPayload(person({ ...numbered(5), keys: keysOf(OTHER_KEY, KEY) }))),
    ).toEqual({
      ...{ kind: 'person', realm: 'tools', name: 'alice', uid: 1003, home: '/home/alice' },
      ...{ shell: '/bin/bash', state: 'active', member: true, keys: [OTHER_KEY, KEY].toSorted() },
      ...{ number: 5, until: UNTIL },
    });
  });

  test('covers a tool, with the members of its group except itself, and why it is disabled', () => {
    const off = tool({ ...numbered(3), state: 'disabled', disabledReason: 'too: loud' });
    expect(parseSeal(wantedPayload(off))).toEqual({
      ...{ kind: 'tool', realm: 'tools', name: 'tools.bot', uid: 50001, home: '/data/project/bot' },
      ...{ shell: '/bin/disabledtoolshell', state: 'disabled', gecos: 'disabled - too? loud' },
      ...{ members: ['alice', 'tools.other'], number: 3, until: UNTIL },
    });
  });

  test.each<[string, Subject, DirectoryEntry | undefined, string[]]>([
    ['leaves one that says what is wanted', alice, have(alice, [sealed(alice)]), []],
    [
      'makes one after the account where there is none yet',
      alice,
      undefined,
      [`change ${ALICE}: seal none → number 5`],
    ],
    [
      'makes one where the account has none',
      bot,
      have(bot, []),
      [`change ${BOT}: seal none → number 3`],
    ],
    [
      'replaces the last one by the next',
      alice,
      have(alice, [sealed(person(numbered(4)))]),
      [`change ${ALICE}: seal number 4 → number 5`],
    ],
    [
      'replaces an invalid seal, and a second value',
      alice,
      have(alice, ['nonsense', sealed(alice)]),
      [`change ${ALICE}: seal unreadable → number 5`],
    ],
    [
      'takes access away first: a person who is suspended',
      person({ ...numbered(6), state: 'suspended' }),
      have(alice, [sealed(alice)]),
      [`revoke ${ALICE}: seal number 5 → number 6`],
    ],
    [
      'a key less',
      person({ ...numbered(6), keys: [] }),
      have(alice, [sealed(alice)]),
      [`revoke ${ALICE}: seal number 5 → number 6`],
    ],
    [
      'no longer a realm member',
      person({ ...numbered(6), realmMember: false }),
      have(alice, [sealed(alice)]),
      [`revoke ${ALICE}: seal number 5 → number 6`],
    ],
    [
      'a removed maintainer',
      tool({ ...numbered(4), members: [] }),
      have(bot, [sealed(bot)]),
      [`revoke ${BOT}: seal number 3 → number 4`],
    ],
    [
      'does nothing for a deleted subject',
      person({ ...numbered(6), state: 'deleted' }),
      have(alice, [sealed(alice)]),
      [],
    ],
    ['nor to an account that is not ours', alice, have(alice, [], { uidNumber: ['9999'] }), []],
    ['nor before PostgreSQL has given it a number', person(), have(alice, []), []],
  ])('%s', (_, subject, found, expected) => {
    expect(linesOf(planned(subject, found))).toEqual(expected);
  });

  test('is written in one modify that takes exactly what was seen, and the class with it', () => {
    const before = sealed(person(numbered(4)));
    const found = have(alice, [before], { objectClass: ['inetOrgPerson'] });
    expect(planned(alice, found).steps.map(({ action }) => action)).toEqual([
      {
        verb: 'ldap.modify',
        entry: 'people/uid=alice',
        expect: { uidNumber: '1003' },
        changes: [
          { attribute: 'objectClass', remove: [], add: ['chamberlainSealed'] },
          { attribute: 'chamberlainSeal', remove: [before], add: [wantedPayload(alice)] },
        ],
      },
    ]);
  });

  test('is written together with a new account, and separately otherwise', () => {
    const ofSeal = (there: ReturnType<typeof have> | undefined) =>
      completed('seal', alice, planned(alice, there)).steps;
    const plan = unixAccount.plan(unixAccount.want(alice, REALM), [], alice);
    const added = completed('unix-account', alice, plan).steps;
    const alone = ofSeal(have(alice, []));
    const [step, ...others] = addSealed([...added, ...ofSeal(undefined)]);
    expect(others).toEqual([]);
    const account = added[0]?.action as { attributes: Record<string, string[]> };
    expect(step).toEqual({
      ...added[0],
      action: {
        ...account,
        attributes: {
          ...account.attributes,
          objectClass: [...(account.attributes['objectClass'] ?? []), 'chamberlainSealed'],
          chamberlainSeal: [wantedPayload(alice)],
        },
      },
    });
    expect(addSealed(alone)).toEqual(alone);
    expect(addSealed(added)).toEqual(added);
  });
});
