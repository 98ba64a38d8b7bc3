/** What the chain is measured for, by how much, and with what. */
import type { Goal } from './figure.ts';

export const GOALS = {
  idleP50: { figure: 'idle_p50_ms', unit: 'ms', goal: 100, better: 'less' },
  idleP99: { figure: 'idle_p99_ms', unit: 'ms', goal: 500, better: 'less' },
  load: { figure: 'load_ratio', unit: "of the floor's tools/s", goal: 0.5, better: 'more' },
  revoke: { figure: 'revoke_p95_ms', unit: 'ms', goal: 2000, better: 'less' },
  growth: {
    figure: 'growth_ratio',
    unit: "of the empty realm's p50 in ms",
    goal: 1.3,
    better: 'less',
  },
  memory: { figure: 'memory_mib', unit: 'MiB', goal: 250, better: 'less' },
} as const satisfies Record<string, Goal>;

/** How much of everything. */
export interface Size {
  idleTools: number;
  loadTools: number;
  revokes: number;
  /** tools made by turns in the empty and in the filled realm: turns × tools each */
  growthTurns: number;
  growthTools: number;
  tools: number;
  people: number;
}

export const FULL: Size = {
  idleTools: 200,
  loadTools: 2000,
  revokes: 20,
  growthTurns: 5,
  growthTools: 40,
  tools: 10_000,
  people: 30_000,
};
/** For trying the benchmark itself: its figures say nothing. */
export const QUICK: Size = {
  idleTools: 20,
  loadTools: 100,
  revokes: 4,
  growthTurns: 2,
  growthTools: 10,
  tools: 200,
  people: 600,
};

export interface ChainOptions {
  size: Size;
  /** where the realms' folders are made */
  parent: string;
  /** where the CPU profile of the workers under load goes; undefined: none is taken */
  profileDir: string | undefined;
  /** rejects when the run must end early */
  interrupted: Promise<never>;
  /** why the figures say nothing, if so */
  void: string | undefined;
  /** progress */
  say: (line: string) => void;
  /** what belongs to a figure, for people */
  show: (text: string) => void;
}
