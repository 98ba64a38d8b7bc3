/**
 * The drill of a recovery: servers come back from backups that are 0, 1 and 50 changes old, in each combination. What
 * everybody may do is read from the servers themselves, before the loss and afterwards: nobody has more.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { payloadOf } from '../../src/model/seal.ts';
import { runCli } from '../bin/run-cli.ts';
import { newKey } from '../login-host/agent-world.ts';
import {
  bringBackDatabase,
  bringBackDirectory,
  dumpDatabase,
  dumpDirectory,
} from '../scenarios/backup.ts';
import {
  faultsOf,
  loginWith,
  query,
  readAccounts,
  readCredentials,
  readDirectory,
  settled,
} from '../scenarios/outside.ts';
import { randomFrom } from '../scenarios/crash.ts';
import { confirmRecovery } from '../scenarios/recovering.ts';
import { eventually } from '../scenarios/eventually.ts';
import { admit, openRunning, type Running } from '../scenarios/running.ts';

const CLI = join(import.meta.dirname, '../../src/bin/chamberlain.ts');
const KILLS = 30;

let running: Running;
let random: () => number;
let made = 0;

const one = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;

/** What everybody may do, a line each, from the servers alone. */
async function readAccess(): Promise<Set<string>> {
  const { world } = running;
  const access = new Set<string>();
  for (const [dn, entry] of await readDirectory(world)) {
    const isLocked = entry['pwdPolicySubentry'] !== undefined;
    if (entry['uidNumber'] !== undefined && !isLocked) access.add(`unlocked ${dn}`);
    for (const key of entry['sshPublicKey'] ?? []) access.add(`key ${dn} ${key}`);
    if (entry['gidNumber'] !== undefined || dn.includes('ou=groups')) {
      for (const member of entry['member'] ?? []) access.add(`member ${dn} ${member}`);
    }
    if (dn.startsWith('cn=runas-')) access.add(`rule ${dn}`);
    for (const seal of entry['chamberlainSeal'] ?? []) {
      const said = JSON.parse(payloadOf(seal) ?? '{}') as {
        state: string;
        member?: boolean;
        keys?: string[];
        members?: string[];
      };
      if (said.state !== 'active') continue;
      for (const key of said.member === true ? (said.keys ?? []) : [])
        access.add(`seal ${dn} ${key}`);
      for (const member of said.members ?? []) access.add(`seal ${dn} ${member}`);
    }
  }
  for (const server of ['replica', 'tools'] as const) {
    for (const [user, { locked }] of await readAccounts(world, server)) {
      if (!locked) access.add(`database ${server} ${user}`);
    }
  }
  return access;
}

/** One change, by what there is. */
async function change(): Promise<void> {
  const { portal } = running;
  const asSteward = (kind: string, fields: object) =>
    portal.ask({ kind, requestedBy: 'steward', ...fields });
  const people = ['alice', 'bob', 'carol', 'dave', 'erin'];
  const person = one(people);
  const tool = one(['one', 'two', 'three', 'four']);
  made += 1;
  const changes = [
    () => asSteward('key.add', { person, key: newKey() }),
    async () => {
      const [row] = await query<{ fingerprint: string }>(
        running.world,
        `SELECT fingerprint FROM ssh_keys JOIN people ON uid = person
         WHERE shell_name = $1 AND removed_at IS NULL LIMIT 1`,
        [person],
      );
      if (row !== undefined)
        await asSteward('key.remove', { person, fingerprint: row.fingerprint });
    },
    () => asSteward('person.suspend', { person, reason: 'a drill' }),
    () =>
      asSteward('person.suspend', {
        person,
        reason: 'x',
        until: new Date(Date.now() + 3_600_000).toISOString(),
      }),
    () => asSteward('person.reinstate', { person }),
    () => asSteward('access.revoke', { person, reason: 'a drill' }),
    () => asSteward('access.grant', { person }),
    () => asSteward('tool.disable', { tool, reason: 'a drill' }),
    () => asSteward('tool.enable', { tool }),
    () => asSteward('maintainer.add', { tool, person }),
    () => asSteward('maintainer.remove', { tool, person }),
    () => asSteward('credentials.rotate', { tool }),
    () => asSteward('tool.create', { name: `new${made}`, title: 'New' }),
    () => admit(portal, `new${made}`),
  ];
  await one(changes)();
}

/** Waits until the heartbeat has been told once more. */
async function nextBeat(): Promise<void> {
  const told = () =>
    query<{ at: Date | null }>(running.world, 'SELECT told_at AS at FROM directory_marker').then(
      ([row]) => row?.at?.getTime() ?? 0,
    );
  const before = await told();
  await eventually('a beat', async () => (await told()) > before);
}

async function recovered(...args: string[]): Promise<void> {
  const ended = await confirmRecovery(running.world, ...args);
  expect([ended.exit, ended.exit === 0 ? '' : ended.err + ended.out]).toEqual([0, '']);
}

beforeAll(async () => {
  const seed = Number(process.env['CHAMBERLAIN_SEED'] ?? Date.now() % 1_000_000);
  process.stdout.write(`recovery: CHAMBERLAIN_SEED=${seed}\n`);
  random = randomFrom(seed);
  running = await openRunning('recovery drill');
  await admit(running.portal, 'alice', 'bob', 'carol', 'dave', 'erin');
  for (const name of ['one', 'two', 'three', 'four']) {
    await running.portal.get({ kind: 'tool.create', requestedBy: 'alice', name, title: name });
  }
  await settled(running.world);
}, 120_000);

