/** Access rules of slapd, in the form of deploy/ldap/access.ldif, and what they allow. Pure. */

/** Which entries and attributes a rule is about, and which level each account has: the first that is named counts. */
export interface AccessRule {
  isAbout: (dn: string, attribute: string) => boolean;
  levels: { isOf: (account: string) => boolean; level: string }[];
}

/** Reads rules such as `to dn.subtree="…" attrs=… by dn.exact="…" read by * break`, without those of single values. */
export function parseAccess(texts: readonly string[]): AccessRule[] {
  return texts
    .filter((text) => !text.includes(' val.'))
    .map((text) => {
      const [to = '', ...by] = text.split(' by ');
      const isIn = scopeOf(to);
      const attributes = / attrs=(\S+)/u.exec(` ${to}`)?.[1]?.split(',');
      return {
        isAbout: (dn, attribute) => isIn(dn) && attributes?.includes(attribute) !== false,
        levels: by.map((each) => {
          const words = each.match(/(?:[^ "]|"[^"]*")+/gu) ?? [];
          const level = words.pop() ?? '';
          // the members of a group, or of a set, are login hosts, and none of the accounts that are looked at
          const isOther = words.some((who) => /^(?:anonymous$|group|set)/u.test(who));
          return { isOf: isOther ? () => false : scopeOf(words.join(' ')), level };
        }),
      };
    });
}

/** Whether a DN is what a rule names: every DN, if it names none. DNs are compared as they are written. */
function scopeOf(text: string): (dn: string) => boolean {
  const [, style = '', value = ''] = /\bdn\.(\w+)="([^"]*)"/u.exec(text.toLowerCase()) ?? [];
  const matches: Record<string, (dn: string) => boolean> = {
    exact: (dn) => dn === value,
    base: (dn) => dn === value,
    onelevel: (dn) => parentOf(dn) === value,
    subtree: (dn) => dn === value || dn.endsWith(`,${value}`),
    regex: (dn) => new RegExp(value, 'u').test(dn),
  };
  const isIn = style === '' ? () => true : matches[style];
  if (isIn === undefined) throw new TypeError(`an unknown scope: ${text}`);
  return (dn) => isIn(dn.toLowerCase());
}

function parentOf(dn: string): string {
  return dn.replace(/^(?:\\.|[^\\,])*,/u, '');
}

/** The level that an account has on an attribute of an entry, such as `read`. The attribute `entry` is the entry itself. */
export function levelOf(
  rules: readonly AccessRule[],
  account: string,
  dn: string,
  attribute: string,
): string {
  for (const { isAbout, levels } of rules) {
    if (!isAbout(dn, attribute)) continue;
    const level = levels.find(({ isOf }) => isOf(account))?.level ?? 'none';
    if (level !== 'break') return level;
  }
  return 'none';
}

/** A rule as rules are compared: without its number in the order. */
export function plainRule(rule: string): string {
  return rule
    .replace(/^\{\d+\}/u, '')
    .replace(/\s+/gu, ' ')
    .toLowerCase();
}
