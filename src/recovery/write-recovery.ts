/** What `chamberlain recover` writes, as the owner of the database. */
import { ChamberlainError } from '../shared/errors.ts';
import type { Deletion, SeenDeletion } from '../archives/deletion.ts';
import type { ErasedPerson } from '../lifecycle/erased-person.ts';
import type { Open, Taking } from './taking.ts';
import type { Role } from '../reconcile/wanted.ts';
import { type OperatorAction, writeOperatorActions } from '../audit/operator-actions.ts';
import { touchAll } from '../reconcile/convergence-table.ts';
import { type RoleTouch, touchesOfEach } from '../roles/touches.ts';
import { takeOverDeletion, type TakenOver } from './deletion-taken-over.ts';
import { type Account, eraseAgain } from './erased-again.ts';
import { type NewEvent, writeEvents } from '../events/events-table.ts';
import { goOnWithEvents, goOnWithSeals, type PortalNumbers } from './numbers-go-on.ts';
import { endFreeze } from '../database/freeze.ts';
import { noteKeys } from '../ssh-keys/keys-table.ts';
import { adoptNewerPlaces } from '../seals/place-markers-table.ts';
import type { Client } from '../database/connection.ts';
import { readSuspendedBefore, stopDates } from './recovery-holds.ts';
import { writeTakings } from './write-takings.ts';
import { readAdmins } from '../identity/tools-table.ts';

/** So many numbers beyond the highest known one may have been assigned without being visible yet, or be lost. */
const ID_MARGIN = 100;

/** What the roles see of changes after the backup. */
export interface SeenSince {
  /** since when the realm was frozen during the survey, so that nothing was decided meanwhile */
  frozenAt: Date;
  /** numbers in our ranges that a role sees and that belong to no subject */
  unmanagedNumbers: readonly number[];
  /** accounts that login hosts remember but the backup does not know */
  remembered: readonly Account[];
  /** accounts for which a file or a server may have a password that is not the recorded one */
  strangePasswords: readonly number[];
  /** the heartbeat in the directory is newer than our database */
  isOlder: boolean;
  /** the people in the list of erased people beside the archives */
  erased: readonly ErasedPerson[];
  /** archives that the backup does not know */
  deletions: readonly SeenDeletion[];
  /** touches for what servers give beyond the backup */
  given: readonly RoleTouch[];
}

/** What follows from the evidence (src/recovery/lesser.ts). */
export interface Decided {
  takings: readonly Taking[];
  open: readonly Open[];
  /** keys that no other person may add */
  seenKeys: readonly { person: number; fingerprint: string }[];
}

/** What a recovery writes. */
export interface Recovery {
  ranges: { kind: 'person' | 'tool'; first: number; last: number; from: number; to: number }[];
  /** kinds that have no number left afterwards */
  exhausted: ('person' | 'tool')[];
  /** names that are in use and not ours, as far as the backup knows */
  names: string[];
  /** accounts that get new passwords */
  credentials: { account: string; uid: number; epoch: number }[];
  events: PortalNumbers[];
  /** people who are erased again */
  erased: Account[];
  /** deletions after the backup, as archives show them */
  leaving: TakenOver;
  takings: readonly Taking[];
  /** what only an admin can decide */
  open: Open[];
}

/**
 * Makes a database that was restored from a backup safe to use, and thaws the realm, in the transaction of the caller.
 * It gives nobody anything that the servers do not show:
 *
 * - What the evidence takes away is taken away (src/recovery/lesser.ts) before any request is decided.
 * - Access that servers wrongly give is taken away at once, however many subjects this affects, and not by the next
 *   sweep.
 * - No date in the backup gives access or destroys anything (src/recovery/recovery-holds.ts).
 * - Ranges continue 100 beyond each number that is in use now and that the backup did not know, whether ours or
 *   unmanaged. If there is none, they continue 100 beyond the backup's own, because later numbers may be lost
 *   everywhere. Numbers that were unmanaged in the backup already are skipped one by one, as always, and move nothing.
 * - A recorded verifier that may not be the last one is no longer wanted: a new password is made, and no server gets
 *   the old one before.
 * - Events continue far beyond those that portals may have received, and seals beyond those that login hosts have seen.
 *   So every seal is signed again.
 * - People who were erased as the law requires are erased again, according to the list beside the archives.
 * - The heartbeat in the directory is accepted if it is newer, and so are the markers of places.
 * - Subjects whose archives show a deletion after the backup are deleted, as in deletion-taken-over.ts.
 *
 * The time of the backup is that of the last heartbeat published before it, or, if that says nothing, the time of the
 * freeze. Throws PLAN_MOVED if the realm was thawed meanwhile, and ADMIN_TOOL if no admin would be left.
 *
 * @param terms.portals the portals that receive events
 * @param terms.realm the realm, whose own group is not unmanaged although it is not a subject
 * @param terms.admin the admin tool
 * @param terms.keepDays how long archives are kept
 * @param terms.eventsOfErased the events about a person who is erased again
 * @param terms.eventsOfTaking the events about a taking
 * @param terms.eventsOfDeleted the events about a deleted subject
 */
