/**
 * The figures of the chain, each beside its floor:
 *
 *   idle    one tool after another: how long from `Queue.add` to `tool.ready`
 *   growth  the same in a realm with 10,000 tools and 30,000 people, by turns with an empty one
 *   load    2,000 tools at once: tools a second, against plain loops on the same servers; access that
 *           is revoked meanwhile; the workers' memory
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runCli } from '../dev/servers/stack.ts';
import { renderProfile } from './cpu-profile.ts';
import { type Figure, type Goal, judge, quantile, voidFigure } from './figure.ts';
import { type Floor, measureFloor } from './floor.ts';
import { admitMaker, latencies, makeTools } from './idle.ts';
import { renderCpu, runLoad } from './load.ts';
import { measureMachine } from './machine.ts';
import { populate } from './population.ts';
import { personName, toolName } from './population-names.ts';
import { openPortal, type Portal } from './portal.ts';
import { memoryMib } from './processes.ts';
import { type MeasuredRealm, openRealm, type Work } from './realm.ts';
import { openTrace } from './stages.ts';

export const GOALS = {
  idleP50: { figure: 'idle_p50_ms', unit: 'ms', goal: 100, better: 'less' },
  idleP99: { figure: 'idle_p99_ms', unit: 'ms', goal: 500, better: 'less' },
  load: { figure: 'load_ratio', unit: "of the floor's tools/s", goal: 0.5, better: 'more' },
  revoke: { figure: 'revoke_p95_ms', unit: 'ms', goal: 2000, better: 'less' },
  growth: { figure: 'growth_ratio', unit: "of the empty realm's p50 in ms", goal: 1.3, better: 'less' },
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
  say(line: string): void;
  /** what belongs to a figure, for people */
  show(text: string): void;
}

/** What must be closed, last first, whatever happens. */
type Closers = (() => Promise<void>)[];

/** Measures all figures of the chain. */
export async function measureChain(options: ChainOptions): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measureAll(options, closers), options.interrupted]);
  } finally {
    for (const close of closers.reverse()) await close();
  }
}

async function measureAll(options: ChainOptions, closers: Closers): Promise<Figure[]> {
  options.say('starting servers');
  const empty = await openWorking(options, closers);
  const idle = await voidIfFailed([GOALS.idleP50, GOALS.idleP99], () => measureIdle(empty, options));
  const growth = await voidIfFailed([GOALS.growth], () => measureGrowth(empty, options, closers));
  const load = await voidIfFailed([GOALS.load, GOALS.revoke, GOALS.memory], () =>
    measureLoad(empty, options, closers),
  );
  return [...idle, ...load.slice(0, 2), ...growth, ...load.slice(2)];
}

interface WorkingRealm {
  realm: MeasuredRealm;
  portal: Portal;
  work: Work;
}

async function openWorking({ parent }: ChainOptions, closers: Closers): Promise<WorkingRealm> {
  const realm = await openRealm(parent);
  closers.push(() => realm.close());
  const work = await realm.startWork();
  closers.push(() => work.stop());
  const portal = await openPortal(realm);
  closers.push(() => portal.close());
  await admitMaker(portal);
  return { realm, portal, work };
}

async function measureIdle(
  { realm, portal }: WorkingRealm,
  { size, say, show, void: why }: ChainOptions,
): Promise<Figure[]> {
  say(`idle: ${size.idleTools} tools, one after another`);
  await makeTools(portal, 'warm', Math.ceil(size.idleTools / 10));
  const trace = await openTrace(realm);
  const tools = await makeTools(portal, 'idle', size.idleTools);
  show(await trace.explain(tools));
  await trace.close();
  say('idle: what the servers alone take');
  const floor = await measureMachine(realm, 100);
  show(floor.table);
  const samples = latencies(tools);
  return [
    judge(GOALS.idleP50, { value: quantile(samples, 0.5), floor: floor.p50, void: why ?? tooSlow(GOALS.idleP50, floor.p50) }),
    judge(GOALS.idleP99, { value: quantile(samples, 0.99), floor: floor.p99, void: why ?? tooSlow(GOALS.idleP99, floor.p99) }),
  ];
}

/** A machine whose disk and servers alone take as long as the goal allows measures nothing of ours. */
function tooSlow({ goal, unit }: Goal, floor: number): string | undefined {
  return floor < goal ? undefined : `the floor alone is ${floor.toFixed(0)} ${unit}`;
}

