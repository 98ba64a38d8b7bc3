/**
 * After a person is deleted, nothing that they wrote, and nothing about them, is left: all tables and all of
 * Redis are searched for each text that real requests have brought in.
 */
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { closeInbox, openInbox, tidyInbox } from '../../../src/backends/redis/request-queues.ts';
import type { World } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { dumpRedis, dumpTables, query, settled } from '../outside.ts';
import { openPortal, type Portal } from '../portal.ts';
import { admit, openRunning, type Running } from '../running.ts';

const KEY_DATA = 'AAAAC3NzaC1lZDI1NTE5AAAAIHKUwH8v/5b4GYB8M7oRkUEjfDDPGJmKzYnxo5Cd2yqn';
const KEY = `ssh-ed25519 ${KEY_DATA}`;
const MARKS = {
  name: 'Zaphod Marked',
  newName: 'Zaphod Markedtoo',
  email: 'marked@zaphod.example',
  key: KEY_DATA,
  label: 'laptop-marked',
  asked: 'asked-marked',
  refused: 'refused-marked',
  granted: 'granted-marked',
  suspended: 'suspended-marked',
  deleted: 'deleted-marked',
  drift: 'drift-marked',
  sentence: 'sentence-marked',
};
const SUBJECT = 'zaphod';

let running: Running;
let world: World;
let portal: Portal;
let steward: Portal;
let uid: number;

beforeAll(async () => {
  running = await openRunning('erasure', {
    adjust: (config) => ({ ...config, leaving: { personGraceDays: 0 } }),
  });
  ({ world, portal } = running);
  steward = openPortal(world, {
    name: 'admin.steward',
    kid: 'steward-1',
    key: createPrivateKey(readFileSync(world.adminKey)),
  });
  await admit(portal, 'bob');
});

afterAll(async () => {
  await steward?.close();
  await running?.close();
});

/** Sends with the admin's own key, for which there are no events, and waits for the verdict. */
async function askAsAdmin(wish: Record<string, unknown>): Promise<void> {
  const id = await steward.send({ requestedBy: 'steward', kind: '', ...wish });
  const rows = await eventually('a verdict', async () => {
    const found = await query(world, 'SELECT verdict, sentence FROM requests WHERE jti = $1', [id]);
    return found.length > 0 && found;
  });
  expect(rows).toEqual([{ verdict: 'accepted', sentence: null }]);
}

/** Every key of Redis with everything that it holds, and the decoded payload of each token in it. */
async function readableRedis(): Promise<[string, string][]> {
  return [...(await dumpRedis(world))].map(([key, text]) => {
    const decoded = [...text.matchAll(/[\w-]+\.([\w-]{20,})\.[\w-]+/g)].map(([, part]) =>
      Buffer.from(part as string, 'base64url').toString(),
    );
    return [key, [text, ...decoded].join('\n')];
  });
}

function marksIn(text: string): string[] {
  return Object.entries(MARKS).flatMap(([name, mark]) => (text.includes(mark) ? [name] : []));
}

async function marksInTables(): Promise<Record<string, string[]>> {
  const tables = Object.entries(await dumpTables(world, []));
  return Object.fromEntries(
    tables
      .map(([table, rows]) => [table, marksIn(rows.join('\n'))] as const)
      .filter(([, marks]) => marks.length > 0),
  );
}

async function marksInRedis(): Promise<Record<string, string[]>> {
  return Object.fromEntries(
    (await readableRedis())
      .map(([key, text]) => [key, marksIn(text)] as const)
      .filter(([, marks]) => marks.length > 0),
  );
}

test('all that was written is there before, in tables and in the queue of a portal that sleeps', async () => {
  await portal.get({
    kind: 'person.create',
    requestedBy: SUBJECT,
    shellName: SUBJECT,
    displayName: MARKS.name,
    email: MARKS.email,
  });
  await portal.get({ kind: 'access.request', requestedBy: SUBJECT, reason: MARKS.asked });
  // from here on its copies lie in Redis
  await portal.pause();
  const wishes = [
    { kind: 'access.refuse', requestedBy: 'steward', person: SUBJECT, reason: MARKS.refused },
    { kind: 'access.grant', requestedBy: 'steward', person: SUBJECT, reason: MARKS.granted },
    { kind: 'key.add', requestedBy: SUBJECT, person: SUBJECT, key: `${KEY} ${MARKS.label}` },
    {
      kind: 'person.update',
      requestedBy: SUBJECT,
      person: SUBJECT,
      displayName: MARKS.newName,
    },
    { kind: 'tool.create', requestedBy: SUBJECT, name: 'heart', title: 'Heart' },
    { kind: 'person.delete', requestedBy: SUBJECT, person: SUBJECT, reason: MARKS.deleted },
    {
      kind: 'person.suspend',
      requestedBy: 'steward',
      person: SUBJECT,
      reason: MARKS.suspended,
    },
  ];
  const ids: string[] = [];
  for (const wish of wishes) {
    const id = await portal.send(wish);
    ids.push(id);
    await eventually(`a verdict on ${wish.kind}`, async () => {
      const [row] = await query(world, 'SELECT sentence, verdict FROM requests WHERE jti = $1', [
        id,
      ]);
      if (row?.['verdict'] === 'refused') throw new Error(String(row['sentence']));
      return row !== undefined;
    });
  }
  await settled(world);
  const rows = await query<{ uid: number }>(world, 'SELECT uid FROM people WHERE shell_name = $1', [
    SUBJECT,
  ]);
  uid = (rows[0] as { uid: number }).uid;
  // what a sweep, a survey whose actor was killed, and a role in trouble leave behind
  await query(
    world,
    `INSERT INTO drifts (subject, role, target, object, what)
     VALUES (${uid}, 'directory', 'unix-account', 'uid=${SUBJECT}', 'cn → ${MARKS.drift}')`,
  );
  await query(
    world,
    `INSERT INTO surveys (id, at) VALUES ('00000000-0000-4000-8000-000000000001', now() - interval '2 h')`,
  );
  await query(
    world,
    `INSERT INTO reports (survey, role, report) VALUES ('00000000-0000-4000-8000-000000000001',
       'directory', '{"steps": [{"change": "cn → ${MARKS.drift}"}]}')`,
  );
  await query(world, `UPDATE convergence SET sentence = $1 WHERE subject = $2`, [
    MARKS.sentence,
    uid,
  ]);
  const tables = await marksInTables();
  expect(Object.keys(tables)).toEqual(
    expect.arrayContaining([
      'access_requests',
      'approvals',
      'convergence',
      'drifts',
      'events',
      'people',
      'reports',
      'ssh_keys',
    ]),
  );
  expect(tables['audit']).toBeUndefined();
  const queues = Object.keys(await marksInRedis()).join(' ');
  expect(queues).toContain('bull:events.portal:');
  expect(queues).toContain('bull:requests.portal:');
  // the waiting deletion has an id of its own
  await running.stopWork();
  await running.startWork(['intake', 'relay', 'directory']);
  await askAsAdmin({ kind: 'request.approve', request: ids[5] });
});

