/** Backups of each server, made and restored with the servers' own tools. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { markerName } from '../../../src/shared/config.ts';
import { administer, asSuperuser, startServer, stopServer, type World } from '../../stack.ts';

const run = promisify(execFile);

/** Dumps our database; returns the file. */
export async function dumpDatabase(world: World): Promise<string> {
  const file = join(world.dir, `database-${process.hrtime.bigint()}.dump`);
  await runTool(world, 'pg_dump', ['-Fc', '-f', file, world.config.postgres.database]);
  return file;
}

/** Restores it, as docs/backups.md says: no worker may be running. */
export async function restoreDatabaseCopy(world: World, file: string): Promise<void> {
  const { database } = world.config.postgres;
  const name = pg.escapeIdentifier(database);
  await asSuperuser(world.postgres, 'postgres', async (client) => {
    await client.query(`DROP DATABASE ${name} WITH (FORCE)`);
    await client.query(`CREATE DATABASE ${name} OWNER chamberlain`);
  });
  await runTool(world, 'pg_restore', ['-d', database, '--exit-on-error', file]);
  await world.chamberlain('migrate');
}

/** Of the server's own version: another may not read its database. */
async function runTool(
  { postgres }: World,
  tool: 'pg_dump' | 'pg_restore',
  args: readonly string[],
): Promise<void> {
  const bin = dirname(postgres.command()[0] ?? '');
  const at = ['-h', postgres.host, '-p', String(postgres.port), '-U', 'postgres'];
  await run(join(bin, tool), [...at, ...args]);
}

/** Dumps the directory while it runs; returns the LDIF. */
export function dumpDirectory({ slapd }: World): string {
  return execFileSync('/usr/sbin/slapcat', ['-F', join(slapd.folder, 'config'), '-n', '1'], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
}

/** Stops the directory, replaces its content by the LDIF, and starts it. */
export async function restoreDirectoryCopy({ slapd }: World, ldif: string): Promise<void> {
  await stopServer(slapd);
  const data = join(slapd.folder, 'data');
  if (!existsSync(data)) throw new Error(`no data in ${data}`);
  for (const file of readdirSync(data)) rmSync(join(data, file));
  execFileSync('/usr/sbin/slapadd', ['-F', join(slapd.folder, 'config'), '-n', '1'], {
    input: ldif,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  await startServer(slapd);
}

/** Only the accounts of this world: other worlds share the server. */
const accountsOf = ({ config: { ids } }: World) =>
  `User REGEXP '^[su][0-9]+$' AND SUBSTR(User, 2) BETWEEN ${ids.people[0]?.first} AND ${ids.tools.at(-1)?.last}`;
export const markerOf = ({ config }: World) => `realm = '${markerName(config)}'`;
const OF_ACCOUNTS = ['global_priv', 'db', 'roles_mapping'];

/** Dumps the accounts and the marker of the tools server. */
export function dumpServer(world: World): string {
  const dump = (where: string, ...tables: string[]) =>
    execFileSync(
      'mariadb-dump',
      [
        ...['--no-defaults', `--socket=${world.tools.socket}`, '--user=root'],
        ...['--no-create-info', '--replace', '--complete-insert', `--where=${where}`],
        ...['mysql', ...tables],
      ],
      { encoding: 'utf8' },
    );
  return dump(accountsOf(world), ...OF_ACCOUNTS) + dump(markerOf(world), 'chamberlain_marker');
}

/** Restores them: newer accounts are gone. */
export async function restoreServerCopy(world: World, dump: string): Promise<void> {
  await administer(
    world.tools.socket,
    [
      'USE mysql;',
      ...OF_ACCOUNTS.map((table) => `DELETE FROM ${table} WHERE ${accountsOf(world)};`),
      `DELETE FROM chamberlain_marker WHERE ${markerOf(world)};`,
      dump,
      'FLUSH PRIVILEGES;',
    ].join('\n'),
  );
}

/** Both areas of homes, and the archives of homes. */
function foldersOf({ config: { files, archives } }: World): string[] {
  return [files.root + files.toolHomes, files.root + files.personHomes, archives.homes];
}

/** Copies the content of the file server; returns the folder. */
export function copyHomes(world: World): string {
  const copy = join(world.dir, `homes-${process.hrtime.bigint()}`);
  foldersOf(world).forEach((folder, n) => {
    mkdirSync(join(copy, String(n)), { recursive: true });
    if (existsSync(folder)) execFileSync('cp', ['-a', `${folder}/.`, join(copy, String(n))]);
  });
  return copy;
}

/** Restores it into the same folders, which others may have mounted. */
export function restoreHomesCopy(world: World, copy: string): void {
  foldersOf(world).forEach((folder, n) => {
    if (!existsSync(folder)) return;
    execFileSync('find', [folder, '-mindepth', '1', '-delete']);
    execFileSync('cp', ['-a', `${join(copy, String(n))}/.`, folder]);
  });
}
