/** Properties of the machine that may prevent it from becoming a login host. */
import {
  existsSync,
  lchownSync,
  lstatSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { isWithin } from '../../src/login-host/account-names.ts';
import type { LoginHostConfig } from '../../src/login-host/config.ts';
import { hasSource } from './contents.ts';
import {
  absent,
  command,
  localAccounts,
  localGroups,
  type LocalAccount,
  type Piece,
} from './pieces.ts';

/**
 * Checks that only root can change a path and everything above it, and that the agent can reach it, because
 * root runs programs there. sshd requires the same of the path of its AuthorizedKeysCommand.
 */
export function safePath(path: string): Piece {
  return {
    what: path,
    isCondition: true,
    differs() {
      if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return undefined; // not created yet
      for (let at = realpathSync(path); ; at = dirname(at)) {
        const { uid, mode } = statSync(at);
        if (uid !== 0) return `${at} belongs to the account ${uid}, but root runs programs there`;
        if ((mode & 0o022) !== 0)
          return `accounts other than root can write to ${at}, but root runs programs there`;
        if ((mode & 0o001) === 0)
          return `the keys agent cannot enter ${at}: run chmod o+x, or move the clone`;
        if (at === '/') return undefined;
      }
    },
  };
}

/** Local accounts with a shell that have no file in a folder of keys. An empty file means: no keys. */
export function withoutKeyFile(keysFolder: string): LocalAccount[] {
  return localAccounts().filter(
    ({ name, shell }) => !/\/(nologin|false)$/.test(shell) && !existsSync(join(keysFolder, name)),
  );
}

/** Keys with which somebody can log in now, but could not any more. */
export function keysThatWouldNotCount(keysFolder: string): Piece {
  return {
    what: 'keys of local accounts',
    isCondition: true,
    differs() {
      const cut = withoutKeyFile(keysFolder)
        .map(({ name, home }) => ({ name, keys: join(home, '.ssh/authorized_keys') }))
        .filter(({ keys }) => (statSync(keys, { throwIfNoEntry: false })?.size ?? 0) > 0);
      if (cut.length === 0) return undefined;
      const commands = cut.map(
        ({ name, keys }) => `install -D -m 644 ${keys} ${join(keysFolder, name)}`,
      );
      return `keys in a home will not count here; run first: ${commands.join(' && ')} (an empty file there means no keys)`;
    },
  };
}

/** Numbers of this machine that the realm may give to somebody else. Only an admin can renumber them. */
export function unmanagedNumbers({ ids, realmGid }: LoginHostConfig): Piece {
  const isOurs = (id: number): boolean => isWithin(id, [...ids.people, ...ids.tools]);
  return {
    what: 'local numbers',
    differs() {
      const taken = [
        ...localAccounts()
          .filter(({ uid }) => isOurs(uid))
          .map(({ name, uid }) => `account ${name} ${uid}`),
        ...localGroups()
          .filter(({ gid }) => gid === realmGid || isOurs(gid))
          .map(({ name, gid }) => `group ${name} ${gid}`),
      ];
      if (taken.length === 0) return undefined;
      return `in the realm's ranges, so that a person or tool could get them: ${taken.join(', ')}; renumber them`;
    },
  };
}

/** The first line of the sssd.conf that an earlier installation wrote. */
const FORMER_SSSD =
  "# Written by Chamberlain's install, which writes it anew after a change of login-host.yaml.\n";
const SSSD_CONFIG = '/etc/sssd/sssd.conf';

/**
 * Whether this machine was set up when login hosts used sssd: it also asks sssd, after our own files, until
 * `keys-agent require-seals` removes `sss` from nsswitch.conf.
 */
export function hadSssd(): boolean {
  return existsSync(SSSD_CONFIG) && readFileSync(SSSD_CONFIG, 'utf8').startsWith(FORMER_SSSD);
}

function asksSssd(): boolean {
  return ['passwd', 'group', 'shadow', 'sudoers'].some((map) =>
    hasSource(readFileSync('/etc/nsswitch.conf', 'utf8'), map, 'sss'),
  );
}

/** Not before everybody there has a seal, which `install` cannot know. */
export function formerSssd(): Piece {
  return {
    what: 'sssd',
    differs: () =>
      hadSssd() && asksSssd()
        ? 'is still asked, so this host trusts everyone who may write to the directory: run `keys-agent require-seals`'
        : undefined,
  };
}

/** What an earlier installation has left: files of sssd only once nothing asks it any more. */
export function formerFiles(): Piece[] {
  const isOver = (): boolean => hadSssd() && !asksSssd();
  return [
    ...['status.json', 'state.json', 'accounts', 'closed'].map((name) =>
      absent(join('/var/lib/chamberlain/agent', name)),
    ),
    absent('/usr/lib/chamberlain/whoami'),
    absent('/var/lib/misc/passwd.db', hadSssd),
    absent('/etc/chamberlain/secrets/ldap-sssd', isOver),
    absent(SSSD_CONFIG, isOver),
  ];
}

/** pam_sss refuses every account that it cannot ask about, so nobody could log in. */
export function pamWithoutSssd(): Piece {
  const stacks = ['/etc/pam.d/common-account', '/etc/pam.d/common-session'];
  return {
    what: 'PAM',
    differs() {
      if (existsSync(SSSD_CONFIG)) return undefined;
      const askedSssd = stacks.filter((path) =>
        /^[^#]*\bpam_sss\.so\b/m.test(readFileSync(path, 'utf8')),
      );
      if (askedSssd.length === 0) return undefined;
      return `asks sssd, which is not set up, in ${askedSssd.join(' and ')}`;
    },
    mend: () =>
      void command('/usr/sbin/pam-auth-update', ['--disable', 'sss'], {
        DEBIAN_FRONTEND: 'noninteractive',
      }),
  };
}

/** Without it, nobody can become a tool. */
export function sudoReadsFolder(): Piece {
  return {
    what: '/etc/sudoers',
    differs() {
      const isRead = /^[@#]includedir\s+\/etc\/sudoers\.d\/?\s*$/m.test(
        readFileSync('/etc/sudoers', 'utf8'),
      );
      return isRead ? undefined : 'does not read /etc/sudoers.d: add `@includedir /etc/sudoers.d`';
    },
  };
}

/** Files that the former agent wrote belong to it, and it could go on writing to them. */
export function keyFilesOfRoot(folder: string): Piece {
  const others = (): string[] =>
    readdirSync(folder)
      .map((name) => join(folder, name))
      .filter((path) => lstatSync(path).uid !== 0);
  return {
    what: `files in ${folder}`,
    differs() {
      if (!existsSync(folder)) return undefined;
      const count = others().length;
      return count === 0 ? undefined : `${count} ${count === 1 ? 'does' : 'do'} not belong to root`;
    },
    mend: () => others().forEach((path) => lchownSync(path, 0, lstatSync(path).gid)),
  };
}