export async function writeRecovery(
  client: Client,
  seen: SeenSince,
  decided: Decided,
  terms: {
    by: string;
    portals: readonly string[];
    realm: string;
    admin: string;
    keepDays: number;
    eventsOfErased: (erased: Account) => NewEvent[];
    eventsOfTaking: (taking: Taking) => NewEvent[];
    eventsOfDeleted: (deletion: Deletion) => NewEvent[];
  },
): Promise<Recovery> {
  const { by, portals, realm, admin, keepDays } = terms;
  const backupAt = await readBackupTime(client, seen);
  const now = new Date();
  const gone = [...seen.erased, ...seen.deletions, ...seen.remembered].map(({ uid }) => uid);
  await rememberAccounts(client, seen.remembered);
  const ranges = await moveRanges(client, [...seen.unmanagedNumbers, ...gone], backupAt);
  const erased = await eraseAgain(client, seen.erased, admin);
  const leavingTerms = { by, admin, keepDays, eventsOf: terms.eventsOfDeleted };
  const leaving = await takeOverDeletion(client, seen.deletions, leavingTerms);
  const admins = await readAdmins(client, admin);
  // for a subject with an archive, only the archive counts
  const left = new Set([...leaving.deleted, ...leaving.undecided].map(keyOf));
  const isLeft = (uid: number, account: string) => left.has(keyOf({ uid, account }));
  const takings = decided.takings.filter(({ subject, account }) => !isLeft(subject, account));
  const isListed = new Set(leaving.undecided.map(({ account }) => account));
  const isDeleted = new Set(leaving.deleted.map(({ account }) => account));
  const events = await goOnWithEvents(client, portals);
  await goOnWithSeals(client);
  const taken = await writeTakings(client, takings, now);
  const isGone = new Set(gone);
  const given = seen.given.filter(({ subject }) => !isGone.has(subject));
  await noteKeys(client, decided.seenKeys);
  await touchAll(client, [...taken.lost, ...given], true);
  await touchAll(client, taken.gained);
  const stopped = (await stopDates(client, now)).filter(({ account }) => !isListed.has(account));
  const before = await readSuspendedBefore(client, decided.open);
  if (admins.length > 0 && (await readAdmins(client, admin)).length === 0) throw noAdmin(admins);
  const recovery: Recovery = {
    ...{ ranges, erased, leaving, events, takings },
    exhausted: await readExhausted(client),
    names: await readNamesSince(client, backupAt, `project-${realm}`),
    credentials: await wantNewPasswords(
      client,
      seen.strangePasswords.filter((uid) => !leaving.deleted.some((each) => each.uid === uid)),
    ),
    open: [
      ...decided.open.filter(({ account }) => !isDeleted.has(account)),
      ...leaving.undecided.map(({ account, sentence }) => ({ account, sentence })),
      ...taken.open,
      ...stopped,
      ...before,
    ],
  };
  await writeEvents(client, [
    ...erased.flatMap(terms.eventsOfErased),
    ...takings.flatMap(terms.eventsOfTaking),
  ]);
  if (seen.isOlder) {
    await client.query(
      'UPDATE directory_heartbeat SET publishing_at = NULL, published_at = NULL, doubt = NULL, older = NULL',
    );
  }
  await adoptNewerPlaces(client);
  await writeOperatorActions(client, operatorActionsOf(recovery, by));
  await endFreeze(client, by);
  return recovery;
}

