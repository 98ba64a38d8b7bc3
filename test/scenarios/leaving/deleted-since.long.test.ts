/**
 * PostgreSQL came back from a backup that is older than deletions: archives prove them. What was deleted stays
 * deleted, and can be restored; what was restored since stays; names, numbers and keys are given to nobody
 * else.
 */
import { chownSync, existsSync, mkdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { runCli } from '../../cli/run-cli.ts';
import { newKey } from '../../login-host/agent-world.ts';
import type { World } from '../../stack.ts';
import { restoreDatabaseCopy, dumpDatabase } from '../recovery/backup.ts';
import { eventually } from '../eventually.ts';
import { confirmRecovery } from '../recovery/recovering.ts';
import { fill, type Treasure, treasureOf } from './leaving-snapshot.ts';
import {
  askDeletion,
  LEAVING_ROLES,
  type LeavingWorld,
  openLeavingWorld,
  owedOf,
  stateOf,
  type Subject,
} from './leaving-world.ts';
import { homeOf, nextHeartbeat, query, settled } from '../outside.ts';
import { admit } from '../running.ts';

let leaving: LeavingWorld;
let world: World;
/** deleted · deleted and restored · deleted, with an unexplained home in its place: all after the backup */
let goner: Subject;
let phoenix: Subject;
let halfway: Subject;
/** in the backup, with one of their keys */
let carol: Subject;
/** they came after the backup, and are deleted */
let late: Subject;
let laura: Subject;
let treasure: Treasure;
/** carol's, from before the backup and after it, and laura's */
const keys = [newKey(), newKey(), newKey()];

const cli = (...args: string[]) => runCli(args, { config: world.configFile });

const addKey = (person: string, key = '') =>
  leaving.portal.get({ kind: 'key.add', requestedBy: person, person, key });

async function deleteTool(tool: Subject): Promise<void> {
  await askDeletion(leaving, tool);
  await leaving.endGrace(tool);
  await leaving.becomes(tool, 'deleted');
}

async function deletePerson(person: Subject): Promise<void> {
  const { name } = person;
  const id = await leaving.portal.send({ kind: 'person.delete', requestedBy: name, person: name });
  await leaving.portal.hear('request.waiting', id);
  await leaving.askAsAdmin({ kind: 'request.approve', request: id });
  await leaving.endGrace(person);
  await leaving.becomes(person, 'deleted');
}

beforeAll(async () => {
  leaving = await openLeavingWorld('deleted since');
  ({ world } = leaving);
  await leaving.stopWork();
  await leaving.startWork(LEAVING_ROLES);
  await admit(leaving.portal, 'carol');
  carol = await leaving.find({ person: 'carol' });
  await addKey('carol', keys[0]);
  [goner, phoenix, halfway] = (await Promise.all(
    ['goner', 'phoenix', 'halfway'].map((name) => leaving.makeTool(name)),
  )) as [Subject, Subject, Subject];
  await fill(world, goner);
  await settled(world);
  await nextHeartbeat(world);
  const backup = await dumpDatabase(world);

  treasure = await treasureOf(world, goner);
  await admit(leaving.portal, 'laura');
  laura = await leaving.find({ person: 'laura' });
  await addKey('carol', keys[1]);
  await addKey('laura', keys[2]);
  late = await leaving.makeTool('late');
  await settled(world);
  await Promise.all([goner, phoenix, halfway, late].map(deleteTool));
  await Promise.all([carol, laura].map(deletePerson));
  await settled(world);
  await leaving.askAsAdmin({ kind: 'tool.restore', tool: 'phoenix' });
  await leaving.becomes(phoenix, 'active');
  await settled(world);
  const home = homeOf(world, halfway.leaver);
  mkdirSync(home, 0o2775);
  chownSync(home, halfway.uid, halfway.uid);

  await nextHeartbeat(world); // a PostgreSQL that returned before it would not be seen to be older
  await leaving.stopWork();
  await restoreDatabaseCopy(world, backup);
  await leaving.startWork(LEAVING_ROLES);
  await eventually('the freeze', async () => {
    const [row] = await query(world, 'SELECT frozen_at FROM frozen');
    return row?.['frozen_at'] !== null;
  });
}, 180_000);

afterAll(async () => leaving?.close(), 60_000);

test('accounts with archives newer than the backup are deleted, whether it knows them or not', async () => {
  expect(await stateOf(world, goner)).toBe('active');
  const { exit, out, err } = await confirmRecovery(world, '--json');
  expect({ exit, err }).toEqual({ exit: 0, err: expect.any(String) });
  const { leaving: taken, credentials } = JSON.parse(out) as {
    leaving: { deleted: { account: string }[]; undecided: { account: string; sentence: string }[] };
    credentials: { account: string }[];
  };
  expect(taken.deleted.map(({ account }) => account).toSorted()).toEqual([
    'carol',
    'laura',
    'tools.goner',
    'tools.late',
  ]);
  expect(taken.undecided).toEqual([
    {
      ...{ account: 'tools.halfway', uid: halfway.uid },
      sentence: expect.stringContaining('a part of what it had still exists'),
    },
  ]);
  expect(credentials.map(({ account }) => account)).not.toContain('tools.goner');
  for (const each of [goner, late, carol, laura]) {
    expect([each.name, await stateOf(world, each)]).toEqual([each.name, 'deleted']);
    await eventually(
      `${each.name} to be applied`,
      async () => (await owedOf(world, each)).length === 0,
    );
  }
  const acts = await query(
    world,
    `SELECT account, fields FROM audit WHERE kind = 'recover' AND subject = ANY ($1)
       AND fields <> '{credentials}' ORDER BY account`,
    [[goner.uid, halfway.uid]],
  );
  expect(acts).toEqual([
    { account: 'tools.goner', fields: ['deleted'] },
    { account: 'tools.halfway', fields: ['undecided'] },
  ]);
});

test('what was restored since stays, and earlier archives are known: the next has a number of its own', async () => {
  expect(await stateOf(world, phoenix)).toBe('active');
  const known = await query(
    world,
    `SELECT archival, role, back_at IS NULL AS away, keep_until IS NULL AS endless
     FROM archivals JOIN archives USING (subject, archival) WHERE subject = $1 ORDER BY role`,
    [phoenix.uid],
  );
  const over = { archival: 1, away: false, endless: false };
  expect(known).toEqual([
    { role: 'databases', ...over },
    { role: 'homes', ...over },
  ]);
});

test('if evidence disagrees, nobody gets in, nothing is destroyed, and nothing goes on by itself', async () => {
  expect(await stateOf(world, halfway)).toBe('archived');
  expect(existsSync(homeOf(world, halfway.leaver))).toBe(true);
  expect(await query(world, 'SELECT subject FROM holds')).toEqual([{ subject: halfway.uid }]);
  expect(await query(world, 'SELECT FROM holds WHERE until > now()')).toHaveLength(1);
  const shown = await cli('explain', 'tools.halfway');
  expect(shown.out).toMatch(/its archive says that it was deleted after the backup/);
});

test('their names, numbers and keys are given to nobody', async () => {
  const { portal } = leaving;
  const tool = { kind: 'tool.create', requestedBy: 'alice', name: 'late', title: 'Another' };
  expect(await portal.ask(tool)).toMatchObject({ code: 'NAME_TAKEN' });
  const person = { kind: 'person.create', requestedBy: 'laura', shellName: 'laura' };
  const named = { displayName: 'Another', email: 'laura@example.org' };
  expect(await portal.ask({ ...person, ...named })).toMatchObject({ code: 'NAME_TAKEN' });
  for (const key of keys) {
    const add = { kind: 'key.add', requestedBy: 'bob', person: 'bob', key };
    expect(await portal.ask(add)).toMatchObject({ code: 'KEY_TAKEN' });
  }
  const given = await query(world, 'SELECT id FROM posix_ids WHERE id = ANY ($1) ORDER BY id', [
    [late.uid, laura.uid],
  ]);
  expect(given).toHaveLength(2);
});

test('what was deleted is restored from its own archive', async () => {
  expect(await cli('restore', 'goner')).toMatchObject({ exit: 0 });
  expect(await treasureOf(world, goner)).toEqual(treasure);
  // and an admin may decide the undecided cases in the same way
  await leaving.askAsAdmin({ kind: 'tool.restore', tool: 'halfway' });
  await leaving.becomes(halfway, 'active');
});
