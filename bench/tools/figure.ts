/** The output of a benchmark: figures next to the floor that they are measured against. */

/** One figure, as `--json` prints it, one a line. */
export interface Figure {
  figure: string;
  /** null if it could not be measured */
  value: number | null;
  unit: string;
  /** the time of the servers alone, in this run, on this machine */
  floor: number | null;
  /** value by floor */
  ratio: number | null;
  goal: number;
  /** null if it is void */
  holds: boolean | null;
  /** why it means nothing */
  void?: string;
}

/** The description of a figure, before it is measured. */
export interface Goal {
  figure: string;
  unit: string;
  goal: number;
  /** whether the goal is a minimum (load) or a maximum (all others) */
  better: 'less' | 'more';
}

/** Judges a measurement. A void one is shown, but not judged. */
export function judge(
  { figure, unit, goal, better }: Goal,
  measured: { value: number; floor: number | undefined; ratio?: number; void?: string | undefined },
): Figure {
  const { value, floor } = measured;
  const ratio = measured.ratio ?? (floor === undefined ? undefined : value / floor);
  return {
    figure,
    value: round(value),
    unit,
    floor: floor === undefined ? null : round(floor),
    ratio: ratio === undefined ? null : round(ratio),
    goal,
    holds: measured.void === undefined ? (better === 'less' ? value <= goal : value >= goal) : null,
    ...(measured.void === undefined ? {} : { void: measured.void }),
  };
}

/** A figure that could not be measured. */
export function voidFigure({ figure, unit, goal }: Goal, why: string): Figure {
  return { figure, value: null, unit, floor: null, ratio: null, goal, holds: null, void: why };
}

/** The figures of a measurement. If it fails, each of its goals is void, which is reported at once. */
export async function voidIfFailed(
  goals: readonly Goal[],
  say: (line: string) => void,
  measure: () => Promise<Figure[]>,
): Promise<Figure[]> {
  try {
    return await measure();
  } catch (error) {
    const { message, cause } = error as Error;
    const why = cause instanceof Error ? `${message}: ${cause.message}` : message;
    say(`${goals.map(({ figure }) => figure).join(', ')}: not measured: ${why}`);
    return goals.map((goal) => voidFigure(goal, why));
  }
}

/** The value below which that share of the samples is (nearest rank). */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  if (value === undefined) throw new RangeError('a quantile needs samples');
  return value;
}

export function mean(samples: readonly number[]): number {
  return samples.reduce((sum, sample) => sum + sample, 0) / samples.length;
}

/** Three significant digits. */
export function round(value: number): number {
  return Number(value.toPrecision(3));
}

/** Milliseconds since 1970, with their fractions: comparable with PostgreSQL's and Redis's clocks here. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}
