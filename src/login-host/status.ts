/** What the root helper says of itself, in a file that everybody may read and `keys-agent status` prints. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ChamberlainError } from '../shared/errors.ts';
import { replaceFile } from './helper/replace-file.ts';

/** Why something that the directory shows is not taken. */
export interface Refusal {
  /** the entry's name, as the agent has told it, without control characters */
  entry: string;
  /** a sentence without a full stop */
  why: string;
  since: number;
}

/** Times are in milliseconds since the epoch, by this host's clock. */
export interface LoginStatus {
  /** of the helper */
  pid: number;
  startedAt: number;
  /** when this was written: every 5 s at least */
  at: number;
  /** what is read of the directory is whole and of now */
  trusted: boolean;
  /** since when it is not, and why */
  since?: number;
  why?: string;
  /** when it last was */
  trustedAt?: number;
  /** where the agent reads; '' where it has not said so in this run of the helper */
  server: string;
  /** why it cannot read there */
  trouble?: string;
  /** when the agent last told anything */
  agentAt?: number;
  offlineLimitSeconds: number;
  /** when the first, and the last, key file ends if nothing is heard from now on */
  lasts?: { first: number; last: number };
  /** who is there with a seal, whatever it says; how many of the people have a key file */
  people: number;
  tools: number;
  files: number;
  /** how many of their seals are signed by each key that this host knows */
  signers?: [keyId: string, seals: number][];
  /** no more than the first 1,000, also those whose entry has no seal */
  refused: Refusal[];
  refusedInAll: number;
  /** who disappeared without a seal that says so, and is kept until the counts agree or root accepts it */
  held?: { names: string[]; inAll: number; since: number };
  /** who disappeared in the last hour without a seal that says so: without account and keys, processes go on */
  disappeared?: string[];
  /** files that cannot be written as they must be */
  unwritten: { path: string; why: string; since: number }[];
  /** what root accepted last, in sentences */
  accepted?: { at: number; what: string[] };
}

const FILE = 'status.json';

/** Throws as node:fs does. */
export function writeStatus(folder: string, status: LoginStatus): void {
  replaceFile(join(folder, FILE), JSON.stringify(status), { mode: 0o644 });
}

/** Undefined where no helper has ever left one. Throws BACKEND_UNREADABLE where it may not be read. */
export function readStatus(folder: string): LoginStatus | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, FILE), 'utf8')) as LoginStatus;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new ChamberlainError('BACKEND_UNREADABLE', `reading ${join(folder, FILE)}`, { cause });
  }
}

/** Within the folder: who may run nothing, a name a line. PAM asks it, by pam_listfile(8). */
export const CLOSED_FILE = 'closed';
/** Within the folder: root makes it to accept the directory as it is; the helper removes it once it has. */
export const ACCEPT_FILE = 'accept';
