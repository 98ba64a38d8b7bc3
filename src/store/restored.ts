/** What `chamberlain restored` writes: as the owner of the database, in one transaction. */
import { ChamberlainError } from '../errors.ts';
import type { ErasedPerson } from '../model/erased-person.ts';
import { type Act, writeActs } from './acts.ts';
import { type Account, eraseAgain, restartErasures } from './erased-again.ts';
import { type NewEvent, writeEvents } from './events.ts';
import { endFreeze } from './freeze.ts';
import { type Client, transact } from './postgres.ts';
import { holdSweep } from './sweeps.ts';

/** So many numbers beyond the highest that is seen may have been given, and not be there yet. */
const ID_MARGIN = 100;
/** More events than were ever told, and more seals than anybody ever had, between a backup and its return. */
const NUMBER_MARGIN = 1_000_000;
/** Run again within this time on the same database, the numbers of events and seals stay. */
const AGAIN_WITHIN = '1 hour';

const HELD_SINCE =
  'our database came back from a backup, and wants again what was taken away since; ' +
  '`chamberlain sweep now` tells what it would do';

/** What the roles see of what came after the backup. */
export interface SeenSince {
  /** numbers of the ranges that a role sees, and that are no subject's */
  strangers: readonly number[];
  /** accounts for which a file or a server may know a password that is not the recorded one */
  strangePasswords: readonly number[];
  /** the marker in the directory says so too */
  isOlder: boolean;
  /** whom the list beside the archives names as erased by law */
  erased: readonly ErasedPerson[];
}

/** What a restoration moves. */
export interface Restoration {
  ranges: { kind: 'person' | 'tool'; first: number; last: number; from: number; to: number }[];
  /** kinds for which no number is left afterwards */
  exhausted: ('person' | 'tool')[];
  /** in use, and not ours as far as the backup knows */
  names: string[];
  /** new passwords */
  credentials: { account: string; uid: number; epoch: number }[];
  events: { portal: string; from: number; to: number }[];
  /** erased again */
  erased: Account[];
  /** their approved erasure begins a day from now, unless it is stopped */
  erasing: Account[];
}

/**
 * Makes a database that came back from a backup safe to go on with, and thaws it, all or nothing:
 *
 * - Ranges go on beyond each number that is seen now and that the backup did not know, ours or foreign.
 *   What was foreign in it already is passed over one by one, as ever, and moves nothing.
 * - A recorded verifier that is not the last one is wanted no more: a new password is made, and no
 *   server is given the old one before.
 * - Events go on far beyond those that portals may have had, and seals beyond those that login hosts have seen.
 * - Who was erased by law is erased again, as the list beside the archives has it. What was approved, and has not begun,
 *   may have been stopped since: its day begins anew.
 * - The marker in the directory is adopted.
 * - The sweep is held: what was taken away since the backup is wanted again, which an admin reads first.
 *
 * The backup's own time is that of the marker that was last told before it; where the marker tells
 * nothing, that of the freeze. Throws PLAN_MOVED where the realm is not frozen.
 *
 * @param portals that are told of events
 * @param realm its own group is nobody's, although it is no subject
 * @param admin the admin tool
 * @param tell what is told of who is erased again
 * @param commit false: everything is written, and then undone
 */
export async function restore(
  client: Client,
  seen: SeenSince,
  {
    by,
    portals,
    realm,
    admin,
    tell,
    commit,
  }: {
    by: string;
    portals: readonly string[];
    realm: string;
    admin: string;
    tell: (erased: Account) => NewEvent[];
    commit: boolean;
  },
): Promise<Restoration> {
  return trying(client, commit, async () => {
    // in the order of freeze_older
    const marker = await client.query('SELECT told_at FROM directory_marker FOR UPDATE');
    const frozen = await client.query('SELECT frozen_at FROM frozen FOR UPDATE');
    const { frozen_at: frozenAt } = frozen.rows[0] as { frozen_at: Date | null };
    if (frozenAt === null) {
      const sentence = 'the realm was thawed meanwhile, so nothing was done; run it again';
      throw new ChamberlainError('PLAN_MOVED', sentence);
    }
    const { told_at: toldAt } = marker.rows[0] as { told_at: Date | null };
    const backupAt = toldAt === null || toldAt > frozenAt ? frozenAt : toldAt;

    const restoration = {
      ranges: await moveRanges(
        client,
        [...seen.strangers, ...seen.erased.map(({ uid }) => uid)],
        backupAt,
      ),
      erased: await eraseAgain(client, seen.erased, admin),
      erasing: await restartErasures(client),
      exhausted: await readExhausted(client),
      names: await readNamesSince(client, backupAt, `project-${realm}`),
      credentials: await wantNewPasswords(client, seen.strangePasswords),
      events: await raiseEvents(client, portals, seen.isOlder),
    };
    await writeEvents(client, restoration.erased.flatMap(tell));
    await raiseSeals(client, seen.isOlder);
    if (seen.isOlder) {
      await client.query(
        'UPDATE directory_marker SET telling_at = NULL, told_at = NULL, doubt = NULL',
      );
      await holdSweep(client, by, HELD_SINCE);
    }
    await writeActs(client, actsOf(restoration, by));
    await endFreeze(client, by);
    return restoration;
  });
}

