/** `chamberlain restore`: requests the restoration of a tool, and follows it until everything is in place. */
import { randomUUID } from 'node:crypto';
import type { SentRequest } from '../../backends/redis/queue.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import { withoutRealm } from '../../identity/names.ts';
import type { Role } from '../../reconcile/wanted.ts';
import { commandToRestore, describeProgress } from '../../lifecycle/render-leaving.ts';
import { type Leaver, readLeaving } from '../../lifecycle/leaving-facts.ts';
import {
  findSubjectsByWord,
  type Found,
  look,
  readRoleStatuses,
  type RoleStatus,
} from '../../database/overview.ts';
import { openPool, type Pool } from '../../database/connection.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { parseSeconds } from '../options/seconds.ts';
import { follow, givenUp, reportUndone } from '../follow.ts';
import type { Outcome } from '../../requests/request-progress.ts';
import { type Progress, startProgress } from '../progress.ts';
import { openSubmitter } from '../own-key/submitter.ts';
import { makeSubmission, usage } from '../submission.ts';
import { print, printJson } from '../table.ts';

/** A large home takes hours. */
const TIMEOUT_SECONDS = 24 * 3600;
/** The time between two looks. */
const POLL_MS = 500;
/** How long PostgreSQL may be unreachable before the command ends with the error. */
const FORGIVEN_MS = 60_000;

export function define(command: Command): void {
  command
    .description(
      'Restores a deleted tool from its archives, with the same number, name, databases and home, and a\n' +
        "new database password. Signs the request with the admin's own key, like `submit tool.restore`, and\n" +
        'follows it to its end. If the command is interrupted, the restoration continues by itself.',
    )
    .argument('<TOOL>', 'a tool (bridgebot or tools.bridgebot)')
    .option(
      '--portal-key <file>',
      "the admin's own key, to sign with (default: $CHAMBERLAIN_ADMIN_KEY, or `adminKey` in the configuration)",
    )
    .option('--timeout <seconds>', 'how long to follow it', parseSeconds, TIMEOUT_SECONDS)
    .examples('restore tools.bridgebot', 'restore bridgebot --json')
    .exits({
      0: 'the tool is active, and everything is in place',
      1: 'refused, or a role has given up: see standard error, `CODE: sentence`',
      5: 'not everything is in place after --timeout seconds; the restoration continues',
    })
    .action((tool: string) => restore(command, tool));
}

interface RestoreOptions {
  portalKey?: string;
  timeout: number;
}

async function restore(command: Command, word: string): Promise<void> {
  const options = command.opts<RestoreOptions>();
  const config = configOf(command);
  const json = wantsJson(command);
  const tool = withoutRealm(word, config.realm);
  const signer = await openSubmitter(config, undefined, options.portalKey);
  const submission = makeSubmission({ kind: 'tool.restore', tool }, signer, {}, randomUUID);
  if ('problems' in submission) {
    throw usage(submission.problems.join('; '));
  }
  const { lostSight, openQueues, put } = await import('../sending.ts');
  const pool = openPool(config, 'admin', { max: 1, durable: true });
  const queues = openQueues(config, 'admin');
  const progress = startProgress({ json });
  const start = performance.now();
  try {
    const named = await look(pool, (client) => findSubjectsByWord(client, word));
    if (named.length > 0 && named.every(({ kind }) => kind === 'person')) throw notTool(named);
    const far = { sent: 0, of: 1 };
    const sent = await put(queues, submission, signer, config.realm, far);
    const outcome = await followRestoration(pool, {
      portal: signer.portal,
      id: submission.id,
      sent,
      account: `${config.realm}.${tool}`,
      deadline: start + options.timeout * 1000,
      progress,
    }).catch((cause: unknown) => {
      throw lostSight(submission.id, cause);
    });
    progress.end();
    const elapsedMs = Math.round(performance.now() - start);
    if (json) printJson({ id: submission.id, tool, ...outcome, elapsedMs });
    else if (outcome.done) {
      print(`${config.realm}.${tool} is restored, and everything is in place`);
    }
    if (!outcome.done) reportUndone(outcome, '; the restoration continues');
  } finally {
    progress.end();
    await queues.close();
    await pool.end();
  }
}

