/** Sentences about a word itself: whose it is, or what is known of it where nobody of ours has it. Pure. */
import type { Config } from '../config.ts';
import { KNOWN_BAD_KEYS } from '../model/known-bad-keys.ts';
import {
  isReservedToolName,
  normalName,
  parseNewShellName,
  parseNewToolName,
} from '../model/names.ts';
import { isReservedName } from '../model/reserved-names.ts';
import type { Realm } from '../model/wanted.ts';
import type { Word } from '../model/word.ts';
import type { SubjectPage } from '../plan/explanation.ts';
import type { Unknown } from '../store/explain-unknown.ts';

const NOUN = { person: 'people', tool: 'tools' } as const;

/** What the word is of the subjects that it names; nothing where it is just a name of theirs. */
export function describeFound(
  word: Word,
  subjects: readonly SubjectPage[],
  realm: Realm,
): string[] {
  switch (word.kind) {
    case 'path':
      return subjects.map((subject) => describePath(word, subject, realm));
    case 'database':
      return subjects.map(
        ({ account, databaseUser }) =>
          `${word.database} is a database of ${account}: ${databaseUser} may do anything in it, where tools have databases of their own.`,
      );
    case 'name':
      return subjects.flatMap(({ databaseUser, account, kind, displayName = '', email }) => [
        ...(email?.toLowerCase() === word.name.toLowerCase()
          ? [`${word.name} is the mail address of ${account}.`]
          : []),
        ...(databaseUser === word.name ? [`${word.name} is the database user of ${account}.`] : []),
        ...(kind === 'person' &&
        account !== word.name &&
        normalName(displayName) === normalName(word.name)
          ? [`${word.name} is the display name of ${account}.`]
          : []),
      ]);
    default:
      return [];
  }
}

function describePath(
  { path, inside }: Extract<Word, { kind: 'path' }>,
  { account, uid, kind, targets }: SubjectPage,
  realm: Realm,
): string {
  const gid = kind === 'tool' ? uid : realm.realmGid;
  const wanted = (name: string) => targets.find(({ target }) => target === name)?.wanted ?? 'none';
  if (wanted('home-directory') === 'none') {
    return `${path} is where a home of ${account} would be; none is wanted.`;
  }
  if (inside === '') return `${path} is the home of ${account}.`;
  if (wanted('credentials-file').startsWith(`${path},`)) {
    return `${path} is the credentials file of ${account}.`;
  }
  return `${path} is in the home of ${account}: what it makes there belongs to ${uid}:${gid}, and is its own matter.`;
}

/** Everything that is known of a word that names no subject. */
export function describeUnknown(word: Word, unknown: Unknown, config: Config): string[] {
  const seen = unknown.sightings.map(({ name, id, at }) => {
    const number = id === 0 ? '' : `${name === '' ? 'Number' : ', number'} ${id}`;
    return (
      `${name}${number}, which is not ours, was seen at ${at.toISOString()} in the directory, among homes ` +
      'or among database users; it may be gone.'
    );
  });
  switch (word.kind) {
    case 'name':
      return [
        ...seen,
        ...describeName(word.name, unknown, config),
        ...unknown.refusals.map(
          ({ at, kind, requestedBy, code, sentence }) =>
            `Refused at ${at.toISOString()}: ${kind} of ${requestedBy}: ${code}: ${sentence}`,
        ),
        ...(word.databaseUser === undefined
          ? []
          : describeUid(word.databaseUser.uid, unknown, config)),
      ];
    case 'uid':
      return [...seen, ...describeUid(word.uid, unknown, config)];
    case 'database':
      return [
        `${word.database} would be a database of the ${word.owner.kind} ${word.owner.uid}.`,
        ...seen,
        ...describeUid(word.owner.uid, unknown, config),
      ];
    case 'path':
      return [
        `${word.path} is in no home of ours: there is no ${word.area === 'toolHomes' ? 'tool' : 'person'} ${word.home}.`,
        ...seen,
      ];
    case 'fingerprint':
      return [
        'No person has this key, or ever had it here.',
        ...[KNOWN_BAD_KEYS.get(word.fingerprint)]
          .filter((what) => what !== undefined)
          .map((what) => `It is publicly known, and never taken: ${what}.`),
        ...(config.keys.knownBad.includes(word.fingerprint)
          ? ['The configuration says that it is never taken.']
          : []),
      ];
    default:
      return [];
  }
}

function describeName(name: string, { sightings }: Unknown, { realm }: Config): string[] {
  const normal = normalName(name);
  const bare = name.startsWith(`${realm}.`) ? name.slice(realm.length + 1) : name;
  const isForeign = (each: string) => sightings.some((seen) => seen.name === normalName(each));
  const person =
    bare === name
      ? verdictOn(`person ${name}`, {
          fits: parseNewShellName(name) !== undefined,
          reserved: isReservedName(normal),
          foreign: isForeign(name),
        })
      : [];
  return [
    ...person,
    ...verdictOn(`tool ${bare}`, {
      fits: parseNewToolName(bare) !== undefined,
      reserved: isReservedToolName(normalName(bare)),
      foreign: isForeign(`${realm}.${bare}`),
    }),
  ];
}

function verdictOn(
  what: string,
  { fits, reserved, foreign }: { fits: boolean; reserved: boolean; foreign: boolean },
): string[] {
  const why = [
    ...(fits ? [] : ['the name does not fit the grammar']),
    ...(reserved ? ['the name is reserved'] : []),
    ...(foreign ? ["the name was seen as another's"] : []),
  ];
  const can = why.length === 0 ? 'the name is free' : `none can be made: ${why.join(', ')}`;
  return [`There is no ${what}, and never was; ${can}.`];
}

function describeUid(uid: number, { range, given }: Unknown, { ids, realm }: Config): string[] {
  if (uid === ids.realmGid) {
    return [`${uid} is the number of the realm group project-${realm}, of all realm members.`];
  }
  if (uid === 0 || uid === 65_534 || uid === 65_535 || uid >= 2 ** 31) {
    return [`${uid} is a number that no account may have: systems keep it for themselves.`];
  }
  if (given !== undefined) {
    return [
      `${uid} was given to a ${given}, or is kept from ${NOUN[given]}; it is never given again.`,
    ];
  }
  if (range === undefined) return [`${uid} is in no range that numbers are given from.`];
  const { kind, first, last, next } = range;
  const where = `${uid} is in the range ${first}–${last} of ${NOUN[kind]}`;
  return [
    uid < next
      ? `${where}, and was passed over: it is never given.`
      : `${where}, and was never given; the next number there is ${next}.`,
  ];
}
