/**
 * Switches a login host that was set up with sssd to seals alone: nsswitch.conf and PAM ask sssd no more, and it
 * is stopped. Where the host is not ready, nothing is changed.
 *
 * pam_sss must go before sssd does: once that has stopped and left its sockets, Debian's `[default=bad success=ok
 * user_unknown=ignore]` lets in nobody whom /etc/passwd does not know.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ChamberlainError } from '../shared/errors.ts';
import { replaceFile } from './helper/replace-file.ts';
import type { LoginStatus } from './status.ts';

const NSSWITCH = '/etc/nsswitch.conf';
const PAM = '/etc/pam.d';
/** What sssd answered for a login host. */
const DATABASES = ['passwd', 'group', 'shadow', 'gshadow', 'initgroups', 'sudoers'];
/** What the helper's files answer instead. */
const OURS = ['passwd', 'group', 'shadow'];
const SSS = /[ \t]+sss(?![^\s[])(?:[ \t]*\[[^\]]*\])*/g;

/** The status without the refusals of entries that need no login here. */
export function othersRefused(status: LoginStatus, without: ReadonlySet<string>): LoginStatus {
  const refused = status.refused.filter(({ entry }) => !without.has(entry));
  const refusedInAll = status.refusedInAll - (status.refused.length - refused.length);
  return { ...status, refused, refusedInAll };
}

/** Why the host must not be switched, in sentences without a full stop; none where it may. */
export function objections(status: LoginStatus, isRunning: boolean): string[] {
  const { trusted, why, refusedInAll, held, unwritten, people, tools } = status;
  return [
    ...(isRunning ? [] : ['the agent or the root helper does not run']),
    ...(trusted ? [] : [`the directory is not trusted: ${why ?? ''}`]),
    ...(people + tools > 0 ? [] : ['nobody has a seal']),
    ...(refusedInAll > 0 ? [`entries without a seal that this host takes: ${refusedInAll}`] : []),
    ...(held === undefined ? [] : [`${held.inAll} have disappeared, and are kept`]),
    ...unwritten.map(({ path, why: because }) => `${path} cannot be written: ${because}`),
    ...missingSources(readFileSync(NSSWITCH, 'utf8')),
  ];
}

function missingSources(text: string): string[] {
  const without = OURS.filter(
    (name) => !new RegExp(`^[ \\t]*${name}[ \\t]*:[^#\\n]*\\sextrausers\\b`, 'm').test(text),
  );
  if (without.length === 0) return [];
  return [`${NSSWITCH} does not ask extrausers for ${without.join(', ')}: run \`install\` first`];
}

/** The text of nsswitch.conf(5) without `sss`, and what it does after it, where logins are concerned. */
function withoutSss(text: string): string {
  return text.replace(/^(\s*([a-z]+)[ \t]*:)([^#\n]*)/gm, (line, map, name, sources) => {
    if (!DATABASES.includes(String(name))) return line;
    const rest = String(sources).replace(SSS, '');
    return `${map}${rest.trim() === '' ? ' files' : rest}`;
  });
}

/**
 * Does it step by step, and tells what was done, in sentences. As root. Throws STEP_FAILED: what was done stays, and
 * it may be run again.
 */
export function* leaveSssd(): Generator<string> {
  yield* leaveNsswitch();
  yield* leavePam();
  yield* stopSssd();
}

function leaveNsswitch(): string[] {
  const before = readFileSync(NSSWITCH, 'utf8');
  const after = withoutSss(before);
  if (after === before) return [];
  replaceFile(NSSWITCH, after, { mode: statSync(NSSWITCH).mode & 0o777 }, true);
  return [`${NSSWITCH} asks sssd for no account, group or sudo rule any more`];
}

function leavePam(): string[] {
  const asking = () =>
    readdirSync(PAM).filter(
      (name) => name.startsWith('common-') && /^[^#]*\bpam_sss\.so\b/m.test(read(name)),
    );
  const read = (name: string) => readFileSync(join(PAM, name), 'utf8');
  if (asking().length === 0) return [];
  run('/usr/sbin/pam-auth-update', ['--disable', 'sss']);
  const [left] = asking();
  if (left !== undefined) {
    throw new ChamberlainError('STEP_FAILED', 'having PAM ask sssd no more', {
      cause: `${join(PAM, left)} was changed by hand: take the lines with pam_sss.so out, and run this again`,
    });
  }
  return ['PAM asks sssd no more'];
}

function stopSssd(): string[] {
  if (!existsSync('/run/systemd/system')) return ['systemd does not run here: stop sssd'];
  const listed = run('/usr/bin/systemctl', ['list-unit-files', '--no-legend', 'sssd*']);
  const enabled = listed.split('\n').flatMap((line) => {
    const [unit = '', state] = line.split(/\s+/);
    return state === 'enabled' ? [unit] : [];
  });
  if (enabled.length === 0) return [];
  run('/usr/bin/systemctl', ['disable', '--now', ...enabled]);
  return [`stopped, and not started any more: ${enabled.join(', ')}`];
}

function run(program: string, args: readonly string[]): string {
  try {
    return execFileSync(program, args, {
      encoding: 'utf8',
      env: {
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        DEBIAN_FRONTEND: 'noninteractive',
        LC_ALL: 'C',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (cause) {
    throw new ChamberlainError('STEP_FAILED', `running ${program} ${args.join(' ')}`, { cause });
  }
}
