/** Signs requests, puts them into their queue, and follows them. */
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { type Config, findSecret } from '../shared/config.ts';
import {
  mayHaveArrived,
  openQueues,
  type Queues,
  type SentRequest,
} from '../backends/redis/queue.ts';
import type { RedisAccount } from '../backends/redis/redis-connection.ts';
import { ChamberlainError, codeOf } from '../shared/errors.ts';
import { openPool } from '../database/connection.ts';
import { configOf, wantsJson } from './configuration.ts';
import { EXIT, failureLine } from './exit.ts';
import { follow, type Ending } from './follow.ts';
import {
  findSubmitter,
  type Line,
  makeSubmission,
  sign,
  type Signer,
  type Speaker,
  type Submission,
} from './submission.ts';
import { startProgress } from './progress.ts';
import { paint, print, printJson, withoutControls } from './table.ts';

export { readRequestLines } from './submission.ts';

export interface SubmitOptions extends Speaker {
  file?: string;
  portal?: string;
  portalKey?: string;
  wait?: true;
  timeout: number;
  id?: string;
}

/** Sends requests as the options of `submit` say. Each line says where it comes from, for messages. */
export async function submit(command: Command, lines: readonly Line[]): Promise<void> {
  const options = command.optsWithGlobals<SubmitOptions>();
  const config = configOf(command);
  const signer = findSubmitter(config, options.portal, options.portalKey);
  const submissions = makeSubmissions(lines, signer, options);
  const json = wantsJson(command);
  if (options.wait) await sendAndFollow(config, signer, submissions, options.timeout, json);
  else await send(config, signer, submissions, json);
}

/** The requests to send. If a line is wrong, none is sent: throws USAGE after it has checked every line. */
function makeSubmissions(
  lines: readonly Line[],
  signer: Signer,
  options: SubmitOptions,
): Submission[] {
  const { id } = options;
  if (id !== undefined && lines.length !== 1) {
    throw new ChamberlainError('USAGE', '--id can be given only for a single request');
  }
  const submissions: Submission[] = [];
  const wrong: string[] = [];
  for (const line of lines) {
    const made =
      'problems' in line
        ? line
        : makeSubmission(
            id === undefined ? line.request : { ...line.request, id },
            signer,
            options,
            randomUUID,
          );
    if ('problems' in made) wrong.push(`${line.where}${made.problems.join('; ')}`);
    else submissions.push(made);
  }
  const [first, ...others] = wrong;
  if (first === undefined) return submissions;
  if (others.length === 0) throw new ChamberlainError('USAGE', first);
  for (const text of wrong) process.stderr.write(`${withoutControls(text)}\n`);
  throw new ChamberlainError(
    'USAGE',
    `${wrong.length} of ${lines.length} requests are wrong, so nothing was sent`,
  );
}

async function send(
  config: Config,
  signer: Signer,
  submissions: readonly Submission[],
  json: boolean,
): Promise<void> {
  const queues = openQueues(config, senderAccount(config, signer));
  const progress = startProgress({ json: true }); // without a terminal, the ids are enough
  try {
    for (const [sent, submission] of submissions.entries()) {
      progress.say(`sending ${submission.kind}, ${sent + 1} of ${submissions.length}`);
      await put(queues, submission, signer, config.realm, { sent, of: submissions.length });
      const { id, kind } = submission;
      if (json) printJson({ id, kind, portal: signer.portal });
      else print(id);
    }
    progress.end();
    if (!json && process.stdout.isTTY) print(paint('dim', hintOn(submissions)));
  } finally {
    progress.end();
    await queues.close();
  }
}

/** A request that was sent is not accepted yet: this says how to see the outcome. */
function hintOn([first, ...others]: readonly Submission[]): string {
  const of = others.length === 0 ? ` ${first?.id ?? ''}` : '';
  return `sent; \`chamberlain requests${of}\` shows ${of === '' ? 'their verdicts' : 'the verdict'}`;
}

/**
 * Signs a request and puts it into its queue. If Redis fails, the error says what was sent, because nothing sends
 * the rest by itself.
 *
 * @param far how many requests were sent before this one, and how many there are
 */
export async function put(
  queues: Queues,
  submission: Submission,
  signer: Signer,
  realm: string,
  far: { sent: number; of: number },
): Promise<SentRequest> {
  const { token, urgent } = await sign(submission, signer, realm, new Date());
  try {
    return await queues.addRequest(signer.portal, token, urgent);
  } catch (cause) {
    const before = far.sent === 0 ? '' : `${far.sent} of ${far.of} requests were sent`;
    if (!mayHaveArrived(cause)) {
      const what = far.of === 1 ? 'it again' : far.sent === 0 ? 'them again' : 'the others';
      throw new ChamberlainError(codeOf(cause), before || 'nothing was sent', {
        cause,
        action: `Check that the server runs and can be reached. Then send ${what}.`,
      });
    }
    const { id, kind } = submission;
    const others = far.sent + 1 === far.of ? '' : ', and then the others';
    throw new ChamberlainError(
      codeOf(cause),
      `${before && `${before}, and `}${id} may have been sent`,
      {
        cause,
        action: `Check that the server runs and can be reached. Then send that one again with \`chamberlain submit ${kind} … --id ${id}\`${others}: with the same id it counts once.`,
      },
    );
  }
}

