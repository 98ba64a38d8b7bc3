/**
 * An erasure by law on real servers: nothing of the person is left anywhere, what is on a server that is away
 * is done later, and an earlier backup does not bring anything back.
 */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { runCli } from '../../cli/run-cli.ts';
import { administer, startServer, stopServer, type World } from '../../stack.ts';
import { restoreDatabaseCopy, dumpDatabase } from '../recovery/backup.ts';
import { eventually } from '../eventually.ts';
import { confirmRecovery } from '../recovery/recovering.ts';
import { fill, snapshotOf, treasureOf } from './leaving-snapshot.ts';
import {
  approvedErasure,
  LEAVING_ROLES,
  type LeavingWorld,
  openLeavingWorld,
  owedOf,
  stateOf,
  type Subject,
  withdrawnIn,
} from './leaving-world.ts';
import { homeOf, nextHeartbeat, query, readDirectory, settled } from '../outside.ts';
import { admit } from '../running.ts';

let leaving: LeavingWorld;
let world: World;
let list: string;
/** from before any erasure; `late` is not in it */
let backup: string;
let carol: Subject;
let late: Subject;

const cli = (...args: string[]) => runCli(args, { config: world.configFile });
const said = (text: string) => text.split('\n').filter((line) => line !== '');

beforeAll(async () => {
  leaving = await openLeavingWorld('person erasure', { own: true });
  ({ world } = leaving);
  list = join(world.config.archives.homes, 'erasures.log');
  await admit(leaving.portal, 'carol', 'dora');
  carol = await leaving.find({ person: 'carol' });
  await fill(world, carol);
  await leaving.stopWork();
  await leaving.startWork(LEAVING_ROLES);
  await settled(world);
  await nextHeartbeat(world);
  backup = await dumpDatabase(world);
  await admit(leaving.portal, 'late');
  late = await leaving.find({ person: 'late' });
});

afterAll(async () => leaving?.close(), 60_000);

const suspend = ({ name }: Subject) =>
  leaving.portal.get({
    ...{ kind: 'person.suspend', requestedBy: 'steward', person: name, reason: 'to be erased' },
  });

async function traces({ name, uid, user }: Subject): Promise<string[]> {
  const entries = [...(await readDirectory(world)).entries()];
  const accounts = await Promise.all(
    [world.replica, world.tools].map(({ socket }) =>
      administer(
        socket,
        `SELECT User FROM mysql.global_priv WHERE User = '${user}'; SHOW DATABASES LIKE '${user}\\_\\_%';`,
      ),
    ),
  );
  return [
    ...entries
      .filter(([dn, entry]) => `${dn}${JSON.stringify(entry)}`.includes(name))
      .map(([dn]) => dn),
    ...accounts.flatMap(said),
    ...(existsSync(homeOf(world, { person: name })) ? ['a home'] : []),
    ...withdrawnIn(world, { ...late, leaver: { person: name } }),
    ...(
      await query(
        world,
        'SELECT FROM people WHERE uid = $1 AND (display_name, email) IS DISTINCT FROM (NULL, NULL)',
        [uid],
      )
    ).map(() => 'a name'),
  ];
}

