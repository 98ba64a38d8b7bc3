/**
 * Carries out the surveys and repairs that admins request (survey.run, repair.run), one after another, in the process that
 * has the lease of the sweep: it may ask the roles, and intake may not. They are made as by the commands `survey`, `plan`
 * and `repair`, and kept for the API.
 *
 * | at a try                                           | then                                                 |
 * | -------------------------------------------------- | ---------------------------------------------------- |
 * | a survey ends                                      | it is kept, with what could not be read              |
 * | a repair whose plan has another digest             | PLAN_MOVED; the plan as it is now is kept            |
 * | a repair of the plan that was seen                 | each part has its outcome; what destroys is withheld |
 * | the process ends, or a server is away              | it is tried again, up to three times                 |
 * | the same, after the roles were given the repair    | it ends with the parts that are known to have ended  |
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Leased } from '../database/leased.ts';
import { hearNotices } from '../database/notices.ts';
import type { Client } from '../database/connection.ts';
import { isHeeded } from '../reconcile/plan.ts';
import { countPlan } from '../reconcile/render-plan.ts';
import type { Report } from '../reconcile/report.ts';
import type { Config } from '../shared/config.ts';
import { ChamberlainError, codeOf, describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import { plain } from '../shared/plain.ts';
import { type Asked, askSurvey, withAccount } from './asking.ts';
import { actsOf, draftRepair, refuseFrozen } from './drafting.ts';
import { followRepair, type FollowedPart, type Owed } from './follow-repair.ts';
import {
  endSurvey,
  type KeptEnding,
  type KeptItem,
  recordKeptRepair,
  takeSurvey,
  type TakenSurvey,
} from './kept-surveys-table.ts';
import { mayBegin } from './repair-parts.ts';
import { endingOf } from './repaired.ts';
import { beginRepair, readEnded } from './repairs-table.ts';
import { groupSurvey } from './survey-groups.ts';

/** How long a role may give no sign, as of the commands. */
const SILENT_MS = 30_000;
/** Notices may be lost, so it is looked this often whether a survey is requested. */
const LOOK_MS = 5000;
const MOST_TRIES = 3;
/** How many accounts of a group are named. */
const FIRST = 5;

type Running = Pick<Leased, 'client'> & { config: Config; log: Log; held: AbortSignal };

/** Carries out whatever is requested, until the lease ends. Never throws. */
export async function runKeptSurveys(of: Running): Promise<void> {
  const { client, config, log, held } = of;
  const asked = hearNotices(client, ({ channel }) => channel === 'chamberlain_sweep');
  while (!held.aborted) {
    try {
      if (await withAccount(config, 'sweep', (own) => runNext(of, own))) continue;
      await asked.wait(LOOK_MS, held);
    } catch (error) {
      if (held.aborted) break;
      log.warn({ error: describeError(error) }, 'a requested survey failed');
      await sleep(LOOK_MS, undefined, { signal: held }).catch(() => {});
    }
  }
  asked.close();
}

/** Carries out the next one. Returns false if there is none. */
async function runNext(of: Running, own: Client): Promise<boolean> {
  const taken = await takeSurvey(own);
  if (taken === undefined) return false;
  const { id, kind, by, tries } = taken;
  of.log.info({ survey: id, kind, by, tries }, 'a survey was requested');
  const ending = await carryOut(of, own, taken).catch((error: unknown) => {
    if (of.held.aborted || tries < MOST_TRIES) throw error;
    return failedWith(codeOf(error), describeError(error));
  });
  await endSurvey(own, taken, ending);
  return true;
}

async function carryOut(of: Running, own: Client, taken: TakenSurvey): Promise<KeptEnding> {
  if (taken.isRepairing) return interrupted(own, taken);
  const say = () => of.held.throwIfAborted();
  const asked = await askSurvey(of.config, 'sweep', { ...taken, timeoutMs: SILENT_MS, say });
  const kept = keep(asked);
  if (taken.expected === undefined) return kept;
  const failed = ({ code, message }: { code: string; message: string }): KeptEnding => ({
    ...kept,
    result: { ...kept.result, code, sentence: message },
  });
  if (taken.expected !== asked.digest) {
    const message = `the digest is ${asked.digest} now, not ${taken.expected}; nothing was done`;
    return failed({ code: 'PLAN_MOVED', message });
  }
  try {
    await refuseFrozen(own);
  } catch (error) {
    if (error instanceof ChamberlainError) return failed(error);
    throw error;
  }
  return repair(of, own, { taken, asked, kept });
}

