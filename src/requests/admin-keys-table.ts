/** The tables `admin_keys` and `admin_additions`: admins' own keys, and who has made whom an admin. */
import type { KeyObject } from 'node:crypto';
import type { Client } from '../database/connection.ts';
import { keyOfLine } from '../ssh-keys/ed25519-key.ts';
import { DAY_MS } from '../shared/time.ts';

/** How long somebody whom an admin has added does not count as another admin for that admin's requests. */
const ADDED_DAYS = 7;

/** A key that was added by request, by its fingerprint. What is here never changes; whether it counts, does. */
interface AdminKey {
  /** the shell name of its owner */
  admin: string;
  key: KeyObject;
}
export type AdminKeys = ReadonlyMap<string, AdminKey>;

/** Finds the keys with which signatures are checked. Says nothing about whether a key counts: see `readKeyState`. */
export async function findAdminKeys(
  client: Client,
  fingerprints: readonly string[],
): Promise<AdminKeys> {
  if (fingerprints.length === 0) return new Map();
  const { rows } = await client.query({
    name: 'find-admin-keys',
    text: `SELECT k.fingerprint, k.line, p.shell_name AS admin FROM admin_keys k JOIN people p ON p.uid = k.person
           WHERE k.fingerprint = ANY ($1) AND k.expires_at IS NOT NULL AND k.line <> ''`,
    values: [fingerprints],
  });
  return new Map(
    (rows as { fingerprint: string; line: string; admin: string }[]).map((row) => [
      row.fingerprint,
      { admin: row.admin, key: keyOfLine(row.line) },
    ]),
  );
}

/** What ended a key, if something did. Whether its owner is an admin is another question. */
export interface KeyState {
  revokedAt: Date | null;
  revokedBy: string | null;
  /** null: it is a key of the configuration */
  expiresAt: Date | null;
}

/** Reads how a key stands now. Undefined: it has no row, so only the configuration can list it. */
export async function readKeyState(
  client: Client,
  fingerprint: string,
): Promise<KeyState | undefined> {
  const { rows } = await client.query({
    name: 'key-state',
    text: `SELECT revoked_at AS "revokedAt", revoked_by AS "revokedBy", expires_at AS "expiresAt"
           FROM admin_keys WHERE fingerprint = $1`,
    values: [fingerprint],
  });
  return (rows as KeyState[])[0];
}

/** Whether a key was revoked. */
export function isRevoked(state: Pick<KeyState, 'revokedAt'> | undefined): boolean {
  return (state?.revokedAt ?? null) !== null;
}

/** Why a key does not count any more, as a sentence; undefined if it counts. `state`: what `readKeyState` found. */
export function whyDead(
  fingerprint: string,
  state: KeyState | undefined,
  now: Date,
): string | undefined {
  const { revokedAt = null, expiresAt = null } = state ?? {};
  if (revokedAt !== null) {
    return `The key ${fingerprint} was revoked by ${state?.revokedBy ?? '?'} at ${revokedAt.toISOString()}.`;
  }
  if (expiresAt !== null && expiresAt <= now) {
    return `The key ${fingerprint} has expired: it was valid until ${expiresAt.toISOString()}.`;
  }
  return undefined;
}

/** A key as it is added. */
export interface NewAdminKey {
  fingerprint: string;
  person: number;
  line: string;
  label: string;
  expiresAt: string;
  addedBy: string;
  approvedBy: string;
  now: Date;
}