afterAll(() => running.close());

const LOST = [['database'], ['directory'], ['database', 'directory']] as const;

test.each(LOST.flatMap((lost) => [0, 1, 50].map((age) => ({ lost, age }))))(
  'lost: $lost, and the backup is $age changes old',
  async ({ lost, age }) => {
    const { world } = running;
    await nextBeat();
    await running.stopWork();
    const backup = { database: await dumpDatabase(world), directory: dumpDirectory(world) };
    await running.startWork();
    for (let n = 0; n < age; n += 1) await change();
    await settled(world);
    // what came back within three seconds cannot be told from the present
    await nextBeat();
    const before = await readAccess();
    const seals = join(world.dir, 'host.seals');
    const entries = [...(await readDirectory(world)).values()];
    writeFileSync(seals, entries.flatMap((entry) => entry['chamberlainSeal'] ?? []).join('\n'));
    await running.stopWork();
    if (lost.some((each) => each === 'database')) await bringBackDatabase(world, backup.database);
    if (lost.some((each) => each === 'directory'))
      await bringBackDirectory(world, backup.directory);
    // as README says: before any worker looks
    if (lost.some((each) => each === 'database')) {
      await runCli(['freeze', '--reason', 'a drill'], { config: world.configFile });
    }
    await running.startWork();
    await running.portal.send({
      kind: 'person.reinstate',
      requestedBy: 'steward',
      person: 'alice',
    });
    const isBoth = lost.length === 2;
    if (isBoth) await recovered('--database', '--seals', seals);
    else {
      // an older copy that the heartbeat cannot tell from the present is of the present
      const isOlder = () =>
        query<{ older: boolean }>(
          world,
          `SELECT doubt IS NOT NULL OR (SELECT frozen_at IS NOT NULL FROM frozen) AS older FROM directory_marker`,
        ).then(([row]) => row?.older);
      if (age > 0) await eventually('the doubt', isOlder);
      await recovered();
    }
    await settled(world);
    const after = await readAccess();
    // alice is reinstated by a request that waited: what was taken counts before it
    const [{ uid } = { uid: 0 }] = await query<{ uid: number }>(
      world,
      `SELECT uid FROM people WHERE shell_name = 'alice'`,
    );
    const isOfAlice = (line: string) => line.includes('alice') || line.endsWith(` u${uid}`);
    const more = [...after].filter((line) => !before.has(line) && !isOfAlice(line));
    expect(more).toEqual([]);
    const tools = await query<{ name: string }>(
      world,
      `SELECT t.name FROM tools t WHERE state = 'active'`,
    );
    const named = tools.map(({ name }) => name);
    expect((await faultsOf(world, named)).filter((each) => !each.includes('no sudo rule'))).toEqual(
      [],
    );
    for (const tool of named) {
      const { path, user } = readCredentials(world, { tool });
      for (const server of ['replica', 'tools'] as const) {
        expect(await loginWith(world, server, path)).toBe(`${user}@%`);
      }
    }
    const twice = await query(
      world,
      'SELECT portal, seq FROM events WHERE seq IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1',
    );
    expect(twice).toEqual([]);
    expect(running.portal.disorder.filter((each) => each.includes('another event'))).toEqual([]);
    // the next round begins with everybody
    for (const person of ['alice', 'bob', 'carol', 'dave', 'erin']) {
      await running.portal.ask({ kind: 'person.reinstate', requestedBy: 'steward', person });
    }
    await settled(world);
  },
  600_000,
);

test(`killed at ${KILLS} moments and run again, it takes all or nothing`, async () => {
  const { world, portal } = running;
  await nextBeat();
  await running.stopWork();
  const backup = await dumpDatabase(world);
  await running.startWork();
  await portal.get({ kind: 'person.suspend', requestedBy: 'steward', person: 'bob', reason: 'x' });
  await settled(world);
  await running.stopWork();
  await bringBackDatabase(world, backup);
  await running.startWork();
  const read = () =>
    query<{ frozen: boolean; state: string }>(
      world,
      `SELECT (SELECT frozen_at IS NOT NULL FROM frozen) AS frozen, state FROM people WHERE shell_name = 'bob'`,
    ).then(([row]) => row);
  await eventually('the freeze', async () => (await read())?.frozen);
  const config = { config: world.configFile };
  const { digest } = JSON.parse((await runCli(['recover', '--json'], config)).out) as {
    digest: string;
  };
  const begin = performance.now();
  await runCli(['recover', '--json'], config);
  const wholeMs = performance.now() - begin;
  for (let n = 0; n < KILLS && (await read())?.frozen === true; n += 1) {
    const child = spawn(process.execPath, [CLI, 'recover', '--expect', digest], {
      env: { ...process.env, CHAMBERLAIN_CONFIG: world.configFile },
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    await Promise.race([ended, sleep((wholeMs * (n + 1)) / KILLS, undefined, { ref: false })]);
    child.kill('SIGKILL');
    await ended;
    const now = await read();
    expect([
      { frozen: true, state: 'active' },
      { frozen: false, state: 'suspended' },
    ]).toContainEqual(now);
  }
  if ((await read())?.frozen === true) await recovered();
  expect(await read()).toEqual({ frozen: false, state: 'suspended' });
}, 600_000);
