/**
 * Removes records whose retention time is over: PostgreSQL decides which those are
 * (migrations/0029_kept_surveys_expire.sql).
 */
import type { Config } from '../shared/config.ts';
import type { Client } from './connection.ts';

/** Each kind of record, and the setting that says how long it is kept. */
const KEPT = [
  ['events', 'eventsDays'],
  ['requests', 'requestsDays'],
  ['access_requests', 'requestsDays'],
  ['approvals', 'requestsDays'],
  ['sweeps', 'sweepsDays'],
  ['repairs', 'repairsDays'],
  ['api_reads', 'readsDays'],
] as const satisfies [string, keyof Config['retention']][];

/** How far a run through all kinds has got. */
export interface ExpiryRun {
  /** the kind, by its place in the list */
  at: number;
  /** the rows up to this number have been checked */
  after: string;
}

export const EXPIRY_BEGIN: ExpiryRun = { at: 0, after: '0' };

/**
 * Checks the next 1,000 records, and removes those whose time is over. It is one statement, so it may be
 * interrupted at any point.
 *
 * @returns how many were removed, and where to go on; `next` is undefined at the end
 */
export async function removeExpired(
  client: Pick<Client, 'query'>,
  retention: Config['retention'],
  { at, after }: ExpiryRun,
): Promise<{ kind: string; removed: number; next: ExpiryRun | undefined }> {
  const [kind, days] = KEPT[at] as (typeof KEPT)[number];
  const { rows } = await client.query({
    name: 'remove-expired',
    text: 'SELECT removed, next FROM remove_expired($1, $2, $3)',
    values: [kind, retention[days], after],
  });
  const [{ removed, next }] = rows as [{ removed: number; next: string | null }];
  const then = at + 1 < KEPT.length ? { at: at + 1, after: '0' } : undefined;
  return { kind, removed, next: next === null ? then : { at, after: next } };
}
