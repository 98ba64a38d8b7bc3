/** What is in our places and is not ours: planted in many ways, seen at the next look, then adopted or ignored. */
import { chownSync, mkdirSync, readdirSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { UnmanagedThing } from '../../../src/unmanaged/unmanaged.ts';
import type { Report } from '../../../src/reconcile/report.ts';
import { runCli } from '../../cli/run-cli.ts';
import { administer, runningPid, signalTree, type World } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { addUnmanagedEntry, changeDirectory, homeOf, query, readDirectory } from '../outside.ts';
import type { Portal } from '../portal.ts';
import { admit, openRunning, type Running } from '../running.ts';

const BASE = 'dc=example,dc=org';
const MINUTE_MS = 60_000;
/** A busy machine is slow. */
const SEEN_MS = 2 * MINUTE_MS;
let running: Running;
let world: World;
let portal: Portal;
let tools: { first: number; last: number };
let people: { first: number; last: number };

beforeAll(async () => {
  running = await openRunning('unmanaged', { own: true, looksMs: 500 });
  ({ world, portal } = running);
  tools = world.config.ids.tools[0] as typeof tools;
  people = world.config.ids.people[0] as typeof people;
  await admit(portal, 'alice', 'bob');
  await portal.get({ kind: 'tool.create', requestedBy: 'alice', name: 'wiki', title: 'A wiki' });
});

afterAll(async () => {
  await running?.close();
});

const cli = (...args: string[]) => runCli(args, { config: world.configFile });
const list = async (): Promise<UnmanagedThing[]> => {
  const { out } = await cli('list', 'unmanaged', '--json');
  return (JSON.parse(out) as { things: UnmanagedThing[] }).things;
};
const find = async (object: string) => (await list()).find((thing) => thing.object === object);
const seen = (object: string) => eventually(object, () => find(object), SEEN_MS);
const lost = (object: string) =>
  eventually(`${object} to go`, async () => (await find(object)) === undefined, SEEN_MS);

/** While nobody looks: a look that began before would list for one moment more what it has seen. */
async function unseen<T>(act: () => Promise<T>): Promise<T> {
  await running.stopWork();
  try {
    return await act();
  } finally {
    await running.startWork();
  }
}

const lookedAt = async (place: string): Promise<number> => {
  const sql = 'SELECT at FROM unmanaged_looks WHERE place = $1';
  const [row] = await query<{ at: Date }>(world, sql, [place]);
  return row?.at.getTime() ?? 0;
};

const account = (dn: string, uid: string, number: number): string =>
  [
    `dn: ${dn}`,
    ...['person', 'inetOrgPerson', 'posixAccount'].map((each) => `objectClass: ${each}`),
    ...[`uid: ${uid}`, `cn: ${uid}`, `sn: ${uid}`, `uidNumber: ${number}`],
    ...[
      `gidNumber: ${uid.includes('.') ? number : 500}`,
      `homeDirectory: /home/${uid}`,
      'loginShell: /bin/bash',
      '',
    ],
  ].join('\n');
const group = (dn: string, cn: string, number: number, member: string): string =>
  [
    `dn: ${dn}`,
    ...['groupOfNames', 'posixGroup'].map((each) => `objectClass: ${each}`),
    ...[`cn: ${cn}`, `gidNumber: ${number}`, `member: ${member}`, ''],
  ].join('\n');
const addMember = (dn: string, member: string) =>
  changeDirectory(
    world,
    'ldapmodify',
    [`dn: ${dn}`, 'changetype: modify', 'add: member', `member: ${member}`, ''].join('\n'),
  );

const MALLORY = `uid=mallory,ou=people,${BASE}`;
const REALM_GROUP = `cn=project-tools,ou=groups,${BASE}`;
const WIKI = `cn=tools.wiki,ou=servicegroups,${BASE}`;
const RULE = `cn=runas-tools.ghost,ou=sudoers,cn=tools,ou=projects,${BASE}`;
const STRAY = `uid=tools.stray,ou=people,ou=servicegroups,${BASE}`;

/** what · plants it, and says as what it is to be seen */
const PLANTED: [string, () => Promise<Partial<UnmanagedThing> & { object: string }>][] = [
  [
    'a person in range, with a number',
    async () => {
      await addUnmanagedEntry(world, account(MALLORY, 'mallory', people.last));
      const madeBy = world.ldapAdmin.dn;
      return { object: MALLORY, kind: 'account', name: 'mallory', number: people.last, madeBy };
    },
  ],
  [
    'their membership of the realm group',
    async () => {
      await addMember(REALM_GROUP, MALLORY);
      return { object: `${MALLORY} in ${REALM_GROUP}`, kind: 'member', madeBy: world.ldapAdmin.dn };
    },
  ],
  [
    'a member of a tool, who is ours',
    async () => {
      await addMember(WIKI, `uid=bob,ou=people,${BASE}`);
      return { object: `uid=bob,ou=people,${BASE} in ${WIKI}`, kind: 'member', name: 'bob' };
    },
  ],
  [
    'the group of a tool',
    async () => {
      const object = `cn=tools.stray,ou=servicegroups,${BASE}`;
      await addUnmanagedEntry(world, group(object, 'tools.stray', tools.last, STRAY));
      return { object, kind: 'group', name: 'tools.stray', number: tools.last };
    },
  ],
  [
    'the account of a tool',
    async () => {
      await addUnmanagedEntry(world, account(STRAY, 'tools.stray', tools.last));
      return { object: STRAY, kind: 'account', number: tools.last };
    },
  ],
  [
    'a group among the groups of projects, with a number of a tool',
    async () => {
      const object = `cn=project-shadow,ou=groups,${BASE}`;
      await addUnmanagedEntry(world, group(object, 'project-shadow', tools.last - 1, MALLORY));
      return { object, kind: 'group', number: tools.last - 1 };
    },
  ],
  [
    'a sudo rule of a tool that is none',
    async () => {
      const object = RULE;
      const rule = ['objectClass: sudoRole', 'cn: runas-tools.ghost', 'sudoUser: %tools.ghost'];
      const more = ['sudoHost: ALL', 'sudoCommand: ALL', 'sudoOption: !authenticate'];
      await addUnmanagedEntry(
        world,
        [`dn: ${object}`, ...rule, ...more, 'sudoRunAsUser: tools.ghost', ''].join('\n'),
      );
      return { object, kind: 'rule', name: 'runas-tools.ghost' };
    },
  ],
  [
    'a folder for people of others',
    async () => {
      const object = `ou=staff,ou=people,${BASE}`;
      await addUnmanagedEntry(world, `dn: ${object}\nobjectClass: organizationalUnit\nou: staff\n`);
      return { object, kind: 'entry' };
    },
  ],
  [
    'a referral to another directory',
    async () => {
      const object = `cn=elsewhere,ou=people,${BASE}`;
      const classes = ['referral', 'extensibleObject'].map((name) => `objectClass: ${name}`);
      await addUnmanagedEntry(
        world,
        [`dn: ${object}`, ...classes, 'cn: elsewhere', 'ref: ldap://127.0.0.1:9/dc=x', ''].join(
          '\n',
        ),
      );
      return { object, kind: 'referral' };
    },
  ],
  [
    'an alias of an account',
    async () => {
      const object = `cn=another,ou=servicegroups,${BASE}`;
      const classes = ['alias', 'extensibleObject'].map((name) => `objectClass: ${name}`);
      await addUnmanagedEntry(
        world,
        [`dn: ${object}`, ...classes, 'cn: another', `aliasedObjectName: ${MALLORY}`, ''].join(
          '\n',
        ),
      );
      return { object, kind: 'alias' };
    },
  ],
  [
    'the home of a tool that is none',
    async () => {
      const path = homeOf(world, { tool: 'shadow' });
      mkdirSync(path);
      chownSync(path, 12_345, 12_345);
      const object = `${world.config.files.toolHomes}/shadow`;
      return { object, kind: 'home', name: 'tools.shadow', number: 12_345, madeBy: 'uid 12345' };
    },
  ],
  [
    'a link among the homes of people',
    async () => {
      symlinkSync('/etc', homeOf(world, { person: 'shared' }));
      return { object: `${world.config.files.personHomes}/shared`, kind: 'home', madeBy: 'root' };
    },
  ],
  [
    'an archive of a home',
    async () => {
      const object = join(world.config.archives.homes, 'tools.wiki.7');
      mkdirSync(object);
      return { object, kind: 'archive', madeBy: 'root' };
    },
  ],
  [
    'an archive of databases',
    async () => {
      const object = join(world.config.archives.databases, 'tools.ghost.1');
      mkdirSync(object);
      return { object, kind: 'archive' };
    },
  ],
  [
    'the database user of a tool that is none',
    async () => {
      await administer(world.tools.socket, `CREATE USER 's77777'@'%' IDENTIFIED BY 'x';`);
      return { object: 's77777@%', kind: 'database user', place: 'toolsdb', number: 77_777 };
    },
  ],
  [
    "a tool's number under the name of a person's database user, on another host",
    async () => {
      const [row] = await query<{ uid: number }>(
        world,
        `SELECT uid FROM tools WHERE name = 'wiki'`,
      );
      await administer(world.replica.socket, `CREATE USER 'u${row?.uid}'@'10.0.0.1';`);
      return { object: `u${row?.uid}@10.0.0.1`, kind: 'database user', place: 'replica' };
    },
  ],
  [
    'a database user with more digits than a number has',
    async () => {
      await administer(world.tools.socket, `CREATE USER 's9999999999'@'%';`);
      return { object: 's9999999999@%', kind: 'database user', number: null };
    },
  ],
];
const objects: string[] = [];

describe('planted by an admin of the directory, in MariaDB and among homes', () => {
  test('nothing is listed before', async () => {
    expect(await list()).toEqual([]);
    expect((await cli('status')).exit).toBe(0);
  });

  test('each is seen before long, with what it is and who made it', async () => {
    const planted: [what: string, expected: { object: string }][] = [];
    for (const [what, plant] of PLANTED) planted.push([what, await plant()]);
    const things = await eventually(
      'all of them',
      async () => {
        const all = await list();
        const found = planted.flatMap(
          ([, { object }]) => all.find((each) => each.object === object) ?? [],
        );
        return found.length === planted.length && found;
      },
      SEEN_MS,
    );
    planted.forEach(([what, expected], index) => {
      expect([what, things[index]]).toEqual([what, expect.objectContaining(expected)]);
      objects.push(expected.object);
    });
    for (const { madeAt, since, object } of things) {
      expect([object, Date.now() - new Date(since).getTime() < 2 * SEEN_MS]).toEqual([
        object,
        true,
      ]);
      if (madeAt !== null)
        expect(Date.now() - new Date(madeAt).getTime()).toBeLessThan(5 * MINUTE_MS);
    }
    // a look shows nothing but these
    expect((await list()).map(({ object }) => object).toSorted()).toEqual(objects.toSorted());
  }, 240_000);

  test('each page names them, and status counts them', async () => {
    const page = await cli('list', 'unmanaged');
    expect(page.exit).toBe(3);
    for (const object of objects) expect(page.out).toContain(object);
    const status = await cli('status');
    expect([status.exit, status.out]).toEqual([
      3,
      expect.stringContaining('unmanaged, and undecided: 2 accounts,'),
    ]);
    const survey = await cli('survey', '--json');
    const { unmanaged, steps } = JSON.parse(survey.out) as Report;
    // the member of a tool, who is ours, is drift there
    expect(unmanaged?.map(({ object }) => object).toSorted()).toEqual(
      objects.filter((object) => !object.startsWith('uid=bob,')).toSorted(),
    );
    expect(steps.map(({ change }) => change)).toContain('member −uid=bob');
    expect((await cli('survey')).out).toContain('UNMANAGED, account: 2 findings');
    expect((await cli('plan', '--all')).out).toContain(MALLORY);
    expect((await cli('sweep')).out).toContain(MALLORY);
    for (const word of ['mallory', MALLORY, `${people.last}`]) {
      expect((await cli('explain', word)).out).toContain(`Unmanaged: ${MALLORY}: account`);
    }
    // `adopt` takes no member
    expect((await cli('explain', `${MALLORY} in ${REALM_GROUP}`)).out).toMatch(
      /^Unmanaged: .* must decide on it: a request \(maintainer\.add, access\.grant\) keeps it\.$/mu,
    );
    expect((await cli('explain', objects.find((each) => each.endsWith('.7')) ?? '')).out).toContain(
      'Unmanaged: ',
    );
  }, 240_000);

  test('their names and numbers are given to nobody', async () => {
    const person = { shellName: 'mallory', displayName: 'M', email: 'm@example.org' };
    const wish = { kind: 'person.create', requestedBy: 'mallory', ...person } as const;
    expect((await portal.ask(wish)).code).toBe('NAME_FOREIGN');
  });
});

describe('an admin', () => {
  test('adopts a person, with the membership that stands', async () => {
    const check = await cli('adopt', MALLORY, '--check', '--yes');
    expect(check.out).toContain('Would be taken over: 1 person (1 realm member');
    expect(check.out).toContain('`adopt … --homes` takes');
    // who has put it there, before anybody lets it in
    expect(check.out).toContain(world.ldapAdmin.dn);
    expect(await find(MALLORY)).toMatchObject({ ignoredAt: null });
    const adopted = await unseen(async () => {
      const ended = await cli('adopt', MALLORY, '--yes');
      expect(await find(MALLORY)).toBeUndefined();
      return ended;
    });
    expect(adopted.out).toContain('Taken over: 1 person');
    expect(adopted.err).not.toMatch(/^[A-Z_]+:/mu);
    await lost(`${MALLORY} in ${REALM_GROUP}`);
    expect(await query(world, `SELECT uid FROM people WHERE shell_name = 'mallory'`)).toEqual([
      { uid: people.last },
    ]);
  }, 240_000);

  test('adopts a tool by either of its entries', async () => {
    await unseen(async () => {
      const adopted = await cli('adopt', STRAY.replace(`,${BASE}`, ''), '--yes', '--json');
      const taken = { tools: 1, people: 0 };
      expect(JSON.parse(adopted.out)).toMatchObject({ taken, refusals: [] });
      const left = (await list()).filter(({ name }) => name === 'tools.stray');
      expect(left).toEqual([]);
    });
  }, 240_000);

  test('is told what cannot be adopted, and why', async () => {
    const shadow = `cn=project-shadow,ou=groups,${BASE}`;
    const refused = await cli('adopt', shadow, '--yes');
    expect(refused.out).toContain('Taken over: 0 people');
    const home = `${world.config.files.toolHomes}/shadow`;
    for (const object of [home, RULE, 's77777@%', `ou=staff,ou=people,${BASE}`]) {
      const { exit, err } = await cli('adopt', object, '--yes');
      expect([exit, err]).toEqual([2, expect.stringContaining('chamberlain ignore')]);
    }
    expect((await cli('adopt', 'nobody', '--yes')).err).toContain(
      "`list unmanaged` shows nothing called 'nobody'",
    );
  }, 240_000);

  test('ignores the others, for a reason that the audit keeps; they stay listed', async () => {
    // a member of a group of ours is a value in it, and put right as ever
    expect((await cli('sweep', 'now')).exit).toBe(0);
    await lost(`uid=bob,ou=people,${BASE} in ${WIKI}`);
    const left = (await list()).map(({ object }) => object);
    const { exit, out } = await cli('ignore', ...left, '--reason', 'known since the move');
    expect([exit, out.split('\n').length - 1]).toEqual([0, left.length]);
    expect((await list()).filter(({ ignoredAt }) => ignoredAt === null)).toEqual([]);
    const page = await cli('list', 'unmanaged');
    expect([page.exit, page.out]).toEqual([0, expect.stringContaining('known since the move')]);
    expect((await cli('status')).out).not.toContain('undecided');
    const rows = await query<{ fields: string[] }>(
      world,
      `SELECT fields FROM audit WHERE kind = 'unmanaged.ignore' AND requested_by LIKE 'unix:%'`,
    );
    expect(rows.map(({ fields }) => fields[2])).toEqual(
      left.map(() => 'reason=known since the move'),
    );
    expect(rows.map(({ fields }) => fields[0])).toContain('database user s77777@%');
  }, 240_000);
});

describe('later', () => {
  test('what was ignored and is gone stays listed; another of its name is to be decided', async () => {
    const object = RULE;
    const before = (await readDirectory(world)).get(object);
    await changeDirectory(world, 'ldapmodify', `dn: ${object}\nchangetype: delete\n`);
    await eventually('it to go', async () => (await find(object))?.goneAt !== null, SEEN_MS);
    expect(await find(object)).toMatchObject({ reason: 'known since the move' });
    const lines = Object.entries(before ?? {}).flatMap(([name, values]) =>
      values.map((value) => `${name}: ${value}`),
    );
    await addUnmanagedEntry(world, [`dn: ${object}`, ...lines, ''].join('\n'));
    await eventually(
      'it to be undecided',
      async () => (await find(object))?.ignoredAt === null,
      SEEN_MS,
    );
    expect(await find(object)).toMatchObject({ goneAt: null, reason: null });
  }, 300_000);

  test('what nobody has decided about, and is gone, is listed no more', async () => {
    const object = `${world.config.files.toolHomes}/passing`;
    mkdirSync(homeOf(world, { tool: 'passing' }));
    await seen(object);
    renameSync(homeOf(world, { tool: 'passing' }), join(world.dir, 'passed'));
    await lost(object);
  }, 300_000);

  test('a member of the realm group is seen, though the role has changed the group since', async () => {
    await addMember(REALM_GROUP, `uid=trent,ou=people,${BASE}`);
    await admit(portal, 'carol');
    expect(await seen(`uid=trent,ou=people,${BASE} in ${REALM_GROUP}`)).toMatchObject({
      ...{ kind: 'member', name: 'trent' },
    });
    await changeDirectory(
      world,
      'ldapmodify',
      `dn: ${REALM_GROUP}\nchangetype: modify\ndelete: member\nmember: uid=trent,ou=people,${BASE}\n`,
    );
    await lost(`uid=trent,ou=people,${BASE} in ${REALM_GROUP}`);
  }, 300_000);

  test('a server that hangs hides nothing, and delays nothing', async () => {
    const pid = runningPid(world.tools) ?? 0;
    signalTree(pid, 'SIGSTOP');
    try {
      mkdirSync(homeOf(world, { person: 'meanwhile' }));
      await administer(world.replica.socket, `CREATE USER 's77778'@'%';`);
      await seen('s77778@%');
      await seen(`${world.config.files.personHomes}/meanwhile`);
      // whatever came of the look that hung is over when the next is
      const stopped = await lookedAt('toolsdb');
      const looked = await lookedAt('replica');
      await eventually('a look', async () => (await lookedAt('replica')) > looked, SEEN_MS);
      expect(await lookedAt('toolsdb')).toEqual(stopped);
      expect(await find('s77777@%')).toMatchObject({ goneAt: null });
      expect((await cli('list', 'unmanaged')).out).toContain('s77777@% on toolsdb');
    } finally {
      signalTree(pid, 'SIGCONT');
    }
  }, 300_000);

  test('nothing of it was touched', async () => {
    const directory = await readDirectory(world);
    for (const dn of [`ou=staff,ou=people,${BASE}`, `cn=project-shadow,ou=groups,${BASE}`]) {
      expect(directory.has(dn)).toBe(true);
    }
    expect(readdirSync(world.config.archives.homes)).toContain('tools.wiki.7');
    expect(readdirSync(world.config.archives.databases)).toContain('tools.ghost.1');
  });
});
