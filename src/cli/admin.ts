/**
 * What most commands begin with: PostgreSQL as the role admin, and the subjects that a word names. This file must not
 * load a Redis client, which takes a tenth of a second: a third of `explain`.
 */
import type { Config } from '../shared/config.ts';
import { ChamberlainError, type Code } from '../shared/errors.ts';
import { suggest } from '../shared/nearest.ts';
import { findSubjectsByWord, type Found, look, readNamesLike } from '../database/overview.ts';
import { type Client, nameOfServer, openPool } from '../database/connection.ts';
import { whileWaiting } from './progress.ts';

/** Runs `act` on one connection of the role admin. Shows progress if that takes long. */
export async function withAdmin<T>(
  config: Config,
  act: (client: Client) => Promise<T>,
): Promise<T> {
  const pool = openPool(config, 'admin', { max: 1, durable: true });
  try {
    return await whileWaiting(`reading ${nameOfServer(config.postgres)}`, () => look(pool, act));
  } finally {
    await pool.end();
  }
}

/** The subjects that a word names. Throws if there is none. */
export async function requireSubjects(client: Client, word: string): Promise<Found[]> {
  const found = await findSubjectsByWord(client, word);
  if (found.length === 0) {
    throw await unknownSubject(
      client,
      word,
      word.includes('.') ? 'TOOL_UNKNOWN' : 'PERSON_UNKNOWN',
    );
  }
  return found;
}

/** The error for a word that names no subject, with suggestions. */
export async function unknownSubject(
  client: Client,
  word: string,
  code: Code,
): Promise<ChamberlainError> {
  const meant = suggest(word, await readNamesLike(client, word));
  return new ChamberlainError(code, `no person or tool is called '${word}'${meant}`, {
    action: 'Check the name.',
  });
}
