/** What a recovery changes because of the evidence, and what an admin must decide (src/recovery/lesser.ts). */
import type { Member } from '../reconcile/wanted.ts';

/** A key in the form of a seal. */
export interface SealedKey {
  fingerprint: string;
  /** `type base64` */
  line: string;
  options: readonly string[];
}

/** The changes of one subject. What does not change is left out. */
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
  /** where this was seen */
  by: string[];
}

/** What only an admin can decide. */
export interface Open {
  account: string;
  sentence: string;
  /** the command to run, if one is enough */
  command?: string;
}
