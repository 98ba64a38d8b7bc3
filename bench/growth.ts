/** Whether one more tool takes longer in a realm that has many. */
import { setTimeout as sleep } from 'node:timers/promises';
import { runCli } from '../dev/servers/stack.ts';
import { type Figure, judge, quantile } from './tools/figure.ts';
import { type ChainOptions, GOALS } from './goals.ts';
import { latencies, makeTools } from './idle.ts';
import { measureMachine, sampleAccount } from './tools/machine.ts';
import { populate } from './population/population.ts';
import { personName, toolName } from './population/population-names.ts';
import { type Closers, type MeasuredRealm, openWorking, type WorkingRealm } from './realm.ts';
import { openTrace } from './tools/stages.ts';

/**
 * Fills a realm, and creates tools alternately in it and in the empty one, so that both meet the same machine.
 */
export async function measureGrowth(
  empty: WorkingRealm,
  options: ChainOptions,
  closers: Closers,
): Promise<Figure[]> {
  const { size, say, show, void: why } = options;
  say(`growth: filling a realm with ${size.tools} tools and ${size.people} people`);
  const filled = await openWorking(options, closers, (realm) =>
    populate(realm, size, (line) => say(`growth: ${line}`)),
  );
  try {
    const { realm, portal } = filled;
    await requireConverged(realm);
    await untilSealed(realm);
    await makeTools(portal, 'warm', Math.ceil(size.growthTools / 4));
    const trace = await openTrace(realm);
    const [among, alone] = [[] as number[], [] as number[]];
    const bare = { among: [] as number[], alone: [] as number[] };
    for (let turn = 0; turn < size.growthTurns; turn++) {
      say(`growth: turn ${turn + 1} of ${size.growthTurns}`);
      alone.push(...latencies(await makeTools(empty.portal, `turn-${turn}`, size.growthTools)));
      const tools = await makeTools(portal, `turn-${turn}`, size.growthTools);
      among.push(...latencies(tools));
      bare.alone.push(...(await sampleAccount(empty.realm, size.growthTools)));
      bare.among.push(...(await sampleAccount(realm, size.growthTools)));
      if (turn === size.growthTurns - 1) show(`In the filled realm. ${await trace.explain(tools)}`);
    }
    await trace.close();
    const [value, floor] = [quantile(among, 0.5), quantile(alone, 0.5)];
    const statements = { among: quantile(bare.among, 0.5), alone: quantile(bare.alone, 0.5) };
    const [more, moreAlone] = [value - floor, statements.among - statements.alone];
    show(
      `Alternating: p50 ${value.toFixed(1)} ms in the filled realm, ${floor.toFixed(1)} ms in the empty one; ` +
        `an account's statements alone ${statements.among.toFixed(1)} and ${statements.alone.toFixed(1)} ms.`,
    );
    show(`In the filled realm. ${(await measureMachine(realm, 100)).table}`);
    return [
      judge(GOALS.growth, { value: value / floor, floor, ratio: value / floor, void: why }),
      judge(GOALS.growthOverFloor, {
        value: more / moreAlone,
        floor: moreAlone,
        ratio: more / moreAlone,
        void: why,
      }),
    ];
  } finally {
    await filled.close(); // the load that follows needs the machine to itself
  }
}

/** Chamberlain's own survey of some subjects: the filled state must be what the chain would have made. */
async function requireConverged({ stack }: MeasuredRealm): Promise<void> {
  const subjects = [0, 1, 2].flatMap((n) => [personName(n), toolName(n)]);
  await runCli(stack.place.configFile, 'plan', ...subjects).catch((cause: unknown) => {
    throw new Error('the filled realm is not as wanted', { cause });
  });
}

/** The sealer must catch up with 40,000 rows of audit, once. */
export async function untilSealed(realm: MeasuredRealm): Promise<void> {
  const client = await realm.connect();
  try {
    for (let look = 0; look < 600; look++) {
      const { rows } = await client.query<{ open: boolean }>(
        'SELECT (SELECT max(id) FROM audit) > coalesce((SELECT max(audit_id) FROM audit_seals), 0) AS open',
      );
      if (rows[0]?.open !== true) return;
      await sleep(100);
    }
    throw new Error('the audit was not sealed within a minute');
  } finally {
    await client.end();
  }
}
