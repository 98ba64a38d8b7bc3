/**
 * Switches a login host that was set up with sssd to seals only: nsswitch.conf and PAM no longer ask sssd, and
 * it is stopped. If the host is not ready, nothing is changed.
 *
 * pam_sss must be removed before sssd stops. Once sssd has stopped and left its sockets, Debian's `[default=bad
 * success=ok user_unknown=ignore]` refuses every account that /etc/passwd does not have.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ChamberlainError, CORRECT_AND_RUN_AGAIN } from '../shared/errors.ts';
import { runProgram } from '../shared/run-programs.ts';
import { replaceFile } from '../shared/durable-file.ts';
import type { LoginStatus } from './status.ts';

const NSSWITCH = '/etc/nsswitch.conf';
const PAM = '/etc/pam.d';
/** The databases that sssd answered for on a login host. */
const DATABASES = ['passwd', 'group', 'shadow', 'gshadow', 'initgroups', 'sudoers'];
/** The databases that the helper's files answer for instead. */
const OURS = ['passwd', 'group', 'shadow'];
const SSS = /[ \t]+sss(?![^\s[])(?:[ \t]*\[[^\]]*\])*/g;

/** The status without the refusals of entries that need no login here. */
export function othersRefused(status: LoginStatus, without: ReadonlySet<string>): LoginStatus {
  const refused = status.refused.filter(({ entry }) => !without.has(entry));
  const refusedInAll = status.refusedInAll - (status.refused.length - refused.length);
  return { ...status, refused, refusedInAll };
}

/** Why the host must not be switched, in sentences without a full stop; empty if it may. */
export function objections(status: LoginStatus, isRunning: boolean): string[] {
  const { trusted, why, refusedInAll, held, unwritten, people, tools } = status;
  return [
    ...(isRunning ? [] : ['the agent or the login helper is not running']),
    ...(trusted ? [] : [`the directory is not trusted: ${why ?? ''}`]),
    ...(people + tools > 0 ? [] : ['no account has a seal']),
    ...(refusedInAll > 0
      ? [`${refusedInAll} ${haveEntries(refusedInAll)} no seal that this host accepts`]
      : []),
    ...(held === undefined
      ? []
      : [
          `${held.inAll} ${haveEntries(held.inAll)} disappeared, and this host keeps what it knew: see \`keys-agent status\``,
        ]),
    ...unwritten.map(({ path, why: because }) => `${path} cannot be written: ${because}`),
    ...missingSources(readFileSync(NSSWITCH, 'utf8')),
  ];
}

function missingSources(text: string): string[] {
  const without = OURS.filter(
    (name) => !new RegExp(`^[ \\t]*${name}[ \\t]*:[^#\\n]*\\sextrausers\\b`, 'm').test(text),
  );
  if (without.length === 0) return [];
  return [
    `${NSSWITCH} does not ask extrausers for ${without.join(', ')}: run \`chamberlain-login-host\` first (from a clone: \`deploy/login-host/install\`)`,
  ];
}

function haveEntries(number: number): string {
  return number === 1 ? 'entry has' : 'entries have';
}

/** The text of nsswitch.conf(5) without `sss` and the action after it, in the databases that concern logins. */
function withoutSss(text: string): string {
  return text.replace(/^(\s*([a-z]+)[ \t]*:)([^#\n]*)/gm, (line, map, name, sources) => {
    if (!DATABASES.includes(String(name))) return line;
    const rest = String(sources).replace(SSS, '');
    return `${map}${rest.trim() === '' ? ' files' : rest}`;
  });
}

/**
 * Switches the host step by step, and yields what was done, in sentences. Must run as root. Throws STEP_FAILED;
 * what was done then stays, and the command may be run again.
 */
export async function* leaveSssd(): AsyncGenerator<string> {
  yield* leaveNsswitch();
  yield* await leavePam();
  yield* await stopSssd();
}

function leaveNsswitch(): string[] {
  const before = readFileSync(NSSWITCH, 'utf8');
  const after = withoutSss(before);
  if (after === before) return [];
  replaceFile(NSSWITCH, after, { mode: statSync(NSSWITCH).mode & 0o777 }, true);
  return [`${NSSWITCH} no longer asks sssd for accounts, groups or sudo rules`];
}

async function leavePam(): Promise<string[]> {
  const sssdFiles = () =>
    readdirSync(PAM).filter(
      (name) => name.startsWith('common-') && /^[^#]*\bpam_sss\.so\b/m.test(read(name)),
    );
  const read = (name: string) => readFileSync(join(PAM, name), 'utf8');
  if (sssdFiles().length === 0) return [];
  await run('/usr/sbin/pam-auth-update', ['--disable', 'sss']);
  const [left] = sssdFiles();
  if (left !== undefined) {
    throw new ChamberlainError('STEP_FAILED', 'removing sssd from PAM', {
      cause: `${join(PAM, left)} was changed by hand`,
      action: 'Remove the lines with pam_sss.so, and run the command again.',
    });
  }
  return ['PAM no longer asks sssd'];
}

async function stopSssd(): Promise<string[]> {
  if (!existsSync('/run/systemd/system'))
    return ['systemd is not running here: stop sssd yourself'];
  const listed = await run('/usr/bin/systemctl', ['list-unit-files', '--no-legend', 'sssd*']);
  const enabled = listed.split('\n').flatMap((line) => {
    const [unit = '', state] = line.split(/\s+/);
    return state === 'enabled' ? [unit] : [];
  });
  if (enabled.length === 0) return [];
  await run('/usr/bin/systemctl', ['disable', '--now', ...enabled]);
  return [`stopped, and no longer started at boot: ${enabled.join(', ')}`];
}

async function run(program: string, args: readonly string[]): Promise<string> {
  const env = {
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    DEBIAN_FRONTEND: 'noninteractive',
    LC_ALL: 'C',
  };
  const { code, out, err } = await runProgram(program, args, { env });
  if (code === 0) return out;
  throw new ChamberlainError('STEP_FAILED', `running ${program} ${args.join(' ')}`, {
    cause: new Error(err.trim() || `exit code ${code}`),
    action: CORRECT_AND_RUN_AGAIN,
  });
}
