/** Has the login helper accept the directory as it is. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChamberlainError } from '../shared/errors.ts';
import { removeFile } from './helper/replace-file.ts';
import { ACCEPT_FILE, readStatus } from './status.ts';

const PATIENCE_MS = 10_000;

/**
 * Asks the login helper to accept the directory, and returns what it has accepted, in sentences. Must run as
 * root. Throws NOT_ACCEPTED if the helper does not do so in time; the request is then removed.
 *
 * @param folder the helper's own
 */
export async function acceptDirectory(
  folder: string,
  patienceMs = PATIENCE_MS,
): Promise<readonly string[]> {
  const path = join(folder, ACCEPT_FILE);
  if (readStatus(folder) === undefined) throw notNow('the login helper has never run here');
  const acceptedAt = () => readStatus(folder)?.accepted?.at;
  const before = acceptedAt();
  writeFileSync(path, '', { mode: 0o600 });
  const deadline = performance.now() + patienceMs;
  do {
    await sleep(50);
    if (acceptedAt() !== before) return readStatus(folder)?.accepted?.what ?? [];
  } while (performance.now() < deadline);
  removeFile(path);
  throw notNow(`the login helper did not answer within ${patienceMs / 1000} s`);
}

function notNow(why: string): ChamberlainError {
  return new ChamberlainError('NOT_ACCEPTED', why);
}
