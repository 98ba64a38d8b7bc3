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
 * Never ended: pid 1, this process, and the daemons of the host, which she may have started as an admin.
 *
 * | a look finds                                | then                                                  |
 * | ------------------------------------------- | ----------------------------------------------------- |
 * | some of hers that no look has found before  | SIGSTOP: it starts nothing more, and keeps its place  |
 * |                                             | in the tree                                           |
 * | … still, at the sixth look                  | SIGKILL to those: somebody may wake what is stopped   |
 * | none but those                              | SIGKILL to all                                        |
 * | none                                        | it counts, unless a process that is new has ended      |
 * |                                             | before it could be read: who knows what it has started |
 *
 * There is no SIGTERM: whoever hears it may use the time to start what is not found.
 *
 * Node has no pidfd. So that a number which meanwhile is another process's is not hit, a process is known
 * by number and birth, read before it is judged and once more right before each signal.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { extname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChamberlainError } from '../../shared/errors.ts';

/** (uid_t)-1: no login stands behind the process, or the kernel keeps none. */
const NO_LOGIN = 4_294_967_295;

/** What is left then, such as a read from a file server that hangs, makes the call fail. */
const END_MS = 5000;
const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 20;
/** Looks that may find somebody new; the second finds what was started during the first. */
const CHASES = 5;
/** Numbers of processes go up, so one whole look shows everybody, but for the moment when they begin anew. */
const EMPTY_LOOKS = 2;

/** Whoever may call himself one of them had the rights of root, or of a system account (Debian policy 9.2.2). */
const LAST_SYSTEM_UID = 999;
/** What a login host cannot do without, and what somebody may have started by hand: by the file that runs. */
const DAEMONS: ReadonlySet<string> = new Set(['/usr/sbin/cron', '/usr/sbin/atd']);
const SSHD = '/usr/sbin/sshd';
const LISTENER = /^sshd: .*\[listener\]/;
/** The keys agent of this installation. Node must run it: a waiting `sudo -p WORD` can show any words as arguments. */
const AGENT = join(
  import.meta.dirname,
  '../programs',
  `keys-agent${extname(import.meta.filename)}`,
);

interface Process {
  pid: number;
  parent: number;
  /** clock ticks from boot to its start */
  birth: string;
  /** real, effective, saved, of file access */
  uids: number[];
  login: number;
}

interface Look {
  hers: Process[];
  /** how many of them no look has found before: they have been sent its signal */
  fresh: number;
  /** every process was read that no look has listed before */
  isWhole: boolean;
}

/**
 * Ends every process of these people and tools, until two looks find none. Returns how many it has met.
 * Throws STEP_FAILED where some are left after five seconds, or where it cannot be known that none is.
 *
 * @param proc where proc(5) is mounted
 */
export async function endSessions(uids: ReadonlySet<number>, proc = '/proc'): Promise<number> {
  const met = new Set<string>();
  const look = openLooks(uids, met, proc);
  const deadline = performance.now() + END_MS;
  let pauseMs = FIRST_PAUSE_MS;
  for (let looks = 1, empty = 0; ; looks += 1) {
    const seen = look(looks <= CHASES ? 'SIGSTOP' : 'SIGKILL');
    if (seen.hers.length > 0) empty = 0;
    else if (seen.isWhole) empty += 1;
    if (empty === EMPTY_LOOKS) return met.size;
    if (performance.now() > deadline) throw notSure(seen);
    if (seen.fresh > 0) {
      pauseMs = FIRST_PAUSE_MS;
      if (looks <= CHASES) continue;
    }
    for (const one of seen.hers) signal(one, 'SIGKILL', proc);
    await sleep(pauseMs);
    pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
  }
}

function notSure({ hers }: Look): ChamberlainError {
  return new ChamberlainError(
    'STEP_FAILED',
    hers.length > 0
      ? `ending sessions: ${hers.length} processes do not end`
      : 'ending sessions: processes come and go too fast to say that none of them is left',
  );
}

