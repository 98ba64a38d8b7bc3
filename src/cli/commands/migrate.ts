/** `chamberlain migrate`: brings the schema to this version, then grants each role its rights. */
import { join } from 'node:path';
import { runner } from 'node-pg-migrate';
import type { Config } from '../../shared/config.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import { ROOT } from '../../shared/root.ts';
import { nameOfServer, openOwner } from '../../database/connection.ts';
import { readRights } from '../../database/rights.ts';
import { writeRoles } from '../../database/roles-table.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { withProgress } from '../progress.ts';
import { print, printJson } from '../table.ts';

/** An advisory lock. Two migrations at once would grant the same rights at once, which fails. */
const LOCK = 7_001;

export function define(command: Command): void {
  command
    .description(
      'Applies the migrations that the database lacks, then migrations/roles.sql, which creates the\n' +
        'PostgreSQL roles and grants each its rights, table by table. Runs as the owner of the\n' +
        'database, with the secret postgres-owner. May be run again at any time. Sets no passwords.',
    )
    .examples('migrate')
    .exits()
    .action(async () => {
      const json = wantsJson(command);
      const applied = await withProgress(json, (say) => migrate(configOf(command), say));
      if (json) printJson({ applied });
      else if (applied.length === 0) print('up to date');
      else for (const name of applied) print(`applied ${name}`);
    });
}

/**
 * Returns the names of the migrations that were missing.
 *
 * @param say is called with what is being done
 */
export async function migrate(
  config: Config,
  say: (text: string) => void = () => {},
): Promise<string[]> {
  const folder = join(ROOT, 'migrations');
  say(`connecting to ${nameOfServer(config.postgres)}`);
  const client = await openOwner(config);
  const warnings: string[] = [];
  try {
    say('waiting for another `chamberlain migrate` to end');
    await client.query('SET lock_timeout = 0'); // a migration takes as long as it takes
    await client.query('SELECT pg_advisory_lock($1)', [LOCK]);
    say('checking which migrations are missing');
    const applied = await runner({
      dbClient: client,
      dir: folder,
      ignorePattern: String.raw`(?!\d{4}_.*\.sql$).*`,
      direction: 'up',
      migrationsTable: 'migrations',
      checkOrder: true,
      advisoryLockMode: 'wait',
      logger: {
        debug: () => {},
        info: (message) => {
          const name = /^### MIGRATION (\S+)/u.exec(message)?.[1];
          if (name !== undefined) say(`applying ${name}`);
        },
        warn: (message) => warnings.push(message),
        error: (message) => warnings.push(message),
      },
    });
    say('granting rights: roles.sql');
    await writeRoles(client);
    await client.query(readRights(folder));
    return applied.map(({ name }) => name);
  } catch (cause) {
    for (const warning of warnings) process.stderr.write(`${warning}\n`);
    throw new ChamberlainError('INTERNAL', 'migrating the database', { cause });
  } finally {
    await client.end().catch(() => {});
  }
}
