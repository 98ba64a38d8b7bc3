/** What the directory role tells login hosts, with real servers. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { parseMarker, type Marker } from '../../src/model/marker.ts';
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

test('it counts people, and those with keys, and beats', async () => {
  await running.portal.get({
    kind: 'key.add',
    requestedBy: 'alice',
    person: 'alice',
    key: newKey(),
  });
  await settled(running.world);
  const first = await eventually('the counts', async () => {
    const marker = await readMarker();
    return marker.people === 3 && marker.keyed === 1 && marker;
  });
  expect(first.overdue).toEqual([]);
  expect(Math.abs(Date.now() - Date.parse(first.at))).toBeLessThan(10_000);
  await eventually('another beat', async () => (await readMarker()).at > first.at);
});

test('one whom the directory does not show for the role is still counted', async () => {
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

test('a revocation that the directory refuses is overdue, until it is done', async () => {
  const { world, portal } = running;
  const group = `cn=project-tools,ou=groups,${world.config.ldap.base}`;
  const rule = `{0}to dn.base="${group}" attrs=member by dn.exact="${world.ldapAdmin.dn}" write by * read`;
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
    await eventually('alice is overdue', async () => (await readMarker()).overdue.includes(alice));
    expect((await readMarker()).overdue).toEqual([alice]);
  } finally {
    configure('delete');
  }
  await eventually('nobody is overdue', async () => (await readMarker()).overdue.length === 0);
});
