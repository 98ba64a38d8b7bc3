/** `chamberlain sweep`: what the last sweeps found; `sweep now`; `sweep release`. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Config } from '../../shared/config.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import { timeOf } from '../../shared/time.ts';
import { renderUnmanaged } from '../../unmanaged/render-unmanaged.ts';
import { isFrozen } from '../../database/freeze.ts';
import { isAtWork, readLeaders } from '../../database/locks.ts';
import type { Client } from '../../database/connection.ts';
import { readFar } from '../../drift/sweep-reports.ts';
import * as store from '../../drift/sweeps-table.ts';
import { readUnmanaged } from '../../unmanaged/unmanaged-table.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { describeExamples, describeExits, EXIT, failureLine } from '../exit.ts';
import { printPage } from '../fold.ts';
import { operatorName } from '../operator.ts';
import { startProgress } from '../progress.ts';
import { parseSeconds } from '../seconds.ts';
import { withAdmin } from '../admin.ts';
import { paint, print, printJson, renderAge, renderTable, withoutControls } from '../table.ts';

const LOOK_MS = 250;
const SHOWN = 10;
/** What is not mended is named, so many of it. */
const MOST_NAMED = 20;
const NOBODY = 'is `chamberlain work sweep` running?';
const RESULT_EXITS = {
  0: 'swept: what had drifted is mended',
  1: 'it failed, or something could not be mended: standard error says what',
  3: 'held: more has drifted than is mended without an admin; or frozen; or some is being worked on',
  4: 'something is UNREADABLE, so not everything was seen',
  5: 'not all was done within --timeout seconds; it goes on: what was asked is heeded for an hour',
};

export function defineSweep(command: Command): void {
  command
    .description(
      'Shows the last sweeps, when the next one comes, and what is held and waits for a word. A sweep\n' +
        'surveys everything, on a timer (`sweep.everyMinutes`), and has the roles mend what has drifted:\n' +
        'never more than a share of all subjects (`sweep.mostShare`, at least `sweep.atLeast`), and it\n' +
        'never destroys.',
    )
    .addHelpText(
      'after',
      `
States:
  clean        nothing had drifted
  touched       what had drifted, or had been given up, the roles mend now
  held         more had drifted than may be mended without a word
  frozen       something had drifted, and the realm is frozen
  unreadable   of what could be read, nothing had drifted
  moving       nothing had drifted but what is being worked on
  cut          it failed, or its process ended, in the middle; it is done again
` +
        describeExamples('sweep', 'sweep now', 'sweep release --expect DIGEST') +
        `\n${describeExits({ 3: 'one is held' })}`,
    )
    .action(() => withAdmin(configOf(command), (client) => show(client, command)));

  const now = command.command('now').summary('sweep at once, and wait for what comes of it');
  now
    .description(
      'Has the sweep come at once, under the same rules as any, and waits until what had drifted is mended.',
    )
    .option('--timeout <seconds>', 'how long to wait', parseSeconds, 600)
    .addHelpText(
      'after',
      describeExamples('sweep now', 'sweep now --json') + `\n${describeExits(RESULT_EXITS)}`,
    )
    .action(() => ask(now, undefined));

  const release = command.command('release').summary('let the sweep that is held go on');
  release
    .description(
      'Sweeps anew at once; if what has drifted is what was read, it is mended, however much it is.\n' +
        'Read it before: `chamberlain plan --all`. It shows the same digest, unless some of its steps\n' +
        'destroy, are on their way already, or follow from a backend in doubt: a sweep leaves those.',
    )
    .requiredOption('--expect <digest>', 'as `chamberlain sweep` shows it')
    .option('--timeout <seconds>', 'how long to wait', parseSeconds, 600)
    .addHelpText(
      'after',
      describeExamples('sweep release --expect DIGEST') +
        `\n${describeExits({
          ...RESULT_EXITS,
          1: 'it failed, something could not be mended, or another thing has drifted now: standard error says what',
        })}`,
    )
    .action(async () => {
      const { expect } = release.opts<{ expect: string }>();
      const held = await withAdmin(configOf(release), store.readHeld);
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
      ? (sentence ?? 'nothing is known of it')
      : `what is held has the digest ${digest}`,
  );
}

/** A sweep that has ended, and what of the drifted is not mended. */
interface Outcome {
  swept: store.Sweep;
  left: readonly store.Left[];
  /** why it is not waited for any more, though some may be mended yet */
  why?: string;
}

/** Asks for a sweep, waits until what it touched is mended, and shows what came of it. */
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

/** What came of it; a text where it has not ended in that time. */
async function waitForSweep(
  config: Config,
  digest: string | undefined,
  timeoutMs: number,
  json: boolean,
): Promise<Outcome | string> {
  return withAdmin(config, async (client) => {
    const progress = startProgress({ json });
    const deadline = performance.now() + timeoutMs;
    try {
      const asked = await store.askForSweep(client, operatorName(), digest);
      for (;;) {
        const swept = await store.readHeeding(client, asked);
        if (swept !== undefined) return await followMending(client, swept, deadline, progress.say);
        const [last] = await store.readSweeps(client, 1);
        const isThere = isAtWork(await readLeaders(client), 'sweep');
        if (isThere && last?.state === 'running') progress.say(await describeFar(client, last.id));
        else progress.say(isThere ? 'waiting for the sweep' : `waiting; ${NOBODY}`);
        if (performance.now() >= deadline) {
          return isThere ? 'the sweep has not ended' : `no sweep has begun; ${NOBODY}`;
        }
        await sleep(LOOK_MS);
      }
    } finally {
      progress.end();
    }
  });
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
    if (await isFrozen(client)) return { swept, left, why: 'The realm was frozen meanwhile.' };
    if (performance.now() >= deadline) {
      return { swept, left, why: `TIMEOUT: not mended yet: ${open.length}; it goes on` };
    }
    say(`mending: ${open.length} left`);
    await sleep(LOOK_MS);
  }
}

