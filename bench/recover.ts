/**
 * The figure of a recovery in a realm of 10,000 tools and 30,000 people: from `chamberlain recover --database` to its list,
 * all servers available, beside what the servers alone take to tell everything. 1,000 subjects have drifted, so that
 * there is evidence.
 */
import { runCommand } from './command.ts';
import { type Figure, judge } from './figure.ts';
import { RECOVER_GOALS, type SweepOptions } from './goals.ts';
import { closeAll, type Closers } from './realm.ts';
import { damage } from './sweep-drifts.ts';
import { measureSurveyFloor } from './sweep-floor.ts';
import { MAINTAINERS, openFilled } from './sweep.ts';

export async function measureRecover(options: SweepOptions): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measure(options, closers), options.interrupted]);
  } finally {
    await closeAll(closers);
  }
}

async function measure(options: SweepOptions, closers: Closers): Promise<Figure[]> {
  const { size, say, show, void: why } = options;
  const { realm } = await openFilled(options, closers, size.among);
  const floors = await measureSurveyFloor(realm, size.among);
  await damage(realm, { ...size.among, maintainers: MAINTAINERS }, size.drifts);
  say('recover: the list');
  const listed = await runCommand(realm, 'recover', '--database', '--json');
  if (listed.exit !== 3) {
    throw new Error(`recover ended with ${listed.exit}: ${listed.err.slice(0, 1000)}`);
  }
  const { digest, takings } = JSON.parse(listed.out) as { digest: string; takings: unknown[] };
  say('recover: confirmed');
  const done = await runCommand(realm, 'recover', '--database', '--json', '--expect', digest);
  if (done.exit !== 0) {
    throw new Error(`recover ended with ${done.exit}: ${done.err.slice(0, 1000)}`);
  }
  show(
    `Taken of ${takings.length} subjects; confirmed, it read everything again and was done in ` +
      `${(done.ms / 1000).toFixed(1)} s.`,
  );
  const [value, floor] = [listed.ms / 1000, Math.max(...Object.values(floors)) / 1000];
  return [judge(RECOVER_GOALS.list, { value, floor, ratio: value / floor, void: why })];
}
