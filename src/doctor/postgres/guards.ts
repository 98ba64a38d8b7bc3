/** Triggers, functions and policies as our SQL files create them, and how those of a database differ. Pure. */

import type { Policy, SqlFunction } from './guards-queries.ts';

/** A trigger. */
export interface Trigger {
  table: string;
  name: string;
  /** the function that it calls */
  calls: string;
  /** the rest of it, the same in each form in which a file or PostgreSQL writes it */
  text: string;
}

/**
 * Reads each CREATE TRIGGER in a text, of a file or of PostgreSQL. Of two with the same name the last one counts. A
 * trigger that is dropped and not created again is left out.
 */
export function parseTriggers(sql: string): Trigger[] {
  const found = new Map<string, Trigger>();
  const pattern =
    /^DROP TRIGGER (\w+) ON (\w+)|\bCREATE TRIGGER (\w+) (BEFORE|AFTER) ([^;]+?) ON (?:public\.)?(\w+|%s)([^;$]*)EXECUTE FUNCTION (?:public\.)?(\w+)\(\)/gmu;
  for (const match of sql.matchAll(pattern)) {
    const [, dropped, from, name = '', time, events = '', table = '', rest = '', calls = ''] =
      match;
    if (dropped !== undefined) {
      found.delete(`${dropped} of ${from}`);
      continue;
    }
    const parts = [time, events.split(' OR ').toSorted(), plainExpression(spreadRows(rest)), calls];
    found.set(`${name} of ${table}`, { table, name, calls, text: JSON.stringify(parts) });
  }
  return [...found.values()];
}

/** The trigger that roles.sql creates on every table but one, on each of these tables. */
export function fencesOf(roles: string, tables: readonly string[]): Trigger[] {
  const [, except] = /\brelname <> '(\w+)'/u.exec(roles) ?? [];
  return parseTriggers(roles).flatMap((each) =>
    tables.filter((table) => table !== except).map((table) => ({ ...each, table })),
  );
}

/** As PostgreSQL prints a comparison of rows: one comparison for each column. */
function spreadRows(text: string): string {
  return text.replace(/\(([^()]+)\) IS DISTINCT FROM \(([^()]+)\)/gu, (_, ours, others) => {
    const right = others.split(',');
    const pairs = ours.split(',').map((left: string, n: number) => [left, right[n]]);
    return pairs.map((pair: string[]) => pair.join(' IS DISTINCT FROM ')).join(' OR ');
  });
}

/** The triggers that are missing, or not as wanted. */
export function alteredTriggers(had: readonly Trigger[], wanted: readonly Trigger[]): Trigger[] {
  const nameOf = ({ name, table }: Trigger) => `${name} of ${table}`;
  const texts = new Map(had.map((each) => [nameOf(each), each.text]));
  return wanted.filter((each) => texts.get(nameOf(each)) !== each.text);
}

/** The tables in a text that are to show each role its own rows. */
export function parseSecured(sql: string): string[] {
  return [...sql.matchAll(/^ALTER TABLE (\w+) ENABLE ROW LEVEL SECURITY;/gmu)].map(
    ([, table = '']) => table,
  );
}

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
 * text or name, quotes and case of words, `substring(a, b)` for `substring(a from b)`, and a column's name. Text
 * within quotes is kept.
 */
function plainExpression(text: string): string {
  return text
    .split(/('[^']*')/u)
    .map((part) =>
      part.startsWith("'")
        ? part
        : part
            .toLowerCase()
            .replace(/::(?:text|name)/gu, '')
            .replace(/ as "substring"/gu, '')
            .replace(/\bfrom\b/gu, ',')
            .replace(/["()\s]/gu, ''),
    )
    .join('');
}
