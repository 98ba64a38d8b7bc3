/** Checks whether the guards and rights in PostgreSQL are those of migrations/. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readFunctions, readPolicies, readTables, readTriggers } from './guards-queries.ts';
import { readAbsentRoles, readExcessPowers, readGrants } from '../health-queries.ts';
import type { Client } from '../../database/connection.ts';
import { readRights } from '../../database/rights.ts';
import { listMigrations } from '../../shared/root.ts';
import { missingFrom, parseGrants } from '../grants.ts';
import {
  alteredFunctions,
  alteredPolicies,
  alteredTriggers,
  fencesOf,
  parseFunctions,
  parsePolicies,
  parseSecured,
  parseTriggers,
} from './guards.ts';
import { fix, type Line, ok } from '../line.ts';

export const MIGRATE = 'Run `chamberlain migrate`.';

/**
 * Compares the database with migrations/.
 *
 * @param root the program's own folder
 * @param ours the PostgreSQL roles that are ours, such as `chamberlain_homes`
 */
export async function lookAtRights(
  client: Client,
  root: string,
  ours: readonly string[],
): Promise<Line[]> {
  const migrations = listMigrations(root)
    .map((name) => readFileSync(join(root, 'migrations', name), 'utf8'))
    .join('\n');
  const roles = readRights(join(root, 'migrations'));
  const functions = alteredFunctions(await readFunctions(client), parseFunctions(migrations));
  const policies = alteredPolicies(await readPolicies(client), parsePolicies(roles));
  const tables = await readTables(client);
  const triggers = parseTriggers(await readTriggers(client));
  const guards = parseTriggers(migrations);
  const unguarded = alteredTriggers(triggers, guards);
  const fences = fencesOf(
    roles,
    tables.map(({ name }) => name),
  );
  const unfenced = alteredTriggers(triggers, fences);
  const secured = parseSecured(roles);
  const unsecured = secured.filter(
    (name) => !tables.some((table) => table.name === name && table.isSecured),
  );
  const powers = await readExcessPowers(client, ours);
  const wanted = parseGrants(roles);
  const had = await readGrants(client, ours);
  const absent = await readAbsentRoles(client, ours);
  return [
    ...unguarded.map(({ name, table }) =>
      fix(
        `the trigger ${name} of ${table} is missing, disabled or changed`,
        'Run `chamberlain audit verify`, find out who did this, and create or enable the trigger again as in migrations/.',
      ),
    ),
    ...unfenced.map(({ name, table }) =>
      fix(
        `a replaced leader can write to ${table}: the trigger ${name} is missing, disabled or changed`,
        `Find out who did this, and drop what is left of the trigger. ${MIGRATE}`,
      ),
    ),
    ...functions.map((name) =>
      fix(
        `the function ${name} differs from the one in the migrations`,
        'Find out who did this, run `chamberlain audit verify`, and create the function again as in migrations/.',
      ),
    ),
    ...(unguarded.length + functions.length === 0
      ? [ok(`${appendOnlyOf(guards).join(', ')} are append-only`)]
      : []),
    ...unsecured.map((table) => fix(`row-level security of ${table} is off`, MIGRATE)),
    ...policies.altered.map((policy) =>
      fix(`the policy ${policy} is missing, or differs from migrations/roles.sql`, MIGRATE),
    ),
    ...policies.unmanaged.map((policy) =>
      fix(
        `there is an unknown policy ${policy}`,
        'DROP it: migrations/roles.sql has no such policy.',
      ),
    ),
    ...(unsecured.length + policies.altered.length + policies.unmanaged.length === 0
      ? [ok(`${secured.join(', ')} show each role its own rows`)]
      : []),
    ...absent.map((role) =>
      fix(
        `the role ${role} does not exist, or may not log in`,
        `${MIGRATE} It gives the role no password: see docs/install.md, step 5. If the role exists, a superuser must run: ALTER ROLE ${role} LOGIN.`,
      ),
    ),
    ...judgeRights(
      powers,
      had,
      wanted.filter(({ to }) => !absent.includes(to)),
    ),
  ];
}

/** The tables of which a trigger refuses every change. */
function appendOnlyOf(triggers: ReturnType<typeof parseTriggers>): string[] {
  return triggers.flatMap(({ calls, table }) => (calls === 'refuse_change' ? [table] : []));
}

function judgeRights(
  powers: readonly string[],
  had: Parameters<typeof missingFrom>[0],
  wanted: Parameters<typeof missingFrom>[1],
): Line[] {
  const lines = [
    ...powers.map((power) => fix(power, 'Revoke that: no role of Chamberlain needs it.')),
    ...missingFrom(had, wanted).map(([to, rights]) => fix(`${to} lacks ${rights}`, MIGRATE)),
    ...missingFrom(wanted, had).map(([to, rights]) =>
      fix(`${to} also has ${rights}`, 'REVOKE it: migrations/roles.sql does not grant it.'),
    ),
  ];
  return lines.length > 0
    ? lines
    : [ok('each role has the rights of migrations/roles.sql, and no others')];
}
