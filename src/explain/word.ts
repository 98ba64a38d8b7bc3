/** What a word on the command line can mean: a name, a number, a path, a key. Pure. */
import { posix } from 'node:path';
import { printable } from '../shared/printable.ts';

/** In characters. The longest meaningful word is a public key. */
export const MAX_WORD_LENGTH = 16_384;
/** A name may be a display name, or one of an old directory. */
const MAX_NAME_LENGTH = 255;

/** The number in the name of a database user: `s<uid>` of a tool, `u<uid>` of a person. */
interface DatabaseUser {
  kind: 'person' | 'tool';
  uid: number;
}

export type Word =
  /** also as a database user, if it has the form of one: a person may have such a name too */
  | { kind: 'name'; name: string; databaseUser?: DatabaseUser }
  /** any whole number, even one that no account may have */
  | { kind: 'uid'; uid: number }
  /** `s50001__stuff`: a database, named after the user that owns it */
  | { kind: 'database'; database: string; owner: DatabaseUser }
  /** `inside` is what follows the home, '' for the home itself */
  | { kind: 'path'; area: 'toolHomes' | 'personHomes'; home: string; path: string; inside: string }
  /** a DN, with or without the base: the entry of an account, of a group, or of a tool's sudo rule */
  | { kind: 'entry'; owner: 'person' | 'tool'; name: string; dn: string }
  /** the realm group: by its name, its number or its DN */
  | { kind: 'realm group' }
  | { kind: 'fingerprint'; fingerprint: string }
  /** a whole public key line, to be read by the strict parser */
  | { kind: 'key'; text: string }
  | { kind: 'nothing'; because: string };

/** The areas of homes, as accounts see them; on this machine they are below `root`. */
export interface Areas {
  root: string;
  toolHomes: string;
  personHomes: string;
}

const KEY_LINE = /(?:^|[\s,"])(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+[ \t]+AAAA/u;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/iu;
const DATABASE_USER = /^([su])([1-9][0-9]{0,9})(__.*)?$/u;

/** Classifies a word by its form alone; a DN is a name here. Only the database knows what it names, if anything. */
export function classifyWord(text: string, areas: Areas): Word {
  if (text.length > MAX_WORD_LENGTH) return nothing('it is too long');
  const word = text.trim();
  if (word === '') return nothing('it is empty');
  if (KEY_LINE.test(word)) return { kind: 'key', text: word };
  if (printable(word) !== word) return nothing('it contains an invisible character');
  if (/^[0-9]+$/u.test(word)) return classifyNumber(word);
  if (word.startsWith('SHA256:')) {
    return /^SHA256:[A-Za-z0-9+/]{43}$/u.test(word)
      ? { kind: 'fingerprint', fingerprint: word }
      : nothing('a fingerprint is `SHA256:` and 43 characters, as `ssh-keygen -l` prints it');
  }
  if (/^MD5:|^([0-9a-f]{2}:){15}[0-9a-f]{2}$/u.test(word)) {
    return nothing('give the SHA256 fingerprint of a key, as `ssh-keygen -l` prints it');
  }
  if (word.startsWith('/')) return classifyPath(word, areas);
  if (UUID.test(word)) {
    return nothing(`it looks like the id of a request: see \`chamberlain requests ${word}\``);
  }
  if (word.length > MAX_NAME_LENGTH) return nothing('it is too long for a name');
  return classifyName(word);
}

function nothing(because: string): Word {
  return { kind: 'nothing', because };
}

function classifyNumber(word: string): Word {
  const uid = Number(word);
  if (uid >= 2 ** 32) return nothing('it is larger than any uid');
  return { kind: 'uid', uid };
}

function classifyName(word: string): Word {
  const [, letter, digits, database] = DATABASE_USER.exec(word) ?? [];
  const uid = Number(digits);
  if (letter === undefined || uid >= 2 ** 31) return { kind: 'name', name: word };
  const databaseUser: DatabaseUser = { kind: letter === 's' ? 'tool' : 'person', uid };
  return database === undefined
    ? { kind: 'name', name: word, databaseUser }
    : { kind: 'database', database: word, owner: databaseUser };
}

function classifyPath(word: string, { root, toolHomes, personHomes }: Areas): Word {
  const asWritten = posix.normalize(word);
  const base = root.replace(/\/+$/u, '');
  const path =
    base !== '' && asWritten.startsWith(`${base}/`) ? asWritten.slice(base.length) : asWritten;
  for (const [area, place] of [
    ['toolHomes', toolHomes],
    ['personHomes', personHomes],
  ] as const) {
    const [, home = '', inside = ''] = below(path, posix.normalize(place));
    if (home !== '') return { kind: 'path', area, home, path, inside };
  }
  return nothing(`it is not in a home: homes are below ${toolHomes} and ${personHomes}`);
}

/** `['', 'bridgebot', 'logs/x']`; empty if the path is not below the place. */
function below(path: string, place: string): string[] {
  const folder = place.replace(/\/+$/u, '');
  if (!path.startsWith(`${folder}/`)) return [];
  return ['', ...(/^\/([^/]+)\/*(.*?)\/*$/su.exec(path.slice(folder.length)) ?? []).slice(1)];
}
