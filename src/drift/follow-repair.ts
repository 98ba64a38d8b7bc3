/** Follows the parts of a repair until all have ended, and what follows from them is applied. */
import type { Asker } from './asking.ts';
import type { Config } from '../shared/config.ts';
import type { Role } from '../reconcile/wanted.ts';
import { ROLES } from '../roles/index.ts';
import { describeProgress } from '../lifecycle/render-leaving.ts';
import { type Freeze, readFreeze } from '../database/freeze.ts';
import { look, readBehindOf } from '../database/overview.ts';
import { type Client, openPool } from '../database/connection.ts';
import { type AskedPart, makesVerifier, mayBegin, takesHours } from './repair-parts.ts';
import {
  askParts,
  type EndedPart,
  keepWaiting,
  readEnded,
  readUnderWay,
  type UnderWay,
  WAITED_FOR_SECONDS,
} from './repairs-table.ts';

const POLL_MS = { first: 20, most: 500 };

/** A part with its outcome; `asked` if none is known. */
export interface FollowedPart extends AskedPart {
  state: 'asked' | 'done' | 'refused' | 'failed';
  code?: string | undefined;
  sentence?: string | undefined;
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
  /** those of `mayBegin` were asked for already */
  parts: readonly AskedPart[];
  /** how long a role may go without ending a part */
  timeoutMs: number;
  /** is called with the progress of the roles */
  say: (text: string) => void;
}

/** What is known of a repair. */
interface Followed extends Pick<Following, 'id' | 'timeoutMs'> {
  readonly parts: readonly FollowedPart[];
  /** those that have not ended, by role and subject */
  readonly open: Map<string, FollowedPart>;
  /** open ones that wait for others, and were not asked for yet */
  readonly unasked: Set<FollowedPart>;
  /** new verifiers that the database servers do not have yet, by subject */
  readonly owed: Map<number, Owed>;
  /** those that the role databases has given up on */
  readonly stuck: Set<number>;
  /** when a role last ended a part, or was given a new one */
  readonly signAt: Map<Role, number>;
  /** when the last part ended */
  since: Date | undefined;
}

/**
 * Returns when every part has ended and its consequences are applied; or when no role that is left has ended a part for
 * `timeoutMs`, or the realm is frozen. Then the remaining parts are `asked`, with a reason. It survives an outage of
 * PostgreSQL that is shorter than that.
 */
