/**
 * What belongs to another, or was made hostile by a tenant: a finding or new credentials, never a write to it.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { World } from '../../stack.ts';
import { runCli } from '../../cli/run-cli.ts';
import { eventually } from '../eventually.ts';
import {
  addUnmanagedEntry,
  changeDirectory,
  faultsOf,
  homeOf,
  keepCopy,
  loginWith,
  query,
  readAccounts,
  readCredentials,
  readDirectory,
  readStillDirectory,
} from '../outside.ts';
import type { Portal, Wish } from '../portal.ts';
import { admit, openRunning, type Running } from '../running.ts';

const BASE = 'dc=example,dc=org';
let running: Running;
let world: World;
let portal: Portal;

beforeAll(async () => {
  running = await openRunning('unmanaged', { looksMs: 3_600_000 });
  ({ world, portal } = running);
  await admit(portal, 'alice');
});

afterAll(async () => {
  await running?.close();
});

const tool = (name: string): Wish => ({
  kind: 'tool.create',
  requestedBy: 'alice',
  name,
  title: `The tool ${name}`,
});
const person = (shellName: string): Wish => ({
  kind: 'person.create',
  requestedBy: shellName,
  shellName,
  displayName: `The ${shellName}`,
  email: `${shellName}@example.org`,
});

/** The number that the next account of that kind will have, if nobody is seen to have it. */
async function nextId(kind: 'person' | 'tool'): Promise<number> {
  const [row] = await query<{ next: number }>(
    world,
    'SELECT next FROM id_ranges WHERE kind = $1 AND next <= last ORDER BY first LIMIT 1',
    [kind],
  );
  return row?.next ?? 0;
}

async function standing(account: string): Promise<Record<string, [string, string | null]>> {
  const rows = await query<{ role: string; state: string; code: string | null }>(
    world,
    `SELECT c.role, c.state, c.code FROM convergence c JOIN names n ON n.subject = c.subject
     WHERE n.name = $1`,
    [account],
  );
  return Object.fromEntries(rows.map(({ role, state, code }) => [role, [state, code]]));
}

const entryOf = async (dn: string) => (await readDirectory(world, { operational: true })).get(dn);
const surveyAll = () => world.chamberlain('plan', '--all').catch((error: Error) => error.message);

/** Sends a request that is accepted and then stuck; returns the portal's events. */
async function stick(wish: Wish) {
  const { id, verdict } = await portal.ask(wish);
  expect(verdict).toBe('accepted');
  const told = await portal.hear('request.stuck', id);
  expect(portal.told(id)).toEqual(['request.accepted', 'request.stuck']);
  return told;
}

function unmanagedPerson(name: string, uid: number): string {
  return [
    `dn: uid=${name},ou=people,${BASE}`,
    ...['person', 'inetOrgPerson', 'posixAccount'].map((each) => `objectClass: ${each}`),
    ...[`uid: ${name}`, `cn: ${name} of old`, `sn: old`, `uidNumber: ${uid}`, 'gidNumber: 500'],
    ...[`homeDirectory: /srv/${name}`, 'description: was here before', ''],
  ].join('\n');
}

function unmanagedGroup(cn: string, gid: number): string {
  return [
    `dn: cn=${cn},ou=servicegroups,${BASE}`,
    ...['groupOfNames', 'posixGroup'].map((each) => `objectClass: ${each}`),
    ...[`cn: ${cn}`, `gidNumber: ${gid}`, `member: cn=chamberlain,${BASE}`, ''],
  ].join('\n');
}

