/**
 * A tool and a person that leave, from the request to the tombstone, and what is restored: all of it compared.
 * Halfway it is surveyed, repaired and swept.
 */
import { fixedConfig } from '../../../src/configuration/config-in-use.ts';
import { execFileSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Connection, createConnection } from 'mariadb';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Step } from '../../../src/reconcile/plan.ts';
import { openLog } from '../../../src/shared/log.ts';
import { startWork } from '../../../workers/main.ts';
import { runCli } from '../../cli/run-cli.ts';
import { blockOf } from '../../page-blocks.ts';
import type { World } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { fill, snapshotOf, type Treasure, treasureOf } from './leaving-snapshot.ts';
import {
  archivesOf,
  askDeletion,
  isWhole,
  LEAVING_ROLES,
  type LeavingWorld,
  openLeavingWorld,
  stateOf,
  type Subject,
  withdrawnIn,
} from './leaving-world.ts';
import {
  homeOf,
  keepCopy,
  loginWith,
  query,
  readCredentials,
  readDirectory,
  settled,
} from '../outside.ts';
import type { Portal } from '../portal.ts';
import { admit } from '../running.ts';

let leaving: LeavingWorld;
let world: World;
let portal: Portal;

beforeAll(async () => {
  leaving = await openLeavingWorld('leaving');
  ({ world, portal } = leaving);
  await leaving.stopWork();
  await leaving.startWork(LEAVING_ROLES);
});

afterAll(async () => leaving?.close(), 30_000);

const cli = (...args: string[]) => runCli(args, { config: world.configFile });

/** The verbs of the steps that a plan has for one account. */
async function planned(account: string): Promise<string[]> {
  const { out, err } = await cli('plan', '--json', account);
  if (out === '') throw new Error(err);
  const { steps, findings } = JSON.parse(out) as { steps: Step[]; findings: unknown[] };
  expect(findings).toEqual([]);
  return steps.map(({ action }) => action.verb);
}

async function expectNothingLeft(): Promise<void> {
  // the second passwords, for which those who lost access have left a time that may come during the survey
  await query(world, 'UPDATE credentials SET again_at = NULL, again_by = NULL');
  await settled(world);
  // fails if there is a step, a finding, or something that could not be read
  await expect(world.chamberlain('plan', '--all')).resolves.toContain('nothing to do');
}

async function connectAs(subject: Subject): Promise<Connection> {
  const { user, password } = readCredentials(world, subject.leaver);
  const socketPath = world.tools.socket;
  const connection = await createConnection({ socketPath, user, password });
  connection.on('error', () => undefined);
  return connection;
}

/** Where everything of a subject is now, before any of it may be gone. */
async function treasureAnywhere(subject: Subject): Promise<Treasure> {
  const [left] = withdrawnIn(world, subject);
  return treasureOf(world, subject, left ?? homeOf(world, subject.leaver));
}

async function expectArchived(subject: Subject, archival: number): Promise<void> {
  const archives = await archivesOf(world, subject);
  expect(archives.map((each) => [each.role, each.archival])).toEqual([
    ['databases', archival],
    ['homes', archival],
  ]);
  expect(archives.filter((each) => !isWhole(each))).toEqual([]);
}

/** A snapshot of a restored subject, as if it had not been away. */
function withoutArchives(snapshot: string[]): string[] {
  return snapshot.filter((line) => !/^(archival|homes has|databases has) /.test(line));
}

/** Its archives have been kept for long enough, and are removed. */
async function expireArchives(subject: Subject): Promise<void> {
  const lines = async () =>
    (await snapshotOf(world, subject)).filter((line) => /^(homes|databases) has /.test(line));
  expect((await lines()).length).toBeGreaterThan(1);
  await query(
    world,
    `UPDATE archivals SET keep_until = now() - interval '1 min' WHERE subject = $1`,
    [subject.uid],
  );
  await eventually('the archives to be removed', async () => (await lines()).length === 0);
  await settled(world);
}

async function holders(account: string): Promise<string[]> {
  const entries = [...(await readDirectory(world))];
  return entries
    .filter(([, { member = [] }]) => member.some((dn) => dn.startsWith(`uid=${account},`)))
    .map(([dn]) => dn.split(',')[0] ?? '')
    .sort();
}

