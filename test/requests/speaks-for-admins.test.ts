/** An admin's rights apply only with the admin's own key, or through a portal that speaks for admins. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Config } from '../../src/shared/config.ts';
import { REQUEST_KINDS, type RequestKind } from '../../src/requests/kinds.ts';
import {
  type AskOptions,
  type BootstrappedRealm,
  openBootstrappedRealm,
  type Wish,
} from './bootstrapped-realm.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIND0k9UN/Drd9ADbQRf/x4MAWO3WcOIkixt20iCch4JR';
const OTHER_KEY =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKUwH8v/5b4GYB8M7oRkUEjfDDPGJmKzYnxo5Cd2yqn';

let realm: BootstrappedRealm;
/** the configuration, in which `portal` has the defaults of a portal */
let byDefault: Config;

beforeAll(async () => {
  realm = await openBootstrappedRealm('speaks-for-admins');
  byDefault = {
    ...realm.world.config,
    portals: realm.world.config.portals.map((portal) => ({ ...portal, speaksForAdmins: false })),
  };
  const person = (shellName: string): Wish => ({
    ...{ kind: 'person.create', requestedBy: shellName, shellName, displayName: shellName },
    email: `${shellName}@example.org`,
  });
  const steps: Wish[] = [
    ...['second', 'alice', 'bob', 'carol'].map(person),
    ...['second', 'alice', 'bob'].map((who) => by('steward', 'access.grant', { person: who })),
    by('steward', 'maintainer.add', { tool: 'admin', person: 'second' }),
    by('alice', 'tool.create', { name: 'bridgebot', title: 'Bridges' }),
    by('alice', 'key.add', { person: 'alice', key: KEY }),
    by('carol', 'access.request'),
  ];
  for (const step of steps) expect(await realm.ask(step)).toEqual({ verdict: 'accepted' });
});
afterAll(() => realm.close());

function by(requestedBy: string, kind: RequestKind, rest: Record<string, unknown> = {}): Wish {
  return { kind, requestedBy, ...rest };
}

/** Through a portal with the defaults. */
function ask(wish: Wish, options?: AskOptions) {
  return realm.ask(wish, byDefault, options);
}

/** One request of each kind that steward may send only as an admin: about alice, or about another person. */
const AS_ADMIN: Partial<Record<RequestKind, Record<string, unknown>>> = {
  'person.create': { shellName: 'eve', displayName: 'Eve', email: 'eve@example.org' },
  'person.update': { person: 'alice', displayName: 'Alicia' },
  'access.request': { person: 'carol' },
  'access.grant': { person: 'carol' },
  'access.refuse': { person: 'carol', reason: 'No.' },
  'access.revoke': { person: 'bob' },
  'key.add': { person: 'alice', key: OTHER_KEY },
  'key.remove': { person: 'alice', key: KEY },
  'tool.update': { tool: 'bridgebot', title: 'B' },
  'maintainer.add': { tool: 'bridgebot', person: 'bob' },
  'maintainer.remove': { tool: 'bridgebot', person: 'alice' },
  'credentials.rotate': { tool: 'bridgebot' },
  'person.suspend': { person: 'bob', reason: 'x' },
  'person.reinstate': { person: 'bob' },
  'person.delete': { person: 'bob' },
  'person.erase': { person: 'bob' },
  'person.restore': { person: 'bob' },
  'tool.disable': { tool: 'bridgebot', reason: 'x' },
  'tool.enable': { tool: 'bridgebot' },
  'tool.delete': { tool: 'bridgebot' },
  'tool.restore': { tool: 'bridgebot' },
  'subject.hold': { person: 'bob', reason: 'x', until: '2100-01-01T00:00:00Z' },
  'subject.release': { person: 'bob' },
  'admin-key.add': { publicKey: KEY, label: 'laptop', expiresAt: '2100-01-01T00:00:00Z' },
  'admin-key.revoke': { fingerprint: 'SHA256:'.padEnd(50, 'A') },
};
/** What only an admin's own key may send. */
const OF_OWN_KEYS: readonly RequestKind[] = [
  ...(['portal.add', 'portal.update', 'portal.remove', 'portal.hand-over'] as const),
  ...(['request.approve', 'request.reject'] as const),
  ...(['survey.run', 'repair.run', 'sweep.release', 'finding.ignore'] as const),
];
/** Requests that change a tool, and so also the admin tool. */
const OF_TOOLS: Partial<Record<RequestKind, Record<string, unknown>>> = {
  'tool.update': { title: 'Mine' },
  'maintainer.add': { person: 'alice' },
  'maintainer.remove': { person: 'second' },
  'credentials.rotate': {},
  'tool.disable': { reason: 'x' },
  'tool.enable': {},
  'tool.delete': {},
  'tool.restore': {},
};

