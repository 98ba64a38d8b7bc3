/** Processes of this machine: running, finding and signalling them, by Linux's /proc. */
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';

/** The uid and gid of a local account. */
export function accountIds(user: string): { uid: number; gid: number } {
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [name, , uid, gid] = line.split(':');
    if (name === user) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new Error(`this machine has no account ${user}: run dev/bootstrap`);
}

/**
 * Runs a program to its end, with `input` on its stdin; an error includes its output. Pass secrets in `input`,
 * never in `args`.
 */
export async function run(
  program: string,
  args: readonly string[],
  options: {
    input?: string;
    user?: string;
    cwd?: string;
    env?: NodeJS.ProcessEnv;
    timeoutMs?: number;
  } = {},
): Promise<string> {
  const ids = options.user === undefined ? {} : accountIds(options.user);
  return new Promise((done, fail) => {
    const child = execFile(
      program,
      args,
      {
        ...ids,
        cwd: options.cwd ?? '/',
        env: options.env ?? process.env,
        maxBuffer: 1 << 26,
        timeout: options.timeoutMs ?? 0,
      },
      (error, stdout, stderr) => {
        if (error === null) return done(stdout);
        fail(new Error(`${program} failed: ${stderr.trim() || stdout.trim() || error.code}`));
      },
    );
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input ?? '');
  });
}

/**
 * Sends a signal to a process and all its descendants (PostgreSQL serves from child processes). Throws for 0 and 1, whose
 * descendants are everything that runs.
 */
export function signalTree(pid: number, name: NodeJS.Signals): void {
  if (pid <= 1) throw new RangeError(`${name} is for one server, not for process ${pid}`);
  for (const one of [pid, ...descendants(pid)]) signal(one, name);
}

/**
 * When a process was started: `<boot>.<clock ticks since boot>` (proc_pid_stat(5), field 22); undefined if it
 * has ended.
 */
export function birthOf(pid: number): string | undefined {
  const fields = statFields(pid);
  if (fields === undefined || fields[0] === 'Z' || fields[0] === 'X') return undefined;
  return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}.${fields[19]}`;
}

export function stateOf(pid: number): string | undefined {
  return statFields(pid)?.[0];
}

/** /proc/<pid>/stat from its third field on: the second is a name in parentheses that may contain anything. */
export function statFields(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function descendants(pid: number): number[] {
  const parents = new Map(processes().map((one) => [one, parentOf(one)]));
  const isBelow = (one: number): boolean => {
    for (let at = parents.get(one); at !== undefined; at = parents.get(at))
      if (at === pid) return true;
    return false;
  };
  return [...parents.keys()].filter(isBelow);
}

export function processes(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

export function parentOf(pid: number): number {
  return Number(statFields(pid)?.[1] ?? 0);
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ESRCH') throw cause;
  }
}