async function describeFar(client: Client, sweep: string): Promise<string> {
  const far = await readFar(client, sweep);
  const roles = far.map(({ role, done, total }) => `${role} ${done} of ${total}`);
  return ['sweeping', ...(roles.length === 0 ? [] : [roles.join(', ')])].join(': ');
}

function exitOf({ swept: { state, unreadable }, left, why }: Outcome): number {
  if (['held', 'frozen', 'moving'].includes(state)) return EXIT.pending;
  if (why !== undefined) return why.startsWith('TIMEOUT') ? EXIT.timeout : EXIT.pending;
  if (left.length > 0) return EXIT.failed;
  return unreadable > 0 ? EXIT.unreadable : EXIT.done;
}

/** One sweep in some sentences, a line each. */
function describeOutcome({ swept, left }: Outcome): string {
  const { state, subjects, drifted, touched, findings, sentence } = swept;
  const lines = [`${state}: ${subjects} looked at, ${drifted} drifted, ${findings} findings.`];
  if (sentence !== null) lines.push(`${sentence}.`);
  if (drifted > 0 && touched > 0) {
    const notMended = countSubjects(left.filter(({ again }) => !again));
    const mended = Math.max(0, drifted - notMended);
    lines.push(notMended === 0 ? `${mended} mended.` : `${mended} mended, ${notMended} not.`);
  }
  if (touched > drifted) {
    const stuck = countSubjects(left.filter(({ again }) => again));
    const tried = `${touched - drifted} that had been given up are tried again`;
    lines.push(stuck === 0 ? `${tried}.` : `${tried}, ${stuck} not mended.`);
  }
  return lines.map(withoutControls).join('\n');
}

function countSubjects(rows: readonly store.Left[]): number {
  return new Set(rows.map(({ subject }) => subject)).size;
}

async function show(client: Client, command: Command): Promise<void> {
  const config = configOf(command);
  const sweeps = await store.readSweeps(client, SHOWN);
  const held = await store.readHeld(client);
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
  if (sweeps.length > 0) {
    print(
      `${renderTable(
        [
          'began',
          'took',
          'state',
          'subjects',
          'drifted',
          'touched',
          'findings',
          'UNREADABLE',
          'digest',
          'why',
        ],
        sweeps.map((each) => [
          timeOf(each.beganAt),
          each.endedAt === null ? null : renderAge(each.beganAt, each.endedAt),
          each.state,
          each.subjects,
          each.drifted,
          each.touched,
          each.findings,
          each.unreadable,
          each.digest?.slice(0, 12),
          // what is held says so above; what was held before names a word that is of no more use
          each.state === 'held' && (each.digest !== null || each.id === held?.id)
            ? null
            : each.sentence,
        ]),
      )}\n`,
    );
  }
  const notOurs = renderUnmanaged(unmanaged);
  if (notOurs !== '') printPage(`${notOurs.replace(/[^\P{C}\n]/gu, '?')}\n`);
  print(describeNext(isThere, nextAt, config.sweep.everyMinutes, now));
}

function describeNext(
  isThere: boolean,
  nextAt: Date | null,
  everyMinutes: number,
  now: Date,
): string {
  if (!isThere) return 'No sweep will come: start `chamberlain work sweep`.';
  if (nextAt === null || nextAt <= now) return `The next comes within ${everyMinutes} min.`;
  const minutes = Math.ceil((nextAt.getTime() - now.getTime()) / 60_000);
  return `The next comes in ${minutes} min.`;
}
