/** The file of the login helper's status, where it cannot be read. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { describeFailure } from '../../src/cli/exit.ts';
import { readStatus } from '../../src/login-host/status.ts';

test('whoever reads a status that is damaged is not told to look for a server', () => {
  const folder = mkdtempSync(join(tmpdir(), 'status '));
  try {
    expect(readStatus(folder)).toBeUndefined();
    writeFileSync(join(folder, 'status.json'), '{');
    let error: unknown;
    try {
      readStatus(folder);
    } catch (thrown) {
      error = thrown;
    }
    expect(describeFailure(error).line).toMatch(
      /^BACKEND_UNREADABLE: .* Look at the log of chamberlain-login-helper, or tell an operator\.$/u,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
