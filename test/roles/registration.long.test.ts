/** A role is its folder and a line in the registry: nothing else changes for one more, from its types to its archives. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { eventually } from '../scenarios/eventually.ts';
import { makeTemporaryFolder } from '../shared-servers.ts';
import { copyWithToyRole } from './toy-role.ts';

const run = promisify(execFile);

let dir: string;
let copy: string;
let work: ChildProcess | undefined;
let env: Record<string, string>;
const log: string[] = [];

beforeAll(async () => {
  dir = makeTemporaryFolder();
  copy = makeTemporaryFolder();
  copyWithToyRole(copy);
  const ours = {
    PATH: process.env['PATH'] ?? '',
    NODE_COMPILE_CACHE: join(copy, 'compiled'), // its programs are started often
  };
  const stack = (...args: string[]) =>
    run(process.execPath, [join(copy, 'dev/servers/cli.ts'), ...args, '--dir', dir], { env: ours });
  await stack('up'); // it builds the program
  const { stdout } = await stack('env');
  const variables = [...stdout.matchAll(/^export (\w+)='(.*)'$/gm)];
  env = { ...ours, ...Object.fromEntries(variables.map(([, name, value]) => [name, value])) };
  work = spawn(process.execPath, [join(copy, 'dist/chamberlain.js'), 'work'], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  work.stderr?.setEncoding('utf8').on('data', (text: string) => void log.push(text));
}, 300_000);

afterAll(async () => {
  if (work !== undefined && work.exitCode === null) {
    const ended = new Promise((done) => work?.once('exit', done));
    work.kill('SIGTERM');
    await ended;
  }
  if (copy !== undefined) {
    await run(process.execPath, [
      join(copy, 'dev/servers/cli.ts'),
      'down',
      '--purge',
      '--dir',
      dir,
    ]);
    rmSync(copy, { recursive: true, force: true });
    rmSync(dir, { recursive: true, force: true });
  }
});

/** Runs a command of the copy; what it prints, and how it ends. */
async function chamberlain(...args: string[]): Promise<{ out: string; exit: number }> {
  const command = [join(copy, 'dist/chamberlain.js'), ...args];
  return await run(process.execPath, command, { env }).then(
    ({ stdout }) => ({ out: stdout, exit: 0 }),
    (error: { stdout: string; stderr: string; code: number }) => ({
      out: `${error.stdout}${error.stderr}`,
      exit: error.code,
    }),
  );
}

async function submit(kind: string, fields: Record<string, string>): Promise<void> {
  const flags = Object.entries(fields).flatMap(([name, value]) => [`--${name}`, value]);
  const { out, exit } = await chamberlain('submit', kind, ...flags, '--wait');
  if (exit !== 0) throw new Error(`${kind}: ${out}\n${log.slice(-20).join('')}`);
}

async function query<Row>(sql: string): Promise<Row[]> {
  const { PGHOST: host = '', PGPORT: port, PGDATABASE: database = '' } = env;
  const client = new pg.Client({ host, port: Number(port), database, user: 'postgres' });
  await client.connect();
  try {
    const { rows } = await client.query(sql);
    return rows as Row[];
  } finally {
    await client.end();
  }
}

const noteOf = (account: string): string => join(env['DATA_ROOT'] ?? '', 'notes', account);
const read = (account: string): string => readFileSync(noteOf(account), 'utf8');

async function uidOf(tool: string): Promise<number> {
  const [row] = await query<{ uid: number }>(`SELECT uid FROM tools WHERE name = '${tool}'`);
  return row?.uid ?? 0;
}

async function becomes(state: string): Promise<void> {
  await eventually(`the tool to be ${state}`, async () => {
    const [row] = await query<{ state: string }>(`SELECT state FROM tools WHERE name = 'bot'`);
    if (row?.state === state) return true;
    const owed = await query('SELECT * FROM convergence WHERE applied < wanted');
    throw new Error(`it is ${row?.state}: ${JSON.stringify(owed)} ${log.slice(-5).join('')}`);
  });
}

