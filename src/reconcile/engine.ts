/**
 * Survey and apply, for provisioning, the sweep and repair alike.
 *
 * A survey asks every target of a role what it wants, what is there, and what to do about it. Apply
 * is the only way to writer. There is no dry run: a survey is one whose writer were never built.
 */
import type { Realm, Wanted } from './wanted.ts';
import type { Action } from './action.ts';
import { type Finding, type Ignoring, isHeeded, orderSteps, type Step } from './plan.ts';
import { placesOf, takesAway } from './policy.ts';
import type { Target } from '../targets/target.ts';
import { CODES, type Code, codeOf, describeError } from '../shared/errors.ts';

/** Does one action, or throws: STEP_STALE, BACKEND_UNAVAILABLE, STEP_FAILED. */
export interface Writer {
  do(action: Action): Promise<void>;
}

// A role's targets differ in what they want and have; only the role's file knows them all.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type AnyTarget<Reader> = Target<Reader, any, any>;

/** What one target could not do, and why. */
export interface Trouble {
  target: string;
  code: Code;
  sentence: string;
}

/** What a survey of one role found for one subject. */
export interface SubjectSurvey {
  subject: number;
  account: string;
  /** in the order in which they are to be done */
  steps: Step[];
  findings: Finding[];
  /** what another role has to do first */
  waiting: { target: string; sentence: string }[];
  /** what could not be read: nothing is planned on it */
  unreadable: Trouble[];
}

/** Surveys subjects, target by target. A backend that cannot be read yields UNREADABLE, and no step. */
export async function survey<Reader>(
  targets: readonly AnyTarget<Reader>[],
  wanted: readonly Wanted[],
  realm: Realm,
  reader: Reader,
): Promise<SubjectSurvey[]> {
  const surveys = new Map<number, SubjectSurvey>(
    wanted.map(({ uid, account }) => [
      uid,
      { subject: uid, account, steps: [], findings: [], waiting: [], unreadable: [] },
    ]),
  );
  const outcomes = await Promise.all(
    targets.map(async (target) => {
      const of = wanted.filter(({ kind }) => target.of.includes(kind));
      try {
        const have = of.length === 0 ? [] : await target.observe(reader, of, realm);
        return { target, of, have };
      } catch (error) {
        return { target, of, error };
      }
    }),
  );
  for (const outcome of outcomes) {
    const { target, of } = outcome;
    for (const [index, subject] of of.entries()) {
      const { uid, account } = subject;
      const into = surveys.get(uid) as SubjectSurvey;
      try {
        if ('error' in outcome) throw outcome.error;
        const plan = target.plan(target.want(subject, realm), outcome.have[index], subject);
        for (const step of plan.steps) {
          into.steps.push({ target: target.name, subject: uid, account, ...step });
        }
        for (const finding of plan.findings) {
          const found = { target: target.name, subject: uid, account, ...finding };
          into.findings.push({ ...found, ...ignoringOf(found, subject) });
        }
        if (plan.waitingFor !== undefined) {
          into.waiting.push({
            target: target.name,
            sentence: `waits for the role ${plan.waitingFor}`,
          });
        }
        if (plan.unreadable !== undefined) {
          into.unreadable.push({
            target: target.name,
            code: 'BACKEND_UNREADABLE',
            sentence: plan.unreadable,
          });
        }
      } catch (error) {
        into.unreadable.push(troubleOf(target.name, error));
      }
    }
  }
  for (const each of surveys.values()) {
    if (each.steps.length > 1) each.steps = orderSteps(each.steps);
  }
  return [...surveys.values()];
}

/** Who ignores a finding, if it is as it was when they did. */
function ignoringOf(
  { target, object, code, sentence }: Finding,
  { ignored }: Wanted,
): { ignored?: Ignoring } {
  const known = ignored?.find(
    (each) =>
      each.target === target &&
      each.object === object &&
      each.code === code &&
      each.sentence === sentence,
  );
  if (known === undefined) return {};
  const { by, at, reason, until } = known;
  return { ignored: { by, at, reason, until } };
}

/** A MariaDB server, or an area of homes, where nothing is given, and why. */
export interface Withheld {
  place: string;
  sentence: string;
}

/** A place that is an older copy of itself; `name` is what people call it. */
export function olderCopy(place: string, name: string): Withheld {
  const sentence = `${name} is an older copy of itself: no access is given there until all access that it wrongly gives is revoked`;
  return { place, sentence };
}

/**
 * Leaves out what would give something at such places, or would lose data there: all but what takes access away. What is
 * left out is not done, so its target counts as unreadable.
 */
