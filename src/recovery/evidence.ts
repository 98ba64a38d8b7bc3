/**
 * What the servers show of a subject after our database came back from a backup: evidence of what was decided since.
 * Pure.
 *
 * | seen                                                             | evidence                                  |
 * | ---------------------------------------------------------------- | ----------------------------------------- |
 * | a valid seal with a higher number than our database knows        | its state, access, keys and members       |
 * | an account, a group or a sudo rule that is locked, or not there  | that it was closed                        |
 * | the realm's group without the person                             | that the access was revoked               |
 * | an account without a key, a group without a member               | that the key or the member was removed    |
 * | a database account that is locked, or not there                  | that it was closed                        |
 *
 * What is not there counts only where it was there when the backup was made, and not on a server that is an older
 * copy itself. A database account that is not there counts only if no server has it. What shows more than the backup
 * gives nothing by itself: it is taken away as ever, but for what a seal gives as well (`More`).
 */
import type { Seal } from '../seals/seal.ts';
import type { Open } from './taking.ts';
import type { Role, Wanted } from '../reconcile/wanted.ts';
import type { Action, EntryRef } from '../reconcile/action.ts';
import type { Step } from '../reconcile/plan.ts';
import { splitRef } from '../targets/directory-reader.ts';
import { locksAccount, opensAccount } from '../targets/unix-account.ts';

/** What one server shows of one subject. */
export interface Shown {
  subject: number;
  /** for people: `its seal 17`, `the directory`, `u10001 on replica` */
  by: string;
  seal?: Seal;
  /** it lets nobody in */
  closed?: 'directory' | 'databases';
  isNoMember?: true;
  /** lines of keys that are not there */
  withoutKeys?: string[];
  /** accounts that its group does not hold */
  withoutMembers?: string[];
}

/** What the backup knows of where a subject was brought to. */
export type WasThere = (subject: number, role: Role) => boolean;

/**
 * What the steps of a role's survey show: each gives what the server lacks.
 *
 * @param wanted by uid, as the backup has it
 * @param servers the database servers that count: no older copies, and no empty ones
 */
export function evidenceOf(
  role: Role,
  steps: readonly Step[],
  wanted: ReadonlyMap<number, Wanted>,
  wasThere: WasThere,
  servers: readonly string[] = [],
): Shown[] {
  const lacking = countLacking(steps, servers);
  return steps.flatMap((step) => {
    const { subject, action } = step;
    const of = wanted.get(subject);
    if (of === undefined || of.state === 'deleted' || !wasThere(subject, role)) return [];
    if ('server' in action && !servers.includes(action.server)) return [];
    if (action.verb === 'db.createUser' && lacking.get(subject) !== servers.length) return [];
    const shown = role === 'databases' ? shownByDatabase(step) : shownByDirectory(step, action, of);
    return shown === undefined ? [] : [{ subject, ...shown }];
  });
}

/**
 * Database servers that lack more than half of the accounts that were brought there: new, or lost. What they lack was
 * taken from nobody.
 *
 * @param brought how many accounts were
 */
export function emptyServers(steps: readonly Step[], brought: number): string[] {
  const lacks = new Map<string, number>();
  for (const { action } of steps) {
    if (action.verb !== 'db.createUser') continue;
    lacks.set(action.server, (lacks.get(action.server) ?? 0) + 1);
  }
  return [...lacks].filter(([, count]) => count > brought / 2).map(([server]) => server);
}

/** On how many of these servers a subject has no account. */
function countLacking(steps: readonly Step[], servers: readonly string[]): Map<number, number> {
  const lacking = new Map<number, number>();
  for (const { subject, action } of steps) {
    if (action.verb !== 'db.createUser' || !servers.includes(action.server)) continue;
    lacking.set(subject, (lacking.get(subject) ?? 0) + 1);
  }
  return lacking;
}

/** In `More.open`: on every database server. */
export const EVERYWHERE = 'every database server';

/** What servers show of a subject beyond the backup. */
export interface More {
  /** where it is open: `directory`, database servers by name, EVERYWHERE */
  open: Set<string>;
  /** the realm's group holds it */
  isMember: boolean;
  /** lines of keys */
  keys: Set<string>;
  /** accounts that its group holds */
  members: Set<string>;
}

/** So much older than the heartbeat in the directory may be what another place was told last, while both are of now. */
const WITNESS_MS = 120_000;

/**
 * Whether the directory is of the end, and no older copy itself: a server or an area of homes was told at about the time of
 * its heartbeat, and none was told later. Only then counts what it gives.
 */