async function repair(
  { config, held }: Running,
  own: Client,
  { taken, asked, kept }: { taken: TakenSurvey; asked: Asked; kept: KeptEnding },
): Promise<KeptEnding> {
  const { id, subjects, target } = taken;
  const policy = { destroy: false, target };
  const { parts, withheld } = await draftRepair(own, asked.reports, { ...policy, subjects });
  if (parts.length === 0) return outcomeOf(kept, [], [], withheld.length);
  held.throwIfAborted();
  await beginRepair(own, { id, parts: mayBegin(parts) }, () =>
    recordKeptRepair(own, id, actsOf(parts)),
  );
  const say = () => held.throwIfAborted();
  const done = await followRepair(config, 'sweep', { id, parts, timeoutMs: SILENT_MS, say });
  return outcomeOf(kept, done.parts, done.owed, withheld.length);
}

/** A survey as it is kept. Steps are kept as people read them: their actions hold values of attributes. */
function keep({ report, digest }: Asked): KeptEnding {
  const { steps, findings, waiting, unreadable, unmanaged = [] } = report;
  const groups = groupSurvey(report).map(({ items, ...group }) => ({
    ...group,
    first: items.slice(0, FIRST).flatMap(({ account }) => account ?? []),
  }));
  const totals = { ...countPlan(report), ignored: ignoredIn(report) };
  const list = (name: KeptItem['list'], of: readonly { subject?: number }[]): KeptItem[] =>
    of.map((item) => ({ list: name, subject: item.subject, item }));
  return {
    digest,
    summary: { totals, groups },
    result: { digest, totals },
    items: [
      ...list(
        'steps',
        steps.map((step) => ({ ...step, action: undefined })),
      ),
      ...list('findings', findings),
      ...list('waiting', waiting),
      ...list('unreadable', unreadable),
      ...unmanaged.map((item): KeptItem => ({
        ...{ list: 'unmanaged', subject: undefined, item: plain(item) },
      })),
    ],
  };
}

function ignoredIn({ findings }: Report): number {
  return findings.filter((finding) => !isHeeded(finding)).length;
}

/** The outcome of a repair, part by part. It failed if anything that the plan shows is not done. */
function outcomeOf(
  kept: KeptEnding,
  parts: readonly FollowedPart[],
  owed: readonly Owed[],
  withheld: number,
): KeptEnding {
  const items = parts.map((part): KeptItem => {
    const { subject, account, role, steps, code = null, sentence = null } = part;
    const item = { subject, account, role, state: endingOf(part), steps: steps.length };
    return { list: 'parts', subject, item: { ...item, code, sentence } };
  });
  const count = (state: string) => parts.filter((part) => endingOf(part) === state).length;
  const outcome = {
    done: count('done'),
    refused: count('refused'),
    failed: count('failed'),
    unanswered: count('unanswered'),
    unfinished: count('unfinished'),
    owed: owed.length,
    withheld,
  };
  const [first] = [...parts.filter(({ state }) => state !== 'done'), ...owed];
  const why =
    first === undefined
      ? withheld === 0
        ? undefined
        : {
            code: 'DESTROY_WITHHELD',
            sentence: withheld === 1 ? 'one step destroys data' : `${withheld} steps destroy data`,
          }
      : { code: first.code ?? 'INTERNAL', sentence: `${first.account}: ${first.sentence ?? ''}` };
  return {
    ...kept,
    summary: { ...kept.summary, outcome },
    result: { ...kept.result, outcome, ...why },
    items: [...kept.items, ...items],
  };
}

/** A repair whose process ended after the roles were given it: what they have said by now is all that is known. */
async function interrupted(own: Client, { id }: TakenSurvey): Promise<KeptEnding> {
  const ended = await readEnded(own, id, undefined);
  const ending = failedWith(
    'BACKEND_UNAVAILABLE',
    'the process that waited for the roles ended; request a survey, and repair what is left',
  );
  const items = ended.map(({ subject, role, state, code, sentence }): KeptItem => {
    return { list: 'parts', subject, item: { subject, role, state, code, sentence } };
  });
  return { ...ending, items };
}

function failedWith(code: string, sentence: string): KeptEnding {
  return { digest: undefined, summary: {}, result: { code, sentence }, items: [] };
}
