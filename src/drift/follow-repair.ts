/** Asks the roles for the parts of a repair, again if there is no answer, until all have ended. */
import type { Config } from '../shared/config.ts';
import { openQueues, type Queues, slowQueue } from '../backends/redis/queue.ts';
import { describeError } from '../shared/errors.ts';
import type { Role } from '../reconcile/wanted.ts';
import { ROLES, verbOf } from '../roles/index.ts';
import { describeProgress } from '../lifecycle/render-leaving.ts';
import { type EndedPart, readDatabasesStatuses, readEnded, readUnderWay } from './asked-repairs.ts';
import { readFreeze } from '../database/freeze.ts';
import { look } from '../database/overview.ts';
import { type Client, openPool } from '../database/connection.ts';
import type { AskedPart } from './repair-parts.ts';

/** Subjects in one job: a lock, a look and a write cost nearly the same for many subjects as for one. */
const SUBJECTS_OF_JOB = 16;
/** After so long without a sign of a role, its job may be lost, or have found a subject locked. */
const AGAIN_MS = { first: 1500, most: 8000 };
const POLL_MS = { first: 20, most: 500 };

/** A part with its outcome; `asked` if none is known. */
export interface FollowedPart extends AskedPart {
  state: 'asked' | 'done' | 'refused' | 'failed';
  code?: string;
  sentence?: string;
}

/** A consequence of a repair that is not in place yet: a verifier on a database server. */
export interface Owed {
  subject: number;
  account: string;
  code: string;
  sentence: string;
}

export interface Following {
  id: string;
  parts: readonly AskedPart[];
  /** how long a role may go without ending a part */
  timeoutMs: number;
  /** is called with the progress of the roles */
  say: (text: string) => void;
}

interface RoleState {
  /** when it last ended a part, or was first asked for one */
  signAt: number;
  againAt: number;
  againMs: number;
  givenUp: boolean;
  /** why it could not be asked */
  fault?: string;
}

/**
 * Returns when every part has ended and its consequences are applied; or when a role has ended no part for
 * `timeoutMs`, or the realm is frozen. Then the remaining parts are `asked`, with a reason. It survives an outage of
 * PostgreSQL that is shorter than that.
 */
export async function followRepair(
  config: Config,
  following: Following,
): Promise<{ parts: FollowedPart[]; owed: Owed[] }> {
  const queues = openQueues(config, 'admin');
  const pool = openPool(config, 'admin', { max: 1, durable: true });
  const patiently = patience(following.timeoutMs, (act) => look(pool, act));
  try {
    const parts = await followParts(queues, following, patiently);
    const owed = await followVerifiers(parts, following, patiently);
    return { parts, owed };
  } finally {
    await queues.close();
    await pool.end();
  }
}

type Look = <T>(act: (client: Client) => Promise<T>) => Promise<T>;
type PatientLook = <T>(act: (client: Client) => Promise<T>) => Promise<T | undefined>;

/** A look that returns undefined while PostgreSQL does not answer, and throws after `timeoutMs` of that. */
function patience(timeoutMs: number, lookNow: Look): PatientLook {
  let answeredAt = performance.now();
  return async (act) => {
    try {
      const seen = await lookNow(act);
      answeredAt = performance.now();
      return seen;
    } catch (error) {
      if (performance.now() - answeredAt > timeoutMs) throw error;
      return undefined;
    }
  };
}

interface Parts {
  readonly queues: Queues;
  readonly following: Following;
  /** by role and subject */
  readonly all: Map<string, FollowedPart>;
  /** those that have not ended */
  readonly open: Map<string, FollowedPart>;
  readonly alreadyAsked: Set<FollowedPart>;
  readonly states: Map<Role, RoleState>;
  /** when the last part ended */
  since: Date | undefined;
}

function keyOf({ role, subject }: { role: Role; subject: number }): string {
  return `${role} ${subject}`;
}

