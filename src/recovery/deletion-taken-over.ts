/**
 * Deletes again the subjects whose archives show a deletion that a database from a backup does not know. Runs as the
 * owner of the database, in the transaction of the recovery.
 *
 * | the last archival has  | what it removed exists again | the account in the backup      | then                                |
 * | ---------------------- | ---------------------------- | ------------------------------ | ----------------------------------- |
 * | both archives          | no                           | live, leaving                  | deleted                             |
 * | one archive            | no                           | live, leaving                  | archived; the rest follows          |
 * | any                    | all of it                    | live                           | as it is; a deletion is cancelled   |
 * | any                    | all of it                    | archived, deleted              | undecided                           |
 * | any                    | some of it                   | any                            | undecided                           |
 * | any                    | no                           | unknown                        | added, then as above                |
 * | any                    | all of it                    | unknown                        | added, undecided                    |
 * | any                    | any                          | another has its name or number | undecided, left alone               |
 *
 * An undecided subject is archived and held: it is closed, and nothing is destroyed before an admin decides. Existing
 * archives are recorded in each case, so that they can be restored and the next archival gets its own number.
 */
import { ChamberlainError } from '../shared/errors.ts';
import { type Deletion, readEvidence, type SeenDeletion } from '../archives/deletion.ts';
import type { PosixId } from '../identity/posix-id.ts';
import { type AccountName, type ShellName, type ToolName, toolOf } from '../identity/names.ts';
import { touchesOfEveryRole, touchesOfEach } from '../roles/touches.ts';
import { writeOperatorActions } from '../audit/operator-actions.ts';
import { rejectWaiting } from '../requests/approvals-table.ts';
import { touchAll } from '../reconcile/convergence-table.ts';
import { noteKnown } from '../credentials/credentials-table.ts';
import { completeArchival } from '../lifecycle/archivals-table.ts';
import { type Account, TO_HAVE_AN_ADMIN } from './erased-again.ts';
import { erasePerson } from '../lifecycle/erasure.ts';
import { type NewEvent, writeEvents } from '../events/events-table.ts';
import { placeHold } from '../lifecycle/holds-table.ts';
import { noteKeys } from '../ssh-keys/keys-table.ts';
import { insertPerson, touchesOfAccess, suspendPeople } from '../identity/people-table.ts';
import type { Client } from '../database/connection.ts';
import {
  countAdmins,
  disableTools,
  insertTools,
  readMaintained,
  readMaintainers,
} from '../identity/tools-table.ts';

const DAY_MS = 86_400_000;
/** How long undecided subjects are held. */
const UNDECIDED_DAYS = 3650;
const REASON = 'its archive says that it was deleted after the backup';

export interface TakenOver {
  /** deleted, or archived and going to be deleted */
  deleted: Account[];
  /** `sentence`: what an admin must look at */
  undecided: (Account & { sentence: string })[];
}

interface Terms {
  by: string;
  /** the admin tool */
  admin: string;
  /** how long archives are kept, counted from now */
  keepDays: number;
  /** the events about a deleted subject */
  eventsOf: (deletion: Deletion) => NewEvent[];
}

/** Does what the archives show. Throws ADMIN_TOOL if no admin would be left. */
export async function takeOverDeletion(
  client: Client,
  seen: readonly SeenDeletion[],
  terms: Terms,
): Promise<TakenOver> {
  const taken: TakenOver = { deleted: [], undecided: [] };
  const admins = await countAdmins(client, terms.admin);
  for (const deletion of readEvidence(seen)) {
    const { account, uid } = deletion;
    const end = await takeOver(client, deletion, terms);
    if (end === 'nothing') continue;
    if (end === 'deleted') taken.deleted.push({ account, uid });
    else taken.undecided.push({ account, uid, sentence: end.sentence });
  }
  const all = [...taken.deleted, ...taken.undecided];
  if (admins > 0 && (await countAdmins(client, terms.admin)) === 0) {
    const names = all.map(({ account }) => account).join(', ');
    const sentence = `archives show the deletion of ${names} after the backup: deleting them again would leave no admin`;
    throw new ChamberlainError('ADMIN_TOOL', sentence, { action: TO_HAVE_AN_ADMIN });
  }
  await writeOperatorActions(
    client,
    Object.entries(taken).flatMap(([field, of]: [string, Account[]]) =>
      of.map(({ uid: subject, account }) => {
        return { kind: 'recover' as const, by: terms.by, subject, account, fields: [field] };
      }),
    ),
  );
  return taken;
}

