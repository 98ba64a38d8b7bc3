/**
 * The tools that the agent knows: their accounts, for the passwd db, and who is in their groups, so
 * that exactly those are forgotten by the name service for whom something has changed.
 */
import type { SeenEntry, ToolEntries } from '../edges/login-directory.ts';
import { judgeTool, type Ground, type Refusal } from './judge.ts';

export interface ToolAccounts {
  /** Takes entries as they are now; answers with the names to forget. */
  take(entries: ToolEntries, ground: Ground): string[];
  /** Takes sudo rules that have changed; answers with the names to forget. */
  takeRules(rules: readonly SeenEntry[]): string[];
  /**
   * Takes everything: what is not in it is gone. Answers with the names to forget. What is taken by
   * `take` while it reads is newer, and stays.
   */
  takeAll(pages: AsyncIterable<ToolEntries>, ground: Ground): Promise<string[]>;
  passwdLines(): string[];
  refusals(): Refusal[];
}

const RULE = /^runas-(.+)$/;

export function openToolAccounts(): ToolAccounts {
  let passwd = new Map<string, string>();
  /** the members' names with blanks between */
  let members = new Map<string, string>();
  const refused = new Map<string, Refusal>();

  /** names taken one by one while everything is read */
  let meanwhile: Set<string> | undefined;

  const take = ({ accounts, groups }: ToolEntries, ground: Ground): string[] => {
    const forget = new Set<string>();
    for (const entry of accounts) {
      const { name = '' } = entry;
      const account = judge(entry, ground);
      // the account itself may have been locked, which the line does not show
      if (account !== undefined || passwd.has(name)) forget.add(name);
      if (account === undefined) passwd.delete(name);
      else passwd.set(name, account);
    }
    for (const { name = '', memberNames } of groups) {
      forget.add(name);
      for (const member of changeOf(members.get(name), memberNames.join(' '))) forget.add(member);
      members.set(name, memberNames.join(' '));
    }
    for (const name of forget) meanwhile?.add(name);
    return [...forget];
  };

  function judge(entry: SeenEntry, ground: Ground): string | undefined {
    const account = judgeTool(entry, ground);
    if ('why' in account) {
      refused.set(entry.dn, account);
      return undefined;
    }
    refused.delete(entry.dn);
    return account.passwd;
  }

  return {
    take,
    takeRules: (rules) => rules.flatMap(({ name }) => RULE.exec(name ?? '')?.[1] ?? []),
    async takeAll(pages, ground) {
      const before = { passwd, members };
      const now = { passwd: new Map<string, string>(), members: new Map<string, string>() };
      const newer = (meanwhile = new Set<string>());
      refused.clear();
      try {
        for await (const { accounts, groups } of pages) {
          for (const entry of accounts) {
            const account = judge(entry, ground);
            if (account !== undefined) now.passwd.set(entry.name ?? '', account);
          }
          for (const { name = '', memberNames } of groups) {
            now.members.set(name, memberNames.join(' '));
          }
        }
      } finally {
        meanwhile = undefined;
      }
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
