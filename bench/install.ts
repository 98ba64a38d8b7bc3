/**
 * The figures of an installation, on bare machines with Debian 13 and systemd, each in a container. The packages of Debian
 * are at hand:
 *
 *   package   the size of the larger package, and how long the command of the package takes to start
 *   setup     `chamberlain setup` on one machine, until `doctor` is green
 *   login     on a second machine, from `setup --request` until the first ssh
 *   idle      what all roles take there while nothing happens
 *   compose   `docker compose up` with images at hand, until every container is healthy
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  asAliceOnLogin,
  bootBare,
  bootLogin,
  joinLogin,
  LISTENS,
  REALM_ADDRESS,
  SETUP,
} from '../test/deploy-long/bare-machine.ts';
import { openCompose } from '../test/deploy-long/compose-realm.ts';
import { startDaemon } from '../test/deploy-long/daemon.ts';
import { buildPackages, makeBare, makeCompose, makeLogin } from '../test/deploy-long/images.ts';
import { type Machine, machinesOf } from '../test/deploy-long/systemd-machines.ts';
import { eventually } from '../test/scenarios/eventually.ts';
import { run } from '../dev/servers/daemon.ts';
import { type InstallOptions, INSTALL_GOALS } from './goals.ts';
import { closeAll, type Closers } from './realm.ts';
import { type Figure, judge, quantile, voidIfFailed } from './tools/figure.ts';

const GOALS = INSTALL_GOALS;
const BOOTSTRAP = join(import.meta.dirname, '../dev/bootstrap');

/** Measures all figures of an installation. Installs what building packages needs. */
export async function measureInstall(options: InstallOptions): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measureAll(options, closers), options.interrupted]);
  } finally {
    await closeAll(closers);
  }
}

async function measureAll(options: InstallOptions, closers: Closers): Promise<Figure[]> {
  const { parent, say, size, void: why } = options;
  await run(BOOTSTRAP, ['--packages']);
  const folder = mkdtempSync(join(parent, 'chamberlain-install-'));
  closers.push(async () => rmSync(folder, { recursive: true }));
  say('building the packages');
  const packages = await buildPackages(join(folder, 'packages'), { small: size.isCompressed });
  const bytes = Math.max(...Object.values(packages).map((path) => statSync(path).size));
  say('making a bare machine');
  const daemon = await startDaemon(join(folder, 'docker'));
  closers.push(() => daemon.stop());
  await makeBare(daemon, packages);
  await makeLogin(daemon, packages);
  const machines = machinesOf(daemon, 'bench');
  const where = { address: REALM_ADDRESS };
  const machine = await bootBare(machines, 'realm', { answers: LISTENS, ...where });
  const login = await bootLogin(machines);
  const start = await voidIfFailed([GOALS.start], say, () => measureStart(machine, options));
  say('chamberlain setup');
  const seconds = timeSetup(machine);
  say('a login host joins');
  const joined = await voidIfFailed([GOALS.login], say, async () => {
    const value = await timeLogin(machine, login);
    return [judge(GOALS.login, { value, floor: undefined, void: why })];
  });
  say('idle: the machine is left alone');
  await sleep(size.restMs);
  const idle = readPss(machine);
  say('docker compose up');
  const composed = await voidIfFailed([GOALS.compose], say, async () => {
    const clone = join(folder, 'clone');
    await makeCompose(daemon, clone, packages);
    const compose = openCompose(daemon, clone);
    return [judge(GOALS.compose, { value: await compose.up(), floor: undefined, void: why })];
  });
  return [
    judge(GOALS.setup, { value: seconds, floor: undefined, void: why }),
    ...joined,
    ...start,
    judge(GOALS.package, { value: bytes / 2 ** 20, floor: undefined, void: why }),
    judge(GOALS.idle, { value: idle, floor: undefined, void: why }),
    ...composed,
  ];
}

/** In seconds. Throws unless `doctor` is green. */
function timeSetup(machine: Machine): number {
  const begun = performance.now();
  machine.run(...SETUP);
  return (performance.now() - begun) / 1000;
}

/** In seconds. */
async function timeLogin(realm: Machine, login: Machine): Promise<number> {
  const begun = performance.now();
  joinLogin({ realm, login });
  await eventually('a login', () => asAliceOnLogin(realm, 'true').status === 0);
  return (performance.now() - begun) / 1000;
}

/** By turns, so that both meet the same load. */
async function measureStart(
  machine: Machine,
  { size, void: why }: InstallOptions,
): Promise<Figure[]> {
  const commands = {
    own: 'chamberlain --version',
    node: '/usr/lib/chamberlain/bin/node -e 0',
  };
  const script = `now() { date +%s%N; }
    for i in $(seq ${size.starts}); do
      a=$(now); ${commands.own} >/dev/null; b=$(now); ${commands.node}; c=$(now)
      echo $((b - a)) $((c - b))
    done`;
  const rows = machine
    .run('sh', '-ec', script)
    .trim()
    .split('\n')
    .map((line) => line.split(' ').map(Number) as [number, number]);
  const own =
    quantile(
      rows.map(([first]) => first),
      0.5,
    ) / 1e6;
  const floor =
    quantile(
      rows.map(([, second]) => second),
      0.5,
    ) / 1e6;
  return [judge(GOALS.start, { value: own / floor, floor, ratio: own / floor, void: why })];
}

/** Of all processes of the roles together, in MiB: memory that several use is divided among them (proc_pid_smaps(5)). */
function readPss(machine: Machine): number {
  // where there are several hierarchies of cgroups, each lists the same processes
  const script = `find /sys/fs/cgroup -path '*/chamberlain@*' -name cgroup.procs -exec cat {} + | sort -u |
    while read -r pid; do cat "/proc/$pid/smaps_rollup"; done`;
  const kib = machine
    .run('sh', '-ec', script)
    .split('\n')
    .flatMap((line) => /^Pss: +(\d+) kB$/u.exec(line)?.[1] ?? []);
  if (kib.length < 6) throw new Error(`only ${kib.length} processes of the roles are running`);
  return kib.reduce((sum, each) => sum + Number(each), 0) / 1024;
}
