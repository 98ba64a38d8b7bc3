/**
 * Who makes a call: `Authorization: Chamberlain TOKEN`, a token that the portal has signed for this call alone. An
 * admin's own key signs in the same way, as long as that person is an admin.
 */
import type { IncomingMessage } from 'node:http';
import { type Pool, withClient } from '../database/connection.ts';
import { findAdminKeys, readKeyState, whyDead } from '../requests/admin-keys-table.ts';
import { findLivePortal } from '../requests/portals-table.ts';
import { kidOfAdmin, verifyCall } from '../requests/token.ts';
import { adminOfPortal, type Config } from '../shared/config.ts';
import { isAdmin } from './callers-queries.ts';
import { Problem } from './problem.ts';
import type { Caller } from './rights.ts';

/** Whether a call names an admin's own key that is looked up in PostgreSQL, before its signature can be checked. */
export function namesAdminKey({ headersDistinct }: IncomingMessage): boolean {
  const [token] = (headersDistinct['authorization'] ?? []).map(tokenIn);
  return token !== undefined && kidOfAdmin(token) !== undefined;
}

const tokenIn = (header: string): string | undefined => /^Chamberlain +(\S+)$/iu.exec(header)?.[1];

/** The caller; undefined without the header. Throws a problem for a header that is not valid. */
export async function findCaller(
  { config, pool }: { config: Config; pool: Pool },
  raw: IncomingMessage,
  now: Date,
): Promise<Caller | undefined> {
  const given = raw.headersDistinct['authorization'];
  if (given === undefined) return undefined;
  const token = tokenIn(given[0] ?? '');
  if (given.length > 1 || token === undefined) {
    throw unsigned('The header must be `Authorization: Chamberlain TOKEN`, once.');
  }
  const call = { method: raw.method ?? '', target: raw.url ?? '' };
  const kid = kidOfAdmin(token);
  const adminKeys =
    kid === undefined
      ? undefined
      : await withClient(pool, (client) => findAdminKeys(client, [kid]));
  const verified = verifyCall(token, call, config, now, adminKeys);
  if ('sentence' in verified) throw unsigned(verified.sentence);
  const { portal, key, portalKey } = verified;
  const { name, reads, mostCallsPerMinute } = portal;
  const admin = adminOfPortal(name);
  if (portalKey !== undefined) {
    // at each call, as for admins' own keys
    const live = await withClient(pool, (client) => findLivePortal(client, name, portalKey));
    if (live === undefined) throw unsigned('The portal was removed, or no longer has the key.');
    return { name, admin, reads: live.reads, mostCallsPerMinute: live.mostCallsPerMinute };
  }
  if (admin === undefined || key === undefined) return { name, admin, reads, mostCallsPerMinute };
  // at each call: a key that was revoked, or whose owner is no admin any more, is dead at once
  const [state, isOne] = await withClient(pool, (client) =>
    Promise.all([readKeyState(client, key), isAdmin(client, admin, config.admin)]),
  );
  const dead = whyDead(key, state, now);
  if (dead !== undefined) throw unsigned(dead);
  if (!isOne) {
    throw unsigned('The token is signed with the own key of a person who is not an admin.');
  }
  return { name, admin, reads: ['all'] };
}

/** The answer to a call without a valid token where one is needed, or with one that is not valid. */
export function unsigned(detail?: string): Problem {
  return new Problem(401, 'CALL_UNSIGNED', detail, {
    headers: { 'www-authenticate': 'Chamberlain' },
  });
}
