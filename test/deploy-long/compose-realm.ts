/** The realm of docker-compose.yml. */
import type { Daemon } from './daemon.ts';
import { eventually, runToEnd, unlessBusy } from './patience.ts';

/** What its Dockerfile builds: each image is `chamberlain-…`. */
export const TARGETS = ['realm', 'login-host'];

interface Container {
  ID: string;
  Service: string;
  State: string;
  Health: string;
  ExitCode: number;
}

export type ComposeRealm = ReturnType<typeof openCompose>;

/** The realm of a folder that is like a clone, of which the images are made. */
export function openCompose(daemon: Pick<Daemon, 'host' | 'docker'>, clone: string) {
  function start(program: string, ...words: string[]) {
    const env = { ...process.env, DOCKER_HOST: daemon.host };
    return runToEnd(program, words, { cwd: clone, env });
  }
  function compose(...words: string[]): string {
    const { status, stdout, stderr } = unlessBusy(() => start('docker', 'compose', ...words));
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
    await eventually('health', () => {
      const sick = containers().filter(({ Service, State, Health, ExitCode }) =>
        Service === 'setup' ? State !== 'exited' || ExitCode !== 0 : Health !== 'healthy',
      );
      if (sick.length === 0) return true;
      const names = sick.map(({ Service }) => Service);
      throw new Error(`not healthy: ${compose('logs', '--no-color', '--tail', '30', ...names)}`);
    });
  }

  return {
    start,
    compose,
    containers,
    untilReady,
    docker: daemon.docker,
    down: () => void compose('down', '--volumes', '--timeout', '0'),
    /** Returns how many seconds it took until everything was healthy. */
    async up(): Promise<number> {
      const begun = performance.now();
      compose('up', '--detach');
      await untilReady();
      return (performance.now() - begun) / 1000;
    },
  };
}
