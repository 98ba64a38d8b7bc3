/** Rights as SQL writes them, and how two lists of them differ. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { readRights } from '../../src/database/rights.ts';
import { missingFrom, parseGrants } from '../../src/doctor/grants.ts';

const ROOT = join(import.meta.dirname, '../..');
const textsOf = (sql: string) => parseGrants(sql).map(({ to, right }) => `${to}: ${right}`);

describe('a GRANT is read as one right for each account, column and object:', () => {
  test.each([
    [
      'GRANT SELECT, INSERT ON a, b TO x;',
      ['x: SELECT on a', 'x: SELECT on b', 'x: INSERT on a', 'x: INSERT on b'],
    ],
    [
      'GRANT SELECT,\n  UPDATE (p, q)\n  ON a TO x, y;',
      [
        'x: SELECT on a',
        'x: UPDATE (p) on a',
        'x: UPDATE (q) on a',
        'y: SELECT on a',
        'y: UPDATE (p) on a',
        'y: UPDATE (q) on a',
      ],
    ],
    ['GRANT USAGE ON SCHEMA public TO x;', ['x: USAGE on public']],
    ['GRANT EXECUTE ON FUNCTION f(integer, text) TO x;', ['x: EXECUTE on f']],
    [
      '-- GRANT SELECT ON a TO x;\nREVOKE ALL ON a FROM x; GRANT DELETE ON a TO x',
      ['x: DELETE on a'],
    ],
    [
      "GRANT CREATE USER, PROCESS ON *.* TO 'x'@'%';",
      ['x: CREATE USER on *.*', 'x: PROCESS on *.*'],
    ],
    ["GRANT labsdbuser TO 'x'@'%' WITH ADMIN OPTION;", ['x: labsdbuser with ADMIN OPTION']],
    [
      "GRANT ALL PRIVILEGES ON `s%\\_\\_%`.* TO `x`@`%` IDENTIFIED BY PASSWORD '*0123' WITH GRANT OPTION",
      ['x: ALL PRIVILEGES on s%\\_\\_%.* with GRANT OPTION'],
    ],
    ["GRANT USAGE ON *.* TO `x`@`%` IDENTIFIED BY PASSWORD '*0123'", []],
    [
      'GRANT SELECT (`Host`, `User`) ON `mysql`.`global_priv` TO `x`@`%`',
      ['x: SELECT (Host) on mysql.global_priv', 'x: SELECT (User) on mysql.global_priv'],
    ],
  ])('%j', (sql, rights) => {
    expect(textsOf(sql).toSorted()).toEqual(rights.toSorted());
  });
});

test.each(['migrations/roles.sql', 'deploy/mariadb/replica.sql', 'deploy/mariadb/toolsdb.sql'])(
  'each GRANT of %s is understood',
  (file) => {
    const written =
      file === 'migrations/roles.sql'
        ? readRights(join(ROOT, 'migrations'))
        : readFileSync(join(ROOT, file), 'utf8');
    const sql = written.replace(/--.*$/gmu, '');
    const statements = sql.split(';').filter((text) => /^\s*GRANT\b/u.test(text));
    expect(statements.length).toBeGreaterThan(5);
    for (const statement of statements) {
      const grants = parseGrants(statement);
      expect([statement, grants.length > 0]).toEqual([statement, true]);
      for (const { to, right } of grants) {
        expect(to).toMatch(/^chamberlain_[a-z_]+$|^PUBLIC$/u);
        expect(right).toMatch(
          /^([A-Z ]+( \(\w+\))?|labsdbuser)( on [a-z_*%\\.]+)?( with \w+ OPTION)?$/u,
        );
      }
    }
  },
);

test('what one list lacks is listed by account, and a long list is shortened', () => {
  const wanted = parseGrants(
    'GRANT SELECT, INSERT ON a TO x; GRANT SELECT ON b, c, d, e, f, g, h TO y;',
  );
  expect(missingFrom(wanted, wanted)).toEqual([]);
  expect(missingFrom(parseGrants('GRANT INSERT ON a TO x;'), wanted)).toEqual([
    ['x', 'SELECT on a'],
    ['y', 'SELECT on b, SELECT on c, SELECT on d, SELECT on e, SELECT on f, and 2 more'],
  ]);
});
