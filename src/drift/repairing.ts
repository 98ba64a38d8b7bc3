/** How a role does its parts of a repair. */
import type { Code } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import type { Realm } from '../reconcile/wanted.ts';
import { digestSteps } from '../reconcile/digest.ts';
import type { Step } from '../reconcile/plan.ts';
import { sideConditionsOf, partSteps } from '../reconcile/policy.ts';
import {
  apply,
  type Writer,
  olderCopy,
  statusOf,
  type SubjectSurvey,
  survey,
  type Withheld,
  withholdGrants,
} from '../reconcile/engine.ts';
import { olderOf, readPlaces } from '../seals/place-markers-table.ts';
import type { Client, Pool } from '../database/connection.ts';
import { type HeldPart, type PartEnd, type RepairTerms, withParts } from './repairs-table.ts';
import { type Holders, whileHeld } from '../reconcile/held-writer.ts';
import { outcomeOf } from '../reconcile/retry.ts';
import type { PlaceGuard } from '../seals/place-guard.ts';
import type { RoleParts } from '../reconcile/role.ts';

/** A job with more subjects is not one of ours. */
const MOST_SUBJECTS = 100;

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/u;

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

/** The subjects that a job names; undefined if it is not one of ours. */
export function subjectsOf(data: unknown): number[] | undefined {
  const { subjects } = (data ?? {}) as { subjects?: unknown };
  if (!Array.isArray(subjects) || subjects.length > MOST_SUBJECTS) return undefined;
  return subjects.filter((each) => Number.isInteger(each) && each > 0 && each < 2 ** 31);
}

/** Does the parts that a job names, `{repair, subjects}`; anything else is ignored. */
export async function repairParts<Reader>(of: RepairWork<Reader>, data: unknown): Promise<void> {
  const { repair } = (data ?? {}) as { repair?: unknown };
  if (typeof repair !== 'string' || !UUID.test(repair)) return;
  const uids = subjectsOf(data);
  if (uids === undefined) return;
  await withParts(of.pool, of.parts.role, { repair, subjects: uids }, (held, terms, client) =>
    doParts(of, held, terms, client),
  );
}

async function doParts<Reader>(
  of: RepairWork<Reader>,
  held: readonly HeldPart[],
  terms: RepairTerms,
  client: Client,
): Promise<PartEnd[]> {
  const { parts, reader, writer, guard, holders, realm, log } = of;
  const known = await readPlaces(client, parts.role);
  const wanted = held.flatMap((part) => (part.wanted === undefined ? [] : [part.wanted]));
  const found = await survey(parts.targets, wanted, realm, reader);
  const surveyOf = new Map(found.map((each) => [each.subject, each]));
  const places = [...olderOf(known).map(olderCopy), ...(await guard.doubted(found, known))];
  const ends = await Promise.all(
    held.map(async (part) => {
      const { subject } = part;
      return await whileHeld(holders, { subject, client, writer }, async (own) => {
        const end = await doPart(of, part, surveyOf.get(subject), {
          ...{ terms, places, held: own },
        });
        if (end.state !== 'done')
          log.info({ role: parts.role, ...end, outcome: undefined }, 'not repaired');
        return end;
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
  { terms, places, held }: { terms: RepairTerms; places: readonly Withheld[]; held: Writer },
): Promise<PartEnd> {
  const { parts, pool } = of;
  const { subject } = part;
  if (found === undefined) return moved(subject, 'the subject no longer exists');
  const { allowed } = partSteps(found.steps, terms);
  const isAsRead = digestSteps(allowed) === part.digest;
  if (!isAsRead) {
    const fresh = sideConditionsOf(found, terms).filter(
      (each) => !part.sideConditions.includes(each),
    );
    // if no step is left, an unreadable server may hide one: `unreadable` names only the target
    const unreadable = found.unreadable.find(({ target }) =>
      allowed.length > 0
        ? fresh.includes(`${target} unreadable`)
        : terms.target === undefined || terms.target === target,
    );
    if (unreadable !== undefined) return failed(subject, unreadable);
    if (allowed.length > 0) {
      return moved(subject, `its plan has changed, and now has ${count(allowed.length)}`);
    }
    const [first] = fresh;
    if (first !== undefined)
      return moved(subject, `its plan has no step left, but it now has: ${first}`);
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
