/**
 * Looks for unmanaged things in a role's places, with accounts that cannot write: a cheap look at regular
 * intervals, and a complete one with each survey of everything.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Config, realmOf } from '../shared/config.ts';
import {
  codeOf,
  describeError,
  describeRootCause,
  doing,
  isUnreachable,
} from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import { normalName } from '../identity/names.ts';
import type { Looked, SeenThing } from './unmanaged.ts';
import { describedRole } from '../roles/index.ts';
import type { Realm, Role } from '../reconcile/wanted.ts';
import { rememberUnmanaged } from './sightings-table.ts';
import { openPool, type Pool } from '../database/connection.ts';
import { clearTrouble, writeTrouble } from '../database/troubles-table.ts';
import { readAccounts, readClock, readNumbers, recordLook } from './unmanaged-table.ts';
import { type Everything, unmanagedAmong } from '../targets/everything.ts';
import { type Leased, startLeased, untilAborted } from '../database/leased.ts';
import type { Worker } from '../shared/loop.ts';
import type { RoleParts } from '../reconcile/role.ts';

/** Something new must be listed within a minute, even if one look fails. */
const EVERY_MS = 20_000;

/** What a look is given. */
export interface Watching {
  pool: Pool;
  realm: Realm;
  /** the ranges of numbers for people and tools */
  ranges: readonly { first: number; last: number }[];
  /** the ranges that other realms use */
  others: readonly { first: number; last: number }[];
  config: Config;
}

/**
 * Looks once, at each place independently: a place that cannot be read fails alone. It may look only at what has
 * changed since the last time.
 *
 * @param everything what was just read, for a complete look
 */
export type Watch<Reader> = (everything?: Everything<Reader>) => Look[];

/** A look at one place. */
interface Look {
  place: string;
  looking: Promise<Omit<Looked, 'place'>>;
}

/** Looks again and again until it is closed. Of several processes of a role, only one looks. */
export function startWatching<Reader>(
  parts: RoleParts<Reader>,
  config: Config,
  log: Log,
  everyMs = EVERY_MS,
): Worker {
  const { role } = parts;
  const reader = parts.openReader(config);
  const said = new Set<string>();

  async function lookAgainAndAgain(
    { held: { signal: held }, progress }: Leased,
    pool: Pool,
  ): Promise<void> {
    const watching = watchingOf(config, pool);
    let watch = parts.openWatch(reader, watching);
    while (!held.aborted) {
      const failures = await lookOnce(watch, { role, ...watching }).catch((error) => [error]);
      for (const error of failures) {
        const sentence = describeError(error);
        if (!held.aborted && !said.has(sentence))
          log.warn({ role, error: sentence }, 'looking for unmanaged things failed');
        said.add(sentence);
      }
      if (failures.length === 0) said.clear();
      // after a failure, look again for what was seen but could not be written
      else watch = parts.openWatch(reader, watching);
      await progress();
      await sleep(everyMs, undefined, { signal: held }).catch(() => {});
    }
  }

  // a file system that hangs keeps a look waiting
  const terms = { config, role: `${role}_reader`, log, mayWait: true } as const;
  const worker = startLeased(terms, async (leased) => {
    const { epoch, held } = leased;
    const pool = openPool(config, `${role}_reader`, { max: 4, durable: false, epoch });
    try {
      await Promise.race([lookAgainAndAgain(leased, pool), untilAborted(held.signal)]);
    } finally {
      await pool.end();
    }
  });
  return {
    async close() {
      await worker.close();
      await reader.close();
    },
  };
}

export function watchingOf(config: Config, pool: Pool): Watching {
  const ranges = [...config.ids.people, ...config.ids.tools];
  return { pool, realm: realmOf(config), ranges, others: config.ids.others, config };
}

/**
 * Looks once, and writes place by place, so that one that hangs does not delay the others. A place that cannot be
 * read is recorded as a trouble until it can be read. Returns the errors.
 */
export async function lookOnce<Reader>(
  watch: Watch<Reader>,
  { role, pool, realm, config }: { role: Role } & Pick<Watching, 'pool' | 'realm' | 'config'>,
  { everything, began }: { everything?: Everything<Reader>; began?: string } = {},
): Promise<unknown[]> {
  const from = began ?? (await readClock(pool));
  const looks = watch(everything).map(async ({ place, looking }) => {
    try {
      const looked = { place, ...(await looking) };
      await clearTrouble(pool, role, place);
      await recordLook(pool, role, looked, from);
      await keepFromRequests(looked.things, pool, realm);
    } catch (error) {
      if (isOfPlace(error)) {
        await writeTrouble(pool, { role, place, sentence: sentenceOn(place, error, role, config) });
      }
      throw error;
    }
  });
  const failed = (await Promise.allSettled(looks)).filter((each) => each.status === 'rejected');
  return failed.map(({ reason }) => reason as unknown);
}

/** Why a place cannot be read. Of a server that is away, not what was being done there. */
function sentenceOn(place: string, error: unknown, role: Role, config: Config): string {
  const server = describedRole(role).server?.(config, place);
  return server !== undefined && isUnreachable(error)
    ? `${server} cannot be reached: ${describeRootCause(error)}`
    : describeError(error);
}

/** Asks PostgreSQL in the middle of a look. If that fails, the place is not at fault. */
export async function askPostgres<T>(asking: Promise<T>): Promise<T> {
  return await doing('BACKEND_UNAVAILABLE', 'asking PostgreSQL what is ours', () => asking);
}

/** Whether it is the place that cannot be read, and not PostgreSQL. */
function isOfPlace(error: unknown): boolean {
  const { cause } = error as { cause?: unknown };
  return codeOf(error) === 'BACKEND_UNREADABLE' && codeOf(cause) !== 'BACKEND_UNAVAILABLE';
}

/** Remembers the names and numbers of unmanaged things, so that no request gets them. */
async function keepFromRequests(
  things: readonly SeenThing[],
  pool: Pool,
  realm: Realm,
): Promise<void> {
  const sightings = things.map(({ kind, name, number }) => ({
    // the name of a database user is not that of an account
    name: name === undefined || kind === 'database user' ? undefined : normalName(name),
    id: number,
  }));
  if (sightings.length === 0) return;
  const names = await readAccounts(
    pool,
    sightings.flatMap(({ name }) => name ?? []),
  );
  const numbers = await readNumbers(
    pool,
    sightings.flatMap(({ id }) => id ?? []),
  );
  const ours = new Map([
    ...names,
    ...[...numbers].map(([uid, { account }]) => [account, uid] as const),
  ]);
  await rememberUnmanaged(pool, unmanagedAmong(sightings, ours, realm));
}
