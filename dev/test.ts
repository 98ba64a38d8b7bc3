/**
 * Runs the tests against servers of their own, which it starts for the first suite that wants them, and leaves to the
 * next run (test/warm-servers.ts).
 *
 *     node dev/test.ts [--long | --deploy] [JEST ARGUMENT…]
 *
 * Plain: every test but *.long.test.ts and test/deploy-long; --long, --deploy: those alone. A file or pattern may be named as
 * for jest. The exit code is jest's. CHAMBERLAIN_TEST_RESULT=FILE writes jest's result there as JSON. The last line
 * tells what the run took: other load makes a run longer, and hardly changes its processor time.
 *
 * The tests see the same environment everywhere: of the caller's they get PATH and what is named CHAMBERLAIN_… alone.
 */
import { execFileSync, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { mkdirSync, readFileSync, statfsSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startApart } from './jest/apart.ts';
import { buildPackages, PACKAGES } from './jest/packages.ts';
import { statFields } from './servers/processes.ts';
import { socketOf, SHARED_SERVERS } from '../test/shared-servers.ts';
import { takeServers } from '../test/warm-servers.ts';

const PROJECT = join(import.meta.dirname, '..');
const MEMORY = '/dev/shm';
const MEMORY_BYTES = 4 * 2 ** 30;
const RUN_DEPLOY = join(PROJECT, 'test/deploy-long/run.ts');

process.umask(0o022); // of the servers' folders, too
const group = ['long', 'deploy'].find((name) => process.argv.includes(`--${name}`)) ?? 'plain';
if (group === 'plain' && hasMemory()) process.env['TMPDIR'] ??= MEMORY;
// builds the program if its sources have changed: the tests start what people start
execFileSync(join(PROJECT, 'deploy/chamberlain'), ['--version']);
const packages = await buildPackages();
const servers = await takeServers();
const { place } = servers.stack;
settleEnvironment(join(place.dir, 'home'));

const extra = process.argv.slice(2).filter((argument) => argument !== `--${group}`);
const resultFile = process.env['CHAMBERLAIN_TEST_RESULT'];

let endJest = (_signal: 'SIGINT' | 'SIGTERM'): void => {};
let interrupted: NodeJS.Signals | undefined;
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => {
    interrupted = name;
    endJest(name === 'SIGINT' ? 'SIGINT' : 'SIGTERM');
  });
}

const [begin, beginSeconds] = [performance.now(), processorSeconds()];
const listener = listenForSuites();
try {
  process.exitCode = interrupted === undefined ? await runJest() : 130;
} catch (error) {
  process.stderr.write(`dev/test: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  listener.close();
  await servers.end(interrupted === undefined);
}
const took = [(performance.now() - begin) / 1000, processorSeconds() - beginSeconds];
const [wall, processor] = took.map((seconds) => (seconds / 60).toFixed(1));
process.stdout.write(
  `${wall} min wall, ${processor} min of processor time, files in ${tmpdir()}\n`,
);

/**
 * Whether the files of plain tests, 1.1 GiB at most, may be in memory. There a run takes a seventh less processor time
 * than on ext4: 13.5 minutes instead of 15.7.
 */
function hasMemory(): boolean {
  const mount = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .findLast((line) => line.split(' ')[1] === MEMORY);
  // programs are run from there
  if (mount === undefined || /\bnoexec\b/u.test(mount)) return false;
  const { bavail, bsize } = statfsSync(MEMORY);
  return Math.min(bavail * bsize, process.availableMemory()) >= MEMORY_BYTES;
}

/** Starts the servers when the first comes to ask for them; each is told once they run, or why they do not. */
function listenForSuites(): Server {
  let starting: Promise<void> | undefined;
  const server = createServer((suite) => {
    suite.on('error', () => {}); // ended meanwhile
    starting ??= servers.start();
    starting.then(
      () => suite.end(),
      (error: unknown) => suite.end(error instanceof Error ? error.message : String(error)),
    );
  });
  return server.listen(socketOf(place.dir));
}

/** Of this process, of all that it has started and that has ended, and of the servers (proc_pid_stat(5), fields 14 to 17). */
function processorSeconds(): number {
  const ticks = [process.pid, ...servers.pids()].flatMap((pid) =>
    (statFields(pid) ?? []).slice(11, 15).map(Number),
  );
  return ticks.reduce((sum, each) => sum + each, 0) / 100; // clock ticks (sysconf(3)) on every Linux
}

/** The variables that programs read of their surroundings. */
function settleEnvironment(home: string): void {
  for (const name of Object.keys(process.env)) {
    if (!/^(?:PATH|TMPDIR|JITI_FS_CACHE|UPDATE_GOLDEN|CHAMBERLAIN_.*)$/.test(name))
      delete process.env[name];
  }
  mkdirSync(home, { recursive: true });
  Object.assign(process.env, { HOME: home, LANG: 'C.UTF-8', TERM: 'xterm', TZ: 'UTC' });
}

function runJest(): Promise<number> {
  const args = [
    join(PROJECT, 'node_modules/jest/bin/jest.js'),
    ...(resultFile === undefined ? [] : ['--json', `--outputFile=${resultFile}`]),
    ...extra,
  ];
  const env = {
    ...process.env,
    [SHARED_SERVERS]: place.dir,
    [PACKAGES]: packages,
    CHAMBERLAIN_TESTS: group,
    // of dev/chamberlain: hundreds of commands start in half the time
    NODE_COMPILE_CACHE: join(PROJECT, 'node_modules/.cache/chamberlain'),
  };
  // Its --json text goes to stdout besides the file; what is for people goes to stderr.
  const stdout = resultFile === undefined ? 'inherit' : 'ignore';
  const jest = startJest(args, { cwd: PROJECT, env, stdio: ['ignore', stdout, 'inherit'] });
  return new Promise((done, fail) => {
    jest.once('error', fail);
    jest.once('exit', (code) => done(code ?? 1));
  });
}

function startJest(args: readonly string[], options: SpawnOptions): ChildProcess {
  if (group !== 'deploy') {
    const jest = spawn(process.execPath, args, options);
    endJest = (signal) => jest.kill(signal);
    return jest;
  }
  const { process: first, kill } = startApart([process.execPath, RUN_DEPLOY, ...args], options);
  endJest = kill;
  return first;
}
