/** Lines about the work itself. */
import { expect, test } from '@jest/globals';
import { lookAtPlaces } from '../../src/doctor/work.ts';

test('a server and an area of homes that get no marker any more are named as people know them', () => {
  const files = { root: '/', toolHomes: '/data/project', personHomes: '/home', skel: '/etc/skel' };
  const of = (role: 'directory' | 'homes' | 'databases', place: string, publishedAt: string) => ({
    ...{ role, place, older: null, sentence: null, publishedAt: new Date(publishedAt) },
  });
  const lines = lookAtPlaces(
    [
      of('directory', 'directory', '2026-01-01T00:10:00Z'),
      of('databases', 'toolsdb', '2026-01-01T00:00:00Z'),
      of('homes', 'toolHomes', '2026-01-01T00:00:00Z'),
      of('homes', 'personHomes', '2026-01-01T00:10:00Z'),
    ],
    { files } as Parameters<typeof lookAtPlaces>[1],
  );
  const [at, end] = ['2026-01-01T00:00:00.000Z', 'an older copy there would not be noticed'];
  expect(lines.map(({ what }) => what)).toEqual([
    `the last marker of the server toolsdb was published at ${at}: ${end}`,
    `the last marker of the area /data/project was published at ${at}: ${end}`,
  ]);
});
