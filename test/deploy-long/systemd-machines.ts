/** Machines with systemd, each a container of a Docker of their own, without a network. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
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
  /** The files that differ from its image, without those in memory. */
  changed(): string[];
}

export interface Docker {
  /** Makes an image: a Debian 13 with these packages, on which `hooks` (shell, with the folder as $1) have worked. */
  makeImage(packages: readonly string[], hooks: readonly string[]): void;
  /** Installs a Debian package in the image. */
  install(deb: string): void;
  boot(name: string): Promise<Machine>;
  stop(): Promise<void>;
}

const IMAGE = 'chamberlain-test';
const CONTAINER = [
  ...['--network', 'none', '--privileged', '--cgroupns=private'],
  ...['--tmpfs', '/run', '--tmpfs', '/tmp:exec'],
];
const BOOT_MS = 60_000;

export async function startDocker(): Promise<Docker> {
  const folder = mkdtempSync(join(tmpdir(), 'chamberlain-docker-'));
  const at = (name: string): string => join(folder, name);
  for (const name of ['data', 'exec']) mkdirSync(at(name));
  const places = ['--data-root', at('data'), '--exec-root', at('exec'), '--pidfile', at('pid')];
  const alone = ['--iptables=false', '--ip6tables=false', '--ip-forward=false', '--bridge=none'];
  const daemon = spawn('dockerd', ['-H', `unix://${at('socket')}`, ...places, ...alone], {
    stdio: 'ignore',
  });
  const started = performance.now();
  while (spawnSync('docker', ['-H', `unix://${at('socket')}`, 'version']).status !== 0) {
    if (daemon.exitCode !== null || performance.now() - started > BOOT_MS) {
      throw new Error('dockerd did not start');
    }
    await sleep(100);
  }
  const docker = (...words: string[]): string =>
    execFileSync('docker', ['-H', `unix://${at('socket')}`, ...words], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
  return {
    makeImage(packages, hooks) {
      execFileSync(
        'mmdebstrap',
        [
          ...['--quiet', '--variant=minbase', `--include=${packages.join(',')}`],
          ...['--skip=cleanup/apt/lists,cleanup/apt/cache'],
          ...hooks.map((hook) => `--customize-hook=${hook}`),
          ...['trixie', at('image.tar')],
        ],
        { stdio: ['ignore', 'ignore', 'inherit'] },
      );
      docker('import', at('image.tar'), IMAGE);
      rmSync(at('image.tar'));
    },
    install(deb) {
      docker('create', '--name', 'install', IMAGE, 'dpkg', '--install', '/root/package.deb');
      docker('cp', deb, 'install:/root/package.deb');
      docker('start', '--attach', 'install');
      docker('commit', 'install', IMAGE);
      docker('rm', 'install');
    },
    async boot(name) {
      docker('run', '--detach', '--name', name, ...CONTAINER, IMAGE, '/sbin/init');
      const machine = machineOf(name, at('socket'), docker);
      const begun = performance.now();
      while (!/^(running|degraded)/u.test(machine.start('systemctl', 'is-system-running').stdout)) {
        if (performance.now() - begun > BOOT_MS) throw new Error(`${name} did not start`);
        await sleep(200);
      }
      return machine;
    },
    async stop() {
      const left = docker('ps', '--all', '--quiet').split('\n').filter(Boolean);
      if (left.length > 0) docker('rm', '--force', ...left);
      daemon.kill('SIGTERM');
      if (daemon.exitCode === null) await once(daemon, 'exit');
      execFileSync('umount', [at('data')]); // dockerd has mounted it onto itself
      rmSync(folder, { recursive: true });
    },
  };
}

function machineOf(name: string, socket: string, docker: (...words: string[]) => string): Machine {
  const inside = (words: readonly string[], ...options: string[]) => [
    ...['-H', `unix://${socket}`, 'exec', ...options, name, ...words],
  ];
  const start = (...words: string[]): Ended =>
    spawnSync('docker', inside(words), { encoding: 'utf8', maxBuffer: 2 ** 28 });
  return {
    name,
    start,
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
}
