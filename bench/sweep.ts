/**
 * The figures of surveying everything, and of repairing it, in a realm of 10,000 tools and 30,000 people:
 *
 *   survey    `survey --all` without any drift, next to the time that the servers alone take
 *   rest      what the workers take without requests
 *   growth    the same among five times as many, alternating, for each subject
 *   repair    1,000 drifts over every target, by `repair --all --yes`
 *   explain   one page about one of them
 *   idle      from a portal's request to the tool that is ready, while a sweep goes on
 *   history   `status` and `audit` among 10 million requests that were done long ago
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { askForSweep, readSweepOf } from '../src/drift/sweeps-table.ts';
import { mustRun, type Ran, runCommand } from './tools/command.ts';
import { renderProfile } from './tools/cpu-profile.ts';
import { type Figure, judge, quantile, voidIfFailed } from './tools/figure.ts';
import { SWEEP_GOALS, type SweepOptions } from './goals.ts';
import { untilSealed } from './growth.ts';
import { measureHistory } from './sweep/history.ts';
import { latencies, makeTools } from './idle.ts';
import { readCpu } from './load.ts';
import { personName, PEOPLE_FIRST, toolName } from './population/population-names.ts';
import { populate, type Population } from './population/population.ts';
import { beginPeak, cpuSeconds, peakMemoryMib, untilQuiet, watchRest } from './tools/processes.ts';
import { closeAll, type Closers, openWorking, type WorkingRealm } from './realm.ts';
import { damage } from './sweep/sweep-drifts.ts';
import { measureSurveyFloor, type SurveyFloor } from './sweep/sweep-floor.ts';

const GOALS = SWEEP_GOALS;
export const MAINTAINERS = 3;
const SWEEP_LOOK_MS = 50;

/** Measures all figures of surveys, repairs and the sweep. */
export async function measureSweep(options: SweepOptions): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measureAll(options, closers), options.interrupted]);
  } finally {
    await closeAll(closers);
  }
}

async function measureAll(options: SweepOptions, closers: Closers): Promise<Figure[]> {
  const { size, say } = options;
  const among = await openFilled(options, closers, size.among);
  const survey = await voidIfFailed(
    [GOALS.survey, GOALS.surveyRatio, GOALS.surveyCpu, GOALS.memory],
    say,
    () => measureSurvey(among, options),
  );
  const rest = await voidIfFailed([GOALS.rest], say, () => measureRest(among, options));
  const explain = await voidIfFailed([GOALS.explain], say, () => measureExplain(among, options));
  const idle = await voidIfFailed([GOALS.idle], say, () => measureIdle(among, options));
  const repairs = await voidIfFailed([GOALS.repairs], say, () => measureRepairs(among, options));
  const growth = await voidIfFailed([GOALS.growth], say, () =>
    measureGrowth(among, options, closers),
  );
  const history = await voidIfFailed([GOALS.historyStatus, GOALS.historyAudit], say, () =>
    measureHistory(among, options),
  );
  return [...survey, ...growth, ...repairs, ...explain, ...rest, ...idle, ...history];
}

/** A realm of that size, surveyed once. */
export async function openFilled(
  options: Pick<SweepOptions, 'parent' | 'say'>,
  closers: Closers,
  { tools, people }: Population,
): Promise<WorkingRealm> {
  const { say } = options;
  say(`filling a realm with ${tools} tools and ${people} people`);
  const filled = await openWorking(options, closers, (realm) =>
    populate(realm, { tools, people, maintainers: MAINTAINERS }, (line) => say(`  ${line}`)),
  );
  await untilSealed(filled.realm);
  await untilQuiet(filled.work.pid);
  say('surveying it for the first time');
  await mustRun(filled.realm, 0, 'survey', '--all');
  return filled;
}

