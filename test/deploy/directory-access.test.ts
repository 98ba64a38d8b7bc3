/**
 * What deploy/ldap allows each account, tried with OpenLDAP's own tools; their exit code is the LDAP result
 * code (RFC 4511, appendix A): 19 constraintViolation, 49 invalidCredentials, 50 insufficientAccessRights.
 */
import { execFile, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { DIRECTORY_ACCOUNTS, type DirectoryAccount } from '../../deploy/ldap/render.ts';
import { type Host, type Hosts, withHosts } from '../../src/backends/ldap/directory-hosts.ts';
import { saltedSha1 } from '../../src/secrets/secret.ts';
import { eventually } from '../scenarios/eventually.ts';
import { openWorld, type World } from '../stack.ts';

const BASE = 'dc=example,dc=org';
const PEOPLE = `ou=people,${BASE}`;
const GROUPS = `ou=servicegroups,${BASE}`;
const RULES = `ou=sudoers,cn=tools,ou=projects,${BASE}`;
const REALM_GROUP = `cn=project-tools,ou=groups,${BASE}`;
const DISABLED = `cn=disabled,ou=ppolicies,${BASE}`;

/** The fingerprint of the join request of each host. */
const CODE = 'k3f9-7ht2-aaaa-bbbb';

const READERS = DIRECTORY_ACCOUNTS.filter((account) => account !== 'directory');

let world: World;
let uid: number;
let toolId: number;

/** Accounts of login hosts that have joined: `former` is no member of the group any more, and `leaving` is removed. */
const HOSTS = ['host', 'former', 'leaving'] as const;
type Account = DirectoryAccount | 'admin' | (typeof HOSTS)[number];

beforeAll(async () => {
  world = await openWorld('directory access', { needs: ['slapd'] });
  uid = world.config.ids.people[0]?.first ?? 0;
  toolId = world.config.ids.tools[0]?.first ?? 0;
  const made = [
    person('alice', uid),
    person('carol', uid + 1),
    group('tools.bridge', toolId),
    rule('tools.bridge'),
    modify(REALM_GROUP, ['add', 'member', `uid=alice,${PEOPLE}`]),
    modify(`cn=chamberlain,${BASE}`, ['replace', 'description', 'people=2']),
  ];
  for (const ldif of made) expect(await change('directory', ldif)).toBe(0);
  const password = modify(`uid=carol,${PEOPLE}`, ['add', 'userPassword', 'lamplighter']);
  expect(await change('admin', password)).toBe(0);
});

afterAll(async () => world.close());

describe('the directory role', () => {
  test.each([
    ['a person with a number of the tools', () => person('eve', toolId), 19],
    ['a person who is root', () => person('eve', 0), 19],
    ['a person in the group of root', () => person('eve', uid + 5, 0), 19],
    ['a person with the number of another', () => person('eve', uid), 19],
    ['a person with the display name of another', () => person('eve', uid + 5, 500, 'Alice'), 19],
    ['a tool group with a number below the range', () => group('tools.eve', 27), 19],
    ['a tool group with the number of another', () => group('tools.eve', toolId), 19],
    [
      'a person with the name of another as well',
      () => `${person('eve', uid + 5)}uid: alice\n`,
      19,
    ],
    ['a tool account that is root', () => toolAccount('tools.eve', 0, toolId + 5), 19],
    ['a tool account with a number of the people', () => toolAccount('tools.eve', uid + 5), 19],
    ['a tool account in the group of root', () => toolAccount('tools.eve', toolId + 5, 0), 19],
    [
      'a tool account in the group of root, by another cn',
      () => toolAccount('tools.eve', toolId + 5, 0, 'eve'),
      50,
    ],
    ['a tool account outside the realm', () => toolAccount('docker', toolId + 5), 50],
    ['a group outside the realm', () => group('docker', toolId + 5), 50],
    ['a rule for another tool than its name says', () => rule('tools.eve', 'tools.bridge'), 19],
    ['a rule that names no account, and so means root', () => rule('tools.eve', undefined), 19],
    ['a rule outside the realm', () => rule('docker'), 19],
  ])('cannot add %s', async (_, ldif, code) => {
    expect(await change('directory', ldif())).toBe(code);
  });

  test.each([
    ['the number of a person', `uid=alice,${PEOPLE}`, 'replace', 'uidNumber', '0', 19],
    ['the password of a person', `uid=alice,${PEOPLE}`, 'replace', 'userPassword', 'x', 50],
    ['a second name into a group', `cn=tools.bridge,${GROUPS}`, 'add', 'cn', 'docker', 19],
    ['the gid of the realm group', REALM_GROUP, 'replace', 'gidNumber', '27', 19],
    ['the name of the realm group', REALM_GROUP, 'add', 'description', 'x', 50],
    ['who may use a rule', runas('tools.bridge'), 'replace', 'sudoUser', 'ALL', 19],
    ['a second account into a rule', runas('tools.bridge'), 'add', 'sudoRunAsUser', 'root', 19],
    ['more options into a rule', runas('tools.bridge'), 'add', 'sudoOption', '!env_reset', 19],
    ['a group into a rule', runas('tools.bridge'), 'add', 'sudoRunAsGroup', 'root', 19],
    ['the tree itself', BASE, 'add', 'description', 'x', 50],
    ['a bind account', `cn=sssd,ou=chamberlain,${BASE}`, 'replace', 'userPassword', 'x', 50],
  ])('cannot write %s', async (_, dn, act, attribute, value, code) => {
    expect(await change('directory', modify(dn, [act, attribute, value]))).toBe(code);
  });

  test('cannot take the account from a rule that is right: it would then mean root', async () => {
    const dn = runas('tools.bridge');
    const gone = modify(dn, ['delete', 'sudoRunAsUser', 'tools.bridge']);
    expect(await change('directory', modify(dn, ['delete', 'sudoRunAsUser']))).toBe(50);
    expect(await change('directory', modify(dn, ['replace', 'sudoRunAsUser']))).toBe(50);
    for (const options of [[], ['-e', 'relax']]) {
      expect(await change('directory', gone, options)).toBe(50);
    }
  });

  test('may take a wrong account from a rule, and add the right one', async () => {
    const dn = runas('tools.bridge');
    const wrong = modify(dn, ['replace', 'sudoRunAsUser', 'root']);
    expect(await change('admin', wrong, ['-e', 'relax'])).toBe(0);
    const mended = modify(
      dn,
      ['delete', 'sudoRunAsUser', 'root'],
      ['add', 'sudoRunAsUser', 'tools.bridge'],
    );
    expect(await change('directory', mended)).toBe(0);
  });

  test('may take a wrong group from a rule, and add the right one', async () => {
    const dn = runas('tools.bridge');
    const wrong = modify(dn, ['replace', 'sudoUser', '%tools.other']);
    expect(await change('admin', wrong, ['-e', 'relax'])).toBe(0);
    const mended = modify(
      dn,
      ['delete', 'sudoUser', '%tools.other'],
      ['add', 'sudoUser', '%tools.bridge'],
    );
    expect(await change('directory', mended)).toBe(0);
  });

  test('may take a second name from a person', async () => {
    const dn = `uid=alice,${PEOPLE}`;
    expect(await change('admin', modify(dn, ['add', 'uid', 'root']), ['-e', 'relax'])).toBe(0);
    expect(await change('directory', modify(dn, ['delete', 'uid', 'root']))).toBe(0);
  });

  test.each([
    ['the number of a person', `uid=alice,${PEOPLE}`, 'replace', 'uidNumber', '0'],
    ['the group of a person', `uid=alice,${PEOPLE}`, 'replace', 'gidNumber', '0'],
    ['the number of a tool group', `cn=tools.bridge,${GROUPS}`, 'replace', 'gidNumber', '27'],
    ['a second name of a tool group', `cn=tools.bridge,${GROUPS}`, 'add', 'cn', 'docker'],
    ['the user of a rule', runas('tools.bridge'), 'add', 'sudoUser', 'ALL'],
    ['the account of a rule', runas('tools.bridge'), 'add', 'sudoRunAsUser', 'root'],
    ['the options of a rule', runas('tools.bridge'), 'add', 'sudoOption', '!env_reset'],
    ['the order of a rule', runas('tools.bridge'), 'add', 'sudoOrder', '1'],
    // names that it may write elsewhere
    ['a second name of a person', `uid=alice,${PEOPLE}`, 'add', 'uid', 'root'],
    ['another name of a person', `uid=alice,${PEOPLE}`, 'add', 'uid', 'bob] | [alice'],
    ['the name of a tool group', `cn=tools.bridge,${GROUPS}`, 'add', 'cn', 'tools.other'],
    [
      'the group of another tool into a rule',
      runas('tools.bridge'),
      'add',
      'sudoUser',
      '%tools.other',
    ],
    ['the group of a rule', runas('tools.bridge'), 'replace', 'sudoUser', '%tools.other'],
    [
      'the account of another tool into a rule',
      runas('tools.bridge'),
      'add',
      'sudoRunAsUser',
      'tools.other',
    ],
  ])('cannot write %s by relaxing the constraints', async (_, dn, act, attribute, value) => {
    const ldif = modify(dn, [act, attribute, value]);
    expect(await change('directory', ldif, ['-e', 'relax'])).toBe(50);
    expect(await change('directory', ldif, ['-e', 'manageDSAit'])).not.toBe(0);
  });

  test('cannot add an entry by relaxing the constraints', async () => {
    for (const ldif of [person('eve', 0), group('tools.eve', 27), rule('tools.eve', undefined)]) {
      expect(await change('directory', ldif, ['-e', 'relax'])).toBe(50);
    }
  });

  test('cannot add a person with a password', async () => {
    const ldif = `${person('eve', uid + 5)}userPassword: x\n`;
    expect(await change('directory', ldif)).toBe(50);
  });

  test('replaces the label of a key by one that the directory takes for the same', async () => {
    const relabelled = modify(
      `uid=alice,${PEOPLE}`,
      ['delete', 'description', 'SHA256:AAAA laptop'],
      ['add', 'description', 'SHA256:AAAA Laptop'],
    );
    expect(await change('directory', relabelled)).toBe(0);
  });

  test('locks an account and unlocks it, so that it cannot and can bind', async () => {
    const carol = `uid=carol,${PEOPLE}`;
    const locked = modify(
      carol,
      ['add', 'pwdPolicySubentry', DISABLED],
      ['add', 'pwdAccountLockedTime', '000001010000Z'],
    );
    expect(await bind(carol, 'lamplighter')).toBe(0);
    expect(await change('directory', locked)).toBe(0);
    expect(await bind(carol, 'lamplighter')).toBe(49);
    const unlocked = modify(
      carol,
      ['delete', 'pwdAccountLockedTime'],
      ['delete', 'pwdPolicySubentry'],
    );
    expect(await change('directory', unlocked)).toBe(0);
    expect(await bind(carol, 'lamplighter')).toBe(0);
  });
});

describe('seals', () => {
  const account = `uid=tools.sealed,ou=people,${GROUPS}`;
  const sealed = (dn: string, value: string): string =>
    modify(dn, ['add', 'objectClass', 'chamberlainSealed'], ['add', 'chamberlainSeal', value]);
  const long = (letter: string): string => letter.repeat(300_000);

  beforeAll(async () => {
    expect(await change('directory', toolAccount('tools.sealed', toolId + 8))).toBe(0);
  });

  test.each([
    ['a person', () => `uid=carol,${PEOPLE}`],
    ['a tool account', () => account],
  ])('the directory role seals %s, and replaces the known seal by a new one', async (_, of) => {
    const dn = of();
    const swap = (old: string, next: string): string =>
      modify(dn, ['delete', 'chamberlainSeal', old], ['add', 'chamberlainSeal', next]);
    expect(await change('directory', sealed(dn, long('a')))).toBe(0);
    expect(await change('directory', swap(long('A'), long('b')))).toBe(16);
    expect(await change('directory', modify(dn, ['add', 'chamberlainSeal', 'x']))).not.toBe(0);
    expect(await change('directory', swap(long('a'), long('b')))).toBe(0);
    const { out } = await search('directory', dn, ['chamberlainSeal']);
    expect(out.replaceAll('\n ', '')).toContain(`\nchamberlainSeal: ${long('b')}\n`);
  });

  test('the directory role seals nothing else', async () => {
    const foreign = `uid=docker,ou=people,${GROUPS}`;
    expect(await change('admin', toolAccount('docker', toolId + 9))).toBe(0);
    for (const dn of [`cn=tools.bridge,${GROUPS}`, foreign, REALM_GROUP, runas('tools.bridge')]) {
      expect(await change('directory', sealed(dn, 'x'))).toBe(50);
    }
  });

  test('only directory-reader and keys-agent read them, and neither can write them', async () => {
    for (const dn of [`uid=carol,${PEOPLE}`, account]) {
      for (const who of READERS) {
        const may = ['directory-reader', 'keys-agent'].includes(who);
        const { out } = await search(who, dn, ['uid', 'chamberlainSeal']);
        expect(out).toContain('\nuid: ');
        expect(out.includes('\nchamberlainSeal: ')).toBe(may);
        const found = await search(who, dn, ['uid'], '(chamberlainSeal=*)');
        expect(found.out.includes('\nuid: ')).toBe(may);
        expect(await change(who, modify(dn, ['replace', 'chamberlainSeal', 'x']))).toBe(50);
        expect(await change(who, modify(dn, ['delete', 'chamberlainSeal']))).toBe(50);
      }
    }
  });
});

describe('the accounts that only read', () => {
  test.each(READERS)('%s writes nothing', async (who) => {
    for (const attribute of ['sshPublicKey', 'description']) {
      const replaced = modify(`uid=alice,${PEOPLE}`, ['replace', attribute, 'x']);
      expect(await change(who, replaced)).toBe(50);
    }
    expect(await change(who, person('eve', uid + 5))).toBe(50);
    expect(await change(who, `dn: uid=alice,${PEOPLE}\nchangetype: delete\n`)).toBe(50);
    const marker = modify(`cn=chamberlain,${BASE}`, ['replace', 'description', 'people=0']);
    expect(await change(who, marker)).toBe(50);
  });

  test('each sees of a person what it needs', async () => {
    const seen = async (who: Account): Promise<string[]> => {
      const { out } = await search(who, `uid=alice,${PEOPLE}`, ['*']);
      const names = ['description', 'mail', 'sshPublicKey', 'uidNumber'];
      return names.filter((name) => out.includes(`\n${name}: `));
    };
    const all = ['description', 'mail', 'sshPublicKey', 'uidNumber'];
    expect(await seen('directory')).toEqual(all);
    expect(await seen('directory-reader')).toEqual(all);
    expect(await seen('keys-agent')).toEqual([]);
    expect(await seen('sssd')).toEqual(['uidNumber']);
    expect(await seen('reader')).toEqual(['uidNumber']);
    expect(await seen('mail-reader')).toEqual(['mail', 'uidNumber']);
  });

  test('all others see whether a tool is locked, and why; none can write it', async () => {
    const dn = `uid=tools.why,ou=people,${GROUPS}`;
    expect(await change('directory', toolAccount('tools.why', toolId + 7))).toBe(0);
    const locked = modify(
      dn,
      ['add', 'pwdAccountLockedTime', '000001010000Z'],
      ['add', 'gecos', 'disabled - It floods'],
    );
    expect(await change('directory', locked)).toBe(0);
    const other = modify(dn, ['replace', 'gecos', 'x']);
    for (const who of READERS.filter((each) => each !== 'keys-agent')) {
      const { out } = await search(who, dn, ['gecos', 'pwdAccountLockedTime']);
      expect(out).toContain('gecos: disabled - It floods\n');
      expect(out).toContain('pwdAccountLockedTime: 000001010000Z\n');
      expect(await change(who, other)).toBe(50);
    }
    expect(await change('directory', `dn: ${dn}\nchangetype: delete\n`)).toBe(0);
  });

  test('nobody can read a password, or a former one', async () => {
    const carol = `uid=carol,${PEOPLE}`;
    const remembered = [
      modify(DISABLED, ['add', 'pwdInHistory', '3']),
      modify(carol, ['add', 'pwdPolicySubentry', DISABLED]),
      modify(carol, ['replace', 'userPassword', 'candlestick']),
      modify(carol, ['replace', 'userPassword', 'lamplighter']),
    ];
    for (const ldif of remembered) expect(await change('admin', ldif)).toBe(0);
    expect(await attributesOf('admin', carol)).toContain('pwdHistory');
    for (const who of DIRECTORY_ACCOUNTS) {
      const seen = await attributesOf(who, carol);
      expect(seen).toContain('uid');
      expect(seen).not.toContain('userPassword');
      expect(seen).not.toContain('pwdHistory');
    }
    expect(await change('admin', modify(carol, ['delete', 'pwdPolicySubentry']))).toBe(0);
  });

  test('the keys agent sees what is signed, and what has changed, and nothing else', async () => {
    for (const place of [PEOPLE, GROUPS, `ou=groups,${BASE}`, `ou=projects,${BASE}`]) {
      const { out } = await search('keys-agent', place, ['*', '+']);
      const seen = new Set([...out.matchAll(/^([a-zA-Z]+):/gmu)].map(([, name]) => name));
      const may = ['chamberlainSeal', 'dn', 'entryCSN', 'objectClass', 'uid'];
      expect([...seen].filter((name) => !may.includes(name ?? ''))).toEqual([]);
    }
  });

  test('the keys agent can find out whether what it reads is complete', async () => {
    const { out } = await search('keys-agent', BASE, ['contextCSN', 'entryCSN', 'description']);
    expect(out).toContain('contextCSN: ');
    expect(out).toContain('entryCSN: ');
    expect(out).toContain('description: people=2');
  });
});

describe('login hosts that have joined', () => {
  const record = { kind: 'login-host', key: 'k', fingerprint: CODE, joinedAt: 'j', by: 'b' };
  const verifier = saltedSha1('lamplighter', Buffer.alloc(16));
  const asAdmin = <T>(act: (hosts: Hosts) => Promise<T>): Promise<T> =>
    withHosts({ ...world.config.ldap, realm: world.config.realm }, world.ldapAdmin.password, act);
  const places = [
    ...[BASE, PEOPLE, GROUPS, `ou=people,${GROUPS}`, `ou=groups,${BASE}`, `ou=projects,${BASE}`],
    ...[
      RULES,
      `cn=chamberlain,${BASE}`,
      `ou=chamberlain,${BASE}`,
      `ou=hosts,ou=chamberlain,${BASE}`,
    ],
    ...[DISABLED, `uid=carol,${PEOPLE}`, `cn=tools.bridge,${GROUPS}`, REALM_GROUP],
  ];

  beforeAll(async () => {
    await asAdmin(async (hosts) => {
      for (const name of ['host', 'former', 'leaving']) {
        writeFileSync(join(world.config.secrets, `ldap-${name}`), 'lamplighter');
        if (name === 'leaving') continue;
        await hosts.put(name, record, verifier);
      }
      const member = `cn=former.${CODE},ou=hosts,ou=chamberlain,${BASE}`;
      const left = modify(`cn=login-hosts,ou=chamberlain,${BASE}`, ['delete', 'member', member]);
      expect(await change('admin', left)).toBe(0);
      expect(await hosts.list()).toMatchObject([
        { name: 'former', hasAccess: false, record },
        { name: 'host', hasAccess: true, record },
      ]);
    });
  });

  test.each(places)('read exactly what keys-agent reads, at %s', async (place) => {
    for (const filter of ['(objectClass=*)', '(chamberlainSeal=*)', '(uidNumber=*)']) {
      const seen = (who: Account) => search(who, place, ['*', '+'], filter);
      expect(await seen('host')).toEqual(await seen('keys-agent'));
    }
  });

  test('see seals and the heartbeat', async () => {
    const { out } = await search('host', BASE, ['chamberlainSeal', 'description', 'contextCSN']);
    for (const name of ['chamberlainSeal', 'description', 'contextCSN']) {
      expect(out).toContain(`\n${name}: `);
    }
  });

  test('write nothing', async () => {
    const own = `cn=host.${CODE},ou=hosts,ou=chamberlain,${BASE}`;
    for (const [dn, attribute] of [
      ...[
        [`uid=alice,${PEOPLE}`, 'sshPublicKey'],
        [`uid=carol,${PEOPLE}`, 'chamberlainSeal'],
      ],
      ...[
        [`cn=chamberlain,${BASE}`, 'description'],
        [own, 'userPassword'],
        [own, 'description'],
      ],
      [`cn=login-hosts,ou=chamberlain,${BASE}`, 'member'],
    ] as const) {
      const value = attribute === 'member' ? own : 'x';
      expect(await change('host', modify(dn, ['replace', attribute, value]))).toBe(50);
    }
    expect(await change('host', person('eve', uid + 5))).toBe(50);
    expect(await change('host', `dn: ${own}\nchangetype: delete\n`)).toBe(50);
  });

  test.each(places)('see nothing if they are no members of the group, at %s', async (place) => {
    expect((await search('former', place, ['*', '+'])).out).toBe('');
  });

  test('are listed with every other member of the group, which an admin can remove', async () => {
    const sssd = `cn=sssd,ou=chamberlain,${BASE}`;
    const seesSeals = async (): Promise<boolean> =>
      (await search('sssd', PEOPLE, ['chamberlainSeal'])).out.includes('chamberlainSeal: ');
    const joins = modify(`cn=login-hosts,ou=chamberlain,${BASE}`, ['add', 'member', sssd]);
    expect(await change('admin', joins)).toBe(0);
    expect(await seesSeals()).toBe(true);
    await asAdmin(async (hosts) => {
      const [found] = (await hosts.list()).filter((each) => each.record === undefined);
      expect(found).toMatchObject({ name: sssd, dn: sssd, hasAccess: true });
      if (found !== undefined) await hosts.remove(found);
      expect((await hosts.list()).map(({ name }) => name)).toEqual(['former', 'host']);
    });
    expect(await seesSeals()).toBe(false);
    // the account is not one of a host, and stays
    expect((await search('sssd', PEOPLE, ['uid'])).out).toContain('uid: ');
  });

  test('see nothing new on a persistent search either, once they are removed', async () => {
    const carol = `uid=carol,${PEOPLE}`;
    const bot = `uid=tools.bridge,ou=people,${GROUPS}`;
    const seal = (dn: string, value: string) =>
      change('admin', modify(dn, ['replace', 'chamberlainSeal', value]));
    await asAdmin(async (hosts) => {
      await hosts.put('leaving', record, verifier);
    });
    const [host, agent] = [follow('leaving'), follow('keys-agent')];
    try {
      for (const { said } of [host, agent]) {
        await eventually('what is there', () => said().includes(`dn: ${carol}\n`));
      }
      expect(await change('directory', toolAccount('tools.bridge', toolId))).toBe(0);
      expect(await seal(carol, 'before')).toBe(0);
      for (const { said } of [host, agent]) {
        await eventually('a change', () => said().includes('chamberlainSeal: before\n'));
        await eventually('a new entry', () => said().includes(`dn: ${bot}\n`));
      }
      await asAdmin(async (hosts) => {
        const leaving = (await hosts.list()).find(({ name }) => name === 'leaving');
        if (leaving !== undefined) await hosts.remove(leaving);
      });
      const known = host.said();
      for (const round of ['one', 'two', 'three']) {
        expect(await seal(carol, round)).toBe(0);
        expect(await change('directory', person(round, uid + 20))).toBe(0);
        expect(await change('directory', `dn: uid=${round},${PEOPLE}\nchangetype: delete\n`)).toBe(
          0,
        );
        const beat = modify(`cn=chamberlain,${BASE}`, [
          'replace',
          'description',
          `people=${round}`,
        ]);
        expect(await change('directory', beat)).toBe(0);
        await eventually('the others to see it', () => {
          const all = agent.said();
          return all.includes(`chamberlainSeal: ${round}\n`) && all.includes(`people=${round}\n`);
        });
      }
      expect(host.said().slice(known.length).trim()).toBe('');
    } finally {
      await Promise.all([host.end(), agent.end()]);
    }
  });

  describe('while several commands run at once', () => {
    const hostOf = async (hosts: Hosts, name: string): Promise<Host[]> =>
      (await hosts.list()).filter((host) => host.name === name);
    const other = { ...record, key: 'other', fingerprint: 'zzzz-zzzz-zzzz-zzzz' };
    const rounds = Array.from({ length: 10 }, (_, round) => `round${round}`);

    test('at most one machine joins under one name', async () => {
      for (const name of rounds) {
        const put = (of: typeof record) => asAdmin((hosts) => hosts.put(name, of, verifier));
        const written = await Promise.all([put(record), put(other)]);
        const done = written.filter((each) => each === 'done').length;
        expect([done, ...written]).toContain(done === 0 ? 'taken' : 1);
        await asAdmin(async (hosts) => {
          const found = await hostOf(hosts, name);
          expect(found.map(({ hasAccess }) => hasAccess)).toEqual(done === 0 ? [] : [true]);
          for (const host of found) await hosts.remove(host);
        });
      }
    });

    test('a machine that is removed while it joins does not stay a member', async () => {
      for (const name of rounds) {
        const joining = asAdmin((hosts) => hosts.put(name, record, verifier));
        await asAdmin(async (hosts) => {
          const [seen] = await eventually('the account', async () => {
            const found = await hostOf(hosts, name);
            return found.length > 0 && found;
          });
          if (seen !== undefined) await hosts.remove(seen);
        });
        await joining;
        const known = await asAdmin((hosts) => hosts.list());
        expect(known.filter(({ dn }) => dn.includes(name))).toEqual([]);
      }
    });

    test('an account is changed only if it is still what the command has seen', async () => {
      await asAdmin(async (hosts) => {
        expect(await hosts.put('twice', record, verifier)).toBe('done');
        expect(await hosts.put('twice', record, saltedSha1('x', Buffer.alloc(16)))).toBe('changed');
        const [before] = await hostOf(hosts, 'twice');
        const renew = (joinedAt: string, password: string) =>
          hosts.put(
            'twice',
            { ...record, joinedAt },
            saltedSha1(password, Buffer.alloc(16)),
            before,
          );
        expect(await renew('first', 'candlestick')).toBe('done');
        expect(await renew('second', 'x')).toBe('changed');
        const [after] = await hostOf(hosts, 'twice');
        expect(after?.record?.joinedAt).toBe('first');
        expect(await bind(after?.dn ?? '', 'candlestick')).toBe(0);
        if (after !== undefined) await hosts.remove(after);
        expect(await renew('third', 'x')).toBe('changed');
        expect(await hostOf(hosts, 'twice')).toEqual([]);
      });
    });
  });

  test('are members by an admin’s decision alone', async () => {
    const joins = modify(`cn=login-hosts,ou=chamberlain,${BASE}`, [
      ...(['add', 'member', `cn=former.${CODE},ou=hosts,ou=chamberlain,${BASE}`] as const),
    ]);
    for (const who of [...DIRECTORY_ACCOUNTS, 'former'] as const) {
      expect(await change(who, joins)).toBe(50);
    }
  });
});

describe('other programs', () => {
  const account = `uid=tools.seen,ou=people,${GROUPS}`;
  const alice = `uid=alice,${PEOPLE}`;

  beforeAll(async () => {
    const lock = (dn: string): string =>
      modify(
        dn,
        ['add', 'pwdPolicySubentry', DISABLED],
        ['add', 'pwdAccountLockedTime', '20261130120000Z'],
        ['add', 'objectClass', 'chamberlainSealed'],
        ['add', 'chamberlainSeal', 'x'],
        ['add', 'gecos', 'disabled - It floods'],
        ['add', 'loginShell', '/bin/bash'],
      );
    const keys = ['objectClass: ldapPublicKey', 'sshPublicKey: x', 'description: x', ''].join('\n');
    expect(await change('directory', toolAccount('tools.seen', toolId + 10) + keys)).toBe(0);
    // before the locks, which a new password would remove
    const password = modify(account, ['add', 'userPassword', 'lamplighter']);
    expect(await change('admin', password)).toBe(0);
    for (const dn of [account, alice]) expect(await change('directory', lock(dn))).toBe(0);
  });

  const UNIX = [
    'objectClass',
    'uid',
    'cn',
    'sn',
    'uidNumber',
    'gidNumber',
    'gecos',
    'homeDirectory',
  ];
  const LOCKED = ['loginShell', 'pwdAccountLockedTime', 'pwdPolicySubentry'];
  const CHANGED = ['entryCSN', 'entryUUID', 'modifyTimestamp'];
  const RULE = ['sudoUser', 'sudoHost', 'sudoCommand', 'sudoOption', 'sudoRunAsUser'];
  const seen: readonly (readonly [string, string, readonly string[]])[] = [
    ['of a person', alice, [...UNIX, ...LOCKED, ...CHANGED]],
    ['of a tool account', account, [...UNIX, ...LOCKED, ...CHANGED]],
    [
      'of a tool group',
      `cn=tools.bridge,${GROUPS}`,
      ['objectClass', 'cn', 'gidNumber', 'member', ...CHANGED],
    ],
    ['of the realm group', REALM_GROUP, ['objectClass', 'cn', 'gidNumber', 'member', ...CHANGED]],
    ['of a sudo rule', runas('tools.bridge'), ['objectClass', 'cn', ...RULE, ...CHANGED]],
    ['of where people are', PEOPLE, ['objectClass', 'ou', ...CHANGED]],
    ['of the base', BASE, ['objectClass', 'contextCSN']],
    ['of the marker', `cn=chamberlain,${BASE}`, []],
    ['of a bind account', `cn=reader,ou=chamberlain,${BASE}`, []],
    ['of where bind accounts are', `ou=chamberlain,${BASE}`, []],
  ];

  test.each(seen)('reader sees %s what is named here, and no more', async (_, dn, attributes) => {
    expect(await attributesOf('reader', dn)).toEqual([...attributes].sort());
  });

  test.each(seen)(
    'mail-reader sees %s the same, and a person’s mail',
    async (_, dn, attributes) => {
      const mail = dn === alice ? ['mail'] : [];
      expect(await attributesOf('mail-reader', dn)).toEqual([...attributes, ...mail].sort());
    },
  );

  test('reader cannot search by what it may not read', async () => {
    const filters = ['mail=alice@example.org', 'sshPublicKey=*', 'description=*', 'userPassword=*'];
    for (const filter of [...filters, 'chamberlainSeal=*', 'cn=directory', 'creatorsName=*']) {
      expect(await search('reader', BASE, ['uid'], `(${filter})`)).toEqual({ code: 0, out: '' });
    }
    const { out } = await search('mail-reader', BASE, ['uid'], '(mail=alice@example.org)');
    expect(out).toContain('uid: alice\n');
  });

  test('reader finds tools, groups, their members and locks, as docs/directory.md says', async () => {
    const found = async (base: string, filter: string): Promise<string[]> => {
      const { out } = await search('reader', base, ['1.1'], filter);
      return out.match(/(?<=^dn: )[^,]+/gm) ?? [];
    };
    expect(await found(`ou=people,${GROUPS}`, '(cn=tools.*)')).toContain('uid=tools.seen');
    expect(
      await found(GROUPS, '(&(objectClass=posixGroup)(objectClass=groupOfNames)(cn=tools.*))'),
    ).toContain('cn=tools.bridge');
    expect(await found(BASE, `(member=uid=alice,${PEOPLE})`)).toEqual([
      'cn=project-tools',
      'cn=tools.bridge',
    ]);
    expect(await found(BASE, `(|(pwdAccountLockedTime=*)(pwdPolicySubentry=${DISABLED}))`)).toEqual(
      ['uid=alice', 'uid=tools.seen'],
    );
  });
});

describe('everyone else', () => {
  test('a person reads nothing and does not write their own keys', async () => {
    const carol = ['-D', `uid=carol,${PEOPLE}`, '-w', 'lamplighter'];
    const key = modify(`uid=carol,${PEOPLE}`, ['add', 'sshPublicKey', 'x']);
    expect((await tool('ldapmodify', carol, key)).code).toBe(50);
    expect((await tool('ldapsearch', [...carol, '-b', BASE], '')).out).not.toContain('dn:');
  });

  test('anonymous users see nothing', async () => {
    for (const base of [BASE, PEOPLE, '', 'cn=Subschema']) {
      const { out } = await tool('ldapsearch', ['-LLL', '-s', 'base', '-b', base, '+', '*'], '');
      expect(out).not.toContain('dn:');
    }
  });
});

function person(name: string, number: number, gid = 500, displayName = capital(name)): string {
  return `dn: uid=${name},${PEOPLE}
changetype: add
objectClass: inetOrgPerson
objectClass: ldapPublicKey
objectClass: posixAccount
uid: ${name}
cn: ${displayName}
sn: ${displayName}
uidNumber: ${number}
gidNumber: ${gid}
homeDirectory: /home/${name}
mail: ${name}@example.org
sshPublicKey: ssh-ed25519 AAAA
description: SHA256:AAAA laptop
`;
}

function toolAccount(name: string, number: number, gid = number, cn = name): string {
  return `dn: uid=${name},ou=people,${GROUPS}
changetype: add
objectClass: person
objectClass: posixAccount
objectClass: shadowAccount
uid: ${name}
cn: ${cn}
sn: ${name}
uidNumber: ${number}
gidNumber: ${gid}
homeDirectory: /data/project/eve
`;
}

function group(name: string, gid: number): string {
  return `dn: cn=${name},${GROUPS}
changetype: add
objectClass: groupOfNames
objectClass: posixGroup
cn: ${name}
gidNumber: ${gid}
member: uid=alice,${PEOPLE}
`;
}

function rule(name: string, ...account: [] | [string | undefined]): string {
  const user = account.length === 0 ? name : account[0];
  return `dn: ${runas(name)}
changetype: add
objectClass: sudoRole
cn: runas-${name}
sudoUser: %${user ?? name}
sudoHost: ALL
sudoCommand: ALL
sudoOption: !authenticate
${user === undefined ? '' : `sudoRunAsUser: ${user}\n`}`;
}

function runas(name: string): string {
  return `cn=runas-${name},${RULES}`;
}

function modify(dn: string, ...acts: [act: string, attribute: string, value?: string][]): string {
  const parts = acts.map(
    ([act, attribute, value]) =>
      `${act}: ${attribute}\n${value === undefined ? '' : `${attribute}: ${value}\n`}-\n`,
  );
  return `dn: ${dn}\nchangetype: modify\n${parts.join('')}`;
}

function capital(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1);
}

