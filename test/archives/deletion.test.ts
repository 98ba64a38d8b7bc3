import { expect, test } from '@jest/globals';
import { parseArchiveName, readEvidence, type SeenDeletion } from '../../src/archives/deletion.ts';

test.each([
  ['tools.bridgebot.1', { account: 'tools.bridgebot', archival: 1, kind: 'tool' }],
  ['alice.12', { account: 'alice', archival: 12, kind: 'person' }],
  ['.alice.1.part', undefined],
  ['alice', undefined],
  ['alice.0', undefined],
  ['alice.01', undefined],
  ['erasures.log', undefined],
])('the name %s of an archive', (name, named) => {
  expect(parseArchiveName(name)).toEqual(named);
});

const seen = (
  role: SeenDeletion['role'],
  archival: number,
  more: Partial<SeenDeletion> = {},
): SeenDeletion => ({
  ...{ role, uid: 51234, account: 'tools.bridgebot', kind: 'tool', archival },
  ...{ deletedAt: `2026-11-0${archival}T00:00:00Z`, fingerprints: [], archive: `/${role}` },
  ...{ manifest: '', bytes: 1, ...more },
});

test.each<[string, SeenDeletion[], string]>([
  [
    'nothing was restored',
    [seen('homes', 1, { back: 'no' }), seen('databases', 1, { back: 'no' })],
    'no',
  ],
  [
    'all is back',
    [seen('homes', 1, { back: 'yes' }), seen('databases', 1, { back: 'yes' })],
    'yes',
  ],
  [
    'only the home was restored',
    [seen('homes', 1, { back: 'yes' }), seen('databases', 1, { back: 'no' })],
    'partly',
  ],
  ['it was restored on some servers', [seen('databases', 1, { back: 'partly' })], 'partly'],
  ['there was no home', [seen('homes', 1), seen('databases', 1, { back: 'yes' })], 'yes'],
  ['there was nothing at all', [seen('homes', 1), seen('databases', 1)], 'no'],
  [
    'it was restored, and archived again',
    [seen('databases', 2, { back: 'no' }), seen('databases', 1, { back: 'yes' })],
    'no',
  ],
])('where %s', (_, archives, back) => {
  const [deletion, ...others] = readEvidence(archives);
  expect([deletion?.back, others]).toEqual([back, []]);
});

test('the last archival decides; the keys of all of them count', () => {
  const [deletion] = readEvidence([
    seen('homes', 2, { fingerprints: ['b', 'c'] }),
    seen('homes', 1, { fingerprints: ['a', 'b'] }),
  ]);
  expect(deletion).toMatchObject({
    archival: 2,
    deletedAt: new Date('2026-11-02T00:00:00Z'),
    fingerprints: ['a', 'b', 'c'],
  });
});
