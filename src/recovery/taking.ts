/** What a recovery takes from the evidence, and what it leaves to an admin (src/recovery/lesser.ts). */
import type { Member } from '../reconcile/wanted.ts';

/** A key as a seal has it. */
export interface SealedKey {
  fingerprint: string;
  /** `type base64` */
  line: string;
  options: readonly string[];
}

/** What is taken of one subject; what does not change is left out. */
export interface Taking {
  subject: number;
  account: string;
  kind: 'person' | 'tool';
  state?: 'active' | 'suspended' | 'disabled';
  /** access to the realm */
  member?: boolean;
  /** fingerprints */
  keysRemoved?: string[];
  keysAdded?: SealedKey[];
  membersRemoved?: Member[];
  /** accounts */
  membersAdded?: string[];
  /** where that was seen */
  by: string[];
}

/** What only an admin can decide. */
export interface Open {
  account: string;
  sentence: string;
  /** what to type, where that is one command */
  command?: string;
}
