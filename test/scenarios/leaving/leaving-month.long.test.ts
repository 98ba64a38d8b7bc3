/**
 * A month and more of real workers by a clock that the test sets: who leaves, on which day, and who is
 * restored.
 */
import { fixedConfig } from '../../../src/configuration/config-in-use.ts';
import { createHash, createPrivateKey } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openLog } from '../../../src/shared/log.ts';
import { startIntake } from '../../../workers/intake.ts';
import type { Worker } from '../../../src/shared/loop.ts';
import { defaultRoles } from '../../../workers/main.ts';
import { administer, type World } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { homeOf, query, readAccounts, readDirectory, settled } from '../outside.ts';
import { type HeardEvent, openPortal, type Portal, type Wish } from '../portal.ts';
import { admit, openRunning, type Running } from '../running.ts';

const DAY_MS = 86_400_000;
const CONTENT = 'kept for a month\n';

let running: Running;
let world: World;
let portal: Portal;
let steward: Portal;
let intake: Worker;
const start = new Date();
let now = start;

const at = (day: number) => new Date(start.getTime() + day * DAY_MS);
const dayOf = (date: string) => (Date.parse(date) - start.getTime()) / DAY_MS;

beforeAll(async () => {
  running = await openRunning('leaving-month', {
    adjust: (config) => ({ ...config, leaving: { personGraceDays: 0 } }),
  });
  ({ world, portal } = running);
  await admit(portal, 'alice');
  for (const name of ['leaver', 'stayer']) {
    await portal.get({ kind: 'tool.create', requestedBy: 'alice', name, title: name });
  }
  await running.stopWork();
  await running.startWork(defaultRoles(running.world.config).filter((role) => role !== 'intake'));
  const write = (line: string) => void running.log.push(line);
  intake = startIntake(fixedConfig(world.config), openLog('trace', { write }), () => now);
  steward = openPortal(world, {
    name: 'admin.steward',
    kid: 'steward-1',
    key: createPrivateKey(readFileSync(world.adminKey)),
  });
});

afterAll(async () => {
  await steward?.close();
  await intake?.close();
  await running?.close();
});

/** Sends a request at the time of the clock. */
async function ask(wish: Wish): Promise<void> {
  const iat = Math.floor(now.getTime() / 1000);
  await portal.get(wish, { claims: { iat, exp: iat + 3600 } });
}

/** With the admin's own key, which receives no events. */
async function askAsAdmin(wish: Record<string, unknown>): Promise<void> {
  const iat = Math.floor(now.getTime() / 1000);
  const id = await steward.send(
    { requestedBy: 'steward', kind: '', ...wish },
    { claims: { iat, exp: iat + 3600 } },
  );
  await eventually('a verdict', async () => {
    const [row] = await query(world, 'SELECT verdict, sentence FROM requests WHERE jti = $1', [id]);
    if (row?.['verdict'] === 'refused') throw new Error(String(row['sentence']));
    return row !== undefined;
  });
}

/**
 * Sets the clock; returns when intake has checked the calendar by it, and everything is applied: a person who
 * was suspended until then is reinstated.
 */
async function comes(day: number): Promise<void> {
  const until = at(day).toISOString();
  await ask({
    kind: 'person.suspend',
    requestedBy: 'steward',
    person: 'clock',
    reason: 'to see the clock move',
    until,
  });
  const reinstated = () => portal.heard.filter(({ event }) => event === 'person.reinstated').length;
  const before = reinstated();
  now = at(day);
  await eventually(`day ${day}`, () => reinstated() > before);
  await settled(world);
}

/** The events about a tool: the event, the days, and the day of deletion that it names. */
function told(tool: string): string[] {
  return portal.heard
    .filter(({ data, event }) => data['tool'] === tool && !event.startsWith('request.'))
    .map(({ event, data }: HeardEvent) => {
      const { days, deleteAfter } = data as { days?: number; deleteAfter?: string };
      return deleteAfter === undefined ? event : `${event} ${days} ${dayOf(deleteAfter)}`;
    });
}

/** Requests the deletion of a person, and approves it. */
async function deletePerson(person: string): Promise<void> {
  const iat = Math.floor(now.getTime() / 1000);
  const { id } = await portal.ask(
    { kind: 'person.delete', requestedBy: person, person },
    { claims: { iat, exp: iat + 3600 } },
  );
  await askAsAdmin({ kind: 'request.approve', request: id });
}

async function findTool(name: string): Promise<{ uid: number; state: string }> {
  const rows = await query<{ uid: number; state: string }>(
    world,
    'SELECT uid, state FROM tools WHERE name = $1',
    [name],
  );
  return rows[0] as { uid: number; state: string };
}

function archivesOf(role: 'homes' | 'databases'): string[] {
  const folder = world.config.archives[role];
  // created with the first archive, if it was not prepared
  return existsSync(folder) ? readdirSync(folder).filter((name) => !name.startsWith('.')) : [];
}

test('people without a grace time are deleted when it is approved, whether they ever had a home or not', async () => {
  await admit(portal, 'member');
  await portal.get({
    kind: 'person.create',
    requestedBy: 'stranger',
    shellName: 'stranger',
    displayName: 'Stranger',
    email: 'stranger@example.org',
  });
  const home = homeOf(world, { person: 'member' });
  writeFileSync(join(home, 'letters'), CONTENT);
  for (const person of ['member', 'stranger']) {
    await deletePerson(person);
    await eventually(`the deletion of ${person}`, () =>
      portal.heard.some(
        ({ event, data }) => event === 'person.deleted' && data['account'] === person,
      ),
    );
  }
  expect(existsSync(home)).toBe(false);
  expect(archivesOf('homes')).toContain('member.1');
  const entries = [...(await readDirectory(world)).keys()];
  expect(entries.filter((dn) => /member|stranger/.test(dn) && !dn.includes('members'))).toEqual([]);
});

