/** What an admin sees of a plan is golden text. */
import { expect, test } from '@jest/globals';
import { digestSteps } from '../../src/reconcile/digest.ts';
import type { Step } from '../../src/reconcile/plan.ts';
import { renderPlan } from '../../src/reconcile/render-plan.ts';
import { mergeReports, onlyTarget, type Report } from '../../src/reconcile/report.ts';
import { expectGolden } from '../golden.ts';

const NOTHING: Report = { steps: [], findings: [], waiting: [], unreadable: [], subjects: 0 };

function step(account: string, subject: number, rest: Partial<Step>): Step {
  return {
    target: 'unix-group',
    subject,
    account,
    object: `cn=${account},ou=servicegroups`,
    effect: 'create',
    change: 'absent → present',
    because: 'it does not exist',
    action: { verb: 'ldap.delete', entry: `toolGroups/cn=${account}`, expect: {} },
    ...rest,
  };
}

const DIRECTORY: Report = {
  ...NOTHING,
  subjects: 3,
  steps: [
    step('tools.wikibot', 50002, {
      effect: 'revoke',
      change: 'member −uid=mallory,ou=people',
      because: 'it has extra values in member',
    }),
    step('tools.bridgebot', 50001, {}),
    step('tools.bridgebot', 50001, {
      target: 'sudo-rule',
      object: 'cn=runas-tools.bridgebot,ou=sudoers',
      effect: 'change',
      change: 'sudoHost x → ALL',
      because: 'it differs in sudoHost',
    }),
  ],
};

const HOMES: Report = {
  ...NOTHING,
  subjects: 3,
  steps: [
    step('tools.bridgebot', 50001, {
      target: 'home-directory',
      object: '/data/project/bridgebot',
      change: 'absent → 2775, public_html, logs',
      because: 'it does not exist',
    }),
  ],
  findings: [
    {
      target: 'home-directory',
      subject: 1001,
      account: 'alice',
      object: '/home/alice',
      code: 'PATH_FOREIGN',
      sentence:
        'There is a symbolic link\u001b[2J where a directory of uid 1001 should be. Move it away.',
    },
  ],
};

const DATABASES: Report = {
  ...NOTHING,
  subjects: 3,
  waiting: [
    {
      target: 'database-account',
      subject: 50001,
      account: 'tools.bridgebot',
      sentence: 'waits for the role homes',
    },
  ],
  unreadable: [
    ...['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name, index) => ({
      target: 'database-account',
      subject: 50010 + index,
      account: `tools.${name}`,
      sentence: 'toolsdb does not answer',
    })),
    { target: 'homes', sentence: 'no answer within 30 s' },
  ],
};

test('a plan is shown by account, in the order of the roles, with reasons and totals', () => {
  const merged = mergeReports([DIRECTORY, HOMES, DATABASES]);
  expectGolden('plan.txt', renderPlan(merged, digestSteps(merged.steps)));
});

test('a plan with nothing in it says so', () => {
  const merged = mergeReports([{ ...NOTHING, subjects: 1 }]);
  expectGolden('plan-nothing.txt', renderPlan(merged, digestSteps([])));
});

test('the digest knows the order of steps, not the order of fields', () => {
  const [first, second] = DIRECTORY.steps as [Step, Step, Step];
  const shuffled = Object.fromEntries(Object.entries(first).toReversed()) as unknown as Step;
  expect(digestSteps([shuffled, second])).toBe(digestSteps([first, second]));
  expect(digestSteps([second, first])).not.toBe(digestSteps([first, second]));
});

test('one target alone is shown without the others, and with every role that did not answer', () => {
  const only = onlyTarget(mergeReports([DIRECTORY, HOMES, DATABASES]), 'sudo-rule');
  expect(only.steps.map(({ target }) => target)).toEqual(['sudo-rule']);
  expect(only.findings).toEqual([]);
  expect(only.unreadable).toEqual([{ target: 'homes', sentence: 'no answer within 30 s' }]);
});

