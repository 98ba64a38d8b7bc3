/** A role's worker: brings subjects to what is wanted, and answers surveys. */
import type { Config } from '../shared/config.ts';
import { realmOf } from '../shared/config.ts';
import { type Consumer, slowQueue, startConsumer, urgentQueue } from '../backends/redis/queue.ts';
import { describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import { type News, openNews } from '../shared/news.ts';
import type { Seal } from '../seals/seal.ts';
import type { Role, Wanted } from './wanted.ts';
import {
  type AnyTarget,
  apply,
  type Writer,
  statusOf,
  type SubjectSurvey,
  survey,
  type Withheld,
  withholdGrants,
} from './engine.ts';
import type { Step } from './plan.ts';
import { takesAway } from './policy.ts';
import { type Held, type Outcome, withSubjects } from './convergence-table.ts';
import { type Client, openPool, type Pool, readerOf } from '../database/connection.ts';
import type { Everything, Throttle } from '../targets/everything.ts';
import { type Answering, startAnswering } from '../drift/answering.ts';
import { type Holders, untilAllEnd, whileHeld } from './held-writer.ts';
import type { Worker } from '../shared/loop.ts';
import { isArchiving } from '../roles/index.ts';
import { NO_GUARD, openPlaceGuard } from '../seals/place-guard.ts';
import type { PlaceMarkers } from '../seals/publish-place-markers.ts';
import { type Watch, type Watching, watchingOf } from '../unmanaged/watch.ts';
import { outcomeOf } from './retry.ts';
import { repairSubjects, type RepairWork } from '../drift/repairing.ts';

interface Closable {
  close(): Promise<void>;
}

/** Writer whose steps may take hours: `letGo` ends those at once, and every one that is begun after. */
interface LongWriter {
  letGo?(): void;
}

/** What a writer may ask of our PostgreSQL. */
export interface RoleStore {
  pool: Pool;
  /** the connection that holds the lock of a subject that is being worked on */
  holderOf: (subject: number) => Client;
}

/**
 * What makes a role: its targets, and how its reader and writer are opened.
 *
 * @typeParam Reader what its targets look through
 * @typeParam Open what it opens: reader that can do more
 */
export interface RoleParts<Reader, Open extends Reader = Reader> {
  role: Role;
  targets: readonly AnyTarget<Reader>[];
  /** jobs worked on at a time */
  concurrency: number;
  /** with an account that can only read */
  openReader(config: Config): Open & Closable;
  openWriter(config: Config, store: RoleStore): Writer & Closable & LongWriter;
  /** of a role whose places carry markers */
  openMarkers?(config: Config): PlaceMarkers;
  /** for a survey of everything: reads all there is, before any subject is looked at */
  readEverything(reader: Open, throttle: Throttle, reading: Watching): Promise<Everything<Reader>>;
  /** begins to look for what is in its places and is not ours */
  openWatch(reader: Open, watching: Watching): Watch<Reader>;
  /** for a survey of everything: what stands there signed, and is newer than what our database knows */
  newerSeals?(found: readonly SubjectSurvey[], watching: Watching): Seal[];
  /** a subject's steps as they are done: those that the backend can do in one */
  together?(steps: readonly Step[]): Step[];
  /** of a role that does more than its subjects: starts that */
  startMore?(config: Config, log: Log): Worker;
  /** what one subject's survey tells about the world, e.g. an unmanaged name */
  remember?(found: SubjectSurvey, pool: Pool): Promise<void>;
}

/** Of any role: what its reader and writer are, its own files alone know. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type AnyParts = RoleParts<any, any>;

const STILL_AT_IT = {
  state: 'failing',
  code: 'BACKEND_UNAVAILABLE',
  sentence: 'an earlier run, which has lost its lock, is still in the middle of a step',
} as const;

function isOfArchives(target: string): boolean {
  return target.endsWith('-archive');
}

/** What a role works with. */
interface Work<Reader> extends RepairWork<Reader> {
  answering: Answering;
  /** what the log says about each subject */
  said: News<number>;
}

export function startRole<Reader>(parts: RoleParts<Reader>, config: Config, log: Log): Worker {
  const { role } = parts;
  const pool = openPool(config, role, { max: 2 * parts.concurrency + 4, durable: false });
  const reader = parts.openReader(config);
  const readers = openPool(config, readerOf(role), { max: 4, durable: false });
  const holders: Holders = new Map();
  const writer = parts.openWriter(config, {
    pool,
    holderOf(subject) {
      const client = holders.get(subject);
      if (client === undefined) throw new Error(`nobody works on ${subject}`);
      return client;
    },
  });
  const markers = parts.openMarkers?.(config);
  const guard = markers === undefined ? NO_GUARD : openPlaceGuard(role, markers, pool);
  const answering = startAnswering(parts, { ...watchingOf(config, readers), reader, log });
  const of: Work<Reader> = {
    ...{ parts, pool, reader, writer, guard, holders, realm: realmOf(config), log, answering },
    said: openNews(),
  };
  const consume = (queue: string, concurrency: number): Consumer =>
    startConsumer({
      config,
      account: role,
      queue,
      concurrency,
      tell(sentence, error) {
        if (error === undefined) log.info({ queue }, sentence);
        else log.warn({ queue, error: describeError(error) }, sentence);
      },
      handle: (job) => handle(of, job, queue !== slowQueue(role)),
    });
  const consumers = [
    consume(role, parts.concurrency),
    consume(urgentQueue(role), parts.concurrency),
    // one at a time: putting a home away takes hours, and all that a disk gives
    ...(isArchiving(role) ? [consume(slowQueue(role), 1)] : []),
  ];

  return {
    async close() {
      writer.letGo?.();
      await Promise.all([...consumers.map((each) => each.close(3000)), answering.close()]);
      await Promise.allSettled([reader.close(), writer.close(), guard.close()]);
      await Promise.all([pool.end(), readers.end()]);
    },
  };
}

async function handle<Reader>(
  of: Work<Reader>,
  { name, data }: { name: string; data: unknown },
  isPrompt: boolean,
): Promise<void> {
  const { answering } = of;
  if (name === 'survey') {
    answering.answer((data as { survey?: unknown } | null)?.survey);
    return;
  }
  const subjects = subjectsOf(data);
  if (subjects === undefined) return;
  if (name === 'repair') {
    await repairSubjects(of, subjects, { slow: !isPrompt });
    return;
  }
  await converge(
    of,
    subjects,
    // archiving would delay the others of its job for hours: here only its access is revoked
    ({ archive }, behind) =>
      isPrompt && archive !== undefined && behind?.some(isOfArchives) !== false,
  );
}

/** A job with more subjects is not one of ours. */
const MOST_SUBJECTS = 100;

/** The subjects that a job names; undefined if it is not one of ours. */
function subjectsOf(data: unknown): number[] | undefined {
  const { subjects } = (data ?? {}) as { subjects?: unknown };
  if (!Array.isArray(subjects) || subjects.length > MOST_SUBJECTS) return undefined;
  return subjects.filter((each) => Number.isInteger(each) && each > 0 && each < 2 ** 31);
}

async function converge<Reader>(
  of: Work<Reader>,
  subjects: readonly number[],
  isLeft: (wanted: Wanted, behind: Held['targets']) => boolean,
): Promise<void> {
  const { parts, pool } = of;
  await withSubjects(
    pool,
    parts.role,
    subjects,
    (held, client) => convergeHeld(of, held, client),
    isLeft,
  );
}

async function convergeHeld<Reader>(
  of: Work<Reader>,
  held: readonly Held[],
  client: Client,
): Promise<Map<number, Outcome>> {
  const { parts, pool, writer, guard, holders, log, said } = of;
  const found = await surveyHeld(of, held);
  const places = held[0]?.places ?? [];
  const withheld = [...guard.older(places), ...(await guard.doubted(found, places))];
  const outcomes = await untilAllEnd(
    found.map(async (each, index): Promise<[number, Outcome]> => {
      const { subject, account } = each;
      const { attempts: refusals = 0, left = false } = held[index] ?? {};
      const due = withholdGrants(left ? accessStepsOf(each) : each, withheld);
      const steps = parts.together?.(due.steps) ?? due.steps;
      const troubles = await whileHeld(holders, { subject, client, writer }, async (own) => {
        const met = await apply(parts.targets, { ...due, steps }, own);
        if (due.findings.length > 0) await parts.remember?.(due, pool);
        return met;
      });
      const status = troubles === undefined ? STILL_AT_IT : statusOf(due, troubles);
      if (status.state !== 'failing' && status.state !== 'parked') said.forget(subject);
      // what fails is tried again every few seconds
      else if (said.isNew(subject, `${status.state} ${status.sentence}`)) {
        log.info({ role: parts.role, subject, account, ...status }, 'not as wanted');
      }
      return [subject, outcomeOf(status, refusals)];
    }),
  );
  return new Map(outcomes);
}

/** In the order of `held`. Of whom some targets alone are behind, those are looked at, with what they need. */
async function surveyHeld<Reader>(
  of: Work<Reader>,
  held: readonly Held[],
): Promise<SubjectSurvey[]> {
  const { parts, reader, realm, guard } = of;
  const found = new Map<number, SubjectSurvey>();
  for (const [names, some] of Map.groupBy(held, (each) => each.targets?.join(' '))) {
    const behind = names?.split(' ');
    const older = guard.older(some[0]?.places ?? []);
    const needed = parts.targets.flatMap(({ name, needs }) =>
      behind?.includes(name) ? needs : [],
    );
    const looked = parts.targets.filter(
      ({ name }) => behind === undefined || behind.includes(name) || needed.includes(name),
    );
    const wanted = some.map((each) => each.wanted);
    for (const each of await survey(looked, wanted, realm, reader)) {
      found.set(each.subject, behind === undefined ? each : ofTargets(each, behind, older));
    }
  }
  return held.flatMap(({ wanted }) => found.get(wanted.uid) ?? []);
}

/**
 * What some targets have to do and cannot; where the entry that they change is not there, only what takes access away.
 * At a place that is an older copy it is that alone anyway: the rest waits for a sweep, and its bounds.
 */
function ofTargets(
  found: SubjectSurvey,
  names: readonly string[],
  older: readonly Withheld[],
): SubjectSurvey {
  const isIts = ({ target }: { target: string }): boolean => names.includes(target);
  const lacks = found.steps.some(({ effect }) => effect === 'create');
  const isDue = (step: Step) => isIts(step) && (takesAway(step) || !lacks);
  return {
    ...found,
    steps: withholdGrants({ ...found, steps: found.steps.filter(isDue) }, older).steps,
    findings: found.findings.filter(isIts),
    waiting: found.waiting.filter(isIts),
  };
}

/** The steps that revoke access, without those that archive. */
function accessStepsOf(found: SubjectSurvey): SubjectSurvey {
  const isAccess = ({ target, effect }: SubjectSurvey['steps'][number]) =>
    effect === 'revoke' && !isOfArchives(target);
  return { ...found, steps: found.steps.filter(isAccess) };
}
