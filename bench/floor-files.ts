/**
 * The floor of the role `homes`: for each tool a home with two folders, their owner and mode, and a file that
 * is written, synced and renamed to its place. A plain loop of synchronous calls, in a thread of its own.
 * Returns how many milliseconds it took.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { renderCredentialsFile } from '../src/credentials/credentials.ts';

/** The arguments of the thread. */
export interface FloorFiles {
  /** the area of the tools' homes */
  area: string;
  tools: readonly { name: string; uid: number }[];
}

const { area, tools } = workerData as FloorFiles;
const begin = performance.now();
for (const { name, uid } of tools) {
  const home = `${area}/${name}`;
  for (const folder of [home, `${home}/public_html`, `${home}/logs`]) {
    mkdirSync(folder, 0o700);
    chownSync(folder, uid, uid);
    chmodSync(folder, 0o2775);
  }
  const file = openSync(`${home}/replica.my.cnf.new`, 'wx', 0o600);
  writeSync(file, renderCredentialsFile(`s${uid}`, 'x'.repeat(32)));
  fsyncSync(file);
  closeSync(file);
  chownSync(`${home}/replica.my.cnf.new`, uid, uid);
  chmodSync(`${home}/replica.my.cnf.new`, 0o440);
  renameSync(`${home}/replica.my.cnf.new`, `${home}/replica.my.cnf`);
}
parentPort?.postMessage(performance.now() - begin);
