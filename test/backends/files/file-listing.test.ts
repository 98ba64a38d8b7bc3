/** What is in a folder and is not ours, read again and again. */
import { chownSync, mkdirSync, mkdtempSync, openSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { type FolderMemory, listUnmanaged } from '../../../src/backends/files/file-listing.ts';
import { eventually } from '../../scenarios/eventually.ts';

const folder = mkdtempSync(join(tmpdir(), 'listing-'));
afterAll(() => rmSync(folder, { recursive: true }));

const memory: FolderMemory = {};
/** The names that were listed, and what is not ours. */
async function look() {
  let names: readonly string[] = [];
  const found = await listUnmanaged(
    () => ({ fd: openSync(folder, 'r') }),
    async (listed) => {
      names = listed;
      return (name) => name.startsWith('ours');
    },
    memory,
  );
  return { names: names.toSorted(), found: found.map(({ name, uid }) => `${name} of ${uid}`) };
}
const make = (name: string) => mkdirSync(join(folder, name));

test('a folder is listed completely until its last change is past, and then after each change of a name', async () => {
  for (const name of ['ours-1', 'ours-2', 'theirs']) make(name);
  expect(await look()).toEqual({
    names: ['ours-1', 'ours-2', 'theirs'],
    found: ['theirs of 0'],
  });
  // another name may have come in the same moment: nothing is remembered of it
  const { changedAtNs = 0n } = memory;
  expect(Date.now() - Number(changedAtNs / 1_000_000n)).toBeGreaterThanOrEqual(2000);
  const settled = async () => ((await look()).names.length === 1 ? true : undefined);
  await eventually('our names to be no longer listed', settled, 20_000);

  chownSync(join(folder, 'theirs'), 1, 1);
  expect(await look()).toEqual({ names: ['theirs'], found: ['theirs of 1'] });
  make('stray');
  expect((await look()).names).toEqual(['ours-1', 'ours-2', 'stray', 'theirs']);
  await eventually('it to be no longer listed', async () =>
    (await look()).names.length === 2 ? true : undefined,
  );
  rmdirSync(join(folder, 'theirs'));
  expect(await look()).toMatchObject({
    names: ['ours-1', 'ours-2', 'stray'],
    found: ['stray of 0'],
  });
});
