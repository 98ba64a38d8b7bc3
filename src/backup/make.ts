/**
 * Makes a set of backups.
 *
 * Everything from PostgreSQL is of one snapshot. The directory is read after the snapshot, so it is never older. If it
 * shows something that PostgreSQL does not know, that was decided after the snapshot, and the seals prove it. So
 * nothing needs to be frozen: a recovery gives each subject the lesser of the two.
 *
 * While the set is made, its name begins with a dot. It gets its final name when everything is on disk.
 */
import {
  accessSync,
  constants,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { readSecret, type Config } from '../shared/config.ts';
import { removeLeftovers } from '../shared/durable-file.ts';
import { syncFolder } from '../backends/files/file-mount.ts';
import { postgresProgram, withConnection } from './postgres-programs.ts';
import { requirePrograms, TO_MAKE } from './programs.ts';
import { cannotRead, ChamberlainError, CORRECT_AND_RUN_AGAIN } from '../shared/errors.ts';
import { spanOf } from '../shared/time.ts';
import { unlessAborted } from '../shared/unless-aborted.ts';
import { readLdif } from './directory.ts';
import {
  MANIFEST,
  renderArchives,
  setName,
  type Manifest,
  type Piece,
  type PieceName,
} from './manifest.ts';
import { type Measured, writePiece } from './piece.ts';
import {
  countRows,
  readArchives,
  readMigration,
  readRoles,
  withSnapshot,
  writeLastBackup,
  type Snapshot,
} from './snapshot.ts';

export interface Made extends Omit<Manifest, 'version' | 'pieces'> {
  set: string;
  /** the total size of its files */
  bytes: number;
}

interface Making {
  config: Config;
  part: string;
  recipients: readonly string[];
  say: (text: string) => void;
  /** call this whenever data arrives */
  moved: () => void;
  signal: AbortSignal;
  pieces: Piece[];
}

/** A server that sends nothing for so long is considered hanging, so that this run ends before the next one begins. */
const STALLED_MS = 10 * 60_000;

/**
 * Makes a complete set in the folder, or none. Throws BACKEND_UNAVAILABLE if nothing arrives for ten minutes, as from a
 * server that hangs.
 */
export async function makeSet(
  config: Config,
  configFile: string,
  folder: string,
  {
    say,
    signal: asked,
    stalledMs = STALLED_MS,
  }: Pick<Making, 'say' | 'signal'> & { stalledMs?: number },
): Promise<Made> {
  const { recipients = [] } = config.backups ?? {};
  if (recipients.length === 0) {
    throw new ChamberlainError(
      'CONFIG_INVALID',
      'the configuration has no key to encrypt backups to',
      {
        action:
          'Run `age-keygen` on another machine, and add its public key to `backups.recipients`.',
      },
    );
  }
  requirePrograms(...TO_MAKE);
  const secrets = listSecrets(config);
  const name = setName(config.realm, new Date());
  const part = beginPart(folder, name);
  const patience = startPatience(say, stalledMs);
  const signal = AbortSignal.any([asked, patience.signal]);
  const making: Making = { config, part, recipients, ...patience, signal, pieces: [] };
  try {
    const made = await unlessAborted(saveAll(making, configFile, secrets), signal);
    const set = join(folder, name);
    renameSync(part, set);
    await syncFolder(folder);
    return { ...made, set, bytes: sizeOf(set) };
  } catch (error) {
    rmSync(part, { recursive: true, force: true });
    throw error;
  } finally {
    patience.end();
  }
}

async function saveAll(
  making: Making,
  configFile: string,
  secrets: readonly string[],
): Promise<Omit<Made, 'set' | 'bytes'>> {
  const { config, part, pieces } = making;
  const ofPostgres = await withSnapshot(config, (snapshot) => savePostgres(making, snapshot));
  const entries = await saveDirectory(making);
  await saveFiles(making, configFile);
  const made = { realm: config.realm, ...ofPostgres, entries, secrets: [...secrets] };
  await write(making, MANIFEST, [
    JSON.stringify({ version: 1, ...made, pieces } satisfies Manifest),
  ]);
  await syncFolder(part);
  await writeLastBackup(config, made.at);
  return made;
}

/** Aborts a run that makes no progress. */
function startPatience(say: Making['say'], stalledMs: number) {
  const stalled = new AbortController();
  let doing = 'beginning';
  const timer = setTimeout(() => {
    const act = `${doing}: no data for ${spanOf(stalledMs)}`;
    const action = 'No set was made. Check the server, and run the command again.';
    stalled.abort(new ChamberlainError('BACKEND_UNAVAILABLE', act, { action }));
  }, stalledMs);
  return {
    signal: stalled.signal,
    moved: () => void timer.refresh(),
    say(text: string) {
      doing = text;
      timer.refresh();
      say(text);
    },
    end: () => clearTimeout(timer),
  };
}

/** Removes the folders that interrupted runs left behind, and creates the folder in which the set is made. */
function beginPart(folder: string, name: string): string {
  try {
    removeLeftovers(folder, /^\.chamberlain-.*\.(\d+)\.part$/);
    const part = join(folder, `.${name}.${process.pid}.part`);
    mkdirSync(part, { mode: 0o700 });
    return part;
  } catch (cause) {
    throw new ChamberlainError('USAGE', `making a set in ${folder}`, {
      cause,
      action: 'Give a folder that exists and that this user may write to.',
    });
  }
}

type Source = Parameters<typeof writePiece>[2];

async function save(making: Making, name: PieceName, source: Source): Promise<void> {
  making.pieces.push({ name, ...(await write(making, name, source)) });
}

async function write(making: Making, name: string, source: Source): Promise<Measured> {
  try {
    return await writePiece(making.part, name, source, making);
  } catch (cause) {
    making.signal.throwIfAborted();
    throw new ChamberlainError('STEP_FAILED', `writing ${name}`, {
      cause,
      action: `No set was made. ${CORRECT_AND_RUN_AGAIN}`,
    });
  }
}

/** The names of the secrets. Throws if one cannot be read. */
function listSecrets({ secrets }: Config): string[] {
  const names = readdirSync(secrets).sort();
  for (const path of names.map((name) => join(secrets, name))) {
    try {
      accessSync(path, constants.R_OK);
    } catch (cause) {
      throw cannotRead('secret', path, cause);
    }
  }
  return names;
}

async function savePostgres(
  making: Making,
  { client, id, at }: Snapshot,
): Promise<Pick<Manifest, 'at' | 'migration' | 'database' | 'tables' | 'archives'>> {
  const { config, say } = making;
  const { database } = config.postgres;
  const login = { ...config.postgres, user: 'chamberlain' };
  say('dumping PostgreSQL');
  await save(making, 'roles.sql', [await readRoles(client)]);
  await withConnection({ ...login, password: readSecret(config, 'postgres', 'owner') }, (to, fd) =>
    save(making, 'database.dump', {
      name: postgresProgram('pg_dump'),
      args: ['-Fc', `--snapshot=${id}`, '--lock-wait-timeout=30s', '--no-password', '-d', to],
      options: fd,
    }),
  );
  say('counting rows of PostgreSQL');
  const tables = await countRows(client);
  const archives = await readArchives(client);
  await save(making, 'archives.json', [renderArchives(archives)]);
  return {
    at: at.toISOString(),
    migration: await readMigration(client),
    ...{ database, tables, archives: archives.length },
  };
}

/** Saves the directory. Returns the number of entries. */
async function saveDirectory(making: Making): Promise<number> {
  const { config, say } = making;
  const password = readSecret(config, 'ldap', 'directory-reader');
  say('reading the directory');
  const entries = await readLdif({ ...config.ldap, realm: config.realm, password }, (count) =>
    say(`reading the directory: ${count} entries`),
  );
  await save(making, 'directory.ldif', entries);
  return entries.length;
}

async function saveFiles(making: Making, configFile: string): Promise<void> {
  const { secrets } = making.config;
  making.say('saving secrets and configuration');
  const args = ['--create', '--dereference', '--sort=name', '-C', secrets, '.'];
  await save(making, 'secrets.tar', { name: 'tar', args });
  await save(making, 'config.yaml', [readFileSync(configFile, 'utf8')]);
}

function sizeOf(set: string): number {
  const sizes = readdirSync(set).map((name) => statSync(join(set, name)).size);
  return sizes.reduce((sum, size) => sum + size, 0);
}
