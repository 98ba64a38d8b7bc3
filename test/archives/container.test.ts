/** What the container of archives does, whatever is packed into it. */
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  type ArchivePlace,
  eraseArchives,
  type Manifest,
  withArchives,
} from '../../src/archives/container.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'chamberlain-container-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const step = { signal: new AbortController().signal, report: () => {} };

test('an erasure empties the folder that was opened, not the one that is at its path by now', async () => {
  const path = join(folder, 'archives');
  const place: ArchivePlace<Manifest> = {
    ...{ role: 'databases', path, isRoots: false, resumes: true },
    ...{ parse: () => undefined, filesOf: () => [] },
  };
  mkdirSync(path, 0o700);
  for (const name of ['tools.bot.1', '.tools.bot.2.part', 'tools.other.1']) {
    mkdirSync(join(path, name));
  }
  await withArchives(place, async (archives) => {
    // as after `umount -l`
    renameSync(path, join(folder, 'unmounted'));
    mkdirSync(path, 0o700);
    await eraseArchives(archives, 'tools.bot', step);
  });
  expect(readdirSync(join(folder, 'unmounted'))).toEqual(['tools.other.1']);
});