type End = 'nothing' | 'deleted' | { sentence: string };

async function takeOver(client: Client, deletion: Deletion, terms: Terms): Promise<End> {
  const { uid, account, kind, archival, back } = deletion;
  const known = await findKnown(client, deletion);
  if (known !== undefined && isKnown(known, archival)) return 'nothing';
  if (known === undefined && !(await takeIn(client, deletion))) {
    return {
      sentence: `${account} (${uid}) was deleted after the backup, but another account has its name or number: look at ${placesOf(deletion)}`,
    };
  }
  if (kind === 'person') {
    const keys = deletion.fingerprints.map((fingerprint) => ({ person: uid, fingerprint }));
    await noteKeys(client, keys);
  }
  const isLive = known !== undefined && !['archived', 'deleted'].includes(known.state);
  const isRestored = back === 'yes' && isLive;
  const isWhole = await recordArchives(client, deletion, { ...terms, isOver: isRestored });
  if (isRestored) {
    // it was restored after that deletion
    const table = kind === 'tool' ? 'tools' : 'people';
    await client.query(
      `UPDATE ${table} SET delete_after = NULL, days_warned = NULL, warned_at = NULL WHERE uid = $1`,
      [uid],
    );
    return 'nothing';
  }

  const now = new Date();
  // its groups, and its members
  const touches = [
    ...(kind === 'person'
      ? await touchesOfAccess(client, [uid])
      : await touchesOfTool(client, uid)),
    ...touchesOfEveryRole(uid),
  ];
  if (kind === 'tool') await noteKnown(client, uid);
  await closeAccess(client, deletion, { by: terms.by, reason: REASON, now });
  let end: End = 'deleted';
  if (back !== 'no') {
    const until = new Date(now.getTime() + UNDECIDED_DAYS * DAY_MS);
    await placeHold(client, uid, { by: terms.by, reason: REASON, until, now });
    const what = back === 'yes' ? 'everything' : 'a part of what';
    const sentence =
      `${account} was deleted after the backup, but ${what} it had still exists: it is archived and held; ` +
      `restore it (${kind}.restore), or lift the hold (subject.release) so that it is deleted`;
    end = { sentence };
  } else if (isWhole) {
    const keepUntil = new Date(now.getTime() + terms.keepDays * DAY_MS);
    await completeArchival(client, uid, { now, keepUntil });
    if (kind === 'person') {
      await rejectWaiting(client, [uid], { by: terms.by, now });
      await erasePerson(client, uid);
    }
    await writeEvents(client, terms.eventsOf(deletion));
  }
  await touchAll(client, touches);
  return end;
}

interface KnownSubject {
  state: string;
  /** the last archival that the backup knows; 0 if there is none */
  archival: number;
  /** that archival has not ended, and the subject is not being restored */
  isLeaving: boolean;
  /** the person was erased as the law requires, so the remaining archives are removed */
  isErased: boolean;
}

async function findKnown(
  client: Client,
  { uid, account }: Deletion,
): Promise<KnownSubject | undefined> {
  const { rows } = await client.query(
    `SELECT s.state, coalesce(d.archival, 0) AS archival,
            coalesce(d.back_at IS NULL AND d.returning_at IS NULL AND s.state = 'archived', false) AS "isLeaving",
            EXISTS (SELECT FROM archivals e WHERE e.subject = s.uid AND e.erasure IS NOT NULL) AS "isErased"
     FROM (SELECT uid, state FROM people WHERE uid = $1 AND shell_name = $2
           UNION ALL SELECT uid, state FROM tools WHERE uid = $1 AND account = $2) AS s
     LEFT JOIN LATERAL (SELECT * FROM archivals WHERE subject = s.uid ORDER BY archival DESC LIMIT 1) AS d ON true`,
    [uid, account],
  );
  return (rows as KnownSubject[])[0];
}

