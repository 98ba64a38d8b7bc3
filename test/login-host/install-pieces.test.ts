/** Files that `install` writes: on a disk that becomes full, and in place of links. */
import {
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { file } from '../../deploy/login-host/pieces.ts';
import { ownAuthority } from '../../src/setup/certificates.ts';
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

test('a link is not taken for an empty file: what it leads to is kept', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'chamberlain-pieces-'));
  try {
    const path = join(folder, 'nsswitch.conf');
    writeFileSync(`${path}.real`, 'hosts: files dns\n');
    symlinkSync(`${path}.real`, path);
    const piece = file(path, { contents: (present = '') => `${present}passwd: x\n`, mode: 0o644 });
    expect(piece.differs()).toBe('is not a regular file');
    expect(() => piece.mend?.()).toThrow('must be kept');
    expect(readFileSync(path, 'utf8')).toBe('hosts: files dns\n');

    const names = ['folder', 'ca', 'caKey', 'certificate', 'key'] as const;
    const at = Object.fromEntries(names.map((name) => [name, join(folder, name)]));
    const authority = ownAuthority('tools', true, at as Record<(typeof names)[number], string>);
    writeFileSync(join(folder, 'elsewhere'), 'a key', { mode: 0o600 });
    symlinkSync(join(folder, 'elsewhere'), join(folder, 'caKey'));
    await expect((async () => authority.make())()).rejects.toThrow('must be kept');
    expect(lstatSync(join(folder, 'caKey')).isSymbolicLink()).toBe(true);
    expect(readdirSync(folder)).not.toContain('ca');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
