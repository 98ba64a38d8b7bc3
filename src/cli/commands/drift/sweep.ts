/** `chamberlain sweep`: shows the last sweeps; `sweep now`; `sweep release`. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../../shared/config.ts';
import { ChamberlainError } from '../../../shared/errors.ts';
import { timeOf } from '../../../shared/time.ts';
import { renderUnmanaged } from '../../../unmanaged/render-unmanaged.ts';
import { isFrozen } from '../../../database/freeze.ts';
import { isAtWork, readLeaders } from '../../../database/locks.ts';
import type { Client } from '../../../database/connection.ts';
import { readProgress } from '../../../drift/reports-table.ts';
import * as store from '../../../drift/sweeps-table.ts';
import { readUnmanaged } from '../../../unmanaged/unmanaged-table.ts';
import type { Command } from '../../command.ts';
import { configOf, wantsJson } from '../../configuration.ts';
import { EXIT, failureLine } from '../../exit.ts';
import { printPage } from '../../fold.ts';
import { operatorName } from '../../operator.ts';
import { withProgress } from '../../progress.ts';
import { parseSeconds } from '../../options/seconds.ts';
import { withAdmin } from '../../admin.ts';
import { count, printable, printableLines } from '../../../shared/printable.ts';
import { paint, print, printJson, renderAge, renderColumns } from '../../table.ts';

const LOOK_MS = 250;
const REDIS_LIMIT_MS = 4000;
const SHOWN = 10;
/** How many of the subjects that are not corrected are named. */
const MOST_NAMED = 20;
const NOBODY = 'is `chamberlain work sweep` running?';
const RESULT_EXITS = {
  0: 'swept: what had drifted is corrected',
  1: 'the command failed, or something could not be corrected: see standard error',
  3: 'the sweep is held, or the realm is frozen, or other work on a subject that has drifted continues',
  4: 'something is UNREADABLE, so not everything was checked',
  5: 'not finished within --timeout seconds; the sweep continues',
};

export function define(command: Command): void {
  command
    .description(
      'Shows the last sweeps, when the next one comes, and whether one is held until an admin releases it.\n' +
        'A sweep runs on a timer (`sweep.everyMinutes`). It surveys everything, and has the roles correct\n' +
        'what has drifted. If too many subjects have drifted (more than `sweep.atLeast`, and more than the\n' +
        'share `sweep.mostShare` of all), it corrects none of them and is held. It never destroys data.',
    )
    .addHelpText(
      'after',
      `
States:
  clean        nothing had drifted
  touched      the roles are correcting what had drifted, or trying again what they had given up on
  held         too much had drifted; an admin must release the sweep
  frozen       something had drifted, but the realm is frozen
  unreadable   something could not be read; in the rest, nothing had drifted
  moving       the only differences are on subjects that a role is working on
  cut          interrupted: the sweep failed or its process ended; it is repeated`,
    )
    .examples('sweep', 'sweep now', 'sweep release --expect DIGEST')
    .exits({ 3: 'a sweep is held' })
    .action(() => withAdmin(configOf(command), (client) => show(client, command)));

  const now = command.command('now').summary('sweep at once, and wait for the result');
  now
    .description(
      'Starts a sweep at once, under the same rules as any other, and waits until what had drifted is\n' +
        'corrected.',
    )
    .option('--timeout <seconds>', 'how long to wait', parseSeconds, 600)
    .examples('sweep now', 'sweep now --json')
    .exits(RESULT_EXITS)
    .action(() => ask(now, undefined));

  const release = command.command('release').summary('let the sweep that is held continue');
  release
    .description(
      'Sweeps again at once. If what has drifted still has the given digest, the roles correct all of it,\n' +
        'however much it is. Read it first, with `chamberlain plan --all`. That shows the same digest, unless\n' +
        'it has steps that a sweep leaves out: those that destroy data, those that a role is already\n' +
        'carrying out, and those that follow from a server in doubt. A release expires if no sweep uses it\n' +
        'within an hour.',
    )
    .requiredOption('--expect <digest>', 'the digest that `chamberlain sweep` shows (required)')
    .option('--timeout <seconds>', 'how long to wait', parseSeconds, 600)
    .examples('sweep release --expect DIGEST')
    .exits({
      ...RESULT_EXITS,
      1: 'the command failed, something could not be corrected, or something else has drifted: see standard error',
    })
    .action(async () => {
      const { expect } = release.opts<{ expect: string }>();
      const { held } = await withAdmin(configOf(release), store.readLastSweeps);
      if (held === undefined) {
        if (wantsJson(release)) printJson({ held: null });
        else print('No sweep is held.');
        return;
      }
      if (held.digest !== expect) throw moved(held);
      await ask(release, expect);
    });
}