async function measureGrowth(
  empty: WorkingRealm,
  options: ChainOptions,
  allClosers: Closers,
): Promise<Figure[]> {
  const { size, say, show, void: why } = options;
  // ended here, for the load is the machine's alone; or, in an interrupted run, with all others
  const closers: Closers = [];
  const closeAll = async () => {
    for (const close of closers.splice(0).reverse()) await close();
  };
  allClosers.push(closeAll);
  try {
    say(`growth: filling a realm with ${size.tools} tools and ${size.people} people`);
    const realm = await openRealm(options.parent);
    closers.push(() => realm.close());
    await populate(realm, size, (line) => say(`growth: ${line}`));
    const work = await realm.startWork();
    closers.push(() => work.stop());
    const portal = await openPortal(realm);
    closers.push(() => portal.close());
    await admitMaker(portal);
    await requireConverged(realm);
    await untilSealed(realm);
    await makeTools(portal, 'warm', Math.ceil(size.growthTools / 4));
    const trace = await openTrace(realm);
    const [among, alone] = [[] as number[], [] as number[]];
    for (let turn = 0; turn < size.growthTurns; turn++) {
      say(`growth: turn ${turn + 1} of ${size.growthTurns}`);
      alone.push(...latencies(await makeTools(empty.portal, `turn-${turn}`, size.growthTools)));
      const tools = await makeTools(portal, `turn-${turn}`, size.growthTools);
      among.push(...latencies(tools));
      if (turn === size.growthTurns - 1) show(`In the filled realm. ${await trace.explain(tools)}`);
    }
    await trace.close();
    const [value, floor] = [quantile(among, 0.5), quantile(alone, 0.5)];
    show(`By turns: p50 ${value.toFixed(1)} ms in the filled realm, ${floor.toFixed(1)} ms in the empty one.`);
    show(`In the filled realm. ${(await measureMachine(realm, 100)).table}`);
    return [judge(GOALS.growth, { value: value / floor, floor, ratio: value / floor, void: why })];
  } finally {
    await closeAll();
  }
}

/** The product's own survey of some subjects: what was filled must be what the chain would have made. */
async function requireConverged({ stack }: MeasuredRealm): Promise<void> {
  const subjects = [0, 1, 2].flatMap((n) => [personName(n), toolName(n)]);
  await runCli(stack.place.configFile, 'plan', ...subjects).catch((cause: unknown) => {
    throw new Error('the filled realm is not as wanted', { cause });
  });
}

/** The sealer has 40,000 rows of audit to catch up with, once. */
async function untilSealed(realm: MeasuredRealm): Promise<void> {
  const client = await realm.connect();
  try {
    for (let look = 0; look < 600; look++) {
      const { rows } = await client.query<{ open: boolean }>(
        'SELECT (SELECT max(id) FROM audit) > coalesce((SELECT max(audit_id) FROM audit_seals), 0) AS open',
      );
      if (rows[0]?.open !== true) return;
      await sleep(100);
    }
    throw new Error('the audit is not sealed in a minute');
  } finally {
    await client.end();
  }
}

async function measureLoad(
  { realm, portal, work }: WorkingRealm,
  { size, profileDir, say, show, void: why }: ChainOptions,
  closers: Closers,
): Promise<Figure[]> {
  say(`load: the floor of ${size.loadTools} tools`);
  const floor = await measureFloor(realm, size.loadTools);
  const floorRate = size.loadTools / (Math.max(...Object.values(floor)) / 1000);
  show(renderFloor(floor, size.loadTools));
  // new workers: their memory is this load's alone, and so is the profile
  await work.stop();
  const loaded = await realm.startWork(profileDir === undefined ? {} : { profileDir });
  closers.push(() => loaded.stop());
  await sleep(2000);
  const atRest = memoryMib(loaded.pid);
  say(`load: ${size.loadTools} tools at once`);
  const load = await runLoad(realm, portal, loaded, {
    count: size.loadTools,
    revokes: size.revokes,
    say: (line) => say(`load: ${line}`),
  });
  show(renderCpu(load, size.loadTools));
  if (profileDir !== undefined) {
    await loaded.stop();
    show(renderProfile(join(profileDir)));
  }
  const rate = size.loadTools / load.seconds;
  show(`The chain made ${rate.toFixed(1)} tools/s, the floor ${floorRate.toFixed(1)} tools/s.`);
  const profiled = profileDir === undefined ? undefined : 'the workers were profiled';
  return [
    judge(GOALS.load, {
      value: rate / floorRate,
      floor: floorRate,
      ratio: rate / floorRate,
      void: why ?? profiled,
    }),
    judge(GOALS.revoke, {
      value: quantile(load.revokeMs, 0.95),
      floor: quantile(load.plainWriteMs, 0.95),
      void: why,
    }),
    judge(GOALS.memory, { value: load.peakMemoryMib, floor: atRest, void: why ?? profiled }),
  ];
}

function renderFloor(floor: Floor, count: number): string {
  const names: Record<keyof Floor, string> = {
    directory: 'LDAP: three entries a tool',
    homes: 'homes, two folders each, a file with fsync and rename',
    replica: 'MariaDB replica: CREATE USER, GRANT, SET DEFAULT ROLE',
    toolsdb: 'MariaDB toolsdb: CREATE USER, two GRANTs',
  };
  return [
    `Plain loops side by side over ${count} tools:`,
    '       s  tools/s',
    ...Object.entries(floor).map(
      ([name, ms]) =>
        `${(ms / 1000).toFixed(1).padStart(8)}${((count / ms) * 1000).toFixed(0).padStart(9)}  ${names[name as keyof Floor]}`,
    ),
  ].join('\n');
}

async function voidIfFailed(goals: readonly Goal[], measure: () => Promise<Figure[]>): Promise<Figure[]> {
  try {
    return await measure();
  } catch (error) {
    const { message, cause } = error as Error;
    const why = cause instanceof Error ? `${message}: ${cause.message}` : message;
    return goals.map((goal) => ({ ...voidFigure(goal, why), holds: false }));
  }
}
