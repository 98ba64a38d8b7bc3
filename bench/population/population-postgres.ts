/** Fills our own tables: the wanted state, all of it applied, and the history that led to it. */
import type pg from 'pg';
import { verifierOf } from '../../src/credentials/credentials.ts';
import type { SealedPopulation } from './population.ts';
import {
  keyLine,
  maintainersOf,
  PASSWORD,
  PEOPLE_FIRST,
  personName,
  toolName,
  TOOLS_FIRST,
} from './population-names.ts';
import type { MeasuredRealm } from '../realm.ts';

/** The triggers that number, touch and notify row by row have nothing to do here. */
const TRIGGERS = [
  ['events', 'events_notify'],
  ['database_verifiers', 'database_verifiers_touch'],
  ['convergence', 'convergence_made'],
  ['convergence', 'convergence_changed'],
] as const;

export async function fillPostgres(
  realm: MeasuredRealm,
  population: SealedPopulation,
): Promise<void> {
  const { people, tools } = population;
  const client = await realm.connect();
  const range = (count: number) => Array.from({ length: count }, (_, n) => n);
  try {
    await client.query('BEGIN');
    for (const [table, trigger] of TRIGGERS) {
      await client.query(`ALTER TABLE ${table} DISABLE TRIGGER ${trigger}`);
    }
    const names = range(people).map(personName);
    await client.query(
      `WITH p AS (SELECT n, $1 + n::int - 1 AS uid, name FROM unnest($2::text[]) WITH ORDINALITY AS u (name, n)),
         id AS (INSERT INTO posix_ids (id, kind) SELECT uid, 'person' FROM p),
         name AS (INSERT INTO names (name, subject) SELECT name, uid FROM p)
       INSERT INTO people (uid, shell_name, display_name, display_name_key, email, admitted_at)
       SELECT uid, name, 'The ' || name, 'the ' || name, name || '@example.org', now() FROM p`,
      [PEOPLE_FIRST, names],
    );
    await client.query(
      'INSERT INTO realm_members (person) SELECT uid FROM people ON CONFLICT DO NOTHING',
    );
    await client.query(
      `INSERT INTO ssh_keys (person, fingerprint, line)
       SELECT $1 + n - 1, 'SHA256:' || rtrim(encode(sha256(line::bytea), 'base64'), '='), line
       FROM unnest($2::text[]) WITH ORDINALITY AS k (line, n)`,
      [PEOPLE_FIRST, range(people).map(keyLine)],
    );
    await client.query(
      `WITH t AS (SELECT $1 + n::int - 1 AS uid, name FROM unnest($3::text[]) WITH ORDINALITY AS u (name, n)),
         id AS (INSERT INTO posix_ids (id, kind) SELECT uid, 'tool' FROM t),
         name AS (INSERT INTO names (name, subject) SELECT $2 || name, uid FROM t)
       INSERT INTO tools (uid, name, account, title) SELECT uid, name, $2 || name, 'The tool ' || name FROM t`,
      [TOOLS_FIRST, `${realm.config.realm}.`, range(tools).map(toolName)],
    );
    const pairs = range(tools).flatMap((tool) =>
      maintainersOf(tool, population).map(
        (person) => [TOOLS_FIRST + tool, PEOPLE_FIRST + person] as const,
      ),
    );
    await client.query(
      'INSERT INTO maintainers (tool, maintainer) SELECT * FROM unnest($1::int[], $2::int[])',
      [pairs.map(([tool]) => tool), pairs.map(([, person]) => person)],
    );
    await fillApplied(client, population);
    await fillHistory(client);
    for (const [table, trigger] of TRIGGERS) {
      await client.query(`ALTER TABLE ${table} ENABLE TRIGGER ${trigger}`);
    }
    await client.query('COMMIT');
    await client.query('ANALYZE');
    await client.query('CHECKPOINT').catch(() => {}); // only a superuser may
  } finally {
    await client.end();
  }
}

/** Credentials, their verifiers, seals, and every row of convergence, applied. */
async function fillApplied(client: pg.Client, { sealsUntil }: SealedPopulation): Promise<void> {
  const subjects = 'SELECT uid FROM (SELECT uid FROM people UNION ALL SELECT uid FROM tools) AS s';
  await client.query(`INSERT INTO credentials (account) ${subjects} ON CONFLICT DO NOTHING`);
  await client.query(
    `INSERT INTO database_verifiers (account, epoch, verifier) SELECT uid, 1, $1 FROM (${subjects}) AS u
     ON CONFLICT DO NOTHING`,
    [verifierOf(PASSWORD)],
  );
  // seals that were made together are renewed over a day
  await client.query(
    `INSERT INTO login_seals (subject, until, renew_at)
     SELECT uid, $1::timestamptz, $1::timestamptz - interval '108 hours' + random() * interval '24 hours'
     FROM (${subjects}) AS u ON CONFLICT DO NOTHING`,
    [sealsUntil],
  );
  await client.query(
    `INSERT INTO convergence (subject, role, wanted, applied, state)
     SELECT uid, role, 2, 2, 'applied'
     FROM (${subjects}) AS u, unnest(ARRAY['directory', 'homes', 'databases']) AS role
     ON CONFLICT DO NOTHING`,
  );
}

/** A request for each subject, its audit and its events: reported and done long ago. */
async function fillHistory(client: pg.Client): Promise<void> {
  await client.query(
    `INSERT INTO requests (portal, jti, body_sha256, kind, requested_by, approved_by, subject, verdict, at, done_at)
     SELECT 'portal', gen_random_uuid(), sha256(id::text::bytea), kind || '.create', 'someone', 'someone', id,
            'accepted', now() - interval '30 d', now() - interval '30 d'
     FROM posix_ids`,
  );
  await client.query(
    `INSERT INTO audit (request, portal, kind, requested_by, approved_by, subject, verdict)
     SELECT id, portal, kind, requested_by, approved_by, subject, verdict FROM requests WHERE at < now()`,
  );
  // the last numbers that were given stay: these come before the first
  await client.query(
    `INSERT INTO events (portal, seq, event, subject, request, data)
     SELECT 'portal', -row_number() OVER (), event, subject, jti, '{}'
     FROM requests, unnest(ARRAY['request.accepted', 'tool.ready', 'request.done']) AS event WHERE at < now()`,
  );
}
