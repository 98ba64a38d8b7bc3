/** `chamberlain work` for the demo: started, kept, or stopped by its pid. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stateOf } from '../servers/processes.ts';
import { CHAMBERLAIN } from './chamberlain.ts';
import type { StackEnvironment } from './outside.ts';

const START_TIMEOUT_MS = 20_000;
/** It promises to end within 5 s of SIGTERM. */
const STOP_TIMEOUT_MS = 8000;

export interface Work {
  pid: number;
  logFile: string;
  pidFile: string;
  /** it ran before the demo began */
  before: boolean;
}

/** Finds the workers that an earlier demo has left running in this folder, or starts some. */
export async function startWork(dir: string, env: StackEnvironment): Promise<Work> {
  const pidFile = join(dir, 'work.pid');
  const logFile = join(dir, 'work.log');
  const known = existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) : 0;
  if (isWork(known)) return { pid: known, logFile, pidFile, before: true };
  const log = openSync(logFile, 'w');
  // a process group of its own: Ctrl-C is for the demo, which then stops it
  const child = spawn(CHAMBERLAIN, ['work'], {
    env: { ...process.env, ...env },
    stdio: ['ignore', log, log],
    detached: true,
  });
  closeSync(log);
  child.unref();
  const pid = await new Promise<number>((done, fail) => {
    child.once('error', fail);
    child.once('spawn', () => done(child.pid ?? 0));
  });
  writeFileSync(pidFile, `${pid}\n`);
  return { pid, logFile, pidFile, before: false };
}

/** Returns when the workers report that they are running. */
export async function untilWorking({ pid, logFile, before }: Work): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  if (before) return;
  while (!readFileSync(logFile, 'utf8').includes('"msg":"working"')) {
    if (!isWork(pid) || performance.now() > deadline) {
      throw new Error(`chamberlain work did not start:\n${readFileSync(logFile, 'utf8')}`);
    }
    await sleep(20);
  }
}

/** Stops the workers, unless they ran before the demo. */
export async function stopWork({ pid, pidFile, before }: Work): Promise<void> {
  if (before) return;
  const deadline = performance.now() + STOP_TIMEOUT_MS;
  if (isWork(pid)) process.kill(pid, 'SIGTERM');
  while (isWork(pid)) {
    if (performance.now() > deadline) process.kill(pid, 'SIGKILL');
    await sleep(20);
  }
  rmSync(pidFile, { force: true });
}

/** Whether the pid is (still) that of `chamberlain work`: another process may have it by now. */
function isWork(pid: number): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    // for a moment, a process that becomes another program has none (proc_pid_cmdline(5); neither has a dead one)
    if (words.length === 1) return pid > 0 && stateOf(pid) !== 'Z';
    return pid > 0 && words.some((word) => word.includes('chamberlain')) && words.includes('work');
  } catch {
    return false;
  }
}
