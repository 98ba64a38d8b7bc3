/** The texts on unmanaged things are golden text. */
import { expect, test } from '@jest/globals';
import type { UnmanagedThing } from '../../src/unmanaged/unmanaged.ts';
import { digestSteps } from '../../src/reconcile/digest.ts';
import { renderPlan } from '../../src/reconcile/render-plan.ts';
import { countSurvey, renderSurvey } from '../../src/drift/render-survey.ts';
import { renderUnmanaged } from '../../src/unmanaged/render-unmanaged.ts';
import type { Report } from '../../src/reconcile/report.ts';
import { expectGolden } from '../golden.ts';

const BASE = 'dc=example,dc=org';
const at = (minute: number) => new Date(Date.UTC(2026, 10, 24, 21, minute));
const thing = (rest: Partial<UnmanagedThing>): UnmanagedThing => ({
  ...{
    role: 'directory',
    place: 'directory',
    object: '',
    kind: 'account',
    name: null,
    number: null,
  },
  ...{ madeBy: `cn=admin,${BASE}`, madeAt: at(0), since: at(1), goneAt: null },
  ...{ ignoredAt: null, ignoredBy: null, reason: null, ...rest },
});
const ignored = { ignoredAt: at(5), ignoredBy: 'unix:root', reason: 'the old backup' };
const THINGS = [
  ...Array.from({ length: 7 }, (_, n) =>
    thing({ object: `uid=eve${n},ou=people,${BASE}`, number: 1000 + n }),
  ),
  thing({
    ...{
      object: `uid=eve0,ou=people,${BASE} in cn=project-tools,ou=groups,${BASE}`,
      kind: 'member',
    },
    ...{ madeBy: null, madeAt: null },
  }),
  thing({ object: '/home/eve0', kind: 'home', number: 1000, madeBy: 'uid 1000', role: 'homes' }),
  thing({ object: 's5000@%', kind: 'database user', number: 5000, madeBy: null, place: 'toolsdb' }),
  thing({ object: '/srv/x\u001b[2J', kind: 'archive', madeBy: 'root', role: 'homes' }),
  thing({ object: `ou=staff,ou=people,${BASE}`, kind: 'entry', ...ignored, goneAt: at(9) }),
];
const REPORT: Report = {
  ...{ steps: [], findings: [], waiting: [], unreadable: [], subjects: 3 },
  unmanaged: THINGS,
};

test('in a survey each kind is a group, and ignored things are separate', () => {
  expectGolden('survey-unmanaged.txt', renderSurvey(REPORT));
  expect(countSurvey(REPORT).findings).toBe(11);
});

test('a plan names the first few of each kind', () => {
  expectGolden('plan-unmanaged.txt', renderPlan(REPORT, digestSteps([])));
});

test('if everything is ignored, one line says so; if there is nothing, there is no line', () => {
  expect(renderUnmanaged(THINGS.slice(-1))).toBe(
    'Unmanaged: 1 ignored: see `chamberlain list unmanaged`',
  );
  expect(renderUnmanaged([])).toBe('');
});
