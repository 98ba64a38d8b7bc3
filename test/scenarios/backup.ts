/** Backups of our database and of the directory, made and brought back with the servers' own tools. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { asSuperuser, startServer, stopServer, type World } from '../stack.ts';

const run = promisify(execFile);

/** Dumps our database; returns the file. */
export async function dumpDatabase(world: World): Promise<string> {
  const file = join(world.dir, `database-${process.hrtime.bigint()}.dump`);
  await runTool(world, 'pg_dump', ['-Fc', '-f', file, world.config.postgres.database]);
  return file;
}

/** Brings it back, as README says: nobody may be at work. */
export async function bringBackDatabase(world: World, file: string): Promise<void> {
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

/** Stops the directory, has it begin anew with what the LDIF says, and starts it. */
export async function bringBackDirectory({ slapd }: World, ldif: string): Promise<void> {
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
