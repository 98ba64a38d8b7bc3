/** What the login helper says of itself, in a file that everybody may read and `keys-agent status` prints. */
import { join } from 'node:path';
import { doing } from '../shared/errors.ts';
import { readIfThere, replaceFile } from '../shared/durable-file.ts';

/** Why something that the directory shows is refused. */
export interface Refusal {
  /** the entry's name, as the agent has reported it, without control characters */
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
  /** when this was written: at least every 5 s */
  at: number;
  /** what is read from the directory is complete and current */
  trusted: boolean;
  /** since when it is not, and why */
  since?: number;
  why?: string;
  /** when it last was */
  trustedAt?: number;
  /** where the agent reads; '' if it has not said so in this run of the helper */
  server: string;
  /** why it cannot read there */
  trouble?: string;
  /** when the agent last reported anything */
  agentAt?: number;
  offlineLimitSeconds: number;
  /** when the first and the last key file end if nothing more can be read */
  lasts?: { first: number; last: number };
  /** how many have an accepted seal, whatever it says; how many of the people have a key file */
  people: number;
  tools: number;
  files: number;
  /** how many of their seals each key that this host knows has signed */
  signers?: [keyId: string, seals: number][];
  /** at most the first 1,000; includes entries without a seal */
  refused: Refusal[];
  refusedInAll: number;
  /**
   * which subjects disappeared without a seal that says so, and are kept until the counts agree or root accepts
   * it
   */
  held?: { names: string[]; inAll: number; since: number };
  /**
   * which subjects disappeared in the last hour without a seal that says so: no account, no keys, but processes
   * go on
   */
  disappeared?: string[];
  /** files that cannot be written */
  unwritten: { path: string; why: string; since: number }[];
  /** what root accepted last, in sentences */
  accepted?: { at: number; what: string[] };
}

const FILE = 'status.json';

/** Throws as node:fs does. */
export function writeStatus(folder: string, status: LoginStatus): void {
  replaceFile(join(folder, FILE), JSON.stringify(status), { mode: 0o644 });
}

/** Undefined if no helper has ever written one. Throws BACKEND_UNREADABLE if it may not be read. */
export function readStatus(folder: string): LoginStatus | undefined {
  const path = join(folder, FILE);
  const read = () => {
    const text = readIfThere(path);
    return text === undefined ? undefined : (JSON.parse(text) as LoginStatus);
  };
  const action = 'Look at the log of chamberlain-login-helper, or tell an operator.';
  return doing('BACKEND_UNREADABLE', `reading ${path}`, read, action);
}

/** Within the folder: the accounts that may run nothing, one name a line. PAM reads it, by pam_listfile(8). */
export const CLOSED_FILE = 'closed';
/**
 * Within the folder: root creates it to accept the directory as it is; the helper removes it when that is done.
 */
export const ACCEPT_FILE = 'accept';