export function isBorneOut(directory: string | undefined, places: readonly string[]): boolean {
  if (directory === undefined || places.length === 0) return false;
  const newest = Math.max(...places.map((at) => Date.parse(at)));
  const ahead = Date.parse(directory) - newest;
  return ahead >= 0 && ahead <= WITNESS_MS;
}

/** What an admin is told where it is not. */
export const NOT_BORNE_OUT: Open = {
  account: 'directory',
  sentence:
    'the directory is newer than our database, but no server and no area of homes shows that it is not an older copy too: ' +
    'keys, maintainers and access that it gives beyond the backup are not taken',
};

/** By uid, from the steps that would take it away. */
export function moreOf(steps: readonly Step[], servers: readonly string[]): Map<number, More> {
  const all = new Map<number, More>();
  for (const { subject, target, action, effect } of steps) {
    if (effect !== 'revoke') continue;
    const more = all.get(subject) ?? {
      ...{ open: new Set(), isMember: false, keys: new Set(), members: new Set() },
    };
    all.set(subject, more);
    if (action.verb === 'db.setLocked' && action.locked) more.open.add(action.server);
    if (servers.every((server) => more.open.has(server))) more.open.add(EVERYWHERE);
    if (action.verb !== 'ldap.modify') continue;
    const removed = (attribute: string) =>
      action.changes.flatMap((each) => (each.attribute === attribute ? each.remove : []));
    if (target === 'unix-account' && locksAccount(action.changes)) more.open.add('directory');
    if (target === 'realm-membership') more.isMember = true;
    if (target === 'ssh-keys') for (const line of removed('sshPublicKey')) more.keys.add(line);
    if (target === 'unix-group') {
      for (const ref of removed('member').filter((each) => !each.startsWith('dn:'))) {
        more.members.add(nameOf(ref));
      }
    }
  }
  return all;
}

/** Who is deleted in the backup, and stands in the directory: perhaps brought back since. */
export function openOfDeleted(steps: readonly Step[], wanted: readonly Wanted[]): Open[] {
  const deleted = new Map(wanted.flatMap((of) => (of.state === 'deleted' ? [[of.uid, of]] : [])));
  return steps.flatMap(({ subject, target, action }) => {
    const of = deleted.get(subject);
    if (of === undefined || target !== 'unix-account' || action.verb !== 'ldap.delete') return [];
    const { account } = of;
    const command =
      of.kind === 'tool' ? `restore ${of.name}` : `submit person.restore --person ${account}`;
    const sentence = `${account} is deleted here, and stands in the directory: see whether it was brought back`;
    return [{ account, sentence, command }];
  });
}

/** What an admin is told of such a server. */
export function openOfEmpty(server: string): Open {
  const sentence = `${server} lacks more than half of all accounts, so nothing is taken from what it shows`;
  return { account: server, sentence };
}

/** What a seal shows that is newer than the backup. */
export function evidenceOfSeals(seals: readonly Seal[]): Shown[] {
  return seals.map((seal) => ({ subject: seal.uid, by: `its seal ${seal.number}`, seal }));
}

function shownByDatabase({ action, object }: Step): Omit<Shown, 'subject'> | undefined {
  const opens =
    (action.verb === 'db.setLocked' && !action.locked) ||
    (action.verb === 'db.createUser' && !action.locked);
  return opens ? { by: object, closed: 'databases' } : undefined;
}

function shownByDirectory(
  { target }: Step,
  action: Action,
  wanted: Wanted,
): Omit<Shown, 'subject'> | undefined {
  const by = 'the directory';
  const isAbsent = action.verb === 'ldap.add';
  if (isAbsent && ['unix-account', 'unix-group', 'sudo-rule'].includes(target)) {
    return { by, closed: 'directory' };
  }
  if (action.verb !== 'ldap.modify') return undefined;
  const { changes } = action;
  const added = (attribute: string) =>
    changes.flatMap((each) => (each.attribute === attribute ? each.add : []));
  switch (target) {
    case 'unix-account':
      return opensAccount(changes, wanted) ? { by, closed: 'directory' } : undefined;
    case 'sudo-rule':
      return changes.some(({ add }) => add.length > 0) ? { by, closed: 'directory' } : undefined;
    case 'realm-membership':
      return added('member').length > 0 ? { by, isNoMember: true } : undefined;
    case 'ssh-keys':
      return some(added('sshPublicKey'), (withoutKeys) => ({ by, withoutKeys }));
    case 'unix-group':
      return some(added('member').map(nameOf), (withoutMembers) => ({ by, withoutMembers }));
    default:
      return undefined;
  }
}

function some<T>(values: string[], of: (values: string[]) => T): T | undefined {
  return values.length === 0 ? undefined : of(values);
}

function nameOf(ref: string): string {
  return splitRef(ref as EntryRef).name;
}