async function measureSurvey(
  { realm, work }: WorkingRealm,
  { size, profileDir, say, show, void: why }: SweepOptions,
): Promise<Figure[]> {
  const surveys: Ran[] = [];
  const floors: SurveyFloor[] = [];
  const usedSeconds: number[] = [];
  beginPeak(work.pid);
  for (let turn = 0; turn < size.turns; turn++) {
    say(`survey: turn ${turn + 1} of ${size.turns}`);
    floors.push(await measureSurveyFloor(realm, size.among));
    const before = cpuSeconds(work.pid);
    surveys.push(await mustRun(realm, 0, 'survey', '--all'));
    usedSeconds.push(cpuSeconds(work.pid) - before);
  }
  const ofWork = peakMemoryMib(work.pid);
  const ofCommand = Math.max(...surveys.map(({ peakMib }) => peakMib ?? 0));
  const median = (of: readonly number[]) => quantile(of, 0.5);
  const floor = median(floors.map((each) => Math.max(...Object.values(each))));
  const value = median(surveys.map(({ ms }) => ms));
  const used = (median(usedSeconds) / (size.among.tools + size.among.people)) * 1e6;
  show(renderFloor(floors, median));
  show(
    `Peak memory: \`chamberlain work\` with all roles ${ofWork.toFixed(0)} MiB, ` +
      `\`survey --all\` ${ofCommand.toFixed(0)} MiB.`,
  );
  if (profileDir !== undefined) show(await profileSurvey(realm, work, profileDir));
  return [
    judge(GOALS.survey, { value, floor, void: why }),
    judge(GOALS.surveyRatio, { value: value / floor, floor, ratio: value / floor, void: why }),
    judge(GOALS.surveyCpu, { value: used, floor: undefined, void: why }),
    judge(GOALS.memory, { value: Math.max(ofWork, ofCommand), floor: undefined, void: why }),
  ];
}

/** What the workers take without requests, including PostgreSQL's part: counting is done there. */
async function measureRest(
  { realm, work }: WorkingRealm,
  { size, say, show, void: why }: SweepOptions,
): Promise<Figure[]> {
  say('rest: the workers are left alone');
  await untilQuiet(work.pid);
  const [before, begin] = [readCpu(realm), performance.now()];
  const { cpuPercent } = await watchRest(work.pid, size.restMs);
  const seconds = (performance.now() - begin) / 1000;
  const servers = Object.entries(readCpu(realm, before)).map(([name, used]): [string, number] => [
    name,
    (100 * used) / seconds,
  ]);
  const parts: [string, number][] = [['chamberlain work', cpuPercent], ...servers];
  show(`At rest: ${parts.map(([name, of]) => `${name} ${of.toFixed(2)} %`).join(', ')} of a core.`);
  const value = cpuPercent + (Object.fromEntries(servers)['PostgreSQL'] ?? 0);
  return [judge(GOALS.rest, { value, floor: undefined, void: why })];
}

/** A profile of workers that only run three surveys of everything. */
async function profileSurvey(
  realm: WorkingRealm['realm'],
  work: WorkingRealm['work'],
  profileDir: string,
): Promise<string> {
  await work.stop();
  const profiled = await realm.startWork({ profileDir });
  for (let n = 0; n < 3; n++) await mustRun(realm, 0, 'survey', '--all');
  await profiled.stop();
  Object.assign(work, await realm.startWork());
  return renderProfile(profileDir, { program: 'chamberlain work, over three surveys,' });
}

async function measureGrowth(
  among: WorkingRealm,
  options: SweepOptions,
  closers: Closers,
): Promise<Figure[]> {
  const { size, say, show, void: why } = options;
  const grown = await openFilled(options, closers, size.grown);
  const times = { among: [] as number[], grown: [] as number[] };
  for (let turn = 0; turn < size.grownTurns; turn++) {
    say(`growth: turn ${turn + 1} of ${size.grownTurns}`);
    times.among.push((await mustRun(among.realm, 0, 'survey', '--all')).ms);
    times.grown.push((await mustRun(grown.realm, 0, 'survey', '--all')).ms);
  }
  const perSubject = (of: keyof typeof times) =>
    quantile(times[of], 0.5) / (size[of].tools + size[of].people);
  const floor = perSubject('among');
  const value = perSubject('grown');
  const describe = (of: keyof typeof times) =>
    `${size[of].tools} tools and ${size[of].people} people: ` +
    `${(quantile(times[of], 0.5) / 1000).toFixed(2)} s, ${(perSubject(of) * 1000).toFixed(0)} µs a subject`;
  show(`A survey of everything, alternating, p50:\n  ${describe('among')}\n  ${describe('grown')}`);
  return [judge(GOALS.growth, { value: value / floor, floor, ratio: value / floor, void: why })];
}

async function measureRepairs(
  { realm }: WorkingRealm,
  { size, say, show, void: why }: SweepOptions,
): Promise<Figure[]> {
  say(`repair: ${size.drifts} drifts`);
  const drifts = await damage(realm, { ...size.among, maintainers: MAINTAINERS }, size.drifts);
  const planned = await mustRun(realm, 3, 'plan', '--all', '--json');
  const { totals } = JSON.parse(planned.out) as { totals: { subjects: number; steps: number } };
  const { ms, peakMib } = await mustRun(realm, 0, 'repair', '--all', '--yes');
  await mustRun(realm, 0, 'plan', '--all');
  show(
    `repair --all --yes: ${JSON.stringify(totals)} in ${(ms / 1000).toFixed(2)} s, of which a survey ` +
      `as the plan's is ${(planned.ms / 1000).toFixed(2)} s; at most ${(peakMib ?? 0).toFixed(0)} MiB.`,
  );
  const value = drifts / (ms / 1000);
  return [judge(GOALS.repairs, { value, floor: undefined, void: why })];
}

