/**
 * How a role answers surveys. It reads with accounts that cannot write.
 *
 * There are two limiters, independent of each other and of the work on requests: a survey of a few subjects is
 * answered at once; a survey of many, or of everything, waits for the one before it. A survey of everything first
 * reads all there is, compares the subjects with that, and then looks directly once more at those few that are not
 * as wanted, because something may have changed meanwhile.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf, describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import type { Wanted } from '../reconcile/wanted.ts';
import type { Report } from '../reconcile/report.ts';
import { type SubjectSurvey, survey } from '../reconcile/engine.ts';
import { rememberUnmanaged } from '../unmanaged/sightings-table.ts';
import { withClient } from '../database/connection.ts';
import { hearCalls } from './survey-calls.ts';
import { type AskedSurvey, readSurvey, writeProgress, writeReport } from './surveys-table.ts';
import { readClock } from '../unmanaged/unmanaged-table.ts';
import { readSubjects, readWanted } from '../reconcile/wanted-queries.ts';
import {
  type Everything,
  unmanagedAmong,
  namesOfSubjects,
  unmanagedNumbersAmong,
} from '../targets/everything.ts';
import { type Limiter, openLimiter } from '../shared/limiter.ts';
import { type SurveyThrottle, startThrottle } from './throttle.ts';
import type { RoleParts } from '../reconcile/role.ts';
import { lookOnce, type Watching } from '../unmanaged/watch.ts';

/** A survey of up to so many subjects is answered at once. */
const FEW = 100;
/** If so many surveys wait already, a new one is not answered, and its caller times out. */
const FEW_LIMIT = { atOnce: 3, waiting: 64 };
const LONG_LIMIT = { atOnce: 1, waiting: 8 };
/** When the role ends, a survey that is not answered within this time is given up. */
const ANSWERED_WITHIN_MS = 1000;
/** Subjects that are not as wanted are looked at again, if there are no more than this. */
const LOOK_AGAIN_UP_TO = 1000;

export interface Answering {
  /** Begins to answer the survey with this id; anything else is ignored. */
  answer(id: unknown): void;
  /** Returns when all surveys in progress are answered, or after a second; a long survey is given up. */
  close(): Promise<void>;
}

interface Answers<Reader> extends Watching {
  readonly parts: RoleParts<Reader>;
  readonly reader: Reader;
  readonly log: Log;
  readonly closing: AbortController;
  readonly few: Limiter;
  readonly long: Limiter;
  /** by the survey's id, so that a survey that is called twice is answered once */
  readonly begun: Map<string, Promise<void>>;
}

export function startAnswering<Reader>(
  parts: RoleParts<Reader>,
  given: Watching & { reader: Reader; log: Log },
): Answering {
  const of: Answers<Reader> = {
    ...{ ...given, parts, closing: new AbortController(), begun: new Map() },
    ...{ few: openLimiter(FEW_LIMIT), long: openLimiter(LONG_LIMIT) },
  };
  const calls = hearCalls(of.pool, (id) => answer(of, id));
  return {
    answer: (id) => answer(of, id),
    async close() {
      of.closing.abort();
      await calls.close();
      // do not wait for a server that hangs: the caller times out
      await Promise.race([
        Promise.all(of.begun.values()),
        sleep(ANSWERED_WITHIN_MS, undefined, { ref: false }),
      ]);
    },
  };
}

function answer<Reader>(of: Answers<Reader>, id: unknown): void {
  const { parts, log, begun } = of;
  if (typeof id !== 'string' || begun.has(id)) return;
  const answering = begin(of, id).catch((error: unknown) =>
    log.warn({ role: parts.role, survey: id, error: describeError(error) }, 'a survey failed'),
  );
  begun.set(id, answering);
  void answering.finally(() => begun.delete(id));
}

async function begin<Reader>(of: Answers<Reader>, id: string): Promise<void> {
  const { parts, reader, log, pool, closing, few, long } = of;
  const asked = await readSurvey(pool, id);
  if (asked === undefined) return;
  const isFew = asked.subjects !== undefined && asked.subjects.length <= FEW;
  const write = (report: Report) =>
    writeReport(pool, id, parts.role, { ...report, clock: new Date().toISOString() });
  const isRun = await (isFew ? few : long)(async () => {
    if (closing.signal.aborted) return;
    try {
      const report = isFew
        ? reportOf(await look(of, reader, asked.subjects ?? []), asked.subjects ?? [])
        : await lookLong(of, id, asked);
      if (report !== undefined) await write(report);
    } catch (error) {
      if (closing.signal.aborted) throw error;
      const unreadable = [{ target: parts.role, sentence: describeError(error) }];
      await write({ ...reportOf([], []), unreadable }).catch(() => {}); // report the first error
      throw error;
    }
  });
  if (!isRun) log.warn({ role: parts.role, survey: id }, 'a survey is not answered: too many wait');
}

/** Returns undefined if nobody waits for the survey any more. */
async function lookLong<Reader>(
  of: Answers<Reader>,
  id: string,
  asked: AskedSurvey,
): Promise<Report | undefined> {
  const { parts, reader, pool, closing } = of;
  const uids = asked.subjects ?? (await readSubjects(pool));
  const throttle = startThrottle(asked.pace, uids.length, {
    closing: closing.signal,
    report: (done) => writeProgress(pool, id, parts.role, { done, total: uids.length }),
  });
  try {
    return asked.subjects === undefined
      ? await lookAtEverything(of, uids, throttle)
      : reportOf((await lookThrough(of, reader, uids, throttle)).found, uids);
  } catch (error) {
    if (throttle.isOver()) return undefined;
    throw error;
  }
}

