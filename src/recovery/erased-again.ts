/** How `chamberlain recover` repeats erasures that the backup is too old to know. */
import { ChamberlainError } from '../shared/errors.ts';
import type { ErasedPerson } from '../lifecycle/erased-person.ts';
import type { ShellName } from '../identity/names.ts';
import type { PosixId } from '../identity/posix-id.ts';
import { touchesOfEveryRole } from '../roles/touches.ts';
import { rejectWaiting } from '../requests/approvals-table.ts';
import { touchAll } from '../reconcile/convergence-table.ts';
import { beginErasure } from '../lifecycle/archivals-table.ts';
import { erasePerson } from '../lifecycle/erasure.ts';
import { removeHold } from '../lifecycle/holds-table.ts';
import { insertPerson, touchesOfAccess } from '../identity/people-table.ts';
import type { Client } from '../database/connection.ts';
import { countAdmins } from '../identity/tools-table.ts';

/** The actor that the events of rejected requests name. */
const BY = 'the recovery';

/**
 * What to do if all admins of the backup were deleted or erased after it. The last admin cannot leave, so somebody else
 * had become an admin by then. Nobody can become one in the backup: a frozen realm accepts no request.
 */
export const TO_HAVE_AN_ADMIN =
  'Nothing was done. The realm stays frozen. Restore PostgreSQL from a newer backup, in which somebody else is an admin, and run `chamberlain recover` again.';

export interface Account {
  account: string;
  uid: number;
}

/**
 * Erases again the people whose erasure the backup does not know, under the original request. People who are newer than
 * the backup are added, so that what servers still have of them is erased too. Throws ADMIN_TOOL if no admin would be
 * left.
 */
export async function eraseAgain(
  client: Client,
  listed: readonly ErasedPerson[],
  adminTool: string,
): Promise<Account[]> {
  const again: Account[] = [];
  const admins = await countAdmins(client, adminTool);
  const now = new Date();
  for (const each of listed) {
    const { uid, account } = each;
    const state = (await findState(client, each)) ?? (await takeIn(client, each));
    if (state === undefined || state.isErased) continue;
    const access = await touchesOfAccess(client, [uid]);
    await suspendForErasure(client, each, now);
    await beginErasure(client, uid, now);
    await rejectWaiting(client, [uid], { by: BY, now });
    await erasePerson(client, uid);
    await touchAll(client, [...access, ...touchesOfEveryRole(uid)]);
    again.push({ account, uid });
  }
  if (again.length > 0 && admins > 0 && (await countAdmins(client, adminTool)) === 0) {
    const names = again.map(({ account }) => account).join(', ');
    throw new ChamberlainError(
      'ADMIN_TOOL',
      `erasures.log names ${names}: erasing them again would leave no admin`,
      { action: TO_HAVE_AN_ADMIN },
    );
  }
  return again;
}

interface State {
  isErased: boolean;
}

async function findState(
  client: Client,
  { uid, account }: ErasedPerson,
): Promise<State | undefined> {
  const { rows } = await client.query(
    `SELECT EXISTS (SELECT FROM archivals d WHERE d.subject = p.uid AND d.erasure IS NOT NULL) AS "isErased"
     FROM people p WHERE p.uid = $1 AND p.shell_name = $2`,
    [uid, account],
  );
  return (rows as State[])[0];
}

/**
 * Adds a person who is newer than the backup, without a display name. Undefined if another has the number or the name.
 */
async function takeIn(client: Client, { uid, account }: ErasedPerson): Promise<State | undefined> {
  const { rowCount } = await client.query(
    `INSERT INTO posix_ids (id, kind) SELECT $1, 'person' WHERE NOT EXISTS (SELECT FROM names WHERE name = $2)
     ON CONFLICT DO NOTHING`,
    [uid, account],
  );
  if (rowCount === 0) return undefined;
  const names = { shellName: account as ShellName, displayName: '', email: '' };
  await insertPerson(client, { uid: uid as PosixId, ...names });
  return { isErased: false };
}

/** Suspends a person and approves the erasure, which the database requires first, whatever the backup says. */
async function suspendForErasure(
  client: Client,
  { uid, erasure }: ErasedPerson,
  now: Date,
): Promise<void> {
  const { portal, request, requestedBy, approvedBy, approvedAt } = erasure;
  await rejectWaiting(client, [uid], { by: BY, now, erasing: true });
  await client.query(
    `INSERT INTO approvals (portal, request, kind, subject, requested_by, why, state, decided_by, decided_at)
     VALUES ($1, $2, 'person.erase', $3, $4, '', 'approved', $5, least($6::timestamptz, now() - interval '24 hours'))
     ON CONFLICT (portal, request) DO UPDATE SET state = 'approved', body = NULL,
       decided_by = excluded.decided_by, decided_at = excluded.decided_at`,
    [portal, request, uid, requestedBy, approvedBy, approvedAt],
  );
  await removeHold(client, uid);
  await client.query('UPDATE archivals SET back_at = $2 WHERE subject = $1 AND back_at IS NULL', [
    uid,
    now,
  ]);
  // a person who is deleted in the backup has no display name there
  await client.query(
    `UPDATE people SET state = 'suspended', display_name = coalesce(display_name, ''),
       display_name_key = coalesce(display_name_key, ''), email = coalesce(email, '')
     WHERE uid = $1`,
    [uid],
  );
}
