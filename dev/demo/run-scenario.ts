/** The course of the demo: the requests, the proofs, and everything again. */
import { copyFileSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { CHAMBERLAIN, submit, type Outcome } from './chamberlain.ts';
import { run, type StackEnvironment } from './outside.ts';
import { proveDatabases } from './database-proofs.ts';
import { proveDirectory } from './directory-proofs.ts';
import { proveEvents } from './event-proofs.ts';
import { proveHomes } from './home-proofs.ts';
import { readNumbers } from './numbers.ts';
import { countRecords, readLastForgery, untilSettled } from './records.ts';
import { difference, SNAPSHOT_PARTS, takeSnapshot, type Snapshot } from './snapshot.ts';
import { post } from './http.ts';
import { readScenario, type Chapter, type Scene, type Way } from './scenario.ts';
import { forgeToken, pushToken } from './forgery.ts';
import { chapter, check, checkSame, remark } from './output.ts';

/**
 * The admin's answer to carol, signed with the admin's own key: however often it is sent, it is the same
 * request.
 */
const REFUSE_CAROL = JSON.stringify({
  id: '00000000-0000-4000-8000-000000000100',
  kind: 'access.refuse',
  person: 'carol',
  reason: 'Tell us what you would like to do, then ask again.',
});

/** Runs the whole scenario. A failed check is remembered; it throws only if going on would be useless. */
export async function runScenario(
  env: StackEnvironment,
  dir: string,
  signal: AbortSignal,
): Promise<void> {
  const scenario = readScenario();
  const oldCredentials = join(dir, 'bridgebot-old.my.cnf');
  const cast = {
    env,
    signal,
    portal: ['--portal', 'portal', '--portal-key', env['PORTAL_KEY'] ?? ''],
  };
  const isFresh = !existsSync(join(env['DATA_ROOT'] ?? '', 'data/project/bridgebot'));
  const forgery = await forgeToken();

  const [people, access, tools, changes, refusals] = scenario as [
    Chapter,
    Chapter,
    Chapter,
    Chapter,
    Chapter,
  ];
  await runChapter(cast, people);
  await runChapter(cast, access);
  if (isFresh) await showWaiting(cast);
  await submit(
    env,
    [],
    [REFUSE_CAROL],
    (end) =>
      tellEnd('the admin says no, with their own key', 'access.refuse', 'steward', 'accepted', end),
    signal,
  );
  await runChapter(cast, tools);
  try {
    if (isFresh) copyFileSync(credentialsOf(env), oldCredentials);
    await runChapter(cast, changes);
    await untilSettled(env);

    const before = await takeSnapshot(env);
    await runChapter(cast, refusals);
    await pushToken(env, forgery);
    await untilSettled(env);
    checkSame(
      'an attacker who can write to Redis forges a grant',
      await readLastForgery(env),
      'REQUEST_SIGNATURE',
    );
    compare('the refused requests have left nothing', before, await takeSnapshot(env));

    const numbers = await readNumbers(env);
    await proveDirectory(env, numbers);
    await proveHomes(env, numbers);
    await proveDatabases(env, numbers, isFresh ? oldCredentials : undefined);
  } finally {
    rmSync(oldCredentials, { force: true });
  }
  const [created] = tools.scenes;
  if (isFresh && created !== undefined) await proveEvents(env, created.request.id);
  signal.throwIfAborted();
  await runAgain(cast, scenario, forgery);
}

interface Cast {
  env: StackEnvironment;
  signal: AbortSignal;
  /** the options with which `submit` acts as the portal */
  portal: readonly string[];
}

async function runChapter(cast: Cast, { title, way, scenes }: Chapter): Promise<void> {
  cast.signal.throwIfAborted();
  chapter(title, way === 'queue' ? 'by the queue' : 'over HTTP');
  await send(cast, way, scenes, ({ sentence, request, expect }, outcome) =>
    tellEnd(sentence, request.kind, request.requestedBy, expect, outcome),
  );
}

/** Sends requests as the portal, each followed to its end before the next. */
async function send(
  { env, signal, portal }: Cast,
  way: Way,
  scenes: readonly Scene[],
  onEnd: (scene: Scene, outcome: Outcome) => void,
): Promise<void> {
  const lines = scenes.map(({ request }) => request.line);
  const left = scenes.values();
  const report = (outcome: Outcome) => onEnd(left.next().value as Scene, outcome);
  if (way === 'http') await post(env, lines, report, signal);
  else await submit(env, portal, lines, report, signal);
}

function tellEnd(
  sentence: string,
  kind: string,
  by: string,
  expect: string,
  outcome: Outcome,
): void {
  const verdict = verdictOf(outcome);
  const shown = verdict === 'accepted' ? 'done' : verdict;
  const wrong = verdict === expect ? '' : `, instead of ${expect}: ${outcome.sentence ?? ''}`;
  check(
    sentence,
    verdict === expect,
    `${kind.padEnd(18)}  ${by.padEnd(7)}  ${shown}${wrong}`,
    outcome.elapsedMs,
  );
  if (verdict === expect && outcome.sentence !== undefined) remark(outcome.sentence);
}

/**
 * `accepted` if everything is applied, too; a code if it was refused; otherwise the reason why it is not done.
 */
function verdictOf({ verdict, done, code, sentence }: Outcome): string {
  if (verdict === 'accepted' && done) return 'accepted';
  if (verdict === 'refused') return code ?? 'refused';
  return `${verdict ?? 'no verdict'}, not done: ${code ?? ''} ${sentence ?? ''}`;
}

/** What an admin sees of the people who wait for access. */
async function showWaiting({ env }: Cast): Promise<void> {
  const { stdout } = await run(CHAMBERLAIN, ['requests', '--json', '--limit', '1'], { env });
  const { waiting } = JSON.parse(stdout) as { waiting: { person: string; reason: string }[] };
  const seen = waiting.map(({ person, reason }) => `${person}: ${reason}`).join('\n');
  checkSame('chamberlain requests shows who waits', seen, 'carol: Just looking.');
}

/** The same requests again, each the other way: the same verdicts, and nothing changes. */
async function runAgain(cast: Cast, scenario: Chapter[], forgery: string): Promise<void> {
  const { env, signal } = cast;
  chapter('Everything again, each the other way');
  await untilSettled(env);
  await checkPlan(env, 'chamberlain plan --all finds nothing to do');
  const before = await takeSnapshot(env);
  const recorded = await countRecords(env);

  const begin = performance.now();
  const other: string[] = [];
  for (const { way, scenes } of scenario) {
    await send(cast, way === 'http' ? 'queue' : 'http', scenes, ({ sentence, expect }, outcome) => {
      if (verdictOf(outcome) !== expect) other.push(`${sentence}: ${verdictOf(outcome)}`);
    });
  }
  await submit(
    env,
    [],
    [REFUSE_CAROL],
    (outcome) => {
      if (verdictOf(outcome) !== 'accepted') other.push(`carol: ${verdictOf(outcome)}`);
    },
    signal,
  );
  await pushToken(env, forgery);
  await untilSettled(env);
  checkSame(
    `${scenario.flatMap(({ scenes }) => scenes).length + 2} requests get the same verdicts as before`,
    other.join('\n') || 'the same',
    'the same',
    performance.now() - begin,
  );
  checkSame('nothing new is recorded', await countRecords(env), recorded);
  compare('nothing has changed', before, await takeSnapshot(env));
  await checkPlan(env, 'and there is still nothing to do');
}

async function checkPlan(env: StackEnvironment, what: string): Promise<void> {
  const { code, stdout, stderr, ms } = await run(CHAMBERLAIN, ['plan', '--all'], { env });
  check(what, code === 0, (code === 0 ? stdout.split('\n')[0] : `${stdout} ${stderr}`) ?? '', ms);
}

function compare(what: string, before: Snapshot, after: Snapshot): void {
  for (const part of SNAPSHOT_PARTS) {
    const odd = difference(part, before, after);
    const count = `the same ${before[part].length} lines`;
    check(
      `${what}: ${part}`,
      odd.length === 0,
      odd.length === 0 ? count : odd.slice(0, 4).join(' · '),
    );
  }
}

function credentialsOf(env: StackEnvironment): string {
  return join(env['DATA_ROOT'] ?? '', 'data/project/bridgebot/replica.my.cnf');
}