export async function insertAdminKey(client: Client, key: NewAdminKey): Promise<void> {
  const { fingerprint, person, line, label, expiresAt, addedBy, approvedBy, now } = key;
  await client.query(
    `INSERT INTO admin_keys (fingerprint, person, line, label, expires_at, added_by, approved_by, added_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [fingerprint, person, line, label, expiresAt, addedBy, approvedBy, now],
  );
}

interface Revocation {
  by: string;
  why: string;
  now: Date;
}

/** Revokes a key that has a row and is not revoked. Returns its owner. */
export async function revokeAdminKey(
  client: Client,
  fingerprint: string,
  { by, why, now }: Revocation,
): Promise<{ uid: number; account: string } | undefined> {
  const { rows } = await client.query(
    `UPDATE admin_keys SET revoked_at = $2, revoked_by = $3, revoked_why = $4 FROM people p
     WHERE fingerprint = $1 AND revoked_at IS NULL AND p.uid = person RETURNING p.uid, p.shell_name AS account`,
    [fingerprint, now, by, why],
  );
  return (rows as { uid: number; account: string }[])[0];
}

/** Records that a key of the configuration is revoked. */
export async function revokeListedKey(
  client: Client,
  { fingerprint, person, line }: Pick<NewAdminKey, 'fingerprint' | 'person' | 'line'>,
  { by, why, now }: Revocation,
): Promise<void> {
  await client.query(
    `INSERT INTO admin_keys (fingerprint, person, line, label, revoked_at, revoked_by, revoked_why)
     VALUES ($1, $2, $3, '', $4, $5, $6)`,
    [fingerprint, person, line, now, by, why],
  );
}

/** A key with a row, as it is listed. */
export interface ListedAdminKey {
  admin: string;
  fingerprint: string;
  label: string;
  /** null: the configuration lists it */
  expiresAt: Date | null;
  addedBy: string | null;
  approvedBy: string | null;
  addedAt: Date | null;
  revokedAt: Date | null;
  revokedBy: string | null;
  revokedWhy: string | null;
}

/** Every key with a row, by owner, the newest first. */
export async function listAdminKeys(client: Client): Promise<ListedAdminKey[]> {
  const { rows } = await client.query(
    `SELECT p.shell_name AS admin, k.fingerprint, k.label, k.expires_at AS "expiresAt", k.added_by AS "addedBy",
            k.approved_by AS "approvedBy", k.added_at AS "addedAt", k.revoked_at AS "revokedAt",
            k.revoked_by AS "revokedBy", k.revoked_why AS "revokedWhy"
     FROM admin_keys k JOIN people p ON p.uid = k.person
     ORDER BY p.shell_name, k.added_at DESC NULLS LAST, k.fingerprint`,
  );
  return rows as ListedAdminKey[];
}

/**
 * Records that these names have made each of the people an admin, or given them a key. Whoever has added one of these
 * names within seven days has added those people too. Nobody adds themselves.
 */
export async function noteAdditions(
  client: Client,
  people: readonly number[],
  { by, now }: { by: readonly string[]; now: Date },
): Promise<void> {
  await client.query(
    `WITH adding AS (SELECT uid FROM people WHERE shell_name = ANY ($2))
     INSERT INTO admin_additions (person, by, at)
     SELECT p, a.uid, $3 FROM unnest($1::int[]) AS p, (
       TABLE adding UNION SELECT d.by FROM admin_additions d JOIN adding ON d.person = adding.uid WHERE d.at > $4) AS a
     WHERE a.uid <> p`,
    [people, by, now, sinceOf(now)],
  );
}

function sinceOf(now: Date): Date {
  return new Date(now.getTime() - ADDED_DAYS * DAY_MS);
}

/** As `noteAdditions`, for those of the people who are admins now, or will be when they are back from the archives. */
export async function noteNewAdmins(
  client: Client,
  adminTool: string,
  people: readonly number[],
  of: { by: readonly string[]; now: Date },
): Promise<void> {
  const { rows } = await client.query(
    `SELECT p.uid FROM people p JOIN realm_members m ON m.person = p.uid JOIN maintainers a ON a.maintainer = p.uid
       JOIN tools t ON t.uid = a.tool
     WHERE p.uid = ANY ($1) AND p.state IN ('active', 'archived') AND t.name = $2`,
    [people, adminTool],
  );
  const admins = (rows as { uid: number }[]).map(({ uid }) => uid);
  if (admins.length > 0) await noteAdditions(client, admins, of);
}

/** That somebody does not count as another admin. */
export interface Dependence {
  /** who has added both of them, or is one of them */
  through: string;
  until: Date;
}

// A person is an origin of their own; and so is whoever has added them within seven days, until those are over.
const ORIGINS = `
  WITH origins (of, origin, until) AS (
    SELECT shell_name, uid, 'infinity'::timestamptz FROM people WHERE shell_name IN ($1, $2)
    UNION ALL
    SELECT p.shell_name, a.by, a.at + interval '${ADDED_DAYS} days' FROM admin_additions a
      JOIN people p ON p.uid = a.person WHERE p.shell_name IN ($1, $2) AND a.at > $3
  )`;

/**
 * Whether two people have an origin in common: then one of them, or whoever has added both, would decide alone.
 * Undefined if they are independent, or if one of the names is nobody's.
 */
export async function findDependence(
  client: Client,
  one: string,
  other: string,
  now: Date,
): Promise<Dependence | undefined> {
  const { rows } = await client.query(
    `${ORIGINS} SELECT p.shell_name AS through, least(a.until, b.until) AS until
     FROM origins a JOIN origins b USING (origin) JOIN people p ON p.uid = a.origin
     WHERE a.of = $1 AND b.of = $2 ORDER BY until DESC LIMIT 1`,
    [one, other, sinceOf(now)],
  );
  return (rows as Dependence[])[0];
}

/** The admins who could decide on somebody's request: not themselves, and independent of them. */
export async function findOtherAdmins(
  client: Client,
  adminTool: string,
  requestedBy: string,
  now: Date,
): Promise<string[]> {
  const { rows } = await client.query(
    `SELECT p.shell_name AS name FROM people p JOIN realm_members m ON m.person = p.uid
       JOIN maintainers a ON a.maintainer = p.uid JOIN tools t ON t.uid = a.tool
     WHERE p.state = 'active' AND t.name = $1 AND p.shell_name <> $2 ORDER BY p.shell_name`,
    [adminTool, requestedBy],
  );
  const names = (rows as { name: string }[]).map(({ name }) => name);
  const found = await Promise.all(
    names.map((name) => findDependence(client, requestedBy, name, now)),
  );
  return names.filter((_, n) => found[n] === undefined);
}
