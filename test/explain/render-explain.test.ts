/** The page of one word is golden text. */
import { describe, expect, test } from '@jest/globals';
import type { Config } from '../../src/shared/config.ts';
import { describeUnknown } from '../../src/explain/explain-known.ts';
import type {
  Explanation,
  KeyFact,
  SubjectPage,
  TargetPage,
  TargetState,
} from '../../src/explain/explanation.ts';
import type { LeavingPage } from '../../src/lifecycle/leaving-page.ts';
import { renderExplanation } from '../../src/explain/render-explain.ts';
import { expectGolden } from '../golden.ts';

const AT = '2026-11-24T21:11:05.123Z';
const EARLIER = '2025-03-01T08:00:00.000Z';

const KEY: KeyFact = {
  fingerprint: 'SHA256:CdJhaw8trPQaPlbHaEFi7I0Ko7eRHJ7Oq1wFrpA7QJA',
  type: 'ssh-ed25519',
  label: 'laptop',
  options: ['from="192.0.2.0/24"', 'no-pty'],
  addedAt: EARLIER,
  expiresAt: '2027-01-01T00:00:00.000Z',
  removedAt: null,
  stops: [],
};
const REMOVED: KeyFact = {
  ...KEY,
  fingerprint: 'SHA256:1M4RzhMyWuFS/86uPY/ce2prh/dVTHW7iD2RhpquOZA',
  label: 'old \u001b[31mdesktop',
  options: [],
  expiresAt: null,
  removedAt: AT,
  stops: ['removed'],
};

const STAYS: LeavingPage = {
  hold: null,
  closed: null,
  deleteAfter: null,
  erasing: null,
  orphanedAt: null,
  waiting: [],
  approved: null,
  archivals: [],
  next: null,
};

const act = (at: string, kind: string, rest = {}) => ({
  at,
  kind,
  requestedBy: 'alice',
  approvedBy: 'steward',
  portal: 'portal',
  fields: [],
  verdict: 'accepted',
  code: null,
  ...rest,
});

const ALICE: SubjectPage = {
  uid: 1001,
  kind: 'person',
  account: 'alice',
  state: 'active',
  since: EARLIER,
  stops: [],
  dns: ['uid=alice,ou=people,dc=example,dc=org'],
  displayName: 'Alice A.',
  email: 'alice@example.org',
  mailVerifiedAt: EARLIER,
  realmMember: { since: EARLIER },
  keys: [KEY, REMOVED],
  databaseUser: 'u1001',
  credentials: {
    wantedEpoch: 2,
    recordedEpoch: 2,
    recordedAt: EARLIER,
    previousUntil: null,
    lockedOut: false,
  },
  leaving: STAYS,
  access: [
    {
      state: 'granted',
      openedAt: EARLIER,
      reason: 'to run a bot',
      decidedAt: EARLIER,
      decidedBy: 'steward',
      decisionReason: 'welcome',
    },
  ],
  acts: 40,
  history: [
    act(EARLIER, 'person.create', { approvedBy: 'alice', fields: ['person'] }),
    act(AT, 'key.remove', { portal: null, fields: ['keys'] }),
  ],
  targets: [
    {
      role: 'directory',
      target: 'unix-account',
      wanted: 'uid=alice,ou=people, uid 1001, gid 500, /home/alice, /bin/bash, unlocked',
      state: 'as wanted',
      trouble: [],
    },
  ],
  becomes: [
    {
      account: 'tools.bridgebot',
      path: ['alice', 'tools.relay', 'tools.bridgebot'],
      since: EARLIER,
      stops: [],
    },
  ],
};

