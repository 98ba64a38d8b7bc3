/** One person or tool that a login host knows: what is remembered of it, and what follows from that alone. */
import { hash } from 'node:crypto';
import type { Account } from './judge.ts';

/**
 * | presence      | it                                                                                            |
 * | ------------- | --------------------------------------------------------------------------------------------- |
 * | `present`     | was told last with a seal                                                                     |
 * | `held`        | has disappeared, and stays as it was                                                          |
 * | `gone`        | has disappeared, as is signed or as root says; what counts of it from here on is its number   |
 * | `missing`     | has disappeared, and nothing signed says that what it runs ends; its number, too              |
 * | `unconfirmed` | is of before a change of the configuration, and was not told since; its number, too           |
 */
export type Presence = 'present' | 'held' | 'gone' | 'missing' | 'unconfirmed';

export interface Subject extends Account {
  /** of the text that was verified; 0 where it must be verified anew */
  digest: number;
  /** by which its seal is signed; '' where nothing of a seal counts */
  keyId: string;
  /** no seal below this number counts */
  floor: number;
  presence: Presence;
  /** what the directory shows of it now is not taken */
  isRefused: boolean;
  /** since when it is refused, or has disappeared; undefined where neither */
  doubtedSince: number | undefined;
  /** among those that are compared with what the heartbeat counts: when it was looked at last */
  isCounted: boolean;
  /** in which reading of everything it was told last */
  reading: number;
  /** it has an account here; its keys and members count; its processes end: when it was looked at last */
  isShown: boolean;
  isInForce: boolean;
  isClosed: boolean;
}

export type Kind = 'people' | 'tools';

/**
 * Of the text of a seal: 48 bits, for 40,000 are held. Another text with the same digest would be taken for the seal
 * that is known already: nobody gains more by it than by telling that seal.
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

/** Field by field: V8 needs twice the memory for an object that is put together from parts. */
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

/** Nobody else may have the name of one who is so. */
export function keepsName(presence: Presence): boolean {
  return presence !== 'gone' && presence !== 'missing';
}

/** Shown with a seal that counts: one below its floor may be an old one that somebody has put back. */
export function isSound(subject: Subject): boolean {
  return subject.presence === 'present' && !subject.isRefused && !isBelowFloor(subject);
}

export function counts({ number, floor, until }: Subject, now: number): boolean {
  return number >= floor && until > now;
}

/** Nobody can have made this up: the directory role says that no seal of it that was seen here counts. */
export function isBelowFloor({ number, floor }: Subject): boolean {
  return floor > number;
}

/** Nothing may run as it any more. */
export function isOver(subject: Subject): boolean {
  return subject.presence === 'gone' || (isThere(subject) && !subject.isActive);
}

/** Why a seal that was taken does not count now, in a sentence without a full stop. */
export function flawOf({ number, floor, until }: Subject, now: number): string | undefined {
  if (number < floor) {
    return `its seal has the number ${number}, and none below ${floor} counts: the newer one is missing`;
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

/** No more than is known already, of what a seal says; the account itself if that is all of it. */
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
  const remark = 'what its seal gives is not taken before the heartbeat of the directory is';
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

/** Reads a line of the journal that says that somebody has disappeared. */
export function readGone(
  line: string,
): { presence: 'gone' | 'missing'; account: Account } | undefined {
  const [, word, uid, name, number] = GONE.exec(line) ?? [];
  if (uid === undefined || name === undefined) return undefined;
  const isPerson = !name.includes('.');
  return {
    presence: word === 'gone' ? word : 'missing',
    account: { ...NOBODY, isPerson, name, uid: Number(uid), number: Number(number) },
  };
}

export function time(ms: number): string {
  return new Date(ms).toISOString();
}