async function followParts(
  queues: Queues,
  following: Following,
  lookPatiently: PatientLook,
): Promise<FollowedPart[]> {
  const all = new Map<string, FollowedPart>(
    following.parts.map((part) => [keyOf(part), { ...part, state: 'asked' }]),
  );
  const of: Parts = {
    ...{ queues, following, all, open: new Map(all), alreadyAsked: new Set() },
    ...{ states: new Map(), since: undefined },
  };
  for (let pollMs = POLL_MS.first; ; pollMs = Math.min(pollMs * 1.3, POLL_MS.most)) {
    for (const role of ROLES) await askRole(of, role);
    const seen = await lookPatiently(async (client) => ({
      ended: await readEnded(client, following.id, of.since),
      frozen: await readFreeze(client),
    }));
    for (const ended of seen?.ended ?? []) if (takeEnded(of, ended)) pollMs = POLL_MS.first;
    following.say(describeProgressOf([...all.values()]));
    if (seen?.frozen !== undefined) {
      return endOpen(all, () => ['FROZEN', `frozen by ${seen.frozen?.frozenBy} meanwhile`]);
    }
    if ([...of.open.values()].every(({ role }) => of.states.get(role)?.givenUp === true)) {
      return await giveUp(of, lookPatiently);
    }
    await sleep(pollMs);
  }
}

/** The parts that may be asked for now: see `waitsForDatabases`. */
function openOf({ open, states }: Parts, role: Role): FollowedPart[] {
  const ofRole = [...open.values()].filter((part) => part.role === role);
  if (role !== 'homes' || states.get('databases')?.givenUp === true) return ofRole;
  return ofRole.filter(
    (part) => !(waitsForDatabases(part) && open.has(keyOf({ ...part, role: 'databases' }))),
  );
}

/** Asks a role for its parts that were not asked for yet, and again for those that are late. */
async function askRole(of: Parts, role: Role): Promise<void> {
  const { queues, alreadyAsked, states } = of;
  const { id, timeoutMs } = of.following;
  const now = performance.now();
  const left = openOf(of, role);
  if (left.length === 0) return;
  const state = states.get(role) ?? {
    signAt: now,
    againAt: now,
    againMs: AGAIN_MS.first,
    givenUp: false,
  };
  states.set(role, state);
  if (state.givenUp) return;
  const fresh = left.filter((part) => !alreadyAsked.has(part));
  if (fresh.length > 0) {
    state.signAt = now;
  } else if (now - state.signAt > timeoutMs) {
    state.givenUp = true;
    return;
  }
  const isLate = now >= state.againAt;
  if (fresh.length === 0 && !isLate) return;
  for (const part of fresh) alreadyAsked.add(part);
  delete state.fault;
  const { prompt, slow } = jobsOf(isLate ? left : fresh);
  await Promise.all([
    queues.addRepair(role, id, prompt),
    slow.length === 0 ? undefined : queues.addRepair(slowQueue(role), id, slow),
  ]).catch((error: unknown) => {
    state.fault = describeError(error);
  });
  if (isLate) {
    state.againAt = performance.now() + state.againMs;
    state.againMs = Math.min(state.againMs * 1.5, AGAIN_MS.most);
  }
}

/** Returns whether the part was open. */
function takeEnded(of: Parts, { endedAt, ...end }: EndedPart): boolean {
  const key = keyOf(end);
  const part = of.open.get(key);
  if (part === undefined) return false;
  of.open.delete(key);
  of.all.set(key, {
    ...part,
    state: end.state,
    ...(end.code === null ? {} : { code: end.code }),
    ...(end.sentence === null ? {} : { sentence: end.sentence }),
  });
  if (of.since === undefined || endedAt > of.since) of.since = endedAt;
  const state = of.states.get(end.role);
  const now = performance.now();
  if (state !== undefined) {
    const { first } = AGAIN_MS;
    Object.assign(state, { signAt: now, againAt: now + first, againMs: first });
  }
  return true;
}

async function giveUp(of: Parts, lookPatiently: PatientLook): Promise<FollowedPart[]> {
  // a quick part is locked for that long only by a worker in trouble, so only slow parts are checked
  const slow = [...of.open.values()].filter(takesHours);
  const underWay = await lookPatiently((client) => readUnderWay(client, slow));
  const known = new Map(underWay?.map((each) => [keyOf(each), each.progress]));
  return endOpen(of.all, (part) => {
    const progress = known.get(keyOf(part));
    if (progress !== undefined) {
      return [
        'STILL_AT_WORK',
        progress === null ? 'the role is working on it' : describeProgress(progress),
      ];
    }
    const { role } = part;
    return [
      'BACKEND_UNAVAILABLE',
      of.states.get(role)?.fault ??
        `no answer within ${of.following.timeoutMs / 1000} s; is \`chamberlain work ${role}\` running?`,
    ];
  });
}