/** Identifies a subject by number and name, because another subject may have one of them by now. */
function keyOf({ uid, account }: Account): string {
  return `${uid} ${account}`;
}

/**
 * When the backup was made, as far as its own data show; a heartbeat published later says nothing. Locks the rows of
 * the heartbeat and the freeze. Throws PLAN_MOVED if the realm was thawed after the survey, whether it is frozen again
 * or not, because decisions made meanwhile are newer than the survey.
 */
async function readBackupTime(
  client: Client,
  { isOlder, frozenAt: since }: Pick<SeenSince, 'isOlder' | 'frozenAt'>,
): Promise<Date> {
  // locked in the same order as in freeze_older
  const marker = await client.query('SELECT published_at FROM directory_heartbeat FOR UPDATE');
  const frozen = await client.query('SELECT frozen_at FROM frozen FOR UPDATE');
  const { frozen_at: frozenAt } = frozen.rows[0] as { frozen_at: Date | null };
  if (frozenAt?.getTime() !== since.getTime()) {
    const sentence = 'the realm was thawed during the survey, so nothing was done';
    const action = 'Run `chamberlain recover` again.';
    throw new ChamberlainError('PLAN_MOVED', sentence, { action });
  }
  const { published_at: publishedAt } = marker.rows[0] as { published_at: Date | null };
  return !isOlder || publishedAt === null || publishedAt > frozenAt ? frozenAt : publishedAt;
}

function noAdmin(admins: readonly string[]): ChamberlainError {
  return new ChamberlainError(
    'ADMIN_TOOL',
    `no admin would be left, because the evidence takes the rights of an admin from ${admins.join(', ')}`,
    {
      action:
        'Nothing was done. The realm stays frozen. Name one of them with --keep: this person stays as in the backup.',
    },
  );
}

/** Returns a function that says whether a role had ever applied the wanted state of a subject. */
export async function readBroughtTo(
  client: Client,
  subjects: readonly number[],
): Promise<(subject: number, role: Role) => boolean> {
  const { rows } = await client.query(
    'SELECT subject, role FROM convergence WHERE subject = ANY ($1) AND applied > 0',
    [subjects],
  );
  const brought = new Set(
    (rows as { subject: number; role: Role }[]).map(({ subject, role }) => `${role} ${subject}`),
  );
  return (subject, role) => brought.has(`${role} ${subject}`);
}

/** The number of accounts that were ever made on the database servers. */
export async function countBroughtToDatabases(client: Client): Promise<number> {
  const { rows } = await client.query(
    `SELECT count(*)::int AS brought FROM convergence JOIN credentials ON account = subject
       LEFT JOIN people p ON p.uid = subject LEFT JOIN tools t ON t.uid = subject
     WHERE role = 'databases' AND applied > 0 AND coalesce(p.state, t.state) <> 'deleted'`,
  );
  return (rows[0] as { brought: number }).brought;
}

/** The time of the last audit record before the realm was frozen. Undefined if there is none. */
export async function readLastKnown(client: Client): Promise<Date | undefined> {
  const { rows } = await client.query(
    'SELECT at FROM audit WHERE at < (SELECT frozen_at FROM frozen) ORDER BY id DESC LIMIT 1',
  );
  return (rows[0] as { at: Date } | undefined)?.at;
}

/** The number of each subject's seal, by uid. */
export async function readSealNumbers(client: Client): Promise<Map<number, number>> {
  const { rows } = await client.query('SELECT subject, number::float8 FROM login_seals');
  return new Map(
    (rows as { subject: number; number: number }[]).map(({ subject, number }) => [subject, number]),
  );
}

/** Records names and numbers so that nobody else gets them; see src/unmanaged/sightings-table.ts. */
async function rememberAccounts(client: Client, accounts: readonly Account[]): Promise<void> {
  await client.query(
    `INSERT INTO unmanaged_sightings (name, id) SELECT a.name, a.id FROM unnest($1::text[], $2::int[]) AS a (name, id)
     WHERE NOT EXISTS (SELECT FROM names n WHERE n.name = a.name) ON CONFLICT DO NOTHING`,
    [accounts.map(({ account }) => account), accounts.map(({ uid }) => uid)],
  );
}

