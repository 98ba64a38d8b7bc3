/** Machines with systemd, each a container of a Docker of their own. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface Machine {
  readonly name: string;
  /** Runs a command to its end, whatever that is. */
  start(...words: string[]): Ended;
  /** Runs a command, and returns what it prints. Throws if it fails. */
  run(...words: string[]): string;
  write(path: string, text: string): void;
  /** Stops the machine and boots it again. */
  restart(): Promise<void>;
  /** The files that differ from its image, without those in memory. */
  changed(): string[];
}

export interface Docker {
  /** Makes an image: a Debian 13 with these packages, on which `hooks` (shell, with the folder as $1) have worked. */
  makeImage(packages: readonly string[], hooks: readonly string[], image?: string): void;
  /** Installs a Debian package in the image. */
  install(deb: string, image?: string): void;
  /** Starts a machine. By its `address`, machines that have one reach each other; without one, it has no network. */
  boot(name: string, options?: { image?: string; address?: string }): Promise<Machine>;
  stop(): Promise<void>;
}

const IMAGE = 'chamberlain-test';
const CONTAINER = ['--privileged', '--cgroupns=private', '--tmpfs', '/run', '--tmpfs', '/tmp:exec'];
const NETWORK = 'machines';
const BOOT_MS = 60_000;

/** A Docker of a test's own. It has no network but those that are made in it, and changes no rules of the machine's. */
export interface Daemon {
  /** for DOCKER_HOST */
  readonly host: string;
  /** Runs `docker` to its end, and returns what it prints. Throws if it fails. */
  readonly docker: (...words: string[]) => string;
  /** Removes the containers, and everything that it has left on the machine. */
  readonly stop: () => Promise<void>;
}

export async function startDaemon(): Promise<Daemon> {
  const folder = mkdtempSync(join(tmpdir(), 'chamberlain-docker-'));
  const at = (name: string): string => join(folder, name);
  for (const name of ['data', 'exec']) mkdirSync(at(name));
  const places = ['--data-root', at('data'), '--exec-root', at('exec'), '--pidfile', at('pid')];
  const alone = ['--iptables=false', '--ip6tables=false', '--ip-forward=false', '--bridge=none'];
  const host = `unix://${at('socket')}`;
  const daemon = spawn('dockerd', ['-H', host, ...places, ...alone], { stdio: 'ignore' });
  const started = performance.now();
  while (spawnSync('docker', ['-H', host, 'version']).status !== 0) {
    if (daemon.exitCode !== null || performance.now() - started > BOOT_MS) {
      throw new Error('dockerd did not start');
    }
    await sleep(100);
  }
  const docker = (...words: string[]): string =>
    execFileSync('docker', ['-H', host, ...words], { encoding: 'utf8', maxBuffer: 2 ** 28 });
  return {
    ...{ host, docker },
    async stop() {
      const left = docker('ps', '--all', '--quiet').split('\n').filter(Boolean);
      if (left.length > 0) docker('rm', '--force', ...left);
      docker('network', 'prune', '--force'); // they are devices of the machine
      daemon.kill('SIGTERM');
      if (daemon.exitCode === null) await once(daemon, 'exit');
      // dockerd has mounted `data` onto itself, and the namespace of `--network host`
      for (const line of readFileSync('/proc/mounts', 'utf8').split('\n').reverse()) {
        const [, place = ''] = line.split(' ');
        if (place.startsWith(`${folder}/`)) execFileSync('umount', [place]);
      }
      rmSync(folder, { recursive: true });
    },
  };
}

/** Makes an image of a Debian 13. */
export function importDebian({ docker }: Daemon, image: string, options: readonly string[]): void {
  const folder = mkdtempSync(join(tmpdir(), 'chamberlain-debian-'));
  const tar = join(folder, 'image.tar');
  execFileSync('mmdebstrap', ['--quiet', '--variant=minbase', ...options, 'trixie', tar], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  docker('import', tar, image);
  rmSync(folder, { recursive: true });
}

export async function startDocker(): Promise<Docker> {
  const daemon = await startDaemon();
  const { host, docker, stop } = daemon;
  function reachable(address: string): string[] {
    const names = docker('network', 'ls', '--format', '{{.Name}}').split('\n');
    if (!names.includes(NETWORK)) docker('network', 'create', NETWORK);
    // other names have no address, at once: nothing beyond can be reached
    const named = ['--dns', '127.0.0.1', '--network-alias', address, '--hostname', address];
    return ['--network', NETWORK, ...named];
  }
  return {
    stop,
    makeImage(packages, hooks, image = IMAGE) {
      importDebian(daemon, image, [
        ...[`--include=${packages.join(',')}`, '--skip=cleanup/apt/lists,cleanup/apt/cache'],
        ...hooks.map((hook) => `--customize-hook=${hook}`),
      ]);
    },
    install(deb, image = IMAGE) {
      docker('create', '--name', 'install', image, 'dpkg', '--install', '/root/package.deb');
      docker('cp', deb, 'install:/root/package.deb');
      docker('start', '--attach', 'install');
      docker('commit', 'install', image);
      docker('rm', 'install');
    },
    async boot(name, { image = IMAGE, address } = {}) {
      const network = address === undefined ? ['--network', 'none'] : reachable(address);
      docker('run', '--detach', '--name', name, ...network, ...CONTAINER, image, '/sbin/init');
      const machine = machineOf(name, host, docker);
      await untilBooted(machine);
      return machine;
    },
  };
}

async function untilBooted(machine: Machine): Promise<void> {
  const begun = performance.now();
  while (!/^(running|degraded)/u.test(machine.start('systemctl', 'is-system-running').stdout)) {
    if (performance.now() - begun > BOOT_MS) throw new Error(`${machine.name} did not start`);
    await sleep(200);
  }
}

function machineOf(name: string, host: string, docker: (...words: string[]) => string): Machine {
  const inside = (words: readonly string[], ...options: string[]) => [
    ...['-H', host, 'exec', ...options, name, ...words],
  ];
  const start = (...words: string[]): Ended =>
    spawnSync('docker', inside(words), { encoding: 'utf8', maxBuffer: 2 ** 28 });
  const machine: Machine = {
    name,
    start,
    async restart() {
      docker('restart', name);
      await untilBooted(machine);
    },
    run(...words) {
      const { status, stdout, stderr } = start(...words);
      if (status !== 0) throw new Error(`${words.join(' ')}: ${status} ${stdout} ${stderr}`);
      return stdout;
    },
    write(path, text) {
      execFileSync('docker', inside(['sh', '-c', 'cat >"$0"', path], '--interactive'), {
        input: text,
      });
    },
    changed: () =>
      docker('diff', name)
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => line.slice(2))
        .sort(),
  };
  return machine;
}