describe('a portal, unless its configuration says otherwise,', () => {
  const asked = Object.entries(AS_ADMIN) as [RequestKind, Record<string, unknown>][];

  test.each(asked)('may not request %s in the name of an admin', async (kind, rest) => {
    const { code, sentence } = await ask(by('steward', kind, rest));
    expect(code).toBe('NOT_ALLOWED');
    expect(sentence).toBe(
      "The portal portal does not speak for admins. Sign the request with steward's own key " +
        '(`chamberlain submit`, with `adminKey`), or have `speaksForAdmins` set for the portal: in the configuration, ' +
        'or by portal.update.',
    );
  });

  test('is tested with every kind', () => {
    const others: RequestKind[] = ['tool.create', ...OF_OWN_KEYS];
    expect([...Object.keys(AS_ADMIN), ...others].toSorted()).toEqual(REQUEST_KINDS.toSorted());
    const changing = asked.filter(([, rest]) => 'tool' in rest).map(([kind]) => kind);
    expect(Object.keys(OF_TOOLS).toSorted()).toEqual(changing.toSorted());
  });

  test.each(Object.entries(OF_TOOLS) as [RequestKind, Record<string, unknown>][])(
    'may not change the admin tool with %s, even if the requester maintains it',
    async (kind, rest) => {
      const { verdict, sentence } = await ask(by('steward', kind, { tool: 'admin', ...rest }));
      expect(verdict).toBe('refused');
      expect(sentence).toMatch(/^The portal portal does not speak for admins/);
    },
  );

  test('may not rotate the credentials of a whole server, or decide on waiting requests', async () => {
    const server = byDefault.databases.servers[0]?.name;
    expect((await ask(by('steward', 'credentials.rotate', { server }))).code).toBe('NOT_ALLOWED');
    const request = '00000000-0000-4000-8000-000000000001';
    const approve = by('steward', 'request.approve', { request });
    for (const config of [byDefault, realm.world.config]) {
      expect(await realm.ask(approve, config)).toMatchObject({
        code: 'NOT_ALLOWED',
        sentence:
          'An admin must sign this decision with their own key (`chamberlain submit`). No portal may send it.',
      });
    }
  });

  test('makes an admin a maintainer of a tool that it creates in the admin’s name, like anyone', async () => {
    const wish = by('steward', 'tool.create', { name: 'gift', title: 'A', maintainers: ['alice'] });
    expect((await ask(wish)).verdict).toBe('accepted');
    const { rows } = await realm.owner.query(
      `SELECT p.shell_name FROM maintainers m JOIN tools t ON t.uid = m.tool
         JOIN people p ON p.uid = m.maintainer WHERE t.name = 'gift' ORDER BY 1`,
    );
    expect(rows.map(({ shell_name }) => shell_name)).toEqual(['alice', 'steward']);
    // and as a maintainer the admin may change it through the portal
    for (const change of [
      by('steward', 'tool.update', { tool: 'gift', title: 'Another' }),
      by('steward', 'maintainer.add', { tool: 'gift', person: 'bob' }),
      by('steward', 'tool.disable', { tool: 'gift', reason: 'x' }),
      by('steward', 'tool.enable', { tool: 'gift' }),
    ]) {
      expect(await ask(change)).toEqual({ verdict: 'accepted' });
    }
  });

  test('may request in an admin’s name what every person may request for themselves', async () => {
    for (const wish of [
      by('second', 'person.update', { person: 'second', displayName: 'The Second' }),
      by('second', 'key.add', { person: 'second', key: OTHER_KEY }),
      by('second', 'key.remove', { person: 'second', key: OTHER_KEY }),
      by('second', 'credentials.rotate', { person: 'second' }),
    ]) {
      expect(await ask(wish)).toEqual({ verdict: 'accepted' });
    }
  });

  test('may send a request that waits, and an admin’s own key approves it', async () => {
    const jti = '00000000-0000-4000-8000-000000000002';
    const deletion = by('bob', 'person.delete', { person: 'bob' });
    expect(await ask(deletion, { jti })).toEqual({ verdict: 'accepted' });
    const approval = by('second', 'request.approve', { request: jti });
    expect((await ask(approval)).code).toBe('NOT_ALLOWED');
    expect(await ask(approval, { as: 'second' })).toEqual({ verdict: 'accepted' });
    const { rows } = await realm.owner.query(
      `SELECT state, delete_after IS NOT NULL AS leaving FROM people WHERE shell_name = 'bob'`,
    );
    expect(rows).toEqual([{ state: 'suspended', leaving: true }]);
  });

  test('gives the usual refusal to a person who is not an admin', async () => {
    const grant = await ask(by('alice', 'access.grant', { person: 'carol' }));
    expect(grant.sentence).toBe('alice is not an admin. Ask an admin.');
    const add = await ask(by('alice', 'maintainer.add', { tool: 'admin', person: 'alice' }));
    expect(add).toMatchObject({
      code: 'ADMIN_TOOL',
      sentence: 'Only an admin may change the tool admin.',
    });
  });
});

