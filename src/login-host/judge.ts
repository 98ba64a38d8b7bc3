/**
 * Decides for one entry of the directory what a login host makes of it: a unix account, and a person's
 * keys. What the directory says is not believed: names, numbers and keys are checked again, and
 * whatever does not fit is refused by name, and costs nobody else anything.
 *
 * | the person                                          | unix account | key file |
 * | --------------------------------------------------- | ------------ | -------- |
 * | of our grammar, a realm member, not locked          | yes          | the keys |
 * | … locked, no realm member, or overdue in the marker | yes          | none     |
 * | … with a name or number of a local account          | no           | none     |
 * | not of our grammar, or a number out of our ranges   | no           | none     |
 */
import type { SeenEntry } from '../edges/login-directory.ts';
import { parseSshKey } from '../model/ssh-key.ts';
import { isShellName, isWithin, toolOf } from './account-names.ts';
import type { LoginHostConfig } from './config.ts';
import { toKeyLine, type KeyLine } from './key-lines.ts';

/** What an entry is judged by, beside itself. */
export interface Ground {
  config: LoginHostConfig;
  /** names and uids of the local passwd file */
  localNames: ReadonlySet<string>;
  localUids: ReadonlySet<number>;
  /** fingerprints that are refused beyond those that are shipped */
  knownBad: ReadonlySet<string>;
}

/** Why something in the directory is not taken. */
export interface Refusal {
  /** the entry's DN */
  entry: string;
  why: string;
}

export type Account = { uid: number; passwd: string };
export type ToolAccount = Account & { locked: boolean };

/** The DN of the policy that locks, as unix-account writes it. */
const DISABLED_POLICY = /^cn=disabled,ou=ppolicies,/i;
/** The shell of a tool that is disabled, put away, or brought back. */
const DISABLED_SHELL = '/bin/disabledtoolshell';
/** Why it is, as unix-account writes it: no other gecos is taken. */
const REASON = /^disabled - [ -9;-~]{1,189}$/;

export interface Person {
  account: Account | undefined;
  locked: boolean;
  /** the entry has keys, taken or not */
  keyed: boolean;
  keys: KeyLine[];
  refusals: Refusal[];
}

/** Judges an entry of ou=people. Whether the person may log in at all is the caller's to say. */
export function judgePerson(entry: SeenEntry, ground: Ground): Person {
  const { config } = ground;
  const { name } = entry;
  const refusals: Refusal[] = [];
  const refuse = (why: string) => void refusals.push({ entry: entry.dn, why });
  const values = entry.values('sshPublicKey');
  const person: Person = {
    account: undefined,
    locked: isLocked(entry),
    keyed: values.length > 0,
    keys: [],
    refusals,
  };
  if (name === undefined || !isShellName(name)) {
    refuse('its name is none that a person of ours may have');
    return person;
  }
  const numbers = judgeNumbers(entry, { ids: config.ids.people, gid: config.realmGid });
  const account =
    typeof numbers === 'string'
      ? numbers
      : judgeAccount(entry, numbers, `${config.homes.people}/${name}`, ground);
  if (typeof account === 'string') {
    refuse(account);
    return person;
  }
  person.account = account;
  const seen = new Set<string>();
  for (const value of values) {
    const verdict =
      typeof value === 'string'
        ? parseSshKey(value, ground.knownBad)
        : { ok: false as const, code: 'KEY_MALFORMED', sentence: 'It is no text.' };
    if (!verdict.ok) {
      refuse(`a key is not taken (${verdict.code}): ${verdict.sentence}`);
    } else if (!seen.has(verdict.key.fingerprint)) {
      seen.add(verdict.key.fingerprint);
      person.keys.push(toKeyLine(verdict.key));
    }
  }
  person.keys.sort((a, b) => (a.line < b.line ? -1 : 1));
  return person;
}

/**
 * By the policy, as a tool is, or by any time. Another policy (how passwords must be, say) locks nobody:
 * unix-account leaves it, and import takes it for none.
 */
function isLocked(entry: SeenEntry): boolean {
  return (
    entry.values('pwdAccountLockedTime').length > 0 ||
    entry.values('pwdPolicySubentry').some((policy) => DISABLED_POLICY.test(String(policy)))
  );
}

/** Judges the account of a tool: its passwd line, and whether it may do anything; or why it has none. */
export function judgeTool(entry: SeenEntry, ground: Ground): ToolAccount | Refusal {
  const { config } = ground;
  const tool = toolOf(entry.name ?? '', config.realm);
  if (tool === undefined) {
    return { entry: entry.dn, why: 'its name is none that a tool of ours may have' };
  }
  const numbers = judgeNumbers(entry, { ids: config.ids.tools, gid: undefined });
  const locked = isLocked(entry) || entry.values('loginShell').includes(DISABLED_SHELL);
  const [gecos] = entry.values('gecos');
  const reason = locked && typeof gecos === 'string' && REASON.test(gecos) ? gecos : '';
  const account =
    typeof numbers === 'string'
      ? numbers
      : judgeAccount(entry, numbers, `${config.homes.tools}/${tool}`, ground, reason);
  return typeof account === 'string' ? { entry: entry.dn, why: account } : { ...account, locked };
}

/** @param want.gid undefined: the same number as the uid */
function judgeNumbers(
  entry: SeenEntry,
  want: { ids: LoginHostConfig['ids']['people']; gid: number | undefined },
): { uid: number; gid: number } | string {
  // The naming value is one of `uid`; a second one would be a second name for the same account.
  const uids = entry.values('uid');
  if (uids.length !== 1 || uids[0] !== entry.name)
    return 'it has another uid (name) beside its own';
  const uid = numberOf(entry, 'uidNumber');
  if (uid === undefined || !isWithin(uid, want.ids)) {
    return `its uidNumber ${shown(entry, 'uidNumber')} is not in the realm's ranges`;
  }
  const gid = want.gid ?? uid;
  if (numberOf(entry, 'gidNumber') !== gid) {
    return `its gidNumber ${shown(entry, 'gidNumber')} is not ${gid}`;
  }
  return { uid, gid };
}

function judgeAccount(
  entry: SeenEntry,
  { uid, gid }: { uid: number; gid: number },
  home: string,
  { localNames, localUids }: Ground,
  gecos = '',
): Account | string {
  const name = entry.name ?? '';
  if (localNames.has(name)) return 'a local account of this host has its name';
  if (localUids.has(uid)) return `a local account of this host has its uid ${uid}`;
  const [homeSeen, ...more] = entry.values('homeDirectory');
  if (more.length > 0 || homeSeen !== home) {
    return `its home ${shown(entry, 'homeDirectory')} is not ${home}`;
  }
  const [shell] = entry.values('loginShell');
  if (typeof shell !== 'string' || !/^\/[a-z0-9/_.-]{1,60}$/.test(shell)) {
    return `its shell ${shown(entry, 'loginShell')} is none`;
  }
  // joined, not by a template: that would keep every part of it in memory
  return { uid, passwd: [name, '*', uid, gid, gecos, home, shell].join(':') };
}

function numberOf(entry: SeenEntry, attribute: string): number | undefined {
  const [value, ...more] = entry.values(attribute);
  if (more.length > 0 || typeof value !== 'string') return undefined;
  return /^[1-9][0-9]{0,9}$/.test(value) ? Number(value) : undefined;
}

function shown(entry: SeenEntry, attribute: string): string {
  return JSON.stringify(entry.values(attribute).map(String).join(' ').slice(0, 60));
}
