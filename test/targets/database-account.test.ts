import { describe, expect, test } from '@jest/globals';
import { ChamberlainError } from '../../src/shared/errors.ts';
import { limitWhileEnding } from '../../src/targets/connection-limit.ts';
import type { Realm, WantedPerson, WantedTool } from '../../src/reconcile/wanted.ts';
import type { AccountName, ShellName, ToolName } from '../../src/identity/names.ts';
import { databaseAccount, type DatabaseServerHave } from '../../src/targets/database-account.ts';
import type { DatabaseAccount, DatabasesReader } from '../../src/targets/databases-reader.ts';

const VERIFIER = '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19';
const OTHER_VERIFIER = '*6BB4837EB74329105EE4568DDA7DC67ED2CA2AD9';
const THIRD_VERIFIER = '*0123456789ABCDEF0123456789ABCDEF01234567';
const way = (verifier: string) => `mysql_native_password ${verifier}`;
const RECORDED = { wantedEpoch: 3, recorded: { epoch: 3, verifier: VERIFIER } };
const REALM: Realm = {
  realm: 'tools',
  realmGid: 500,
  toolHomes: '/data/project',
  personHomes: '/home',
  toolHomeMode: 0o2775,
  maxUserConnections: 10,
  databaseServers: [
    { name: 'replica', kind: 'replica' },
    { name: 'toolsdb', kind: 'toolsdb' },
  ],
};

const tool = (changes: Partial<WantedTool> = {}): WantedTool => ({
  kind: 'tool',
  uid: 51234,
  account: 'tools.bridgebot' as AccountName,
  name: 'bridgebot' as ToolName,
  state: 'active',
  credentials: RECORDED,
  ...changes,
});
const person = (changes: Partial<WantedPerson> = {}): WantedPerson => ({
  kind: 'person',
  uid: 1234,
  account: 'alice' as AccountName,
  shellName: 'alice' as ShellName,
  state: 'active',
  realmMember: true,
  everAdmitted: true,
  credentials: RECORDED,
  ...changes,
});

const toolsdbGrants = (user: string) => [`ALL on ${user}\\_\\_%.*`];
/** of a locked account: its events do not run */
const lockedGrants = (user: string) => [`ALL but EVENT on ${user}\\_\\_%.*`];

const account = (changes: Partial<DatabaseAccount> = {}): DatabaseAccount => ({
  host: '%',
  login: [`mysql_native_password ${VERIFIER}`],
  locked: false,
  maxUserConnections: 10,
  grants: [],
  ...changes,
});

const seen = (
  server: string,
  accounts: DatabaseAccount[],
  anonymousHosts: string[] = [],
  leftovers: string[] = [],
) => ({
  server,
  accounts,
  anonymousHosts,
  leftovers,
});

/** The state of both servers: as it should be, except for these changes on the replica. */
function have(user: string, replica: DatabaseAccount[], toolsdb?: DatabaseAccount[]) {
  const right = account({ grants: toolsdbGrants(user) });
  return [seen('replica', replica), seen('toolsdb', toolsdb ?? [right])];
}

const planned = (wanted: WantedTool | WantedPerson, found: DatabaseServerHave[]) =>
  databaseAccount.plan(databaseAccount.want(wanted, REALM), found, wanted);
const lines = (wanted: WantedTool | WantedPerson, found: DatabaseServerHave[]) => {
  const { steps, findings, waitingFor, unreadable } = planned(wanted, found);
  return [
    ...steps.map(
      ({ effect, action, object, change }) => `${effect} ${action.verb} ${object}: ${change}`,
    ),
    ...findings.map(
      ({ code, object, advisory }) => `${advisory ? 'advisory ' : ''}${code} ${object}`,
    ),
    ...(waitingFor === undefined ? [] : [`waiting for ${waitingFor}`]),
    ...(unreadable === undefined ? [] : [`unreadable: ${unreadable}`]),
  ];
};

const WAITING = { wantedEpoch: 4, recorded: { epoch: 3, verifier: VERIFIER } };
/** somebody who lost access may know the recorded password */
const KNOWN = { ...WAITING, atOnce: true };
const LOCKED_OUT =
  'waiting for homes. Somebody who lost access may know the old password, so the database account is locked' +
  ' on every server until the role homes has written a new one. `chamberlain status tools.bridgebot` shows what prevents' +
  ' that. Correct it, then run `chamberlain repair tools.bridgebot`.';
