/**
 * Every kind of request, end to end on real servers, seen from outside. It is one scenario in order, and
 * therefore one long file.
 */
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { eventually } from '../eventually.ts';
import {
  dumpTables,
  faultsOf,
  homeOf,
  keepCopy,
  loginWith,
  query,
  readAccounts,
  readCredentials,
  readDirectory,
  readStillDirectory,
  settled,
} from '../outside.ts';
import { newPortalKey, openPortal, type HeardEvent, type Portal } from '../portal.ts';
import { openRunning, type Running } from '../running.ts';
import type { World } from '../../stack.ts';

const other = newPortalKey('wiki');
const BASE = 'dc=example,dc=org';
const person = (name: string) => `uid=${name},ou=people,${BASE}`;
const toolAccount = (name: string) => `uid=tools.${name},ou=people,ou=servicegroups,${BASE}`;
const toolGroup = (name: string) => `cn=tools.${name},ou=servicegroups,${BASE}`;
const sudoRule = (name: string) => `cn=runas-tools.${name},ou=sudoers,cn=tools,ou=projects,${BASE}`;
const realmGroup = `cn=project-tools,ou=groups,${BASE}`;

let running: Running;
let world: World;
let portal: Portal;
let wiki: Portal;

beforeAll(async () => {
  running = await openRunning('chain', {
    adjust: (config) => ({
      ...config,
      portals: [
        ...config.portals,
        {
          name: other.name,
          keys: [{ kid: other.kid, publicKey: other.publicKey }],
          kinds: ['person.create', 'access.request'],
          subjectEvents: false,
          speaksForAdmins: false,
        },
      ],
    }),
  });
  ({ world, portal } = running);
  wiki = openPortal(world, other);
});

afterAll(async () => {
  await wiki?.close();
  await running?.close();
});

/** An ed25519 key as ssh-keygen writes it into a .pub file (RFC 8709, section 4). */
function newSshKey(comment = ''): string {
  const { publicKey } = generateKeyPairSync('ed25519');
  const raw = Buffer.from(publicKey.export({ format: 'jwk' }).x as string, 'base64url');
  const field = (bytes: Buffer) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  };
  const blob = Buffer.concat([field(Buffer.from('ssh-ed25519')), field(raw)]);
  return `ssh-ed25519 ${blob.toString('base64')}${comment === '' ? '' : ` ${comment}`}`;
}

async function uidOf(account: string): Promise<number> {
  const [row] = await query<{ subject: number }>(
    world,
    'SELECT subject FROM names WHERE name = $1',
    [account],
  );
  return row?.subject ?? 0;
}

const membersOf = async (dn: string) => (await readDirectory(world)).get(dn)?.['member'];
const dataOf = ({ event, data }: HeardEvent) => ({ event, data });

