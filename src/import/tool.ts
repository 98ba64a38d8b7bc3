/** Reads the group and the account of a tool that may be imported, or says why it cannot be. Pure. */
import type { IdRange } from '../shared/config-values.ts';
import {
  isReservedToolName,
  normalName,
  parseImportedToolAccount,
  toolAccount,
} from '../identity/names.ts';
import { quote } from '../shared/printable.ts';
import type { TakenDeletion, TakenTool } from './import-batch.ts';
import { DAY_MS, parseGeneralizedTime } from '../shared/time.ts';
import { readableRef, type DirectoryEntry } from '../targets/directory-reader.ts';
import { hasClass } from '../targets/directory-entry.ts';
import { isLocked, readNumber } from './account.ts';
import type { Fault, Refusal } from './refusal.ts';

export interface ToolsContext {
  realm: string;
  /** the name of the admin tool, which only people may maintain and which is never deleted */
  admin: string;
  tools: readonly IdRange[];
  /** days from a request to delete a tool until it is archived */
  graceDays: number;
  /** when the import runs */
  now: Date;
}

/**
 * Toolforge's disable-tool archives and deletes a tool when more than 40 whole days have passed since
 * its pwdAccountLockedTime (`archive_after_days`): on day 41.
 */
const OTHERS_GRACE_DAYS = 41;

/** A tool that is valid alone. Whether another entry has the same values is judged later, over all entries. */
export interface SeenTool extends TakenTool {
  /** values of the account that are not imported */
  leftOut: Refusal[];
  group: DirectoryEntry;
  entry: DirectoryEntry;
}

/** What the directory has for one name: a group, an account, or both. */
export interface ToolPair {
  name: string;
  group: DirectoryEntry | undefined;
  account: DirectoryEntry | undefined;
}

/**
 * Pairs the groups and accounts with the realm's prefix by their name in the tree, regardless of case. Entries with
 * another prefix do not belong to the realm and are left out.
 */
export function pairTools(
  groups: readonly DirectoryEntry[],
  accounts: readonly DirectoryEntry[],
  realm: string,
): ToolPair[] {
  const pairs = new Map<string, ToolPair>();
  const put = (place: string, entry: DirectoryEntry, part: 'group' | 'account') => {
    if (!entry.ref.startsWith(place)) return;
    const name = entry.ref.slice(place.length);
    const key = normalName(name);
    if (!key.startsWith(`${realm}.`)) return;
    const pair = pairs.get(key) ?? { name, group: undefined, account: undefined };
    pair[part] = entry;
    pairs.set(key, pair);
  };
  for (const group of groups) put('toolGroups/cn=', group, 'group');
  for (const account of accounts) put('toolAccounts/uid=', account, 'account');
  return [...pairs.values()];
}

/**
 * | group and account                                 | then             |
 * | ------------------------------------------------- | ---------------- |
 * | one of the two is missing, or lacks its class     | ENTRY_INCOMPLETE |
 * | several names, other bytes, or wrong grammar      | NAME_INVALID     |
 * | a reserved name                                   | NAME_RESERVED    |
 * | a number outside the ranges for tools             | ID_OUT_OF_RANGE  |
 * | group and account have different numbers          | ENTRY_INCOMPLETE |
 * | locked in any way, or without an ordinary shell   | imported as disabled |
 * | … with pwdAccountLockedTime                       | see `readDeletion` |
 */