/** the previous password works as well */
const OVERLAPPING = {
  wantedEpoch: 3,
  recorded: { epoch: 3, verifier: VERIFIER, previous: OTHER_VERIFIER },
};
const BOTH = [way(VERIFIER), way(OTHER_VERIFIER)];
const UNMADE = { wantedEpoch: 1, recorded: undefined };

describe('database-account', () => {
  test.each<[string, WantedTool, DatabaseAccount[], string[]]>([
    ['leaves an account that is as it should be', tool(), [account()], []],
    [
      'makes an account that is not there',
      tool(),
      [],
      ['create db.createUser s51234 on replica: absent → present'],
    ],
    [
      'makes the account of a disabled tool locked',
      tool({ state: 'disabled' }),
      [],
      [
        'create db.createUser s51234 on replica: absent → present, locked',
        'revoke db.setLocked s51234 on toolsdb: unlocked → locked',
      ],
    ],
    ['waits for the first verifier', tool({ credentials: UNMADE }), [], ['waiting for homes']],
    [
      'waits for the verifier of a new epoch, and leaves the account meanwhile',
      tool({ credentials: WAITING }),
      [account()],
      ['waiting for homes'],
    ],
    [
      'locks the account while there is no password but the known one, and says what to do',
      tool({ credentials: KNOWN }),
      [account()],
      [
        'revoke db.setLocked s51234 on replica: unlocked → locked',
        'revoke db.setLocked s51234 on toolsdb: unlocked → locked',
        LOCKED_OUT,
      ],
    ],
    [
      'does nothing more once it is locked',
      tool({ credentials: KNOWN }),
      [account({ locked: true })],
      ['revoke db.setLocked s51234 on toolsdb: unlocked → locked', LOCKED_OUT],
    ],
    [
      'sets another password before it unlocks, once homes has created one',
      tool({ credentials: { ...KNOWN, recorded: { epoch: 4, verifier: OTHER_VERIFIER } } }),
      [account({ locked: true })],
      [
        'revoke db.setVerifier s51234 on replica: verifier replaced',
        'change db.setLocked s51234 on replica: locked → unlocked',
        'revoke db.setVerifier s51234 on toolsdb: verifier replaced',
      ],
    ],
    [
      'locks nothing because of a password that was never created',
      tool({ credentials: { ...UNMADE, atOnce: true } }),
      [account()],
      ['waiting for homes'],
    ],
    [
      'locks and revokes while it waits, and gives nothing',
      tool({ state: 'disabled', credentials: WAITING }),
      [account({ maxUserConnections: 5, grants: ['SUPER on *.*'] })],
      [
        'revoke db.setLocked s51234 on replica: unlocked → locked',
        'revoke db.revoke s51234 on replica: revoke SUPER on *.*',
        'revoke db.setLocked s51234 on toolsdb: unlocked → locked',
        'waiting for homes',
      ],
    ],
    [
      'locks the account of an archived subject, and waits for nothing: there is no home to keep a password in',
      tool({ state: 'archived', credentials: WAITING }),
      [account()],
      [
        'revoke db.setLocked s51234 on replica: unlocked → locked',
        'revoke db.setLocked s51234 on toolsdb: unlocked → locked',
      ],
    ],
    [
      'replaces another verifier',
      tool(),
      [account({ login: [way(OTHER_VERIFIER)] })],
      ['revoke db.setVerifier s51234 on replica: verifier replaced'],
    ],
    [
      'leaves both ways in while they overlap, in whichever order',
      tool({ credentials: OVERLAPPING }),
      [account({ login: BOTH.toReversed() })],
      ['change db.setVerifier s51234 on toolsdb: verifiers replaced: current and previous'],
    ],
    [
      'makes an account with both ways in while they overlap',
      tool({ credentials: OVERLAPPING }),
      [],
      [
        'create db.createUser s51234 on replica: absent → present',
        'change db.setVerifier s51234 on toolsdb: verifiers replaced: current and previous',
      ],
    ],
    [
      'adds the new way in to the old one, and ends nothing',
      tool({ credentials: OVERLAPPING }),
      [account({ login: [way(OTHER_VERIFIER)] })],
      [
        'change db.setVerifier s51234 on replica: verifiers replaced: current and previous',
        'change db.setVerifier s51234 on toolsdb: verifiers replaced: current and previous',
      ],
    ],
    [
      'removes the oldest of three ways in',
      tool({ credentials: OVERLAPPING }),
      [account({ login: [way(OTHER_VERIFIER), way(THIRD_VERIFIER)] })],
      [
        'revoke db.setVerifier s51234 on replica: verifiers replaced: current and previous',
        'change db.setVerifier s51234 on toolsdb: verifiers replaced: current and previous',
      ],
    ],
    [
      'removes the old way in when its time has ended',
      tool(),
      [account({ login: BOTH })],
      ['revoke db.setVerifier s51234 on replica: verifier replaced'],
    ],
    [
      'removes a way in while it waits for another password',
      tool({ credentials: WAITING }),
      [account({ login: BOTH })],
      ['revoke db.setVerifier s51234 on replica: verifier replaced', 'waiting for homes'],
    ],
    [
      'adds none while it waits for another password',
      tool({
        credentials: {
          wantedEpoch: 4,
          recorded: { epoch: 3, verifier: OTHER_VERIFIER, previous: VERIFIER },
        },
      }),
      [account({ login: ['expired', way(VERIFIER)] })],
      ['waiting for homes'],
    ],
    [
      'removes no way in before a password was created',
      tool({ credentials: UNMADE }),
      [account({ login: [way(OTHER_VERIFIER)] })],
      ['waiting for homes'],
    ],
    [
      'ends the connections that an interrupted run has left',
      tool(),
      [account({ maxUserConnections: limitWhileEnding(10) })],
      ['revoke db.setLimit s51234 on replica: connections → ended'],
    ],
    [
      'ends them even before a password was created',
      tool({ credentials: UNMADE }),
      [account({ maxUserConnections: limitWhileEnding(10) })],
      ['revoke db.setLimit s51234 on replica: connections → ended', 'waiting for homes'],
    ],
    [
      'ends them once if a way in must be removed as well',
      tool(),
      [account({ login: BOTH, maxUserConnections: limitWhileEnding(10) })],
      ['revoke db.setVerifier s51234 on replica: verifier replaced'],
    ],
    [
      'ends them before it unlocks',
      tool(),
      [account({ locked: true, maxUserConnections: limitWhileEnding(10) })],
      [
        'revoke db.setLimit s51234 on replica: connections → ended',
        'change db.setLocked s51234 on replica: locked → unlocked',
      ],
    ],
    [
      'ends them by locking again if it must stay locked',
      tool({ state: 'disabled' }),
      [account({ locked: true, maxUserConnections: limitWhileEnding(10) })],
      [
        'revoke db.setLocked s51234 on replica: locked again',
        'revoke db.setLocked s51234 on toolsdb: unlocked → locked',
      ],
    ],
    [
      'replaces a second way to log in',
      tool(),
      [account({ login: [`mysql_native_password ${VERIFIER}`, 'unix_socket '] })],
      ['revoke db.setVerifier s51234 on replica: verifier replaced'],
    ],
    [
      'removes a second password',
      tool(),
      [
        account({
          login: [`mysql_native_password ${VERIFIER}`, `mysql_native_password ${OTHER_VERIFIER}`],
        }),
      ],
      ['revoke db.setVerifier s51234 on replica: verifier replaced'],
    ],
    [
      'removes an empty password',
      tool(),
      [account({ login: ['mysql_native_password '] })],
      ['revoke db.setVerifier s51234 on replica: verifier replaced'],
    ],
    [
      'renews a password that was made to expire',
      tool(),
      [account({ login: [`mysql_native_password ${VERIFIER}`, 'expired'] })],
      ['change db.setVerifier s51234 on replica: verifier replaced'],
    ],
    [
      'sets the limit',
      tool(),
      [account({ maxUserConnections: 0 })],
      ['change db.setLimit s51234 on replica: no limit → at most 10 connections'],
    ],
    [
      'leaves the role that everybody has if an account has it itself',
      tool(),
      [account({ grants: ['default role labsdbuser', 'role labsdbuser'] })],
      [],
    ],
    [
      'leaves a default role, which gives nothing by itself',
      tool(),
      [account({ grants: ['default role other', 'SELECT on *.*'] })],
      ['revoke db.revoke s51234 on replica: revoke SELECT on *.*'],
    ],
    [
      'revokes what is too much, before anything else',
      tool(),
      [
        account({
          maxUserConnections: 9,
          grants: ['role admin', 'SELECT on a.b'],
        }),
      ],
      [
        'revoke db.revoke s51234 on replica: revoke role admin, SELECT on a.b',
        'change db.setLimit s51234 on replica: at most 9 connections → at most 10 connections',
      ],
    ],
    [
      'treats the right to grant everybody’s role as too much',
      tool(),
      [account({ grants: ['default role labsdbuser', 'role labsdbuser with admin option'] })],
      ['revoke db.revoke s51234 on replica: revoke role labsdbuser with admin option'],
    ],
    [
      'unlocks last',
      tool(),
      [account({ locked: true, maxUserConnections: 9 })],
      [
        'change db.setLimit s51234 on replica: at most 9 connections → at most 10 connections',
        'change db.setLocked s51234 on replica: locked → unlocked',
      ],
    ],
    [
      'reports the same user on another host, and gives nothing beside it',
      tool(),
      [account({ host: 'localhost' })],
      ['DATABASE_FOREIGN s51234@localhost on replica'],
    ],
    [
      'revokes in spite of the same user on another host',
      tool(),
      [account({ host: '10.%' }), account({ grants: ['SELECT on *.*'] })],
      [
        'revoke db.revoke s51234 on replica: revoke SELECT on *.*',
        'DATABASE_FOREIGN s51234@10.% on replica',
      ],
    ],
    [
      'reports a role of its name',
      tool(),
      [account({ host: '' })],
      ['DATABASE_FOREIGN s51234 on replica'],
    ],
    [
      'reports that the account may act as another',
      tool(),
      [account({ grants: ['PROXY on root@localhost'] })],
      ['DATABASE_FOREIGN s51234 on replica'],
    ],
    [
      'drops the account of a deleted tool, everywhere',
      tool({ state: 'deleted', credentials: UNMADE }),
      [account()],
      [
        'destroy db.dropUser s51234 on replica: present → absent',
        'destroy db.dropUser s51234 on toolsdb: present → absent',
      ],
    ],
  ])('%s', (_, wanted, replica, expected) => {
    expect(lines(wanted, have('s51234', replica))).toEqual(expected);
  });

  test.each<[string, Partial<WantedPerson>, DatabaseAccount[], string[]]>([
    ['leaves the account of a realm member', {}, [account()], []],
    [
      'locks the account of a person without access',
      { realmMember: false },
      [account()],
      ['revoke db.setLocked u1234 on replica: unlocked → locked'],
    ],
    [
      'locks the account of a suspended person',
      { state: 'suspended' },
      [account()],
      ['revoke db.setLocked u1234 on replica: unlocked → locked'],
    ],
    ['leaves a locked account locked', { state: 'suspended' }, [account({ locked: true })], []],
    [
      'locks again if a lock was interrupted before the limit was set again',
      { state: 'suspended' },
      [account({ locked: true, maxUserConnections: 1 })],
      ['revoke db.setLocked u1234 on replica: locked again'],
    ],
    [
      'wants nothing for a person who never had credentials',
      { realmMember: false, everAdmitted: false, credentials: undefined },
      [account()],
      [],
    ],
  ])('%s', (_, changes, replica, expected) => {
    const locked = changes.state === 'suspended' || changes.realmMember === false;
    const grants = locked ? lockedGrants('u1234') : toolsdbGrants('u1234');
    const toolsdb = [account({ grants, locked })];
    expect(lines(person(changes), have('u1234', replica, toolsdb))).toEqual(expected);
  });

  test.each<[string, string[], string[]]>([
    [
      'has nothing to do where the grants of the tools database are right',
      toolsdbGrants('s51234'),
      [],
    ],
    [
      'treats a part of what is wanted as too little, not as too much',
      ['SELECT on %\\_p.*', 'INSERT, SELECT on s51234\\_\\_%.*'],
      ['change db.grant s51234 on toolsdb: grant ALL on s51234\\_\\_%.*'],
    ],
    [
      'leaves what everybody may read if an account has it itself',
      ['SELECT, SHOW VIEW on %\\_p.*', ...toolsdbGrants('s51234')],
      [],
    ],
    [
      'revokes more than reading of what everybody may read',
      ['INSERT, SELECT, SHOW VIEW on %\\_p.*', ...toolsdbGrants('s51234')],
      ['revoke db.revoke s51234 on toolsdb: revoke INSERT, SELECT, SHOW VIEW on %\\_p.*'],
    ],
    [
      'revokes the right to grant, and keeps the rest',
      ['ALL, GRANT OPTION on s51234\\_\\_%.*', 'SELECT, SHOW VIEW on %\\_p.*'],
      ['revoke db.revoke s51234 on toolsdb: revoke GRANT OPTION on s51234\\_\\_%.*'],
    ],
    [
      'revokes a pattern with wildcards in it, which is not ours',
      ['ALL on s51234__%.*', ...toolsdbGrants('s51234')],
      ['revoke db.revoke s51234 on toolsdb: revoke ALL on s51234__%.*'],
    ],
    [
      'revokes what another tool has',
      ['ALL on s51235\\_\\_%.*', ...toolsdbGrants('s51234')],
      ['revoke db.revoke s51234 on toolsdb: revoke ALL on s51235\\_\\_%.*'],
    ],
  ])('%s', (_, grants, expected) => {
    expect(lines(tool(), have('s51234', [account()], [account({ grants })]))).toEqual(expected);
  });

  test.each<[string, DatabaseAccount, string[]]>([
    [
      'leaves a locked account whose events do not run',
      account({ locked: true, grants: lockedGrants('s51234') }),
      [],
    ],
    [
      'stops the events of a locked account',
      account({ locked: true, grants: toolsdbGrants('s51234') }),
      ['revoke db.setLocked s51234 on toolsdb: locked → locked, without the EVENT right'],
    ],
    [
      'stops the events with the lock',
      account({ grants: toolsdbGrants('s51234') }),
      ['revoke db.setLocked s51234 on toolsdb: unlocked → locked'],
    ],
    [
      'treats EVENT by another grant as too much',
      account({ locked: true, grants: ['EVENT on x.*', ...lockedGrants('s51234')] }),
      ['revoke db.revoke s51234 on toolsdb: revoke EVENT on x.*'],
    ],
    [
      'revokes the right to grant, and EVENT with it',
      account({
        locked: true,
        grants: ['ALL, GRANT OPTION on s51234\\_\\_%.*', 'SELECT, SHOW VIEW on %\\_p.*'],
      }),
      ['revoke db.revoke s51234 on toolsdb: revoke EVENT, GRANT OPTION on s51234\\_\\_%.*'],
    ],
    [
      'treats a part as too little, except for EVENT',
      account({ locked: true, grants: ['EVENT, SELECT on s51234\\_\\_%.*'] }),
      [
        'revoke db.revoke s51234 on toolsdb: revoke EVENT, SELECT on s51234\\_\\_%.*',
        'change db.grant s51234 on toolsdb: grant ALL but EVENT on s51234\\_\\_%.*',
      ],
    ],
  ])('of a disabled tool: %s', (_, toolsdb, expected) => {
    const replica = [account({ locked: true })];
    const found = have('s51234', replica, [toolsdb]);
    expect(lines(tool({ state: 'disabled' }), found)).toEqual(expected);
  });

  test('gives the events back before it unlocks', () => {
    const toolsdb = [account({ locked: true, grants: lockedGrants('s51234') })];
    expect(lines(tool(), have('s51234', [account()], toolsdb))).toEqual([
      'change db.grant s51234 on toolsdb: grant ALL on s51234\\_\\_%.*',
      'change db.setLocked s51234 on toolsdb: locked → unlocked',
    ]);
  });

  test('says on which databases the events stop', () => {
    const toolsdb = [account({ locked: true, grants: toolsdbGrants('s51234') })];
    const found = have('s51234', [account({ locked: true })], toolsdb);
    const [step] = planned(tool({ state: 'disabled' }), found).steps;
    expect(step).toMatchObject({
      because: 'as long as it has the EVENT right, its scheduled events run although it is locked',
      action: { locked: true, withoutEventsOn: ['s51234\\_\\_%'] },
    });
  });

  test('gives again what a revoke takes with it', () => {
    const grants = [...toolsdbGrants('s51234'), 'ALL on mysql.*'];
    const [step] = planned(tool(), have('s51234', [account()], [account({ grants })])).steps;
    expect(step?.action).toEqual({
      verb: 'db.revoke',
      server: 'toolsdb',
      user: 's51234',
      grants: ['ALL on mysql.*'],
      keep: toolsdbGrants('s51234'),
      locked: false,
    });
  });

  test('reports an anonymous account, and makes the account nevertheless', () => {
    const found = [
      seen('replica', [], ['localhost']),
      seen('toolsdb', [account({ grants: toolsdbGrants('s51234') })]),
    ];
    expect(lines(tool(), found)).toEqual([
      'create db.createUser s51234 on replica: absent → present',
      "advisory DATABASE_FOREIGN ''@localhost on replica",
    ]);
  });

  test('reports what else restricts a login, and leaves it to an operator', () => {
    const restrictions = ['REQUIRE X509', 'MAX_QUERIES_PER_HOUR 1'];
    const found = [
      seen('replica', [account({ restrictions })]),
      seen('toolsdb', [account({ grants: toolsdbGrants('s51234') })]),
    ];
    expect(lines(tool(), found)).toEqual(['advisory DATABASE_FOREIGN s51234 on replica']);
    expect(lines(tool({ state: 'deleted' }), found)).toEqual([
      'destroy db.dropUser s51234 on replica: present → absent',
      'destroy db.dropUser s51234 on toolsdb: present → absent',
    ]);
  });

  test('creates no account whose name has rights already', () => {
    const right = seen('replica', [account()]);
    const found = [right, seen('toolsdb', [], [], ['ALL on x.*'])];
    expect(lines(tool(), found)).toEqual(['DATABASE_FOREIGN s51234 on toolsdb']);
    expect(lines(tool({ state: 'deleted' }), [found[1] ?? right, right])).toEqual([
      'destroy db.dropUser s51234 on replica: present → absent',
    ]);
  });

  test('creates the account on the servers that can be read, and is not finished', () => {
    const found = [
      { server: 'replica', unreadable: 'reading the accounts of replica' },
      seen('toolsdb', []),
    ];
    expect(lines(tool(), found)).toEqual([
      'create db.createUser s51234 on toolsdb: absent → present',
      'unreadable: reading the accounts of replica',
    ]);
  });

  test('drops nothing if nothing can be read', () => {
    const found = [
      { server: 'replica', unreadable: 'a' },
      { server: 'toolsdb', unreadable: 'b' },
    ];
    expect(lines(tool({ state: 'deleted' }), found)).toEqual(['unreadable: a; b']);
  });

  test('puts no verifier into a plan', () => {
    const found = have(
      's51234',
      [account({ login: [`mysql_native_password ${OTHER_VERIFIER}`] })],
      [],
    );
    expect(JSON.stringify(planned(tool(), found))).not.toMatch(/\*[0-9A-F]{40}/);
  });

  test('keeps a server that fails from hiding the others', async () => {
    const reader: DatabasesReader = {
      look: async (server, users) => {
        if (server === 'replica')
          throw new ChamberlainError('BACKEND_UNREADABLE', 'reading replica');
        return {
          users: new Map([[users[1] ?? '', [account()]]]),
          anonymousHosts: [],
          leftovers: new Map(),
        };
      },
    };
    const found = await databaseAccount.observe(reader, [tool(), person()], REALM);
    expect(found).toEqual([
      [{ server: 'replica', unreadable: 'reading replica' }, seen('toolsdb', [])],
      [{ server: 'replica', unreadable: 'reading replica' }, seen('toolsdb', [account()])],
    ]);
  });
});