describe('a tool that is deleted', () => {
  let tool: Subject;
  let treasure: Treasure;
  let active: string[];
  let oldPassword: string;

  beforeAll(async () => {
    tool = await leaving.makeTool('leaver', { maintainers: ['bob'] });
    await leaving.makeTool('keeper', { maintainers: ['tools.leaver'] });
    await fill(world, tool);
    treasure = await treasureOf(world, tool);
    expect(treasure.home.length).toBeGreaterThan(10);
    expect(treasure.databases.length).toBeGreaterThan(10);
    active = await snapshotOf(world, tool);
    oldPassword = keepCopy(world, readCredentials(world, tool.leaver));
  });

  /** A repair with a relay for it alone: nothing that is due otherwise is due as long as it works. */
  async function repairAlone(...args: string[]) {
    const dueIn = (time: string) =>
      query(
        world,
        `UPDATE convergence SET next_try_at = now() + $2::interval WHERE subject = $1 AND applied < wanted`,
        [tool.uid, time],
      );
    await dueIn('1 day');
    const relay = await startWork(fixedConfig(world.config), {
      roles: ['relay'],
      log: openLog('fatal'),
    });
    try {
      return await cli('repair', ...args);
    } finally {
      await relay.close();
      await dueIn('0');
    }
  }

  test('is disabled everywhere at once, and keeps everything that it has', async () => {
    const connection = await connectAs(tool);
    await askDeletion(leaving, tool);
    await expect(connection.query('SELECT 1')).rejects.toThrow();
    await expect(loginWith(world, 'replica', oldPassword)).rejects.toThrow(/locked/);
    const snapshot = (await snapshotOf(world, tool)).join('\n');
    expect(snapshot).toMatch(/^state disabled$/m);
    expect(snapshot).toMatch(/loginShell: \/bin\/disabledtoolshell$/m);
    expect(snapshot).toMatch(/pwdAccountLockedTime: set$/m);
    expect(snapshot).toMatch(/gecos: disabled - not used$/m);
    expect(snapshot).not.toContain('runas-');
    expect(snapshot.match(/"account_locked",true/g)).toHaveLength(2);
    expect(await treasureOf(world, tool)).toEqual(treasure);
    await expectNothingLeft();
  });

  test('is not archived before its day, not even by a sweep', async () => {
    await leaving.stopWork();
    // without a relay, only surveys make the roles work: see `repairAlone`
    await leaving.startWork(['intake', 'directory', 'homes', 'databases', 'sweep']);
    expect(await cli('sweep', 'now')).toMatchObject({ exit: 0 });
    expect(await stateOf(world, tool)).toBe('disabled');
    expect(await treasureOf(world, tool)).toEqual(treasure);
  });

  test('partly archived: a survey lists what is left, a sweep leaves it, a repair does it', async () => {
    await leaving.endGrace(tool);
    await leaving.becomes(tool, 'archived');
    expect(await planned('tools.leaver')).toEqual([
      'ldap.modify', // its seal
      'home.withdraw',
      'home.archive',
      'databases.archive',
    ]);
    // it is on its way
    await cli('sweep', 'now');
    expect(existsSync(homeOf(world, tool.leaver))).toBe(true);
    expect(await treasureOf(world, tool)).toEqual(treasure);
    // intake would delete it while the relay of the repair is still there, and that relay would give it to the roles
    await leaving.stopWork();
    await leaving.startWork(['directory', 'homes', 'databases']);
    expect(await repairAlone('--yes', 'tools.leaver')).toMatchObject({ exit: 0 });
    await leaving.stopWork();
    await leaving.startWork(['intake', 'directory', 'homes', 'databases', 'sweep']);
    await expectArchived(tool, 1);
    expect(await treasureAnywhere(tool)).toEqual(treasure);
  });

  test('partly deleted: only a repair that may destroy runs the steps that destroy, and no sweep does', async () => {
    await leaving.becomes(tool, 'deleted');
    const destroying = ['home.destroy', 'databases.drop', 'databases.drop'];
    const steps = await planned('tools.leaver');
    expect(steps).toEqual(expect.arrayContaining(destroying));
    await cli('sweep', 'now');
    expect(await treasureAnywhere(tool)).toEqual(treasure);
    const { out } = await repairAlone('--yes', '--json', 'tools.leaver');
    const { withheld } = JSON.parse(out) as { withheld: { target: string }[] };
    expect(new Set(withheld.map(({ target }) => target))).toEqual(
      new Set([
        ...['home-archive', 'database-archive', 'database-account'],
        // its sudo rule is gone since it was disabled
        ...['unix-account', 'unix-group'],
      ]),
    );
    expect(await treasureAnywhere(tool)).toEqual(treasure);
    expect(await repairAlone('--yes', '--destroy', 'tools.leaver')).toMatchObject({ exit: 0 });
    expect(await planned('tools.leaver')).toEqual([]);
  });

  test('leaves nothing behind but its archives and a tombstone', async () => {
    await leaving.stopWork();
    await leaving.startWork([...LEAVING_ROLES, 'sweep']);
    await portal.hear('tool.deleted');
    await settled(world);
    expect(await snapshotOf(world, tool)).toEqual([
      'state deleted',
      'archival {"left":true,"expired":false,"back":false,"returning":false}',
      'archive of databases',
      'archive of homes',
      expect.stringMatching(/^homes has tools.NAME.1: home.tar.zst manifest.json$/),
      expect.stringMatching(/^databases has tools.NAME.1: manifest.json toolsdb/),
    ]);
    await expectArchived(tool, 1);
    expect(await holders('tools.leaver')).toEqual([]);
    await expectNothingLeft();
    const { out } = await cli('explain', String(tool.uid));
    expect(out).toMatch(/was the number of tools\.leaver, a tool that was deleted/);
    expect(out).toContain('databases/tools.leaver.1');
    // looked at as docs/lifecycle.md says
    const { homes, databases } = world.config.archives;
    const block = blockOf('lifecycle:archives')
      .replaceAll('tools.bridgebot', 'tools.leaver')
      .replace('/srv/chamberlain/homes', homes)
      .replace('/srv/chamberlain/databases', databases);
    const said = execFileSync('bash', ['-eo', 'pipefail', '-c', block], { encoding: 'utf8' });
    const [manifest = '', ...files] = said.trim().split('\n');
    expect(out).toContain(manifest.split(' ')[0]);
    expect(files[0]).toBe('home.tar.zst: OK');
    expect(files.length).toBeGreaterThan(1);
    for (const file of files.slice(1)) expect(file).toMatch(/^toolsdb.*: OK$/u);
  });

  test('remains that are found later are shown, and no sweep removes them', async () => {
    const left = join(dirname(homeOf(world, tool.leaver)), '.chamberlain', 'leaver.1.left');
    mkdirSync(left);
    chownSync(left, tool.uid, tool.uid);
    expect(await planned('tools.leaver')).toEqual(['home.destroy']);
    await cli('sweep', 'now', '--timeout', '20');
    expect(existsSync(left)).toBe(true);
    const { out } = await cli('repair', '--yes', '--json', 'tools.leaver');
    expect(JSON.parse(out)).toMatchObject({ withheld: [{ target: 'home-archive' }] });
    expect(existsSync(left)).toBe(true);
    rmdirSync(left);
  });

  test('neither its name nor its number is given again', async () => {
    const wish = { kind: 'tool.create', requestedBy: 'bob', name: 'leaver', title: 'x' };
    expect(await portal.ask(wish)).toMatchObject({ verdict: 'refused', code: 'NAME_TAKEN' });
    const next = await leaving.makeTool('heir');
    expect(next.uid).toBeGreaterThan(tool.uid);
  });

  test('is restored completely: number, names, every file and every row', async () => {
    expect(await cli('restore', 'leaver')).toMatchObject({ exit: 0, err: expect.any(String) });
    expect(await leaving.find(tool.leaver)).toEqual(tool);
    expect(await treasureOf(world, tool)).toEqual(treasure);
    await settled(world);
    expect(withoutArchives(await snapshotOf(world, tool))).toEqual(active);
    await expect(loginWith(world, 'tools', oldPassword)).rejects.toThrow(/denied/);
    const { path } = readCredentials(world, tool.leaver);
    expect(await loginWith(world, 'replica', path)).toBe(`${tool.user}@%`);
    const count = `SELECT COUNT(*) FROM ${tool.user}__data.v`;
    expect(await loginWith(world, 'tools', path, count)).toBe('2');
    expect(await holders('tools.leaver')).toEqual(['cn=tools.keeper', 'cn=tools.leaver']);
    expect((await cli('explain', 'tools.leaver')).out).toMatch(/archived/);
    expect((await cli('status', 'tools.leaver')).out).toMatch(/active/);
    await expectNothingLeft();
  });

  test('keeps everything that was restored when its archives are removed on their day', async () => {
    await expireArchives(tool);
    expect(await treasureOf(world, tool)).toEqual(treasure);
    expect(withoutArchives(await snapshotOf(world, tool))).toEqual(active);
    await expectNothingLeft();
  });
});

