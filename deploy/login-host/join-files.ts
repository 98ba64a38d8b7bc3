/**
 * What a machine that joins keeps, of whatever kind it is: its key and its join request. They are in
 * /etc/chamberlain/join, which only root can enter. The answer is encrypted to that key.
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { MAX_JOIN_ANSWER } from '../../src/joining/join-answer.ts';
import {
  type Asking,
  fingerprintOf,
  formatJoinRequest,
  type JoinRequest,
  makeJoinRequest,
  parseJoinRequest,
} from '../../src/joining/join-request.ts';
import { flushFolder, readBeginning, replaceFile } from '../../src/shared/durable-file.ts';
import { printable } from '../../src/shared/printable.ts';
import { command, folder, packages } from './pieces.ts';

const FOLDER = '/etc/chamberlain/join';
const KEY = `${FOLDER}/key`;
const REQUEST = `${FOLDER}/request.json`;

/**
 * The join request of this machine. It is made if there is none, and anew with another key if the key was lost. Throws
 * an error for people, also if there is one that asks for something else.
 */
export function makeRequest(asking: Asking, name: string | undefined): JoinRequest {
  for (const piece of [
    packages(['age']),
    folder('/etc/chamberlain', { mode: 0o711 }),
    folder(FOLDER, { mode: 0o700 }),
  ]) {
    if (piece.differs() !== undefined) piece.mend?.();
  }
  const kept = readRequest();
  if (
    kept !== undefined &&
    (asksFor(kept) !== asksFor(asking) || (name ?? kept.name) !== kept.name)
  ) {
    throw new Error(
      `this machine has a join request as ${kept.name}, ${asksFor(kept)}; remove ${REQUEST} to change it`,
    );
  }
  const present = publicKey();
  if (kept !== undefined && kept.key === present) return kept;
  // a key without its request: the run that made it was interrupted
  const key = kept === undefined && present !== undefined ? present : makeKey();
  const request = requestOf(asking, name ?? kept?.name ?? hostname().toLowerCase(), key);
  replaceFile(REQUEST, formatJoinRequest(request), { mode: 0o600 }, true);
  flushFolder(FOLDER);
  return request;
}

/** In words that may follow a name. */
const asksFor = (asking: Asking): string =>
  asking.kind === 'role' ? `for ${asking.roles.join(' and ')}` : 'for a login host';

/** The public half of the key; undefined if the key is missing, empty or damaged. */
function publicKey(): string | undefined {
  try {
    return command('/usr/bin/age-keygen', ['-y', KEY]).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== undefined) throw error; // it was not started
    return undefined;
  }
}

/** Makes the key that all answers will be encrypted to, and returns its public half. */
function makeKey(): string {
  const candidate = `${KEY}.new`;
  rmSync(candidate, { force: true });
  command('/usr/bin/age-keygen', ['-o', candidate]); // mode 0600
  const file = openSync(candidate, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(candidate, KEY);
  flushFolder(FOLDER);
  return command('/usr/bin/age-keygen', ['-y', KEY]).trim();
}

function requestOf(asking: Asking, name: string, key: string): JoinRequest {
  try {
    return makeJoinRequest({ ...asking, name, key });
  } catch (cause) {
    const text = `${printable(name)} cannot be the name of a machine that joins; give one with --name: a-z 0-9 - and dots`;
    throw new Error(text, { cause });
  }
}

/** The join request that this machine has made. */
export function readRequest(): JoinRequest | undefined {
  return existsSync(REQUEST) ? parseJoinRequest(readFileSync(REQUEST)) : undefined;
}

/** An answer that was decrypted and that is for this machine. */
export interface ReadAnswer<T> {
  readonly answer: T;
  /** of the encrypted file */
  readonly fingerprint: string;
}

/** Throws an error for people, which contains no part of the answer. */
export function readAnswer<T extends { name: string; fingerprint: string }>(
  file: string,
  parse: (text: string) => T,
): ReadAnswer<T> {
  const request = readRequest();
  if (request === undefined || !existsSync(KEY)) {
    throw new Error('this machine has no join request: make one first, with `--request`');
  }
  const encrypted = readEncrypted(file);
  const { error, status, stdout, stderr } = spawnSync('/usr/bin/age', ['-d', '-i', KEY], {
    input: encrypted,
    encoding: 'utf8',
    env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8' },
    maxBuffer: 2 * MAX_JOIN_ANSWER,
  });
  if (error !== undefined) throw error;
  if (status !== 0) {
    const why = printable(stderr.split('\n')[0] ?? '');
    throw new Error(`${file} cannot be decrypted with the key of this machine: ${why}`);
  }
  const answer = parse(stdout);
  if (answer.name !== request.name || answer.fingerprint !== request.fingerprint) {
    throw new Error(`${file} answers another join request, of ${answer.name}`);
  }
  return { answer, fingerprint: fingerprintOf(encrypted) };
}

function readEncrypted(file: string): Buffer {
  const bytes = readBeginning(file, MAX_JOIN_ANSWER);
  if (bytes.length > MAX_JOIN_ANSWER) throw new Error(`${file} is too long for an answer`);
  return bytes;
}
