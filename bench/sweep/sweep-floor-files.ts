/**
 * The floor of a survey of homes: stat of every path that it examines, open and read of every credentials file.
 * A plain loop of synchronous calls, in a thread of its own. Returns how many milliseconds it took.
 */
import { closeSync, lstatSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

/** The arguments of the thread. */
export interface FloorLooks {
  paths: readonly string[];
  /** credentials files */
  files: readonly string[];
}

const { paths, files } = workerData as FloorLooks;
const buffer = Buffer.alloc(4096);
const begin = performance.now();
for (const path of paths) lstatSync(path);
for (const path of files) {
  const file = openSync(path, 'r');
  if (readSync(file, buffer, 0, buffer.length, null) === 0) throw new Error(`${path} is empty`);
  closeSync(file);
}
parentPort?.postMessage(performance.now() - begin);
