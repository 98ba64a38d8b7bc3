/** Reads one entry of `ou=people` as a person who may be taken over, or says why it is none. Pure. */
import type { IdRange } from '../shared/config-values.ts';
import {
  isDisplayName,
  MAX_DISPLAY_NAME_LENGTH,
  normalName,
  parseImportedShellName,
} from '../identity/names.ts';
import { printable, quote } from '../shared/printable.ts';
import { REQUEST_SCHEMAS } from '../requests/schema.ts';
import { isReservedName } from '../identity/reserved-names.ts';
import { parseSshKey } from '../ssh-keys/ssh-key.ts';
import type { TakenKey, TakenPerson } from './import-batch.ts';
import { readableRef, type DirectoryEntry } from '../targets/directory-reader.ts';
import { hasClass, isLocked, readNumber } from './account.ts';
import type { Fault, Refusal } from './refusal.ts';

export interface PeopleContext {
  realm: string;
  people: readonly IdRange[];
  reservedNames: readonly string[];
  knownBadKeys: ReadonlySet<string>;
}

/** A person who fits by itself; whether another has the same is judged over all. */
export interface SeenPerson extends TakenPerson {
  entry: DirectoryEntry;
  /** parts that the person is taken without */
  leftOut: Refusal[];
}

const EMAIL = REQUEST_SCHEMAS['person.create'].shape.email;

/** Neither a person nor meant as one, such as an organizational unit: nothing is said of it. */
export function isAccountLike({ attributes }: DirectoryEntry): boolean {
  return (attributes['uid'] ?? []).length + (attributes['uidNumber'] ?? []).length > 0;
}

/**
 * | entry                                             | then                              |
 * | ------------------------------------------------- | --------------------------------- |
 * | no posixAccount, no or several uidNumber, no cn   | ENTRY_INCOMPLETE                  |
 * | not `uid=<name>`, several uid, or not the grammar | NAME_INVALID                      |
 * | a reserved name                                   | NAME_RESERVED                     |
 * | a number in no range of people                    | ID_OUT_OF_RANGE                   |
 * | several cn, of which none is the sn               | ENTRY_INCOMPLETE                  |
 * | several cn, of which one is the sn                | taken with that one               |
 * | a display name that no request could have         | NAME_INVALID                      |
 * | locked in any way, or a shell that is no ordinary | taken, suspended                  |
 * | a key that the parser refuses                     | taken without that key, with code |
 * | mail that is no address, or a second one          | taken without that mail           |
 */
export function readPerson(
  entry: DirectoryEntry,
  context: PeopleContext,
): { person: SeenPerson } | { refusal: Refusal } {
  const object = readableRef(entry.ref, context.realm);
  const refuse = (code: Refusal['code'], sentence: string) => ({
    refusal: { part: 'person' as const, code, object, sentence },
  });
  const { attributes } = entry;
  const names = attributes['uid'] ?? [];
  const [name = ''] = names;
  if (!hasClass(entry, 'posixAccount')) {
    return refuse('ENTRY_INCOMPLETE', 'it is no posixAccount');
  }
  if (names.length > 1) {
    return refuse(
      'NAME_INVALID',
      `it has several names (uid): ${names.map((each) => quote(each)).join(', ')}`,
    );
  }
  const shellName = parseImportedShellName(name);
  if (shellName === undefined) {
    return refuse(
      'NAME_INVALID',
      `${quote(name)} is no shell name: it starts with a-z and has 1 to 32 of a-z, 0-9, - and _`,
    );
  }
  if (entry.ref !== `people/uid=${shellName}`) {
    return refuse('NAME_INVALID', `it is not called uid=${shellName}`);
  }
  if (isReservedName(normalName(shellName), context.reservedNames)) {
    return refuse(
      'NAME_RESERVED',
      `the name ${shellName} is reserved: a system account or group has it, or the configuration says so`,
    );
  }
  const uid = readNumber(entry, 'uidNumber', context.people);
  if (typeof uid !== 'number') return refuse(uid.code, uid.sentence);
  const displayName = readDisplayName(entry);
  if (typeof displayName !== 'string') return refuse(displayName.code, displayName.sentence);
  const otherNames = (attributes['cn'] ?? [])
    .filter((other) => other !== displayName)
    .map((other): Refusal => {
      const sentence = `its display name (cn) ${quote(other)} is left out: ${quote(displayName)} is its sn`;
      return { part: 'name', code: 'NAME_INVALID', object, sentence };
    });
  const [keys, badKeys] = readKeys(entry, object, context.knownBadKeys);
  const [email, otherMails] = readMail(entry, object);
  return {
    person: {
      uid,
      shellName,
      displayName,
      email,
      state: isLocked(entry) ? 'suspended' : 'active',
      keys,
      entry,
      leftOut: [...otherNames, ...otherMails, ...badKeys],
    },
  };
}

