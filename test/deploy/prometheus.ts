/** What deploy/prometheus contains, for tests. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';

export const FOLDER = join(import.meta.dirname, '../../deploy/prometheus');

interface Rule {
  alert: string;
  expr: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}
interface Panel {
  id: number;
  title: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets: { expr: string }[];
}

export interface Prometheus {
  rules: Rule[];
  panels: Panel[];
}

export function readPrometheus(): Prometheus {
  const read = (file: string): string => readFileSync(join(FOLDER, file), 'utf8');
  const { groups } = parse(read('chamberlain.rules.yml')) as { groups: { rules: Rule[] }[] };
  const { panels } = JSON.parse(read('grafana.json')) as { panels: Panel[] };
  return { rules: groups.flatMap(({ rules }) => rules), panels };
}

/** The names of our metrics in the expressions of rules and panels, in order. */
export function metricsOf({ rules, panels }: Prometheus): string[] {
  const expressions = [
    ...rules.map(({ expr }) => expr),
    ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
  ];
  const names = expressions.flatMap((expr) => expr.match(/\bchamberlain_\w+/gu) ?? []);
  return [...new Set(names)].toSorted();
}
