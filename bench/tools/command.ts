/** Runs the CLI as a user does, from the start of its process to the end, and records its peak of memory. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { peakMemoryMib } from './processes.ts';
import type { MeasuredRealm } from '../realm.ts';

const PROJECT = join(import.meta.dirname, '../..');
/** A peak at the very end is missed. */
const LOOK_EVERY_MS = 10;

export interface Ran {
  exit: number | null;
  ms: number;
  /** undefined if it ended before the first look */
  peakMib: number | undefined;
  out: string;
  err: string;
}

/** Runs `dev/chamberlain ARGS…` with the realm's config. */
export async function runCommand({ stack }: MeasuredRealm, ...args: string[]): Promise<Ran> {
  const begin = performance.now();
  const child = spawn(join(PROJECT, 'dev/chamberlain'), args, {
    env: { ...process.env, CHAMBERLAIN_CONFIG: stack.place.configFile },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  let ended: { exit: number | null; ms: number } | undefined;
  const ending = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exit) => {
      ended = { exit, ms: performance.now() - begin };
      resolve();
    });
  });
  let peakMib: number | undefined;
  while (ended === undefined) {
    await Promise.race([ending, sleep(LOOK_EVERY_MS)]);
    const seen = child.pid === undefined ? NaN : peakOf(child.pid);
    if (!Number.isNaN(seen)) peakMib = seen;
  }
  return { ...ended, peakMib, out, err };
}

/** Runs it, and throws if it exits with another code. */
export async function mustRun(realm: MeasuredRealm, exit: number, ...args: string[]): Promise<Ran> {
  const ran = await runCommand(realm, ...args);
  if (ran.exit === exit) return ran;
  const said = `${ran.out.slice(0, 1000)}\n${ran.err.slice(0, 1000)}`;
  throw new Error(`chamberlain ${args.join(' ')} exited with code ${ran.exit}: ${said.trim()}`);
}

function peakOf(pid: number): number {
  try {
    return peakMemoryMib(pid);
  } catch {
    return NaN; // it has ended
  }
}
