/** What the machine brings along that can stand against a login host. */
import { lstatSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isWithin } from '../../src/login-host/account-names.ts';
import type { LoginHostConfig } from '../../src/login-host/config.ts';
import { command, localAccounts, localGroups, type Piece } from './pieces.ts';

/**
 * That a path and all above it is root's alone to change, and open to the agent: root runs what lies there.
 * sshd wants the same of the path of its AuthorizedKeysCommand.
 */
export function safePath(path: string): Piece {
  return {
    what: path,
    isCondition: true,
    differs() {
      if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return undefined; // not made yet
      for (let at = realpathSync(path); ; at = dirname(at)) {
        const { uid, mode } = statSync(at);
        if (uid !== 0) return `${at} belongs to the account ${uid}, and root runs what lies there`;
        if ((mode & 0o022) !== 0)
          return `${at} can be written by others than root, who runs what lies there`;
        if ((mode & 0o001) === 0)
          return `${at} is closed to the keys agent: chmod o+x, or move the clone`;
        if (at === '/') return undefined;
      }
    },
  };
}

/** Keys by which somebody logs in now, and would not any more. */
export function keysThatWouldNotCount(keysFolder: string): Piece {
  const exists = (path: string): boolean => statSync(path, { throwIfNoEntry: false }) !== undefined;
  return {
    what: 'keys of local accounts',
    isCondition: true,
    differs() {
      const cut = localAccounts()
        .filter(
          ({ name, shell }) => !/\/(nologin|false)$/.test(shell) && !exists(join(keysFolder, name)),
        )
        .map(({ name, home }) => ({ name, keys: join(home, '.ssh/authorized_keys') }))
        .filter(({ keys }) => (statSync(keys, { throwIfNoEntry: false })?.size ?? 0) > 0);
      if (cut.length === 0) return undefined;
      const commands = cut.map(
        ({ name, keys }) => `install -D -m 644 ${keys} ${join(keysFolder, name)}`,
      );
      return `keys in a home do not count here; say first: ${commands.join(' && ')} (an empty file there: no keys)`;
    },
  };
}

/** A configuration that somebody has made for another purpose is not written over. */
export function notOfOthers(path: string, ours: string): Piece {
  const mark = ours.split('\n', 1)[0] ?? '';
  return {
    what: path,
    isCondition: true,
    differs() {
      const isThere = statSync(path, { throwIfNoEntry: false }) !== undefined;
      if (!isThere || readFileSync(path, 'utf8').startsWith(mark)) return undefined;
      return 'is of somebody else, for another purpose: move it away first';
    },
  };
}

/** Numbers of this machine that the realm may give to somebody else. Only an admin can renumber. */
export function foreignNumbers({ ids, realmGid }: LoginHostConfig): Piece {
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
      return `in the realm's ranges, so a person or tool could get them: ${taken.join(', ')}; renumber them`;
    },
  };
}

/** Debian turns it on with the package libpam-sss, unless an admin has turned it off. */
export function pamAsksSssd(): Piece {
  const stacks = ['/etc/pam.d/common-account', '/etc/pam.d/common-session'];
  return {
    what: 'PAM',
    differs() {
      const without = stacks.filter(
        (path) => !/^[^#]*\bpam_sss\.so\b/m.test(readFileSync(path, 'utf8')),
      );
      return without.length === 0 ? undefined : `sssd is not asked in ${without.join(' and ')}`;
    },
    mend: () =>
      void command('/usr/sbin/pam-auth-update', ['--enable', 'sss'], {
        DEBIAN_FRONTEND: 'noninteractive',
      }),
  };
}
