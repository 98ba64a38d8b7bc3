/** The tables `portals`: the portals that were added by request; and `listed_portals`: those that the file has listed. */
import { createPublicKey } from 'node:crypto';
import { writeOperatorAction } from '../audit/operator-actions.ts';
import type { Client } from '../database/connection.ts';
import { adminOfPortal, type Config, type Portal } from '../shared/config.ts';
import { fingerprintOf } from '../ssh-keys/ed25519-key.ts';

/** What is said of a portal that was added by request. */
export type PortalSettings = Omit<Portal, 'name' | 'byRequest'>;

/** Every portal that was added by request and not removed, as part of a configuration; not checked. */
export async function readAddedPortals(client: Client): Promise<{ name: string }[]> {
  const { rows } = await client.query('SELECT name, settings FROM portals_in_use()');
  return (rows as { name: string; settings: object }[]).map(({ name, settings }) => ({
    name,
    ...settings,
  }));
}

/**
 * How a portal that was added by request stands now, by the key that signed: whatever configuration its request was
 * checked by. Undefined: it was removed, or does not have the key any more.
 */
export async function findLivePortal(
  client: Client,
  name: string,
  fingerprint: string,
): Promise<Portal | undefined> {
  const found = await findAddedPortal(client, name);
  if (found === undefined || found.removedAt !== null) return undefined;
  const { settings } = found;
  if (!fingerprintsOf(settings).includes(fingerprint)) return undefined;
  return { name, ...settings, byRequest: true };
}

/** The digits of a password's SHA-256 that people are shown. */
export const shownDigits = (hash: string): string => hash.slice(0, 20);

/** What lets somebody act for a portal: the fingerprints of its keys, and `redis:` with the hash of its password. */
export function credentialsOf(settings: Pick<Portal, 'keys' | 'redisPasswordSha256'>): string[] {
  const { redisPasswordSha256: hash } = settings;
  return [...fingerprintsOf(settings), ...(hash === undefined ? [] : [`redis:${hash}`])];
}

/** The fingerprints of a portal's keys. */
export function fingerprintsOf({ keys }: Pick<Portal, 'keys'>): string[] {
  return keys.map(({ publicKey }) => fingerprintOf(createPublicKey(publicKey)));
}

/** A row. */
export interface AddedPortal {
  name: string;
  settings: PortalSettings;
  /** of every key and every password of Redis that it has or had (`credentialsOf`) */
  fingerprints: string[];
  addedBy: string;
  approvedBy: string;
  addedAt: Date;
  changedBy: string | null;
  changedAt: Date;
  removedBy: string | null;
  removedWhy: string | null;
  removedAt: Date | null;
}

const COLUMNS = `name, settings, fingerprints, added_by AS "addedBy", approved_by AS "approvedBy", added_at AS "addedAt",
  changed_by AS "changedBy", changed_at AS "changedAt", removed_by AS "removedBy", removed_why AS "removedWhy",
  removed_at AS "removedAt"`;

/** Finds the row of a portal, also if it was removed. */
export async function findAddedPortal(
  client: Client,
  name: string,
): Promise<AddedPortal | undefined> {
  const { rows } = await client.query({
    name: 'find-added-portal',
    text: `SELECT ${COLUMNS} FROM portals WHERE name = $1`,
    values: [name],
  });
  return (rows as AddedPortal[])[0];
}

/** Every portal that was added by request, also those that were removed, by name. */
export async function listAddedPortals(client: Client): Promise<AddedPortal[]> {
  const { rows } = await client.query(`SELECT ${COLUMNS} FROM portals ORDER BY name`);
  return rows as AddedPortal[];
}

/** The names of the portals that were removed by request, and that the configuration file has never listed. */
export async function readRemovedPortals(client: Client): Promise<Set<string>> {
  const { rows } = await client.query(
    `SELECT name FROM portals p WHERE removed_at IS NOT NULL
       AND NOT EXISTS (SELECT FROM listed_portals l WHERE l.name = p.name)`,
  );
  return new Set((rows as { name: string }[]).map(({ name }) => name));
}

/** Finds a portal that was added by request and that has, or had, one of these keys or passwords. */
export async function findPortalOfKeys(
  client: Client,
  fingerprints: readonly string[],
): Promise<{ name: string; fingerprint: string } | undefined> {
  const { rows } = await client.query(
    `SELECT name, f AS fingerprint FROM portals, unnest(fingerprints) AS f WHERE fingerprints && $1 AND f = ANY ($1) LIMIT 1`,
    [fingerprints],
  );
  return (rows as { name: string; fingerprint: string }[])[0];
}

