/**
 * What other programs conclude from our accounts of tools: the filter and the rules of Toolforge's
 * disable-tool, which maintain-kubeusers shares, with the directory of a real realm.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { runCli } from '../../cli/run-cli.ts';
import type { World } from '../../stack.ts';
import {
  askDeletion,
  LEAVING_ROLES,
  type LeavingWorld,
  openLeavingWorld,
  type Subject,
} from '../leaving/leaving-world.ts';
import { eventually } from '../eventually.ts';
import { changeDirectory, query, readDirectory, settled } from '../outside.ts';
import type { Portal } from '../portal.ts';

const DAY_MS = 86_400_000;
/** disable-tool's `archive_after_days` */
const ARCHIVE_AFTER_DAYS = 40;

let leaving: LeavingWorld;
let world: World;
let portal: Portal;

beforeAll(async () => {
  leaving = await openLeavingWorld('other-programs');
  ({ world, portal } = leaving);
  await leaving.stopWork();
  await leaving.startWork(LEAVING_ROLES);
});

afterAll(async () => leaving?.close(), 30_000);

const policy = () => `cn=disabled,ou=ppolicies,${world.config.ldap.base}`;
const dnOf = ({ account }: Subject) =>
  `uid=${account},ou=people,ou=servicegroups,${world.config.ldap.base}`;

/**
 * What disable-tool does with each tool that it finds: `stays disabled`, `deleted at once`, or the first moment
 * at which more than 40 whole days have passed, when it archives and deletes the tool.
 */
async function fates(): Promise<Record<string, string>> {
  const filter = `(&(|(pwdAccountLockedTime=*)(pwdPolicySubentry=${policy()}))(cn=tools.*)(objectClass=posixAccount))`;
  const found = await readDirectory(world, { operational: true, filter });
  return Object.fromEntries(
    [...found.values()].map((entry) => [
      (entry['cn']?.[0] ?? '').split('.')[1],
      fateOf(entry['pwdAccountLockedTime']?.[0]),
    ]),
  );
}

function fateOf(time: string | undefined): string {
  if (time === undefined) return 'stays disabled';
  if (time === '000001010000Z') return 'deleted at once';
  // strptime with '%Y%m%d%H%M%S.%f': any other form ends the program, for all tools
  const [, ...parts] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(time) ?? [];
  const [year = NaN, month = NaN, ...rest] = parts.map(Number);
  const from = Date.UTC(year, month - 1, ...rest);
  return new Date(from + (ARCHIVE_AFTER_DAYS + 1) * DAY_MS).toISOString();
}

/** When our calendar archives a tool, and when its deletion was requested, according to our database. */
async function ours({ uid }: Subject): Promise<{ requestedAt: number; after: number | null }> {
  const [row] = await query<{ at: Date; after: Date | null }>(
    world,
    'SELECT delete_requested_at AS at, delete_after AS after FROM tools WHERE uid = $1',
    [uid],
  );
  return {
    requestedAt: row?.at.getTime() ?? NaN,
    after: row?.after?.getTime() ?? null,
  };
}

/** Their date, in milliseconds. */
const theirs = async ({ name }: Subject) => Date.parse((await fates())[name] ?? '');

const ask = (kind: string, { name }: Subject, more = {}) =>
  portal.get({ kind, requestedBy: 'alice', tool: name, ...more });

async function shellOf(tool: Subject): Promise<unknown> {
  return (await readDirectory(world)).get(dnOf(tool))?.['loginShell'];
}

test('an active tool is not found, and a disabled one stays disabled forever', async () => {
  const tool = await leaving.makeTool('switched');
  expect(await fates()).toEqual({});
  await ask('tool.disable', tool, { reason: 'a while' });
  expect(await fates()).toEqual({ switched: 'stays disabled' });
  expect(await shellOf(tool)).toEqual(['/bin/disabledtoolshell']);
  await ask('tool.enable', tool);
  expect(await fates()).toEqual({});
  expect(await shellOf(tool)).toEqual(['/bin/bash']);
});

test('for a tool to be deleted, both countdowns begin with the request, and ours ends first', async () => {
  const [before, open] = [await leaving.makeTool('before'), await leaving.makeTool('open')];
  await ask('tool.disable', before, { reason: 'a while' });
  for (const tool of [before, open]) {
    await askDeletion(leaving, tool);
    const { requestedAt, after } = await ours(tool);
    expect(after).toBe(requestedAt + world.config.leaving.graceDays * DAY_MS);
    const second = Math.floor(requestedAt / 1000) * 1000;
    expect(await theirs(tool)).toBe(second + (ARCHIVE_AFTER_DAYS + 1) * DAY_MS);
    expect(await theirs(tool)).toBeGreaterThan(after ?? NaN);
  }
  await ask('tool.enable', before);
  await ask('tool.enable', open);
  expect(await fates()).toEqual({});
});