describe('people', () => {
  test('person.create creates the account, in the shape of the directory', async () => {
    const key = newSshKey('alice@laptop');
    const id = await portal.get({
      kind: 'person.create',
      requestedBy: 'alice',
      shellName: 'alice',
      displayName: 'Alice Liddell',
      email: 'alice@example.org',
      key,
    });
    expect(portal.told(id)).toEqual(['request.accepted', 'person.ready', 'request.done']);
    const uid = await uidOf('alice');
    const entry = (await readDirectory(world)).get(person('alice'));
    expect(entry).toEqual({
      objectClass: [
        ...['chamberlainSealed', 'inetOrgPerson', 'ldapPublicKey', 'person', 'posixAccount'],
      ],
      chamberlainSeal: [expect.stringMatching(/^[0-9a-f]{16} \S{88} \{"kind":"person",/)],
      uid: ['alice'],
      cn: ['Alice Liddell'],
      sn: ['Alice Liddell'],
      uidNumber: [String(uid)],
      gidNumber: ['500'],
      homeDirectory: ['/home/alice'],
      loginShell: ['/bin/bash'],
      mail: ['alice@example.org'],
      sshPublicKey: [key.split(' ').slice(0, 2).join(' ')],
      description: [expect.stringMatching(/^SHA256:[A-Za-z0-9+/]{43} alice@laptop$/)],
    });
    expect(existsSync(homeOf(world, { person: 'alice' }))).toBe(false);
    expect((await readAccounts(world, 'tools')).has(`u${uid}`)).toBe(false);
  });

  test('person.update changes name and mail, and an equal value is not a change', async () => {
    const id = await portal.get({
      kind: 'person.update',
      requestedBy: 'alice',
      person: 'alice',
      displayName: 'Alice Pleasance Liddell',
      email: 'alice@example.org',
    });
    expect(portal.told(id)).toEqual(['request.accepted', 'person.updated', 'request.done']);
    expect((await portal.hear('person.updated', id)).data).toEqual({
      account: 'alice',
      fields: ['displayName'],
    });
    const entry = (await readDirectory(world)).get(person('alice'));
    expect(entry).toMatchObject({
      cn: ['Alice Pleasance Liddell'],
      sn: ['Alice Pleasance Liddell'],
      mail: ['alice@example.org'],
    });
  });

  test('key.add and key.remove change the keys in the directory', async () => {
    const key = newSshKey('spare key');
    const line = key.split(' ').slice(0, 2).join(' ');
    const added = await portal.get({ kind: 'key.add', requestedBy: 'alice', person: 'alice', key });
    const { fingerprint } = (await portal.hear('key.added', added)).data;
    const keys = async () => (await readDirectory(world)).get(person('alice'))?.['sshPublicKey'];
    expect(await keys()).toContain(line);
    expect(await keys()).toHaveLength(2);
    const removed = await portal.get({
      kind: 'key.remove',
      requestedBy: 'steward',
      person: 'alice',
      fingerprint,
    });
    expect(portal.told(removed)).toEqual(['request.accepted', 'key.removed', 'request.done']);
    expect(await keys()).toHaveLength(1);
    expect(await keys()).not.toContain(line);
  });

  test('a key with an end has it in the directory, too', async () => {
    const key = newSshKey();
    const id = await portal.get({
      kind: 'key.add',
      requestedBy: 'alice',
      person: 'alice',
      key,
      label: 'until spring',
      expiresAt: '2100-04-01T12:00:00+02:00',
    });
    const entry = (await readDirectory(world)).get(person('alice'));
    expect(entry?.['sshPublicKey']).toContain(`expiry-time="21000401100000Z" ${key}`);
    await portal.get({ kind: 'key.remove', requestedBy: 'alice', person: 'alice', key });
    expect((await portal.hear('key.added', id)).data).toMatchObject({ label: 'until spring' });
  });
});

describe('access', () => {
  test('a request for access waits, visibly, and an admin grants it: the requesting portal is told', async () => {
    await wiki.get({
      kind: 'person.create',
      requestedBy: 'bob',
      shellName: 'bob',
      displayName: 'Bob',
      email: 'bob@example.org',
    });
    const asked = await wiki.get({
      kind: 'access.request',
      requestedBy: 'bob',
      reason: 'I mend bridges',
    });
    expect(wiki.told(asked)).toEqual(['request.accepted', 'access.requested', 'request.done']);
    const { waiting } = JSON.parse(await world.chamberlain('requests', '--json')) as {
      waiting: { person: string; reason: string }[];
    };
    expect(waiting).toEqual([
      expect.objectContaining({ person: 'bob', reason: 'I mend bridges', portal: 'wiki' }),
    ]);
    expect(await membersOf(realmGroup)).not.toContain(person('bob'));

    const granted = await portal.get({
      kind: 'access.grant',
      requestedBy: 'steward',
      person: 'bob',
      reason: 'welcome',
    });
    const told = { event: 'access.granted', data: { account: 'bob', reason: 'welcome' } };
    expect(dataOf(await wiki.hear('access.granted'))).toEqual(told);
    expect(dataOf(await portal.hear('access.granted', granted))).toEqual(told);
    expect(await membersOf(realmGroup)).toContain(person('bob'));

    const uid = await uidOf('bob');
    const home = lstatSync(homeOf(world, { person: 'bob' }));
    expect([home.isDirectory(), home.uid, home.gid, home.mode & 0o7777]).toEqual([
      true,
      uid,
      500,
      0o700,
    ]);
    const file = readCredentials(world, { person: 'bob' });
    expect([file.user, file.uid, file.gid, file.mode]).toEqual([`u${uid}`, uid, uid, 0o440]);
    for (const server of ['replica', 'tools'] as const) {
      expect(await loginWith(world, server, file.path)).toBe(`u${uid}@%`);
    }
  });

  test('a refusal ends in an event with its reason, and the person may ask again', async () => {
    const ask = { kind: 'access.request', requestedBy: 'alice', reason: 'please' };
    await wiki.get(ask);
    const refused = await portal.get({
      kind: 'access.refuse',
      requestedBy: 'steward',
      person: 'alice',
      reason: 'Say what for.',
    });
    expect(portal.told(refused)).toEqual(['request.accepted', 'access.refused', 'request.done']);
    expect((await wiki.hear('access.refused')).data).toEqual({
      account: 'alice',
      reason: 'Say what for.',
    });
    expect(existsSync(homeOf(world, { person: 'alice' }))).toBe(false);
    await wiki.get(ask);
    await portal.get({ kind: 'access.grant', requestedBy: 'steward', person: 'alice' });
    expect(await membersOf(realmGroup)).toEqual(
      expect.arrayContaining([person('alice'), person('bob'), person('steward')]),
    );
  });

  test("an admin's own key grants access without a request, by the command line", async () => {
    await wiki.get({
      kind: 'person.create',
      requestedBy: 'carol',
      shellName: 'carol',
      displayName: 'Carol',
      email: 'carol@example.org',
    });
    await world.chamberlain('submit', 'access.grant', '--person', 'carol', '--wait');
    expect(await membersOf(realmGroup)).toContain(person('carol'));
  });
});

describe('tools', () => {
  test('tool.create creates group, account, sudo rule, home, credentials and database accounts', async () => {
    const id = await portal.get({
      kind: 'tool.create',
      requestedBy: 'alice',
      name: 'bridgebot',
      title: 'Mends bridges',
    });
    const uid = await uidOf('tools.bridgebot');
    expect(portal.told(id)).toEqual(['request.accepted', 'tool.ready', 'request.done']);
    expect((await portal.hear('tool.ready', id)).data).toEqual({
      tool: 'bridgebot',
      account: 'tools.bridgebot',
      uid,
    });
    const directory = await readDirectory(world);
    expect(directory.get(toolGroup('bridgebot'))).toEqual({
      objectClass: ['groupOfNames', 'posixGroup'],
      cn: ['tools.bridgebot'],
      gidNumber: [String(uid)],
      member: [person('alice'), toolAccount('bridgebot')],
    });
    expect(directory.get(toolAccount('bridgebot'))).toEqual({
      objectClass: [
        ...['chamberlainMember', 'chamberlainSealed', 'person', 'posixAccount', 'shadowAccount'],
        'top',
      ],
      chamberlainSeal: [expect.stringMatching(/^[0-9a-f]{16} \S{88} \{"kind":"tool",/)],
      memberOf: [toolGroup('bridgebot')],
      uid: ['tools.bridgebot'],
      cn: ['tools.bridgebot'],
      sn: ['tools.bridgebot'],
      uidNumber: [String(uid)],
      gidNumber: [String(uid)],
      homeDirectory: ['/data/project/bridgebot'],
      loginShell: ['/bin/bash'],
    });
    expect(directory.get(person('alice'))?.['memberOf']?.toSorted()).toEqual(
      [realmGroup, toolGroup('bridgebot')].toSorted(),
    );
    expect(directory.get(sudoRule('bridgebot'))).toEqual({
      objectClass: ['sudoRole'],
      cn: ['runas-tools.bridgebot'],
      sudoUser: ['%tools.bridgebot'],
      sudoHost: ['ALL'],
      sudoCommand: ['ALL'],
      sudoOption: ['!authenticate'],
      sudoRunAsUser: ['tools.bridgebot'],
    });
    const home = homeOf(world, { tool: 'bridgebot' });
    for (const folder of ['', 'public_html', 'logs']) {
      const seen = lstatSync(join(home, folder));
      expect([seen.isDirectory(), seen.uid, seen.gid, seen.mode & 0o7777]).toEqual([
        true,
        uid,
        uid,
        0o2775,
      ]);
    }
    expect(readdirSync(home).sort()).toEqual(['logs', 'public_html', 'replica.my.cnf']);
    expect(await faultsOf(world, ['bridgebot', 'admin'])).toEqual([]);
  });

  test("the file's password logs in on both servers, and may do what it should, but no more", async () => {
    const uid = await uidOf('tools.bridgebot');
    const { path } = readCredentials(world, { tool: 'bridgebot' });
    for (const server of ['replica', 'tools'] as const) {
      expect(await loginWith(world, server, path)).toBe(`s${uid}@%`);
    }
    expect(await loginWith(world, 'replica', path, 'SELECT count(*) FROM enwiki_p.page')).toBe('2');
    const mine = `s${uid}__x`;
    await loginWith(world, 'tools', path, `CREATE DATABASE ${mine}; DROP DATABASE ${mine}`);
    for (const database of [`s${uid}_x`, `s${uid}1__x`, `s${uid + 1}__x`, 'enwiki_p']) {
      const made = loginWith(world, 'tools', path, `CREATE DATABASE ${database}`);
      await expect(made).rejects.toThrow('denied');
    }
  });

  test('maintainer.add and maintainer.remove change the group, people and tools alike', async () => {
    await portal.get({
      kind: 'maintainer.add',
      requestedBy: 'alice',
      tool: 'bridgebot',
      person: 'bob',
    });
    await portal.get({ kind: 'tool.create', requestedBy: 'bob', name: 'helper', title: 'Helps' });
    const id = await portal.get({
      kind: 'maintainer.add',
      requestedBy: 'bob',
      tool: 'bridgebot',
      maintainers: ['tools.helper', 'carol'],
    });
    expect(portal.told(id)).toEqual(['request.accepted', 'maintainer.added', 'request.done']);
    expect(await membersOf(toolGroup('bridgebot'))).toEqual(
      [
        ...['alice', 'bob', 'carol'].map(person),
        ...['bridgebot', 'helper'].map(toolAccount),
      ].sort(),
    );
    const removed = await portal.get({
      kind: 'maintainer.remove',
      requestedBy: 'bob',
      tool: 'bridgebot',
      person: 'carol',
    });
    expect(portal.told(removed)).toEqual([
      'request.accepted',
      'maintainer.removed',
      'request.done',
    ]);
    expect(await membersOf(toolGroup('bridgebot'))).not.toContain(person('carol'));
    // a maintaining tool cannot request anything: only people can
    const asTool = await portal.ask({
      kind: 'tool.update',
      requestedBy: 'tools.helper',
      tool: 'bridgebot',
      title: 'x',
    });
    expect(asTool.code).toBe('PERSON_UNKNOWN');
  });

  test('tool.update changes the title, and touches nothing', async () => {
    const before = await dumpTables(world, []);
    const id = await portal.get({
      kind: 'tool.update',
      requestedBy: 'bob',
      tool: 'bridgebot',
      title: 'Mends bridges and locks',
    });
    expect(portal.told(id)).toEqual(['request.accepted', 'tool.updated', 'request.done']);
    expect((await dumpTables(world, []))['convergence']).toEqual(before['convergence']);
  });

  test('after credentials.rotate at once, only the new password works, on both servers', async () => {
    const uid = await uidOf('tools.bridgebot');
    const before = readCredentials(world, { tool: 'bridgebot' });
    const old = keepCopy(world, before);
    const id = await portal.get({
      kind: 'credentials.rotate',
      requestedBy: 'bob',
      tool: 'bridgebot',
      atOnce: true,
    });
    expect((await portal.hear('credentials.rotated', id)).data).toEqual({
      account: 'tools.bridgebot',
      epoch: 2,
      overlapSeconds: 0,
    });
    const after = readCredentials(world, { tool: 'bridgebot' });
    expect(after.password).not.toBe(before.password);
    for (const server of ['replica', 'tools'] as const) {
      await expect(loginWith(world, server, old)).rejects.toThrow('Access denied');
      expect(await loginWith(world, server, after.path)).toBe(`s${uid}@%`);
    }
    await portal.get({ kind: 'credentials.rotate', requestedBy: 'bob', person: 'bob' });
    const own = readCredentials(world, { person: 'bob' });
    expect(await loginWith(world, 'tools', own.path)).toBe(`u${await uidOf('bob')}@%`);
  });
});

describe('revoking access', () => {
  test('access.revoke takes membership and all groups, locks the database account, keeps the data', async () => {
    const uid = await uidOf('bob');
    const { path } = readCredentials(world, { person: 'bob' });
    const id = await portal.get({
      kind: 'access.revoke',
      requestedBy: 'steward',
      person: 'bob',
      reason: 'left',
    });
    expect(portal.told(id)).toEqual([
      'request.accepted',
      // of bridgebot and helper, whose passwords differ from now on
      'credentials.revoked',
      'credentials.revoked',
      'access.revoked',
      'request.done',
    ]);
    const directory = await readDirectory(world);
    expect(directory.get(realmGroup)?.['member']).not.toContain(person('bob'));
    expect(directory.get(toolGroup('bridgebot'))?.['member']).not.toContain(person('bob'));
    expect(directory.get(toolGroup('helper'))?.['member']).toEqual([toolAccount('helper')]);
    expect(directory.has(person('bob'))).toBe(true);
    for (const server of ['replica', 'tools'] as const) {
      await expect(loginWith(world, server, path)).rejects.toThrow('locked');
    }
    expect(lstatSync(homeOf(world, { person: 'bob' })).uid).toBe(uid);
    const asked = await portal.ask({
      kind: 'tool.update',
      requestedBy: 'bob',
      tool: 'helper',
      title: 'x',
    });
    expect(asked.code).toBe('PERSON_NOT_REALM_MEMBER');
  });

  test('granted again, everything is back, and the same password works', async () => {
    await portal.get({ kind: 'access.grant', requestedBy: 'steward', person: 'bob' });
    const directory = await readDirectory(world);
    expect(directory.get(toolGroup('bridgebot'))?.['member']).toContain(person('bob'));
    expect(directory.get(toolGroup('helper'))?.['member']).toContain(person('bob'));
    const { path } = readCredentials(world, { person: 'bob' });
    for (const server of ['replica', 'tools'] as const) {
      expect(await loginWith(world, server, path)).toBe(`u${await uidOf('bob')}@%`);
    }
  });
});

describe('the whole', () => {
  test('the same requests again change nothing, and get their first verdict', async () => {
    // the second passwords, for which those who lost access have left a time that may come in between
    await query(world, 'UPDATE credentials SET again_at = NULL, again_by = NULL');
    await settled(world);
    await eventually('no orphan to be left, because everybody has access again', async () => {
      const orphans = await query(world, 'SELECT FROM tools WHERE orphaned_at IS NOT NULL');
      return orphans.length === 0;
    });
    const wish = {
      kind: 'tool.create',
      requestedBy: 'alice',
      name: 'once',
      title: 'Made once',
    };
    const id = await portal.get(wish);
    await eventually('the audit to be sealed', async () => {
      return (await query(world, 'SELECT FROM audit_unsealed')).length === 0;
    });
    const before = {
      tables: await dumpTables(world, []),
      directory: await readStillDirectory(world),
      file: readCredentials(world, { tool: 'once' }),
    };
    const heard = portal.heard.length;
    await portal.send(wish, { id });
    await portal.ask(wish); // refused: by now the previous one has been handled
    await settled(world);
    expect(portal.heard.slice(heard).filter(({ request }) => request === id)).toEqual([]);
    const now = await dumpTables(world, []);
    const gone = Object.entries(before.tables).flatMap(([table, rows]) =>
      rows.filter(
        (row) =>
          ![
            ...['id_ranges', 'event_sequences', 'event_deliveries', 'directory_heartbeat'],
            ...['place_markers', 'unmanaged_looks', 'leases', 'troubles'],
          ].includes(table) && !now[table]?.includes(row),
      ),
    );
    expect(gone).toEqual([]);
    const directory = await readStillDirectory(world);
    for (const [dn, entry] of before.directory) {
      expect([dn, directory.get(dn)]).toEqual([dn, entry]);
    }
    expect(readCredentials(world, { tool: 'once' })).toEqual(before.file);
  });

  test('a survey of everything finds nothing to do', async () => {
    const plan = JSON.parse(await world.chamberlain('plan', '--all', '--json')) as Record<
      string,
      unknown
    >;
    expect(plan).toMatchObject({ steps: [], findings: [], waiting: [], unreadable: [] });
  });

  test('a worker that handles a subject again does nothing', async () => {
    const before = await readStillDirectory(world);
    const file = readCredentials(world, { tool: 'bridgebot' });
    await query(
      world,
      `SELECT look_again(ARRAY[subject], ARRAY[role], false, ARRAY[false])
       FROM convergence ORDER BY subject, role`,
    );
    await settled(world);
    expect(await readStillDirectory(world)).toEqual(before);
    expect(readCredentials(world, { tool: 'bridgebot' })).toEqual(file);
  });

  test("every portal's events came in order, none twice and none missing", async () => {
    for (const each of [portal, wiki]) {
      expect(each.disorder).toEqual([]);
      const [row] = await query<{ last: string }>(
        world,
        'SELECT last FROM event_sequences WHERE portal = $1',
        [each.name],
      );
      expect(each.heard.length).toBe(Number(row?.last));
    }
    expect(
      await query(world, 'SELECT event FROM events WHERE portal LIKE $1', ['admin.%']),
    ).toEqual([]);
  });

  test('the audit names requesters and approvers, and nothing of people but their names', async () => {
    const rows = await query<{ text: string }>(
      world,
      'SELECT to_jsonb(a)::text AS text FROM audit a',
    );
    const text = rows.map((row) => row.text).join('\n');
    for (const personal of ['Liddell', '@example.org', 'I mend bridges', 'ssh-ed25519']) {
      expect(text).not.toContain(personal);
    }
    const unsealed = await query(
      world,
      'SELECT id FROM audit a WHERE NOT EXISTS (SELECT FROM audit_seals s WHERE s.audit_id = a.id)',
    );
    expect(unsealed.length).toBeLessThanOrEqual(1);
  });
});
