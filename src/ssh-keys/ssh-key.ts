/**
 * The only parser for public SSH keys. It turns one pasted line into one canonical line, or into a refusal that tells
 * the person what to do. It is stricter than sshd and ssh-keygen: they accept every key that it accepts, with the same
 * fingerprint.
 *
 * It tolerates spaces and tabs around the line and between its fields, and one line end (LF or CRLF). Nothing else.
 */
import { createRequire } from 'node:module';
import type Sshpk from 'sshpk';
import type { Code } from '../shared/errors.ts';
import { KNOWN_BAD_KEYS } from './known-bad-keys.ts';
import { printable, quote } from '../shared/printable.ts';
import { isPrivateKey } from './private-key.ts';
import { checkBlob, KEY_TYPES } from './ssh-key-blob.ts';
import { endOfOptions, looksLikeOptions, parseOptions } from './ssh-key-options.ts';
import { fingerprintOfBlob } from './ssh-wire.ts';

export interface SshKey {
  type: string;
  bits: number;
  /** `SHA256:` and base64 without padding, as ssh-keygen -l prints it */
  fingerprint: string;
  /** type and base64, one blank between */
  line: string;
  /** in canonical form. With commas between, they go before the line */
  options: string[];
  /** the comment, for people to read; '' if there was none */
  label: string;
}

export type SshKeyVerdict = { ok: true; key: SshKey } | { ok: false; code: Code; sentence: string };

/** In characters. The largest accepted key has about 3,000. */
const MAX_TEXT_LENGTH = 16_384;
const MAX_COMMENT_LENGTH = 255;

const ADVICE =
  'Make an Ed25519 key with ssh-keygen -t ed25519, and paste the line of its .pub file.';

/**
 * Reads one pasted key.
 *
 * @param moreKnownBad fingerprints that the realm refuses in addition to the built-in ones
 * @param isSealed the key was checked before and is signed. Then this does not check that an Ed25519 key is a point on
 *   the curve, which takes as long as everything else. Nobody could log in with a key that is not on it.
 */
export function parseSshKey(
  text: string,
  moreKnownBad: ReadonlySet<string> = new Set(),
  isSealed = false,
): SshKeyVerdict {
  if (isPrivateKey(text.slice(0, MAX_TEXT_LENGTH))) return PRIVATE;
  if (text.length > MAX_TEXT_LENGTH) {
    return malformed('The text is far too long for a key. Paste the one line of a .pub file.');
  }
  const line = trimBlanks(trimBlanks(text).replace(/\r?\n$/, ''));
  return refuseOther(line) ?? parseLine(line, moreKnownBad, isSealed);
}

function trimBlanks(text: string): string {
  let [from, to] = [0, text.length];
  while (from < to && ' \t'.includes(text.charAt(from))) from += 1;
  while (to > from && ' \t'.includes(text.charAt(to - 1))) to -= 1;
  return text.slice(from, to);
}

const PRIVATE: SshKeyVerdict = refused(
  'KEY_PRIVATE',
  'This is a private key, and others may know it now. Stop using it, make a new pair, and paste the line of its .pub file.',
);

function refused(code: Code, sentence: string): SshKeyVerdict {
  return { ok: false, code, sentence };
}

function malformed(sentence: string): SshKeyVerdict {
  return refused('KEY_MALFORMED', sentence);
}

/** Refuses other things that people paste instead of a key. Undefined if the line may be a key. */
function refuseOther(line: string): SshKeyVerdict | undefined {
  if (line === '') return malformed('Nothing was pasted. Paste the one line of a .pub file.');
  if (/^-+ ?BEGIN SSH2 PUBLIC KEY/.test(line)) {
    return malformed(
      'This is a key in the format of RFC 4716 (PuTTY, SSH.com). Convert it with ssh-keygen -i -f FILE, or copy the line that PuTTYgen shows for OpenSSH.',
    );
  }
  if (/^-+ ?BEGIN /.test(line)) {
    return malformed(
      'This is a key or certificate in PEM format. Paste the one line of a .pub file. ssh-keygen -i -m PKCS8 -f FILE converts a public key.',
    );
  }
  if (/[\r\n]/.test(line)) {
    return malformed(
      'This is more than one line. Paste one key as one line. If the line was broken, join its parts.',
    );
  }
  if (/[^\P{Cc}\t]/u.test(line)) {
    return malformed('The line contains a control character. Copy it again.');
  }
  if (/^[\p{Cf}\p{Zs}]/u.test(line)) {
    return malformed('There is an invisible character before the key. Copy the line again.');
  }
  if (line.startsWith('#')) return malformed('This is a comment. Paste the line with the key.');
  if (/^(?:~|\.{0,2}\/|[A-Za-z]:\\|\S*\.pub$|id_[a-z0-9_]+$)/.test(line)) {
    return malformed('This is the name of a file. Paste the line in the .pub file.');
  }
  if (/^AAAA[A-Za-z0-9+/]+={0,2}(?:[ \t]|$)/.test(line)) {
    return malformed(
      'The type before the key is missing. Copy the whole line, with its type, such as ssh-ed25519.',
    );
  }
  return undefined;
}

