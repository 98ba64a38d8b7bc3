/** Making a set does not wait for ever: PostgreSQL hangs in the middle of it. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { makeSet } from '../../src/backup/make.ts';
import { openWorld, runningPid, signalTree, type World } from '../stack.ts';

const folder = mkdtempSync(join(tmpdir(), 'chamberlain-stalled-'));
let world: World;

beforeAll(async () => {
  const key = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const [recipient = ''] = /age1\w+/.exec(key) ?? [];
  world = await openWorld('backup stalled', {
    own: true,
    needs: ['postgres'],
    adjust: (config) => ({ ...config, backups: { recipients: [recipient] } }),
  });
});

afterAll(async () => {
  await world?.close();
  rmSync(folder, { recursive: true });
});

test.each([
  [
    'nothing comes',
    10_000, // longer than pg_dump needs on a busy machine
    {
      code: 'BACKEND_UNAVAILABLE',
      message: 'counting rows of PostgreSQL: no data for 10 s',
    },
  ],
  ['somebody ends it', 600_000, new Error('ended')],
])('it ends and leaves nothing behind if PostgreSQL hangs and %s', async (_, stalledMs, how) => {
  const pid = runningPid(world.postgres) as number;
  const ending = new AbortController();
  const say = (text: string) => {
    if (!text.startsWith('counting')) return;
    signalTree(pid, 'SIGSTOP');
    if (how instanceof Error) ending.abort(how);
  };
  try {
    const made = makeSet(world.config, world.configFile, folder, {
      say,
      signal: ending.signal,
      stalledMs,
    });
    await expect(made).rejects.toMatchObject(how);
    expect(readdirSync(folder)).toEqual([]);
  } finally {
    signalTree(pid, 'SIGCONT');
  }
});
