/** Archives a home of many files, alternating with a plain `tar | zstd` of it. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Archiver } from './lifecycle-archiver.ts';
import { beginPeak, peakMemoryMib, treeMemoryMib } from '../tools/processes.ts';
import { type Closers, FLOOR_IDS, type MeasuredRealm } from '../realm.ts';

const NAME = 'bench-archive';
const FILES_IN_FOLDER = 500;
/** The sizes of the files, in turn: most are small. */
const SIZES = [0, 80, 300, 700, 1500, 3000, 6000, 20_000];
const LOOK_EVERY_MS = 50;

export interface Archives {
  /** of the files */
  bytes: number;
  plainMs: number[];
  archiveMs: number[];
  /** of the last archive */
  packedBytes: number;
  /** of our process and its programs, of our process alone, of tar and zstd alone */
  peakMib: number;
  ownPeakMib: number;
  plainPeakMib: number;
}

export async function measureArchives(
  { config, stack }: MeasuredRealm,
  { files, archiveTurns }: { files: number; archiveTurns: number },
  say: (line: string) => void,
  closers: Closers,
): Promise<Archives> {
  const home = `${config.files.root}${config.files.toolHomes}/${NAME}`;
  const uid = FLOOR_IDS.last;
  say(`making a home of ${files} files`);
  const bytes = makeHome(home, { uid, files });
  const archiver: Archiver = {
    ...{ files: config.files, archives: config.archives.homes },
    ...{ realm: config.realm, name: NAME, uid },
  };
  const child = fork(new URL('lifecycle-archiver.ts', import.meta.url), [JSON.stringify(archiver)]);
  closers.push(async () => void child.kill());
  const plainFile = join(stack.place.dataRoot, 'plain.tar.zst');
  const measured: Archives = {
    ...{ bytes, plainMs: [], archiveMs: [], packedBytes: 0 },
    ...{ peakMib: 0, ownPeakMib: 0, plainPeakMib: 0 },
  };
  // the first run reads from the disk, so it does not count
  await packPlainly(home, plainFile);
  beginPeak(child.pid as number);
  for (let turn = 1; turn <= archiveTurns; turn++) {
    say(`turn ${turn} of ${archiveTurns}`);
    const plain = await packPlainly(home, plainFile);
    measured.plainMs.push(plain.ms);
    measured.plainPeakMib = Math.max(measured.plainPeakMib, plain.peakMib);
    const ours = await whileWatched(child.pid as number, () => archiveHome(child, turn));
    measured.archiveMs.push(ours.result);
    measured.peakMib = Math.max(measured.peakMib, ours.peakMib);
  }
  measured.ownPeakMib = peakMemoryMib(child.pid as number);
  const archive = join(config.archives.homes, `${config.realm}.${NAME}.${archiveTurns}`);
  measured.packedBytes = readdirSync(archive).reduce(
    (sum, name) => sum + statSync(join(archive, name)).size,
    0,
  );
  child.kill();
  rmSync(plainFile);
  return measured;
}

/** Returns the total size of its files in bytes. */
function makeHome(home: string, { uid, files }: { uid: number; files: number }): number {
  mkdirSync(home);
  let bytes = 0;
  for (let n = 0; n < files; n++) {
    const folder = `${home}/folder-${Math.floor(n / FILES_IN_FOLDER)}`;
    if (n % FILES_IN_FOLDER === 0) {
      mkdirSync(folder);
      chownSync(folder, uid, uid);
    }
    const size = SIZES[n % SIZES.length] ?? 0;
    const file = `${folder}/file-${n}.txt`;
    writeFileSync(file, textOf(n, size));
    chownSync(file, uid, uid);
    bytes += size;
  }
  chownSync(home, uid, uid);
  chmodSync(home, 0o2775);
  return bytes;
}

/** Text that compresses about as sources and logs do: lines of words and numbers. */
function textOf(seed: number, size: number): string {
  const lines: string[] = [];
  let state = seed >>> 0;
  for (let length = 0; length < size;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const line = `2026-11-25 request ${state.toString(36)} of tool-${state % 9973} took ${state % 997} ms\n`;
    lines.push(line);
    length += line.length;
  }
  return lines.join('').slice(0, size);
}

async function packPlainly(home: string, into: string): Promise<{ ms: number; peakMib: number }> {
  const begin = performance.now();
  const script = 'tar -cf - -C "$1" . | zstd -q -f -o "$2"';
  const shell = spawn('bash', ['-o', 'pipefail', '-c', script, 'bash', home, into], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ended = once(shell, 'exit') as Promise<[number | null]>;
  const { result, peakMib } = await whileWatched(shell.pid as number, async () => {
    const [code] = await ended;
    if (code !== 0) throw new Error(`tar | zstd exited with code ${code}`);
    return performance.now() - begin;
  });
  return { ms: result, peakMib };
}

async function archiveHome(child: ChildProcess, archival: number): Promise<number> {
  const answer = once(child, 'message') as Promise<[{ ms?: number; error?: string }]>;
  const exit = once(child, 'exit').then(() => Promise.reject(new Error('the archiver ended')));
  exit.catch(() => {});
  child.send(archival);
  const [{ ms, error }] = await Promise.race([answer, exit]);
  if (ms === undefined) throw new Error(error);
  return ms;
}

/** The peak memory of a process and all its descendants, found by repeated looks. */
async function whileWatched<T>(
  pid: number,
  act: () => Promise<T>,
): Promise<{ result: T; peakMib: number }> {
  let [peakMib, over] = [0, false];
  const watching = (async () => {
    while (!over) {
      peakMib = Math.max(peakMib, treeMemoryMib(pid));
      await sleep(LOOK_EVERY_MS);
    }
  })();
  try {
    const result = await act();
    return { result, peakMib };
  } finally {
    over = true;
    await watching;
  }
}
