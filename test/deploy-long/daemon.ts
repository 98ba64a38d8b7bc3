/** A Docker that belongs to tests alone. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../dev/servers/processes.ts';
import { within } from '../scenarios/eventually.ts';
import { runToEnd } from './patience.ts';

const START_MS = 60_000;
/** The cgroup of all containers of a run, below that of the machine; dev/jest/apart.ts sets it, and deletes it. */
export const CGROUP = 'CHAMBERLAIN_TEST_CGROUP';

/** It has no network but those that are made in it, and changes no rules of the machine's. */
export interface Daemon {
  /** for DOCKER_HOST */
  readonly host: string;
  /** Runs `docker` to its end, and returns what it prints. Throws if it fails. */
  readonly docker: (...words: string[]) => string;
  /** As `docker`, while others go on. */
  readonly start: (...words: string[]) => Promise<string>;
  /** Removes the containers, and ends it. Its folder stays, and can be used again. */
  readonly stop: () => Promise<void>;
}

/** Starts one with its data in a folder. Throws, and says why, if it does not start. */
export async function startDaemon(folder: string): Promise<Daemon> {
  const at = (name: string): string => join(folder, name);
  for (const name of ['data', 'exec']) mkdirSync(at(name), { recursive: true });
  const { [CGROUP]: cgroup = '/docker' } = process.env;
  const places = ['--data-root', at('data'), '--exec-root', at('exec'), '--pidfile', at('pid')];
  const groups = ['--exec-opt', 'native.cgroupdriver=cgroupfs', '--cgroup-parent', cgroup];
  const alone = ['--iptables=false', '--ip6tables=false', '--ip-forward=false', '--bridge=none'];
  const log = openSync(at('log'), 'w');
  const client = clientOf(`unix://${at('socket')}`);
  const daemon = spawn('dockerd', ['-H', client.host, ...places, ...groups, ...alone], {
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  let failure: Error | undefined;
  daemon.once('error', (error) => (failure = error));
  const started = performance.now();
  const version = ['-H', client.host, 'version'];
  while (spawnSync('docker', version, { timeout: START_MS }).status !== 0) {
    if (failure !== undefined) throw failure;
    if (daemon.exitCode !== null || performance.now() - started > START_MS) {
      const said = readFileSync(at('log'), 'utf8').trimEnd().split('\n').at(-1);
      throw new Error(`the Docker daemon does not start: ${said || `exit ${daemon.exitCode}`}`);
    }
    await sleep(100);
  }
  return {
    ...client,
    async stop() {
      const left = client.docker('ps', '--all', '--quiet').split('\n').filter(Boolean);
      if (left.length > 0) client.docker('rm', '--force', ...left);
      client.docker('network', 'prune', '--force'); // they are devices of the machine
      daemon.kill('SIGTERM');
      if (daemon.exitCode === null) await within('the end of Docker', once(daemon, 'exit'));
      // dockerd has mounted `data` onto itself, and the namespace of `--network host`
      for (const line of readFileSync('/proc/mounts', 'utf8').split('\n').reverse()) {
        const [, place = ''] = line.split(' ');
        if (place.startsWith(`${folder}/`)) execFileSync('umount', [place]);
      }
    },
  };
}

/** The one that `npm run test:deploy` has started for all its files. */
export function sharedDaemon(): Pick<Daemon, 'host' | 'docker' | 'start'> {
  const { DOCKER_HOST } = process.env;
  if (DOCKER_HOST === undefined) throw new Error('only `npm run test:deploy` starts a Docker');
  return clientOf(DOCKER_HOST);
}

function clientOf(host: string) {
  return {
    host,
    docker(...words: string[]): string {
      const { status, stdout, stderr } = runToEnd('docker', ['-H', host, ...words]);
      if (status !== 0) throw new Error(`docker ${words.join(' ')}: ${status} ${stderr}`);
      return stdout;
    },
    start: (...words: string[]): Promise<string> => run('docker', ['-H', host, ...words]),
  };
}