async function lookAtEverything<Reader>(
  of: Answers<Reader>,
  uids: readonly number[],
  throttle: SurveyThrottle,
): Promise<Report> {
  const { parts, reader, pool, realm, ranges } = of;
  const began = await readClock(pool);
  let everything: Everything<Reader>;
  try {
    everything = await parts.readEverything(reader, throttle, of);
  } catch (error) {
    if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
    const sentence = describeError(error);
    const unreadable = parts.targets.map((target) => ({ target: target.name, sentence }));
    return { ...reportOf([], uids), unreadable };
  }
  let { found, names } = await lookThrough(of, everything.reader, uids, throttle);
  if (everything.reader !== reader && found.length <= LOOK_AGAIN_UP_TO) {
    const again = found.map(({ subject }) => subject);
    ({ found } = await lookThrough(of, reader, again, throttle));
  }
  await rememberUnmanaged(pool, unmanagedAmong(everything.sightings, names, realm));
  const report = reportOf(found, uids);
  const { doubt } = everything;
  if (doubt !== undefined) report.unreadable.push({ target: parts.role, sentence: doubt.sentence });
  if (doubt === undefined) {
    // an error here is reported about the targets too
    await lookOnce(parts.openWatch(reader, of), { ...of, role: parts.role }, { everything, began });
  }
  const unmanagedNumbers = unmanagedNumbersAmong(everything.numbers, ranges, names, realm);
  const erased = await unlessUnreadable(everything.readErased);
  const deletions = await unlessUnreadable(everything.readDeletions);
  const markers = await readMarkers(everything.readMarkedAt);
  return {
    ...report,
    unmanagedNumbers,
    ...(doubt === undefined ? {} : { doubt }),
    ...(parts.newerSeals === undefined ? {} : { newerSeals: parts.newerSeals(found, of) }),
    ...(erased && { erased }),
    ...(deletions && { deletions }),
    ...markers,
  };
}

async function look<Reader>(
  of: Answers<Reader>,
  through: Reader,
  uids: readonly number[],
): Promise<SubjectSurvey[]> {
  const { parts, realm } = of;
  return survey(parts.targets, await readWantedOf(of, uids), realm, through);
}

/** Looks slice by slice. Subjects that are as wanted, nearly all of them, are not kept. */
async function lookThrough<Reader>(
  of: Answers<Reader>,
  through: Reader,
  uids: readonly number[],
  throttle: SurveyThrottle,
): Promise<{ found: SubjectSurvey[]; names: Map<string, number> }> {
  const { parts, realm } = of;
  const found: SubjectSurvey[] = [];
  const names = new Map<string, number>();
  const readFrom = (at: number): Promise<Wanted[]> => {
    const slice = uids.slice(at, at + throttle.slice);
    const reading = slice.length === 0 ? Promise.resolve([]) : readWantedOf(of, slice);
    reading.catch(() => {}); // the error is thrown when its turn comes, if that comes
    return reading;
  };
  let next = readFrom(0);
  for (let at = 0; at < uids.length; at += throttle.slice) {
    const wanted = await next;
    next = readFrom(at + throttle.slice); // while this slice is looked at
    for (const [name, uid] of namesOfSubjects(wanted)) names.set(name, uid);
    const surveys = await survey(parts.targets, wanted, realm, through);
    found.push(...surveys.filter((each) => !isAsWanted(each)));
    await throttle.looked(wanted.length);
  }
  return { found, names };
}

/** Reads on one connection, so that a long survey leaves the other connections to the rest. */
function readWantedOf<Reader>(
  { parts, pool }: Answers<Reader>,
  uids: readonly number[],
): Promise<Wanted[]> {
  return withClient(pool, (client) => readWanted(client, parts.role, uids));
}

function isAsWanted({ steps, findings, waiting, unreadable }: SubjectSurvey): boolean {
  return steps.length + findings.length + waiting.length + unreadable.length === 0;
}

function reportOf(found: readonly SubjectSurvey[], uids: readonly number[]): Report {
  return {
    steps: found.flatMap((each) => each.steps),
    findings: found.flatMap((each) => each.findings),
    waiting: found.flatMap(({ subject, account, waiting }) =>
      waiting.map((each) => ({ subject, account, ...each })),
    ),
    unreadable: found.flatMap(({ subject, account, unreadable }) =>
      unreadable.map((each) => ({ subject, account, ...each })),
    ),
    subjects: uids.length,
  };
}

/** That a marker cannot be read is not the same as that there is none: it may be the newest of all. */
async function readMarkers(
  read: Everything<unknown>['readMarkedAt'],
): Promise<Pick<Report, 'markedAt' | 'markersUnread'>> {
  if (read === undefined) return {};
  try {
    return { markedAt: (await read())?.toISOString() ?? null };
  } catch (error) {
    if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
    return { markersUnread: describeError(error) };
  }
}

/** What only `recover` needs; undefined if it cannot be read. */
async function unlessUnreadable<T>(
  read: (() => T | Promise<T>) | undefined,
): Promise<T | undefined> {
  try {
    return await read?.();
  } catch (error) {
    if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
    return undefined;
  }
}
