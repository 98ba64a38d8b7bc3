/**
 * No password is anywhere but in its credentials file: everything is searched for each that was ever in
 * one, while all servers log all that they are told, and some refuse.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { verifierOf } from '../../../src/credentials/credentials.ts';
import { administer, type World } from '../../stack.ts';
import { endProcess, startWorkers } from '../processes/crash.ts';
import { eventually } from '../eventually.ts';
import { dumpRedis, dumpTables, query, readCredentials } from '../outside.ts';
import type { Portal } from '../portal.ts';
import { admit, openRunning, type Running } from '../running.ts';

const run = promisify(execFile);
const TOOLS = ['secret-1', 'secret-2', 'secret-3'];

let running: Running;
let world: World;
let portal: Portal;
/** every password that was seen in a credentials file */
const passwords = new Set<string>();
/** what commands printed; every command line on this machine while it ran, and the workers' environment */
const said: string[] = [];
const commandLines = new Set<string>();
let workLog: string[] = [];
let sampling: NodeJS.Timeout;

beforeAll(async () => {
  running = await openRunning('secrets', { own: true });
  ({ world, portal } = running);
  await running.stopWork();
  for (const server of [world.replica, world.tools]) {
    await administer(server.socket, 'SET GLOBAL general_log = ON; SET GLOBAL log_warnings = 9;');
  }
  for (const setting of [
    "log_statement = 'all'",
    'log_min_error_statement = debug5',
    'log_min_messages = debug1',
    'log_parameter_max_length = -1',
    'log_parameter_max_length_on_error = -1',
    'log_min_duration_statement = 0',
  ]) {
    await query(world, `ALTER SYSTEM SET ${setting}`);
  }
  await query(world, 'SELECT pg_reload_conf()');
  sampling = setInterval(() => {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        commandLines.add(readFileSync(join('/proc', pid, 'cmdline'), 'utf8'));
      } catch {
        // it has ended
      }
    }
  }, 50);
});

afterAll(async () => {
  clearInterval(sampling);
  await running?.close();
});

function collect(): void {
  for (const owner of [
    ...TOOLS.map((tool) => ({ tool })),
    { tool: 'admin' },
    { person: 'alice' },
  ]) {
    passwords.add(readCredentials(world, owner).password);
  }
}

async function command(...args: string[]): Promise<void> {
  said.push(await world.chamberlain(...args).catch((error: Error) => error.message));
}

test('a run of the chain, with rotations and failures, gives passwords to look for', async () => {
  const { child, log } = await startWorkers(world, [], { CHAMBERLAIN_LOG_LEVEL: 'trace' });
  workLog = log;
  commandLines.add(readFileSync(join('/proc', String(child.pid), 'environ'), 'utf8'));
  try {
    await admit(portal, 'alice');
    for (const name of TOOLS) {
      await portal.get({ kind: 'tool.create', requestedBy: 'alice', name, title: name });
    }
    collect();
    const rotate = (tool: string) =>
      portal.send({ kind: 'credentials.rotate', requestedBy: 'alice', tool });
    const failing = (role: string) =>
      eventually(`${role} to fail`, async () => {
        await command('plan', '--all');
        await command('status');
        const rows = await query(
          world,
          `SELECT FROM convergence WHERE role = $1 AND state IN ('failing', 'parked')`,
          [role],
        );
        return rows.length > 0;
      });

    // a database server that refuses
    await administer(
      world.tools.socket,
      // a connection keeps the rights that it began with
      `REVOKE CREATE USER ON *.* FROM 'chamberlain_databases'@'%';
       KILL USER 'chamberlain_databases'@'%';`,
    );
    const first = await Promise.all(TOOLS.map(rotate));
    await failing('databases');
    collect();
    await administer(
      world.tools.socket,
      "GRANT CREATE USER ON *.* TO 'chamberlain_databases'@'%';",
    );
    // touch the rows, as any change would, so that they are not parked
    await query(
      world,
      `SELECT touch_generation(subject, role) FROM convergence WHERE role = 'databases'`,
    );
    for (const id of first) await portal.hear('request.done', id);
    collect();

    // a PostgreSQL that refuses the verifier
    await query(world, 'REVOKE INSERT, UPDATE ON database_verifiers FROM chamberlain_homes');
    const second = await Promise.all(TOOLS.map(rotate));
    await failing('homes');
    collect();
    await query(world, 'GRANT INSERT, UPDATE ON database_verifiers TO chamberlain_homes');
    await query(
      world,
      `SELECT touch_generation(subject, role) FROM convergence WHERE role = 'homes'`,
    );
    for (const id of second) await portal.hear('request.done', id);
    collect();
    for (const args of [
      ['plan', '--all', '--json'],
      ['status', '--json'],
      ['requests', '--json'],
    ]) {
      await command(...args);
    }
  } finally {
    await endProcess(child, 'SIGTERM');
  }
  expect(passwords.size).toBeGreaterThanOrEqual(5 + 2 * TOOLS.length);
});

