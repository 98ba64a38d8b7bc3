/** sshd's own word on its configuration. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withoutKeyFile } from './machine.ts';
import { accountsWithPassword, command, type Piece } from './pieces.ts';

const SSHD = '/usr/sbin/sshd';
/** sshd looks at nothing without it; its service makes it. */
const RUN_FOLDER = '/run/sshd';

/** PAM asks for passwords by either. */
const KEYS_ONLY: Readonly<Record<string, string>> = {
  passwordauthentication: 'no',
  kbdinteractiveauthentication: 'no',
};

/** For who has no account here: keywords as `sshd -T` prints them. */
const FOR_PEOPLE: Readonly<Record<string, string>> = {
  authorizedkeyscommand: '/usr/lib/chamberlain/authorized-keys %u',
  authorizedkeyscommanduser: 'chamberlain-lookup',
  authorizedkeysfile: '/etc/ssh/authorized_keys.d/%u',
  pubkeyauthentication: 'yes',
  usepam: 'yes',
  ...KEYS_ONLY,
};

/** Has sshd read a drop-in before it takes its place, together with everything else. Throws what sshd says. */
export function tryForSshd(candidate: string): void {
  if (!existsSync(RUN_FOLDER)) mkdirSync(RUN_FOLDER, 0o755);
  const scratch = mkdtempSync(join(tmpdir(), 'chamberlain-install-'));
  try {
    const main = join(scratch, 'sshd_config');
    // A Match in an included file ends with it.
    writeFileSync(main, `Include ${candidate}\nInclude /etc/ssh/sshd_config\n`);
    command(SSHD, ['-t', '-f', main]);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** That what our drop-in says is what counts: the first word on anything wins, and another file may have it. */
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

/** Passwords by which somebody logs in now, and would not any more. */
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
      return `sshd takes keys only here; write public keys first into ${files.join(', ')} (an empty file there: no login by ssh)`;
    },
  };
}

/** Whether sshd lets an account in by its password. Where it does not say: yes, unless there is no sshd. */
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

/** The configuration that counts for a user, or what sshd has against it. */
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
