/** Sentences about a word itself: whose it is, or what is known of it where nobody of ours has it. Pure. */
import type { Config } from '../shared/config.ts';
import { KNOWN_BAD_KEYS } from '../ssh-keys/known-bad-keys.ts';
import {
  isReservedToolName,
  normalName,
  parseNewShellName,
  parseNewToolName,
  withoutRealm,
} from '../identity/names.ts';
import { isReservedName } from '../identity/reserved-names.ts';
import { timeOf } from '../shared/time.ts';
import type { Realm } from '../reconcile/wanted.ts';
import type { Word } from './word.ts';
import type { SubjectPage } from './explanation.ts';
import type { Unknown } from './explain-unknown.ts';
import { entryRef, readableRef } from '../targets/directory-reader.ts';

const NOUN = { person: 'people', tool: 'tools' } as const;

/** What the word is of the subjects that it names; nothing where it is just a name of theirs. */
export function describeFound(
  word: Word,
  subjects: readonly SubjectPage[],
  realm: Realm,
  owned?: OwnedPath,
): string[] {
  return [
    ...describeWord(word, subjects, realm),
    ...describeOwner(word, subjects, owned),
    ...subjects.filter(({ state }) => state === 'deleted').map(describeTombstone),
  ];
}

/** Whose number a path has on this machine. */
export interface OwnedPath {
  path: string;
  uid: number;
}