/** The error when a request was sent, but the server used to follow it fails. A portal cannot run `requests` later. */
export function lostSight(
  id: string,
  cause: unknown,
  { notSent = 0, isPortal = false } = {},
): ChamberlainError {
  const others = notSent === 0 ? '' : `; ${notSent} more were not sent`;
  return new ChamberlainError(codeOf(cause), `${id} was sent, but cannot be followed${others}`, {
    cause,
    action: isPortal
      ? `When that is corrected, send it again with \`--id ${id} --wait\`: with the same id it counts once.`
      : `When that is corrected, \`chamberlain requests ${id}\` shows the verdict.`,
  });
}

/** The Redis account of the admin, or the portal's own if the admin's secret is not on this machine. */
function senderAccount(config: Config, { portal, admin }: Signer): RedisAccount {
  if (admin !== undefined || isReadable(() => findSecret(config, 'redis', 'admin'))) return 'admin';
  return isReadable(() => findSecret(config, 'redis', `portal.${portal}`))
    ? `portal.${portal}`
    : 'admin';
}

function isReadable(find: () => string | undefined): boolean {
  try {
    return find() !== undefined;
  } catch {
    return false; // the file belongs to another user
  }
}

async function sendAndFollow(
  config: Config,
  signer: Signer,
  submissions: readonly Submission[],
  timeoutSeconds: number,
  json: boolean,
): Promise<void> {
  // a portal follows its requests with its own Redis account
  const isPortal =
    signer.admin === undefined && !isReadable(() => findSecret(config, 'postgres', 'admin'));
  const pool = isPortal ? undefined : openPool(config, 'admin', { max: 1, durable: true });
  const queues = openQueues(config, senderAccount(config, signer));
  // progress goes to standard error, so that standard output has only the ids
  const progress = startProgress({ json: true });
  const say = (text: string) => {
    progress.erase();
    if (!json) process.stderr.write(`${text}\n`);
  };
  const tick = paint('green', '✓', process.stderr);
  try {
    for (const [count, submission] of submissions.entries()) {
      const { id, kind } = submission;
      const which = `${kind}, ${count + 1} of ${submissions.length}`;
      progress.say(`waiting for the verdict on ${which}`);
      const start = performance.now();
      const elapsedMs = () => Math.round(performance.now() - start);
      const far = { sent: count, of: submissions.length };
      const sent = await put(queues, submission, signer, config.realm, far);
      if (!json) print(id);
      const ending = await follow(
        pool,
        { portal: signer.portal, id, sent },
        timeoutSeconds * 1000,
        {
          onFrozen: (sentence) => say(`  ${paint('yellow', '…', process.stderr)} ${sentence}`),
          onAccepted() {
            say(`  ${tick} accepted ${elapsedMs()} ms`);
            progress.say(`waiting for the roles to apply ${which}`);
          },
          onApplied: (role) => say(`  ${tick} ${role} ${elapsedMs()} ms`),
        },
      ).catch((cause: unknown) => {
        const notSent = submissions.length - count - 1;
        throw lostSight(id, cause, { notSent, isPortal });
      });
      if (json)
        printJson({
          id,
          kind,
          portal: signer.portal,
          ...describeEnding(ending),
          elapsedMs: elapsedMs(),
        });
      if (ending.ending === 'applied') say(`  ${tick} applied ${elapsedMs()} ms`);
      else {
        progress.erase();
        report(id, ending);
      }
    }
  } finally {
    progress.end();
    await queues.close();
    await pool?.end();
  }
}

/** The ending, for programs: the verdict, and whether the request is applied everywhere. */
function describeEnding(ending: Ending): Record<string, unknown> {
  if (ending.ending === 'applied') return { verdict: 'accepted', done: true };
  if (ending.ending === 'waiting') {
    return { verdict: 'accepted', done: false, waiting: true, sentence: ending.sentence };
  }
  if (ending.ending === 'rejected') {
    return { verdict: 'accepted', done: false, rejected: true, sentence: ending.sentence };
  }
  if (ending.ending === 'timeout') {
    return { verdict: ending.accepted ? 'accepted' : null, done: false, sentence: ending.sentence };
  }
  const { code, sentence } = ending;
  return {
    verdict: ending.ending === 'refused' ? 'refused' : 'accepted',
    done: false,
    code,
    sentence,
  };
}

/** Says why, and keeps the worst exit code of all requests: a refusal is worse than a timeout. */
function report(id: string, ending: Exclude<Ending, { ending: 'applied' }>): void {
  if (ending.ending === 'waiting') {
    process.stderr.write(
      `WAITING: ${ending.sentence.replace(/\.$/u, '')}: \`chamberlain submit request.approve --request ${id}\`.\n`,
    );
    process.exitCode ??= EXIT.pending;
    return;
  }
  if (ending.ending === 'rejected') {
    process.stderr.write(`REJECTED: ${ending.sentence}\n`);
    process.exitCode = EXIT.failed;
    return;
  }
  if (ending.ending === 'timeout') {
    process.stderr.write(`TIMEOUT: ${ending.sentence}\n`);
    if (process.exitCode !== EXIT.failed) process.exitCode = EXIT.timeout;
    return;
  }
  const { code, sentence } = ending;
  process.stderr.write(
    `${ending.ending === 'refused' ? `${code}: ${sentence}` : failureLine(code, sentence)}\n`,
  );
  process.exitCode = EXIT.failed;
}
