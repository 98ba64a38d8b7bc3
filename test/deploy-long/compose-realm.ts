/** The realm of docker-compose.yml, in a Docker of its own. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Daemon, importDebian, startDaemon } from './systemd-machines.ts';

const PROJECT = join(import.meta.dirname, '../..');
const READY_MS = 180_000;
export const IMAGES = ['realm', 'login-host'];

interface Container {
  ID: string;
  Service: string;
  State: string;
  Health: string;
  ExitCode: number;
}

export type ComposeRealm = Awaited<ReturnType<typeof openCompose>>;

/** Builds the packages and the images from a folder that is like a clone, without the rest of it. */
export async function openCompose(clone: string) {
  const packages = join(clone, 'dist/packages');
  mkdirSync(packages, { recursive: true });
  execFileSync(process.execPath, ['dev/debian/build.ts', packages], {
    cwd: PROJECT,
    env: { ...process.env, DPKG_DEB_COMPRESSOR_TYPE: 'none' },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  for (const name of ['.dockerignore', 'docker-compose.yml', 'deploy/compose']) {
    cpSync(join(PROJECT, name), join(clone, name), { recursive: true });
  }
  const daemon = await startDaemon();
  buildImages(daemon, clone);

  function start(program: string, ...words: string[]) {
    return spawnSync(program, words, {
      cwd: clone,
      env: { ...process.env, DOCKER_HOST: daemon.host },
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
  }
  function compose(...words: string[]): string {
    const { status, stdout, stderr } = start('docker', 'compose', ...words);
    if (status !== 0) throw new Error(`${words.join(' ')}: ${status} ${stdout} ${stderr}`);
    return stdout;
  }
  const containers = (): Container[] =>
    compose('ps', '--all', '--no-trunc', '--format', 'json')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Container);

  /** Waits for what the health checks say. */
  async function untilReady(): Promise<void> {
    const until = performance.now() + READY_MS;
    for (;;) {
      const sick = containers().filter(({ Service, State, Health, ExitCode }) =>
        Service === 'setup' ? State !== 'exited' || ExitCode !== 0 : Health !== 'healthy',
      );
      if (sick.length === 0) return;
      if (performance.now() > until) {
        const names = sick.map(({ Service }) => Service);
        throw new Error(`not healthy: ${compose('logs', '--no-color', '--tail', '30', ...names)}`);
      }
      await sleep(1000);
    }
  }

  return {
    start,
    compose,
    containers,
    untilReady,
    docker: daemon.docker,
    stop: daemon.stop,
    /** Returns how many seconds it took until everything was healthy. */
    async up(): Promise<number> {
      const begun = performance.now();
      compose('up', '--detach');
      await untilReady();
      return (performance.now() - begun) / 1000;
    },
  };
}

/** As `docker compose build`, but with the network of this machine. */
function buildImages(daemon: Daemon, clone: string): void {
  importDebian(daemon, 'debian:trixie-slim', ['--include=ca-certificates']);
  for (const target of IMAGES) {
    const where = ['--file', join(clone, 'deploy/compose/Dockerfile'), '--network', 'host'];
    const what = ['--target', target, '--tag', `chamberlain-${target}`];
    execFileSync('docker', ['-H', daemon.host, 'build', '--quiet', ...where, ...what, clone], {
      env: { ...process.env, DOCKER_BUILDKIT: '0' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
}