function moved({ digest, sentence }: store.Sweep): ChamberlainError {
  return new ChamberlainError(
    'PLAN_MOVED',
    digest === null
      ? (sentence ?? 'the held sweep has no digest')
      : `the held sweep has the digest ${digest}`,
    {
      action:
        'Read `chamberlain plan --all` again, and give the digest that `chamberlain sweep` shows with `--expect`.',
    },
  );
}

/** A sweep that has ended, and what is not corrected yet. */
interface Outcome {
  swept: store.Sweep;
  left: readonly store.Left[];
  /** why the command waits no longer, though the rest may still be corrected */
  why?: string;
}

/** Asks for a sweep, waits until what it touched is corrected, and shows the outcome. */
async function ask(command: Command, digest: string | undefined): Promise<void> {
  const config = configOf(command);
  const json = wantsJson(command);
  const { timeout } = command.opts<{ timeout: number }>();
  const outcome = await waitForSweep(config, digest, timeout * 1000, json);
  if (typeof outcome === 'string') {
    process.stderr.write(`TIMEOUT: ${outcome}\n`);
    process.exitCode = EXIT.timeout;
    return;
  }
  const { swept, left, why } = outcome;
  if (swept.state === 'held' && digest !== undefined) throw moved(swept);
  process.exitCode = exitOf(outcome);
  if (json) printJson({ ...swept, left });
  else print(describeOutcome(outcome));
  for (const { account, role, code, sentence } of left.slice(0, MOST_NAMED)) {
    if (code !== null) {
      process.stderr.write(`${failureLine(code, `${account}, ${role}: ${sentence ?? ''}`)}\n`);
    }
  }
  if (why !== undefined) process.stderr.write(`${why}\n`);
}

/** The outcome; a text if the sweep has not ended in that time. */
async function waitForSweep(
  config: Config,
  digest: string | undefined,
  timeoutMs: number,
  json: boolean,
): Promise<Outcome | string> {
  return withAdmin(config, async (client) => {
    await requireRedis(config);
    const deadline = performance.now() + timeoutMs;
    return await withProgress(json, async (say) => {
      const asked = await store.askForSweep(client, operatorName(), digest);
      for (;;) {
        const swept = await store.readSweepOf(client, asked);
        if (swept !== undefined) return await followMending(client, swept, deadline, say);
        const [last] = await store.readSweeps(client, 1);
        const isThere = isAtWork(await readLeaders(client), 'sweep');
        if (isThere && last?.state === 'running') say(await describeSweeping(client, last.id));
        else say(isThere ? 'waiting for the sweep' : `waiting; ${NOBODY}`);
        if (performance.now() >= deadline) {
          return isThere ? 'the sweep has not ended' : `no sweep has begun; ${NOBODY}`;
        }
        await sleep(LOOK_MS);
      }
    });
  });
}

/** Without Redis no role is asked, and the sweep would wait in vain for their answers. Throws BACKEND_UNAVAILABLE. */
async function requireRedis(config: Config): Promise<void> {
  // only here: the client of Redis takes a tenth of a second to load
  const { findRedisFault, redisAddress } =
    await import('../../../backends/redis/redis-connection.ts');
  const why = await findRedisFault(config, REDIS_LIMIT_MS);
  if (why === undefined) return;
  const what = `asking for a sweep: Redis does not answer at ${redisAddress(config)}`;
  throw new ChamberlainError('BACKEND_UNAVAILABLE', what, { cause: new Error(why) });
}

async function followMending(
  client: Client,
  swept: store.Sweep,
  deadline: number,
  say: (text: string) => void,
): Promise<Outcome> {
  for (;;) {
    const left = swept.touched === 0 ? [] : await store.readLeft(client, swept);
    const open = left.filter(({ state }) => state !== 'parked');
    if (open.length === 0) return { swept, left };
    if (await isFrozen(client)) return { swept, left, why: 'The realm has been frozen meanwhile.' };
    if (performance.now() >= deadline) {
      return { swept, left, why: `TIMEOUT: ${open.length} not corrected yet; the work continues` };
    }
    say(`correcting: ${open.length} left`);
    await sleep(LOOK_MS);
  }
}

