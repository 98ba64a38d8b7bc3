/** The table `directory_heartbeat` where an older copy of the directory was accepted. */
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { signMarker, signShortMarker } from '../../src/seals/heartbeat.ts';
import { sealKeyId, verifying } from '../../src/seals/seal.ts';
import {
  beginPublishing,
  endPublishing,
  lookAtHeartbeat,
  readDoubt,
  readPublishing,
  writeDoubt,
} from '../../src/seals/heartbeat-table.ts';
import { beginPublishingPlace, lookAtPlace } from '../../src/seals/place-markers-table.ts';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let directory: Pool;

beforeAll(async () => {
  world = await openWorld('marker-store', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  directory = openPool(world.config, 'directory', { max: 2, durable: false });
});
afterAll(async () => {
  await Promise.all([owner.end(), directory.end()]);
  await world.close();
});
beforeEach(async () => {
  await owner.query(
    `UPDATE directory_heartbeat SET publishing_at = '2026-01-01T00:00:20Z', published_at = '2026-01-01T00:00:20Z',
       accepted_at = now(), doubt = NULL`,
  );
  await owner.query('UPDATE frozen SET frozen_at = NULL, frozen_by = NULL, reason = NULL');
});

const newSealKey = () => {
  const { privateKey } = generateKeyPairSync('ed25519');
  return { id: sealKeyId(privateKey), privateKey };
};
const ours = newSealKey();
const showing = (at: Date, key = ours) => {
  const clock = at.toISOString();
  const marker = { kind: 'heartbeat', realm: 'tools', at: clock, clock } as const;
  const text = signMarker({ ...marker, people: 0, tools: 0, floors: [] }, key);
  return lookAtHeartbeat(directory, async () => [text], verifying(ours));
};
const frozenBy = async () => {
  const { rows } = await owner.query('SELECT frozen_by FROM frozen');
  return (rows[0] as { frozen_by: string | null }).frozen_by;
};

test('an older database is told and frozen all the same', async () => {
  const { doubt, publishing } = await showing(new Date('2026-01-01T00:00:30Z'));
  if (doubt === undefined) throw new Error('no doubt');
  expect(doubt.older).toBe('database');
  await writeDoubt(directory, doubt, publishing);
  expect((await readDoubt(directory)).doubt).toBe(doubt.sentence);
  expect(await frozenBy()).toBe('the role directory');
});

test('but where a restoration has settled it since, nothing is frozen', async () => {
  const { doubt, publishing } = await showing(new Date('2026-01-01T00:00:30Z'));
  if (doubt === undefined) throw new Error('no doubt');
  await owner.query('UPDATE directory_heartbeat SET publishing_at = NULL, published_at = NULL');
  await writeDoubt(directory, doubt, publishing);
  expect((await readDoubt(directory)).doubt).toBeNull();
  expect(await frozenBy()).toBeNull();
});

test('a doubt about the directory, of before it was accepted, is not written any more', async () => {
  const publishing = await readPublishing(directory);
  await writeDoubt(directory, { older: 'directory', sentence: 'x' }, publishing);
  expect((await readDoubt(directory)).doubt).toBeNull();
});

test('the next marker is later than the one in the older copy, though that is of tomorrow', async () => {
  // the clock was ahead when both were told
  const tomorrow = Date.now() + 86_400_000;
  const inCopy = new Date(tomorrow - 60_000);
  await owner.query('UPDATE directory_heartbeat SET publishing_at = $1, published_at = $1', [
    new Date(tomorrow),
  ]);
  expect((await showing(inCopy)).doubt).toBeUndefined();
  const at = await beginPublishing(directory, inCopy);
  expect(at.getTime()).toBe(inCopy.getTime() + 1);
  // in between, another looks
  expect((await showing(inCopy)).doubt).toBeUndefined();
  await endPublishing(directory, at);
  expect(await readPublishing(directory)).toEqual({
    publishingAt: at,
    publishedAt: at,
    acceptedAt: undefined,
  });
  expect((await showing(at)).doubt).toBeUndefined();
});

test('a marker of the future that our key has not signed freezes nothing, and is written over', async () => {
  const { doubt, seenAt, texts } = await showing(new Date('2036-01-01T00:00:00Z'), newSealKey());
  expect({ doubt, seenAt, texts: texts.length }).toEqual({
    doubt: undefined,
    seenAt: undefined,
    texts: 1,
  });
});

test('the role directory sets no heartbeat far ahead, whatever it says that it has seen', async () => {
  await owner.query('UPDATE directory_heartbeat SET accepted_at = NULL');
  const years = new Date(Date.now() + 10 * 365 * 86_400_000);
  await expect(beginPublishing(directory, years)).rejects.toThrow(
    /^the heartbeat in the directory is of 20\d\d-/,
  );
  // as one that was frozen with the clock a little ahead is gone on with
  const soon = new Date(Date.now() + 30_000);
  expect((await beginPublishing(directory, soon)).getTime()).toBe(soon.getTime() + 1);
  const at = await beginPublishing(directory, soon);
  expect(at.getTime()).toBe(soon.getTime() + 2);
  await endPublishing(directory, years);
  expect(await readPublishing(directory)).toMatchObject({ publishingAt: at, publishedAt: at });
});

test('an older copy of before the key was replaced is one all the same', async () => {
  await owner.query('UPDATE directory_heartbeat SET accepted_at = NULL');
  const { doubt } = await showing(new Date('2026-01-01T00:00:10Z'), newSealKey());
  expect(doubt?.older).toBe('directory');
});

test('what a server shows by a newer key is not written over before our database knows that key', async () => {
  const databases = openPool(world.config, 'databases', { max: 1, durable: false });
  const replaced = newSealKey();
  const of = { role: 'databases', place: 'replica' } as const;
  // signed by the key that took its place after the backup
  const text = signShortMarker({ realm: 'tools', at: new Date('2026-01-01T00:00:30Z') }, ours);
  const look = () =>
    lookAtPlace(databases, of, async () => text, { older: 'place', name: 'x', todo: 'x' });
  const backupAt = new Date('2026-01-01T00:00:20Z');
  const tell = (at: Date, key: typeof ours) =>
    owner.query('UPDATE directory_heartbeat SET marker = $1, key = $2', [
      signShortMarker({ realm: 'tools', at }, key),
      createPublicKey(key.privateKey).export({ type: 'spki', format: 'der' }).toString('base64'),
    ]);
  try {
    await owner.query('DELETE FROM place_markers');
    await tell(backupAt, replaced);
    await beginPublishingPlace(databases, of, backupAt);
    await owner.query('UPDATE place_markers SET published_at = publishing_at');
    expect(await look()).toMatchObject({ doubt: undefined, next: undefined });
    // the role directory tells the first heartbeat
    await tell(new Date(), ours);
    expect(await look()).toMatchObject({ doubt: { older: 'database' } });
    // signed by nobody whom we know
    await tell(new Date(), replaced);
    expect(await look()).toMatchObject({ doubt: { older: 'place' } });
  } finally {
    await databases.end();
  }
});
