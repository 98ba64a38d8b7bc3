import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { codeOf } from '../../src/shared/errors.ts';
import {
  clearArchiveProgress,
  readStillWanted,
  type RecordedArchive,
  recordArchive,
  reportArchiveProgress,
} from '../../src/archives/archives-table.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { wantTool } from '../laws-world.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let homes: Pool;
let subject: number;

beforeAll(async () => {
  world = await openWorld('archives', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  homes = openPool(world.config, 'homes', { max: 2, durable: false });
});
beforeEach(async () => {
  ({ uid: subject } = await wantTool(owner, world, []));
  await owner.query(`UPDATE tools SET state = 'archived' WHERE uid = $1`, [subject]);
  await owner.query('INSERT INTO archivals (subject, archival) VALUES ($1, 2)', [subject]);
});
afterAll(async () => {
  await Promise.all([owner.end(), homes.end()]);
  await world.close();
});

const record = (changes: Partial<RecordedArchive> = {}) =>
  withClient(homes, (client) =>
    recordArchive(client, {
      subject,
      archival: 2,
      role: 'homes',
      manifestSha256: 'a'.repeat(64),
      path: '/srv/x',
      bytes: 7_000_000_000,
      ...changes,
    }),
  );
const failedWith = (act: Promise<unknown>) => act.then(() => 'done', codeOf);

test('a role records its own archive, may record it again, but can record no other', async () => {
  await record();
  await record();
  expect(await failedWith(record({ manifestSha256: 'b'.repeat(64) }))).toBe('STEP_STALE');
  expect(await failedWith(record({ role: 'databases' }))).toBe('STEP_FAILED');
  expect(await failedWith(record({ archival: 3 }))).toBe('STEP_FAILED');
  const { rows } = await owner.query(
    'SELECT role, manifest_sha256, bytes FROM archives WHERE subject = $1',
    [subject],
  );
  expect(rows).toEqual([{ role: 'homes', manifest_sha256: 'a'.repeat(64), bytes: '7000000000' }]);
});

test('a long step is wanted while the subject is archived in that direction and the realm is not frozen', async () => {
  const wanted = (archival = 2, returning = false) =>
    readStillWanted(homes, { subject, archival, returning });
  expect([await wanted(), await wanted(1), await wanted(2, true)]).toEqual([true, false, false]);
  await owner.query('UPDATE archivals SET returning_at = now() WHERE subject = $1', [subject]);
  expect([await wanted(), await wanted(2, true)]).toEqual([false, true]);
  await owner.query(`UPDATE frozen SET frozen_at = now(), frozen_by = 'x'`);
  expect(await wanted(2, true)).toBe(false);
  await owner.query('UPDATE frozen SET frozen_at = NULL, frozen_by = NULL');
  await owner.query(`UPDATE tools SET state = 'active' WHERE uid = $1`, [subject]);
  expect(await wanted(2, true)).toBe(false);
  expect(
    await failedWith(
      readStillWanted({ query: () => Promise.reject(new Error('away')) } as never, {
        subject,
        archival: 2,
        returning: true,
      }),
    ),
  ).toBe('BACKEND_UNAVAILABLE');
});

test('a step that destroys is wanted while the subject is deleted, is not being restored, and the realm is not frozen', async () => {
  for (const role of ['homes', 'databases']) {
    await owner.query(
      `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
       VALUES ($1, 2, $2, repeat('a', 64), '/srv/x', 1)`,
      [subject, role],
    );
  }
  const wanted = () => readStillWanted(homes, { subject, archival: 2, returning: undefined });
  expect(await wanted()).toBe(false);
  await owner.query('UPDATE archivals SET left_at = now() WHERE subject = $1', [subject]);
  await owner.query(`UPDATE tools SET state = 'deleted' WHERE uid = $1`, [subject]);
  expect(await wanted()).toBe(true);
  await owner.query(`UPDATE frozen SET frozen_at = now(), frozen_by = 'x'`);
  expect(await wanted()).toBe(false);
  await owner.query('UPDATE frozen SET frozen_at = NULL, frozen_by = NULL');
  await owner.query('UPDATE archivals SET returning_at = now() WHERE subject = $1', [subject]);
  await owner.query(`UPDATE tools SET state = 'archived' WHERE uid = $1`, [subject]);
  expect(await wanted()).toBe(false);
});

test('progress is reported, updated, and cleared; if it cannot be reported, nothing fails', async () => {
  const told = async () =>
    (
      await owner.query('SELECT act, done, total FROM archive_progress WHERE subject = $1', [
        subject,
      ])
    ).rows as unknown[];
  const report = (act: string, done: number, total?: number) =>
    reportArchiveProgress(homes, { subject, role: 'homes', act, done, total });
  await report('counting', 0);
  expect(await told()).toEqual([{ act: 'counting', done: '0', total: null }]);
  await report('packing', 5, 10);
  expect(await told()).toEqual([{ act: 'packing', done: '5', total: '10' }]);
  await clearArchiveProgress(homes, { subject, role: 'homes' });
  expect(await told()).toEqual([]);
  await reportArchiveProgress({ query: () => Promise.reject(new Error('away')) } as never, {
    subject,
    role: 'homes',
    act: 'packing',
    done: 1,
    total: undefined,
  });
});