describe('a tool that is enabled', () => {
  test('before its day is as if nothing had happened', async () => {
    const tool = await leaving.makeTool('changes-mind');
    await fill(world, tool);
    const [treasure, snapshot] = [await treasureOf(world, tool), await snapshotOf(world, tool)];
    await askDeletion(leaving, tool);
    await portal.get({ kind: 'tool.enable', requestedBy: 'alice', tool: tool.name });
    expect(await snapshotOf(world, tool)).toEqual(snapshot);
    expect(await treasureOf(world, tool)).toEqual(treasure);
  });

  test('while one role has not finished its archive, gets everything back', async () => {
    await Promise.all((['homes', 'databases'] as const).map(turnBackBefore));
  });

  async function turnBackBefore(role: 'homes' | 'databases'): Promise<void> {
    const tool = await leaving.makeTool(`turns-back-${role}`);
    await fill(world, tool);
    const [treasure, snapshot] = [await treasureOf(world, tool), await snapshotOf(world, tool)];
    await askDeletion(leaving, tool);
    const release = await leaving.hold(tool, role);
    await leaving.endGrace(tool);
    await eventually('the other archive', async () => {
      const archives = await archivesOf(world, tool);
      return archives.length === 1 && archives.every((each) => each.role !== role);
    });
    const id = await portal.send({ kind: 'tool.enable', requestedBy: 'alice', tool: tool.name });
    await eventually('the verdict', () => portal.told(id).includes('request.accepted'));
    await release();
    await leaving.becomes(tool, 'active');
    await settled(world);
    expect(withoutArchives(await snapshotOf(world, tool))).toEqual(snapshot);
    expect(await treasureOf(world, tool)).toEqual(treasure);
  }
});