export async function followRepair(
  config: Config,
  account: Asker,
  following: Following,
): Promise<{ parts: readonly FollowedPart[]; owed: Owed[] }> {
  const of = openFollowed(following);
  const pool = openPool(config, account, { max: 1, durable: true });
  // since when PostgreSQL does not answer
  let awayAt: number | undefined;
  try {
    for (let pollMs = POLL_MS.first; ; pollMs = Math.min(pollMs * 1.3, POLL_MS.most)) {
      const before = of.open.size;
      let frozen: Freeze | undefined;
      const begunAt = performance.now();
      try {
        frozen = await look(pool, (client) => lookOnce(of, client));
        // nothing could be heard of the roles meanwhile
        const awayMs = awayAt === undefined ? 0 : performance.now() - awayAt;
        for (const [role, at] of of.signAt) of.signAt.set(role, at + awayMs);
        awayAt = undefined;
      } catch (error) {
        awayAt ??= begunAt;
        if (performance.now() - awayAt > of.timeoutMs) throw error;
      }
      if (of.open.size < before) pollMs = POLL_MS.first;
      following.say(describeProgressOf(of));
      if (frozen !== undefined || (awayAt === undefined && isOver(of))) {
        const underWay = await look(pool, (client) => stopWaiting(of, client)).catch(
          () => undefined,
        );
        if (frozen === undefined) giveUp(of, underWay);
        else leaveFrozen(of, frozen);
        return { parts: of.parts, owed: [...of.owed.values()] };
      }
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
  } finally {
    await pool.end();
  }
}

/** From now on nothing more is begun. Reads what has ended until then, and returns the slow parts that have begun. */
async function stopWaiting(of: Followed, client: Client): Promise<UnderWay[]> {
  await keepWaiting(client, of.id, 0);
  for (const ended of await readEnded(client, of.id, of.since)) takeEnded(of, ended);
  // a quick part is locked for so long only by a worker in trouble
  const slow = [...of.open.values()].filter(({ steps }) => takesHours(steps));
  return slow.length === 0 ? [] : await readUnderWay(client, slow);
}

function leaveFrozen(of: Followed, { frozenBy }: Freeze): void {
  const why = { code: 'FROZEN', sentence: `frozen by ${frozenBy} meanwhile` };
  for (const part of of.open.values()) Object.assign(part, why);
  for (const subject of awaitedOf(of)) Object.assign(of.owed.get(subject) ?? {}, why);
}

function keyOf({ role, subject }: { role: Role; subject: number }): string {
  return `${role} ${subject}`;
}

function openFollowed({ id, timeoutMs, parts: asked }: Following): Followed {
  const parts = asked.map((part): FollowedPart => ({ ...part, state: 'asked' }));
  const begun = new Set(mayBegin(parts));
  const now = performance.now();
  return {
    ...{ id, timeoutMs, parts, owed: new Map(), stuck: new Set(), since: undefined },
    open: new Map(parts.map((part) => [keyOf(part), part])),
    unasked: new Set(parts.filter((part) => !begun.has(part))),
    signAt: new Map(ROLES.map((role) => [role, now])),
  };
}

/** Whether a role has given no sign for too long. */
function isSilent({ signAt, timeoutMs }: Followed, role: Role): boolean {
  return performance.now() - (signAt.get(role) ?? 0) > timeoutMs;
}

/** Asks for the parts that waited and may begin now, and reads what has ended. Returns the freeze, if there is one. */
async function lookOnce(of: Followed, client: Client): Promise<Freeze | undefined> {
  await keepWaiting(client, of.id);
  const fresh = freshOf(of);
  if (fresh.length > 0) await askParts(client, of.id, fresh);
  for (const part of fresh) {
    of.unasked.delete(part);
    of.signAt.set(part.role, performance.now());
  }
  for (const ended of await readEnded(client, of.id, of.since)) takeEnded(of, ended);
  await lookAtVerifiers(of, client);
  return await readFreeze(client);
}

/** No part waits for a role that gives no sign. */
function freshOf(of: Followed): FollowedPart[] {
  if (of.unasked.size === 0) return [];
  const isLost = isSilent(of, 'databases');
  const open = [...of.open.values()].filter(({ role }) => role !== 'databases' || !isLost);
  return mayBegin(open).filter((part) => of.unasked.has(part));
}

function takeEnded(of: Followed, { role, subject, state, code, sentence, endedAt }: EndedPart) {
  const part = of.open.get(keyOf({ role, subject }));
  if (part === undefined) return;
  of.open.delete(keyOf(part));
  Object.assign(part, { state, code: code ?? undefined, sentence: sentence ?? undefined });
  if (of.since === undefined || endedAt > of.since) of.since = endedAt;
  of.signAt.set(role, performance.now());
  if (state !== 'done' || !makesVerifier(part)) return;
  const unknown = { code: 'BACKEND_UNAVAILABLE', sentence: 'not known yet' };
  of.owed.set(subject, { subject, account: part.account, ...unknown });
  of.signAt.set('databases', performance.now());
}

async function lookAtVerifiers(of: Followed, client: Client): Promise<void> {
  const awaited = awaitedOf(of);
  if (awaited.length === 0) return;
  const rows = (await readBehindOf(client, awaited)).filter(({ role }) => role === 'databases');
  const behind = new Map(rows.map((row) => [row.subject, row]));
  for (const subject of awaited) {
    const row = behind.get(subject);
    if (row === undefined) {
      of.owed.delete(subject);
      continue;
    }
    if (row.state === 'parked') of.stuck.add(subject);
    Object.assign(of.owed.get(subject) ?? {}, {
      code: row.code ?? 'BACKEND_UNAVAILABLE',
      sentence:
        row.sentence ??
        'not on the database servers yet; are `chamberlain work relay` and `chamberlain work databases` running?',
    });
  }
  if (awaitedOf(of).length < awaited.length) of.signAt.set('databases', performance.now());
}

/** Subjects whose new verifier may still come to the database servers. */
function awaitedOf({ owed, stuck }: Followed): number[] {
  return [...owed.keys()].filter((subject) => !stuck.has(subject));
}

/** Whether nothing is left, or none of the roles that it is left to gives a sign. */
function isOver(of: Followed): boolean {
  const left = new Set([...of.open.values()].map(({ role }) => role));
  if (awaitedOf(of).length > 0) left.add('databases');
  return of.unasked.size === 0 && [...left].every((role) => isSilent(of, role));
}

/**
 * Says why the parts that are left are not done, or that a role is working on them.
 *
 * @param underWay undefined: PostgreSQL did not say, and perhaps it does not know that nobody waits any more
 */
function giveUp({ open, timeoutMs }: Followed, underWay: readonly UnderWay[] | undefined): void {
  if (underWay === undefined) {
    for (const part of open.values()) {
      part.code = 'BACKEND_UNAVAILABLE';
      part.sentence = `no answer within ${timeoutMs / 1000} s, and then none from PostgreSQL: ${part.role} may have begun it, or may begin it within ${WAITED_FOR_SECONDS} s`;
    }
    return;
  }
  const known = new Map(underWay.map((each) => [keyOf(each), each.progress]));
  const busy = new Set(underWay.map(({ role }) => role));
  for (const [key, part] of open) {
    const progress = known.get(key);
    if (progress === undefined && busy.has(part.role) && takesHours(part.steps)) {
      part.code = 'BACKEND_UNAVAILABLE';
      part.sentence = `not begun: ${part.role} does slow parts one after another; run the command again when the unfinished ones are done`;
    } else if (progress === undefined) {
      part.code = 'BACKEND_UNAVAILABLE';
      part.sentence = `no answer within ${timeoutMs / 1000} s; are \`chamberlain work relay\` and \`chamberlain work ${part.role}\` running?`;
    } else {
      part.code = 'STILL_AT_WORK';
      part.sentence = progress === null ? 'the role is working on it' : describeProgress(progress);
    }
  }
}

function describeProgressOf({ parts, open, owed, stuck }: Followed): string {
  if (open.size > 0) {
    return ROLES.flatMap((role) => {
      const of = parts.filter((part) => part.role === role);
      const ended = of.filter(({ state }) => state !== 'asked').length;
      return of.length === 0 ? [] : [`${role} ${ended} of ${of.length}`];
    }).join(', ');
  }
  const made = parts.filter((part) => part.state === 'done' && makesVerifier(part)).length;
  return `databases: ${made - owed.size + stuck.size} of ${made} have the new verifier`;
}
