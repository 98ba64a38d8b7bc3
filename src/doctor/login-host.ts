/** Looks at this machine as a login host, where it is one. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readStatus } from '../login-host/agent-status.ts';
import { loadLoginHostConfig, LOGIN_HOST_CONFIG } from '../login-host/config.ts';
import { describeError } from '../errors.ts';
import { elsewhere, fix, type Line, ok, unreadable } from './line.ts';

/** It asks dpkg and systemd, which takes its time. */
export const INSTALL_LIMIT_MS = 15_000;
/** The agent writes its status every 5 s. */
const SILENT_MS = 30_000;

/** The file that says that a machine is a login host. */
export function loginHostConfig(etc: string): string | undefined {
  const file = etc === '/etc' ? LOGIN_HOST_CONFIG : join(etc, 'chamberlain/login-host.yaml');
  return existsSync(file) ? file : undefined;
}

export async function lookAtAgent(file: string, now: Date): Promise<Line[]> {
  let config;
  try {
    config = loadLoginHostConfig(file);
  } catch (error) {
    return [fix(describeError(error), 'Correct it, and run `install` again.')];
  }
  const status = readStatus(config.stateFolder);
  if (status === undefined) {
    return [fix('the keys agent has never run', 'Start chamberlain-keys-agent.')];
  }
  if (now.getTime() - status.at > SILENT_MS) {
    const at = new Date(status.at).toISOString();
    return [fix(`the keys agent has said nothing since ${at}`, 'Start chamberlain-keys-agent.')];
  }
  return [
    status.trusted
      ? ok('the keys agent trusts the directory')
      : fix(
          `the keys agent does not trust the directory: ${status.why ?? ''}`,
          'See `keys-agent status`.',
        ),
    ...(status.refusalsInAll > 0
      ? [fix(`the keys agent refuses ${status.refusalsInAll} entries`, 'See `keys-agent status`.')]
      : []),
    ...(status.helper === undefined
      ? []
      : [fix(`the root helper: ${status.helper}`, 'Start chamberlain-login-helper.')]),
  ];
}

/** What `install --check` says; only root may run it. */
export async function lookAtInstallation(root: string): Promise<Line[]> {
  if (process.getuid?.() !== 0) {
    return [elsewhere("this login host's own files", 'Run this as root.')];
  }
  const program = join(root, 'deploy/login-host/install');
  const { exit, out, err } = await run(program, ['--check', '--json']);
  if (exit !== 0 && exit !== 1) {
    return [unreadable(`${program} --check: ${err.trim()}`, `Run ${program} --check by hand.`)];
  }
  const { differences } = JSON.parse(out) as { differences: { what: string; differs: string }[] };
  return differences.length === 0
    ? [ok("this login host's files are as `install` makes them")]
    : differences.map(({ what, differs }) => fix(`${what}: ${differs}`, `Run ${program}.`));
}

function run(
  program: string,
  args: string[],
): Promise<{ exit: unknown; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(program, args, { timeout: INSTALL_LIMIT_MS }, (error, out, err) => {
      resolve({ exit: error === null ? 0 : error.code, out, err: err || (error?.message ?? '') });
    });
  });
}
