/** Functions and policies as our SQL files create them, and how those of a database differ. Pure. */

import type { Policy, SqlFunction } from './guards-queries.ts';

/**
 * Reads each CREATE FUNCTION in a text. Of two with the same name the last one counts, with the setting that a later
 * ALTER FUNCTION … SET gives it. A function that is dropped and not created again is left out.
 */
export function parseFunctions(sql: string): SqlFunction[] {
  const found = new Map<string, SqlFunction>();
  const pattern =
    /^(?:CREATE (?:OR REPLACE )?FUNCTION (\w+)\(([^$]*?)AS \$\$([^]*?)\$\$|ALTER FUNCTION (\w+)\([^)]*\) (SET [^;]+);|DROP FUNCTION (\w+)\()/gmu;
  for (const [, name = '', head = '', source = '', altered, set = '', dropped] of sql.matchAll(
    pattern,
  )) {
    if (dropped !== undefined) {
      found.delete(dropped);
      continue;
    }
    const before = found.get(altered ?? '');
    if (before !== undefined) {
      found.set(before.name, { ...before, settings: settingsOf(set) });
    } else if (altered === undefined) {
      const definer = /\bSECURITY DEFINER\b/u.test(head);
      found.set(name, { name, source, definer, settings: settingsOf(head) });
    }
  }
  return [...found.values()];
}

function settingsOf(text: string): string {
  return /\bSET (\w+ = .+?)\s*$/mu.exec(text)?.[1]?.replace(' = ', '=') ?? '';
}

/** Reads each CREATE POLICY in a text, in the form that roles.sql uses. */
export function parsePolicies(sql: string): Policy[] {
  return [...sql.replace(/--.*$/gmu, '').matchAll(/^CREATE POLICY (\w+) ON (\w+)([^;]*);/gmu)].map(
    ([, name = '', table = '', rest = '']) => {
      const [head = '', check = ''] = rest.split(/\bWITH CHECK\b/u);
      const [to = '', using = ''] = head.split(/\bUSING\b/u);
      const roles = (/\bTO\b([^]*)$/u.exec(to)?.[1] ?? 'public')
        .split(',')
        .map((each) => each.trim());
      return { table, name, roles: roles.toSorted(), using, check, special: false };
    },
  );
}

/** The names of functions that are missing, or not as wanted. */
export function alteredFunctions(
  had: readonly SqlFunction[],
  wanted: readonly SqlFunction[],
): string[] {
  const textOf = ({ source, definer, settings }: SqlFunction) =>
    JSON.stringify([source, definer, settings]);
  return wanted
    .filter((each) => {
      const ours = had.filter(({ name }) => name === each.name);
      return ours.length === 0 || ours.some((other) => textOf(other) !== textOf(each));
    })
    .map(({ name }) => name);
}

/** Policies that are missing or not as wanted, and policies that our SQL does not create. */
export function alteredPolicies(
  had: readonly Policy[],
  wanted: readonly Policy[],
): { altered: string[]; unmanaged: string[] } {
  const nameOf = ({ name, table }: Policy) => `${name} of ${table}`;
  const textOf = ({ roles, using, check, special }: Policy) =>
    JSON.stringify([roles, plainExpression(using), plainExpression(check), special]);
  const texts = new Map(had.map((each) => [nameOf(each), textOf(each)]));
  const names = new Set(wanted.map(nameOf));
  return {
    altered: wanted.filter((each) => texts.get(nameOf(each)) !== textOf(each)).map(nameOf),
    unmanaged: had.map(nameOf).filter((name) => !names.has(name)),
  };
}

/**
 * An expression without what PostgreSQL adds when it prints one, which depends on the version: brackets, casts to
 * text, quotes and case of words, `substring(a, b)` for `substring(a from b)`, and a column's name. Text within quotes is
 * kept.
 */
function plainExpression(text: string): string {
  return text
    .split(/('[^']*')/u)
    .map((part) =>
      part.startsWith("'")
        ? part
        : part
            .toLowerCase()
            .replace(/::text/gu, '')
            .replace(/ as "substring"/gu, '')
            .replace(/\bfrom\b/gu, ',')
            .replace(/["()\s]/gu, ''),
    )
    .join('');
}