/** Runs `act` in one transaction, which is undone at the end where it is not to be kept. */
async function trying<T>(client: Client, commit: boolean, act: () => Promise<T>): Promise<T> {
  let tried: { result: T } | undefined;
  try {
    return await transact(
      client,
      async () => {
        tried = { result: await act() };
        if (!commit) throw new Error('undone');
        return tried.result;
      },
      { durable: true },
    );
  } catch (error) {
    if (!commit && tried !== undefined) return tried.result;
    throw error;
  }
}

async function moveRanges(
  client: Client,
  strangers: readonly number[],
  backupAt: Date,
): Promise<Restoration['ranges']> {
  const { rows } = await client.query(
    `WITH fresh AS (
       SELECT s.id FROM unnest($1::int[]) AS s (id)
       WHERE NOT EXISTS (SELECT FROM posix_ids p WHERE p.id = s.id)
         AND NOT EXISTS (SELECT FROM foreign_sightings f WHERE f.id = s.id AND f.at <= $2)
     ), moved AS (
       SELECT r.kind, r.first, r.next, least(max(f.id) + 1 + $3::int, r.last + 1) AS beyond
       FROM id_ranges r JOIN fresh f ON f.id BETWEEN r.first AND r.last
       GROUP BY r.kind, r.first
     )
     UPDATE id_ranges r SET next = m.beyond FROM moved m
     WHERE r.kind = m.kind AND r.first = m.first AND m.beyond > r.next
     RETURNING r.kind, r.first, r.last, m.next AS "from", m.beyond AS "to"`,
    [strangers, backupAt, ID_MARGIN],
  );
  return (rows as Restoration['ranges']).toSorted((a, b) => a.first - b.first);
}

async function readExhausted(client: Client): Promise<Restoration['exhausted']> {
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
    `SELECT DISTINCT name FROM foreign_sightings
     WHERE name NOT IN ('', $2) AND at > $1 ORDER BY name`,
    [backupAt, realmGroup],
  );
  return (rows as { name: string }[]).map(({ name }) => name);
}

/**
 * Where the homes role has a new password to make anyway, no further epoch is wanted. What is recorded
 * may be a password that was taken away since the backup: it gets no overlap.
 */
async function wantNewPasswords(
  client: Client,
  accounts: readonly number[],
): Promise<Restoration['credentials']> {
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
  await client.query(
    `SELECT raise_generation(a, 'databases', false, true), raise_generation(a, 'homes')
     FROM unnest($1::int[]) AS a ORDER BY a`,
    [[...accounts].toSorted((a, b) => a - b)],
  );
  return (rows as Restoration['credentials']).toSorted((a, b) => a.uid - b.uid);
}

/** What is numbered was numbered anew since the backup, unless that was seen to before. */
const IS_TO_RAISE = `($1 OR NOT EXISTS (
  SELECT FROM audit WHERE kind = 'restored' AND 'events' = ANY (fields) AND at > now() - interval '${AGAIN_WITHIN}'))`;

/** No login host takes a lower number than it has seen. They are signed anew one by one, as ever. */
async function raiseSeals(client: Client, isOlder: boolean): Promise<void> {
  await client.query(`UPDATE login_seals SET number = number + $2::bigint WHERE ${IS_TO_RAISE}`, [
    isOlder,
    NUMBER_MARGIN,
  ]);
}

/** A portal without a row may have had events since, so each gets one. */
async function raiseEvents(
  client: Client,
  portals: readonly string[],
  isOlder: boolean,
): Promise<Restoration['events']> {
  const { rows } = await client.query(
    `INSERT INTO event_sequences AS s (portal, last)
     SELECT portal, $2::bigint FROM (
       SELECT unnest($3::text[]) UNION SELECT portal FROM event_sequences) AS p (portal)
     WHERE ${IS_TO_RAISE}
     ORDER BY portal
     ON CONFLICT (portal) DO UPDATE SET last = s.last + excluded.last
     RETURNING portal, last - $2::bigint AS "from", last AS "to"`,
    [isOlder, NUMBER_MARGIN, portals],
  );
  return (rows as { portal: string; from: string; to: string }[]).map(({ portal, from, to }) => ({
    portal,
    from: Number(from),
    to: Number(to),
  }));
}

/** One for the whole, and one for each account that gets a new password, or is erased again. */
function actsOf({ ranges, names, credentials, events, erased }: Restoration, by: string): Act[] {
  const moved = { ids: ranges, names, credentials, events, erased };
  return [
    {
      kind: 'restored',
      by,
      fields: Object.entries(moved).flatMap(([field, of]) => (of.length === 0 ? [] : [field])),
    },
    ...Object.entries({ credentials, erasure: erased }).flatMap(([field, of]) =>
      of.map(({ uid, account }): Act => ({
        kind: 'restored',
        by,
        subject: uid,
        account,
        fields: [field],
      })),
    ),
  ];
}