const TOOL: SubjectPage = {
  uid: 50001,
  kind: 'tool',
  account: 'tools.bridgebot',
  state: 'active',
  since: EARLIER,
  stops: [],
  dns: [
    'uid=tools.bridgebot,ou=people,ou=servicegroups,dc=example,dc=org',
    'cn=tools.bridgebot,ou=servicegroups,dc=example,dc=org',
  ],
  title: 'A bridge \u0007',
  maintainers: ['bob', 'tools.relay'],
  databaseUser: 's50001',
  credentials: {
    wantedEpoch: 3,
    recordedEpoch: 2,
    recordedAt: EARLIER,
    previousUntil: AT,
    lockedOut: false,
  },
  leaving: STAYS,
  access: [],
  acts: 2,
  history: [
    act(EARLIER, 'tool.create', { fields: ['tool'] }),
    act(AT, 'repair', { requestedBy: 'unix:ops', approvedBy: 'unix:ops', portal: null }),
  ],
  targets: [
    {
      role: 'directory',
      target: 'unix-group',
      wanted: 'cn=tools.bridgebot,ou=servicegroups, gid 50001, 2 members',
      state: 'differs',
      trouble: [
        {
          mark: '-',
          what: 'cn=tools.bridgebot,ou=servicegroups: member −uid=eve',
          why: 'it has extra values in member',
          since: null,
        },
      ],
    },
    {
      role: 'directory',
      target: 'sudo-rule',
      wanted:
        'cn=runas-tools.bridgebot,ou=sudoers, %tools.bridgebot may run anything as tools.bridgebot',
      state: 'unreadable',
      trouble: [
        {
          mark: '×',
          what: 'UNREADABLE',
          why: 'searching ou=sudoers,cn=tools,ou=projects: the server is busy (LDAP result 51)',
          since: AT,
        },
      ],
    },
    {
      role: 'homes',
      target: 'home-directory',
      wanted: '/data/project/bridgebot, 50001:50001, 2775, with public_html, logs',
      state: 'finding',
      trouble: [
        {
          mark: '?',
          what: '/data/project/bridgebot: PATH_FOREIGN',
          why: 'There is a symbolic link where a directory of uid 50001 should be. Move it away.',
          since: EARLIER,
        },
      ],
    },
    ...['a', 'b'].map((server) => ({
      role: 'databases' as const,
      target: 'database-account',
      wanted: `s50001 on ${server}, at most 10 connections, unlocked`,
      state: 'no answer' as const,
      trouble: [
        {
          mark: '×' as const,
          what: 'databases: no answer within 300 ms',
          why: 'behind; last known: BACKEND_UNREADABLE: replica does not answer',
          since: AT,
        },
      ],
    })),
  ],
  entrants: [
    {
      person: 'alice',
      keys: [KEY],
      open: true,
      ways: [
        { path: ['alice', 'tools.relay', 'tools.bridgebot'], since: EARLIER, stops: [] },
        {
          path: ['alice', 'tools.old', 'tools.bridgebot'],
          since: AT,
          stops: ['tools.old is disabled'],
        },
      ],
    },
    {
      person: 'bob',
      keys: [],
      open: false,
      ways: [
        {
          path: ['bob', 'tools.bridgebot'],
          since: EARLIER,
          stops: ['bob is suspended', 'bob has no key'],
        },
      ],
    },
  ],
  becomes: [],
};

const of = (rest: Partial<Explanation>): Explanation => ({
  word: 'x',
  at: AT,
  known: [],
  key: null,
  subjects: [],
  ...rest,
});

test('a tool with trouble', () => {
  expectGolden('explain-tool.txt', renderExplanation(of({ subjects: [TOOL] })));
});

test('a person', () => {
  expectGolden('explain-person.txt', renderExplanation(of({ subjects: [ALICE] })));
});

test('a suspended person: what stops all ways is shown once', () => {
  const stops = ['bob is suspended'];
  const way = (...path: string[]) => ({ account: path.at(-1) ?? '', path, since: EARLIER, stops });
  const page: SubjectPage = {
    ...ALICE,
    account: 'bob',
    state: 'suspended',
    stops,
    realmMember: null,
    becomes: [
      way('bob', 'tools.a'),
      { ...way('bob', 'tools.a', 'tools.b'), stops: [...stops, 'tools.a is disabled'] },
    ],
  };
  expectGolden('explain-suspended.txt', renderExplanation(of({ subjects: [page] })));
});

describe('whether a person can log in, while the directory', () => {
  const seen = (state: TargetState, since: string | null): TargetPage[] => {
    const trouble = [{ mark: '-' as const, what: 'x', why: '', since }];
    return ALICE.targets.map((target) => ({ ...target, state, trouble }));
  };
  const homes: TargetPage[] = [
    { role: 'homes', target: 'home-directory', wanted: '', state: 'no answer', trouble: [] },
  ];

  test.each([
    ['is behind', seen('differs', AT), ', which is behind since 2026-11-24 21:11:05Z'],
    ['differs', seen('differs', null), ', which is behind, as was found just now'],
    ['cannot be read', seen('unreadable', null), ', which cannot be read'],
    ['does not answer', seen('no answer', null), ', which does not answer'],
    [
      'is behind and does not answer',
      seen('no answer', AT),
      ', which does not answer and is behind since 2026-11-24 21:11:05Z',
    ],
    ['is as wanted, and the homes do not answer', [...ALICE.targets, ...homes], undefined],
  ])('%s', (_what, targets, which) => {
    const line = (page: SubjectPage) =>
      /^ +can log in +(.*)$/mu.exec(renderExplanation(of({ subjects: [page] })))?.[1];
    const late = which === undefined ? '' : `, as is wanted of the directory${which}`;
    expect(line({ ...ALICE, targets })).toBe(`with one key${late}`);
    expect(line({ ...ALICE, targets, stops: ['alice is suspended'] })).toBe(
      `no: alice is suspended${late}`,
    );
  });
});

test('a person whose access was revoked: since when, and by whom', () => {
  const page = { ...ALICE, realmMember: null, accessRevoked: { at: EARLIER, by: 'steward' } };
  expect(renderExplanation(of({ subjects: [page] }))).toMatch(
    /^ +realm member +no, access revoked 2025-03-01 08:00:00Z by steward$/mu,
  );
});