describe('in the directory', () => {
  test("a name that is another's is a finding, the request is stuck, and the entry stays as it is", async () => {
    const last = world.config.ids.tools.at(-1)?.last ?? 0;
    await addUnmanagedEntry(world, unmanagedGroup('tools.ghost', last));
    const dn = `cn=tools.ghost,ou=servicegroups,${BASE}`;
    const before = await entryOf(dn);
    const told = await stick(tool('ghost'));
    expect(told).toMatchObject({ code: 'NAME_FOREIGN', data: { role: 'directory' } });
    expect(told.data['sentence']).toContain('tools.ghost');
    expect(await entryOf(dn)).toEqual(before);
    const directory = await readDirectory(world);
    expect(directory.has(`cn=runas-tools.ghost,ou=sudoers,cn=tools,ou=projects,${BASE}`)).toBe(
      false,
    );
    const { homes, databases } = await eventually('the other roles', async () => {
      const seen = await standing('tools.ghost');
      return ['homes', 'databases'].every((role) => seen[role]?.[0] === 'applied') && seen;
    });
    expect([homes, databases]).toEqual([
      ['applied', null],
      ['applied', null],
    ]);
    expect((await portal.ask({ ...tool('ghost') })).code).toBe('NAME_TAKEN');
  });

  test("a person's name that is another's likewise", async () => {
    const last = world.config.ids.people.at(-1)?.last ?? 0;
    await addUnmanagedEntry(world, unmanagedPerson('olaf', last));
    const dn = `uid=olaf,ou=people,${BASE}`;
    const before = await entryOf(dn);
    expect(await stick(person('olaf'))).toMatchObject({ code: 'NAME_FOREIGN' });
    // granting access must not make the other one a realm member
    await portal.ask({ kind: 'access.grant', requestedBy: 'steward', person: 'olaf' });
    await eventually(
      'his row',
      async () => (await standing('olaf'))['databases']?.[0] === 'applied',
    );
    await eventually(
      'his row',
      async () => (await standing('olaf'))['directory']?.[0] === 'parked',
    );
    expect(await entryOf(dn)).toEqual(before);
    const group = (await readDirectory(world)).get(`cn=project-tools,ou=groups,${BASE}`);
    expect(group?.['member']).not.toContain(dn);
  });

  test("a number that is another's is a finding, and the entry stays as it is", async () => {
    const id = await nextId('tool');
    await addUnmanagedEntry(world, unmanagedGroup('tools.holder', id));
    const dn = `cn=tools.holder,ou=servicegroups,${BASE}`;
    const before = await entryOf(dn);
    const told = await stick(tool('unlucky'));
    expect(told).toMatchObject({ code: 'ID_FOREIGN', subject: id });
    expect(await entryOf(dn)).toEqual(before);
  });

  test('once a survey has seen them, names are refused and numbers are skipped', async () => {
    const last = world.config.ids.tools.at(-1)?.last ?? 0;
    const [nextTool, nextPerson] = [await nextId('tool'), await nextId('person')];
    await addUnmanagedEntry(world, unmanagedGroup('tools.phantom', last - 1));
    await addUnmanagedEntry(
      world,
      unmanagedPerson('phantom', (world.config.ids.people.at(-1)?.last ?? 0) - 1),
    );
    await addUnmanagedEntry(world, unmanagedGroup('tools.next', nextTool));
    await addUnmanagedEntry(world, unmanagedPerson('next', nextPerson));
    const before = await readStillDirectory(world);
    await surveyAll();
    expect((await portal.ask(tool('phantom'))).code).toBe('NAME_FOREIGN');
    expect((await portal.ask(tool('Phantom'))).code).toBe('NAME_FOREIGN');
    expect((await portal.ask(person('phantom'))).code).toBe('NAME_FOREIGN');
    await portal.get(tool('lucky'));
    await portal.get(person('lucky'));
    const [uids] = await query<{ tool: number; person: number }>(
      world,
      `SELECT (SELECT uid FROM tools WHERE name = 'lucky') AS tool,
              (SELECT uid FROM people WHERE shell_name = 'lucky') AS person`,
    );
    expect(uids).toEqual({ tool: nextTool + 1, person: nextPerson + 1 });
    expect(await faultsOf(world, ['lucky'])).toEqual([]);
    const after = await readStillDirectory(world);
    before.delete(`uid=alice,ou=people,${BASE}`); // she created a tool, so she is in one more group
    for (const [dn, entry] of before) expect([dn, after.get(dn)]).toEqual([dn, entry]);
  });

  test('a referral, an alias, an oversized entry and an endless name do not stop other work', async () => {
    const places = ['ou=people', 'ou=people,ou=servicegroups', 'ou=servicegroups', 'ou=groups'];
    const add = async (dn: string, classes: string[], ...lines: string[]) => {
      const [, attribute, name] = /^(\w+)=([^,]+),/.exec(dn) ?? [];
      const text = [`dn: ${dn},${BASE}`, ...classes.map((each) => `objectClass: ${each}`)];
      await addUnmanagedEntry(world, [...text, `${attribute}: ${name}`, ...lines, ''].join('\n'));
    };
    for (const place of [...places, 'ou=projects', 'ou=sudoers,cn=tools,ou=projects']) {
      const target = `aliasedObjectName: uid=alice,ou=people,${BASE}`;
      await add(
        `cn=tools.away,${place}`,
        ['referral', 'extensibleObject'],
        'ref: ldap://x.example',
      );
      await add(`cn=tools.aside,${place}`, ['alias', 'extensibleObject'], target);
      await add(`cn=tools.large,${place}`, ['device', 'extensibleObject']);
      const dn = `cn=tools.large,${place},${BASE}`;
      for (let i = 0; i < 17; i++) {
        const value = `mail: ${i}${'x'.repeat(2 ** 20)}`;
        await changeDirectory(
          world,
          'ldapmodify',
          `dn: ${dn}\nchangetype: modify\nadd: mail\n${value}\n`,
        );
      }
    }
    const endless = randomBytes(4000).toString('hex');
    await add('cn=endless,ou=servicegroups', ['device'], `cn: ${endless}`);

    await portal.get(person('undisturbed'));
    await portal.get(tool('undisturbed'));
    expect(await faultsOf(world, ['undisturbed'])).toEqual([]);
    const plan = await world.chamberlain('plan', '--all').catch((error: Error) => error.message);
    expect(plan).not.toContain('UNREADABLE');
    expect(plan).not.toContain('undisturbed');
    for (const name of ['away', 'aside', 'large']) {
      expect((await portal.ask(tool(name))).code).toBe('NAME_FOREIGN');
    }
    const patient = ['--timeout', '20']; // the machine may be busy with other things
    const explained = await world.chamberlain('explain', ...patient, 'tools.undisturbed');
    expect(explained).not.toContain('UNREADABLE');
    const examined = await eventually('all checks to be in time', async () => {
      const { out } = await runCli(['doctor'], { config: world.configFile });
      return !/no answer within|counts is not known/u.test(out) && out;
    });
    expect(examined).toContain(', 0 unreadable, 0 not looked at');
  });
});

