/** Machines with systemd, each a container. */
import type { Daemon } from './daemon.ts';
import { eventually, runToEnd, unlessBusy } from './patience.ts';

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface Machine {
  readonly name: string;
  /** Runs a command to its end, whatever that is; again if it says that the machine was too busy for it. */
  start(...words: string[]): Ended;
  /** Runs a command, and returns what it prints. Throws if it fails. */
  run(...words: string[]): string;
  write(path: string, text: string): void;
  /** Cuts its power, and boots it again. */
  restart(): Promise<void>;
  /** The files that differ from its image, without those in memory. */
  changed(): string[];
  remove(): void;
}

interface Boot {
  image: string;
  /** By their addresses, machines of a test reach each other. */
  address?: string;
  /** Without a network: only itself reaches its address. A machine without an address has none either. */
  isAlone?: boolean;
}

export interface Machines {
  boot(name: string, how: Boot): Promise<Machine>;
  /** Removes those that are left. */
  removeAll(): void;
}

const CONTAINER = ['--privileged', '--cgroupns=private', '--tmpfs', '/run', '--tmpfs', '/tmp:exec'];
/** In the loopback range, but not what a program takes when it has no address. */
const OWN_ADDRESS = '127.0.0.9';

/** The machines of one test, in a network of their own. */
export function machinesOf(
  { host, docker }: Pick<Daemon, 'host' | 'docker'>,
  test: string,
): Machines {
  const machines = new Set<Machine>();
  let hasNetwork = false;
  function networkOf({ address, isAlone = false }: Boot): string[] {
    if (address === undefined) return ['--network', 'none'];
    const named = ['--hostname', address];
    if (isAlone) return [...named, '--network', 'none', '--add-host', `${address}:${OWN_ADDRESS}`];
    if (!hasNetwork) docker('network', 'create', test);
    hasNetwork = true;
    // other names have no address, at once: nothing beyond can be reached
    return [...named, '--network', test, '--dns', '127.0.0.1', '--network-alias', address];
  }
  return {
    async boot(name, how) {
      const full = `${test}-${name}`;
      const options = ['--name', full, ...networkOf(how), ...CONTAINER];
      docker('run', '--detach', ...options, how.image, '/sbin/init');
      const machine = machineOf(full, host, docker);
      machines.add(machine);
      await untilBooted(machine);
      return {
        ...machine,
        remove() {
          machines.delete(machine);
          machine.remove();
        },
      };
    },
    removeAll() {
      for (const machine of machines) machine.remove();
      machines.clear();
      if (hasNetwork) docker('network', 'rm', test);
    },
  };
}

async function untilBooted(machine: Machine): Promise<void> {
  const state = () => machine.start('systemctl', 'is-system-running').stdout;
  await eventually(`the start of ${machine.name}`, () => /^(running|degraded)/u.test(state()));
}

function machineOf(name: string, host: string, docker: Daemon['docker']): Machine {
  const inside = (words: readonly string[], ...options: string[]) => [
    ...['-H', host, 'exec', ...options, name, ...words],
  ];
  const start = (...words: string[]): Ended => unlessBusy(() => runToEnd('docker', inside(words)));
  const machine: Machine = {
    name,
    start,
    async restart() {
      docker('restart', '--time', '0', name);
      await untilBooted(machine);
    },
    run(...words) {
      const { status, stdout, stderr } = start(...words);
      if (status !== 0) throw new Error(`${words.join(' ')}: ${status} ${stdout} ${stderr}`);
      return stdout;
    },
    write(path, text) {
      const words = inside(['sh', '-c', 'cat >"$0"', path], '--interactive');
      const { status, stderr } = runToEnd('docker', words, { input: text });
      if (status !== 0) throw new Error(`writing ${path}: ${status} ${stderr}`);
    },
    changed: () =>
      docker('diff', name)
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => line.slice(2))
        .sort(),
    remove: () => void docker('rm', '--force', '--volumes', name),
  };
  return machine;
}
