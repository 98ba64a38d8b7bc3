import { expect, test } from '@jest/globals';
import { type ImportReport, renderImport, renderLosses } from '../../src/import/import-report.ts';

const REPORT: ImportReport = {
  check: false,
  taken: {
    ...{ people: 1, suspended: 0, realmMembers: 1, tools: 0, disabled: 0, keys: 2, maintainers: 0 },
    ...{ mailAddresses: 1, mailVerified: 0 },
  },
  known: { people: 0, tools: 0 },
  deletions: [],
  homes: undefined,
  refusals: [{ object: 'uid=x', part: 'person', code: 'NAME_INVALID', sentence: 'It has none' }],
  keyless: [],
  foreseen: { steps: [], findings: [], waiting: [], unreadable: [], subjects: 1 },
  adminless: undefined,
};

test.each([
  [
    'import',
    [
      'Imported: 1 person',
      '1 mail address; verified: 0',
      'Not imported: 1 person',
      '`import --from-directory --homes`',
    ],
  ],
  ['adopt', ['Taken over: 1 person', 'Not taken over: 1 person', '`adopt … --homes`']],
] as const)('what `%s` has done is said in its own words', (by, texts) => {
  const text = renderImport(REPORT, by);
  for (const each of texts) expect(text).toContain(each);
  // whoever was left out is no member of a tool that is known by then
  const then = 'Then send maintainer.add or\naccess.grant for each group';
  expect(text).toContain(then);
  const before = renderImport({ ...REPORT, check: true }, by);
  expect(before).not.toContain(then);
  expect(before).toMatch(/^Would be /u);
  if (by === 'adopt') expect(before).not.toMatch(/`import|[Ii]mported:|import again/u);
});

test('that no admin would be left is said before anything is written, and in the report', () => {
  const adminless = 'tools.admin';
  expect(renderLosses({ refusals: [], keyless: [] })).toBe('');
  for (const text of [
    renderLosses({ refusals: [], keyless: [], adminless }),
    renderImport({ ...REPORT, adminless }),
  ]) {
    expect(text).toMatch(/No admin: no active realm member maintains the tool tools\.admin/u);
  }
});