test('an admin’s own key, and a portal that speaks for admins, have an admin’s rights', async () => {
  for (const [options, config] of [
    [{ as: 'steward' }, byDefault],
    [{}, realm.world.config],
  ] as const) {
    for (const kind of ['maintainer.add', 'maintainer.remove'] as const) {
      const wish = by('steward', kind, { tool: 'admin', person: 'alice' });
      expect(await realm.ask(wish, config, options)).toEqual({ verdict: 'accepted' });
    }
  }
});

test.each([
  [
    'another',
    'alice',
    '',
    'This key may sign only for second. alice must request or approve this through a portal.',
  ],
  [
    'an admin who is suspended',
    'second',
    'person.suspend',
    'second is suspended. Another admin can reinstate them.',
  ],
  [
    'one who is no admin any more',
    'second',
    'maintainer.remove',
    'second is not an admin, so requests signed with this key are refused. An admin can make second an admin with maintainer.add, and with access.grant if the access is missing.',
  ],
])(
  'an own key does not speak for %s, and the refusal says which it is',
  async (_, who, before, sentence) => {
    const undo = { 'person.suspend': 'person.reinstate', 'maintainer.remove': 'maintainer.add' }[
      before
    ];
    const change = (kind: string) =>
      realm.ask(
        by('steward', kind as RequestKind, {
          person: 'second',
          ...(kind.startsWith('maintainer') ? { tool: 'admin' } : {}),
          ...(kind === 'person.suspend' ? { reason: 'Away.' } : {}),
        }),
      );
    if (before !== '') expect(await change(before)).toEqual({ verdict: 'accepted' });
    expect(
      await realm.ask(by(who, 'access.grant', { person: 'carol' }), undefined, { as: 'second' }),
    ).toEqual({
      verdict: 'refused',
      code: 'NOT_ALLOWED',
      sentence,
    });
    if (undo !== undefined) expect(await change(undo)).toEqual({ verdict: 'accepted' });
  },
);

test('no request can create the admin tool if it does not exist yet', async () => {
  const config = { ...realm.world.config, admin: 'stewards' };
  for (const actor of ['alice', 'steward']) {
    const wish = by(actor, 'tool.create', { name: 'stewards', title: 'Mine' });
    expect((await realm.ask(wish, config)).code).toBe('ADMIN_TOOL');
  }
});