test('the month', async () => {
  await admit(portal, 'clock');
  const { uid } = await findTool('leaver');
  const home = homeOf(world, { tool: 'leaver' });
  writeFileSync(join(home, 'precious'), CONTENT);
  await administer(
    world.tools.socket,
    `CREATE DATABASE s${uid}__data; CREATE TABLE s${uid}__data.t (n INT);
     INSERT INTO s${uid}__data.t VALUES (1), (2), (42);`,
  );
  const rowsOfIt = () =>
    administer(world.tools.socket, `SELECT n FROM s${uid}__data.t ORDER BY n;`);
  const rows = await rowsOfIt();
  const entries = async () =>
    [...(await readDirectory(world)).keys()].filter((dn) => dn.includes('leaver'));
  expect(await entries()).toHaveLength(3);

  for (const tool of ['leaver', 'stayer']) {
    await ask({ kind: 'tool.delete', requestedBy: 'alice', tool });
  }
  await comes(9.9);
  expect(told('leaver')).toEqual(['tool.ready', 'tool.deleting 40 40', 'tool.disabled']);
  await comes(10);
  expect(told('leaver').slice(3)).toEqual(['tool.deleting 30 40']);
  await comes(33);
  expect(told('leaver').slice(4)).toEqual(['tool.deleting 7 40']);
  await comes(39);
  expect(told('leaver').slice(5)).toEqual(['tool.deleting 1 40']);
  await comes(39.9);
  // on the last day
  await ask({ kind: 'tool.enable', requestedBy: 'alice', tool: 'stayer' });
  expect(existsSync(home)).toBe(true);
  expect(archivesOf('homes')).not.toContain('tools.leaver.1');

  await comes(40);
  await portal.hear('tool.deleted');
  expect(told('leaver').slice(6)).toEqual(['tool.archived', 'tool.deleted']);
  expect(told('stayer').slice(3)).toEqual([
    'tool.deleting 30 40',
    'tool.deleting 7 40',
    'tool.deleting 1 40',
    'tool.enabled',
  ]);
  expect(await findTool('stayer')).toMatchObject({ state: 'active' });
  expect(existsSync(homeOf(world, { tool: 'stayer' }))).toBe(true);
  expect(await findTool('leaver')).toEqual({ uid, state: 'deleted' });
  expect(existsSync(home)).toBe(false);
  expect(await entries()).toEqual([]);
  await expect(rowsOfIt()).rejects.toThrow();
  for (const server of ['replica', 'tools'] as const) {
    expect((await readAccounts(world, server)).has(`s${uid}`)).toBe(false);
  }
  expect(archivesOf('homes')).toContain('tools.leaver.1');
  expect(archivesOf('databases')).toContain('tools.leaver.1');
  for (const role of ['homes', 'databases'] as const) {
    const [recorded] = await query<{ manifest_sha256: string; path: string }>(
      world,
      'SELECT manifest_sha256, path FROM archives WHERE subject = $1 AND role = $2',
      [uid, role],
    );
    const manifest = readFileSync(
      join(world.config.archives[role], 'tools.leaver.1/manifest.json'),
    );
    expect(createHash('sha256').update(manifest).digest('hex')).toBe(recorded?.manifest_sha256);
  }

  // an admin restores it, with the same number
  now = at(60);
  await askAsAdmin({ kind: 'tool.restore', tool: 'leaver' });
  await portal.hear('tool.restored');
  await settled(world);
  expect(await findTool('leaver')).toEqual({ uid, state: 'active' });
  expect(readFileSync(join(home, 'precious'), 'utf8')).toBe(CONTENT);
  expect(await rowsOfIt()).toBe(rows);
  expect(await entries()).toHaveLength(3);
  expect(told('leaver').slice(8)).toEqual(['tool.returning', 'tool.restored']);

  // and it is deleted again, until nothing is kept
  await ask({ kind: 'tool.delete', requestedBy: 'alice', tool: 'leaver' });
  await comes(99);
  await comes(100);
  await eventually('the second deletion', () => told('leaver').at(-1) === 'tool.deleted');
  expect(archivesOf('homes')).toContain('tools.leaver.2');
  // that of the first time was kept as long as any
  await comes(40 + 364.9);
  expect(archivesOf('homes')).toContain('tools.leaver.1');
  await comes(40 + 365.1);
  await eventually('the first archive to be removed', () =>
    (['homes', 'databases'] as const).every((role) => {
      const names = archivesOf(role);
      return !names.includes('tools.leaver.1') && names.includes('tools.leaver.2');
    }),
  );
  await comes(100 + 364.9);
  expect(archivesOf('homes')).toContain('tools.leaver.2');
  await comes(100 + 365.1);
  await portal.hear('tool.expired');
  expect(archivesOf('homes')).not.toContain('tools.leaver.2');
  expect(archivesOf('databases')).not.toContain('tools.leaver.2');
  expect(portal.disorder).toEqual([]);
}, 300_000);
