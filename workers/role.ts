/** A role's worker: brings subjects to what is wanted, and answers surveys. */
import type { Config } from '../src/config.ts';
import { realmOf } from '../src/config.ts';
import { startConsumer } from '../src/edges/queue.ts';
import { describeError } from '../src/errors.ts';
import type { Log } from '../src/log.ts';
import type { Realm, Role } from '../src/model/wanted.ts';
import {
  type AnyTarget,
  apply,
  type Hands,
  standingOf,
  type SubjectSurvey,
  survey,
} from '../src/reconcile.ts';
import { type Outcome, withSubjects } from '../src/store/convergence.ts';
import { type Client, openPool, type Pool } from '../src/store/postgres.ts';
import { readSurveySubjects, writeReport } from '../src/store/surveys.ts';
import { readWanted } from '../src/store/wanted.ts';
import type { Worker } from './loop.ts';

interface Closable {
  close(): Promise<void>;
}

/** What hands may ask of our PostgreSQL. */
export interface RoleStore {
  pool: Pool;
  /** the connection that holds the lock of a subject that is being worked on */
  holderOf: (subject: number) => Client;
}

/** What makes a role: its targets, and how its eyes and hands are opened. */
export interface RoleParts<Eyes> {
  role: Role;
  targets: readonly AnyTarget<Eyes>[];
  /** jobs worked on at a time */
  concurrency: number;
  /** with an account that can only read */
  openEyes(config: Config): Eyes & Closable;
  openHands(config: Config, store: RoleStore): Hands & Closable;
  /** what a survey of everything sees beside the subjects' own, e.g. foreign names */
  lookAround?(eyes: Eyes, pool: Pool, realm: Realm): Promise<void>;
  /** what one subject's survey tells about the world, e.g. a foreign name */
  remember?(found: SubjectSurvey, pool: Pool): Promise<void>;
}

/** A survey that comes when so many wait is not answered: whoever asked is told by a time-out. */
const MOST_WAITING_SURVEYS = 8;
/** A job with more subjects is none of ours. */
const MOST_SUBJECTS = 100;
/** Subjects of one slice of a survey of everything. */
const SURVEY_SLICE = 500;

export function startRole<Eyes>(parts: RoleParts<Eyes>, config: Config, log: Log): Worker {
  const { role, targets } = parts;
  const realm = realmOf(config);
  const pool = openPool(config, role, { max: parts.concurrency + 2, durable: false });
  const eyes = parts.openEyes(config);
  const readers = openPool(config, `${role}_eyes`, { max: 2, durable: false });
  const holders = new Map<number, Client>();
  const hands = parts.openHands(config, {
    pool,
    holderOf(subject) {
      const client = holders.get(subject);
      if (client === undefined) throw new Error(`nobody works on ${subject}`);
      return client;
    },
  });
  /** one at a time, beside the subjects' jobs and not instead of one */
  let surveying = Promise.resolve();
  let waitingSurveys = 0;
  const consumer = startConsumer({
    url: config.redis.url,
    queue: role,
    concurrency: parts.concurrency,
    onError: (error) => log.warn({ role, error: describeError(error) }, 'a job was dropped'),
    async handle({ name, data }) {
      if (name === 'survey') {
        const id = (data as { survey?: unknown } | null)?.survey;
        if (typeof id === 'string' && waitingSurveys < MOST_WAITING_SURVEYS) {
          waitingSurveys += 1;
          surveying = surveying
            .then(() => answerSurvey(id))
            .catch((error: unknown) =>
              log.warn({ role, survey: id, error: describeError(error) }, 'a survey failed'),
            )
            .finally(() => (waitingSurveys -= 1));
        }
        return;
      }
      const subjects = (data as { subjects?: unknown } | null)?.subjects;
      if (Array.isArray(subjects) && subjects.length <= MOST_SUBJECTS) {
        await converge(
          subjects.filter((each) => Number.isInteger(each) && each > 0 && each < 2 ** 31),
        );
      }
    },
  });

  async function converge(subjects: readonly number[]): Promise<void> {
    await withSubjects(pool, role, subjects, async (held, client) => {
      const found = await survey(
        targets,
        held.map(({ wanted }) => wanted),
        realm,
        eyes,
      );
      const outcomes = await Promise.all(
        found.map(async (each, index): Promise<[number, Outcome]> => {
          holders.set(each.subject, client);
          try {
            return [each.subject, await bring(each, held[index]?.attempts ?? 0)];
          } finally {
            holders.delete(each.subject);
          }
        }),
      );
      return new Map(outcomes);
    });
  }

  async function bring(found: SubjectSurvey, refusals: number): Promise<Outcome> {
    const troubles = await apply(targets, found, hands);
    if (found.findings.length > 0) await parts.remember?.(found, pool);
    const standing = standingOf(found, troubles);
    if (standing.state === 'parked' || standing.state === 'failing') {
      const { subject, account } = found;
      log.info({ role, subject, account, ...standing }, 'not as wanted');
    }
    return outcomeOf(standing, refusals);
  }

  /** Looks with accounts that can only read, and writes a report that hands never read. */
  async function answerSurvey(id: string): Promise<void> {
    const asked = await readSurveySubjects(readers, id);
    if (asked === undefined) return;
    if (asked.everything) await parts.lookAround?.(eyes, readers, realm);
    const found: SubjectSurvey[] = [];
    for (let at = 0; at < asked.subjects.length; at += SURVEY_SLICE) {
      const slice = asked.subjects.slice(at, at + SURVEY_SLICE);
      found.push(...(await survey(targets, await readWanted(readers, role, slice), realm, eyes)));
    }
    await writeReport(readers, id, role, {
      subjects: found.length,
      steps: found.flatMap((each) => each.steps),
      findings: found.flatMap((each) => each.findings),
      waiting: found.flatMap(({ subject, account, waiting }) =>
        waiting.map((each) => ({ subject, account, ...each })),
      ),
      unreadable: found.flatMap(({ subject, account, unreadable }) =>
        unreadable.map((each) => ({ subject, account, ...each })),
      ),
    });
  }

  return {
    async close() {
      await consumer.close(3500);
      await surveying;
      await Promise.allSettled([eyes.close(), hands.close()]);
      await Promise.all([pool.end(), readers.end()]);
    },
  };
}

/** A server that is away is tried for ever, and soon; what it refuses, with growing pauses, then parked. */
const AWAY_RETRY_MS = 1500;
const REFUSED_RETRY_MS = { first: 500, most: 60_000 };
const MOST_REFUSALS = 8;

/**
 * What to write to the row: whether and when it is tried again.
 *
 * @param refusals how often it was refused before, not counting when a server was away
 */
export function outcomeOf(standing: ReturnType<typeof standingOf>, refusals: number): Outcome {
  if (standing.state !== 'failing') return standing;
  const { code, sentence } = standing;
  if (code === 'BACKEND_UNAVAILABLE' || code === 'BACKEND_UNREADABLE') {
    return { state: 'failing', code, sentence, retryInMs: AWAY_RETRY_MS, counts: false };
  }
  if (refusals + 1 >= MOST_REFUSALS) return { state: 'parked', code, sentence };
  const { first, most } = REFUSED_RETRY_MS;
  const retryInMs = Math.min(most, first * 2 ** refusals);
  return { state: 'failing', code, sentence, retryInMs, counts: true };
}
