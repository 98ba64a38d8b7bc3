/** Proves that a set is complete and can be restored, by restoring it into private servers. */
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type pg from 'pg';
import { loadConfig, type Config } from '../shared/config.ts';
import { postgresProgram } from './postgres-programs.ts';
import { requirePrograms } from './programs.ts';
import { cannotRead, ChamberlainError, codeOf, describeError } from '../shared/errors.ts';
import { readLdif } from './directory.ts';
import {
  MANIFEST,
  parseArchives,
  parseManifest,
  type ListedArchive,
  type Manifest,
} from './manifest.ts';
import { feedPiece, fileOf, readPiece, readPieceText, type Opening } from './piece.ts';
import { cannotBegin, withPrivateDirectory, withPrivatePostgres } from './private-servers.ts';
import { countRows } from './snapshot.ts';
import { count } from '../shared/printable.ts';

export interface Verified extends Omit<Manifest, 'version' | 'pieces' | 'archives'> {
  set: string;
  archives: ArchivesHere;
}

/** Which of the archives that PostgreSQL knows are on this machine. */
interface ArchivesHere {
  /** how many have the recorded digests */
  present: number;
  /** archives whose folder is on this machine, but which are missing or have another digest */
  missing: ListedArchive[];
  /** how many have their folder on another machine */
  elsewhere: number;
}

/** Verifies a set. Throws BACKUP_DAMAGED, which says what is wrong. */
export async function verifySet(opening: Opening, say: (text: string) => void): Promise<Verified> {
  const { set } = opening;
  requirePrograms('age', 'initdb', 'postgres', 'pg_restore', 'slapd');
  const manifest = await readManifest(opening);
  // all digests are checked before a server gets any of the data
  for (const { name, sha256 } of manifest.pieces) {
    say(`reading ${name}`);
    const measured = await readPiece(opening, name, () => {});
    if (measured.sha256 === sha256) continue;
    throw damaged(`${join(set, fileOf(name))} does not match the manifest of its set`);
  }
  say('restoring PostgreSQL');
  await restoring(opening, 'PostgreSQL', () => restorePostgres(opening, manifest));
  say('restoring the directory');
  await restoring(opening, 'the directory', () => restoreDirectory(opening, manifest));
  const { version: _version, pieces: _pieces, ...facts } = manifest;
  const listed = parseArchives(await readPieceText(opening, 'archives.json'));
  return { set, ...facts, archives: lookAtArchives(listed) };
}

async function readManifest(opening: Opening): Promise<Manifest> {
  const { set, key } = opening;
  try {
    accessSync(key, constants.R_OK);
  } catch (cause) {
    throw cannotRead('private key', key, cause, 'USAGE');
  }
  try {
    readdirSync(set);
  } catch (cause) {
    throw cannotRead('set', set, cause, 'USAGE');
  }
  if (basename(set).startsWith('.')) throw damaged(`${set} was never completed`);
  const text = await readPieceText(opening, MANIFEST).catch((error: Error) => {
    if (!(error.cause as Error).message.includes('no identity matched')) throw error;
    throw new ChamberlainError('USAGE', `${set} is not encrypted to the key in ${key}`, {
      action: 'Give the private half of a key that was configured when the set was made.',
    });
  });
  const manifest = parseManifest(text);
  if (manifest !== undefined) return manifest;
  throw damaged(`${join(set, fileOf(MANIFEST))} is not a manifest that this version can read`);
}

/** Loads the dump as docs/recovery.md says, and counts rows. Any complaint of PostgreSQL or pg_restore is an error. */
async function restorePostgres(opening: Opening, { database, tables }: Manifest): Promise<void> {
  await withPrivatePostgres(opening.signal, async ({ superuser, connect }) => {
    await createRoles(await connect('postgres'), await readPieceText(opening, 'roles.sql'));
    await feedPiece(opening, 'database.dump', {
      name: postgresProgram('pg_restore'),
      args: [...superuser, '--exit-on-error', '--create', '-d', 'postgres'],
    });
    const client = await connect(database);
    try {
      const restored = await countRows(client);
      for (const name of new Set([...Object.keys(tables), ...Object.keys(restored)])) {
        const [had, has] = [tables[name] ?? 0, restored[name] ?? 0];
        if (had !== has)
          throw damaged(
            `the table ${name} had ${count(had, 'row')}, but has ${has} after restoring`,
          );
      }
    } finally {
      await client.end();
    }
  });
}

/** Creates the roles. It does not use psql, which would run any program that a line of the set names. */
async function createRoles(client: pg.Client, sql: string): Promise<void> {
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** Loads the directory as docs/recovery.md says, and reads it as for a set. The bytes must be the same. */
async function restoreDirectory(opening: Opening, { pieces, entries }: Manifest): Promise<void> {
  const config = await readConfig(opening);
  const load = (slapadd: Parameters<typeof feedPiece>[2]) =>
    feedPiece(opening, 'directory.ldif', slapadd);
  const restored = await withPrivateDirectory(config, load, opening.signal, (place) =>
    readLdif(place),
  );
  const hash = createHash('sha256');
  for (const entry of restored) hash.update(entry);
  const had = pieces.find(({ name }) => name === 'directory.ldif');
  if (hash.digest('hex') === had?.sha256) return;
  throw damaged(
    restored.length === entries
      ? `the directory has ${entries} entries after restoring, as before, but some differ`
      : `the directory had ${entries} entries, but has ${restored.length} after restoring`,
  );
}

async function readConfig(opening: Opening): Promise<Config> {
  const folder = mkdtempSync(join(tmpdir(), 'chamberlain-verify-'));
  try {
    const file = join(folder, 'config.yaml');
    writeFileSync(file, await readPieceText(opening, 'config.yaml'), { mode: 0o600 });
    return loadConfig(file);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function restoring(
  { set, signal }: Opening,
  what: string,
  act: () => Promise<void>,
): Promise<void> {
  try {
    await act();
  } catch (cause) {
    signal.throwIfAborted();
    if (codeOf(cause) === 'STEP_FAILED') throw cause;
    if (/no space left/iu.test(describeError(cause))) throw cannotBegin(`restoring ${what}`, cause);
    throw damaged(`restoring ${what} from ${set}`, cause);
  }
}

function lookAtArchives(listed: readonly ListedArchive[]): ArchivesHere {
  const here: ArchivesHere = { present: 0, missing: [], elsewhere: 0 };
  for (const archive of listed) {
    if (!existsSync(dirname(archive.path))) here.elsewhere += 1;
    else if (digestOf(archive.path) === archive.manifestSha256) here.present += 1;
    else here.missing.push(archive);
  }
  return here;
}

/** The digest of an archive's manifest, which contains the digests of its files. Undefined if there is no manifest. */
function digestOf(path: string): string | undefined {
  try {
    return createHash('sha256')
      .update(readFileSync(join(path, 'manifest.json')))
      .digest('hex');
  } catch {
    return undefined;
  }
}

function damaged(sentence: string, cause?: unknown): ChamberlainError {
  return new ChamberlainError('BACKUP_DAMAGED', sentence, cause === undefined ? {} : { cause });
}
