/** Reads the group and the account of a tool as one that may be taken over, or says why not. Pure. */
import type { IdRange } from '../shared/config-values.ts';
import {
  isReservedToolName,
  normalName,
  parseImportedToolAccount,
  toolAccount,
} from '../identity/names.ts';
import { quote } from '../shared/printable.ts';
import type { TakenDeletion, TakenTool } from './import-batch.ts';
import { parseGeneralizedTime } from '../shared/time.ts';
import { readableRef, type DirectoryEntry } from '../targets/directory-reader.ts';
import { hasClass, isLocked, readNumber } from './account.ts';
import type { Fault, Refusal } from './refusal.ts';

export interface ToolsContext {
  realm: string;
  /** the name of the admin tool, which people alone maintain, and which is never deleted */
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
const DAY_MS = 24 * 3600 * 1000;

/** A tool that fits by itself; whether another has the same is judged over all. */
export interface SeenTool extends TakenTool {
  /** what of the account is not taken */
  leftOut: Refusal[];
  group: DirectoryEntry;
  entry: DirectoryEntry;
}

/** What the directory has of one name: a group, an account, or both. */
export interface ToolPair {
  name: string;
  group: DirectoryEntry | undefined;
  account: DirectoryEntry | undefined;
}

/**
 * Puts groups and accounts of the realm's prefix together by their name in the tree, without regard to
 * case. What has another prefix is not the realm's, and is left out.
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
 * | several names, other bytes, or not the grammar    | NAME_INVALID     |
 * | a reserved name                                   | NAME_RESERVED    |
 * | a number in no range of tools                     | ID_OUT_OF_RANGE  |
 * | the group's number is not the account's           | ENTRY_INCOMPLETE |
 * | locked in any way, or a shell that lets nobody in | taken, disabled  |
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
      `${quote(name)} is no account of a tool: it has at most 32 of a-z, 0-9, - and _ with the prefix, ` +
        'and a-z first behind it',
    );
  }
  if (isReservedToolName(normalName(toolName))) {
    return refuse('NAME_RESERVED', `${toolName} would be trusted as the platform's own`);
  }
  if (group === undefined) return refuse('ENTRY_INCOMPLETE', 'there is no group of this account');
  if (account === undefined) return refuse('ENTRY_INCOMPLETE', 'there is no account of this group');
  const whole = toolAccount(context.realm, toolName);
  for (const [entry, ref, attribute, type] of [
    [group, `toolGroups/cn=${whole}`, 'cn', 'posixGroup'],
    [account, `toolAccounts/uid=${whole}`, 'uid', 'posixAccount'],
  ] as const) {
    const names = entry.attributes[attribute] ?? [];
    const what = readableRef(entry.ref, context.realm);
    if (!hasClass(entry, type)) return refuse('ENTRY_INCOMPLETE', `${what} is no ${type}`);
    if (entry.ref !== ref || names.length !== 1 || names[0] !== whole) {
      return refuse('NAME_INVALID', `${what} is not called ${whole} alone (${attribute})`);
    }
  }
  const gid = readNumber(group, 'gidNumber', context.tools);
  if (typeof gid !== 'number') return refuse(gid.code, gid.sentence);
  const uid = readNumber(account, 'uidNumber', context.tools);
  if (typeof uid !== 'number') return refuse(uid.code, uid.sentence);
  if (uid !== gid) {
    return refuse('ENTRY_INCOMPLETE', `the group has gid ${gid}, but the account uid ${uid}`);
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
 * What a tool's pwdAccountLockedTime becomes. Other programs take it for the begin of a countdown, and
 * 000001010000Z for one that is over. An import neither begins a countdown nor makes one shorter: one that
 * runs begins anew, no sooner than now, and is no shorter than theirs, so that every warning is ahead.
 *
 * | pwdAccountLockedTime            | the tool is                                                |
 * | ------------------------------- | ---------------------------------------------------------- |
 * | none                            | disabled, or active                                        |
 * | a time                          | to be deleted, as if requested now, or then where it is    |
 * |                                 | still ahead; after graceDays, or 41 days where those are   |
 * |                                 | fewer                                                      |
 * | 000001010000Z, or no such time  | disabled, DELETION_UNDATED                                 |
 * | any, of the admin tool          | disabled, ADMIN_TOOL                                       |
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
    const sentence = `${is} is left out: the admin tool is never deleted; it is disabled`;
    return { code: 'ADMIN_TOOL', sentence };
  }
  const at = parseGeneralizedTime(was);
  if (at === undefined) {
    const sentence =
      `${is} is left out: other programs may take it for "delete at once"; ` +
      'the tool is disabled, and nothing deletes it';
    return { code: 'DELETION_UNDATED', sentence };
  }
  const requestedAt = at > now ? at : now;
  const days = Math.max(graceDays, OTHERS_GRACE_DAYS);
  return { was, requestedAt, after: new Date(requestedAt.getTime() + days * DAY_MS) };
}
