/** What the agent says of itself, in a file that `keys-agent status` reads. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ChamberlainError } from '../errors.ts';
import type { Refusal } from './judge.ts';

/** Times are in milliseconds since the epoch. */
export interface AgentStatus {
  pid: number;
  startedAt: number;
  /** when this was written */
  at: number;
  /** what is read of the directory is whole and of now */
  trusted: boolean;
  /** since when it is not, and why */
  since?: number;
  why?: string;
  /** when it last was */
  trustedAt?: number;
  server: string;
  offlineLimitSeconds: number;
  /** when the first, and the last, key file ends if nothing is heard from now on */
  lasts?: { first: number; last: number };
  people: number;
  files: number;
  /** what was not taken: no more than the first 1,000 */
  refusals: Refusal[];
  refusalsInAll: number;
  /** what the root helper could not do */
  helper?: string;
}

const FILE = 'status.json';

export function writeStatus(folder: string, status: AgentStatus): void {
  replaceFile(join(folder, FILE), JSON.stringify(status));
}

/** Undefined where no agent has ever left one. Throws BACKEND_UNREADABLE where it may not be read. */
export function readStatus(folder: string): AgentStatus | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, FILE), 'utf8')) as AgentStatus;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new ChamberlainError('BACKEND_UNREADABLE', `reading ${join(folder, FILE)}`, { cause });
  }
}

/** What the agent must still know after a restart. */
export interface AgentState {
  /** of each server of the directory, the last change that was seen */
  csns: Record<string, string>;
  /** the highest time that this host's clock has shown */
  clock: number;
}

const STATE_FILE = 'state.json';

/** Written so that a loss of power leaves the old or the new one. */
export function writeState(folder: string, state: AgentState): void {
  replaceFile(join(folder, STATE_FILE), JSON.stringify(state), { flush: true });
}

/**
 * The state of before; an empty one where there was none. Throws CONFIG_INVALID where it cannot be
 * read: to go on without it would be to believe any older copy of the directory.
 */
export function readState(folder: string): AgentState {
  const path = join(folder, STATE_FILE);
  try {
    const state = JSON.parse(readFileSync(path, 'utf8')) as AgentState;
    if (typeof state.clock === 'number' && typeof state.csns === 'object') return state;
    throw new Error('it has another form');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return { csns: {}, clock: 0 };
    throw new ChamberlainError(
      'CONFIG_INVALID',
      `reading ${path} (it may be deleted if the directory is known to be the right one)`,
      { cause },
    );
  }
}

const ACCOUNTS_FILE = 'accounts';

/** Writes down whom this host has let in: lines `<uid> <name>`. */
export function writeAccounts(folder: string, accounts: ReadonlyMap<number, string>): void {
  const lines = [...accounts].map(([uid, name]) => `${uid} ${name}\n`);
  replaceFile(join(folder, ACCOUNTS_FILE), lines.join(''), { flush: true });
}

/** What was last written down; nothing where nothing was. A line of another form is left out. */
export function readAccounts(folder: string): Map<number, string> {
  const path = join(folder, ACCOUNTS_FILE);
  let text;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw new ChamberlainError('CONFIG_INVALID', `reading ${path}`, { cause });
  }
  const lines = text.split('\n').flatMap((line) => {
    const [, uid, name] = /^([1-9][0-9]{0,9}) (\S+)$/.exec(line) ?? [];
    return uid === undefined || name === undefined ? [] : [[Number(uid), name] as const];
  });
  return new Map(lines);
}

/** Within the folder; deploy/login-host has cron and at ask it, by pam_listfile(8). */
export const CLOSED_FILE = 'closed';

/** Writes down who may run nothing, a name a line. */
export function writeClosed(folder: string, names: readonly string[]): void {
  replaceFile(join(folder, CLOSED_FILE), names.map((name) => `${name}\n`).join(''));
}

function replaceFile(path: string, text: string, options: { flush?: boolean } = {}): void {
  writeFileSync(`${path}.new`, text, { mode: 0o640, ...options });
  renameSync(`${path}.new`, path);
}
