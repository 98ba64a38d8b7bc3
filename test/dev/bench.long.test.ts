/** A benchmark that is stopped early leaves nothing running. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { processes } from '../../dev/servers/processes.ts';
import { eventually } from '../scenarios/eventually.ts';
import { makeTemporaryFolder } from '../shared-servers.ts';

let dir: string;
beforeEach(() => {
  dir = join(makeTemporaryFolder(), 'bench');
  mkdirSync(dir);
});
afterEach(() => {
  for (const pid of startedThere()) process.kill(pid, 'SIGKILL');
  rmSync(join(dir, '..'), { recursive: true, force: true });
});

/**
 * The processes in the folder, or that have its name among their arguments: the benchmark itself, its servers,
 * and what they have started.
 */
function startedThere(): number[] {
  return processes().filter((pid) => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      return words.includes(dir) || readlinkSync(`/proc/${pid}/cwd`).startsWith(dir);
    } catch {
      return false; // it has ended meanwhile
    }
  });
}

const SERVERS = new Set(['postgres', 'redis-server', 'slapd', 'mariadbd']);

function namesOf(pids: readonly number[]): Set<string> {
  return new Set(pids.map((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8').trim()));
}

test('SIGTERM to `npm run bench` also stops its servers', async () => {
  const npm = spawn('npm', ['run', 'bench', '--', 'chain', '--quick', '--dir', dir], {
    stdio: 'ignore',
  });
  const ended = new Promise<void>((done) => npm.once('exit', () => done()));
  await eventually('its servers', () => SERVERS.isSubsetOf(namesOf(startedThere())), 120_000);
  npm.kill('SIGTERM');
  await ended;
  await eventually('their end', () => startedThere().length === 0, 30_000);
  expect(startedThere()).toEqual([]);
}, 300_000);
