/** The accounts and groups of the host itself, read from its files without the name service. */
import { readFileSync, statSync } from 'node:fs';
import { doing } from '../../shared/errors.ts';
import type { Places } from '../places.ts';

export interface LocalAccounts {
  readonly names: ReadonlySet<string>;
  readonly uids: ReadonlySet<number>;
  /** name and gid */
  readonly groups: ReadonlyMap<string, number>;
  readonly gids: ReadonlySet<number>;
}

/** Parses the texts of passwd(5) and group(5). */
export function parseLocalAccounts(passwd: string, group: string): LocalAccounts {
  const accounts = numbered(passwd);
  const groups = numbered(group);
  return {
    names: new Set(accounts.keys()),
    uids: new Set(accounts.values()),
    groups,
    gids: new Set(groups.values()),
  };
}

/** The first and the third field of each line. */
function numbered(text: string): Map<string, number> {
  const lines = text.split('\n').map((line) => line.split(':'));
  return new Map(
    lines.flatMap(([name, , id]) =>
      name === undefined || name === '' || id === undefined ? [] : [[name, Number(id)] as const],
    ),
  );
}

export interface LocalFiles {
  /** What they hold now: the same object until a file changes. Throws BACKEND_UNREADABLE. */
  read(): LocalAccounts;
}

export function openLocalFiles({ passwd, group }: Pick<Places, 'passwd' | 'group'>): LocalFiles {
  let version = '';
  let accounts: LocalAccounts | undefined;
  return {
    read: () =>
      doing('BACKEND_UNREADABLE', 'reading the local accounts', () => {
        const now = `${identify(passwd)} ${identify(group)}`;
        if (accounts !== undefined && now === version) return accounts;
        accounts = parseLocalAccounts(readFileSync(passwd, 'utf8'), readFileSync(group, 'utf8'));
        version = now;
        return accounts;
      }),
  };
}

function identify(file: string): string {
  const { ino, size, ctimeMs } = statSync(file);
  return `${ino} ${size} ${ctimeMs}`;
}