function describeWord(word: Word, subjects: readonly SubjectPage[], realm: Realm): string[] {
  switch (word.kind) {
    case 'path':
      return subjects.some((subject) => isOfHome(word, subject))
        ? subjects
            .filter((subject) => isOfHome(word, subject))
            .map((subject) => describePath(word, subject, realm))
        : [inNoHome(word)];
    case 'database':
      return subjects.map((subject) => describeDatabase(word.database, subject));
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

function describeDatabase(database: string, { account, databaseUser, state }: SubjectPage): string {
  const is = `${database} is a database of ${account}`;
  switch (state) {
    case 'active':
      return `${is}: ${databaseUser} may do anything in it, where tools have databases of their own.`;
    case 'deleted':
      return `${database} was a database of ${account}: ${databaseUser} is deleted, and what was there was put away before.`;
    default:
      return `${is}: ${databaseUser} is locked, since ${account} is ${state}.`;
  }
}

function isOfHome({ area, home }: Extract<Word, { kind: 'path' }>, subject: SubjectPage): boolean {
  const { kind, account } = subject;
  return area === 'toolHomes'
    ? kind === 'tool' && account.endsWith(`.${home}`)
    : kind === 'person' && account === home;
}

function inNoHome({ path, area, home }: Extract<Word, { kind: 'path' }>): string {
  return `${path} is in no home of ours: there is no ${area === 'toolHomes' ? 'tool' : 'person'} ${home}.`;
}

/** Nothing where it is the home's own. */
function describeOwner(
  word: Word,
  subjects: readonly SubjectPage[],
  owned: OwnedPath | undefined,
): string[] {
  if (owned === undefined) return [];
  const owner = subjects.find(({ uid }) => uid === owned.uid);
  if (owner === undefined) {
    return [
      `On this machine ${owned.path} belongs to the number ${owned.uid}, which nobody of ours has.`,
    ];
  }
  if (word.kind === 'path' && isOfHome(word, owner)) return [];
  return [`On this machine ${owned.path} belongs to ${owned.uid}, the number of ${owner.account}.`];
}

/** Whose it was, when that was, and where what it had lies now. */
function describeTombstone({ account, kind, uid, leaving }: SubjectPage): string {
  const open = leaving.archivals.findLast(({ backAt }) => backAt === null);
  const when = open?.leftAt ? ` ${timeOf(open.leftAt)}` : '';
  const gone = `${uid} was the number of ${account}, a ${kind} ${kind === 'person' ? 'who' : 'that'} was deleted${when}: neither number nor name is given again.`;
  if (open === undefined) return gone;
  const archives = open.archives.flatMap(({ role, made }) =>
    made === null ? [] : [`${role === 'homes' ? 'home' : 'databases'} in ${made.path}`],
  );
  if (open.expiredAt !== null)
    return `${gone} Its archives were kept until ${timeOf(open.expiredAt)}.`;
  const until = open.keepUntil === null ? '' : `, kept until ${timeOf(open.keepUntil)}`;
  return archives.length === 0
    ? gone
    : `${gone} What it had is put away: ${archives.join(', ')}${until}.`;
}

function describePath(
  { path, inside }: Extract<Word, { kind: 'path' }>,
  { account, uid, kind, state, targets }: SubjectPage,
  realm: Realm,
): string {
  const gid = kind === 'tool' ? uid : realm.realmGid;
  const wanted = (name: string) => targets.find(({ target }) => target === name)?.wanted ?? 'none';
  if (state === 'archived' || state === 'deleted') {
    return `${path} is where the home of ${account} was, and things in it.`;
  }
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
export function describeUnknown(
  word: Word,
  unknown: Unknown,
  config: Config,
  owned?: OwnedPath,
): string[] {
  const seen = unknown.sightings.map(({ name, id, at }) => {
    const number = id === 0 ? '' : `${name === '' ? 'Number' : ', number'} ${id}`;
    return (
      `${name}${number}, which is not ours, was seen at ${timeOf(at)} in the directory, among homes ` +
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
            `Refused at ${timeOf(at)}: ${kind} of ${requestedBy}: ${code}: ${sentence}`,
        ),
        ...(word.databaseUser === undefined ? [] : describeUid(word.databaseUser.uid, unknown)),
      ];
    case 'uid':
      return [...seen, ...describeUid(word.uid, unknown)];
    case 'database':
      return [
        `${word.database} would be a database of the ${word.owner.kind} ${word.owner.uid}.`,
        ...seen,
        ...describeUid(word.owner.uid, unknown),
      ];
    case 'path':
      return [
        inNoHome(word),
        ...seen,
        ...describeOwner(word, [], owned),
        ...(owned === undefined ? [] : describeUid(owned.uid, unknown)),
      ];
    case 'entry':
      return [`There is no ${word.owner} ${word.name}, whose entry ${word.dn} would be.`, ...seen];
    case 'realm group':
      return [describeRealmGroup(config)];
    case 'nothing':
      return [
        `It names nothing: ${word.because}.`,
        ...describeOwner(word, [], owned),
        ...(owned === undefined ? [] : describeUid(owned.uid, unknown)),
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

function describeName(
  name: string,
  { sightings }: Unknown,
  { realm, reservedNames }: Config,
): string[] {
  const normal = normalName(name);
  const bare = withoutRealm(name, realm);
  const isUnmanaged = (each: string) => sightings.some((seen) => seen.name === normalName(each));
  const person =
    bare === name
      ? verdictOn(`person ${name}`, {
          fits: parseNewShellName(name) !== undefined,
          reserved: isReservedName(normal, reservedNames),
          unmanaged: isUnmanaged(name),
        })
      : [];
  return [
    ...person,
    ...verdictOn(`tool ${bare}`, {
      fits: parseNewToolName(bare) !== undefined,
      reserved: isReservedToolName(normalName(bare)),
      unmanaged: isUnmanaged(`${realm}.${bare}`),
    }),
  ];
}

function verdictOn(
  what: string,
  { fits, reserved, unmanaged }: { fits: boolean; reserved: boolean; unmanaged: boolean },
): string[] {
  const why = [
    ...(fits ? [] : ['the name does not fit the grammar']),
    ...(reserved ? ['the name is reserved'] : []),
    ...(unmanaged ? ["the name was seen as another's"] : []),
  ];
  const can = why.length === 0 ? 'the name is free' : `none can be made: ${why.join(', ')}`;
  return [`There is no ${what}, and never was; ${can}.`];
}

function describeRealmGroup({ realm, ids, ldap }: Config): string {
  const ref = entryRef('groups', 'cn', `project-${realm}`);
  const dn = `${readableRef(ref, realm)},${ldap.base}`;
  return `project-${realm} is the realm group, which has all realm members: number ${ids.realmGid}, ${dn}.`;
}

function describeUid(uid: number, { range, given }: Unknown): string[] {
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
