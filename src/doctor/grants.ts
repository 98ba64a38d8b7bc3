/** Rights as our SQL files and `SHOW GRANTS` write them, and how two lists of them differ. Pure. */
import { nameFew } from '../shared/printable.ts';

/** One right of one account, such as `chamberlain_homes`: `UPDATE (state) on convergence`. */
export interface Grant {
  to: string;
  right: string;
}

/**
 * Reads each GRANT in a text in the SQL of PostgreSQL or MariaDB, and ignores everything else. Of an account
 * `'name'@'host'` only the name counts. A list of columns becomes one right for each column.
 */
export function parseGrants(sql: string): Grant[] {
  return sql
    .replace(/--.*$/gmu, '')
    .replace(/[`'"]/gu, '')
    .split(';')
    .flatMap((statement) => {
      const text = statement.trim().replace(/\s+/gu, ' ');
      const [, rights = '', objects, rest = ''] =
        /^GRANT (.+?)(?: ON (?:SCHEMA |FUNCTION )?(.+?))? TO (.+)$/u.exec(text) ?? [];
      const accounts = splitList(rest.split(/ (?:IDENTIFIED|REQUIRE|WITH) /u)[0] ?? '');
      const option = / WITH .*?((?:GRANT|ADMIN) OPTION)/u.exec(rest)?.[1];
      const suffix = option === undefined ? '' : ` with ${option}`;
      const of = splitList(rights).flatMap((right) => {
        const [, verb = right, columns] = /^(.*?) ?\((.*)\)$/u.exec(right) ?? [];
        return columns === undefined
          ? [right]
          : splitList(columns).map((column) => `${verb} (${column})`);
      });
      const on = objects === undefined ? [''] : splitList(objects).map((each) => ` on ${each}`);
      return accounts.flatMap((account) =>
        of.flatMap((right) =>
          on.map((object) => ({
            to: account.replace(/@.*$/u, ''),
            right: `${right}${object.replace(/\(.*\)$/u, '')}${suffix}`,
          })),
        ),
      );
    })
    .filter(({ right }) => right !== 'USAGE on *.*');
}

/** The grants that are in `wanted` and not in `list`: for each account its rights, shortened. */
export function missingFrom(
  list: readonly Grant[],
  wanted: readonly Grant[],
): [to: string, rights: string][] {
  const had = new Set(list.map(({ to, right }) => `${to} ${right}`));
  const missing = new Map<string, string[]>();
  for (const { to, right } of wanted) {
    if (!had.has(`${to} ${right}`)) missing.set(to, [...(missing.get(to) ?? []), right]);
  }
  return [...missing].map(([to, rights]) => [to, nameFew(rights)]);
}

/** Splits at commas that are not within brackets. */
function splitList(text: string): string[] {
  return text
    .split(/,(?![^(]*\))/u)
    .map((part) => part.trim())
    .filter((part) => part !== '');
}
