/**
 * The benchmarks: `npm run bench -- chain`, `login`, `sweep`, `lifecycle`, `failover`, `recover`, `install`, `api` and `live`.
 * Each starts servers of its own, and stops them.
 *
 * Standard output has the figures (with `--json` one object a line), standard error the progress.
 */
import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { renderTable } from '../src/cli/table.ts';
import { measureApi } from './api.ts';
import { measureChain } from './chain.ts';
import { measureFailover } from './failover.ts';
import type { Figure } from './tools/figure.ts';
import {
  API_FULL,
  API_QUICK,
  type BenchOptions,
  FAILOVER_FULL,
  FAILOVER_QUICK,
  FULL,
  INSTALL_FULL,
  INSTALL_QUICK,
  LIFECYCLE_FULL,
  LIFECYCLE_QUICK,
  LIVE_FULL,
  LIVE_QUICK,
  LOGIN_FULL,
  LOGIN_QUICK,
  QUICK,
  RECOVER_FULL,
  RECOVER_QUICK,
  SWEEP_FULL,
  SWEEP_QUICK,
} from './goals.ts';
import { measureInstall } from './install.ts';
import { measureLifecycle } from './lifecycle.ts';
import { measureLive } from './live.ts';
import { measureLogin } from './login.ts';
import { measureRecover } from './recover.ts';
import { measureSweep } from './sweep.ts';

const USAGE = `usage: npm run bench -- chain|login|sweep|lifecycle|failover|recover|install|api|live [--json] [--quick] [--profile] [--dir DIR]

  chain      the time from a portal's request until the tool is ready
  login      a login host: its starts, changes, lookups, become, whole logins
  sweep      surveys of everything, repairs, explain, requests while a sweep goes on, and a long history
  lifecycle  suspending people, rotating passwords, archiving a home
  failover   the time until the next verdict after a leader was killed, hangs or vanishes from the network
  recover    a recovery in a large realm: the time until its list is ready, who has more access afterwards than before
             the loss, and how soon \`status\` names a server that came back older
  install    \`chamberlain setup\` on a bare machine, a login host that joins, what all roles take at rest, and
             \`docker compose up\`
  api        the HTTP API: reads, requests until their verdict, checks, and a thousand listeners
  live       the time until a change of the configuration is in use everywhere, without a restart

  --json     one object a line: {"figure","value","unit","floor","ratio","goal","holds"}
  --quick    small sizes, to try the benchmark itself; the figures mean nothing
  --profile  also show a CPU profile by package and function: of \`chamberlain work\` under the load,
             of a first start of a login host's programs, of \`work\` over surveys of everything or a rotation,
             or of \`work api\`
  --dir DIR  where the servers' data is stored: the disk that is measured (default: ${tmpdir()})

Exit: 0 every figure reaches its goal · 1 a figure misses its goal, or could not be measured · 2 wrong usage
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    dir: { type: 'string', default: tmpdir() },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

const benches = {
  chain: (options: Options) => measureChain({ ...options, size: values.quick ? QUICK : FULL }),
  login: (options: Options) =>
    measureLogin({ ...options, size: values.quick ? LOGIN_QUICK : LOGIN_FULL }),
  sweep: (options: Options) =>
    measureSweep({ ...options, size: values.quick ? SWEEP_QUICK : SWEEP_FULL }),
  recover: (options: Options) =>
    measureRecover({ ...options, size: values.quick ? RECOVER_QUICK : RECOVER_FULL }),
  lifecycle: (options: Options) =>
    measureLifecycle({ ...options, size: values.quick ? LIFECYCLE_QUICK : LIFECYCLE_FULL }),
  failover: (options: Options) =>
    measureFailover({ ...options, size: values.quick ? FAILOVER_QUICK : FAILOVER_FULL }),
  install: (options: Options) =>
    measureInstall({ ...options, size: values.quick ? INSTALL_QUICK : INSTALL_FULL }),
  api: (options: Options) => measureApi({ ...options, size: values.quick ? API_QUICK : API_FULL }),
  live: (options: Options) =>
    measureLive({ ...options, size: values.quick ? LIVE_QUICK : LIVE_FULL }),
};
const [name = '', ...more] = positionals;
if (values.help || more.length > 0 || !isBench(name)) {
  (values.help ? process.stdout : process.stderr).write(USAGE);
  process.exit(values.help ? 0 : 2);
}

const begin = performance.now();
const parent = resolve(values.dir);
mkdirSync(parent, { recursive: true });
// each benchmark stops its servers when it ends; a signal only makes what it waits for fail
const interrupted = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => reject(new Error(`stopped by ${signal}`)));
  }
  // the reader of the output has gone: `npm run bench -- chain | head`
  process.stdout.on('error', () => reject(new Error('nobody reads the output')));
});
interrupted.catch(() => {});

try {
  const figures = await benches[name]({
    parent,
    profileDir: values.profile ? join(parent, `chamberlain-profile-${process.pid}`) : undefined,
    void: values.quick ? '--quick: too small to mean anything' : undefined,
    interrupted,
    say: (line) => {
      const seconds = ((performance.now() - begin) / 1000).toFixed(0).padStart(4);
      process.stderr.write(`${seconds} s  ${line}\n`);
    },
    show: (text) => (values.json ? process.stderr : process.stdout).write(`${text}\n\n`),
  });
  print(figures);
  // a figure that is void because it could not be measured is a failure, too
  process.exitCode = figures.some(({ holds, value }) => holds === false || value === null) ? 1 : 0;
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1); // whatever an interrupted run was waiting for may take long
}

type Options = Omit<BenchOptions<unknown>, 'size'>;

function isBench(word: string): word is keyof typeof benches {
  return Object.hasOwn(benches, word);
}

function print(figures: readonly Figure[]): void {
  if (values.json) {
    process.stdout.write(figures.map((figure) => `${JSON.stringify(figure)}\n`).join(''));
    return;
  }
  const rows = figures.map(({ figure, value, unit, floor, ratio, goal, holds, void: why }) => [
    figure,
    value,
    floor,
    ratio,
    goal,
    holds === null
      ? `void: ${why}`
      : holds
        ? 'holds'
        : `misses its goal${why === undefined ? '' : `: ${why}`}`,
    unit,
  ]);
  const headings = ['FIGURE', 'VALUE', 'FLOOR', 'RATIO', 'GOAL', 'VERDICT', 'UNIT'];
  process.stdout.write(`${renderTable(headings, rows)}\n`);
}