function parseLine(
  line: string,
  moreKnownBad: ReadonlySet<string>,
  isSealed: boolean,
): SshKeyVerdict {
  let options: string[] = [];
  let rest = line;
  const [firstWord = ''] = line.split(/[ \t]/, 1);
  if (!isTypeWord(firstWord)) {
    if (!looksLikeOptions(firstWord)) return refuseWords(line);
    const end = endOfOptions(line);
    const parsed = parseOptions(line.slice(0, end));
    if (!Array.isArray(parsed)) return refused('KEY_OPTION', parsed.refused);
    options = parsed;
    rest = trimBlanks(line.slice(end));
  }
  const [, type = '', base64 = '', comment = ''] =
    /^([^ \t]*)(?:[ \t]+([^ \t]*)(?:[ \t]+(.*))?)?$/su.exec(rest) ?? [];
  if (!KEY_TYPES.includes(type)) return refuseType(type);
  const blob = readBase64(base64);
  if (blob === undefined) {
    return malformed(
      'The key is cut off or damaged: it is not complete base64. Copy the line again.',
    );
  }
  const verdict = checkBlob(type, blob, isSealed);
  if (!verdict.ok) {
    if (verdict.why === 'private') return PRIVATE;
    return refused(verdict.why === 'weak' ? 'KEY_WEAK' : 'KEY_MALFORMED', verdict.sentence);
  }
  const { bits } = verdict;
  if (!isReadBySshpk(type, blob)) return malformed(`The key cannot be read. ${ADVICE}`);
  const label = comment;
  if (Array.from(label).length > MAX_COMMENT_LENGTH) {
    return refused(
      'KEY_COMMENT',
      `The comment is longer than ${MAX_COMMENT_LENGTH} characters. Shorten it.`,
    );
  }
  if (printable(label) !== label) {
    return refused('KEY_COMMENT', 'The comment contains invisible characters. Type it again.');
  }
  const fingerprint = fingerprintOfBlob(blob);
  const bad = KNOWN_BAD_KEYS.get(fingerprint);
  if (bad !== undefined || moreKnownBad.has(fingerprint)) {
    const what = bad === undefined ? 'a key' : `${bad},`;
    return refused(
      'KEY_KNOWN_BAD',
      `This is ${what} whose private half is publicly known. Make a new key, and never use this one.`,
    );
  }
  return { ok: true, key: { type, bits, fingerprint, line: `${type} ${base64}`, options, label } };
}

/** Whether a word looks like the type of a key, accepted or not. */
function isTypeWord(word: string): boolean {
  return /^(?:sk-)?(?:ssh|ecdsa|rsa|x509v3|webauthn|pgp|spki)-/i.test(word);
}

/** Refuses a line that begins neither with a type nor with options. */
function refuseWords(line: string): SshKeyVerdict {
  const words = line.split(/[ \t]+/);
  if (/^[0-9]+$/.test(words[0] ?? '') && /^[0-9]+$/.test(words[1] ?? '')) {
    return refused(
      'KEY_TYPE',
      `This is a key for SSH protocol 1, which is no longer supported. ${ADVICE}`,
    );
  }
  if (words.slice(1, 3).some(isTypeWord)) {
    return malformed(
      'This is a line of known_hosts, which is the key of a machine, or there is other text before the key. Paste the one line of a .pub file.',
    );
  }
  if (/^SHA256:|^MD5:|^[0-9a-f]{2}(?::[0-9a-f]{2}){15}$/.test(line)) {
    return malformed('This is the fingerprint of a key. Paste the line in the .pub file.');
  }
  return malformed('This is not a public key. Paste the one line of a .pub file.');
}

function refuseType(type: string): SshKeyVerdict {
  if (type === '') return malformed('There is no key after the options. Copy the line again.');
  if (/[^\x21-\x7e]/.test(type)) {
    return malformed(
      'Before the key there is a character that only looks like a letter or a space. Copy the line again.',
    );
  }
  if (!isTypeWord(type))
    return malformed('The text after the options is not a key. Paste the one line of a .pub file.');
  if (type.includes('-cert-v')) {
    return refused(
      'KEY_TYPE',
      'This is a certificate. Paste the line in the .pub file of the key itself, without -cert in its name.',
    );
  }
  if (type === 'ssh-dss') return refused('KEY_TYPE', `DSA keys are no longer accepted. ${ADVICE}`);
  return refused('KEY_TYPE', `Keys of the type ${quote(type)} are not accepted. ${ADVICE}`);
}

/** Strict base64 (RFC 4648 section 4): padded, no other characters, unused bits 0. Never empty. */
function readBase64(text: string): Buffer | undefined {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

/** Loaded only when needed: sshpk has 37 modules, which would delay the start of `explain` by 30 ms. */
const require = createRequire(import.meta.url);

/** A second opinion: whether sshpk reads exactly the same key. True for types that sshpk does not know. */
function isReadBySshpk(type: string, blob: Buffer): boolean {
  if (type.startsWith('sk-')) return true;
  const sshpk = require('sshpk') as typeof Sshpk;
  try {
    return sshpk.parseKey(blob, 'rfc4253').toBuffer('rfc4253').equals(blob);
  } catch {
    return false;
  }
}