/**
 * New credentials change what is wanted on the database servers. So the subject's part there, which was planned
 * before, is done first.
 */
function waitsForDatabases({ role, steps }: AskedPart): boolean {
  return role === 'homes' && makesVerifier(steps);
}

function makesVerifier(steps: AskedPart['steps']): boolean {
  return steps.some(({ action }) => action.verb === 'credentials.write');
}

function takesHours({ steps }: Pick<AskedPart, 'steps'>): boolean {
  return steps.some(({ action }) => verbOf(action)?.takesHours === true);
}

/**
 * The subjects of each job. A part that may take hours gets a job of its own, because all parts of a job end
 * together.
 */
export function jobsOf(parts: readonly Pick<AskedPart, 'subject' | 'steps'>[]): {
  prompt: number[][];
  slow: number[][];
} {
  const subjects = parts.filter((part) => !takesHours(part)).map(({ subject }) => subject);
  return {
    prompt: Array.from({ length: Math.ceil(subjects.length / SUBJECTS_OF_JOB) }, (_, job) =>
      subjects.slice(job * SUBJECTS_OF_JOB, (job + 1) * SUBJECTS_OF_JOB),
    ),
    slow: parts.filter(takesHours).map(({ subject }) => [subject]),
  };
}

function endOpen(
  parts: ReadonlyMap<string, FollowedPart>,
  why: (part: FollowedPart) => [code: string, sentence: string],
): FollowedPart[] {
  return [...parts.values()].map((part) => {
    if (part.state !== 'asked') return part;
    const [code, sentence] = why(part);
    return { ...part, code, sentence };
  });
}

/** Waits until the servers have the verifiers that the repair has made. Returns those that are missing. */
async function followVerifiers(
  parts: readonly FollowedPart[],
  { timeoutMs, say }: Following,
  lookPatiently: PatientLook,
): Promise<Owed[]> {
  const made = new Map(
    parts
      .filter(
        ({ role, state, steps }) => role === 'homes' && state === 'done' && makesVerifier(steps),
      )
      .map((part) => [part.subject, part.account]),
  );
  const owed = new Map(
    [...made.keys()].map((subject): [number, Omit<Owed, 'subject' | 'account'>] => [
      subject,
      { code: 'BACKEND_UNAVAILABLE', sentence: 'not known yet' },
    ]),
  );
  const open = new Set(made.keys());
  let signAt = performance.now();
  for (let pollMs = POLL_MS.first; open.size > 0; pollMs = Math.min(pollMs * 1.3, POLL_MS.most)) {
    const seen = await lookPatiently(async (client) => ({
      statuses: await readDatabasesStatuses(client, [...open]),
      frozen: await readFreeze(client),
    }));
    for (const { subject, applied, state, code, sentence } of seen?.statuses ?? []) {
      if (applied || state === 'parked') {
        open.delete(subject);
        signAt = performance.now();
      }
      if (applied) owed.delete(subject);
      else {
        owed.set(subject, {
          code: code ?? 'BACKEND_UNAVAILABLE',
          sentence: sentence ?? `databases is ${state}; is \`chamberlain work\` running?`,
        });
      }
    }
    if (seen?.frozen !== undefined) {
      const why = { code: 'FROZEN', sentence: `frozen by ${seen.frozen.frozenBy} meanwhile` };
      for (const subject of open) owed.set(subject, why);
      break;
    }
    if (performance.now() - signAt > timeoutMs) break;
    say(`databases: ${made.size - open.size} of ${made.size} have the new verifier`);
    if (open.size > 0) await sleep(pollMs);
  }
  return [...owed].map(([subject, why]) => ({
    subject,
    account: made.get(subject) ?? String(subject),
    ...why,
  }));
}

function describeProgressOf(parts: readonly FollowedPart[]): string {
  return ROLES.flatMap((role) => {
    const of = parts.filter((part) => part.role === role);
    const ended = of.filter(({ state }) => state !== 'asked').length;
    return of.length === 0 ? [] : [`${role} ${ended} of ${of.length}`];
  }).join(', ');
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