const namesOfFile = ({ portals }: Config): string[] =>
  portals
    .filter(({ name, byRequest }) => byRequest !== true && adminOfPortal(name) === undefined)
    .map(({ name }) => name);

/** Records which portals the configuration file lists: each of them has, or gets, a user of Redis. */
export async function noteListedPortals(client: Client, config: Config): Promise<void> {
  await client.query(
    'INSERT INTO listed_portals (name) SELECT unnest($1::text[]) ORDER BY 1 ON CONFLICT DO NOTHING',
    [namesOfFile(config)],
  );
}

/**
 * Removes each portal over HTTP that was added by request and whose name the file lists: it must not count again when the
 * file no longer lists the name.
 */
export async function removeReplacedPortals(client: Client, config: Config): Promise<void> {
  const by = 'the configuration file';
  const { rows } = await client.query(
    `SELECT name, settings FROM portals
     WHERE name = ANY ($1) AND removed_at IS NULL AND NOT settings ? 'redisPasswordSha256'`,
    [namesOfFile(config)],
  );
  for (const { name, settings } of rows as { name: string; settings: PortalSettings }[]) {
    await markPortalRemoved(client, name, { by, why: 'It lists a portal of this name.' });
    const gone = credentialsOf(settings).map((each) => `-${each}`);
    const fields = [`portal ${name}`, 'removed', ...gone];
    await writeOperatorAction(client, { kind: 'portal.remove', by, fields });
  }
}

/** Whether the configuration file lists or has ever listed a portal of that name. */
export async function wasListed(client: Client, name: string): Promise<boolean> {
  const { rowCount } = await client.query('SELECT FROM listed_portals WHERE name = $1', [name]);
  return rowCount !== 0;
}

/** Adds a portal, or one of the same name that was removed. */
export async function insertPortal(
  client: Client,
  name: string,
  settings: PortalSettings,
  { addedBy, approvedBy }: { addedBy: string; approvedBy: string },
): Promise<void> {
  await client.query(
    `INSERT INTO portals AS p (name, settings, fingerprints, added_by, approved_by, added_at, changed_at)
     VALUES ($1, $2, $3, $4, $5, now(), clock_timestamp())
     ON CONFLICT (name) DO UPDATE SET settings = excluded.settings, fingerprints = p.fingerprints || excluded.fingerprints,
       added_by = excluded.added_by, approved_by = excluded.approved_by, added_at = excluded.added_at,
       changed_by = NULL, changed_at = excluded.changed_at, removed_by = NULL, removed_why = NULL, removed_at = NULL`,
    [name, JSON.stringify(settings), credentialsOf(settings), addedBy, approvedBy],
  );
}

/** @param newKeys what it did not have (`credentialsOf`) */
export async function changePortal(
  client: Client,
  name: string,
  settings: PortalSettings,
  { by, newKeys }: { by: string; newKeys: readonly string[] },
): Promise<void> {
  await client.query(
    `UPDATE portals SET settings = $2, fingerprints = fingerprints || $3, changed_by = $4, changed_at = clock_timestamp()
     WHERE name = $1`,
    [name, JSON.stringify(settings), newKeys, by],
  );
}

export async function markPortalRemoved(
  client: Client,
  name: string,
  { by, why }: { by: string; why: string },
): Promise<void> {
  await client.query(
    `UPDATE portals SET removed_at = now(), removed_by = $2, removed_why = $3, changed_at = clock_timestamp()
     WHERE name = $1`,
    [name, by, why],
  );
}

/** The last change of a portal since the request that waits under this id was sent, and by whom. */
export async function findChangeSince(
  client: Client,
  name: string,
  { portal, jti }: { portal: string; jti: string },
): Promise<{ by: string; at: Date } | undefined> {
  const { rows } = await client.query(
    `SELECT coalesce(p.removed_by, p.changed_by, p.added_by) AS by, p.changed_at AS at FROM portals p, approvals a
     WHERE p.name = $1 AND a.portal = $2 AND a.request = $3 AND p.changed_at > a.opened_at`,
    [name, portal, jti],
  );
  return (rows as { by: string; at: Date }[])[0];
}
