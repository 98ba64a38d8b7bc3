/** 1,000 drifts over all targets, repaired while the workers and the command are killed at 50 moments. */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { chmodSync, lstatSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { populate } from '../../../bench/population/population.ts';
import {
  maintainersOf,
  personName,
  toolName,
  TOOLS_FIRST,
} from '../../../bench/population/population-names.ts';
import { type Closers, openRealm } from '../../../bench/realm.ts';
import { adminDn } from '../../../deploy/ldap/render.ts';
import { verifierOf } from '../../../src/credentials/credentials.ts';
import type { Report } from '../../../src/reconcile/report.ts';
import { endOf, runCli, startCli } from '../../cli/run-cli.ts';
import { administer, type World } from '../../stack.ts';
import { endProcess, randomFrom, startWorkers } from '../processes/crash.ts';
import { eventually } from '../eventually.ts';
import {
  homeOf,
  query,
  readAccounts,
  readCredentials,
  readDirectory,
  settled,
} from '../outside.ts';
import { ROLES } from './repair-world.ts';

const POPULATION = { people: 200, tools: 400 };
const CUTS = Number(process.env['CHAMBERLAIN_CUTS'] ?? 50);
/** If fewer are left, the damage is done again, so that each cut interrupts much work. */
const FEW = 200;

let world: World;
const closers: Closers = [];

beforeAll(async () => {
  const realm = await openRealm(tmpdir(), closers);
  await realm.fill((of) => populate(of, POPULATION, () => {}));
  const { stack, config } = realm;
  const { place, slapd } = stack;
  world = {
    ...{ ...stack, config, dir: place.dir, dataRoot: place.dataRoot, configFile: place.configFile },
    ldapAdmin: { dn: adminDn(slapd.base), password: '' },
  } as unknown as World;
});
afterAll(async () => {
  for (const close of closers.toReversed()) await close();
}, 60_000);

const toolHome = (n: number) => homeOf(world, { tool: toolName(n) });
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => from + n);

/** Damages 1,000 things, or those of them that are whole again. */
async function damage(): Promise<void> {
  const { base } = world.config.ldap;
  const below = `ou=servicegroups,${base}`;
  const person = (n: number) => `uid=${personName(n)},ou=people,${base}`;
  const ldif = [
    ...range(0, 150).map((n) => [
      `dn: uid=tools.${toolName(n)},ou=people,${below}`,
      ...['changetype: modify', 'replace: loginShell', 'loginShell: /bin/zsh'],
    ]),
    ...range(75, 225).map((n) => [
      `dn: cn=tools.${toolName(n)},${below}`,
      ...['changetype: modify', 'delete: member'],
      `member: ${person(maintainersOf(n, POPULATION)[0] ?? 0)}`,
    ]),
    ...range(150, 275).map((n) => [
      `dn: cn=runas-tools.${toolName(n)},ou=sudoers,cn=tools,ou=projects,${base}`,
      'changetype: delete',
    ]),
    ...range(0, 100).map((n) => [
      `dn: ${person(n)}`,
      ...['changetype: modify', 'delete: sshPublicKey'],
    ]),
    ...range(75, 150).map((n) => [
      `dn: cn=project-tools,ou=groups,${base}`,
      ...['changetype: modify', 'delete: member', `member: ${person(n)}`],
    ]),
  ];
  // whatever is still damaged is refused
  spawnSync(
    'ldapmodify',
    [
      ...['-c', '-x', '-H', world.config.ldap.uri, '-D', world.ldapAdmin.dn],
      ...['-y', join(world.config.secrets, 'ldap-admin')],
    ],
    { input: ldif.map((lines) => `${lines.join('\n')}\n`).join('\n') },
  );
  for (const n of range(100, 250)) chmodSync(toolHome(n), 0o2777);
  for (const n of range(200, 325)) rmSync(join(toolHome(n), 'replica.my.cnf'), { force: true });
  const users = range(275, 400).map((n) => `s${TOOLS_FIRST + n}`);
  await administer(
    world.tools.socket,
    users.map((user) => `ALTER USER '${user}'@'%' WITH MAX_USER_CONNECTIONS 3;`).join('\n'),
  );
}

async function plan(): Promise<Report & { exit: number | null }> {
  const { exit, out, err } = await runCli(['plan', '--json'], { config: world.configFile });
  if (out === '') throw new Error(err);
  return { ...(JSON.parse(out) as Report), exit };
}

/** Entries, homes and limits, except passwords and the heartbeat. */
async function look(): Promise<Map<string, unknown>> {
  const seen = new Map<string, unknown>(await readDirectory(world));
  seen.delete(`cn=chamberlain,${world.config.ldap.base}`);
  for (const n of range(0, POPULATION.tools)) {
    const { mode, uid, gid } = lstatSync(toolHome(n));
    seen.set(toolHome(n), [mode, uid, gid, readdirSync(toolHome(n))]);
  }
  const limits = await administer(
    world.tools.socket,
    `SELECT User, JSON_REMOVE(Priv, '$.authentication_string', '$.password_last_changed') FROM mysql.global_priv
     WHERE User REGEXP '^s[0-9]+$' ORDER BY 1;`,
  );
  seen.set('accounts', limits);
  return seen;
}

