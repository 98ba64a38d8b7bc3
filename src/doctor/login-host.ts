/** Checks this machine as a login host, if it is one. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readStatus } from '../login-host/status.ts';
import { loadLoginHostConfig, LOGIN_HOST_CONFIG } from '../login-host/config.ts';
import { PLACES } from '../login-host/places.ts';
import { describeError } from '../shared/errors.ts';
import { runProgram } from '../shared/run-programs.ts';
import { elsewhere, fix, type Line, ok, unreadable } from './line.ts';

/** The installer asks dpkg and systemd, which takes seconds. */
export const INSTALL_LIMIT_MS = 15_000;
/** Of the Debian package chamberlain-login-host. */
const PACKAGED_INSTALL = '/usr/sbin/chamberlain-login-host';
/** The helper writes its status every 5 s, and the agent reports to it as often. */
const SILENT_MS = 30_000;

/** The configuration that every login host has; undefined if this machine is not one. */
export function loginHostConfig(etc: string): string | undefined {
  const file = etc === '/etc' ? LOGIN_HOST_CONFIG : join(etc, 'chamberlain/login-host.yaml');
  return existsSync(file) ? file : undefined;
}

/** @param folder where the login helper keeps its status */
export async function lookAtAgent(file: string, now: Date, folder = PLACES.login): Promise<Line[]> {
  try {
    loadLoginHostConfig(file);
  } catch (error) {
    return [
      fix(
        describeError(error),
        'Correct the file, and run `chamberlain-login-host` (from a clone: `deploy/login-host/install`).',
      ),
    ];
  }
  const status = readStatus(folder);
  if (status === undefined) {
    return [fix('the login helper has never run', 'Start chamberlain-login-helper.')];
  }
  const isSilent = (at: number | undefined) => now.getTime() - (at ?? status.startedAt) > SILENT_MS;
  const time = (at: number) => new Date(at).toISOString();
  if (isSilent(status.at)) {
    const what = `the login helper has not written its status since ${time(status.at)}`;
    return [fix(what, 'Start chamberlain-login-helper.')];
  }
  const { agentAt, unwritten, refusedInAll } = status;
  return [
    status.trusted
      ? ok('this login host trusts the directory')
      : fix(
          `this login host does not trust the directory: ${status.why ?? ''}`,
          'See `keys-agent status`.',
        ),
    ...(isSilent(agentAt)
      ? [
          fix(
            agentAt === undefined
              ? 'the keys agent has not reported to the login helper since the helper started'
              : `the keys agent has not reported to the login helper since ${time(agentAt)}`,
            'Start chamberlain-keys-agent.',
          ),
        ]
      : []),
    ...(refusedInAll > 0
      ? [fix(`entries that this login host refuses: ${refusedInAll}`, 'See `keys-agent status`.')]
      : []),
    ...unwritten.map(({ path, why }) => fix(`${path}: ${why}`, 'See `keys-agent status`.')),
  ];
}

/** The result of `install --check`, which only root may run. */
export async function lookAtInstallation(root: string): Promise<Line[]> {
  if (process.getuid?.() !== 0) {
    return [elsewhere("this login host's own files", 'Run this as root.')];
  }
  const inClone = join(root, 'deploy/login-host/install');
  const program = existsSync(inClone) ? inClone : PACKAGED_INSTALL;
  const { code, out, err } = await runProgram(program, ['--check', '--json'], {
    env: process.env,
    timeoutMs: INSTALL_LIMIT_MS,
  }).catch((error: unknown) => ({ code: null, out: '', err: describeError(error) }));
  if (code !== 0 && code !== 1) {
    const why = err.trim() || 'it did not end in time';
    return [unreadable(`${program} --check: ${why}`, `Run ${program} --check yourself.`)];
  }
  const { differences } = JSON.parse(out) as { differences: { what: string; differs: string }[] };
  return differences.length === 0
    ? [ok("this login host's files are as `install` makes them")]
    : differences.map(({ what, differs }) => fix(`${what}: ${differs}`, `Run ${program}.`));
}
