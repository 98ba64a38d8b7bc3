/** What the login helper does about a line of a report that it could not handle: src/login-host/helper/take-report.ts. */
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openHost } from '../../../src/login-host/helper/host.ts';
import { beginPiece, takePiece } from '../../../src/login-host/helper/take-report.ts';
import type { ReportLine } from '../../../src/login-host/report-lines.ts';
import { openLog } from '../../../src/shared/log.ts';
import { type HelperWorld, openHelperWorld } from '../helper-world.ts';
import { person } from '../seals.ts';

let world: HelperWorld;
beforeAll(() => {
  world = openHelperWorld();
});
afterAll(() => world.close());

/** Handles a line while seals can be verified, or cannot; returns whether everything must be reported again. */
async function take(line: ReportLine, isAble: boolean): Promise<boolean> {
  const host = openHost(world.config, openLog('fatal'), world.places);
  const { publicKey } = generateKeyPairSync('x25519'); // it can verify nothing
  const keys = new Map([...host.keys].map(([id, key]) => [id, isAble ? key : publicKey]));
  const unable = { ...host, keys };
  await takePiece(unable, beginPiece(unable, [line]));
  return unable.needsFullReport;
}

test('a line that could not be handled is reported again, because the agent takes it as reported', async () => {
  for (const line of [world.beat(), ...world.seal(person('alice', 1))]) {
    expect([line[0], await take(line, true)]).toEqual([line[0], false]);
    expect([line[0], await take(line, false)]).toEqual([line[0], true]);
  }
});
