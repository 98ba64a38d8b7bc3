/** Writes an import, as the owner of the database. */
import { normalName } from '../identity/names.ts';
import type { KnownRealm, ImportBatch } from './import-batch.ts';
import type { Wanted } from '../reconcile/wanted.ts';
import { ROLES } from '../roles/index.ts';
import { type OperatorAction, writeOperatorActions } from '../audit/operator-actions.ts';
import { goOnWithEvents, goOnWithSeals } from '../recovery/numbers-go-on.ts';
import { markNewOrphans } from '../lifecycle/orphans.ts';
import { type Client, VERDICTS_LOCK } from '../database/connection.ts';
import { countAdmins } from '../identity/tools-table.ts';
import { readWanted } from '../reconcile/wanted-queries.ts';

/** Reads what exists already, because nothing imported may conflict with it. */
export async function readKnown(client: Client): Promise<KnownRealm> {
  const [people, tools, maintainers, names, ids, keys] = await Promise.all([
    client.query(
      `SELECT p.uid, p.shell_name AS "shellName", p.display_name_key AS "displayNameKey", p.state,
              m.person IS NOT NULL AS "realmMember", p.admitted_at IS NOT NULL AS "everAdmitted",
              c.account IS NOT NULL AS "hasCredentials"
       FROM people p LEFT JOIN realm_members m ON m.person = p.uid
         LEFT JOIN credentials c ON c.account = p.uid ORDER BY p.uid`,
    ),
    client.query(
      `SELECT t.uid, t.name, t.account, t.state, c.account IS NOT NULL AS "hasCredentials"
       FROM tools t LEFT JOIN credentials c ON c.account = t.uid ORDER BY t.uid`,
    ),
    client.query(`SELECT tool || ' ' || maintainer AS pair FROM maintainers`),
    client.query('SELECT name, subject FROM names'),
    client.query('SELECT id FROM posix_ids'),
    client.query('SELECT fingerprint FROM ssh_keys'),
  ]);
  return {
    people: people.rows as KnownRealm['people'],
    tools: tools.rows as KnownRealm['tools'],
    maintainers: new Set((maintainers.rows as { pair: string }[]).map(({ pair }) => pair)),
    names: new Map(
      (names.rows as { name: string; subject: number }[]).map((row) => [row.name, row.subject]),
    ),
    ids: new Set((ids.rows as { id: number }[]).map(({ id }) => id)),
    fingerprints: new Set((keys.rows as { fingerprint: string }[]).map((row) => row.fingerprint)),
  };
}

/** The state after an import. */
export interface Written {
  /** the number of admins */
  admins: number;
  /** what each role will read about the imported subjects */
  wanted: Record<'directory' | 'homes' | 'databases', Wanted[]>;
}

/**
 * Runs `decide` on what exists, and writes its result, in the transaction of the caller. Meanwhile nothing else can
 * assign names and numbers: no verdicts are given, and requests wait. The realm may be frozen and thawed meanwhile.
 *
 * @param terms.by the operator, for the audit
 * @param terms.admin the name of the admin tool
 * @param terms.portals the portals whose event numbers move on, because an earlier realm may have sent them events
 */
export async function writeImport<T extends { batch: ImportBatch }>(
  client: Client,
  { by, admin, portals }: { by: string; admin: string; portals: readonly string[] },
  decide: (known: KnownRealm) => T,
): Promise<T & Written> {
  // intake holds this lock, shared, in each transaction that gives verdicts
  await client.query('SELECT pg_advisory_xact_lock($1)', [VERDICTS_LOCK]);
  await client.query('LOCK TABLE people IN EXCLUSIVE MODE');
  const taken = decide(await readKnown(client));
  await write(client, taken.batch, by);
  const uids = uidsOf(taken.batch);
  if (uids.length > 0) {
    await goOnWithEvents(client, portals);
    await goOnWithSeals(client, uids);
  }
  await analyze(client);
  const tools = taken.batch.tools.map(({ uid }) => uid as number);
  await markNewOrphans(client, tools);
  return {
    ...taken,
    admins: await countAdmins(client, admin),
    wanted: await readWantedOf(client, taken.batch),
  };
}