/**
 * Returns a function that looks once, and sends a signal to whom no look has found before. The newest are read
 * first and hit as soon as they are read, for what forks and exits all the time is among them: of chains whose
 * processes live for 0.1 ms and less, among 800 others, each was stopped within 3 s. (To read all, and then
 * send, hits none.)
 */
function openLooks(
  uids: ReadonlySet<number>,
  met: Set<string>,
  proc: string,
): (name: NodeJS.Signals) => Look {
  let listedBefore: ReadonlySet<number> = new Set();
  return (name) => {
    const pids = pidsOf(proc);
    const all: Process[] = [];
    let fresh = 0;
    const hers = new Set<Process>();
    let isWhole = true;
    const take = (one: Process): void => {
      if (isSpared(one, uids, proc)) return;
      hers.add(one);
      if (met.has(nameOf(one))) return;
      met.add(nameOf(one));
      fresh += 1;
      signal(one, name, proc);
    };
    for (const pid of pids) {
      const one = readProcess(pid, proc);
      if (one === undefined) {
        isWhole &&= listedBefore.has(pid);
        continue;
      }
      all.push(one);
      const isHers = uids.has(one.login) || one.uids.some((uid) => uids.has(uid));
      if (isHers || met.has(nameOf(one))) take(one);
    }
    listedBefore = new Set(pids);
    const children = Map.groupBy(all, ({ parent }) => parent);
    for (const { pid } of hers) {
      // the loop goes on over what it adds
      for (const child of children.get(pid) ?? []) {
        if (child.login === NO_LOGIN && !hers.has(child)) take(child);
      }
    }
    return { hers: [...hers], fresh, isWhole };
  };
}

function isSpared({ pid, uids }: Process, ended: ReadonlySet<number>, proc: string): boolean {
  if (pid === 1 || pid === process.pid) return true;
  return uids.every((uid) => uid <= LAST_SYSTEM_UID && !ended.has(uid)) && isDaemon(pid, proc);
}

/** Exactly, for `take` runs as root, with arguments that anybody has chosen. */
function isDaemon(pid: number, proc: string): boolean {
  const file = fileOf(proc, pid);
  const title = read(proc, pid, 'cmdline');
  if (DAEMONS.has(file) || (file === SSHD && LISTENER.test(title))) return true;
  if (file !== process.execPath) return false;
  const [, ...args] = title.split('\0');
  const script = args.findIndex((arg) => !arg.startsWith('-'));
  return args[script] === AGENT && args[script + 1] === 'run';
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
  const login = read(proc, pid, 'loginuid');
  // a kernel without auditing does not have the file; nor has who has just ended
  if (login === '' && statOf(pid, proc)?.birth !== stat.birth) return undefined;
  return {
    ...{ pid, ...stat, uids: uids.trim().split(/\s+/).map(Number) },
    login: Number(login || NO_LOGIN),
  };
}

/** Of proc_pid_stat(5). The second field is a name in brackets that may hold anything. */
function statOf(pid: number, proc: string): Pick<Process, 'parent' | 'birth'> | undefined {
  const text = read(proc, pid, 'stat');
  const [state, parent, ...more] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const threads = more[15];
  const birth = more[17];
  // The first thread of a process may have ended while others go on: it looks dead, and is not.
  if (birth === undefined || (/[ZX]/.test(state ?? '') && threads === '1')) return undefined;
  return { parent: Number(parent), birth };
}

/** The numbers of all processes, the highest first. Throws STEP_FAILED where not every process is shown. */
function pidsOf(proc: string): number[] {
  const pids = readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  // root's own, so it is the first that proc(5)'s hidepid= hides from whom CAP_SYS_PTRACE was taken
  if (pids.includes(1)) return pids.toSorted((a, b) => b - a);
  throw new ChamberlainError('STEP_FAILED', `ending sessions: ${proc} hides processes (hidepid)`);
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

/** The path of the file that a process runs, also where a newer one has its place by now; empty where it is gone. */
function fileOf(proc: string, pid: number): string {
  try {
    return readlinkSync(`${proc}/${pid}/exe`).replace(/ \(deleted\)$/, '');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}
