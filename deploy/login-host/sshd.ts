/** Asks sshd which configuration is in effect. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withoutKeyFile } from './machine.ts';
import { accountsWithPassword, command, type Piece } from './pieces.ts';

const SSHD = '/usr/sbin/sshd';
/** sshd does not check a configuration without it; its service creates it. */
const RUN_FOLDER = '/run/sshd';

/** PAM asks for passwords by either of them. */
const KEYS_ONLY: Readonly<Record<string, string>> = {
  passwordauthentication: 'no',
  kbdinteractiveauthentication: 'no',
};

/** For users without an account here: keywords as `sshd -T` prints them. */
const FOR_PEOPLE: Readonly<Record<string, string>> = {
  authorizedkeyscommand: '/usr/lib/chamberlain/authorized-keys %u',
  authorizedkeyscommanduser: 'chamberlain-lookup',
  authorizedkeysfile: '/etc/ssh/authorized_keys.d/%u',
  pubkeyauthentication: 'yes',
  usepam: 'yes',
  ...KEYS_ONLY,
};

/** Makes sshd read a drop-in, together with everything else, before it is installed. Throws what sshd says. */
export function tryForSshd(candidate: string): void {
  if (!existsSync(RUN_FOLDER)) mkdirSync(RUN_FOLDER, 0o755);
  const scratch = mkdtempSync(join(tmpdir(), 'chamberlain-install-'));
  try {
    const main = join(scratch, 'sshd_config');
    // a Match in an included file ends with it
    writeFileSync(main, `Include ${candidate}\nInclude /etc/ssh/sshd_config\n`);
    command(SSHD, ['-t', '-f', main]);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/**
 * Checks that the settings of our drop-in are in effect: the first value of each setting wins, and another file
 * may set it.
 */
export function sshdAnswers(local: () => readonly string[]): Piece[] {
  return [
    {
      what: 'sshd for people',
      differs: () => describe(effective('somebody-from-the-directory'), FOR_PEOPLE),
    },
    {
      what: 'sshd for local accounts',
      differs() {
        for (const name of local()) {
          const seen = describe(effective(name), { authorizedkeyscommand: 'none', ...KEYS_ONLY });
          if (seen !== undefined) return `for ${name}, ${seen}`;
        }
        return undefined;
      },
    },
  ];
}

/** Passwords with which somebody can log in now, but could not any more. */
export function passwordsThatWouldNotCount(keysFolder: string): Piece {
  return {
    what: 'passwords of local accounts',
    isCondition: true,
    differs() {
      const passwords = accountsWithPassword();
      const cut = withoutKeyFile(keysFolder)
        .map(({ name }) => name)
        .filter((name) => passwords.has(name) && takesPasswordOf(name));
      if (cut.length === 0) return undefined;
      const files = cut.map((name) => join(keysFolder, name));
      return `sshd will accept only keys here; first write public keys to ${files.join(', ')} (an empty file there means no login by ssh)`;
    },
  };
}

/** Whether sshd lets an account in with its password. If it does not say: yes, unless there is no sshd. */
function takesPasswordOf(name: string): boolean {
  if (!existsSync(SSHD)) return false;
  const seen = effective(name);
  if (typeof seen === 'string') return true;
  if (name === 'root' && seen['permitrootlogin'] !== 'yes') return false;
  return Object.entries(KEYS_ONLY).some(([keyword, value]) => seen[keyword] !== value);
}

function describe(
  seen: Readonly<Record<string, string>> | string,
  wanted: Readonly<Record<string, string>>,
): string | undefined {
  if (typeof seen === 'string') return seen;
  for (const [keyword, value] of Object.entries(wanted)) {
    if (seen[keyword] !== value) {
      const found = `${keyword} is \`${seen[keyword] ?? ''}\`, not \`${value}\``;
      return `${found}: look for it in /etc/ssh/sshd_config and sshd_config.d, before 00-chamberlain.conf or below a Match`;
    }
  }
  return undefined;
}

/** The configuration in effect for a user, or sshd's error. */
function effective(user: string): Record<string, string> | string {
  try {
    const text = command(SSHD, ['-T', '-C', `user=${user},host=login.example,addr=192.0.2.1`]);
    return Object.fromEntries(
      text
        .split('\n')
        .map((line) => [line.split(' ', 1)[0] ?? '', line.slice(line.indexOf(' ') + 1)]),
    );
  } catch (error) {
    return (error as Error).message;
  }
}