async function measureExplain(
  { realm }: WorkingRealm,
  { size, say, show, void: why }: SweepOptions,
): Promise<Figure[]> {
  say(`explain: ${size.explains} pages`);
  await runCommand(realm, 'explain', toolName(0));
  const times: number[] = [];
  const floors: number[] = [];
  let late = 0;
  for (let n = 0; n < size.explains; n++) {
    const tool = toolName((n * 37) % size.among.tools);
    const person = (n * 101) % size.among.people;
    const words = [
      tool,
      personName(person),
      String(PEOPLE_FIRST + person),
      `/data/project/${tool}`,
    ];
    floors.push((await mustRun(realm, 0, '--help')).ms);
    const { ms, exit, out, err } = await runCommand(realm, 'explain', words[n % 4] ?? tool);
    if (exit !== 0 && exit !== 4) throw new Error(`explain ended with ${exit}: ${out}${err}`);
    if (exit === 4) late += 1;
    times.push(ms);
  }
  const [value, floor] = [quantile(times, 0.5), quantile(floors, 0.5)];
  show(
    `explain: p50 ${value.toFixed(1)} ms, p99 ${quantile(times, 0.99).toFixed(1)} ms, the whole process; ` +
      `\`chamberlain --help\` ${floor.toFixed(1)} ms. In ${late} of ${times.length} a role was late.`,
  );
  return [judge(GOALS.explain, { value, floor, void: why })];
}

/** Tools one after another: some before, some while sweeps go on, some afterwards. */
async function measureIdle(
  { realm, portal }: WorkingRealm,
  { size, say, show, void: why }: SweepOptions,
): Promise<Figure[]> {
  say(`idle: ${size.idleTools} tools without a sweep, and with one`);
  const half = Math.ceil(size.idleTools / 2);
  await makeTools(portal, 'warm', half);
  const calm = await makeTools(portal, 'before', half);
  const client = await realm.connect();
  let isEnough = false;
  const sweeps: number[] = [];
  const sweeping = (async () => {
    while (!isEnough) {
      const begin = performance.now();
      const asked = await askForSweep(client, 'bench', undefined);
      let sweep: Awaited<ReturnType<typeof readSweepOf>>;
      while ((sweep = await readSweepOf(client, asked)) === undefined) await sleep(SWEEP_LOOK_MS);
      // moving: it saw a tool that was just being made
      if (sweep.state !== 'clean' && sweep.state !== 'moving') {
        throw new Error(`the sweep is ${sweep.state}: ${sweep.sentence ?? ''}`);
      }
      sweeps.push(performance.now() - begin);
    }
  })();
  try {
    const busy = await Promise.race([
      makeTools(portal, 'during', size.idleTools),
      sweeping.then(() => Promise.reject(new Error('the sweep ended too early'))),
    ]);
    isEnough = true;
    await sweeping;
    calm.push(...(await makeTools(portal, 'after', half)));
    const [value, floor] = [quantile(latencies(busy), 0.5), quantile(latencies(calm), 0.5)];
    show(
      `From a request to its tool, p50: ${floor.toFixed(1)} ms without a sweep, ${value.toFixed(1)} ms ` +
        `during one; p99: ${quantile(latencies(calm), 0.99).toFixed(1)} ms and ` +
        `${quantile(latencies(busy), 0.99).toFixed(1)} ms. ${sweeps.length} sweeps took ` +
        `${(quantile(sweeps, 0.5) / 1000).toFixed(1)} s each.`,
    );
    return [judge(GOALS.idle, { value: value / floor, floor, ratio: value / floor, void: why })];
  } finally {
    isEnough = true;
    await sweeping.catch(() => {});
    await client.end();
  }
}

function renderFloor(
  floors: readonly SurveyFloor[],
  median: (of: readonly number[]) => number,
): string {
  const names: Record<keyof SurveyFloor, string> = {
    directory: 'a paged dump of the tree',
    homes: 'stat of the same paths, open and read of the same files',
    replica: 'one SELECT of mysql.global_priv on replica',
    toolsdb: 'one SELECT of mysql.global_priv on toolsdb',
  };
  const rows = Object.entries(names).map(([name, text]) => {
    const ms = median(floors.map((each) => each[name as keyof SurveyFloor]));
    return `${(ms / 1000).toFixed(2).padStart(8)}  ${text}`;
  });
  return ['In parallel, p50, s:', ...rows].join('\n');
}
