/** Counting the rows of a dump as it comes, byte by byte. Pure. */
import { describe, expect, test } from '@jest/globals';
import { newDump, readDump, rowsOf } from '../../../src/archives/databases/dump-rows.ts';

const HEAD = '/*M!999999\\- enable the sandbox mode */ \n\n/*!40101 SET NAMES utf8mb4 */;\n';
const T = 'CREATE TABLE `t` (\n  `a` int(11) DEFAULT NULL\n) ENGINE=InnoDB;\n';

function count(text: string, piece: number): Record<string, number> {
  const bytes = Buffer.from(text);
  const dump = newDump();
  for (let at = 0; at < bytes.length; at += piece) readDump(dump, bytes.subarray(at, at + piece));
  return Object.fromEntries(rowsOf(dump));
}

/** case · the dump · the rows of each table in it */
const DUMPS: [string, string, Record<string, number>][] = [
  ['nothing', HEAD, {}],
  ['an empty table', `${HEAD}${T}`, { t: 0 }],
  ['rows on lines of their own', `${T}INSERT INTO \`t\` VALUES\n(1),\n(2),\n(3);\n`, { t: 3 }],
  [
    'rows on one line',
    `${T}INSERT INTO \`t\` VALUES (1),(2);INSERT INTO \`t\` VALUES (3);`,
    { t: 3 },
  ],
  [
    'columns by name, one of which is called VALUES',
    `${T}INSERT INTO \`t\` (\`VALUES\`, \`(\`, row_start) VALUES (1,2,'(3)'),\n(4,5,'');\n`,
    { t: 2 },
  ],
  [
    'texts that look like rows, ends and quotes',
    `${T}INSERT INTO \`t\` VALUES\n('),(\\'),(;\\\\'),\n('it''s \\n INSERT INTO \`t\` VALUES (1)'),\n(_binary '\\\\');\n`,
    { t: 3 },
  ],
  [
    'a name with everything in it',
    "CREATE TABLE `a``b'\"\\;\nü` (`x;` int COMMENT 'y;\\'');\nINSERT INTO `a``b'\"\\;\nü` VALUES (1);",
    { 'a`b\'"\\;\nü': 1 },
  ],
  [
    'a view that replaces a table of the same name',
    "/*!50001 CREATE VIEW `v` AS SELECT\n 1 AS `a;` */;\n/*!50001 VIEW `v` AS select 'CREATE TABLE `x` (' */;\n",
    {},
  ],
  [
    'a sequence',
    'CREATE SEQUENCE `s` start with 1 ENGINE=InnoDB;\nDO SETVAL(`s`, 1001, 0);\n',
    { s: 0 },
  ],
  [
    'bodies, with what would be rows elsewhere',
    `${T}DELIMITER ;;\nCREATE PROCEDURE p()\nBEGIN\nINSERT INTO \`t\` VALUES (1);;;\n-- it's\nEND\n;;\nDELIMITER ;\n` +
      'INSERT INTO `t` VALUES (1);\nDELIMITER ;;\n/*!50003 CREATE*/ ;;\nDELIMITER ;\n',
    { t: 1 },
  ],
];

describe.each([1, 2, 3, 7, 65_536])('in pieces of %i bytes', (piece) => {
  test.each(DUMPS)('%s', (_, dump, rows) => {
    expect(count(dump, piece)).toEqual(rows);
  });
});

test.each([
  ['in rows', `${T}INSERT INTO \`t\` VALUES\n(1),\n(2`],
  ['in a text', `${T}INSERT INTO \`t\` VALUES\n('1;`],
  ['in a statement', T.slice(0, -2)],
  ['in a body', 'DELIMITER ;;\nCREATE PROCEDURE p() BEGIN'],
])('a dump that ends %s is refused', (_, dump) => {
  expect(() => count(dump, 10)).toThrow('in the middle of a statement');
});

test('a dump that fills a table that it did not create is refused', () => {
  expect(() => count('INSERT INTO `t` VALUES (1);', 10)).toThrow('without making it');
});

test.each(['DELIMITER ;', 'delimiter //', 'Delimiter\t;'])(
  'a line %j in a body would be a command to the client that loads it',
  (line) => {
    const dump = `DELIMITER ;;\nCREATE PROCEDURE p()\n/*\n${line}\n*/ BEGIN END\n;;\nDELIMITER ;\n`;
    expect(() => count(dump, 3)).toThrow('begins with DELIMITER');
  },
);