describe('a person who is deleted', () => {
  const KEY =
    'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKUwH8v/5b4GYB8M7oRkUEjfDDPGJmKzYnxo5Cd2yqn laptop';
  let carol: Subject;
  let treasure: Treasure;
  /** where the credentials are kept that carol had */
  let own: string;

  test('waits for another admin, then until the grace time ends, and is archived', async () => {
    await admit(portal, 'carol');
    carol = await leaving.find({ person: 'carol' });
    const shared = await leaving.makeTool('shared', { maintainers: ['carol'] });
    const known = keepCopy(world, readCredentials(world, shared.leaver));
    await fill(world, carol);
    await portal.get({ kind: 'key.add', requestedBy: 'carol', person: 'carol', key: KEY });
    treasure = await treasureOf(world, carol);
    own = keepCopy(world, readCredentials(world, carol.leaver));
    const wish = { kind: 'person.delete', requestedBy: 'carol', person: 'carol', reason: 'enough' };
    const { id } = await portal.ask(wish);
    await portal.hear('request.waiting', id);
    expect((await cli('requests')).out).toMatch(
      new RegExp(`${id} +portal +person\\.delete +carol`),
    );
    expect(await stateOf(world, carol)).toBe('active');
    await leaving.askAsAdmin({ kind: 'request.approve', request: id });
    await portal.hear('request.done', id);
    // all access is revoked, and nothing is archived before its day
    expect((await cli('status', 'carol')).out).toMatch(
      /next +archived, then deleted: .*, in 30 days/,
    );
    expect(await stateOf(world, carol)).toBe('suspended');
    expect(await treasureOf(world, carol)).toEqual(treasure);
    await expectNothingLeft();
    const release = await leaving.hold(carol, 'homes');
    await leaving.endGrace(carol);
    await leaving.becomes(carol, 'archived');
    const snapshot = (await snapshotOf(world, carol)).join('\n');
    expect(snapshot).toMatch(/pwdAccountLockedTime: set$/m);
    expect(snapshot).toMatch(/"account_locked",true/);
    expect(await holders('carol')).toEqual([]);
    await expect(loginWith(world, 'tools', known)).rejects.toThrow(/denied/);
    expect(await treasureAnywhere(carol)).toEqual(treasure);
    // everything requested is done, and the requesting portal is told
    expect(portal.told(id)).toEqual([
      ...['request.accepted', 'request.waiting', 'request.approved', 'person.deleting'],
      ...['credentials.revoked', 'person.suspended', 'request.done'],
    ]);
    await release();
    await portal.hear('person.deleted');
  });

  test('leaves archives and a name, and nothing personal', async () => {
    expect(await snapshotOf(world, carol)).toEqual([
      'state deleted',
      'archival {"left":true,"expired":false,"back":false,"returning":false}',
      'archive of databases',
      'archive of homes',
      'homes has NAME.1: home.tar.zst manifest.json',
      expect.stringMatching(/^databases has NAME.1: manifest.json toolsdb/),
    ]);
    await expectArchived(carol, 1);
    const [row] = await query(
      world,
      'SELECT display_name, email, suspension_reason FROM people WHERE uid = $1',
      [carol.uid],
    );
    expect(row).toEqual({ display_name: null, email: null, suspension_reason: null });
    expect((await cli('explain', String(carol.uid))).out).toMatch(/was the number of carol/);
    const again = { kind: 'person.create', requestedBy: 'carol', shellName: 'carol' };
    expect(
      await portal.ask({ ...again, displayName: 'Other', email: 'other@example.org' }),
    ).toMatchObject({ code: 'NAME_TAKEN' });
    await world.chamberlain('audit', 'verify');
    await expectNothingLeft();
    expect(portal.disorder).toEqual([]);
  });

  test('is restored with home and databases, under the same number, without keys or the old password', async () => {
    const restore = { kind: 'person.restore', person: 'carol' };
    expect(await portal.ask({ ...restore, requestedBy: 'steward' })).toMatchObject({
      code: 'REQUEST_INVALID',
      sentence: expect.stringContaining('Give both: displayName and email'),
    });
    const named = { displayName: 'Carol Again', email: 'again@example.org' };
    await leaving.askAsAdmin({ ...restore, ...named });
    await portal.hear('person.restored');
    await settled(world);
    expect(await leaving.find(carol.leaver)).toEqual(carol);
    expect(await treasureOf(world, carol)).toEqual(treasure);
    const entry = async () =>
      [...(await readDirectory(world))].find(([dn]) => dn.startsWith('uid=carol,'))?.[1];
    expect(await entry()).toMatchObject({ cn: ['Carol Again'], mail: ['again@example.org'] });
    expect((await entry())?.['sshPublicKey']).toBeUndefined();
    expect(await holders('carol')).toEqual([]);
    await expect(loginWith(world, 'tools', own)).rejects.toThrow(/denied/);
    await expectNothingLeft();
    // access and keys are given again, and the erased key is one of them
    await portal.get({ kind: 'access.grant', requestedBy: 'steward', person: 'carol' });
    await portal.get({ kind: 'key.add', requestedBy: 'carol', person: 'carol', key: KEY });
    expect((await entry())?.['sshPublicKey']).toEqual([KEY.replace(/ laptop$/, '')]);
    const { path } = readCredentials(world, carol.leaver);
    const count = `SELECT COUNT(*) FROM ${carol.user}__data.v`;
    expect(await loginWith(world, 'tools', path, count)).toBe('2');
    await expireArchives(carol);
    expect(await treasureOf(world, carol)).toEqual(treasure);
    await expectNothingLeft();
  });
});