export function withholdGrants(found: SubjectSurvey, places: readonly Withheld[]): SubjectSurvey {
  const whyNot = (step: Step): Withheld | undefined =>
    takesAway(step) ? undefined : places.find(({ place }) => placesOf(step.action).includes(place));
  const withheld = found.steps.flatMap((step): Trouble[] => {
    const why = whyNot(step);
    if (why === undefined) return [];
    return [{ target: step.target, code: 'BACKEND_UNREADABLE', sentence: why.sentence }];
  });
  if (withheld.length === 0) return found;
  return {
    ...found,
    steps: found.steps.filter((step) => whyNot(step) === undefined),
    unreadable: [...found.unreadable, ...withheld],
  };
}

/**
 * Does the steps of one subject: what takes access away first, then target by target. Steps of one
 * target on different objects, such as two servers, are done side by side; those on one object one
 * after another. A step that fails stops the later ones on its object, and those of the targets that
 * need its target, but for what takes access away; the others go on.
 */
export async function apply<Reader>(
  targets: readonly AnyTarget<Reader>[],
  { steps, unreadable }: Pick<SubjectSurvey, 'steps' | 'unreadable'>,
  writer: Writer,
): Promise<Trouble[]> {
  const troubles: Trouble[] = [];
  const failedTargets = new Set(unreadable.map(({ target }) => target));
  const failedObjects = new Set<string>();
  const isFailed = ({ target, object }: Step) => failedObjects.has(`${target} ${object}`);

  async function doInOrder(ofOneObject: readonly Step[]): Promise<void> {
    for (const step of ofOneObject) {
      const needs = targets.find(({ name }) => name === step.target)?.needs ?? [];
      const lacks = step.effect !== 'revoke' && needs.some((name) => failedTargets.has(name));
      if (lacks || isFailed(step)) {
        failedTargets.add(step.target);
        continue;
      }
      try {
        await writer.do(step.action);
      } catch (error) {
        troubles.push(troubleOf(step.target, error));
        failedTargets.add(step.target);
        failedObjects.add(`${step.target} ${step.object}`);
      }
    }
  }

  for (const revoking of [true, false]) {
    const phase = steps.filter(({ effect }) => (effect === 'revoke') === revoking);
    for (const target of new Set(phase.map((step) => step.target))) {
      const objects = Map.groupBy(
        phase.filter((step) => step.target === target),
        ({ object }) => object,
      );
      await Promise.all([...objects.values()].map(doInOrder));
    }
  }
  return troubles;
}

/** How a subject stands after its steps: what its row says. */
export type Status =
  | { state: 'applied' }
  | { state: 'waiting'; sentence: string }
  | { state: 'failing'; code: Code; sentence: string }
  | {
      state: 'parked';
      code: Code;
      sentence: string;
      /** all that it is parked for is ignored: until then, ISO 8601, or `infinity` */
      ignoredUntil?: string;
    };

/**
 * (Findings that are advisory count as none.)
 *
 * | troubles              | findings | waiting | status                              |
 * | --------------------- | -------- | ------- | ------------------------------------- |
 * | one that may pass     | any      | any     | failing, with the first such          |
 * | none that may pass    | any      | any     | parked, with the first                |
 * | none                  | some     | any     | parked, with the first that counts    |
 * | none                  | all ignored | any  | parked, ignored                       |
 * | none                  | none     | some    | waiting                               |
 * | none                  | none     | none    | applied                               |
 */
export function statusOf(
  { findings, waiting, unreadable }: Pick<SubjectSurvey, 'findings' | 'waiting' | 'unreadable'>,
  troubles: readonly Trouble[],
): Status {
  const all = [...unreadable, ...troubles];
  const passing = all.find(({ code }) => CODES[code].retry);
  if (passing !== undefined)
    return { state: 'failing', code: passing.code, sentence: sentenceOf(passing) };
  const [lasting] = all;
  if (lasting !== undefined)
    return { state: 'parked', code: lasting.code, sentence: sentenceOf(lasting) };
  const blocking = findings.filter(({ advisory }) => advisory !== true);
  const finding = blocking.find(isHeeded) ?? blocking[0];
  if (finding !== undefined) {
    const { code, sentence } = finding;
    const parked = { state: 'parked' as const, code, sentence };
    if (isHeeded(finding)) return parked;
    const ends = blocking.flatMap(({ ignored }) => ignored?.until ?? []).toSorted();
    return { ...parked, ignoredUntil: ends[0] ?? 'infinity' };
  }
  const [first] = waiting;
  if (first !== undefined)
    return { state: 'waiting', sentence: `${first.target} ${first.sentence}` };
  return { state: 'applied' };
}

function sentenceOf({ target, sentence }: Trouble): string {
  return `${target}: ${sentence}`;
}

function troubleOf(target: string, error: unknown): Trouble {
  return { target, code: codeOf(error), sentence: describeError(error) };
}
