/** How a role does its parts of a repair. */
import type { Code } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import type { Realm, Wanted } from '../reconcile/wanted.ts';
import { digestSteps } from '../reconcile/digest.ts';
import type { Step } from '../reconcile/plan.ts';
import { sideConditionsOf, partSteps } from '../reconcile/policy.ts';
import {
  apply,
  type Writer,
  statusOf,
  type SubjectSurvey,
  survey,
  type Withheld,
  withholdGrants,
} from '../reconcile/engine.ts';
import { readPlaces } from '../seals/place-markers-table.ts';
import type { Client, Pool } from '../database/connection.ts';
import { type HeldPart, type PartEnd, withParts } from './repairs-table.ts';
import { type Holders, untilAllEnd, whileHeld } from '../reconcile/held-writer.ts';
import { outcomeOf } from '../reconcile/retry.ts';
import type { PlaceGuard } from '../seals/place-guard.ts';
import type { RoleParts } from '../reconcile/role.ts';

/** What a role repairs with. */
export interface RepairWork<Reader> {
  parts: RoleParts<Reader>;
  pool: Pool;
  reader: Reader;
  writer: Writer;
  guard: PlaceGuard;
  holders: Holders;
  realm: Realm;
  log: Log;
}

/** Does what was asked of these subjects in repairs: what may take hours, or everything else. */
export async function repairSubjects<Reader>(
  of: RepairWork<Reader>,
  subjects: readonly number[],
  { slow }: { slow: boolean },
): Promise<void> {
  await withParts(of.pool, of.parts.role, { subjects, slow }, (held, wanted, client) =>
    doParts(of, held, wanted, client),
  );
}

async function doParts<Reader>(
  of: RepairWork<Reader>,
  held: readonly HeldPart[],
  wantedOf: ReadonlyMap<number, Wanted>,
  client: Client,
): Promise<(PartEnd & { repair: string })[]> {
  const { parts, reader, writer, guard, holders, realm, log } = of;
  const known = await readPlaces(client, parts.role);
  const wanted = held.flatMap(({ subject }) => wantedOf.get(subject) ?? []);
  const found = await survey(parts.targets, wanted, realm, reader);
  const surveyOf = new Map(found.map((each) => [each.subject, each]));
  const places = [...guard.older(known), ...(await guard.doubted(found, known))];
  const ends = await untilAllEnd(
    held.map(async (part) => {
      const { repair, subject } = part;
      return await whileHeld(holders, { subject, client, writer }, async (own) => {
        const end = await doPart(of, part, surveyOf.get(subject), { places, held: own });
        if (end.state !== 'done')
          log.info({ role: parts.role, ...end, outcome: undefined }, 'not repaired');
        return { ...end, repair };
      });
    }),
  );
  return ends.filter((end) => end !== undefined); // the others stay `asked`
}

/**
 * | digest of the new plan  | side conditions                | the part is                            |
 * | ----------------------- | ------------------------------ | -------------------------------------- |
 * | the one that was read   | any                            | done, or failed if a step fails        |
 * | another                 | something newly unreadable     | failed: its state is not known         |
 * | another, with steps     | nothing newly unreadable       | refused                                |
 * | another, without steps  | a new finding, newly waiting   | refused                                |
 * | another, without steps  | something unreadable as before | failed: a step may be left             |
 * | another, without steps  | nothing new, everything read   | done: somebody else was faster         |
 */
async function doPart<Reader>(
  of: RepairWork<Reader>,
  part: HeldPart,
  found: SubjectSurvey | undefined,
  { places, held }: { places: readonly Withheld[]; held: Writer },
): Promise<PartEnd> {
  const { parts, pool } = of;
  const { subject } = part;
  const policy = { destroy: part.destroy, target: part.target ?? undefined };
  if (found === undefined) return moved(subject, 'the subject no longer exists');
  const { allowed } = partSteps(found.steps, policy);
  const isAsRead = digestSteps(allowed) === part.digest;
  if (!isAsRead) {
    const fresh = sideConditionsOf(found, policy).filter(
      (each) => !part.sideConditions.includes(each),
    );
    // if no step is left, an unreadable server may hide one: `unreadable` names only the target
    const unreadable = found.unreadable.find(({ target }) =>
      allowed.length > 0
        ? fresh.includes(`${target} unreadable`)
        : policy.target === undefined || policy.target === target,
    );
    if (unreadable !== undefined) return failed(subject, unreadable);
    if (allowed.length > 0) {
      return moved(subject, `its plan has changed, and now has ${count(allowed.length)}`);
    }
    const [first] = fresh;
    if (first !== undefined)
      return moved(
        subject,
        `its plan has no step left, but something new stands in the way: ${first}`,
      );
  }
  const due = withholdGrants({ ...found, steps: allowed }, places);
  const troubles = await apply(parts.targets, due, held);
  if (found.findings.length > 0) await parts.remember?.(found, pool);
  const withheld = due.unreadable[found.unreadable.length];
  const trouble = troubles[0] ?? withheld ?? leftOut(parts, found, allowed);
  // the row covers everything that is to be done: what a repair leaves out is still behind
  const isWhole = allowed.length === found.steps.length;
  const outcome = isWhole
    ? { outcome: outcomeOf(statusOf(due, troubles), part.attempts ?? 0) }
    : {};
  return trouble === undefined
    ? { subject, state: 'done', ...outcome }
    : { ...failed(subject, trouble), ...outcome };
}

/** Why a step was not tried: its target needs another one that could not be read. */
function leftOut<Reader>(
  { targets }: RoleParts<Reader>,
  { unreadable }: SubjectSurvey,
  steps: readonly Step[],
): SubjectSurvey['unreadable'][number] | undefined {
  const needed = new Set(
    steps
      .filter(({ effect }) => effect !== 'revoke')
      .flatMap(({ target }) => targets.find(({ name }) => name === target)?.needs ?? []),
  );
  return unreadable.find(({ target }) => needed.has(target));
}

function moved(subject: number, sentence: string): PartEnd {
  return { subject, state: 'refused', code: 'PLAN_MOVED', sentence };
}

function failed(
  subject: number,
  { target, code, sentence }: { target: string; code: Code; sentence: string },
): PartEnd {
  return { subject, state: 'failed', code, sentence: `${target}: ${sentence}` };
}

function count(steps: number): string {
  return steps === 1 ? 'one step' : `${steps} steps`;
}
