/**
 * Makes a set of backups.
 *
 * All that is PostgreSQL's is of one snapshot. The directory is read after it, so that it is never older: whatever the
 * directory shows that PostgreSQL does not know was decided after the snapshot, and its seals prove it. So nothing
 * needs to be frozen: a recovery gives each subject the lesser of the two.
 *
 * The set is made under a name that begins with a dot, and has its own name when all of it is on the disk.
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
import { isAlive } from '../audit/audit-file.ts';
import { syncFolder } from '../archives/databases/database-archives.ts';
import { postgresProgram, withConnection } from './postgres-programs.ts';
import { requirePrograms, TO_MAKE } from './programs.ts';
import { cannotRead, ChamberlainError } from '../shared/errors.ts';
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
  /** of its files together */
  bytes: number;
}

interface Making {
  config: Config;
  part: string;
  recipients: readonly string[];
  say: (text: string) => void;
  /** something has come */
  moved: () => void;
  signal: AbortSignal;
  pieces: Piece[];
}

/** A server that has given nothing for so long hangs: the next run must not find this one still waiting. */
const STALLED_MS = 10 * 60_000;

/**
 * Makes a set in the folder, whole or not at all. Throws BACKEND_UNAVAILABLE where nothing has come for ten minutes, as from
 * a server that hangs.
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
      'the configuration names no key that backups are encrypted to',
      { action: 'Run `age-keygen` elsewhere, and list its public key as `backups.recipients`.' },
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
    syncFolder(folder);
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
  syncFolder(part);
  await writeLastBackup(config, made.at);
  return made;
}

/** Ends what gets no further. */
function startPatience(say: Making['say'], stalledMs: number) {
  const stalled = new AbortController();
  let doing = 'beginning';
  const timer = setTimeout(() => {
    const act = `${doing}: nothing has come for ${spanOf(stalledMs)}`;
    const action = 'No set was made. Look at the server, and run it again.';
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

/** Makes the folder that a set is made in, once what runs that were cut have left is gone. */
function beginPart(folder: string, name: string): string {
  try {
    for (const each of readdirSync(folder)) {
      const [, pid] = /^\.chamberlain-.*\.(\d+)\.part$/.exec(each) ?? [];
      if (pid === undefined || (Number(pid) !== process.pid && isAlive(Number(pid)))) continue;
      rmSync(join(folder, each), { recursive: true, force: true });
    }
    const part = join(folder, `.${name}.${process.pid}.part`);
    mkdirSync(part, { mode: 0o700 });
    return part;
  } catch (cause) {
    throw new ChamberlainError('USAGE', `making a set in ${folder}`, {
      cause,
      action: 'Name a folder that is there, and that this user may write to.',
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
      action: 'No set was made. Run it again when that is mended.',
    });
  }
}

/** The names of the secrets, all of which can be read. */
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
  const { host, port, database } = config.postgres;
  const login = { host, port, database, user: 'chamberlain' };
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

/** Returns how many entries there are. */
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
