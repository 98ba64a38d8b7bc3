/** The CPU time and memory that processes have used, from /proc (proc_pid_stat(5), proc_pid_status(5)). */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { runningPid, type Server } from '../../dev/servers/daemon.ts';
import { statFields } from '../../dev/servers/processes.ts';

/** USER_HZ is 100 on every architecture that Node is built for here. */
const TICKS_PER_SECOND = 100;

/** CPU seconds of a process and of all its descendants, including those that have ended and were waited for. */
export function cpuSeconds(pid: number): number {
  let ticks = 0;
  for (const each of [pid, ...descendants(pid)]) {
    const fields = statFields(each);
    // utime, stime, and those of its ended children
    ticks += [11, 12, 13, 14].reduce((sum, field) => sum + Number(fields?.[field] ?? 0), 0);
  }
  return ticks / TICKS_PER_SECOND;
}

/** CPU seconds of the children of this process that have ended. */
export function endedCpuSeconds(): number {
  const fields = statFields(process.pid);
  return (Number(fields?.[13] ?? 0) + Number(fields?.[14] ?? 0)) / TICKS_PER_SECOND;
}

/** The peak of a process's resident memory, in MiB. */
export function peakMemoryMib(pid: number): number {
  return statusKib(pid, 'VmHWM') / 1024;
}

/** From now on `peakMemoryMib` returns the peak since now (proc_pid_clear_refs(5)). */
export function beginPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** The resident memory of a process now, in MiB. */
export function memoryMib(pid: number): number {
  return statusKib(pid, 'VmRSS') / 1024;
}

/** The resident memory of a process and all its descendants now, in MiB; shared memory counts for each. */
export function treeMemoryMib(pid: number): number {
  let sum = 0;
  for (const each of [pid, ...descendants(pid)]) {
    try {
      sum += statusKib(each, 'VmRSS') || 0;
    } catch {
      // it has ended
    }
  }
  return sum / 1024;
}

export interface Rest {
  cpuPercent: number;
  /** the peak since the process began, until the rest began */
  peakBeforeMib: number;
  /** the peak during the rest */
  peakMib: number;
  endMib: number;
}

/** Leaves a process alone for a while. */
export async function watchRest(pid: number, restMs: number): Promise<Rest> {
  const peakBeforeMib = peakMemoryMib(pid);
  beginPeak(pid);
  const [cpu, begin] = [cpuSeconds(pid), performance.now()];
  await sleep(restMs);
  const seconds = (performance.now() - begin) / 1000;
  return {
    cpuPercent: (100 * (cpuSeconds(pid) - cpu)) / seconds,
    peakBeforeMib,
    peakMib: peakMemoryMib(pid),
    endMib: memoryMib(pid),
  };
}

const QUIET_PERCENT = 15;
const QUIET_OVER_MS = 2000;
const QUIET_WITHIN_MS = 120_000;

/** Waits until a process and all its descendants have little to do. */
export async function untilQuiet(pid: number): Promise<void> {
  for (const begin = performance.now(); ;) {
    const [cpu, since] = [cpuSeconds(pid), performance.now()];
    await sleep(QUIET_OVER_MS);
    const seconds = (performance.now() - since) / 1000;
    if ((100 * (cpuSeconds(pid) - cpu)) / seconds < QUIET_PERCENT) return;
    if (performance.now() - begin > QUIET_WITHIN_MS) {
      throw new Error(`process ${pid} stays busy`);
    }
  }
}

export function serverPid(server: Server): number {
  const pid = runningPid(server);
  if (pid === undefined) throw new Error(`${server.name} is not running`);
  return pid;
}

function statusKib(pid: number, field: string): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]);
}

function descendants(pid: number): number[] {
  const parents = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => [Number(name), Number(statFields(Number(name))?.[1])] as const);
  const found = [pid];
  for (const above of found) {
    for (const [child, parent] of parents) if (parent === above) found.push(child);
  }
  return found.slice(1);
}