describe('in place of a home', () => {
  test.each([
    ['a file', 'filehome', (path: string) => writeFileSync(path, 'keep me')],
    ['a symlink to /etc', 'etchome', (path: string) => symlinkSync('/etc', path)],
    [
      "another uid's directory",
      'theirhome',
      (path: string) => {
        mkdirSync(path, { mode: 0o700 });
        writeFileSync(join(path, 'theirs'), 'keep me', { mode: 0o600 });
        chownSync(path, 12_345, 12_345);
      },
    ],
    ['a FIFO', 'fifohome', (path: string) => void execFileSync('mkfifo', [path])],
    [
      'a symlink to nothing',
      'danglinghome',
      (path: string) => symlinkSync('/nowhere/at/all', path),
    ],
  ])('%s is a finding, and stays as it is', async (_what, name, make) => {
    const path = homeOf(world, { tool: name });
    make(path);
    const see = () => {
      const { ino, mode, uid, gid, size } = lstatSync(path);
      const what = lstatSync(path);
      return {
        ...{ ino, mode, uid, gid, size },
        link: what.isSymbolicLink() && readlinkSync(path),
        inside: what.isDirectory() && readdirSync(path),
        text: what.isFile() && readFileSync(path, 'utf8'),
      };
    };
    const [before, etc] = [see(), lstatSync('/etc')];
    const told = await stick(tool(name));
    expect(told).toMatchObject({ code: 'PATH_FOREIGN', data: { role: 'homes' } });
    expect(see()).toEqual(before);
    for (const each of ['public_html', 'logs', 'replica.my.cnf']) {
      expect(readdirSync('/etc')).not.toContain(each);
    }
    expect([lstatSync('/etc').uid, lstatSync('/etc').mode]).toEqual([etc.uid, etc.mode]);
    await eventually(
      'the directory',
      async () => (await standing(`tools.${name}`))['directory']?.[0] === 'applied',
    );
    expect((await standing(`tools.${name}`))['databases']?.[0]).toBe('waiting');
    const [row] = await query<{ uid: number }>(world, 'SELECT uid FROM tools WHERE name = $1', [
      name,
    ]);
    expect((await readAccounts(world, 'tools')).has(`s${row?.uid}`)).toBe(false);
  });

  test('once it is moved away, the next touch creates the home, and the request is done after all', async () => {
    rmSync(homeOf(world, { tool: 'filehome' }));
    await portal.get({ kind: 'credentials.rotate', requestedBy: 'alice', tool: 'filehome' });
    expect(await faultsOf(world, ['filehome'])).toEqual([]);
    const ready = await eventually('tool.ready', () =>
      portal.heard.find(({ event, data }) => event === 'tool.ready' && data['tool'] === 'filehome'),
    );
    await portal.hear('request.done', ready.request ?? '');
    expect(portal.told(ready.request ?? '')).toEqual([
      'request.accepted',
      'request.stuck',
      'tool.ready',
      'request.done',
    ]);
  });
});