/** The error for a word that names a person but no tool: people are restored with another command. */
function notTool([person]: readonly Found[]): ChamberlainError {
  const account = person?.account ?? '';
  const command = commandToRestore({ kind: 'person', account, state: 'deleted' });
  return new ChamberlainError('TOOL_UNKNOWN', `${account} is a person, and no tool has this name`, {
    action: `To restore a deleted person, run \`chamberlain ${command}\`.`,
  });
}

interface Followed {
  portal: string;
  id: string;
  sent: SentRequest;
  account: string;
  /** by performance.now() */
  deadline: number;
  progress: Progress;
}

/**
 * Follows first the request, until it has its verdict and the roles have restored the archives; then the subject,
 * because the calendar makes it active only after that, and everything else is made only then.
 */
async function followRestoration(
  pool: Pool,
  { portal, id, sent, account, deadline, progress }: Followed,
): Promise<Outcome> {
  let accepted = false;
  const seen = { frozen: '' };
  const request = follow(pool, { portal, id, sent }, deadline - performance.now(), {
    onFrozen: (sentence) => (seen.frozen = sentence),
    onAccepted: () => (accepted = true),
    onApplied: () => {},
  });
  // a failure to show progress does not end the wait
  const saying = setInterval(() => {
    if (!accepted) progress.say(seen.frozen === '' ? 'waiting for the verdict' : seen.frozen);
    else {
      void look(pool, (client) => readRestoration(client, account)).then(
        ({ leaver, statuses }) => progress.say(describe(leaver, statuses)),
        () => {},
      );
    }
  }, POLL_MS);
  const outcome = await request.finally(() => clearInterval(saying));
  const { done, waiting, rejected } = outcome;
  const hasFailed = !done && waiting !== true && rejected !== true;
  return hasFailed ? outcome : await followReturn(pool, { account, deadline, progress });
}

async function followReturn(
  pool: Pool,
  { account, deadline, progress }: Pick<Followed, 'account' | 'deadline' | 'progress'>,
): Promise<Outcome> {
  let answeredAt = performance.now();
  for (;;) {
    let sentence = `PostgreSQL has not answered about ${account}`;
    try {
      const { leaver, statuses } = await look(pool, (client) => readRestoration(client, account));
      answeredAt = performance.now();
      const behind = statuses.filter(({ applied, wanted }) => applied !== wanted);
      if (leaver?.state === 'active' && behind.length === 0) {
        return { verdict: 'accepted', done: true };
      }
      const parked = behind.find(({ state }) => state === 'parked');
      if (parked !== undefined) return givenUp(parked);
      sentence = describe(leaver, statuses);
      progress.say(sentence);
    } catch (error) {
      if (performance.now() - answeredAt > FORGIVEN_MS) throw error;
    }
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) return { verdict: 'accepted', done: false, sentence };
    await new Promise((resolve) => setTimeout(resolve, Math.min(POLL_MS, leftMs)));
  }
}

async function readRestoration(
  client: Parameters<typeof readLeaving>[0],
  account: string,
): Promise<{ leaver: Leaver | undefined; statuses: RoleStatus[] }> {
  const [found] = await findSubjectsByWord(client, account);
  if (found === undefined) return { leaver: undefined, statuses: [] };
  const [leaver] = await readLeaving(client, [found.uid]);
  return { leaver, statuses: await readRoleStatuses(client, found.uid) };
}

/** `homes unpacking 1.2 GiB of 3.4 GiB, databases waits for its turn` */
function describe(leaver: Leaver | undefined, statuses: readonly RoleStatus[]): string {
  const open = leaver?.leaving.archivals.findLast(({ backAt }) => backAt === null);
  const doing = new Map<Role, string>();
  for (const { role, progress } of open?.archives ?? []) {
    if (progress !== null) doing.set(role, describeProgress(progress));
  }
  const parts = statuses
    .filter(({ applied, wanted }) => applied !== wanted)
    .map(({ role, code, sentence }) => {
      const act = doing.get(role);
      if (act !== undefined) return `${role} ${act}`;
      return [`${role} not done yet`, code, sentence].filter(Boolean).join(': ');
    });
  if (parts.length > 0) return parts.join(', ');
  return leaver?.state === 'active'
    ? 'everything is in place'
    : 'everything is restored, but the tool is not active yet';
}
