/** Runs programs of Debian, and takes over the pieces of a login host's `install`, which check and correct alike. */
import { mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { type Piece as HostPiece } from '../../deploy/login-host/pieces.ts';
import { serviceRuns, systemdRuns } from '../../deploy/login-host/services.ts';
import type { Line } from '../doctor/line.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { runProgram } from '../shared/run-programs.ts';
import { ownServer, restartServer } from './own-servers.ts';
import type { Differs, Piece } from './setup.ts';

/** Of the locks of setup: whoever may open a file may lock it, so only root may look into this folder. */
const LOCKS = '/run/chamberlain-setup';

function lockFile(name: 'setup' | 'program', folder: string): string {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return join(folder, name);
}

/** Takes the lock of setup until this process ends, however it ends. Returns whether no other one had it. */
export async function holdAlone(locks = LOCKS): Promise<boolean> {
  const fd = openSync(lockFile('setup', locks), 'a', 0o600); // never closed: the lock lasts as long
  const { code } = await runProgram('flock', ['--nonblock', '3'], { fds: [fd] });
  return code === 0;
}

/** Takes that lock. Throws STEP_FAILED if another command has it. */
export async function requireAlone(): Promise<void> {
  if (await holdAlone()) return;
  throw new ChamberlainError('STEP_FAILED', 'another setup is running', {
    action: 'Wait until it has finished.',
  });
}

/**
 * Runs a program to its end, and returns what it printed. A setup that is killed leaves a program behind, which keeps a
 * lock as long as it runs, and this one waits for that: flock(1). A secret belongs in the input, never in the arguments.
 *
 * @param fds open files that it finds as /proc/self/fd/3 and so on
 */
export async function run(
  program: string,
  args: readonly string[],
  input = '',
  fds: readonly number[] = [],
): Promise<string> {
  const { code, out, err } = await runProgram(
    'flock',
    [lockFile('program', LOCKS), program, ...args],
    {
      ...{ input, fds },
      env: {
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        LC_ALL: 'C.UTF-8',
        DEBIAN_FRONTEND: 'noninteractive',
      },
    },
  );
  if (code === 0) return out;
  const said = (err.trim() || out.trim()).split('\n').slice(-5).join('; ');
  throw new Error(`${program} ${args.join(' ')}: ${said || 'it failed'}`);
}

/** Some of these as one piece: it differs by the first of them that does. */
export function together(
  name: string,
  does: string,
  parts: readonly HostPiece[],
  needs: readonly Piece[],
): Piece {
  return {
    ...{ name, does, needs },
    check() {
      for (const part of parts) {
        const differs = part.differs();
        if (differs !== undefined)
          return parts.length === 1 ? differs : `differ: ${part.what} ${differs}`;
      }
      return undefined;
    },
    make() {
      for (const part of parts) if (part.differs() !== undefined) part.mend?.();
    },
  };
}

/**
 * A service that runs, is started at boot, and was started after these files were last changed. Without systemd, a server
 * that runs while setup works.
 */
export function service(
  unit: string,
  needs: readonly Piece[],
  files: readonly string[] = [],
): Piece {
  if (!systemdRuns()) return ownServer(unit, needs);
  const piece = together(
    `the service ${unit}`,
    'enables and starts it',
    [serviceRuns(unit, files)],
    needs,
  );
  return {
    ...piece,
    remove: async () => ((await isInUse(unit)) ? await stop(unit) : undefined),
  };
}

/** A unit that was needed before. */
export function unneeded(unit: string, needs: readonly Piece[]): Piece {
  return {
    ...{ name: `the unit ${unit}`, does: 'stops and disables it', needs },
    check: async () => ((await isInUse(unit)) ? 'is no longer needed' : undefined),
    make: async () => void (await stop(unit)),
    remove: async () => ((await isInUse(unit)) ? await stop(unit) : undefined),
  };
}

/** Whether it is enabled, or runs, or is about to, after it was disabled. Throws if systemd does not say. */
async function isInUse(unit: string): Promise<boolean> {
  const { code, state } = await stateOf('is-enabled', unit);
  if (state !== 'disabled') return code === 0;
  const { state: active } = await stateOf('is-active', unit);
  return active !== 'inactive' && active !== 'failed';
}

/** The word that systemctl prints; the exit code alone is the same if it cannot ask systemd. */
async function stateOf(
  verb: 'is-enabled' | 'is-active',
  unit: string,
): Promise<{ code: number | null; state: string }> {
  const { code, out, err } = await runProgram('systemctl', [verb, unit]);
  const state = out.trim();
  if (state === '')
    throw new Error(`systemctl ${verb} ${unit}: ${err.trim() || 'it says nothing'}`);
  return { code, state };
}

async function stop(unit: string): Promise<string> {
  await run('systemctl', ['disable', '--now', unit]);
  return `stopped and disabled ${unit}`;
}

export async function restartService(unit: string): Promise<void> {
  if (systemdRuns()) await run('systemctl', ['restart', unit]);
  else await restartServer(unit);
}

/** The first line of `doctor` that tells of a fault. */
export function faultIn(lines: readonly Line[]): Differs {
  const fault = lines.find(({ state }) => state === 'fix' || state === 'unreadable');
  return fault === undefined ? undefined : `must be corrected: ${fault.what}`;
}
