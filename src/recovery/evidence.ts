/**
 * What the servers show about a subject after our database was restored from a backup: evidence of later decisions.
 * Pure.
 *
 * | seen                                                             | evidence                                  |
 * | ---------------------------------------------------------------- | ----------------------------------------- |
 * | a valid seal with a higher number than our database knows        | its state, access, keys and members       |
 * | an account, a group or a sudo rule is locked or missing          | its access was closed                     |
 * | the realm's group does not have the person                       | their access was revoked                  |
 * | an account lacks a key, or a group lacks a member                | the key or the member was removed         |
 * | a database account is locked or missing                          | its access was closed                     |
 *
 * A missing object counts only if it existed when the backup was made, and not on a server that is an older copy
 * itself. A missing database account counts only if no server has it. If a server shows more than the backup, that
 * alone gives nothing: it is taken away as usual, unless a seal gives it too (`More`).
 */
import { commandToRestore } from '../lifecycle/render-leaving.ts';
import type { Report } from '../reconcile/report.ts';
import type { Seal } from '../seals/seal.ts';
import type { Open } from './taking.ts';
import type { Role, Wanted } from '../reconcile/wanted.ts';
import type { Action, EntryRef } from '../reconcile/action.ts';
import type { Step } from '../reconcile/plan.ts';
import { splitRef } from '../targets/directory-reader.ts';
import { locksAccount, opensAccount } from '../targets/unix-account.ts';

/** What one server shows about one subject. */
export interface Shown {
  subject: number;
  /** the source, for people to read: `its seal 17`, `the directory`, `u10001 on replica` */
  by: string;
  seal?: Seal;
  /** the account is closed there */
  closed?: 'directory' | 'databases';
  isNoMember?: true;
  /** lines of missing keys */
  withoutKeys?: string[];
  /** accounts that are missing in its group */
  withoutMembers?: string[];
}

/** Whether a role had made the subject's objects, as far as the backup knows. */
export type WasThere = (subject: number, role: Role) => boolean;

/**
 * What the steps of a role's survey show. Each step that would give something shows that the server lacks it.
 *
 * @param wanted the wanted state in the backup, by uid
 * @param servers the database servers that count, without older copies and empty servers
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
 * Database servers that lack more than half of the accounts that were made there. They are new or have lost their data,
 * so a missing account there is not evidence.
 *
 * @param brought how many accounts were made
 */
export function emptyServers(steps: readonly Step[], brought: number): string[] {
  const lacks = new Map<string, number>();
  for (const { action } of steps) {
    if (action.verb !== 'db.createUser') continue;
    lacks.set(action.server, (lacks.get(action.server) ?? 0) + 1);
  }
  return [...lacks].filter(([, count]) => count > brought / 2).map(([server]) => server);
}

/** On how many of these servers each subject has no account. */
function countLacking(steps: readonly Step[], servers: readonly string[]): Map<number, number> {
  const lacking = new Map<number, number>();
  for (const { subject, action } of steps) {
    if (action.verb !== 'db.createUser' || !servers.includes(action.server)) continue;
    lacking.set(subject, (lacking.get(subject) ?? 0) + 1);
  }
  return lacking;
}

/** A value in `More.open`: the account is open on every database server. */
export const EVERYWHERE = 'every database server';

/** What servers show about a subject beyond the backup. */
export interface More {
  /** where the account is open: `directory`, database servers by name, EVERYWHERE */
  open: Set<string>;
  /** the person is in the realm's group */
  isMember: boolean;
  /** lines of keys */
  keys: Set<string>;
  /** accounts in its group */
  members: Set<string>;
}

/** If both are current, another place's marker may be this much older than the heartbeat in the directory. */
const WITNESS_MS = 120_000;

/** What a role's report says of its markers. */
export type Marked = Pick<Report, 'markedAt' | 'markersUnread'>;

/**
 * Whether the directory is current, and not an older copy itself: some server or area of homes has a marker from about
 * the time of its heartbeat, and none has a later one, so each must be read. What the directory gives counts only then.
 */
export function isBorneOut({ markedAt }: Marked, places: readonly Marked[]): boolean {
  if (whyUnread(places) !== undefined) return false;
  const times = places.flatMap((place) => place.markedAt ?? []);
  if (typeof markedAt !== 'string' || times.length === 0) return false;
  const ahead = Date.parse(markedAt) - Math.max(...times.map((at) => Date.parse(at)));
  return ahead >= 0 && ahead <= WITNESS_MS;
}

/** Which markers could not be read, and why. Undefined if all could, or are known to be absent. */
function whyUnread(places: readonly Marked[]): string | undefined {
  const unread = places.flatMap(({ markedAt, markersUnread }) =>
    markedAt === undefined ? (markersUnread ?? UNSAID) : [],
  );
  return unread.length === 0 ? undefined : unread.join('; ');
}

const UNSAID =
  'a worker of homes or databases is of an older version, which does not say whether it could read its markers';

/** The message if it is not. */
export function openOfDirectory(places: readonly Marked[]): Open {
  const unread = whyUnread(places);
  const why =
    unread === undefined
      ? 'as its heartbeat agrees with no marker of a server or of an area of homes'
      : `as a marker that cannot be read may be newer (${unread})`;
  return {
    account: 'directory',
    sentence:
      `the directory is newer than PostgreSQL, but may be an older copy too, ${why}: ` +
      'keys, maintainers and access that it gives beyond the backup are not restored' +
      (unread === undefined ? '' : MAKE_READABLE),
  };
}

const MAKE_READABLE =
  '. Before you confirm, correct this (on a database server, load the file of deploy/mariadb for it again), and run ' +
  'the command again';

/** What servers show beyond the backup, by uid, from the steps that would take it away. */
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

/** Subjects that are deleted in the backup but are in the directory, so perhaps were restored since. */
export function openOfDeleted(steps: readonly Step[], wanted: readonly Wanted[]): Open[] {
  const deleted = new Map(wanted.flatMap((of) => (of.state === 'deleted' ? [[of.uid, of]] : [])));
  return steps.flatMap(({ subject, target, action }) => {
    const of = deleted.get(subject);
    if (of === undefined || target !== 'unix-account' || action.verb !== 'ldap.delete') return [];
    const { account } = of;
    const command = commandToRestore(of);
    const sentence = `${account} is deleted in the backup, but is in the directory: check whether it was restored since`;
    return [{ account, sentence, command }];
  });
}

/** The message about such a server. */
export function openOfEmpty(server: string): Open {
  const sentence = `${server} lacks more than half of all accounts, so it does not count as evidence`;
  return { account: server, sentence };
}

/** The evidence of seals that are newer than the backup. */
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