/** What each role will read about the imported subjects and those that get credentials. */
async function readWantedOf(
  client: Client,
  { people, tools, credentials }: ImportBatch,
): Promise<Written['wanted']> {
  const taken = uidsOf({ people, tools });
  const directory = await readWanted(client, 'directory', taken);
  const accounts = new Set([...taken, ...credentials.map(({ account }) => account)]);
  // the other two roles may read the same
  const homes = await readWanted(client, 'homes', [...accounts]);
  return { directory, homes, databases: homes };
}

function uidsOf({ people, tools }: Pick<ImportBatch, 'people' | 'tools'>): number[] {
  return [...people, ...tools].map(({ uid }) => uid as number);
}

/** Updates the planner's statistics of the tables that have just been filled. */
async function analyze(client: Client): Promise<void> {
  await client.query(
    'ANALYZE posix_ids, names, people, tools, realm_members, maintainers, ssh_keys, credentials, ' +
      'database_verifiers, convergence, unmanaged_sightings, audit',
  );
}

async function write(client: Client, batch: ImportBatch, by: string): Promise<void> {
  const { people, tools } = batch;
  const insert = (text: string, rows: readonly unknown[]) =>
    rows.length === 0 ? undefined : client.query(text, [JSON.stringify(rows)]);
  const subjects = [
    ...people.map(({ uid, shellName }) => ({ uid, kind: 'person', account: shellName as string })),
    ...tools.map(({ uid, account }) => ({ uid, kind: 'tool', account: account as string })),
  ];
  await insert(
    `WITH s AS (SELECT * FROM jsonb_to_recordset($1) AS (uid int, kind text, account text)),
       id AS (INSERT INTO posix_ids (id, kind) SELECT uid, kind FROM s)
     INSERT INTO names (name, subject) SELECT account, uid FROM s`,
    subjects,
  );
  await insert(
    `INSERT INTO people (uid, shell_name, display_name, display_name_key, email, state, mail_verified_at)
     SELECT * FROM jsonb_to_recordset($1)
       AS (uid int, shell_name text, display_name text, display_name_key text, email text, state text,
           mail_verified_at timestamptz)`,
    people.map(({ uid, shellName, displayName, email, state, mailVerifiedAt }) => ({
      ...{ uid, shell_name: shellName, display_name: displayName },
      ...{ display_name_key: normalName(displayName), email, state },
      mail_verified_at: mailVerifiedAt,
    })),
  );
  await insert(
    // no warning of a deletion was sent yet; each one is sent on its day
    `INSERT INTO tools (uid, name, account, title, state, delete_requested_at, delete_after)
     SELECT uid, name, account, name, state, requested, after
     FROM jsonb_to_recordset($1)
       AS (uid int, name text, account text, state text, requested timestamptz, after timestamptz)`,
    tools.map(({ uid, name, account, state, deletion }) => ({
      ...{ uid, name, account, state },
      ...{ requested: deletion?.requestedAt, after: deletion?.after },
    })),
  );
  await insert(
    `INSERT INTO ssh_keys (person, fingerprint, line, options, label, expires_at)
     SELECT * FROM jsonb_to_recordset($1)
       AS (person int, fingerprint text, line text, options text[], label text, expires_at timestamptz)`,
    people.flatMap(({ uid, keys }) =>
      keys.map(({ expiresAt, ...key }) => ({ person: uid, ...key, expires_at: expiresAt })),
    ),
  );
  await insert(
    `INSERT INTO maintainers (tool, maintainer)
     SELECT * FROM jsonb_to_recordset($1) AS (tool int, maintainer int) ON CONFLICT DO NOTHING`,
    batch.maintainers,
  );
  await client.query(
    'INSERT INTO realm_members (person) SELECT unnest($1::int[]) ON CONFLICT DO NOTHING',
    [batch.realmMembers],
  );
  await client.query(
    'UPDATE people SET admitted_at = now() WHERE uid = ANY ($1) AND admitted_at IS NULL',
    [[...batch.admitted, ...batch.realmMembers]],
  );
  const uids = uidsOf(batch);
  // counts as applied, so no role acts until a survey reports a difference or something is touched
  await client.query(
    `INSERT INTO convergence (subject, role, wanted, applied, state)
     SELECT s, r, 1, 1, 'applied' FROM unnest($1::int[]) AS s, unnest($2::text[]) AS r`,
    [uids, ROLES],
  );
  await client.query('SELECT number_seals($1, false), touch_seals($1)', [uids]);
  await writeCredentials(client, batch.credentials);
  await writeSightings(client, batch.sightings, subjects);
  await dropAdopted(client, subjects);
  await writeOperatorActions(client, operatorActionsOf(batch, subjects, by));
}