export function readTool(
  { name, group, account }: ToolPair,
  context: ToolsContext,
): { tool: SeenTool } | { refusal: Refusal } {
  const present = group ?? account;
  const object = readableRef(present?.ref ?? `toolGroups/cn=${name}`, context.realm);
  const refuse = (code: Refusal['code'], sentence: string) => ({
    refusal: { part: 'tool' as const, code, object, sentence },
  });
  const toolName = parseImportedToolAccount(context.realm, name);
  if (toolName === undefined) {
    return refuse(
      'NAME_INVALID',
      `${quote(name)} is not the account of a tool: with the prefix, it must consist of at most 32 characters (a-z, 0-9, - and _), ` +
        'with a-z directly after the prefix',
    );
  }
  if (isReservedToolName(normalName(toolName))) {
    return refuse(
      'NAME_RESERVED',
      `the name ${toolName} is reserved, because people would take the tool for a part of the platform`,
    );
  }
  if (group === undefined) return refuse('ENTRY_INCOMPLETE', 'there is no group for this account');
  if (account === undefined)
    return refuse('ENTRY_INCOMPLETE', 'there is no account for this group');
  const whole = toolAccount(context.realm, toolName);
  for (const [entry, ref, attribute, type] of [
    [group, `toolGroups/cn=${whole}`, 'cn', 'posixGroup'],
    [account, `toolAccounts/uid=${whole}`, 'uid', 'posixAccount'],
  ] as const) {
    const names = entry.attributes[attribute] ?? [];
    const what = readableRef(entry.ref, context.realm);
    if (!hasClass(entry, type)) return refuse('ENTRY_INCOMPLETE', `${what} is not a ${type}`);
    if (entry.ref !== ref || names.length !== 1 || names[0] !== whole) {
      return refuse('NAME_INVALID', `${what} must have ${whole} as its only name (${attribute})`);
    }
  }
  const gid = readNumber(group, 'gidNumber', context.tools);
  if (typeof gid !== 'number') return refuse(gid.code, gid.sentence);
  const uid = readNumber(account, 'uidNumber', context.tools);
  if (typeof uid !== 'number') return refuse(uid.code, uid.sentence);
  if (uid !== gid) {
    return refuse('ENTRY_INCOMPLETE', `the group has gid ${gid}, but the account has uid ${uid}`);
  }
  const deletion = readDeletion(account, toolName, context);
  return {
    tool: {
      uid,
      name: toolName,
      account: whole,
      state: isLocked(account) ? 'disabled' : 'active',
      deletion: deletion !== undefined && 'after' in deletion ? deletion : undefined,
      leftOut:
        deletion !== undefined && 'code' in deletion
          ? [{ part: 'deletion', object: readableRef(account.ref, context.realm), ...deletion }]
          : [],
      group,
      entry: account,
    },
  };
}

/**
 * What a tool's pwdAccountLockedTime becomes. Other programs treat it as the beginning of a countdown, and
 * 000001010000Z as a countdown that is over. An import neither begins a countdown nor shortens one: a running countdown
 * begins again, now at the earliest, and is not shorter than theirs, so that every warning is still to come.
 *
 * | pwdAccountLockedTime             | the tool is                                               |
 * | -------------------------------- | --------------------------------------------------------- |
 * | none                             | disabled, or active                                       |
 * | a time                           | to be deleted, as if requested now, or at that time if it |
 * |                                  | is in the future; after graceDays, or 41 days if that is  |
 * |                                  | more                                                      |
 * | 000001010000Z, or not a time     | disabled, DELETION_UNDATED                                |
 * | any, for the admin tool          | disabled, ADMIN_TOOL                                      |
 */
function readDeletion(
  { attributes }: DirectoryEntry,
  name: string,
  { admin, graceDays, now }: ToolsContext,
): TakenDeletion | Fault | undefined {
  const [was] = attributes['pwdAccountLockedTime'] ?? [];
  if (was === undefined) return undefined;
  const is = `its pwdAccountLockedTime ${quote(was).slice(1, -1)}`;
  if (name === admin) {
    const sentence = `${is} is left out: the admin tool is never deleted; it is imported as disabled`;
    return { code: 'ADMIN_TOOL', sentence };
  }
  const at = parseGeneralizedTime(was);
  if (at === undefined) {
    const sentence =
      `${is} is left out: other programs may treat it as "delete at once"; ` +
      'the tool is imported as disabled and is not deleted';
    return { code: 'DELETION_UNDATED', sentence };
  }
  const requestedAt = at > now ? at : now;
  const days = Math.max(graceDays, OTHERS_GRACE_DAYS);
  return { was, requestedAt, after: new Date(requestedAt.getTime() + days * DAY_MS) };
}