test('its types fit: no list of roles is left that would have to name it', async () => {
  const tsconfig = join(copy, 'tsconfig.roles.json');
  writeFileSync(
    tsconfig,
    JSON.stringify({ extends: './tsconfig.json', include: ['src', 'workers', 'deploy'] }),
  );
  const tsc = join(copy, 'node_modules/typescript/bin/tsc');
  // several threads would each look at the types that they share
  const options = ['--noEmit', '--singleThreaded', '-p', tsconfig];
  const wrong = await run(process.execPath, [tsc, ...options]).then(
    () => '',
    (error: { stdout: string }) => error.stdout,
  );
  expect(wrong).toBe('');
});

test('it provisions: a request is done when its note is there', async () => {
  await submit('person.create', { shellName: 'alice', displayName: 'Alice', email: 'a@b.org' });
  expect(read('alice')).toMatch(/^\d+ open$/u);
  await submit('tool.create', { name: 'bot', title: 'A bot' });
  expect(read('tools.bot')).toBe(`${await uidOf('bot')} open`);
});

test('it follows what changes: a tool that is disabled, and enabled', async () => {
  await submit('tool.disable', { tool: 'bot', reason: 'a test' });
  expect(read('tools.bot')).toBe(`${await uidOf('bot')} closed`);
  await submit('tool.enable', { tool: 'bot' });
  expect(read('tools.bot')).toBe(`${await uidOf('bot')} open`);
});

test('it surveys, plans and repairs what has drifted', async () => {
  expect(await chamberlain('plan', '--all')).toMatchObject({ exit: 0 });
  writeFileSync(noteOf('tools.bot'), 'drifted');
  const surveyed = await chamberlain('survey', 'tools.bot');
  expect(surveyed.out).toContain('note');
  const planned = await chamberlain('plan', '--all', '--role', 'notes');
  expect(planned.out).toContain(`drifted → ${await uidOf('bot')} open`);
  expect(await chamberlain('repair', 'tools.bot', '--yes')).toMatchObject({ exit: 0 });
  expect(read('tools.bot')).toBe(`${await uidOf('bot')} open`);
  expect(await chamberlain('plan', '--all')).toMatchObject({ exit: 0 });
});

test('it explains, and stands in status and doctor', async () => {
  const { out } = await chamberlain('explain', '--timeout', '20', 'tools.bot');
  expect(out).toMatch(/^ *as wanted +note +note \d+ open$/mu);
  expect((await chamberlain('status')).out).toMatch(/\bnotes\b/u);
  const examined = await eventually('all checks to be in time', async () => {
    const doctor = await chamberlain('doctor', '--verbose');
    return !doctor.out.includes('no answer within') && doctor.out;
  });
  expect(examined).toContain('notes answers');
  expect(examined).toContain('is there, for notes');
  expect(examined).toContain('each role has the rights of migrations/roles.sql, and no others');
});

test('it archives what leaves, deletes it, and restores it', async () => {
  const uid = await uidOf('bot');
  await submit('tool.delete', { tool: 'bot', reason: 'a test' });
  expect(read('tools.bot')).toBe(`${uid} closed`);
  // the time has come, and the last warning was a day ago
  await query(
    `UPDATE tools SET delete_after = now() - interval '2 min', days_warned = 1,
       warned_at = now() - interval '25 hours' WHERE name = 'bot'`,
  );
  await becomes('deleted');
  const archives = await query<{ role: string; path: string }>(
    'SELECT role, path FROM archives ORDER BY role',
  );
  expect(archives.map(({ role }) => role)).toEqual(['databases', 'homes', 'notes']);
  expect(readFileSync(archives[2]?.path ?? '', 'utf8')).toBe(`${uid} closed`);
  await eventually('the note to be gone', () => !existsSync(noteOf('tools.bot')));
  const { out } = await chamberlain('explain', String(uid));
  expect(out).toContain('note in ');
  await submit('tool.restore', { tool: 'bot' });
  await becomes('active');
  await eventually('the note to be back', () => read('tools.bot') === `${uid} open`);
  await eventually('nothing to be left to do', async () => {
    const { exit } = await chamberlain('plan', '--all');
    return exit === 0;
  });
});
