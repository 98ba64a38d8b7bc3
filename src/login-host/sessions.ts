/**
 * Ends the sessions of people on this host: every process that is a person's, whatever it runs as. So
 * too what runs as a tool, which nobody logs in as: there the second line is what counts.
 *
 * | a process is hers                        | because                                                 |
 * | ---------------------------------------- | ------------------------------------------------------- |
 * | whose loginuid is her uid                | pam_loginuid(8) set it at login, all below inherits it, |
 * |                                          | through sudo and after the session's own end too        |
 * | one of whose four uids is hers           | it acts with her rights                                 |
 * | without a loginuid, below one of hers    | a host without pam_loginuid: it was started from her    |
 * |                                          | sshd process, which runs as long as her connection      |
 *
 * What others have started has their loginuid: a tool's tmux server of another maintainer lives on.
 * Not found where the kernel keeps no loginuid: what she has started as a tool and has let go of (setsid,
 * and its parent has ended) before the call. It runs as the tool, and nothing tells whose it was.
 * Never ended: pid 1, this process, and the sshd that listens, which she may have started as an admin.
 *
 * Node has no pidfd. So that a number which meanwhile is another process's is not hit, a process is known
 * by number and birth, read before it is judged and once more right before each signal.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChamberlainError } from '../errors.ts';

/** (uid_t)-1: no login stands behind the process, or the kernel keeps none. */
const NO_LOGIN = 4_294_967_295;

/** How long a program may take, from SIGTERM on, to put away what it has open. */
const GRACE_MS = 1000;
const GRACE_POLL_MS = 50;
/** What is left then, such as a read from a file server that hangs, makes the call fail. */
const KILL_MS = 5000;
const KILL_POLL_MS = 2;
/** One look misses a process that forks and exits all the time about every third time. */
const EMPTY_LOOKS = 6;

interface Process {
  pid: number;
  parent: number;
  /** clock ticks from boot to its start */
  birth: string;
  /** real, effective, saved, of file access */
  uids: number[];
  login: number;
}

/**
 * Ends every process of these people and tools: SIGHUP and SIGTERM, after a second SIGKILL, until a look finds
 * none. Returns how many it has met. Throws STEP_FAILED where some are left after five seconds more.
 *
 * @param proc where proc(5) is mounted
 */
export async function endSessions(uids: ReadonlySet<number>, proc = '/proc'): Promise<number> {
  const met = new Set<string>();
  const signalAll = (...signals: NodeJS.Signals[]): number => {
    const found = findProcesses(uids, met, proc);
    for (const one of found) {
      met.add(nameOf(one));
      for (const name of signals) signal(one, name, proc);
    }
    return found.length;
  };

  let left = signalAll('SIGHUP', 'SIGTERM');
  for (let waitedMs = 0; left > 0 && waitedMs < GRACE_MS; waitedMs += GRACE_POLL_MS) {
    await sleep(GRACE_POLL_MS);
    left = signalAll();
  }
  const deadline = performance.now() + KILL_MS;
  for (let empty = 0; empty < EMPTY_LOOKS; empty = left > 0 ? 0 : empty + 1) {
    if (performance.now() > deadline) {
      throw new ChamberlainError('STEP_FAILED', `ending sessions: ${left} processes do not end`);
    }
    await sleep(KILL_POLL_MS);
    left = signalAll('SIGKILL');
  }
  return met.size;
}

/** The processes of these people, and those of `met` that still run, whose parents may be gone. */
function findProcesses(
  uids: ReadonlySet<number>,
  met: ReadonlySet<string>,
  proc: string,
): Process[] {
  const all = pidsOf(proc).flatMap((pid) => readProcess(pid, proc) ?? []);
  const children = Map.groupBy(all, ({ parent }) => parent);
  const hers = new Set(
    all.filter(
      (one) => uids.has(one.login) || one.uids.some((uid) => uids.has(uid)) || met.has(nameOf(one)),
    ),
  );
  for (const { pid } of hers) {
    // the loop goes on over what it adds
    for (const child of children.get(pid) ?? []) if (child.login === NO_LOGIN) hers.add(child);
  }
  return [...hers].filter((one) => !isSpared(one, proc));
}

function isSpared({ pid, uids }: Process, proc: string): boolean {
  if (pid === 1 || pid === process.pid) return true;
  // its title, see sshd.c; a title that pretends takes root
  return uids.every((uid) => uid === 0) && /^sshd: .*\[listener\]/.test(read(proc, pid, 'cmdline'));
}

function signal(one: Process, name: NodeJS.Signals, proc: string): void {
  if (statOf(one.pid, proc)?.birth !== one.birth) return;
  try {
    process.kill(one.pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function nameOf({ pid, birth }: Process): string {
  return `${pid} ${birth}`;
}

/** Undefined for what has ended, though its parent may not have asked about it yet. */
function readProcess(pid: number, proc: string): Process | undefined {
  const stat = statOf(pid, proc);
  if (stat === undefined) return undefined;
  const uids = /^Uid:((?:\s+\d+){4})$/m.exec(read(proc, pid, 'status'))?.[1];
  if (uids === undefined) return undefined;
  // a kernel without auditing does not have the file
  const login = Number(read(proc, pid, 'loginuid') || NO_LOGIN);
  return { pid, ...stat, uids: uids.trim().split(/\s+/).map(Number), login };
}

/** Of proc_pid_stat(5). The second field is a name in brackets that may hold anything. */
function statOf(pid: number, proc: string): { parent: number; birth: string } | undefined {
  const text = read(proc, pid, 'stat');
  const [state, parent, ...more] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const threads = more[15];
  const birth = more[17];
  // The first thread of a process may have ended while others go on: it looks dead, and is not.
  if (birth === undefined || (/[ZX]/.test(state ?? '') && threads === '1')) return undefined;
  return { parent: Number(parent), birth };
}

function pidsOf(proc: string): number[] {
  return readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** A file of a process; empty where the process is gone. */
function read(proc: string, pid: number, name: string): string {
  try {
    return readFileSync(`${proc}/${pid}/${name}`, 'latin1');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}
