/** Lines of the agent's reports, as the login helper reads them. */
import { expect, test } from '@jest/globals';
import { parseReportLine, type ReportLine } from '../../src/login-host/report-lines.ts';

test.each<[ReportLine]>([
  [['seal', 'alice', 'x "y" \\ \u2028 \ud83e\udd86']],
  [['seal', '\\', '\\"']],
  [['unsealed', 'John.Doe']],
  [['gone', '']],
  [['heartbeat', '']],
  [['all', 'token', 'begin']],
  [['all', 'token', 'end']],
  [['trouble', 'ldaps://one', 'why']],
])('%j is a line', (line) => {
  expect(parseReportLine(JSON.stringify(line))).toEqual(line);
});

test.each([
  '',
  'x',
  '[]',
  '[""]',
  '["seal"]',
  '["seal","a"]',
  '["seal","a","b","c"]',
  '["seal","a",5]',
  '["seal","a",["b"]]',
  '["seal","a",{"b":"c"}]',
  '["kill","a"]',
  '["gone","a","b"]',
  '["all","t","middle"]',
  '{"0":"gone","1":"a"}',
  '["gone","a"] ',
  ' ["gone","a"]',
  '["gone", "a"]',
  '["gone","a"',
  '["gone","a]',
  '["gone","a\\"]',
  '["gone","\\x"]',
  'null',
])('%j is none', (line) => {
  expect(parseReportLine(line)).toBeUndefined();
});

test('four megabytes of brackets are not read into two hundred', () => {
  expect(parseReportLine('['.repeat(4 * 2 ** 20))).toBeUndefined();
  const inside = `["seal","a",${'['.repeat(2 ** 21)}`;
  const before = process.memoryUsage().heapUsed;
  expect(parseReportLine(inside)).toBeUndefined();
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(20 * 2 ** 20);
  expect(parseReportLine(JSON.stringify(['gone', 'x'.repeat(5 * 2 ** 20)]))).toBeUndefined();
});
