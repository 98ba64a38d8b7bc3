/** The credentials file of an account, its password, and the password's verifier. */
import { hash } from 'node:crypto';

/** The name of the credentials file in a home. */
export const CREDENTIALS_NAME = 'replica.my.cnf';

/** The largest size of a credentials file. A larger file is not read. */
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

/** The form that `renderCredentialsFile` writes, which nearly all files have. */
const AS_WRITTEN = /^\[client\]\nuser = ([A-Za-z0-9_]+)\npassword = ([A-Za-z0-9]+)\n$/u;

/**
 * Reads the user and the password from an option file. Undefined unless `[client]` has exactly one of each.
 *
 * A file with blank lines, comments, or further options and groups added by maintainers is accepted. A file with
 * quotes, includes or control characters is not, because only the clients know what these make of the password. Format:
 * mariadb.com/kb, "Configuring MariaDB with option files".
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
 * The verifier that a server stores for a password: `*` and 40 upper case hex digits, `SHA1(SHA1(password))`, as
 * MariaDB's PASSWORD() writes it for mysql_native_password.
 */
export function verifierOf(password: string): string {
  return `*${hash('sha1', hash('sha1', password, 'buffer'), 'hex').toUpperCase()}`;
}

/**
 * Makes a password of 32 letters and digits, each equally likely. Bytes that would favour some of them are discarded.
 *
 * @param randomBytes returns that many bytes from a cryptographic source
 */
export function makePassword(randomBytes: (sizeBytes: number) => Uint8Array): string {
  let password = '';
  // One draw of 64 bytes is nearly always enough. A source without any usable byte is broken.
  for (let draws = 0; draws < 100; draws += 1) {
    for (const byte of randomBytes(2 * PASSWORD_LENGTH)) {
      if (byte < FAIR_BELOW) password += PASSWORD_ALPHABET[byte % PASSWORD_ALPHABET.length];
      if (password.length === PASSWORD_LENGTH) return password;
    }
  }
  throw new RangeError('the source of random bytes returned no usable bytes');
}