async function change(who: Account, ldif: string, options: string[] = []): Promise<number> {
  return (await tool('ldapmodify', [...bindOptions(who), ...options], ldif)).code;
}

/** The names of all attributes that one entry shows to an account, in order. */
async function attributesOf(who: Account, dn: string): Promise<string[]> {
  const { out } = await search(who, dn, ['*', '+'], '(objectClass=*)', ['-s', 'base']);
  return [...new Set(out.match(/^(?!dn:)\w+(?=:)/gm))].sort();
}

async function search(
  who: Account,
  base: string,
  attributes: string[],
  filter = '(objectClass=*)',
  options: string[] = [],
): Promise<{ code: number; out: string }> {
  return tool(
    'ldapsearch',
    [...bindOptions(who), '-LLL', ...options, '-b', base, filter, ...attributes],
    '',
  );
}

/** A persistent search (RFC 4533, refreshAndPersist) for what the agent of a login host reads. */
function follow(who: Account): { said: () => string; end: () => Promise<void> } {
  const options = ['-x', '-H', world.slapd.uri, ...bindOptions(who), '-o', 'ldif-wrap=no', '-LLL'];
  const wanted = ['-E', '!sync=rp', '-b', BASE, 'chamberlainSeal', 'description'];
  const child = spawn('stdbuf', ['-oL', 'ldapsearch', ...options, ...wanted]);
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (said += part));
  return {
    said: () => said,
    async end() {
      child.kill();
      await ended;
    },
  };
}

async function bind(dn: string, password: string): Promise<number> {
  return (await tool('ldapwhoami', ['-D', dn, '-w', password], '')).code;
}

function bindOptions(who: Account): string[] {
  const host = HOSTS.find((name) => name === who);
  const dn = host
    ? `cn=${host}.${CODE},ou=hosts,ou=chamberlain,${BASE}`
    : dnOf(who as DirectoryAccount);
  return ['-D', dn, '-y', join(world.config.secrets, `ldap-${who}`)];
}

function dnOf(who: DirectoryAccount | 'admin'): string {
  return who === 'admin' ? world.ldapAdmin.dn : `cn=${who},ou=chamberlain,${BASE}`;
}

function tool(name: string, args: string[], input: string): Promise<{ code: number; out: string }> {
  return new Promise((done) => {
    const child = execFile(name, ['-x', '-H', world.slapd.uri, ...args], (error, out) => {
      done({ code: error === null ? 0 : Number(error.code), out });
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}