async function countRepairs(): Promise<number> {
  const [row] = await query<{ repairs: number }>(
    world,
    'SELECT count(*)::int AS repairs FROM repairs',
  );
  return row?.repairs ?? 0;
}

/** The parts of the last repair. */
async function countParts(): Promise<number> {
  const [row] = await query<{ parts: number }>(
    world,
    `SELECT count(*)::int AS parts FROM repair_parts
     WHERE repair = (SELECT id FROM repairs ORDER BY at DESC LIMIT 1)`,
  );
  return row?.parts ?? 0;
}

/** Waits until a role has the lock of a subject, that is, until it is working. */
const atWork = () =>
  eventually('a role at work', async () => {
    const locks = await query(
      world,
      `SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid IN (101, 102, 103) AND granted`,
    );
    return locks.length > 0;
  });

test(`cut ${CUTS} times, it ends right`, async () => {
  const seed = Number(process.env['CHAMBERLAIN_SEED'] ?? Date.now() % 1_000_000);
  const random = randomFrom(seed);
  const say = (line: string) => process.stdout.write(`${line}\n`);
  let worker: ChildProcess | undefined;
  let command: ChildProcess | undefined;
  try {
    worker = (await startWorkers(world, ROLES)).child;
    await settled(world);
    expect(await plan()).toMatchObject({ exit: 0 });
    const before = await look();
    await damage();
    expect((await plan()).steps).toHaveLength(1000);
    const began = performance.now();
    const whole = await runCli(['repair', '--yes', '--json'], { config: world.configFile });
    expect(whole).toMatchObject({ exit: 0, err: '' });
    say(`repairs: 1,000 without a cut in ${((performance.now() - began) / 1000).toFixed(1)} s`);
    expect(await look()).toEqual(before);

    say(`repairs: CHAMBERLAIN_SEED=${seed}`);
    await damage();
    const cuts = { worker: 0, command: 0, both: 0 };
    let left = 0;
    const lefts: number[] = [];
    for (let cut = 0; cut < CUTS; cut += 1) {
      worker ??= (await startWorkers(world, ROLES)).child;
      if (command === undefined || command.exitCode !== null) {
        const known = await countRepairs();
        const started = startCli(['repair', '--yes', '--json'], { config: world.configFile });
        command = started;
        void endOf(started);
        await eventually(
          'a repair, or that nothing is left',
          async () => started.exitCode !== null || (await countRepairs()) > known,
        );
        left = started.exitCode === null ? await countParts() : 0;
        lefts.push(left);
      }
      const running = command;
      await Promise.race([
        atWork(),
        new Promise<void>((resolve) => {
          // it may have ended before anybody saw its last part
          if (running.exitCode === null) running.once('exit', () => resolve());
          else resolve();
        }),
      ]);
      await sleep(random() * 120); // the moment is what is tested
      const what =
        (['worker', 'both', 'both', 'command'] as const)[Math.floor(random() * 4)] ?? 'both';
      cuts[what] += 1;
      if (what !== 'worker') {
        await endProcess(command, 'SIGKILL');
        command = undefined;
      }
      if (what !== 'command') {
        await endProcess(worker, 'SIGKILL');
        worker = undefined;
      }
      if (left < FEW) await damage();
    }
    if (command !== undefined) await endProcess(command, 'SIGKILL');
    command = undefined;
    say(
      `repairs: cut ${JSON.stringify(cuts)}; each was asked for so many parts: ${lefts.join(' ')}`,
    );

    worker ??= (await startWorkers(world, ROLES)).child;
    // for a repair in progress, partly done work is another plan: it is refused, and requested again
    await eventually(
      'a repair that is not interrupted',
      async () => {
        const { exit } = await runCli(['repair', '--yes', '--json'], { config: world.configFile });
        return exit === 0;
      },
      120_000,
    );
    await settled(world);
    expect(await plan()).toMatchObject({ exit: 0, steps: [], findings: [], unreadable: [] });
    expect(await look()).toEqual(before);
    const [replica, tools] = [
      await readAccounts(world, 'replica'),
      await readAccounts(world, 'tools'),
    ];
    for (const n of range(0, POPULATION.tools)) {
      const { user, password, mode } = readCredentials(world, { tool: toolName(n) });
      const verifier = verifierOf(password);
      expect([mode, user, replica.get(user)?.verifier, tools.get(user)?.verifier]).toEqual([
        ...[0o440, `s${TOOLS_FIRST + n}`, verifier, verifier],
      ]);
    }
  } finally {
    if (command !== undefined) await endProcess(command, 'SIGKILL');
    if (worker !== undefined) await endProcess(worker, 'SIGTERM');
  }
}, 1_200_000);