test('where a role has not answered, it does not say that there is nothing to do', () => {
  const report = {
    ...NOTHING,
    unreadable: [{ target: 'homes', sentence: 'no answer within 30 s' }],
  };
  expect(renderPlan(report, 'd')).toContain(
    '\n0 subjects checked: no step, something is UNREADABLE\n',
  );
});

test('what leaves several targets unread is said once, with their accounts', () => {
  const sentence = 'slapd cannot be reached';
  const report = {
    ...NOTHING,
    unreadable: [
      { target: 'unix-account', subject: 1001, account: 'alice', sentence },
      { target: 'ssh-keys', subject: 1001, account: 'alice', sentence },
      { target: 'unix-account', subject: 1002, account: 'bob', sentence },
    ],
  };
  expect(renderPlan(report, 'd')).toContain(
    `\n  unix-account, ssh-keys: ${sentence} (alice, bob)\n\n`,
  );
});

test('what was found beside many accounts is said once', () => {
  const report: Report = {
    ...NOTHING,
    subjects: 40_000,
    findings: Array.from({ length: 40_000 }, (_, n) => ({
      target: 'database-account',
      subject: 1000 + n,
      account: `person-${String(n).padStart(5, '0')}`,
      object: "''@localhost on replica",
      code: 'DATABASE_FOREIGN' as const,
      sentence: 'MariaDB may use this anonymous account for connections from localhost. Drop it.',
      advisory: true as const,
    })),
  };
  expectGolden('plan-shared.txt', renderPlan(mergeReports([report]), digestSteps([])));
});

test('its marks are painted, and nothing else', () => {
  const merged = mergeReports([DIRECTORY, HOMES, DATABASES]);
  const digest = digestSteps(merged.steps);
  const painted = renderPlan(merged, digest, (style, text) => `<${style}>${text}`);
  const marks = [...painted.matchAll(/^ {2}<(\w+)>(\S) /gmu)].map(([, style, mark]) => [
    mark,
    style,
  ]);
  expect(marks).toEqual([
    ['?', 'cyan'],
    ['+', 'green'],
    ['~', 'yellow'],
    ['+', 'green'],
    ['…', 'dim'],
    ['-', 'red'],
  ]);
  expect(painted.replaceAll(/<\w+>/gu, '')).toBe(renderPlan(merged, digest));
});

test('the same world gives the same bytes, in whatever order the roles list what they found', () => {
  const reports = [DIRECTORY, HOMES, DATABASES];
  const shuffled = reports.map((report) => ({
    ...report,
    // subjects in another order; what is to be done to one stays in order
    steps: report.steps.toSorted((a, b) => b.subject - a.subject),
    findings: report.findings.toReversed(),
    waiting: report.waiting.toReversed(),
    unreadable: report.unreadable.toReversed(),
  }));
  const [one, other] = [mergeReports(reports), mergeReports(shuffled)];
  expect(renderPlan(other, digestSteps(other.steps))).toBe(renderPlan(one, digestSteps(one.steps)));
  expect(JSON.stringify(other)).toBe(JSON.stringify(one));
});

test('100,000 steps are merged, hashed and shown', () => {
  const [first] = DIRECTORY.steps as [Step];
  const many = {
    ...NOTHING,
    steps: Array.from({ length: 100_000 }, (_, n) => ({
      ...first,
      subject: 50_000 + n,
      account: `tools.t${n}`,
    })),
  };
  const start = process.cpuUsage();
  const merged = mergeReports([many]);
  const text = renderPlan(merged, digestSteps(merged.steps));
  // some 4 s; where the time grows with the square of the steps, it takes many minutes
  expect(process.cpuUsage(start).user / 1_000_000).toBeLessThan(60);
  expect(text.split('\n').length).toBeGreaterThan(300_000);
});
