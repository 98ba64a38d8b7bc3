/**
 * The figures of the chain, each next to its floor:
 *
 *   idle    one tool after another: the time from `Queue.add` to `tool.ready`
 *   growth  the same in a realm with 10,000 tools and 30,000 people, alternating with an empty one
 *   load    2,000 tools at once: tools a second, against plain loops on the same servers; access that
 *           is revoked meanwhile; the workers' memory
 *   portals see bench/portals.ts
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { renderProfile } from './tools/cpu-profile.ts';
import { type Figure, type Goal, judge, quantile, voidIfFailed } from './tools/figure.ts';
import { type Floor, measureFloor } from './floor.ts';
import { type ChainOptions, GOALS } from './goals.ts';
import { measureGrowth } from './growth.ts';
import { latencies, makeTools } from './idle.ts';
import { readCpu, renderCosts, renderCpu, runLoad } from './load.ts';
import { measureMachine } from './tools/machine.ts';
import { memoryMib } from './tools/processes.ts';
import { closeAll, type Closers, openWorking, type WorkingRealm } from './realm.ts';
import { measurePortals } from './portals.ts';
import { openTrace } from './tools/stages.ts';

/** Measures all figures of the chain. */
export async function measureChain(options: ChainOptions): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measureAll(options, closers), options.interrupted]);
  } finally {
    await closeAll(closers);
  }
}

async function measureAll(options: ChainOptions, closers: Closers): Promise<Figure[]> {
  options.say('starting servers');
  const empty = await openWorking(options, closers);
  const idle = await voidIfFailed([GOALS.idleP50, GOALS.idleP99], options.say, () =>
    measureIdle(empty, options),
  );
  const growth = await voidIfFailed([GOALS.growth, GOALS.growthOverFloor], options.say, () =>
    measureGrowth(empty, options, closers),
  );
  const load = await voidIfFailed(
    [GOALS.load, GOALS.loadCpu, GOALS.revoke, GOALS.memory],
    options.say,
    () => measureLoad(empty, options),
  );
  const portals = await measurePortals(empty, options);
  return [...idle, ...load.slice(0, 3), ...growth, ...load.slice(3), ...portals];
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
  say('idle: the time of the servers alone');
  const floor = await measureMachine(realm, 100);
  show(floor.table);
  const samples = latencies(tools);
  return [
    judge(GOALS.idleP50, {
      value: quantile(samples, 0.5),
      floor: floor.p50,
      void: why ?? tooSlow(GOALS.idleP50, floor.p50),
    }),
    judge(GOALS.idleP99, {
      value: quantile(samples, 0.99),
      floor: floor.p99,
      void: why ?? tooSlow(GOALS.idleP99, floor.p99),
    }),
  ];
}

/** If a machine's disk and servers alone take as long as the goal allows, nothing of ours is measured. */
function tooSlow({ goal, unit }: Goal, floor: number): string | undefined {
  return floor < goal ? undefined : `the floor alone is ${floor.toFixed(0)} ${unit}`;
}

async function measureLoad(
  { realm, portal, work }: WorkingRealm,
  { size, profileDir, say, show, void: why }: ChainOptions,
): Promise<Figure[]> {
  say(`load: the floor of ${size.loadTools} tools`);
  const before = readCpu(realm);
  const floor = await measureFloor(realm, size.loadTools);
  const floorCpu = readCpu(realm, before);
  const floorRate = size.loadTools / (Math.max(...Object.values(floor)) / 1000);
  show(renderFloor(floor, size.loadTools));
  show(renderCpu('the floor', floorCpu, size.loadTools, Math.max(...Object.values(floor)) / 1000));
  // new workers, so that memory and profile belong to this load only
  await work.stop();
  const loaded = await realm.startWork(profileDir === undefined ? {} : { profileDir });
  await sleep(2000);
  const atRest = memoryMib(loaded.pid);
  say(`load: ${size.loadTools} tools at once`);
  const load = await runLoad(realm, portal, loaded, {
    count: size.loadTools,
    revokes: size.revokes,
    say: (line) => say(`load: ${line}`),
  });
  show(renderCpu('the load', load.cpu, size.loadTools, load.seconds));
  show(renderCosts(load.perTool));
  if (profileDir !== undefined) {
    await loaded.stop();
    show(renderProfile(profileDir, { program: 'chamberlain work' }));
  }
  const rate = size.loadTools / load.seconds;
  show(`The chain made ${rate.toFixed(1)} tools/s, the floor ${floorRate.toFixed(1)} tools/s.`);
  const msOf = (cpu: Record<string, number>) =>
    (Object.values(cpu).reduce((sum, each) => sum + each, 0) / size.loadTools) * 1000;
  const [floorMs, loadMs] = [msOf(floorCpu), msOf(load.cpu)];
  const profiled = profileDir === undefined ? undefined : 'the workers were profiled';
  return [
    judge(GOALS.load, {
      value: rate / floorRate,
      floor: floorRate,
      ratio: rate / floorRate,
      void: why ?? profiled,
    }),
    judge(GOALS.loadCpu, {
      value: floorMs / loadMs,
      floor: floorMs,
      ratio: floorMs / loadMs,
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
    replica: 'MariaDB replica: CREATE USER',
    toolsdb: 'MariaDB toolsdb: a GRANT that makes the account',
  };
  return [
    `Plain loops in parallel over ${count} tools:`,
    '       s  tools/s',
    ...Object.entries(floor).map(
      ([name, ms]) =>
        `${(ms / 1000).toFixed(1).padStart(8)}${((count / ms) * 1000).toFixed(0).padStart(9)}  ${names[name as keyof Floor]}`,
    ),
  ].join('\n');
}
