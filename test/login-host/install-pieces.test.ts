/** Files that `install` writes, on a disk that becomes full. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { file } from '../../deploy/login-host/pieces.ts';
import { onSmallDisk } from './small-disk.ts';

test('a file stays as it was if the disk has no room for all of the new one', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'chamberlain-pieces-'));
  const small = join(folder, 'small');
  try {
    await onSmallDisk(small, '64k', () => {
      const path = join(small, 'sudoers');
      writeFileSync(path, 'old');
      const piece = file(path, { contents: 'x'.repeat(100_000), mode: 0o644 });
      expect(() => piece.mend?.()).toThrow('ENOSPC');
      expect(readFileSync(path, 'utf8')).toBe('old');
      expect(readdirSync(small)).toEqual(['sudoers']);
      const fits = file(path, { contents: 'y'.repeat(40_000), mode: 0o644 });
      fits.mend?.();
      expect(fits.differs()).toBeUndefined();
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