test('nothing is left of an erased person; what is on a server that is away is shown, and done later', async () => {
  expect(await treasureOf(world, carol)).toMatchObject({
    home: expect.arrayContaining([expect.stringContaining('precious')]),
    databases: expect.arrayContaining([expect.stringContaining('__data')]),
  });
  // of archives that nobody recorded, and of what was withdrawn at another time
  const strays = [
    join(world.config.archives.homes, 'carol.7/home.tar.zst'),
    join(world.config.archives.homes, '.carol.8.part/home.tar.zst'),
    join(world.config.archives.databases, 'carol.7/toolsdb.1.sql.zst'),
    join(world.config.archives.databases, '.carol.7.toolsdb.returned'),
    join(dirname(homeOf(world, carol.leaver)), '.chamberlain/carol.9.left/secret'),
  ];
  for (const path of strays) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(path, 'kept by mistake');
  }
  await suspend(carol);
  await stopServer(world.tools);
  const request = await approvedErasure(leaving, carol);
  try {
    await leaving.becomes(carol, 'deleted');
    await leaving.portal.hear('person.erased');
    await eventually(
      'what is owed',
      async () => (await owedOf(world, carol)).join() === 'databases failing BACKEND_UNREADABLE',
    );
    expect(existsSync(homeOf(world, carol.leaver))).toBe(false);
    expect(withdrawnIn(world, carol)).toEqual([]);
    expect((await cli('status')).out).toMatch(/^carol +deleted .*databases failing/m);
    expect((await cli('explain', 'carol')).out).toMatch(
      /^ +erased +\S+ \S+Z, requested by steward, approved by second$/m,
    );
    const [row] = await query(world, 'SELECT done_at FROM requests WHERE jti = $1', [request]);
    expect(row).toEqual({ done_at: null });
  } finally {
    await startServer(world.tools);
  }
  await settled(world);
  await eventually('it to be done', async () => {
    const [row] = await query(world, 'SELECT done_at FROM requests WHERE jti = $1', [request]);
    return row?.['done_at'] !== null;
  });
  expect(await traces(carol)).toEqual([]);
  expect(strays.filter((path) => existsSync(path))).toEqual([]);
  expect((await cli('plan', '--all')).out).toContain('nothing to do');
});

test('the list next to the archives names each erased person once, and only root may read it', async () => {
  const lines = said(readFileSync(list, 'utf8')).map((line) => JSON.parse(line) as unknown);
  expect(lines).toEqual([
    {
      ...{ uid: carol.uid, account: 'carol' },
      erasure: expect.objectContaining({ requestedBy: 'steward', approvedBy: 'second' }),
    },
  ]);
  expect(statSync(list).mode & 0o777).toBe(0o600);
});

test('a person without a home is in the list, too, and a line that a crash has cut affects nobody else', async () => {
  appendFileSync(list, '{"uid":1,"acc');
  await suspend(late);
  await approvedErasure(leaving, late);
  await leaving.becomes(late, 'deleted');
  await settled(world);
  expect(
    said(readFileSync(list, 'utf8')).map(
      (line) => (JSON.parse(line) as { account: string }).account,
    ),
  ).toEqual(['carol', 'late']);
  expect(await traces(late)).toEqual([]);
});

test('an earlier backup brings nothing back: `recover` erases again, and gives nobody the name or number', async () => {
  await nextHeartbeat(world); // a PostgreSQL that returned before it would not be seen to be older
  await leaving.stopWork();
  await restoreDatabaseCopy(world, backup);
  await leaving.startWork();
  await eventually('the freeze', async () => {
    const [row] = await query(world, 'SELECT frozen_at FROM frozen');
    return row?.['frozen_at'] !== null;
  });
  expect(await stateOf(world, carol)).toBe('active');
  const whole = readFileSync(list);
  writeFileSync(list, 'no line\n');
  const refused = await cli('recover');
  expect([refused.exit, refused.err]).toEqual([
    4,
    expect.stringContaining('the list of erased people'),
  ]);
  writeFileSync(list, whole);

  // anyone who could write the list could have anybody erased: it is read first
  const listed = await cli('recover');
  expect([listed.exit, listed.out]).toEqual([3, expect.stringContaining('carol, late')]);
  expect(await stateOf(world, carol)).toBe('active');

  const { exit, out, err } = await confirmRecovery(world);
  expect([exit, err]).toEqual([0, expect.anything()]);
  expect(out).toMatch(/^erased +again, according to erasures\.log: carol, late$/m);
  await settled(world);
  expect(await stateOf(world, carol)).toBe('deleted');
  expect(await traces(carol)).toEqual([]);
  expect(said(readFileSync(list, 'utf8'))).toHaveLength(2);
  expect((await snapshotOf(world, carol)).filter((line) => line.startsWith('owed'))).toEqual([]);
  const ask = { kind: 'person.create', requestedBy: 'late', shellName: 'late' };
  expect(
    await leaving.portal.ask({ ...ask, displayName: 'Late', email: 'late@example.org' }),
  ).toMatchObject({ code: 'NAME_TAKEN' });
  const [{ next } = { next: 0 }] = await query<{ next: number }>(
    world,
    'SELECT next FROM id_ranges WHERE $1 BETWEEN first AND last',
    [late.uid],
  );
  expect(next).toBeGreaterThan(late.uid);
});
