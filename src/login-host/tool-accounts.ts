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
  /** Takes everything: what is not in it is gone. Answers with the names to forget. */
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

  const take = ({ accounts, groups }: ToolEntries, ground: Ground): string[] => {
    const forget = new Set<string>();
    for (const entry of accounts) {
      const name = entry.name ?? '';
      const account = judgeTool(entry, ground);
      if ('why' in account) {
        refused.set(entry.dn, account);
        if (passwd.delete(name)) forget.add(name);
        continue;
      }
      refused.delete(entry.dn);
      // the account itself may have been locked, which the line does not show
      forget.add(name);
      passwd.set(name, account.passwd);
    }
    for (const { name = '', memberNames } of groups) {
      const before = members.get(name)?.split(' ') ?? [];
      forget.add(name);
      for (const member of difference(before, memberNames)) forget.add(member);
      for (const member of difference(memberNames, before)) forget.add(member);
      members.set(name, memberNames.join(' '));
    }
    return [...forget];
  };

  return {
    take,
    takeRules: (rules) => rules.flatMap(({ name }) => RULE.exec(name ?? '')?.[1] ?? []),
    async takeAll(pages, ground) {
      const [passwdBefore, membersBefore] = [passwd, members];
      const [passwdNow, membersNow] = [new Map<string, string>(), new Map<string, string>()];
      for await (const page of pages) {
        // into new maps, so that a read that breaks off leaves the old ones
        [passwd, members] = [passwdNow, membersNow];
        try {
          take(page, ground);
        } finally {
          [passwd, members] = [passwdBefore, membersBefore];
        }
      }
      [passwd, members] = [passwdNow, membersNow];
      const forget = new Set<string>();
      for (const name of new Set([...passwdBefore.keys(), ...passwdNow.keys()])) {
        if (passwdBefore.get(name) !== passwdNow.get(name)) forget.add(name);
      }
      for (const name of new Set([...membersBefore.keys(), ...membersNow.keys()])) {
        const before = membersBefore.get(name)?.split(' ') ?? [];
        const now = membersNow.get(name)?.split(' ') ?? [];
        const changed = [...difference(before, now), ...difference(now, before)];
        if (changed.length > 0) forget.add(name);
        for (const member of changed) forget.add(member);
      }
      return [...forget];
    },
    passwdLines: () => [...passwd.values()],
    refusals: () => [...refused.values()],
  };
}

function difference(a: readonly string[], b: readonly string[]): string[] {
  return a.filter((name) => !b.includes(name));
}
