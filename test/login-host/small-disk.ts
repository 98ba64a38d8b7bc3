/** A disk that can be filled. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';

/** Runs `act` while a file system of this size (tmpfs(5), such as `64k`) is mounted at `folder`, which it makes. */
export async function onSmallDisk(
  folder: string,
  size: string,
  act: () => void | Promise<void>,
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder]);
  try {
    await act();
  } finally {
    execFileSync('umount', [folder]);
  }
}
