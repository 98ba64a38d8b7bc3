/**
 * Makes what the tests of this folder start from, and then runs them, without a network: dev/test.ts starts it, in
 * namespaces of its own.
 *
 *     node test/deploy-long/run.ts JEST ARGUMENT…
 *     node test/deploy-long/run.ts --try            only whether Docker runs a container here; if not, says why
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { within } from '../scenarios/eventually.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import {
  buildPackages,
  CLONE,
  makeBare,
  makeCompose,
  makeLogin,
  makeRealm,
  makeRoot,
  PACKAGES,
} from './images.ts';

/** What each test starts from. */
const NEEDS: Record<string, readonly ('bare' | 'realm' | 'login' | 'root' | 'compose')[]> = {
  setup: ['bare'],
  'setup-killed': ['bare'],
  'named-servers': ['bare'],
  recovery: ['bare'],
  roles: ['bare', 'realm'],
  join: ['realm', 'login'],
  units: ['bare'],
  'named-directory': ['bare'],
  packages: ['root'],
  compose: ['compose'],
};
const DOCKER = join(tmpdir(), 'docker');
/** It takes two minutes, and needs a network. */
const PREPARE_MS = 1_200_000;

/** Makes each thing once; things that do not need each other, at the same time. */
async function prepare(daemon: Daemon, tests: readonly string[]): Promise<void> {
  const needs = new Set(
    tests.flatMap((path) => {
      const name = basename(path, '.test.ts');
      if (NEEDS[name] === undefined) throw new Error(`say in run.ts what ${name} needs`);
      return NEEDS[name];
    }),
  );
  const packages = buildPackages(PACKAGES);
  const bare =
    needs.has('bare') || needs.has('realm') ? makeBare(daemon, packages) : Promise.resolve();
  await Promise.all([
    needs.has('realm') ? bare.then(() => makeRealm(daemon)) : bare,
    needs.has('login') && makeLogin(daemon, packages),
    needs.has('root') && makeRoot(packages),
    needs.has('compose') && makeCompose(daemon, CLONE, packages),
  ]);
}

async function main(args: readonly string[]): Promise<number> {
  if (args[0] === '--without-network') return runApart(args.slice(1));
  const begun = performance.now();
  const daemon = await startDaemon(DOCKER);
  if (args[0] !== '--try') {
    const list = [...args.filter((each) => !/^--(json|outputFile)/u.test(each)), '--listTests'];
    const listed = execFileSync(process.execPath, list, { encoding: 'utf8' });
    const prepared = prepare(daemon, listed.split('\n').filter(Boolean));
    await within('the packages and the images', prepared, PREPARE_MS);
    const seconds = (performance.now() - begun) / 1000;
    process.stderr.write(`the images are made, in ${seconds.toFixed(0)} s\n`);
  }
  await daemon.stop();
  const again = [process.execPath, import.meta.filename, '--without-network', ...args];
  return spawnSync('unshare', ['--net', ...again], { stdio: 'inherit' }).status ?? 1;
}

async function runApart(args: readonly string[]): Promise<number> {
  execFileSync('ip', ['link', 'set', 'lo', 'up']);
  const daemon = await startDaemon(DOCKER);
  if (args[0] === '--try') {
    await tryContainer(daemon);
    return 0;
  }
  const env = { ...process.env, DOCKER_HOST: daemon.host };
  const jest = spawn(process.execPath, args, { env, stdio: 'inherit' });
  const [code] = (await once(jest, 'exit')) as [number | null];
  return code ?? 1;
}

/** One like those of the tests, with programs of this machine. Throws if it cannot be started. */
async function tryContainer({ host, start }: Daemon): Promise<void> {
  const empty = Buffer.alloc(1024); // an archive without files
  execFileSync('docker', ['-H', host, 'import', '-', 'empty'], { input: empty });
  await start('network', 'create', 'try');
  const programs = ['/usr', '/lib', '/lib64']
    .filter((each) => existsSync(each))
    .flatMap((each) => ['--volume', `${each}:${each}:ro`]);
  const how = ['--network', 'try', '--privileged', '--cgroupns=private', '--tmpfs', '/run'];
  await start('run', '--rm', ...how, ...programs, 'empty', '/usr/bin/true');
}

process.exitCode = 1;
try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
