/**
 * Ends the sessions of people on this host: every process of a person, whatever it runs as. It also ends what
 * runs as a tool. Nobody logs in as a tool, so there the second line of the table counts.
 *
 * | a process is theirs                      | because                                                 |
 * | ---------------------------------------- | ------------------------------------------------------- |
 * | if its loginuid is their uid             | pam_loginuid(8) set it at login, all below inherits it, |
 * |                                          | through sudo and after the session's own end too        |
 * | if one of its four uids is theirs        | it acts with their rights                               |
 * | without a loginuid, below one of theirs  | a host without pam_loginuid: it was started from their  |
 * |                                          | sshd process, which runs as long as the connection      |
 *
 * What others have started has their loginuid: a tool's tmux server that another maintainer started lives on.
 * If the kernel keeps no loginuid, one kind of process is not found: one that the person started as a tool and
 * detached (setsid, and its parent has ended) before the call. It runs as the tool, and nothing shows whose it
 * was. Three are never ended: pid 1, this process, and the daemons of the host, which the person may have
 * started as an admin.
 *
 * | a look finds                                | then                                                   |
 * | ------------------------------------------- | ------------------------------------------------------ |
 * | some of theirs that no look has found yet   | SIGSTOP: it starts nothing more, and keeps its place   |
 * |                                             | in the tree                                            |
 * | … still, at the sixth look                  | SIGKILL to those: somebody may wake what is stopped    |
 * | only those that were found before           | SIGKILL to all                                         |
 * | none                                        | it counts, unless a new process has ended before it    |
 * |                                             | could be read, because it may have started others      |
 *
 * There is no SIGTERM: a process that receives it may use the time to start others that are not found.
 *
 * Node has no pidfd. To avoid a signal to another process that has received the same pid meanwhile, a process
 * is identified by its pid and start time, read before it is judged and again right before each signal.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { extname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChamberlainError } from '../../shared/errors.ts';
import { count } from '../../shared/printable.ts';

/** (uid_t)-1: the process belongs to no login, or the kernel does not record it. */
const NO_LOGIN = 4_294_967_295;

/**
 * If any process is left after this time, such as one that reads from a file server that hangs, the call fails.
 */
const END_MS = 5000;
const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 20;
/** Looks that may find new processes. The second finds what was started during the first. */
const CHASES = 5;
/** Pids go up, so one complete look shows every process, except at the moment when they wrap around. */
const EMPTY_LOOKS = 2;

/** A process with a uid up to this one had the rights of root, or of a system account (Debian policy 9.2.2). */
const LAST_SYSTEM_UID = 999;
/** Daemons that a login host needs, and that somebody may have started by hand: by the file that runs. */
const DAEMONS: ReadonlySet<string> = new Set(['/usr/sbin/cron', '/usr/sbin/atd']);
const SSHD = '/usr/sbin/sshd';
const LISTENER = /^sshd: .*\[listener\]/;
/**
 * The keys agent of this installation. It must also be run by Node, because a waiting `sudo -p WORD` can show
 * any words as its arguments.
 */
const AGENT = join(
  import.meta.dirname,
  '../programs',
  `keys-agent${extname(import.meta.filename)}`,
);

interface Process {
  pid: number;
  parent: number;
  /** its start, in clock ticks since boot */
  birth: string;
  /** real, effective, saved, file system */
  uids: number[];
  login: number;
}

interface Look {
  hers: Process[];
  /** how many of them no look has found before: the signal was sent to these */
  fresh: number;
  /** every process that no look has listed before could be read */
  isWhole: boolean;
}

/**
 * Ends every process of these people and tools, until two looks find none. Returns how many it has found.
 * Throws STEP_FAILED if some are left after five seconds, or if it cannot be sure that none is left.
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
      ? `ending sessions: ${count(hers.length, 'process', 'processes')} did not end`
      : 'ending sessions: processes start and end too fast to be sure that none is left',
  );
}

/**
 * Returns a function that looks once, and sends a signal to each process that no look has found before. It
 * reads the newest processes first, and signals each as soon as it is read, because processes that fork and
 * exit all the time are among them: of chains whose processes live for 0.1 ms or less, among 800 others, each
 * was stopped within 3 s. (Reading all processes first, and then sending the signals, hits none.)
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

/** An exact match, because `take` runs as root with arguments that anyone can choose. */
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

/** Undefined for a process that has ended, even if its parent has not yet waited for it. */
function readProcess(pid: number, proc: string): Process | undefined {
  const stat = statOf(pid, proc);
  if (stat === undefined) return undefined;
  const uids = /^Uid:((?:\s+\d+){4})$/m.exec(read(proc, pid, 'status'))?.[1];
  if (uids === undefined) return undefined;
  const login = read(proc, pid, 'loginuid');
  // a kernel without auditing does not have the file; nor has a process that has just ended
  if (login === '' && statOf(pid, proc)?.birth !== stat.birth) return undefined;
  return {
    ...{ pid, ...stat, uids: uids.trim().split(/\s+/).map(Number) },
    login: Number(login || NO_LOGIN),
  };
}

/** Reads proc_pid_stat(5). The second field is a name in parentheses that may contain anything. */
function statOf(pid: number, proc: string): Pick<Process, 'parent' | 'birth'> | undefined {
  const text = read(proc, pid, 'stat');
  const [state, parent, ...more] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const threads = more[15];
  const birth = more[17];
  // the first thread of a process may have ended while others go on: the process looks dead, but is not
  if (birth === undefined || (/[ZX]/.test(state ?? '') && threads === '1')) return undefined;
  return { parent: Number(parent), birth };
}

/** All pids, the highest first. Throws STEP_FAILED if not every process is shown. */
function pidsOf(proc: string): number[] {
  const pids = readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  // pid 1 belongs to root, so it is the first that proc(5)'s hidepid= hides from a process without
  // CAP_SYS_PTRACE
  if (pids.includes(1)) return pids.toSorted((a, b) => b - a);
  throw new ChamberlainError('STEP_FAILED', `ending sessions: ${proc} hides processes (hidepid)`);
}

/** A file of a process; empty if the process is gone. */
function read(proc: string, pid: number, name: string): string {
  try {
    return readFileSync(`${proc}/${pid}/${name}`, 'utf8'); // as latin1 it takes twice the time
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}

/**
 * The path of the file that a process runs, even if a newer file has replaced it; empty if the process is gone.
 */
function fileOf(proc: string, pid: number): string {
  try {
    return readlinkSync(`${proc}/${pid}/exe`).replace(/ \(deleted\)$/, '');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}