/** Whether the backup knows that archival and its end. */
function isKnown({ archival, isLeaving, isErased }: KnownSubject, last: number): boolean {
  return isErased || archival > last || (archival === last && !isLeaving);
}

function placesOf({ archives, archival }: Deletion): string {
  const last = archives.filter((each) => each.archival === archival);
  return last.map(({ archive }) => archive).join(' and ');
}

/** Adds an account that is newer than the backup. Returns false if another account has its number or name. */
async function takeIn(
  client: Client,
  { uid, account, kind, deletedAt, archives }: Deletion,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `INSERT INTO posix_ids (id, kind) SELECT $1, $2 WHERE NOT EXISTS (SELECT FROM names WHERE name = $3)
     ON CONFLICT DO NOTHING`,
    [uid, kind, account],
  );
  if (rowCount === 0) return false;
  if (kind === 'tool') {
    const name = toolOf(account);
    await insertTools(client, [
      {
        ...{ uid: uid as PosixId, name: name as ToolName, account: account as AccountName },
        ...{ title: name, maintainers: [] },
      },
    ]);
    return true;
  }
  const displayName = nameFor({ uid, account });
  const shellName = account as ShellName;
  await insertPerson(client, { uid: uid as PosixId, shellName, displayName, email: '' });
  if (archives.some(({ role, back }) => role === 'homes' && back !== undefined)) {
    await client.query('UPDATE people SET admitted_at = $2 WHERE uid = $1', [uid, deletedAt]);
    await client.query('INSERT INTO credentials (account) VALUES ($1)', [uid]);
  }
  return true;
}

/**
 * Records all archivals; the last one stays open unless `isOver`. Returns whether both archives of that one are
 * recorded.
 */
async function recordArchives(
  client: Client,
  { uid, archival, archives }: Deletion,
  { keepDays, isOver }: { keepDays: number; isOver: boolean },
): Promise<boolean> {
  await client.query(
    `UPDATE archivals SET back_at = now(), keep_until = coalesce(keep_until, now() + make_interval(days => $3))
     WHERE subject = $1 AND archival < $2 AND back_at IS NULL`,
    [uid, archival, keepDays],
  );
  for (const { archival: each, role, deletedAt, archive, manifest, bytes } of archives) {
    await client.query(
      `INSERT INTO archivals (subject, archival, began_at, back_at, keep_until)
       SELECT $1, $2, $3, CASE WHEN $4 THEN now() END, CASE WHEN $4 THEN now() + make_interval(days => $5) END
       ON CONFLICT (subject, archival) DO NOTHING`,
      [uid, each, deletedAt, each < archival || isOver, keepDays],
    );
    await client.query(
      `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes, made_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
      [uid, each, role, manifest, archive, bytes, deletedAt],
    );
  }
  const { rowCount } = await client.query(
    'SELECT FROM archives WHERE subject = $1 AND archival = $2',
    [uid, archival],
  );
  return rowCount === 2;
}

/** Marks a subject as archived, whatever the backup says: it is closed, and nothing is destroyed. */
async function closeAccess(
  client: Client,
  { uid, account, kind }: Deletion,
  closing: { by: string; reason: string; now: Date },
): Promise<void> {
  if (kind === 'tool') {
    await disableTools(client, [uid], closing);
    await client.query(`UPDATE tools SET state = 'archived', delete_after = NULL WHERE uid = $1`, [
      uid,
    ]);
    return;
  }
  await suspendPeople(client, [uid], { ...closing, until: null });
  // a person who is deleted in the backup has no display name there
  await client.query(
    `UPDATE people SET state = 'archived', delete_after = NULL, display_name = coalesce(display_name, $2),
       display_name_key = coalesce(display_name_key, $2), email = coalesce(email, '') WHERE uid = $1`,
    [uid, nameFor({ uid, account })],
  );
}

/** A unique display name. An admin gives another one when the person is restored. */
function nameFor({ uid, account }: Account): string {
  return `${account} (${uid})`;
}

async function touchesOfTool(client: Client, uid: number) {
  const others = [...(await readMaintained(client, uid)), ...(await readMaintainers(client, uid))];
  return touchesOfEach(others, 'members');
}
