/** The alert rules and the dashboard for Prometheus. test/scenarios/processes/metrics.test.ts has values for their metrics. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { serveMetrics } from '../../src/shared/metrics.ts';
import { WORK_ROLES } from '../../workers/main.ts';
import { FOLDER, readPrometheus } from './prometheus.ts';

const { rules, panels } = readPrometheus();
const page = readFileSync(join(FOLDER, '../../docs/operations.md'), 'utf8');

/** The first cells of the rows below a heading. */
function rowsBelow(heading: string): string[] {
  const [, below = ''] = page.split(`${heading}\n`);
  const [own = ''] = below.split(/^##/mu);
  return [...own.matchAll(/^\| `(\w+)`/gmu)].map(([, cell = '']) => cell);
}

function promtool(...args: string[]): string {
  return execFileSync('promtool', args, { cwd: FOLDER, encoding: 'utf8', stdio: 'pipe' });
}

test('promtool finds each rule sound', () => {
  expect(promtool('check', 'rules', 'chamberlain.rules.yml')).toContain(`${rules.length} rules`);
});

test('each alert is raised when it should be, and not before', () => {
  expect(promtool('test', 'rules', 'chamberlain.rules.test.yml')).toContain('SUCCESS');
  const file = readFileSync(join(FOLDER, 'chamberlain.rules.test.yml'), 'utf8');
  const { tests } = parse(file) as {
    tests: { alert_rule_test: { alertname: string; exp_alerts: unknown[] }[] }[];
  };
  const cases = tests.flatMap((each) => each.alert_rule_test);
  const raised = cases.filter((each) => each.exp_alerts.length > 0);
  const silent = cases.filter((each) => each.exp_alerts.length === 0);
  for (const { alert } of rules) {
    for (const those of [raised, silent]) {
      expect(those.map(({ alertname }) => alertname)).toContain(alert);
    }
  }
});

describe('each alert says what happened, and where the runbook explains it:', () => {
  test.each(rules)('$alert', ({ alert, labels, annotations }) => {
    expect(annotations).toEqual({
      summary: expect.stringMatching(/^\S.*[^.]$/u),
      description: expect.stringMatching(/^\S.*\.$/u),
      runbook: 'docs/operations.md#alerts-of-prometheus',
    });
    expect(labels).toEqual({ severity: expect.stringMatching(/^(critical|warning|info)$/u) });
    expect(rowsBelow('### Alerts of Prometheus')).toContain(alert);
  });
});

test('the runbook explains no alert that does not exist', () => {
  const alerts = rules.map(({ alert }) => alert);
  expect(rowsBelow('### Alerts of Prometheus')).toEqual(alerts);
});

test('the page lists every metric', async () => {
  expect(WORK_ROLES.length).toBeGreaterThan(0); // so all that measures is loaded
  const served = await serveMetrics('127.0.0.1:0');
  try {
    const text = await (await fetch(`http://127.0.0.1:${served.port}/metrics`)).text();
    const types = [...text.matchAll(/^# TYPE (\w+) (\w+)$/gmu)];
    const names = types.map(([, name = '', type]) => (type === 'counter' ? `${name}_total` : name));
    expect(rowsBelow('## Metrics').toSorted()).toEqual(names.toSorted());
  } finally {
    await served.close();
  }
});

test('the panels of the dashboard have ids of their own, and do not overlap', () => {
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, n) => `${x + (n % w)} ${y + Math.floor(n / w)}`),
  );
  expect(new Set(cells).size).toBe(cells.length);
  expect(Math.max(...panels.map(({ gridPos: { x, w } }) => x + w))).toBeLessThanOrEqual(24);
});
