/** The credentials file of an account, its password, and the password's verifier. */
import { hash } from 'node:crypto';

/** The name of the file in a home. */
export const CREDENTIALS_NAME = 'replica.my.cnf';

/** No credentials file is larger; what is, is not read. */
export const CREDENTIALS_MAX_BYTES = 4096;

/** Letters and digits need no quoting in any option file, shell or URL. */
const PASSWORD_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** 32 of 62 characters: 190 bits. */
const PASSWORD_LENGTH = 32;

/** Bytes from here on would favour the first letters of the alphabet. */
const FAIR_BELOW = 256 - (256 % PASSWORD_ALPHABET.length);

/** The text of a credentials file, as MariaDB's clients read it. */
export function renderCredentialsFile(user: string, password: string): string {
  return `[client]\nuser = ${user}\npassword = ${password}\n`;
}

/** As `renderCredentialsFile` writes it: nearly all are. */
const AS_WRITTEN = /^\[client\]\nuser = ([A-Za-z0-9_]+)\npassword = ([A-Za-z0-9]+)\n$/u;

/**
 * Reads user and password from an option file, or undefined where it holds not exactly one of
 * each in `[client]`.
 *
 * Blank lines, comments, and the further options and groups that maintainers add are no reason to
 * take their file away. Quotes, includes and control characters are: what they make of the
 * password, only the clients know. Format: mariadb.com/kb, "Configuring MariaDB with option files".
 */
export function parseCredentialsFile(text: string): { user: string; password: string } | undefined {
  const [, asWritten, itsPassword] = AS_WRITTEN.exec(text) ?? [];
  if (asWritten !== undefined && itsPassword !== undefined) {
    return { user: asWritten, password: itsPassword };
  }
  const users: string[] = [];
  const passwords: string[] = [];
  let group = '';
  for (const line of text.split(/\r?\n/u)) {
    const content = line.trim();
    if (content === '' || content.startsWith('#') || content.startsWith(';')) continue;
    if (content.startsWith('!') || /(?!\t)\p{Cc}/u.test(content)) return undefined;
    const header = /^\[([^\]]+)\]$/u.exec(content);
    if (header !== null) {
      group = header[1] ?? '';
      continue;
    }
    const option = /^([^=\s]+)\s*(?:=\s*(.*))?$/u.exec(content);
    if (option === null || group === '') return undefined;
    if (group !== 'client') continue;
    if (option[1] === 'user') users.push(option[2] ?? '');
    if (option[1] === 'password') passwords.push(option[2] ?? '');
  }
  const [user, password] = [users[0] ?? '', passwords[0] ?? ''];
  if (users.length !== 1 || passwords.length !== 1) return undefined;
  if (!/^[A-Za-z0-9_]+$/u.test(user) || !/^[A-Za-z0-9]+$/u.test(password)) return undefined;
  return { user, password };
}

/**
 * What a server keeps of a password: `*` and 40 upper case hex digits, `SHA1(SHA1(password))`, as
 * MariaDB's PASSWORD() writes it for mysql_native_password.
 */
export function verifierOf(password: string): string {
  return `*${hash('sha1', hash('sha1', password, 'buffer'), 'hex').toUpperCase()}`;
}

/**
 * Makes a password of 32 letters and digits, each as likely as any other: bytes that would favour
 * some are thrown away.
 *
 * @param randomBytes gives that many bytes of a cryptographic source
 */
export function makePassword(randomBytes: (sizeBytes: number) => Uint8Array): string {
  let password = '';
  // One draw of 64 bytes nearly always does; a source that gives no fair byte at all is broken.
  for (let draws = 0; draws < 100; draws += 1) {
    for (const byte of randomBytes(2 * PASSWORD_LENGTH)) {
      if (byte < FAIR_BELOW) password += PASSWORD_ALPHABET[byte % PASSWORD_ALPHABET.length];
      if (password.length === PASSWORD_LENGTH) return password;
    }
  }
  throw new RangeError('the source of random bytes gives none that can be used');
}
