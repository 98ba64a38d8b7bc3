/**
 * The keys that people sign with on their own machines. A file holds either the private half (PKCS #8 in PEM without a
 * passphrase, or OpenSSH's format, with one or without), or the line of a `.pub` file: then an ssh-agent signs.
 */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type Sshpk from 'sshpk';
import { cannotRead, ChamberlainError } from '../../shared/errors.ts';
import type { Signing } from '../../requests/token.ts';
import { blobOf, keyOfLine, keyOfSeed } from '../../ssh-keys/ed25519-key.ts';
import { parseSshKey } from '../../ssh-keys/ssh-key.ts';
import { askPassphrases } from './passphrase.ts';
import { listAgentKeys, signWithAgent } from './ssh-agent.ts';

const OPENSSH = '-----BEGIN OPENSSH PRIVATE KEY-----';

export interface OwnKey {
  publicKey: KeyObject;
  signing: Signing;
}

/**
 * Opens a key for signing. Asks for its passphrase on the terminal, if it has one. Throws CONFIG_INVALID for a file that
 * holds no such key, and AGENT_UNAVAILABLE if no agent has it.
 */
export async function openOwnKey(path: string): Promise<OwnKey> {
  let text: string;
  try {
    text = readFileSync(path, 'latin1');
  } catch (cause) {
    throw cannotRead('signing key', path, cause);
  }
  if (text.startsWith('ssh-')) return await findInAgent(path, text);
  const key = text.includes(OPENSSH) ? await readOpenSsh(path, text) : readPem(path, text);
  if (key?.asymmetricKeyType !== 'ed25519') throw unfit(path);
  return { publicKey: createPublicKey(key), signing: key };
}

async function findInAgent(path: string, text: string): Promise<OwnKey> {
  const parsed = parseSshKey(text);
  if (!parsed.ok || parsed.key.type !== 'ssh-ed25519') throw unfit(path);
  const publicKey = keyOfLine(parsed.key.line);
  const { fingerprint } = parsed.key;
  const keys = await listAgentKeys();
  if (!keys.some((key) => key.fingerprint === fingerprint)) {
    throw new ChamberlainError(
      'AGENT_UNAVAILABLE',
      `the ssh-agent does not hold the key ${fingerprint} of ${path}`,
      { action: 'Add it with ssh-add, or name the file of the private key.' },
    );
  }
  const blob = blobOf(publicKey);
  return { publicKey, signing: (bytes) => signWithAgent(blob, bytes) };
}

function readPem(path: string, text: string): KeyObject | undefined {
  if (text.includes('ENCRYPTED')) {
    throw new ChamberlainError(
      'CONFIG_INVALID',
      `the signing key ${path} is encrypted, but not in the format of OpenSSH`,
      { action: 'Make a key with `chamberlain admin-key new`, or with ssh-keygen -t ed25519.' },
    );
  }
  try {
    return createPrivateKey(text);
  } catch {
    return undefined;
  }
}

async function readOpenSsh(path: string, text: string): Promise<KeyObject | undefined> {
  const { parsePrivateKey } = sshpk();
  const read = (passphrase?: string) => {
    const key = parsePrivateKey(text, 'ssh-private', { filename: path, passphrase });
    // its own PKCS #8 lacks a first byte that is zero
    const seed = key.parts.find(({ name }) => name === 'k')?.data;
    return key.type === 'ed25519' && seed !== undefined ? keyOfSeed(seed) : undefined;
  };
  try {
    return read();
  } catch (error) {
    if ((error as Error).name !== 'KeyEncryptedError') return undefined;
  }
  const [passphrase] = await askPassphrases([`Passphrase of ${path}: `]);
  try {
    return read(passphrase);
  } catch (cause) {
    throw new ChamberlainError('USAGE', `the passphrase of ${path} is wrong`, {
      cause,
      action: 'Try again.',
    });
  }
}

/** A private key in OpenSSH's format, encrypted with the passphrase. `ssh-add` and `ssh-keygen` read it too. */
export function encryptKey(key: KeyObject, passphrase: string, comment: string): string {
  const { parsePrivateKey } = sshpk();
  const made = parsePrivateKey(key.export({ type: 'pkcs8', format: 'pem' }), 'pem');
  made.comment = comment;
  return made
    .toBuffer('ssh-private', { passphrase, cipher: 'aes256-ctr' } as never)
    .toString('latin1');
}

/** Loaded only for such a file, as in ssh-key.ts. */
const require = createRequire(import.meta.url);
const sshpk = () => require('sshpk') as typeof Sshpk;

function unfit(path: string): ChamberlainError {
  return new ChamberlainError(
    'CONFIG_INVALID',
    `the signing key ${path} is not an Ed25519 key in the format of OpenSSH, or in PEM without a passphrase`,
    { action: 'Name the right file: `chamberlain admin-key new` makes one.' },
  );
}
