/** Archives, removes and restores a home that is deeper than a path can be long. */
import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { startFileServer, stopFileServers } from '../../backends/files/file-server.ts';
import type { FileServerOfTest } from '../../backends/files/file-server.ts';
import { deepTreeOf, fillDeep } from '../../backends/files/hostile-home.ts';

let server: FileServerOfTest;
beforeAll(async () => {
  server = await startFileServer();
});
afterAll(stopFileServers);

test('files that no path can reach are restored with every byte, owner, mode, time, link, hole and ACL', async () => {
  const { uid, name, home } = await server.madeTool();
  await fillDeep(home, uid);
  const before = deepTreeOf(home);
  expect(before.length).toBeGreaterThan(3500);
  const { ino, gid } = lstatSync(home);
  const about = { home: { area: 'toolHomes' as const, name }, uid, archival: 1 };
  await server.do({ verb: 'home.withdraw', ...about, seen: { ino, uid, gid, mode: 0o2775 } });
  await server.do({ verb: 'home.archive', ...about });
  const { manifestSha256: manifest } = server.archived.at(-1)!;
  await server.do({ verb: 'home.destroy', ...about, manifest });
  expect(server.staged()).toEqual([]);
  await server.do({ verb: 'home.restore', ...about, manifest });
  try {
    expect(deepTreeOf(home)).toEqual(before);
    expect(server.staged()).toEqual([]);
    expect(readdirSync(home).filter((each) => /^\.[0-9a-f]{64}$/u.test(each))).toEqual([]);
    expect(existsSync(join(server.archives, `tools.${name}.1`, 'home.tar.zst'))).toBe(true);
  } finally {
    // no path leads to all of it, so rmSync cannot reach it
    spawnSync('rm', ['-rf', home]);
  }
});