/** Writes credentials. The verifiers are on the servers already, so the trigger must not touch `databases`. */
async function writeCredentials(
  client: Client,
  credentials: ImportBatch['credentials'],
): Promise<void> {
  if (credentials.length === 0) return;
  await client.query('ALTER TABLE database_verifiers DISABLE TRIGGER database_verifiers_touch');
  await client.query(
    `WITH c AS (SELECT * FROM jsonb_to_recordset($1) AS (account int, verifier text)),
       made AS (INSERT INTO credentials (account) SELECT account FROM c
                ON CONFLICT DO NOTHING RETURNING account)
     INSERT INTO database_verifiers (account, epoch, verifier)
     SELECT account, 1, verifier FROM c JOIN made USING (account) WHERE verifier IS NOT NULL`,
    [JSON.stringify(credentials)],
  );
  await client.query('ALTER TABLE database_verifiers ENABLE TRIGGER database_verifiers_touch');
}

/**
 * Updates the sightings: imported subjects are no longer unmanaged. A name seen with one of their numbers stays, alone.
 */
async function writeSightings(
  client: Client,
  sightings: ImportBatch['sightings'],
  subjects: readonly { uid: number; account: string }[],
): Promise<void> {
  const ours = [subjects.map(({ uid }) => uid), subjects.map(({ account }) => account)];
  const known = 'WITH ours AS (SELECT * FROM unnest($1::int[], $2::text[]) AS o (id, name))';
  await client.query(
    `${known} INSERT INTO unmanaged_sightings (name, id)
     SELECT f.name, 0 FROM unmanaged_sightings f JOIN ours o ON o.id = f.id
     WHERE f.name <> '' AND f.name NOT IN (SELECT name FROM ours) ON CONFLICT DO NOTHING`,
    ours,
  );
  await client.query(
    `${known} DELETE FROM unmanaged_sightings
     WHERE id IN (SELECT id FROM ours) OR name IN (SELECT name FROM ours)`,
    ours,
  );
  await client.query(
    `INSERT INTO unmanaged_sightings (name, id)
     SELECT coalesce(s.name, ''), coalesce(s.id, 0)
     FROM jsonb_to_recordset($1) AS s (name text, id int)
     ON CONFLICT DO NOTHING`,
    [JSON.stringify(sightings)],
  );
}

/** Removes imported objects from the list of unmanaged ones: accounts, groups, homes, database users and rules. */
async function dropAdopted(
  client: Client,
  subjects: readonly { uid: number; account: string }[],
): Promise<void> {
  await client.query(
    `DELETE FROM unmanaged u USING unnest($1::int[], $2::text[]) AS o (uid, account)
     WHERE CASE u.kind WHEN 'database user' THEN u.number = o.uid
                       WHEN 'home' THEN u.name = o.account
                       WHEN 'rule' THEN u.name = 'runas-' || o.account
                       ELSE u.kind IN ('account', 'group') AND u.name = o.account AND u.number = o.uid END`,
    [subjects.map(({ uid }) => uid), subjects.map(({ account }) => account)],
  );
}

/** One action for the import with its counts, and one for each subject. A tool's lists its maintainers by number. */
function operatorActionsOf(
  { people, tools, maintainers, realmMembers, credentials }: ImportBatch,
  subjects: readonly { uid: number; account: string }[],
  by: string,
): OperatorAction[] {
  const counts = {
    people: people.length,
    tools: tools.length,
    keys: people.reduce((sum, { keys }) => sum + keys.length, 0),
    maintainers: maintainers.length,
    realmMembers: realmMembers.length,
    credentials: credentials.length,
  };
  const maintainersOf = Map.groupBy(maintainers, ({ tool }) => tool);
  const leaving = new Set(tools.filter(({ deletion }) => deletion).map(({ uid }) => uid as number));
  return [
    {
      kind: 'import',
      by,
      fields: Object.entries(counts).map(([name, count]) => `${name}=${count}`),
    },
    ...subjects.map(({ uid, account }): OperatorAction => ({
      kind: 'import',
      by,
      subject: uid,
      account,
      fields: [
        ...(leaving.has(uid) ? ['deletion'] : []),
        ...(maintainersOf.get(uid) ?? []).map(({ maintainer }) => `maintainer=${maintainer}`),
      ],
    })),
  ];
}