test('a password that was locked at once: who can use it, and until when', () => {
  const credentials = { ...TOOL.credentials, previousUntil: null, lockedOut: true };
  const page = { ...TOOL, credentials } as SubjectPage;
  expect(renderExplanation(of({ subjects: [page] }))).toContain(
    'password number 3 is wanted; password number 2, made 2025-03-01 08:00:00Z, is in place ' +
      'but lets nobody in until the role homes has made the wanted one\n',
  );
});

test('a page without requests says so', () => {
  const page = { ...ALICE, acts: 0, history: [] };
  expect(renderExplanation(of({ subjects: [page] }))).toContain(
    'who approved it\n  no request: created by `chamberlain bootstrap`, or imported\n\nwhat is wanted',
  );
});

test('a deleted person: nothing personal, and where the archives are', () => {
  const made = (role: 'homes' | 'databases', bytes: number) => ({
    role,
    made: {
      at: AT,
      path: `/srv/chamberlain/${role}/alice.1`,
      bytes,
      manifestSha256: (role === 'homes' ? 'ab' : 'cd').repeat(32),
    },
    progress: null,
  });
  const page: SubjectPage = {
    ...ALICE,
    state: 'deleted',
    stops: ['alice is deleted', 'alice has no key'],
    dns: [],
    displayName: '',
    email: '',
    realmMember: null,
    access: [
      { ...(ALICE.access[0] as SubjectPage['access'][number]), reason: '', decisionReason: null },
    ],
    keys: [{ ...REMOVED, type: '', label: '' }],
    credentials: null,
    targets: [],
    becomes: [],
    leaving: {
      ...STAYS,
      closed: { at: EARLIER, by: 'steward', reason: null, until: null },
      deleteAfter: EARLIER,
      archivals: [
        {
          archival: 1,
          beganAt: EARLIER,
          leftAt: AT,
          keepUntil: '2027-11-24T21:11:05.123Z',
          expiredAt: null,
          returningAt: null,
          backAt: null,
          erasure: null,
          archives: [made('homes', 123_456_789), made('databases', 612)],
        },
      ],
      next: {
        move: 'remove archives',
        sentence: 'its archives are removed',
        at: '2027-11-24T21:11:05.123Z',
      },
    },
  };
  expectGolden('explain-deleted.txt', renderExplanation(of({ subjects: [page] })));
});

test('a disabled tool: nobody can become it', () => {
  const stops = ['tools.bridgebot is disabled'];
  const entrants = (TOOL.entrants ?? []).map((entrant) => ({
    ...entrant,
    open: false,
    ways: entrant.ways.map((way) => ({ ...way, stops: [...way.stops, ...stops] })),
  }));
  const page = { ...TOOL, state: 'disabled', stops, entrants };
  const text = renderExplanation(of({ subjects: [page] }));
  expect(text.match(/tools\.bridgebot is disabled/gu)).toHaveLength(1);
  expect(text).toContain(
    '\n  nobody while tools.bridgebot is disabled; otherwise:\n  alice  through',
  );
  expect(text).not.toContain('  by SHA256');
});

test('a fingerprint that was removed, and its holder', () => {
  const key = { ...REMOVED, holder: 'alice', knownBad: "Vagrant's insecure key (RSA)" };
  expectGolden('explain-key.txt', renderExplanation(of({ key, subjects: [ALICE] })));
});

test('an unmanaged number', () => {
  const known = describeUnknown(
    { kind: 'uid', uid: 1234 },
    {
      sightings: [{ name: 'olaf', id: 1234, at: new Date(EARLIER) }],
      refusals: [],
      range: { kind: 'person', first: 1000, last: 49_999, next: 1002 },
      given: undefined,
      sweptAt: null,
    },
    {} as Config, // only names are compared with the configuration
  );
  expectGolden('explain-unmanaged-uid.txt', renderExplanation(of({ known })));
});

test('text that others wrote does not control a terminal, and colour is as given', () => {
  const hostile = '\u001b[2J\u202e\nx';
  const page: SubjectPage = {
    ...ALICE,
    displayName: hostile,
    access: [{ ...(ALICE.access[0] as SubjectPage['access'][number]), reason: hostile }],
    keys: [{ ...KEY, label: hostile }],
  };
  const lines = renderExplanation(of({ known: [hostile], subjects: [page] })).split('\n');
  expect(lines.filter((line) => /\p{C}/u.test(line))).toEqual([]);
  expect(lines.filter((line) => line === 'x')).toEqual([]);
  const painted = renderExplanation(
    of({ subjects: [TOOL] }),
    (style, text) => `<${style}:${text}>`,
  );
  expect(painted).toContain('<bold:tools.bridgebot>');
  expect(painted).toContain('<yellow:differs   >');
  expect(painted).toContain('<red:no: bob is suspended, bob has no key>');
});

test('a long list of people is cut, and the rest counted', () => {
  const entrants = Array.from({ length: 45 }, (_, n) => ({
    person: `p${n}`,
    keys: [],
    open: true,
    ways: [{ path: [`p${n}`, 'tools.bridgebot'], since: EARLIER, stops: [] }],
  }));
  expect(renderExplanation(of({ subjects: [{ ...TOOL, entrants }] }))).toContain(
    '… and 5 more: see --json',
  );
});
