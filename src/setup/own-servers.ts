/**
 * The servers of a machine on which systemd does not run, such as a container. `setup` uses a server that answers. It
 * starts one that does not, as its unit says, and stops it at the end. Then whatever runs programs there must start it.
 */
import { chmodSync, chownSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { requireLocalAccount } from '../../deploy/login-host/pieces.ts';
import { type Running, runProgram, startProgram } from '../shared/run-programs.ts';
import { mariadbSocket, POSTGRES, REDIS, SLAPD } from './places.ts';
import type { Piece } from './setup.ts';

/** A server that was stopped too early reads its logs first. */
const START_MS = 60_000;
const LOOK_MS = 50;
/** No server answers so late. */
const ANSWER_MS = 5000;

/** What a unit runs. */
interface UnitProgram {
  user: string;
  /** of its socket: whoever runs the program locks this folder, so that nobody else runs it on the same data */
  folder: string;
  words: readonly string[];
}

/** Reads the unit file of a server, in `folder`. Debian's unit of PostgreSQL runs a program that does not stay. */
export function programOf(unit: string, folder = '/usr/lib/systemd/system'): UnitProgram {
  if (unit === POSTGRES.unit) return { ...POSTGRES.program, folder: POSTGRES.host };
  const [, template = '', instance = ''] = /^([^@]*@?)(.*)\.service$/u.exec(unit) ?? [];
  const text = readFileSync(join(folder, `${template}.service`), 'utf8').replaceAll('\\\n', ' ');
  const valueOf = (key: string): string => {
    const [, value = ''] = new RegExp(`^${key}=(.*)$`, 'mu').exec(text) ?? [];
    // a variable that only a drop-in sets is empty
    const filled = value.replaceAll('%i', instance).replaceAll('%%', '%');
    return filled.replaceAll(/\$\{?\w+\}?/gu, '');
  };
  const words = valueOf('ExecStart').match(/"[^"]*"|\S+/gu) ?? [];
  return {
    user: valueOf('User'),
    folder: `/run/${valueOf('RuntimeDirectory')}`,
    words: words.map((word) => word.replaceAll('"', '').trim()),
  };
}

/** A command that exits with 0 if the server answers. The health checks of docker-compose.yml run the same commands. */
export function questionTo(unit: string): readonly [program: string, ...args: string[]] {
  const { host, port } = POSTGRES;
  switch (unit) {
    case POSTGRES.unit:
      return ['pg_isready', '-q', '-h', host, '-p', String(port)];
    case REDIS.unit:
      return ['redis-cli', '-s', new URL(REDIS.url).pathname, 'PING'];
    case SLAPD.unit:
      return ['ldapwhoami', '-Q', '-Y', 'EXTERNAL', '-H', SLAPD.uri];
    default: {
      const [, name = ''] = /@(.*)\.service$/u.exec(unit) ?? [];
      return ['mariadb-admin', '--no-defaults', `--socket=${mariadbSocket(name)}`, 'ping'];
    }
  }
}

async function answers(unit: string): Promise<boolean> {
  const [program, ...args] = questionTo(unit);
  const { code } = await runProgram(program, args, { timeoutMs: ANSWER_MS });
  return code === 0;
}

const started = new Map<string, Running>();

/** A server that answers. */
export function ownServer(unit: string, needs: readonly Piece[]): Piece {
  return {
    ...{ name: `the service ${unit}`, does: 'starts it until setup ends', needs },
    check: async () => ((await answers(unit)) ? undefined : 'does not run'),
    make: () => startServer(unit),
  };
}

async function startServer(unit: string): Promise<void> {
  const { user, folder, words } = programOf(unit);
  const { uid, gid } = requireLocalAccount(user);
  mkdirSync(folder, { recursive: true });
  chownSync(folder, uid, gid);
  chmodSync(folder, 0o755);
  const program = { name: 'flock', args: ['--no-fork', folder, ...words], user: { uid, gid } };
  // with SIGTERM, PostgreSQL would wait for its clients
  const running = startProgram(program, unit === POSTGRES.unit ? 'SIGINT' : 'SIGTERM');
  started.set(unit, running);
  const until = performance.now() + START_MS;
  while (!(await answers(unit))) {
    if (running.said() !== undefined || performance.now() > until) {
      await stopServer(unit);
      const said = running.said();
      throw new Error(`it does not answer${said === undefined ? '' : `: ${said}`}`);
    }
    await sleep(LOOK_MS);
  }
}

async function stopServer(unit: string): Promise<void> {
  await started.get(unit)?.stop();
  started.delete(unit);
}

/** Of a server that somebody else runs, only they can do that. */
export async function restartServer(unit: string): Promise<void> {
  if (!started.has(unit)) {
    throw new Error(`${unit} must be restarted by whoever runs it; then run setup again`);
  }
  await stopServer(unit);
  await startServer(unit);
}

/** Stops the servers that setup has started. */
export async function stopServers(): Promise<void> {
  await Promise.all([...started.keys()].map(stopServer));
}