test('a tool that is being archived keeps the time, and one that is being restored has none', async () => {
  const tool = await leaving.makeTool('away');
  await askDeletion(leaving, tool);
  const date = (await fates())['away'];
  const release = await leaving.hold(tool, 'homes');
  await leaving.endGrace(tool);
  await leaving.becomes(tool, 'archived');
  expect(await fates()).toEqual({ away: date });
  const id = await portal.send({ kind: 'tool.enable', requestedBy: 'alice', tool: 'away' });
  await expectSoon(() => fates(), { away: 'stays disabled' });
  await release();
  await leaving.becomes(tool, 'active');
  await settled(world);
  await portal.hear('request.accepted', id);
  expect(await fates()).toEqual({});
});

test('a deleted tool that is restored is never marked to be deleted', async () => {
  const tool = await leaving.makeTool('restored');
  await askDeletion(leaving, tool);
  await leaving.endGrace(tool);
  await leaving.becomes(tool, 'deleted');
  await settled(world);
  expect(await fates()).toEqual({});
  const release = await leaving.hold(tool, 'homes');
  const restored = runCli(['restore', 'restored'], { config: world.configFile });
  await expectSoon(() => fates(), { restored: 'stays disabled' });
  await release();
  expect(await restored).toMatchObject({ exit: 0 });
  await settled(world);
  expect(await fates()).toEqual({});
});

test('a suspended person is also locked by the time, which refuses binds', async () => {
  await portal.get({ kind: 'person.suspend', requestedBy: 'steward', person: 'bob', reason: 'x' });
  const entries = await readDirectory(world, { operational: true });
  expect(entries.get(`uid=bob,ou=people,${world.config.ldap.base}`)).toMatchObject({
    pwdAccountLockedTime: ['000001010000Z'],
    pwdPolicySubentry: [policy()],
  });
  await portal.get({ kind: 'person.reinstate', requestedBy: 'steward', person: 'bob' });
});

/** As the previous version wrote it: every tool that it has locked says "delete at once". */
async function markAsBefore(...tools: Subject[]): Promise<void> {
  const lines = (tool: Subject) => [
    ...[`dn: ${dnOf(tool)}`, 'changetype: modify', 'replace: pwdAccountLockedTime'],
    ...['pwdAccountLockedTime: 000001010000Z', ''],
  ];
  await changeDirectory(world, 'ldapmodify', tools.flatMap(lines).join('\n'));
}

test('migrating corrects what the previous version wrote, without a sweep', async () => {
  const [idle, doomed] = [await leaving.makeTool('idle'), await leaving.makeTool('doomed')];
  await ask('tool.disable', idle, { reason: 'a while' });
  await askDeletion(leaving, doomed);
  await markAsBefore(idle, doomed);
  expect(await fates()).toEqual({ idle: 'deleted at once', doomed: 'deleted at once' });
  const folder = join(import.meta.dirname, '../../../migrations');
  const migration = readFileSync(join(folder, '0006_tool_locks.sql'), 'utf8');
  await query(
    world,
    `BEGIN; ALTER TABLE tools DROP COLUMN delete_requested_at; ${migration}; COMMIT`,
  );
  await settled(world);
  const [request] = await query<{ at: Date }>(
    world,
    `SELECT at FROM requests WHERE subject = $1 AND kind = 'tool.delete'`,
    [doomed.uid],
  );
  expect((await ours(doomed)).requestedAt).toBe(request?.at.getTime());
  const second = Math.floor((request?.at.getTime() ?? NaN) / 1000) * 1000;
  const date = new Date(second + (ARCHIVE_AFTER_DAYS + 1) * DAY_MS).toISOString();
  expect(await fates()).toEqual({ idle: 'stays disabled', doomed: date });
});

test('a sweep also corrects it, like any drift', async () => {
  const idle = await leaving.find({ tool: 'idle' });
  const doomed = await leaving.find({ tool: 'doomed' });
  const right = await fates();
  await markAsBefore(idle, doomed);
  await leaving.stopWork();
  await leaving.startWork([...LEAVING_ROLES, 'sweep']);
  // what was touched within the last second counts as in motion
  await query(world, `UPDATE convergence SET since = since - interval '1 hour'`);
  const swept = await runCli(['sweep', 'now'], { config: world.configFile });
  expect(swept.out).toMatch(/^touched: .* 2 drifted/);
  await expectSoon(() => fates(), right);
});

async function expectSoon<T>(look: () => Promise<T>, wanted: T): Promise<void> {
  await eventually(JSON.stringify(wanted), async () => {
    expect(await look()).toEqual(wanted);
    return true;
  });
}