/** Files below a folder that `grep` finds. Its server may remove a file while it is searched. */
async function filesWith(pattern: readonly string[], folder: string): Promise<string[]> {
  expect(readdirSync(folder)).not.toEqual([]);
  const found = run('grep', ['-rla', ...pattern, folder], { env: { ...process.env, LC_ALL: 'C' } });
  const { stdout } = await found.catch(
    (error: { code?: number; stdout: string; stderr: string }) => {
      const wrong = error.stderr.trimEnd().split('\n');
      const isGone = wrong.every((line) => line.endsWith(': No such file or directory'));
      if (error.code === 1 || (error.code === 2 && isGone)) return error; // 1: found in none
      throw error;
    },
  );
  return stdout.split('\n').filter((file) => file !== '');
}

/** Files below a folder that hold one of the passwords; the patterns are read from a file, not from argv. */
async function filesWithPasswords(folder: string): Promise<string[]> {
  const patterns = join(world.dir, 'patterns');
  mkdirSync(patterns, { recursive: true, mode: 0o700 });
  writeFileSync(join(patterns, 'passwords'), [...passwords].join('\n'), { mode: 0o600 });
  return filesWith(['-F', '-f', join(patterns, 'passwords')], folder);
}

test('the search finds what is there: each password in its file, and nowhere else on the file server', async () => {
  const files = await filesWithPasswords(world.dataRoot);
  const expected = [...TOOLS, 'admin'].map((tool) => readCredentials(world, { tool }).path);
  expected.push(readCredentials(world, { person: 'alice' }).path);
  expect(files.sort()).toEqual(expected.sort());
});

test.each(['postgres', 'replica', 'tools', 'slapd', 'redis'] as const)(
  'none is in the files and logs of %s',
  async (server) => {
    const { folder } = world[server];
    if (server === 'postgres') await query(world, 'CHECKPOINT');
    if (server === 'postgres') {
      // that the log does hold statements and their values
      expect(readFileSync(join(folder, 'log'), 'utf8')).toMatch(
        /execute record-verifier|database_verifiers/,
      );
    }
    if (server === 'replica' || server === 'tools') {
      const files = await filesWith(['-E', '(CREATE|ALTER) USER .s[0-9]+'], join(folder, 'data'));
      expect(files.join()).toContain('.log');
    }
    expect(await filesWithPasswords(folder)).toEqual([]);
  },
);

test('none is in PostgreSQL or Redis', async () => {
  const texts = [JSON.stringify(await dumpTables(world, [])), ...(await dumpRedis(world)).values()];
  expect(texts.length).toBeGreaterThan(3);
  for (const password of passwords) expect(texts.join('\n')).not.toContain(password);
});

test('none is in a log of ours, in what a command prints, in a command line or an environment', () => {
  expect(workLog.join('')).toContain('not as wanted');
  expect(commandLines.size).toBeGreaterThan(10);
  expect(said.join('')).toContain('secret-1');
  const texts = {
    workLog: workLog.join(''),
    said: said.join(''),
    lines: [...commandLines].join('\n'),
  };
  for (const password of passwords) {
    for (const text of Object.values(texts)) expect(text.includes(password)).toBe(false);
  }
});

test('verifiers are in no log of ours, in nothing a command prints, in no queue and no event', async () => {
  const rows = await dumpTables(world, ['database_verifiers']);
  const texts = [
    workLog.join(''),
    said.join(''),
    [...commandLines].join('\n'),
    JSON.stringify(rows),
  ];
  const redis = readdirSync(join(world.redis.folder, 'data'), {
    recursive: true,
    withFileTypes: true,
  })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
  for (const password of passwords) {
    const verifier = verifierOf(password);
    for (const text of [...texts, ...redis]) expect(text.includes(verifier.slice(1))).toBe(false);
  }
});

test("the secrets of the program's own accounts are in no log, command line or table either", async () => {
  const own = readdirSync(world.config.secrets)
    .filter((name) => /^(postgres|mariadb|ldap)-/.test(name))
    .map((name) => [name, readFileSync(join(world.config.secrets, name), 'utf8').trim()] as const);
  expect(own.length).toBeGreaterThan(10);
  const texts = {
    'our log': workLog.join(''),
    'what commands print': said.join(''),
    'command lines': [...commandLines].join('\n'),
    tables: JSON.stringify(await dumpTables(world, [])),
    'the log of PostgreSQL': readFileSync(join(world.postgres.folder, 'log'), 'utf8'),
  };
  const found = own.flatMap(([name, secret]) =>
    Object.entries(texts).flatMap(([where, text]) =>
      text.includes(secret) ? [[name, where]] : [],
    ),
  );
  expect(found).toEqual([]);
});