async function moveRanges(
  client: Client,
  unmanagedNumbers: readonly number[],
  backupAt: Date,
): Promise<Recovery['ranges']> {
  const { rows } = await client.query(
    `WITH fresh AS (
       SELECT s.id FROM unnest($1::int[]) AS s (id)
       WHERE NOT EXISTS (SELECT FROM posix_ids p WHERE p.id = s.id)
         AND NOT EXISTS (SELECT FROM unmanaged_sightings f WHERE f.id = s.id AND f.at <= $2)
     ), given AS (
       SELECT r.first, f.id FROM id_ranges r JOIN fresh f ON f.id BETWEEN r.first AND r.last
       UNION ALL (SELECT DISTINCT ON (kind) first, next - 1 FROM id_ranges WHERE next <= last ORDER BY kind, first)
     ), moved AS (
       SELECT r.kind, r.first, r.next, least(max(g.id) + 1 + $3::int, r.last + 1) AS beyond
       FROM id_ranges r JOIN given g USING (first) GROUP BY r.kind, r.first
     )
     UPDATE id_ranges r SET next = m.beyond FROM moved m
     WHERE r.kind = m.kind AND r.first = m.first AND m.beyond > r.next
     RETURNING r.kind, r.first, r.last, m.next AS "from", m.beyond AS "to"`,
    [unmanagedNumbers, backupAt, ID_MARGIN],
  );
  return (rows as Recovery['ranges']).toSorted((a, b) => a.first - b.first);
}

async function readExhausted(client: Client): Promise<Recovery['exhausted']> {
  const { rows } = await client.query(
    'SELECT kind FROM id_ranges GROUP BY kind HAVING bool_and(next > last) ORDER BY kind',
  );
  return (rows as { kind: 'person' | 'tool' }[]).map(({ kind }) => kind);
}

async function readNamesSince(
  client: Client,
  backupAt: Date,
  realmGroup: string,
): Promise<string[]> {
  const { rows } = await client.query(
    `SELECT DISTINCT name FROM unmanaged_sightings
     WHERE name NOT IN ('', $2) AND at > $1 ORDER BY name`,
    [backupAt, realmGroup],
  );
  return (rows as { name: string }[]).map(({ name }) => name);
}

/**
 * Requests new passwords, unless the homes role must make a new one anyway. The recorded password may have been revoked
 * after the backup, so it gets no overlap.
 */
async function wantNewPasswords(
  client: Client,
  accounts: readonly number[],
): Promise<Recovery['credentials']> {
  await client.query(
    'UPDATE credentials SET overlap_seconds = 0 WHERE account = ANY ($1) AND overlap_seconds > 0',
    [accounts],
  );
  const { rows } = await client.query(
    `UPDATE credentials c SET wanted_epoch = c.wanted_epoch + 1 FROM database_verifiers v, names n
     WHERE c.account = ANY ($1) AND v.account = c.account AND v.epoch = c.wanted_epoch
       AND n.subject = c.account
     RETURNING n.name AS account, c.account AS uid, c.wanted_epoch AS epoch`,
    [accounts],
  );
  await touchAll(client, touchesOfEach(accounts, 'credentials'));
  return (rows as Recovery['credentials']).toSorted((a, b) => a.uid - b.uid);
}

/** One action for the whole, and one for each account that is changed, gets a new password, or is erased again. */
function operatorActionsOf(
  { ranges, names, credentials, events, erased, takings }: Recovery,
  by: string,
): OperatorAction[] {
  const moved = { ids: ranges, names, credentials, events, erased, evidence: takings };
  const kind = 'recover';
  return [
    {
      ...{ kind, by },
      fields: Object.entries(moved).flatMap(([field, of]) => (of.length === 0 ? [] : [field])),
    },
    ...takings.map(({ subject, account, by: shown, ...what }): OperatorAction => ({
      ...{ kind, by, subject, account },
      fields: [
        ...Object.keys(what).filter((field) => field !== 'kind'),
        ...shown.map((where) => `as ${where} shows`),
      ],
    })),
    ...Object.entries({ credentials, erasure: erased }).flatMap(([field, of]) =>
      of.map(({ uid, account }): OperatorAction => ({
        kind,
        by,
        subject: uid,
        account,
        fields: [field],
      })),
    ),
  ];
}
