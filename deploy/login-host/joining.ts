/**
 * How this machine joins a realm: it makes a key and a join request, and reads the answer that is encrypted to that
 * key. Everything is in /etc/chamberlain/join, which only root can enter.
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { isatty } from 'node:tty';
import {
  type JoinAnswer,
  MAX_JOIN_ANSWER,
  parseJoinAnswer,
} from '../../src/joining/join-answer.ts';
import {
  fingerprintOf,
  formatJoinRequest,
  type JoinRequest,
  makeJoinRequest,
  parseJoinRequest,
} from '../../src/joining/join-request.ts';
import { flushFolder, readBeginning, replaceFile } from '../../src/shared/durable-file.ts';
import { printable } from '../../src/shared/printable.ts';
import { keysThatWouldNotCount } from './machine.ts';
import { command, folder, packages } from './pieces.ts';
import { passwordsThatWouldNotCount } from './sshd.ts';
import { CA_FILE, type JoinedValues } from './values.ts';
import { LOCAL_KEYS } from './wanted.ts';

/** Of a machine that runs roles. */
const CONFIG_FILE = '/etc/chamberlain/config.yaml';
const FOLDER = '/etc/chamberlain/join';
const KEY = `${FOLDER}/key`;
const REQUEST = `${FOLDER}/request.json`;

/**
 * The join request of this machine. It is made if there is none, and anew with another key if the key was lost. Throws
 * an error for people.
 */
export function joinRequest(name: string | undefined): JoinRequest {
  if (existsSync(CONFIG_FILE)) {
    throw new Error(
      `this machine has the configuration of a realm, ${CONFIG_FILE}. A realm and a login host keep different secrets ` +
        'under the same names, so let another machine join',
    );
  }
  for (const piece of [
    packages(['age']),
    folder('/etc/chamberlain', { mode: 0o711 }),
    folder(FOLDER, { mode: 0o700 }),
  ]) {
    if (piece.differs() !== undefined) piece.mend?.();
  }
  const kept = readRequest();
  if (kept !== undefined && name !== undefined && name !== kept.name) {
    throw new Error(
      `this machine has a join request as ${kept.name}; remove ${REQUEST} to change it`,
    );
  }
  const present = publicKey();
  if (kept !== undefined && kept.key === present) return kept;
  // a key without its request: the run that made it was interrupted
  const key = kept === undefined && present !== undefined ? present : makeKey();
  const request = requestOf(name ?? kept?.name ?? hostname().toLowerCase(), key);
  replaceFile(REQUEST, formatJoinRequest(request), { mode: 0o600 }, true);
  flushFolder(FOLDER);
  return request;
}

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

function requestOf(name: string, key: string): JoinRequest {
  try {
    return makeJoinRequest({ kind: 'login-host', name, key });
  } catch (cause) {
    const text = `${printable(name)} cannot be the name of a login host; give one with --name: a-z 0-9 - and dots`;
    throw new Error(text, { cause });
  }
}

function readRequest(): JoinRequest | undefined {
  return existsSync(REQUEST) ? parseJoinRequest(readFileSync(REQUEST)) : undefined;
}

/** What would keep `setup --join` from changing anything here. */
export function obstacles(): string[] {
  return [keysThatWouldNotCount(LOCAL_KEYS), passwordsThatWouldNotCount(LOCAL_KEYS)].flatMap(
    (piece) => piece.differs() ?? [],
  );
}

/** An answer that was decrypted and that is for this machine. */
interface ReadAnswer {
  readonly answer: JoinAnswer;
  /** of the encrypted file */
  readonly fingerprint: string;
}

/** Throws an error for people, which contains no part of the answer. */
export function readAnswer(file: string): ReadAnswer {
  const request = readRequest();
  if (request === undefined || !existsSync(KEY)) {
    throw new Error('this machine has no join request: run `setup --request` first');
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
  const answer = parseJoinAnswer(stdout);
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

/**
 * Whether the operator trusts that the realm has written the answer: anybody who has seen the join request can encrypt
 * to its key.
 *
 * @param given the fingerprint of the command line; without it, the operator is asked
 */
export function isConfirmed(
  { answer, fingerprint }: ReadAnswer,
  given: string | undefined,
): boolean {
  if (given !== undefined) {
    if (given.toLowerCase() === fingerprint) return true;
    throw new Error(
      `the answer has the fingerprint ${fingerprint}, and not the one that you have given`,
    );
  }
  if (!isatty(0) || !isatty(1)) {
    throw new Error('there is no terminal to confirm on; give --fingerprint');
  }
  process.stdout.write(questionOf({ answer, fingerprint }));
  const line = Buffer.alloc(100);
  const length = readSync(0, line);
  return /^y(es)?$/iu.test(line.toString('utf8', 0, length).trim());
}

/** What nobody has confirmed yet comes first, and cannot look like the fingerprint, which is last. */
export function questionOf({ answer, fingerprint }: ReadAnswer): string {
  const { name, realm, ldap } = answer;
  return [
    `${printable(name)} is to be a login host of the realm ${printable(realm)}, whose directory is`,
    ...ldap.uris.map((uri) => `  ${printable(uri)}`),
    '',
    'The answer has the fingerprint',
    `  ${fingerprint}`,
    '',
    'Has `chamberlain join` shown this fingerprint? [y/N] ',
  ].join('\n');
}

/** The same values as the options of a host that is set up by hand. */
export function valuesOf({ answer }: ReadAnswer): JoinedValues {
  const { account, realm, realmGid, ids, homes, knownBadKeys, ldap, sealKeys, password } = answer;
  const { uris, base, ca } = ldap;
  const caFile = ca === undefined ? {} : { caFile: CA_FILE };
  return {
    config: {
      ...{ realm, realmGid, ids, homes, knownBadKeys, sealKeys },
      ldap: { uris, base, ...caFile, hostAccount: account },
    },
    ...{ password, ca },
  };
}
