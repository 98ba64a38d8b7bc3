/**
 * Runs a command in namespaces of its own (namespaces(7)), with a folder in memory as TMPDIR: whatever it starts, mounts
 * and writes there ends with it, and it ends with this process, however that ends.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { globSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { birthOf } from '../servers/processes.ts';
import { CGROUP } from '../../test/deploy-long/daemon.ts';

const NAME = 'chamberlain-deploy-';
/** Folders of containerd, outside of those that Docker is given. */
const RUN = ['/run/containerd', '/run/docker'];
/** The first process there: it waits for all that lose their parents. */
const FIRST = `
  mount -t tmpfs -o mode=755,size=75% tmpfs "$TMPDIR"
  for folder in ${RUN.join(' ')}; do mkdir -p $folder; mount -t tmpfs tmpfs $folder; done
  mkdir -p "$HOME"
  "$@" &
  wait $!`;

export interface Apart {
  readonly process: ChildProcess;
  /** Ends everything in it, at once. */
  readonly kill: () => void;
}

/** Starts a command apart. When its process has ended, nothing of it is left but what `clean` takes away. */
export function startApart(
  command: readonly string[],
  { cwd, env, stdio }: Pick<Parameters<typeof spawn>[2], 'cwd' | 'env' | 'stdio'>,
): Apart {
  clean();
  const folder = join(tmpdir(), `${NAME}${markOf(process.pid)}`);
  mkdirSync(folder, { recursive: true });
  const words = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-ec', FIRST];
  const own = {
    TMPDIR: folder,
    HOME: join(folder, 'home'),
    [CGROUP]: `/${basename(folder)}`,
  };
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', ...words, 'sh', ...command], {
    cwd,
    env: { ...env, ...own },
    stdio,
  });
  child.once('exit', () => clean(folder));
  return {
    process: child,
    kill() {
      const [first] = childrenOf(child.pid);
      if (first === undefined) child.kill('SIGKILL');
      else process.kill(first, 'SIGKILL'); // the kernel then kills all that is in there before `unshare` ends
    },
  };
}

/** A short name that no other process of this machine has or had: its number, and the tick in which it was started. */
function markOf(pid: number): string {
  return `${pid}.${birthOf(pid)?.split('.').at(-1)}`;
}

/** Takes away what runs have left that have ended: empty folders, and cgroups. */
function clean(ended = ''): void {
  const places = [`${tmpdir()}/${NAME}*`, `/sys/fs/cgroup/{,*/}${NAME}*`].flatMap((pattern) =>
    globSync(pattern),
  );
  for (const place of places) {
    const mark = basename(place).slice(NAME.length);
    if (mark === markOf(Number.parseInt(mark)) && basename(place) !== basename(ended)) continue;
    // the folder of a cgroup contains files, and yet rmdir deletes it if no other cgroup is in it
    const folders = globSync(`${place}/**/`).sort((one, other) => other.length - one.length);
    for (const folder of [...folders, place]) {
      try {
        rmdirSync(folder);
      } catch {
        // it is in use, or gone
      }
    }
  }
}

function childrenOf(pid: number | undefined): number[] {
  try {
    const list = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return list.split(' ').filter(Boolean).map(Number);
  } catch {
    return []; // it has ended
  }
}
