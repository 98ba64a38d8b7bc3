/** Who came back from a backup, by the marker: the table of src/seals/heartbeat.ts. */
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
    ['none: the first marker of all', undefined, knows(), undefined],
    ['none: a marker is adopted', 10, knows(), undefined],
    ['none: as it was told', 20, knows(20, 20), undefined],
    ['none: a marker was written, and that was not recorded', 20, knows(20, 10), undefined],
    ['none: a marker was to be written, and was not', 10, knows(20, 10), undefined],
    ['none: the first one is being written', undefined, knows(20), undefined],
    ['the directory: its marker is of before the last', 9, knows(20, 10), 'directory'],
    ['the directory: it has lost its marker', undefined, knows(20, 10), 'directory'],
    ['the database: a marker that it knows nothing of', 21, knows(20, 20), 'database'],
    ['the database: so too where none was ever recorded as told', 21, knows(20), 'database'],
    ['none: an older copy was accepted', 9, knows(20, 10, 30), undefined],
    ['none: an emptied directory was accepted', undefined, knows(20, 10, 30), undefined],
    ['the database: though an older directory was accepted', 21, knows(20, 10, 30), 'database'],
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
        'the server x is as of 2026-01-01T00:00:10.000Z, but was told at 2026-01-01T00:00:40.000Z: ' +
        'it is an older copy, by 30 s; it is mended',
    });
    expect(doubt(undefined, knows(40, 40))?.sentence).toMatch(
      /^the server x shows no marker, .* older copy; it is mended$/,
    );
    expect(doubt(undefined, knows(40, 40))?.byMs).toBe(Infinity);
    expect(doubt(400, knows(40, 40))).toEqual({
      older: 'database',
      byMs: 360_000,
      sentence:
        'the server x was last told at 2026-01-01T00:06:40.000Z, but our database knows of nothing after ' +
        '2026-01-01T00:00:40.000Z: it is an older copy, by 6 min; run `chamberlain recover`',
    });
  });

  test('accuses nobody when another tells between the two looks', () => {
    // told 20 before the directory was read, which then showed 20, or 30; told 30 afterwards
    for (const seen of [20, 30]) {
      expect(markerDoubt(at(seen), knows(20, 20), knows(30, 30))).toBeUndefined();
    }
  });
});

test('a short form has the time that was signed, and nothing else has one', () => {
  const text = signShortMarker({ realm: 'tools', at: at(7) }, key);
  expect(timeOfShortMarker(text)).toEqual(at(7));
  for (const other of ['', '{}', text.slice(0, -1), signMarker(marker(3), key)]) {
    expect(timeOfShortMarker(other)).toBeUndefined();
  }
});

test('a marker is read as it was written, and nothing else is one', () => {
  expect(parseMarker(signMarker(marker(3), key))).toEqual(marker(3));
  const old = { ...marker(3), at: 'yesterday' };
  for (const text of ['', '{}', JSON.stringify(marker(3)), signPayload(JSON.stringify(old), key)]) {
    expect(parseMarker(text)).toBeUndefined();
  }
});

describe('missing people', () => {
  const told = (people: number) => signMarker(marker(people), key);
  test.each<[string, number, string[], boolean]>([
    ['all are there', 100, [told(100)], false],
    ['more are there than were told of', 120, [told(100)], false],
    ['ten are drift', 90, [told(100)], false],
    ['eleven of a hundred are not', 89, [told(100)], true],
    ['a twentieth of many is drift', 950, [told(1000)], false],
    ['more of many is not', 949, [told(1000)], true],
    ['nothing is known without a marker', 0, [], false],
    ['nothing is known by a text that is none', 0, ['{}'], false],
    ['of two markers the lower one counts', 100, [told(200), told(100)], false],
  ])('%s', (_, seen, texts, missing) => {
    expect(missingPeople(seen, texts) !== undefined).toBe(missing);
  });
});
