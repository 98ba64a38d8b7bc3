/** The table `directory_heartbeat` when an older copy of the directory was accepted. */
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

test('an older database is still recorded and frozen', async () => {
  const { doubt, publishing } = await showing(new Date('2026-01-01T00:00:30Z'));
  if (doubt === undefined) throw new Error('no doubt');
  expect(doubt.older).toBe('database');
  await writeDoubt(directory, doubt, publishing);
  expect((await readDoubt(directory)).doubt).toBe(doubt.sentence);
  expect(await frozenBy()).toBe('the role directory');
});

test('nothing is frozen if a recovery has settled the doubt since', async () => {
  const { doubt, publishing } = await showing(new Date('2026-01-01T00:00:30Z'));
  if (doubt === undefined) throw new Error('no doubt');
  await owner.query('UPDATE directory_heartbeat SET publishing_at = NULL, published_at = NULL');
  await writeDoubt(directory, doubt, publishing);
  expect((await readDoubt(directory)).doubt).toBeNull();
  expect(await frozenBy()).toBeNull();
});

test('a doubt about the directory from before the acceptance is no longer written', async () => {
  const publishing = await readPublishing(directory);
  await writeDoubt(directory, { older: 'directory', sentence: 'x' }, publishing);
  expect((await readDoubt(directory)).doubt).toBeNull();
});

test('the next heartbeat is later than the one in the older copy, even if that is from tomorrow', async () => {
  // the clock was ahead when both were published
  const tomorrow = Date.now() + 86_400_000;
  const inCopy = new Date(tomorrow - 60_000);
  await owner.query('UPDATE directory_heartbeat SET publishing_at = $1, published_at = $1', [
    new Date(tomorrow),
  ]);
  expect((await showing(inCopy)).doubt).toBeUndefined();
  const at = await beginPublishing(directory, inCopy);
  expect(at.getTime()).toBe(inCopy.getTime() + 1);
  // another process looks in between
  expect((await showing(inCopy)).doubt).toBeUndefined();
  await endPublishing(directory, at);
  expect(await readPublishing(directory)).toEqual({
    publishingAt: at,
    publishedAt: at,
    acceptedAt: undefined,
  });
  expect((await showing(at)).doubt).toBeUndefined();
});

test('a heartbeat from the future that our key did not sign freezes nothing, and is overwritten', async () => {
  const { doubt, seenAt, texts } = await showing(new Date('2036-01-01T00:00:00Z'), newSealKey());
  expect({ doubt, seenAt, texts: texts.length }).toEqual({
    doubt: undefined,
    seenAt: undefined,
    texts: 1,
  });
});

test('the directory role cannot set a heartbeat far ahead, whatever it says that it has seen', async () => {
  await owner.query('UPDATE directory_heartbeat SET accepted_at = NULL');
  const years = new Date(Date.now() + 10 * 365 * 86_400_000);
  await expect(beginPublishing(directory, years)).rejects.toThrow(
    /^the heartbeat in the directory is of 20\d\d-/,
  );
  // but a little ahead is allowed, for a realm that was frozen while the clock was ahead
  const soon = new Date(Date.now() + 30_000);
  expect((await beginPublishing(directory, soon)).getTime()).toBe(soon.getTime() + 1);
  const at = await beginPublishing(directory, soon);
  expect(at.getTime()).toBe(soon.getTime() + 2);
  await endPublishing(directory, years);
  expect(await readPublishing(directory)).toMatchObject({ publishingAt: at, publishedAt: at });
});

test('an older copy from before the key was replaced is still detected', async () => {
  await owner.query('UPDATE directory_heartbeat SET accepted_at = NULL');
  const { doubt } = await showing(new Date('2026-01-01T00:00:10Z'), newSealKey());
  expect(doubt?.older).toBe('directory');
});

test('a marker signed with a newer key is not overwritten until our database knows that key', async () => {
  const databases = openPool(world.config, 'databases', { max: 1, durable: false });
  const replaced = newSealKey();
  const of = { role: 'databases', place: 'replica' } as const;
  // signed with the key that replaced it after the backup
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
    // the directory role publishes the first heartbeat
    await tell(new Date(), ours);
    expect(await look()).toMatchObject({ doubt: { older: 'database' } });
    // signed with an unknown key
    await tell(new Date(), replaced);
    expect(await look()).toMatchObject({ doubt: { older: 'place' } });
  } finally {
    await databases.end();
  }
});