async function describeSweeping(client: Client, sweep: string): Promise<string> {
  const far = (await readProgress(client)).filter(({ survey }) => survey === sweep);
  const roles = far.map(({ role, done, total }) => `${role} ${done} of ${total}`);
  return ['sweeping', ...(roles.length === 0 ? [] : [roles.join(', ')])].join(': ');
}

function exitOf({ swept: { state, unreadable }, left, why }: Outcome): number {
  if (['held', 'frozen', 'moving'].includes(state)) return EXIT.pending;
  if (why !== undefined) return why.startsWith('TIMEOUT') ? EXIT.timeout : EXIT.pending;
  if (left.length > 0) return EXIT.failed;
  return unreadable > 0 ? EXIT.unreadable : EXIT.done;
}

/** One sweep in a few sentences, one on each line. */
function describeOutcome({ swept, left }: Outcome): string {
  const { state, subjects, drifted, touched, findings, sentence } = swept;
  const lines = [
    `${state}: ${subjects} checked, ${drifted} drifted, ${count(findings, 'finding')}.`,
  ];
  if (sentence !== null) lines.push(`${sentence}.`);
  if (drifted > 0 && touched > 0) {
    const notCorrected = countSubjects(left.filter(({ again }) => !again));
    const corrected = Math.max(0, drifted - notCorrected);
    lines.push(
      notCorrected === 0
        ? `${corrected} corrected.`
        : `${corrected} corrected, ${notCorrected} not.`,
    );
  }
  if (touched > drifted) {
    const stuck = countSubjects(left.filter(({ again }) => again));
    const tried = `${count(touched - drifted, 'parked subject')} tried again`;
    lines.push(stuck === 0 ? `${tried}.` : `${tried}, ${stuck} not corrected.`);
  }
  return lines.map(printable).join('\n');
}

function countSubjects(rows: readonly store.Left[]): number {
  return new Set(rows.map(({ subject }) => subject)).size;
}

async function show(client: Client, command: Command): Promise<void> {
  const config = configOf(command);
  const sweeps = await store.readSweeps(client, SHOWN);
  const { held } = await store.readLastSweeps(client);
  const nextInMs = await store.readNextInMs(client, config.sweep.everyMinutes);
  const isThere = isAtWork(await readLeaders(client), 'sweep');
  const unmanaged = await readUnmanaged(client);
  if (held !== undefined) process.exitCode = EXIT.pending;
  const now = new Date();
  const nextAt = nextInMs === undefined ? null : new Date(now.getTime() + nextInMs);
  if (wantsJson(command)) {
    printJson({ sweeps, held: held ?? null, nextAt, running: isThere, unmanaged });
    return;
  }
  if (held !== undefined) print(`${paint('red', `Held: ${held.sentence ?? ''}.`)}\n`);
  // the held sweep is shown above, and the release that an earlier one names is of no more use
  const isSaidAbove = ({ state, digest, id }: store.Sweep) =>
    state === 'held' && (digest !== null || id === held?.id);
  if (sweeps.length > 0) {
    print(
      `${renderColumns(sweeps, [
        ['began', (s) => timeOf(s.beganAt)],
        ['took', (s) => s.endedAt && renderAge(s.beganAt, s.endedAt)],
        ['state', (s) => s.state],
        ['subjects', (s) => s.subjects],
        ['drifted', (s) => s.drifted],
        ['touched', (s) => s.touched],
        ['findings', (s) => s.findings],
        ['UNREADABLE', (s) => s.unreadable],
        ['digest', (s) => s.digest?.slice(0, 12)],
        ['why', (s) => (isSaidAbove(s) ? null : s.sentence)],
      ])}\n`,
    );
  }
  const notOurs = renderUnmanaged(unmanaged);
  if (notOurs !== '') printPage(`${printableLines(notOurs)}\n`);
  print(describeNext(isThere, nextAt, config.sweep.everyMinutes, now));
}

function describeNext(
  isThere: boolean,
  nextAt: Date | null,
  everyMinutes: number,
  now: Date,
): string {
  if (!isThere) return 'No worker runs sweeps: start `chamberlain work sweep`.';
  if (nextAt === null || nextAt <= now) return `The next sweep comes within ${everyMinutes} min.`;
  const minutes = Math.ceil((nextAt.getTime() - now.getTime()) / 60_000);
  return `The next sweep comes in ${minutes} min.`;
}
