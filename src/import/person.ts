/** Reads one entry of `ou=people` as a person who may be imported, or says why it cannot be. Pure. */
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
import { hasClass } from '../targets/directory-entry.ts';
import { isLocked, readNumber } from './account.ts';
import type { Fault, Refusal } from './refusal.ts';

export interface PeopleContext {
  realm: string;
  people: readonly IdRange[];
  reservedNames: readonly string[];
  knownBadKeys: ReadonlySet<string>;
  /** from when on its mail addresses count as verified; null: they do not */
  mailVerifiedAt: Date | null;
}

/** A person who is valid alone. Whether another entry has the same values is judged later, over all entries. */
export interface SeenPerson extends TakenPerson {
  entry: DirectoryEntry;
  /** values without which the person is imported */
  leftOut: Refusal[];
}

const EMAIL = REQUEST_SCHEMAS['person.create'].shape.email;

/** Whether an entry is meant as a person. Others, such as an organizational unit, are not reported. */
export function isAccountLike({ attributes }: DirectoryEntry): boolean {
  return (attributes['uid'] ?? []).length + (attributes['uidNumber'] ?? []).length > 0;
}

/**
 * | entry                                              | then                                |
 * | -------------------------------------------------- | ----------------------------------- |
 * | not a posixAccount, no or several uidNumber, no cn | ENTRY_INCOMPLETE                    |
 * | not `uid=<name>`, several uid, or wrong grammar    | NAME_INVALID                        |
 * | a reserved name                                    | NAME_RESERVED                       |
 * | a number outside the ranges for people             | ID_OUT_OF_RANGE                     |
 * | several cn, of which none is the sn                | ENTRY_INCOMPLETE                    |
 * | several cn, of which one is the sn                 | imported with that one              |
 * | a display name that a request could not have       | NAME_INVALID                        |
 * | locked in any way, or without an ordinary shell    | imported as suspended               |
 * | a key that the parser refuses                      | imported without it, with its code  |
 * | mail that is not an address, or a second address   | imported without that mail          |
 *
 * What is left out as one value of several, or as no address, is reported as ENTRY_INCOMPLETE.
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
    return refuse('ENTRY_INCOMPLETE', 'it is not a posixAccount');
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
      `${quote(name)} is not a shell name: a shell name must start with a-z and consist of 1 to 32 characters: a-z, 0-9, - and _`,
    );
  }
  if (entry.ref !== `people/uid=${shellName}`) {
    return refuse('NAME_INVALID', `the entry is not named uid=${shellName}`);
  }
  if (isReservedName(normalName(shellName), context.reservedNames)) {
    return refuse(
      'NAME_RESERVED',
      `the name ${shellName} is reserved for a system account or group, or by the configuration`,
    );
  }
  const uid = readNumber(entry, 'uidNumber', context.people);
  if (typeof uid !== 'number') return refuse(uid.code, uid.sentence);
  const displayName = readDisplayName(entry);
  if (typeof displayName !== 'string') return refuse(displayName.code, displayName.sentence);
  const otherNames = (attributes['cn'] ?? [])
    .filter((other) => other !== displayName)
    .map((other): Refusal => {
      const sentence = `only the display name (cn) that equals its sn is kept, ${quote(displayName)}: ${quote(other)} is left out`;
      return { part: 'name', code: 'ENTRY_INCOMPLETE', object, sentence };
    });
  const [keys, badKeys] = readKeys(entry, object, context.knownBadKeys);
  const [email, otherMails] = readMail(entry, object);
  return {
    person: {
      uid,
      shellName,
      displayName,
      email,
      mailVerifiedAt: email === '' ? null : (context.mailVerifiedAt?.toISOString() ?? null),
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
  // text that is not UTF-8 is given in hex after this word, so text that begins with it is refused
  if (isDisplayName(own) && !own.startsWith('bytes:')) return own;
  return {
    code: 'NAME_INVALID',
    sentence:
      `the display name (cn) ${quote(own)} is not valid: it must have 1 to ${MAX_DISPLAY_NAME_LENGTH} printable ` +
      'characters, with only single spaces between words, in Unicode form NFC',
  };
}

/** The first value that is an address, or `''`. */
function readMail({ attributes }: DirectoryEntry, object: string): [string, Refusal[]] {
  const mails = attributes['mail'] ?? [];
  const own = mails.find((mail) => EMAIL.safeParse(mail).success);
  const refusals = mails
    .filter((mail) => mail !== own)
    .map((mail): Refusal => {
      const isAddress = EMAIL.safeParse(mail).success;
      const why = isAddress ? `only the first address is kept, ${own}` : 'it is not an address';
      const sentence = `its mail ${quote(mail)} is left out: ${why}`;
      return { part: 'mail', code: 'ENTRY_INCOMPLETE', object, sentence };
    });
  return [own ?? '', refusals];
}

/** The fingerprints of an entry's keys, whether the entry can be imported or not. */
export function fingerprintsOf(
  entry: DirectoryEntry,
  { knownBadKeys }: Pick<PeopleContext, 'knownBadKeys'>,
): string[] {
  const [keys] = readKeys(entry, '', knownBadKeys);
  return keys.map(({ fingerprint }) => fingerprint);
}

/** Parses each value. A key that occurs twice is taken once, with its first label. */
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
      ? { ok: false as const, code: 'KEY_MALFORMED' as const, sentence: 'It is not text.' }
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

/** Enough of a key to find it by; nothing of a key that is or may be private. */
function nameKey(value: string, code: Refusal['code']): string {
  return code === 'KEY_PRIVATE' ? 'one of its keys' : `its key ${quote(value, 24)}`;
}

/**
 * An expiry in our own form, as the last option and in UTC, is stored in its own column, so that the line stays exactly
 * the same. Any other expiry stays an option.
 */
function endOf(options: readonly string[]): Pick<TakenKey, 'options' | 'expiresAt'> {
  const [, digits] = /^expiry-time="(\d{14})Z"$/.exec(options.at(-1) ?? '') ?? [];
  if (digits === undefined) return { options: [...options], expiresAt: undefined };
  const at = digits.replace(/^(....)(..)(..)(..)(..)(..)$/, '$1-$2-$3T$4:$5:$6Z');
  return { options: options.slice(0, -1), expiresAt: at };
}
