import { describe, expect, test } from '@jest/globals';
import type { WantedCredentials } from '../../src/reconcile/wanted.ts';
import type { SeenPath } from '../../src/reconcile/action.ts';
import { credentialsFile } from '../../src/targets/credentials-file.ts';
import type { CredentialsFileHave, CredentialsHave } from '../../src/targets/files-reader.ts';
import { linesOf, person, REALM, tool } from './directory-cases.ts';

const PATH = '/data/project/bot/replica.my.cnf';
const HOME: SeenPath = { ino: 7, uid: 50001, gid: 50001, mode: 0o2775 };
const VERIFIER = '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19';
const RECORDED: WantedCredentials = { wantedEpoch: 2, recorded: { epoch: 2, verifier: VERIFIER } };
type Regular = Extract<CredentialsFileHave, { kind: 'regular' }>;

const file = (seen: Partial<SeenPath> = {}, changes: Partial<Regular> = {}): Regular => ({
  kind: 'regular',
  seen: { ino: 8, uid: 50001, gid: 50001, mode: 0o440, ...seen },
  links: 1,
  user: 's50001',
  verifier: VERIFIER,
  ...changes,
});
const ours = (there: CredentialsFileHave): CredentialsHave => ({
  home: 'ours',
  seen: HOME,
  file: there,
});
const planned = (have: CredentialsHave, credentials = RECORDED, realm = REALM) => {
  const wanted = tool({ credentials });
  return credentialsFile.plan(credentialsFile.want(wanted, realm), have, wanted);
};

const CREATED = `create ${PATH}: absent → new password`;
const RENEWED = `change ${PATH}: present → new password`;
const LEAKED = `revoke ${PATH}: present → new password`;
const OWNED = (from: string, effect = 'change') => `${effect} ${PATH}: ${from} → 50001:50001 0440`;

describe('credentials-file', () => {
  test.each<[string, CredentialsHave, string[]]>([
    ['a file that is as it should be', ours(file()), []],
    ['none', ours({ kind: 'absent' }), [CREATED]],
    ['none, in a home that a step before makes', { home: 'absent' }, [CREATED]],
    ['a home that is not ours', { home: 'unmanaged' }, []],
    ['a symbolic link', ours({ kind: 'irregular', what: 'a symbolic link' }), [RENEWED]],
    ['a directory', ours({ kind: 'blocked', what: 'a directory' }), [`PATH_FOREIGN ${PATH}`]],
    ['another password', ours(file({}, { verifier: `*${'0'.repeat(40)}` })), [RENEWED]],
    ['another user', ours(file({}, { user: 's50002' })), [RENEWED]],
    ['a file that others could read', ours(file({ mode: 0o444 })), [LEAKED]],
    ['a file that others could write', ours(file({ mode: 0o442 })), [LEAKED]],
    ['a file that another group could read', ours(file({ gid: 500 })), [LEAKED]],
    [
      'a file that others could read, with another password',
      ours(file({ mode: 0o444 }, { verifier: `*${'0'.repeat(40)}` })),
      [RENEWED],
    ],
    [
      'a group that could not read it',
      ours(file({ gid: 500, mode: 0o400 })),
      [OWNED('50001:500 0400')],
    ],
    ['a mode that lacks a right', ours(file({ mode: 0o400 })), [OWNED('50001:50001 0400')]],
    [
      'a mode with a right too many',
      ours(file({ mode: 0o660 })),
      [OWNED('50001:50001 0660', 'revoke')],
    ],
    ["root's file", ours(file({ uid: 0, gid: 0, mode: 0o600 })), [OWNED('0:0 0600')]],
    ['a right file with other links', ours(file({}, { links: 2 })), []],
    ['a wrong mode, with other links', ours(file({ mode: 0o400 }, { links: 2 })), [RENEWED]],
  ])('is right about %s', (_what, have, lines) => {
    expect(linesOf(planned(have))).toEqual(lines);
  });

  test.each<[string, WantedCredentials, string]>([
    ['no verifier is recorded', { wantedEpoch: 1, recorded: undefined }, 'no verifier is recorded'],
    [
      'another epoch is wanted',
      { wantedEpoch: 3, recorded: RECORDED.recorded },
      'password number 3 is wanted, 2 is recorded',
    ],
  ])('makes a new password where %s', (_what, credentials, because) => {
    const { steps } = planned(ours(file()), credentials);
    expect(steps).toEqual([
      expect.objectContaining({
        effect: 'change',
        because,
        action: {
          verb: 'credentials.write',
          home: { area: 'toolHomes', name: 'bot' },
          seen: HOME,
          user: 's50001',
          uid: 50001,
          epoch: credentials.wantedEpoch,
        },
      }),
    ]);
  });

  const OVERLAPPING: WantedCredentials = {
    wantedEpoch: 2,
    recorded: { epoch: 2, verifier: `*${'1'.repeat(40)}`, previous: VERIFIER },
  };
  test.each<[string, WantedCredentials, Regular, boolean]>([
    ['others could read it', RECORDED, file({ mode: 0o444 }), true],
    [
      'others could read it, and another epoch is wanted',
      { ...RECORDED, wantedEpoch: 3 },
      file({ mode: 0o444 }),
      true,
    ],
    ['others could read the one before', OVERLAPPING, file({ mode: 0o444 }), true],
    ['it is the one before, of a run that was cut', OVERLAPPING, file(), false],
    ['another epoch is wanted', { ...RECORDED, wantedEpoch: 3 }, file(), false],
    [
      'others could read what opens nothing',
      { ...RECORDED, wantedEpoch: 3 },
      file({ mode: 0o444 }, { verifier: `*${'0'.repeat(40)}` }),
      false,
    ],
  ])('says whether others know a password that works: %s', (_what, credentials, there, known) => {
    const [step] = planned(ours(there), credentials).steps;
    expect([step?.effect, (step?.action as { known?: true } | undefined)?.known]).toEqual(
      known ? ['revoke', true] : ['change', undefined],
    );
  });

  test('goes by the owner alone where the home is made by a step before', () => {
    expect(planned({ home: 'absent' }).steps[0]?.action).not.toHaveProperty('seen');
  });

  test('says which servers follow', () => {
    const realm = { ...REALM, databaseServers: [{ name: 'replica', kind: 'replica' as const }] };
    expect(planned(ours({ kind: 'absent' }), RECORDED, realm).steps[0]?.change).toBe(
      'absent → new password; then its verifier for s50001 on replica',
    );
  });

  test('wants nothing where no credentials are wanted, or no home', () => {
    const without = [
      tool(),
      person({ everAdmitted: false, realmMember: false, credentials: RECORDED }),
    ];
    for (const wanted of without) {
      expect(credentialsFile.want(wanted, REALM)).toBeUndefined();
    }
  });

  test("is a person's own as well: user u<uid>, group the uid", () => {
    const alice = person({ credentials: RECORDED });
    const seen = { ino: 9, uid: 1003, gid: 500, mode: 0o700 };
    const have: CredentialsHave = {
      home: 'ours',
      seen,
      file: file({ uid: 1003, gid: 1003 }, { user: 'u1003' }),
    };
    expect(linesOf(credentialsFile.plan(credentialsFile.want(alice, REALM), have, alice))).toEqual(
      [],
    );
  });
});
