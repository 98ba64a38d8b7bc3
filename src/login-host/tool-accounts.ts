/**
 * The tools that the agent knows: their accounts, for the passwd db, and who is in their groups, so
 * that exactly those are forgotten by the name service for whom something has changed. And which are
 * locked, for nothing may run as those.
 *
 * | the account                                | what runs as it          |
 * | ------------------------------------------ | ------------------------ |
 * | is seen locked, or with the disabled shell | ends                     |
 * | is not there, and was locked when last seen | ends                    |
 * | is not there, and was not                  | is left                  |
 * | is refused                                 | as before                |
 * | is seen unlocked                           | is left                  |
 *
 * A tool is locked for weeks before its account goes. So one that vanishes unlocked was not deleted by
 * us; there is no count of tools either by which a short answer could be told (trust.ts).
 */
import type { SeenEntry, ToolEntries } from '../edges/login-directory.ts';
import { judgeTool, type Ground, type Refusal, type ToolAccount } from './judge.ts';

export interface ToolAccounts {
  /** Takes entries as they are now; answers with the names to forget, and the uids that were locked by it. */
  take(entries: ToolEntries, ground: Ground): { forget: string[]; end: number[] };
  /** Takes sudo rules that have changed; answers with the names to forget. */
  takeRules(rules: readonly SeenEntry[]): string[];
  /**
   * Takes everything: what is not in it is gone. Answers with the names to forget. What is taken by
   * `take` while it reads is newer, and stays.
   */
  takeAll(pages: AsyncIterable<ToolEntries>, ground: Ground): Promise<string[]>;
  /** Those as which nothing may run: uid and name. */
  closed(): ReadonlyMap<number, string>;
  /** What the next run is to know. */
  toKeep(): ReadonlyMap<number, string>;
  passwdLines(): string[];
  refusals(): Refusal[];
}

const RULE = /^runas-(.+)$/;

/** @param kept what was closed at the end of the last run */
export function openToolAccounts(kept: ReadonlyMap<number, string> = new Map()): ToolAccounts {
  let passwd = new Map<string, string>();
  /** the members' names with blanks between */
  let members = new Map<string, string>();
  const refused = new Map<string, Refusal>();
  const closed = new Map<number, string>();
  /** closed before this start, and not seen since: any of them may have been enabled meanwhile */
  const unconfirmed = new Map(kept);

  /** names taken one by one while everything is read */
  let meanwhile: Set<string> | undefined;

  const take: ToolAccounts['take'] = ({ accounts, groups }, ground) => {
    const forget = new Set<string>();
    const end: number[] = [];
    for (const entry of accounts) {
      const { name = '' } = entry;
      const account = judge(entry, ground);
      // the account itself may have been locked, which the line does not show
      if (account !== undefined || passwd.has(name)) forget.add(name);
      if (account === undefined) {
        passwd.delete(name);
        continue;
      }
      passwd.set(name, account.passwd);
      if (account.locked && !closed.has(account.uid)) end.push(account.uid);
      close(name, account);
    }
    for (const { name = '', memberNames } of groups) {
      forget.add(name);
      for (const member of changeOf(members.get(name), memberNames.join(' '))) forget.add(member);
      members.set(name, memberNames.join(' '));
    }
    for (const name of forget) meanwhile?.add(name);
    return { forget: [...forget], end };
  };

  function close(name: string, { uid, locked }: Pick<ToolAccount, 'uid' | 'locked'>): void {
    unconfirmed.delete(uid);
    if (locked) closed.set(uid, name);
    else closed.delete(uid);
  }

  function judge(entry: SeenEntry, ground: Ground): ToolAccount | undefined {
    const account = judgeTool(entry, ground);
    if ('why' in account) {
      refused.set(entry.dn, account);
      return undefined;
    }
    refused.delete(entry.dn);
    return account;
  }

  return {
    take,
    takeRules: (rules) => rules.flatMap(({ name }) => RULE.exec(name ?? '')?.[1] ?? []),
    async takeAll(pages, ground) {
      const before = { passwd, members };
      const now = { passwd: new Map<string, string>(), members: new Map<string, string>() };
      const newer = (meanwhile = new Set<string>());
      const states = new Map<string, Pick<ToolAccount, 'uid' | 'locked'>>();
      refused.clear();
      try {
        for await (const { accounts, groups } of pages) {
          for (const entry of accounts) {
            const account = judge(entry, ground);
            if (account === undefined) continue;
            const { name = '' } = entry;
            now.passwd.set(name, account.passwd);
            // of most there is nothing to do, and nothing to keep
            if (account.locked !== closed.has(account.uid) || unconfirmed.has(account.uid)) {
              states.set(name, { uid: account.uid, locked: account.locked });
            }
          }
          for (const { name = '', memberNames } of groups) {
            now.members.set(name, memberNames.join(' '));
          }
        }
      } finally {
        meanwhile = undefined;
      }
      for (const [name, state] of states) if (!newer.has(name)) close(name, state);
      for (const [uid, name] of unconfirmed) closed.set(uid, name);
      unconfirmed.clear();
      for (const name of newer) {
        keep(name, before.passwd, now.passwd);
        keep(name, before.members, now.members);
      }
      ({ passwd, members } = now);
      const forget = new Set<string>();
      for (const name of new Set([...before.passwd.keys(), ...passwd.keys()])) {
        if (before.passwd.get(name) !== passwd.get(name)) forget.add(name);
      }
      for (const name of new Set([...before.members.keys(), ...members.keys()])) {
        const changed = changeOf(before.members.get(name), members.get(name));
        if (changed.length > 0) forget.add(name);
        for (const member of changed) forget.add(member);
      }
      return [...forget];
    },
    closed: () => closed,
    toKeep: () => new Map([...unconfirmed, ...closed]),
    passwdLines: () => [...passwd.values()],
    refusals: () => [...refused.values()],
  };
}

/** Sets in `to` what `from` has, also where that is nothing. */
function keep(name: string, from: Map<string, string>, to: Map<string, string>): void {
  const value = from.get(name);
  if (value === undefined) to.delete(name);
  else to.set(name, value);
}

/** The members that came or went. */
function changeOf(before = '', now = ''): string[] {
  if (before === now) return [];
  const [had, has] = [new Set(before.split(' ')), new Set(now.split(' '))];
  return [...had.symmetricDifference(has)].filter((name) => name !== '');
}
