/** What the directory role publishes for login hosts, with real servers. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { parseMarker, type Marker } from '../../src/seals/heartbeat.ts';
import { parseSshKey } from '../../src/ssh-keys/ssh-key.ts';
import { parseSeal, payloadOf } from '../../src/seals/seal.ts';
import { modify, newKey } from '../login-host/agent-world.ts';
import { eventually } from '../scenarios/eventually.ts';
import { changeDirectory, query, readDirectory, settled } from '../scenarios/outside.ts';
import { admit, openRunning, type Running } from '../scenarios/running.ts';

let running: Running;

beforeAll(async () => {
  running = await openRunning('marker');
  await admit(running.portal, 'alice', 'bob');
});

afterAll(async () => running.close());

async function readMarker(): Promise<Marker> {
  const { base } = running.world.config.ldap;
  const entries = await readDirectory(running.world);
  const [text = ''] = entries.get(`cn=chamberlain,${base}`)?.['description'] ?? [];
  const marker = parseMarker(text);
  if (marker === undefined) throw new Error(`no marker: ${text}`);
  return marker;
}

async function uidOf(name: string): Promise<number> {
  const [row] = await query<{ uid: number }>(
    running.world,
    'SELECT uid FROM people WHERE shell_name = $1',
    [name],
  );
  return row?.uid ?? 0;
}

function fingerprintOf(line: string): string {
  const verdict = parseSshKey(line);
  return verdict.ok ? verdict.key.fingerprint : '';
}

async function numberOf(name: string): Promise<number> {
  const { base } = running.world.config.ldap;
  const entries = await readDirectory(running.world);
  const [text = ''] = entries.get(`uid=${name},ou=people,${base}`)?.['chamberlainSeal'] ?? [];
  return parseSeal(payloadOf(text) ?? '')?.number ?? 0;
}

test('it counts people and tools, and beats', async () => {
  await running.portal.get({ kind: 'tool.create', requestedBy: 'alice', name: 'wiki', title: 'w' });
  await settled(running.world);
  const first = await eventually('the counts', async () => {
    const marker = await readMarker();
    return marker.people === 3 && marker.tools === 2 && marker;
  });
  expect(first.floors).toEqual([]);
  expect(Math.abs(Date.now() - Date.parse(first.clock))).toBeLessThan(60_000);
  expect(Math.abs(Date.now() - Date.parse(first.at))).toBeLessThan(60_000);
  await eventually('another beat', async () => (await readMarker()).at > first.at);
});

test('subjects are counted again after a notice of a change or a lost connection, and not before', async () => {
  const { world } = running;
  const bob = await uidOf('bob');
  const nextBeat = async () => {
    const { at } = await readMarker();
    return eventually('another beat', async () => {
      const marker = await readMarker();
      return marker.at > at && marker.people;
    });
  };
  const untilCounted = (people: number) =>
    eventually(`${people} people`, async () => (await readMarker()).people === people);
  const count = (isCounted: boolean) =>
    query(
      world,
      `UPDATE convergence SET applied = CASE WHEN $2 THEN wanted ELSE 0 END
       WHERE subject = $1 AND role = 'directory'`,
      [bob, isCounted],
    );
  // nothing else changes meanwhile
  const setState = (state: string) =>
    query(world, 'UPDATE convergence SET state = $2 WHERE subject = $1', [bob, state]);
  await setState('parked');
  // once more, after all notices until now
  await nextBeat();
  await nextBeat();
  // no notice says that less is applied than before
  await count(false);
  expect([await nextBeat(), await nextBeat()]).toEqual([3, 3]);
  await query(world, `SELECT pg_notify('chamberlain', 'due')`);
  await untilCounted(2);
  await count(true);
  await untilCounted(3);
  await count(false);
  await query(
    world,
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'chamberlain directory'`,
  );
  await untilCounted(2);
  await count(true);
  await setState('applied');
  await untilCounted(3);
});

test('a person whom the directory hides from the role still counts', async () => {
  const { base } = running.world.config.ldap;
  await changeDirectory(
    running.world,
    'ldapmodify',
    `dn: uid=bob,ou=people,${base}\nchangetype: delete\n`,
  );
  const { at } = await readMarker();
  const next = await eventually('another beat', async () => {
    const marker = await readMarker();
    return marker.at > at && marker;
  });
  expect(next.people).toBe(3);
});

test('a removed key is published as the number of the newer seal, once the directory has that seal', async () => {
  const key = newKey();
  const change = { requestedBy: 'bob', person: 'bob' };
  await running.portal.get({ kind: 'key.add', ...change, key });
  await settled(running.world);
  const bob = await uidOf('bob');
  expect((await readMarker()).floors).toEqual([]);
  await running.portal.get({ kind: 'key.remove', ...change, fingerprint: fingerprintOf(key) });
  await settled(running.world);
  const { floors } = await eventually('a floor', async () => {
    const marker = await readMarker();
    return marker.floors.length > 0 && marker;
  });
  expect(floors).toEqual([[bob, await numberOf('bob')]]);
});

test('a revocation that the directory refuses is published as the number that the seal should have', async () => {
  const { world, portal } = running;
  const people = `ou=people,${world.config.ldap.base}`;
  const rule = `{0}to dn.onelevel="${people}" attrs=chamberlainSeal by dn.exact="${world.ldapAdmin.dn}" write by * read`;
  const configure = (operation: string) =>
    execFileSync('ldapmodify', ['-Q', '-Y', 'EXTERNAL', '-H', world.slapd.uri], {
      input: modify('olcDatabase={1}mdb,cn=config', [operation, 'olcAccess', rule]),
      stdio: ['pipe', 'ignore', 'pipe'],
    });
  const alice = await uidOf('alice');
  configure('add');
  try {
    await portal.send({
      kind: 'access.revoke',
      requestedBy: 'steward',
      person: 'alice',
      reason: 'x',
    });
    const before = await numberOf('alice');
    const floor = await eventually('a floor', async () => {
      const { floors } = await readMarker();
      return floors.find(([uid]) => uid === alice);
    });
    expect(floor[1]).toBeGreaterThan(before);
  } finally {
    configure('delete');
  }
  await settled(world);
  const { floors } = await readMarker();
  expect(floors).toContainEqual([alice, await numberOf('alice')]);
});