test('none of it is in a table any more, and the audit holds', async () => {
  await eventually('the archival', async () => {
    // what the two other roles would do
    await query(
      world,
      `UPDATE convergence SET applied = wanted, state = 'applied' WHERE role <> 'directory'`,
    );
    const rows = await query(world, 'SELECT FROM archivals WHERE subject = $1', [uid]);
    return rows.length > 0;
  });
  for (const role of ['homes', 'databases']) {
    await query(
      world,
      `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
       VALUES ($1, 1, $2, repeat('0', 64), '/a', 1)`,
      [uid, role],
    );
  }
  await eventually('the deletion', async () => {
    const [row] = await query(world, 'SELECT state FROM people WHERE uid = $1', [uid]);
    return row?.['state'] === 'deleted';
  });
  expect(await marksInTables()).toEqual({});
  await world.chamberlain('audit', 'verify');
  for (const command of [
    ['explain', SUBJECT],
    ['explain', String(uid)],
    ['status', SUBJECT],
    ['audit', '--subject', SUBJECT],
    ['requests'],
  ]) {
    // two roles do not answer, which is a failure, but not the command's
    const out = await world.chamberlain(...command).catch((error: Error) => error.message);
    expect(out).toContain(command[0] === 'requests' ? 'steward' : SUBJECT);
    expect(marksIn(out)).toEqual([]);
  }
  const [key] = await query(world, 'SELECT fingerprint, line FROM ssh_keys WHERE person = $1', [
    uid,
  ]);
  expect(key).toEqual({ fingerprint: expect.stringMatching(/^SHA256:/), line: '' });
});

test('none of it is in the queue of the portal, which hears of it in order', async () => {
  await eventually('the copies to be erased', async () => {
    const [row] = await query(world, 'SELECT count(*)::int AS left FROM event_erasures');
    return row?.['left'] === 0;
  });
  const left = Object.keys(await marksInRedis()).filter(
    (key) => !key.startsWith('bull:requests.portal:'),
  );
  expect(left).toEqual([]);
  await portal.resume();
  const added = await portal.hear('key.added');
  expect(added.data).toEqual({
    account: SUBJECT,
    fingerprint: expect.stringMatching(/^SHA256:/),
  });
  expect(portal.disorder).toEqual([]);
});

test('requests lie in Redis for an hour after their verdict, and no longer', async () => {
  // before any is an hour old: intake removes those itself, once a minute
  expect(Object.keys(await marksInRedis())).not.toEqual([]);
  const redis = new Redis(world.config.redis.url);
  const isLong = Date.now() - 3_601_000;
  for (const id of await redis.zrange('bull:requests.portal:completed', '0', '-1')) {
    await redis.zadd('bull:requests.portal:completed', isLong, id);
    await redis.hset(`bull:requests.portal:${id}`, { finishedOn: isLong });
  }
  redis.disconnect();
  const inbox = openInbox(world.config, ['portal']);
  await tidyInbox(inbox);
  await closeInbox(inbox);
  expect(await marksInRedis()).toEqual({});
});

test('a new person may have the display name, and nobody the key or the shell name', async () => {
  const wish = {
    kind: 'person.create',
    requestedBy: 'ford',
    shellName: 'ford',
    displayName: MARKS.newName,
    email: 'ford@example.org',
  };
  expect(await portal.ask(wish)).toMatchObject({ verdict: 'accepted' });
  const key = { kind: 'key.add', requestedBy: 'ford', person: 'ford', key: KEY };
  expect(await portal.ask(key)).toMatchObject({ code: 'KEY_TAKEN' });
  const again = { ...wish, requestedBy: SUBJECT, shellName: SUBJECT, displayName: 'Z' };
  expect(await portal.ask(again)).toMatchObject({ code: 'NAME_TAKEN' });
});