function readDisplayName({ attributes }: DirectoryEntry): string | Fault {
  const names = attributes['cn'] ?? [];
  const [own] = names.length > 1 ? (attributes['sn'] ?? []) : names;
  if (own === undefined || !names.includes(own)) {
    const sentence =
      names.length === 0
        ? 'it has no display name (cn)'
        : `it has ${names.length} display names (cn), and none of them is its sn`;
    return { code: 'ENTRY_INCOMPLETE', sentence };
  }
  // text that is no UTF-8 stands in hex behind this word, and so would text that begins like it
  if (isDisplayName(own) && !own.startsWith('bytes:')) return own;
  return {
    code: 'NAME_INVALID',
    sentence:
      `the display name (cn) ${quote(own)} is none: it has 1 to ${MAX_DISPLAY_NAME_LENGTH} printable ` +
      'characters, single blanks between, in the form NFC',
  };
}

/** The first that is an address; `''` where there is none. */
function readMail({ attributes }: DirectoryEntry, object: string): [string, Refusal[]] {
  const mails = attributes['mail'] ?? [];
  const own = mails.find((mail) => EMAIL.safeParse(mail).success);
  const refusals = mails
    .filter((mail) => mail !== own)
    .map((mail): Refusal => {
      const isAddress = EMAIL.safeParse(mail).success;
      const why = isAddress ? `there is one, and that is ${own}` : 'it is no address';
      const sentence = `its mail ${quote(mail)} is left out: ${why}`;
      return { part: 'mail', code: 'NAME_INVALID', object, sentence };
    });
  return [own ?? '', refusals];
}

/** The fingerprints of the keys that an entry has, whether it can be taken over or not. */
export function fingerprintsOf(
  entry: DirectoryEntry,
  { knownBadKeys }: Pick<PeopleContext, 'knownBadKeys'>,
): string[] {
  const [keys] = readKeys(entry, '', knownBadKeys);
  return keys.map(({ fingerprint }) => fingerprint);
}

/** Each value through the one parser; a doubled key once, with the first label that it has. */
function readKeys(
  { attributes }: DirectoryEntry,
  object: string,
  knownBad: ReadonlySet<string>,
): [TakenKey[], Refusal[]] {
  const keys = new Map<string, TakenKey>();
  const refusals: Refusal[] = [];
  const labels = new Map(
    (attributes['description'] ?? []).flatMap((text): [string, string][] => {
      const [, fingerprint, label] = /^(SHA256:[A-Za-z0-9+/]{43}) (.+)$/u.exec(text) ?? [];
      return fingerprint === undefined || label === undefined || printable(label) !== label
        ? []
        : [[fingerprint, label]];
    }),
  );
  for (const value of attributes['sshPublicKey'] ?? []) {
    const verdict = value.startsWith('bytes:')
      ? { ok: false as const, code: 'KEY_MALFORMED' as const, sentence: 'It is no text.' }
      : parseSshKey(value, knownBad);
    if (!verdict.ok) {
      const why = verdict.sentence.replace(/\.$/u, '');
      refusals.push({
        part: 'key',
        code: verdict.code,
        object,
        sentence: `${nameKey(value, verdict.code)} is left out: ${why}`,
      });
      continue;
    }
    const { fingerprint, line, label } = verdict.key;
    const known = keys.get(fingerprint);
    if (known === undefined) {
      const named = labels.get(fingerprint) ?? label;
      keys.set(fingerprint, { fingerprint, line, ...endOf(verdict.key.options), label: named });
    } else if (known.label === '') {
      known.label = label;
    }
  }
  return [[...keys.values()], refusals];
}

/** Enough of a key to find it by; nothing of one that is secret, or may be. */
function nameKey(value: string, code: Refusal['code']): string {
  return code === 'KEY_PRIVATE' ? 'one of its keys' : `its key ${quote(value, 24)}`;
}

/**
 * An end that is written as ours are, last and in UTC, goes into its own column, so that the line stays
 * the same to the letter; any other stays an option.
 */
function endOf(options: readonly string[]): Pick<TakenKey, 'options' | 'expiresAt'> {
  const [, digits] = /^expiry-time="(\d{14})Z"$/.exec(options.at(-1) ?? '') ?? [];
  if (digits === undefined) return { options: [...options], expiresAt: undefined };
  const at = digits.replace(/^(....)(..)(..)(..)(..)(..)$/, '$1-$2-$3T$4:$5:$6Z');
  return { options: options.slice(0, -1), expiresAt: at };
}
