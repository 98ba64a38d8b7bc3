/** A person or tool that a login host knows: what is remembered of it, and what follows from that alone. */
import { hash } from 'node:crypto';
import type { Account } from './judge.ts';

/**
 * Of a subject in one of the last three states, only the number still counts.
 *
 * | presence      | the subject                                                                           |
 * | ------------- | ------------------------------------------------------------------------------------- |
 * | `present`     | was last reported with a seal                                                         |
 * | `held`        | has disappeared, and stays as it was                                                  |
 * | `gone`        | has disappeared; a floor or root says so, or its seal closed it: its processes end    |
 * | `missing`     | has disappeared, and nothing signed says so: its processes go on                      |
 * | `unconfirmed` | was known before the configuration changed, and has not been reported since           |
 */
export type Presence = 'present' | 'held' | 'gone' | 'missing' | 'unconfirmed';

export interface Subject extends Account {
  /** of the text that was verified; 0 if it must be verified again */
  digest: number;
  /** the key that signed its seal; '' if nothing of a seal counts */
  keyId: string;
  /** no seal below this number counts */
  floor: number;
  presence: Presence;
  /** what the directory shows of it now is refused */
  isRefused: boolean;
  /** since when it is refused or has disappeared; undefined if it is neither */
  doubtedSince: number | undefined;
  /** whether, at the last look, it was one of those that are compared with the heartbeat's count */
  isCounted: boolean;
  /** the last reading of everything in which it was reported */
  reading: number;
  /** whether, at the last look, it has an account here; its keys and members count; its processes end */
  isShown: boolean;
  isInForce: boolean;
  isClosed: boolean;
}

export type Kind = 'people' | 'tools';

/**
 * A digest of a seal's text: 48 bits, because 40,000 of them are held. Another text with the same digest would
 * be taken for the known seal, which gains an attacker no more than reporting the known seal.
 */
export function digestOf(text: string): number {
  return Number(`0x${hash('sha256', text).slice(0, 12)}`);
}

/** Nothing is known of it yet. */
export const NOBODY: Account = {
  ...{ isPerson: true, name: '', uid: 0, shell: '', gecos: '', isActive: false, list: '' },
  ...{ number: 0, until: 0, remark: undefined },
};

const GONE = /^(gone|missing) ([1-9][0-9]{0,9}) (\S{1,100}) ([1-9][0-9]{0,15})$/;

/** Written field by field: V8 needs twice the memory for an object that is put together from parts. */
export function newSubject(account: Account, digest: number, floor: number): Subject {
  return {
    isPerson: account.isPerson,
    name: account.name,
    uid: account.uid,
    shell: account.shell,
    gecos: account.gecos,
    isActive: account.isActive,
    list: account.list,
    number: account.number,
    until: account.until,
    remark: account.remark,
    digest,
    keyId: '',
    floor,
    presence: 'gone',
    isRefused: false,
    isCounted: false,
    doubtedSince: undefined,
    reading: 0,
    isShown: false,
    isInForce: false,
    isClosed: false,
  };
}

export function kindOf({ isPerson }: Account): Kind {
  return isPerson ? 'people' : 'tools';
}

export function isThere({ presence }: Subject): boolean {
  return presence === 'present' || presence === 'held';
}

/** Whether the name still belongs to this subject. */
export function keepsName(presence: Presence): boolean {
  return presence !== 'gone' && presence !== 'missing';
}

/**
 * Whether the directory shows it with a seal that counts. (Somebody may put back an old seal, which is below
 * its floor.)
 */
export function isSound(subject: Subject): boolean {
  return subject.presence === 'present' && !subject.isRefused && !isBelowFloor(subject);
}

export function counts(subject: Subject, now: number): boolean {
  return !isBelowFloor(subject) && subject.until > now;
}

/**
 * Whether the directory role has signed that no seal of this subject that this host has seen counts any more.
 */
export function isBelowFloor({ number, floor }: Subject): boolean {
  return floor > number;
}

/** Whether its processes end. */
export function isOver(subject: Subject): boolean {
  return subject.presence === 'gone' || (isThere(subject) && !subject.isActive);
}

/** Why an accepted seal does not count now, in a sentence without a full stop. */
export function flawOf(subject: Subject, now: number): string | undefined {
  const { number, floor, until } = subject;
  if (isBelowFloor(subject)) {
    return `its seal has the number ${number}, but only ${floor} and higher numbers are valid: the newer seal is missing`;
  }
  return until > now ? undefined : `its seal ended at ${time(until)} (is this host's clock right?)`;
}

export function isSame(one: Account, other: Account): boolean {
  return (
    one.name === other.name &&
    one.shell === other.shell &&
    one.gecos === other.gecos &&
    one.isActive === other.isActive &&
    one.list === other.list &&
    one.number === other.number &&
    one.until === other.until &&
    one.remark === other.remark
  );
}

/** The part of what a seal says that is already known; the account itself if that is all of it. */
export function lesserOf(known: Subject | undefined, account: Account): Account {
  const isKnown = known !== undefined && isThere(known);
  const separator = account.isPerson ? '\n' : ',';
  const had = new Set(isKnown ? known.list.split(separator) : []);
  const list = account.list
    .split(separator)
    .filter((each) => had.has(each))
    .join(separator);
  const isActive = account.isActive && (!isKnown || known.isActive);
  if (list === account.list && isActive === account.isActive && isKnown) return account;
  const remark =
    'what its seal gives does not count until the heartbeat of the directory is accepted';
  return { ...account, list, isActive, remark };
}

/** Whether it may do less by the other. */
export function isLess(one: Account, other: Account): boolean {
  if (one.isActive && !other.isActive) return true;
  if (one.list === '' || one.list === other.list) return false;
  const separator = one.isPerson ? '\n' : ',';
  const left = new Set(other.list.split(separator));
  return one.list.split(separator).some((each) => !left.has(each));
}

/** Reads a line of the journal that says that a subject has disappeared. */
export function readGone(
  line: string,
): { presence: 'gone' | 'missing'; account: Account } | undefined {
  const [, word, uid, name, number] = GONE.exec(line) ?? [];
  if (uid === undefined || name === undefined) return undefined;
  const isPerson = !name.includes('.');
  return {
    presence: word as 'gone' | 'missing',
    account: { ...NOBODY, isPerson, name, uid: Number(uid), number: Number(number) },
  };
}

export function time(ms: number): string {
  return new Date(ms).toISOString();
}