describe('in place of a credentials file', () => {
  /** A place where nothing may be written: a file outside all homes, which links of tenants point to. */
  const sentinel = () => join(world.dir, 'sentinel');

  const makeHostile: [string, (path: string, uid: number) => void][] = [
    ['emptied', (path) => truncateSync(path)],
    ['removed', (path) => rmSync(path)],
    [
      'renamed away, with another in its place',
      (path, uid) => {
        renameSync(path, `${path}.mine`);
        writeFileSync(path, `[client]\nuser = s${uid}\npassword = chosenbythetenant\n`, {
          mode: 0o440,
        });
        chownSync(path, uid, uid);
      },
    ],
    [
      'a symlink out of the home',
      (path, uid) => {
        rmSync(path);
        symlinkSync(sentinel(), path);
        lchownSync(path, uid, uid);
      },
    ],
    [
      'a symlink to another credentials file',
      (path, uid) => {
        rmSync(path);
        symlinkSync(join(homeOf(world, { tool: 'admin' }), 'replica.my.cnf'), path);
        lchownSync(path, uid, uid);
      },
    ],
    [
      'a FIFO',
      (path, uid) => {
        rmSync(path);
        execFileSync('mkfifo', [path]);
        chownSync(path, uid, uid);
      },
    ],
    [
      'a second name of a file outside',
      (path) => {
        rmSync(path);
        linkSync(sentinel(), path);
      },
    ],
    ['readable for all', (path) => execFileSync('chmod', ['0644', path])],
    ['of megabytes', (path) => truncateSync(path, 64 << 20)],
  ];

  test.each(
    makeHostile.flatMap(([what, make], index) => [
      [what, 'touch', `touched${index}`, make] as const,
      [what, 'rotate', `rotated${index}`, make] as const,
    ]),
  )(
    '%s, then a %s: new credentials, and no write through the old file',
    async (_what, how, name, make) => {
      await portal.get(tool(name));
      const before = readCredentials(world, { tool: name });
      const old = keepCopy(world, before);
      writeFileSync(sentinel(), 'SENTINEL', { mode: 0o640 });
      const see = () => {
        const { ino, mode, uid, gid, mtimeMs } = lstatSync(sentinel());
        return { ino, mode, uid, gid, mtimeMs, text: readFileSync(sentinel(), 'utf8') };
      };
      const outside = see();
      const admin = readCredentials(world, { tool: 'admin' });
      make(before.path, before.uid);
      if (how === 'rotate') {
        const wish = { requestedBy: 'alice', tool: name, atOnce: true };
        await portal.get({ kind: 'credentials.rotate', ...wish });
      } else {
        await query(world, `SELECT touch_generation($1, 'homes')`, [before.uid]);
        await eventually('it', async () => (await faultsOf(world, [name])).length === 0);
      }
      expect(await faultsOf(world, [name])).toEqual([]);
      expect(see()).toEqual(outside);
      expect(readCredentials(world, { tool: 'admin' })).toEqual(admin);
      const after = readCredentials(world, { tool: name });
      expect(after.password).not.toBe(before.password);
      for (const server of ['replica', 'tools'] as const) {
        expect(await loginWith(world, server, after.path)).toBe(`s${before.uid}@%`);
        await expect(loginWith(world, server, old)).rejects.toThrow('Access denied');
      }
    },
  );

  test('a directory in its place is a finding, and stays with its content', async () => {
    await portal.get(tool('cellar'));
    const { path, uid } = readCredentials(world, { tool: 'cellar' });
    rmSync(path);
    mkdirSync(path);
    chownSync(path, uid, uid);
    writeFileSync(join(path, 'mine'), 'keep me');
    const { id } = await portal.ask({
      kind: 'credentials.rotate',
      requestedBy: 'alice',
      tool: 'cellar',
    });
    expect(await portal.hear('request.stuck', id)).toMatchObject({ code: 'PATH_FOREIGN' });
    expect(readFileSync(join(path, 'mine'), 'utf8')).toBe('keep me');
  });

  test('a home that its tenant swapped for a link is never followed', async () => {
    await portal.get(tool('swapped'));
    const home = homeOf(world, { tool: 'swapped' });
    renameSync(home, `${home}.away`);
    const elsewhere = join(world.dir, 'elsewhere');
    mkdirSync(elsewhere);
    symlinkSync(elsewhere, home);
    const { id } = await portal.ask({
      kind: 'credentials.rotate',
      requestedBy: 'alice',
      tool: 'swapped',
    });
    expect(await portal.hear('request.stuck', id)).toMatchObject({ code: 'PATH_FOREIGN' });
    expect(readdirSync(elsewhere)).toEqual([]);
  });
});

test('the events of all this came in order', () => {
  expect(portal.disorder).toEqual([]);
});
