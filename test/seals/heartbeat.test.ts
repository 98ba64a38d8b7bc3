/** Which side was restored from a backup, by the marker: the table of src/seals/heartbeat.ts. */
import { describe, expect, test } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';
import {
  markerDoubt,
  missingPeople,
  parseMarker,
  signMarker,
  signShortMarker,
  timeOfShortMarker,
  type Marker,
  type Publishing,
} from '../../src/seals/heartbeat.ts';
import { sealKeyId, signPayload } from '../../src/seals/seal.ts';

const { privateKey } = generateKeyPairSync('ed25519');
const key = { id: sealKeyId(privateKey), privateKey };
const marker = (people: number): Marker => ({
  ...{ kind: 'heartbeat', realm: 'tools', at: at(1).toISOString(), clock: at(1).toISOString() },
  ...{ people, tools: 2, floors: [[1000, 3]] },
});

const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, seconds));
const knows = (publishing?: number, told?: number, accepted?: number): Publishing => ({
  publishingAt: publishing === undefined ? undefined : at(publishing),
  publishedAt: told === undefined ? undefined : at(told),
  acceptedAt: accepted === undefined ? undefined : at(accepted),
});

describe('the doubt', () => {
  test.each<[string, number | undefined, Publishing, 'directory' | 'database' | undefined]>([
    ['none: the first heartbeat of all', undefined, knows(), undefined],
    ['none: an existing heartbeat is adopted', 10, knows(), undefined],
    ['none: the published heartbeat', 20, knows(20, 20), undefined],
    ['none: a heartbeat was written, but this was not recorded', 20, knows(20, 10), undefined],
    ['none: a heartbeat was about to be written, but was not', 10, knows(20, 10), undefined],
    ['none: the first one is being written', undefined, knows(20), undefined],
    ['the directory: its heartbeat is older than the last one', 9, knows(20, 10), 'directory'],
    ['the directory: it has lost its heartbeat', undefined, knows(20, 10), 'directory'],
    ['the database: a heartbeat that it does not know', 21, knows(20, 20), 'database'],
    ['the database: likewise if none was ever recorded as published', 21, knows(20), 'database'],
    ['none: an older copy was accepted', 9, knows(20, 10, 30), undefined],
    ['none: an emptied directory was accepted', undefined, knows(20, 10, 30), undefined],
    ['the database: even if an older directory was accepted', 21, knows(20, 10, 30), 'database'],
  ])('%s', (_, seen, known, older) => {
    const doubt = markerDoubt(seen === undefined ? undefined : at(seen), known, known);
    expect(doubt?.older).toBe(older);
    if (doubt !== undefined) {
      expect(doubt.sentence).toMatch(/older copy.*chamberlain recover/);
      expect(doubt.sentence).not.toMatch(/\.$/);
    }
  });

  test('says which place it is, and by how much', () => {
    const carrier = { older: 'place', name: 'the server x', todo: 'it is mended' } as const;
    const doubt = (seen: number | undefined, known: Publishing) =>
      markerDoubt(seen === undefined ? undefined : at(seen), known, known, carrier);
    expect(doubt(20, knows(20, 20))).toBeUndefined();
    expect(doubt(10, knows(40, 40))).toEqual({
      older: 'place',
      byMs: 30_000,
      sentence:
        'the server x has the marker of 2026-01-01T00:00:10.000Z, but the last one was published at 2026-01-01T00:00:40.000Z: ' +
        'the server x is an older copy, by 30 s; it is mended',
    });
    expect(doubt(undefined, knows(40, 40))?.sentence).toMatch(
      /^the server x has no marker, .* older copy; it is mended$/,
    );
    expect(doubt(undefined, knows(40, 40))?.byMs).toBe(Infinity);
    expect(doubt(400, knows(40, 40))).toEqual({
      older: 'database',
      byMs: 360_000,
      sentence:
        'the server x has the marker of 2026-01-01T00:06:40.000Z, but PostgreSQL knows none after ' +
        '2026-01-01T00:00:40.000Z: PostgreSQL is an older copy, by 6 min; run `chamberlain recover`',
    });
  });

  test('does not arise if another process writes between the two looks', () => {
    // 20 was published before the directory was read, which then showed 20 or 30; 30 was published afterwards
    for (const seen of [20, 30]) {
      expect(markerDoubt(at(seen), knows(20, 20), knows(30, 30))).toBeUndefined();
    }
  });
});

test('a short form has its signed time, and no other text has a time', () => {
  const text = signShortMarker({ realm: 'tools', at: at(7) }, key);
  expect(timeOfShortMarker(text)).toEqual(at(7));
  for (const other of ['', '{}', text.slice(0, -1), signMarker(marker(3), key)]) {
    expect(timeOfShortMarker(other)).toBeUndefined();
  }
});

test('a heartbeat is read as it was written, and no other text is one', () => {
  expect(parseMarker(signMarker(marker(3), key))).toEqual(marker(3));
  const old = { ...marker(3), at: 'yesterday' };
  for (const text of ['', '{}', JSON.stringify(marker(3)), signPayload(JSON.stringify(old), key)]) {
    expect(parseMarker(text)).toBeUndefined();
  }
});

describe('missing people', () => {
  const told = (people: number) => signMarker(marker(people), key);
  test.each<[string, number, string[], boolean]>([
    ['nobody is missing', 100, [told(100)], false],
    ['there are more than published', 120, [told(100)], false],
    ['ten are drift', 90, [told(100)], false],
    ['eleven of a hundred are not', 89, [told(100)], true],
    ['a twentieth of many is drift', 950, [told(1000)], false],
    ['more of many is not', 949, [told(1000)], true],
    ['nothing is known without a heartbeat', 0, [], false],
    ['nothing is known from a text that is not a heartbeat', 0, ['{}'], false],
    ['the lower of two heartbeats counts', 100, [told(200), told(100)], false],
  ])('%s', (_, seen, texts, missing) => {
    expect(missingPeople(seen, texts) !== undefined).toBe(missing);
  });
});
