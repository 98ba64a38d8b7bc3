/** Sentences about a word itself: whose it is, or what is known of it if it names no subject. Pure. */
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
import { describedRole } from '../roles/index.ts';
import type { Word } from './word.ts';
import type { SubjectPage } from './explanation.ts';
import type { Unknown } from './explain-unknown.ts';
import { entryRef, readableRef } from '../targets/directory-reader.ts';

const NOUN = { person: 'people', tool: 'tools' } as const;

/** What the word is to the subjects that it names; empty if it is simply their name. */
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

/** The owner of a path on this machine. */
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
      return `${is}: ${databaseUser} has all rights on it, on servers where tools have databases of their own.`;
    case 'deleted':
      return `${database} was a database of ${account}: ${databaseUser} is deleted, and so are its databases.`;
    default:
      return `${is}: ${databaseUser} is locked, because ${account} is ${state}.`;
  }
}

function isOfHome({ area, home }: Extract<Word, { kind: 'path' }>, subject: SubjectPage): boolean {
  const { kind, account } = subject;
  return area === 'toolHomes'
    ? kind === 'tool' && account.endsWith(`.${home}`)
    : kind === 'person' && account === home;
}

function inNoHome({ path, area, home }: Extract<Word, { kind: 'path' }>): string {
  return `${path} is not in a managed home: there is no ${area === 'toolHomes' ? 'tool' : 'person'} ${home}.`;
}

/** Empty if the path belongs to the owner of the home. */
function describeOwner(
  word: Word,
  subjects: readonly SubjectPage[],
  owned: OwnedPath | undefined,
): string[] {
  if (owned === undefined) return [];
  const owner = subjects.find(({ uid }) => uid === owned.uid);
  if (owner === undefined) {
    return [
      `On this machine, ${owned.path} belongs to uid ${owned.uid}, which no person or tool has.`,
    ];
  }
  if (word.kind === 'path' && isOfHome(word, owner)) return [];
  return [`On this machine, ${owned.path} belongs to uid ${owned.uid}, which is ${owner.account}.`];
}

/** Whose number it was, when the account was deleted, and where its archives are. */
function describeTombstone({ account, kind, uid, leaving }: SubjectPage): string {
  const open = leaving.archivals.findLast(({ backAt }) => backAt === null);
  const when = open?.leftAt ? ` ${timeOf(open.leftAt)}` : '';
  const gone = `${uid} was the number of ${account}, a ${kind} ${kind === 'person' ? 'who' : 'that'} was deleted${when}. Neither the number nor the name will be given again.`;
  if (open === undefined) return gone;
  const archives = open.archives.flatMap(({ role, made }) =>
    made === null ? [] : [`${describedRole(role).archives} in ${made.path}`],
  );
  if (open.expiredAt !== null)
    return `${gone} The archives were kept until ${timeOf(open.expiredAt)}.`;
  const until = open.keepUntil === null ? '' : `, kept until ${timeOf(open.keepUntil)}`;
  return archives.length === 0 ? gone : `${gone} The archives: ${archives.join(', ')}${until}.`;
}

function describePath(
  { path, inside }: Extract<Word, { kind: 'path' }>,
  { account, uid, kind, state, targets }: SubjectPage,
  realm: Realm,
): string {
  const gid = kind === 'tool' ? uid : realm.realmGid;
  const wanted = (name: string) => targets.find(({ target }) => target === name)?.wanted ?? 'none';
  if (state === 'archived' || state === 'deleted') {
    return `${path} is, or is in, the former home of ${account}.`;
  }
  if (wanted('home-directory') === 'none') {
    return `${path} is where the home of ${account} would be, but ${account} has no home.`;
  }
  if (inside === '') return `${path} is the home of ${account}.`;
  if (wanted('credentials-file').startsWith(`${path},`)) {
    return `${path} is the credentials file of ${account}.`;
  }
  return `${path} is in the home of ${account}. Files that ${account} makes there belong to ${uid}:${gid}; Chamberlain does not manage them.`;
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
    const comma = name !== '' && id !== 0 ? ',' : '';
    return (
      `${name}${number}${comma} was not made by Chamberlain. It was first seen at ${timeOf(at)} in the ` +
      'directory, in an area of homes or on a database server, and may be gone by now: see `chamberlain list unmanaged`.'
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
      return [
        `${word.dn} would be an entry of the ${word.owner} ${word.name}, which does not exist.`,
        ...seen,
      ];
    case 'realm group':
      return [describeRealmGroup(config)];
    case 'nothing':
      return [
        `This names nothing: ${word.because}.`,
        ...describeOwner(word, [], owned),
        ...(owned === undefined ? [] : describeUid(owned.uid, unknown)),
      ];
    case 'fingerprint':
      return [
        'No person has this key, or ever had it in this realm.',
        ...[KNOWN_BAD_KEYS.get(word.fingerprint)]
          .filter((what) => what !== undefined)
          .map((what) => `It is publicly known, so it is never accepted: ${what}.`),
        ...(config.keys.knownBad.includes(word.fingerprint)
          ? ['The configuration refuses this key.']
          : []),
      ];
    default:
      return [];
  }
}

function describeName(
  name: string,
  { sightings, sweptAt }: Unknown,
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
          sweptAt,
        })
      : [];
  return [
    ...person,
    ...verdictOn(`tool ${bare}`, {
      fits: parseNewToolName(bare) !== undefined,
      reserved: isReservedToolName(normalName(bare)),
      unmanaged: isUnmanaged(`${realm}.${bare}`),
      sweptAt,
    }),
  ];
}

function verdictOn(
  what: string,
  {
    fits,
    reserved,
    unmanaged,
    sweptAt,
  }: { fits: boolean; reserved: boolean; unmanaged: boolean; sweptAt: Date | null },
): string[] {
  const why = [
    ...(fits ? [] : ['the name has a form that is not allowed']),
    ...(reserved ? ['the name is reserved'] : []),
    ...(unmanaged ? ['something unmanaged had the name'] : []),
  ];
  const can =
    why.length === 0
      ? foundNothing('the name', sweptAt)
      : `it cannot be created: ${why.join(', ')}`;
  return [`There is no ${what}, and there never was; ${can}.`];
}

/** Not that it is free: `explain` does not ask the servers about what no person or tool has. */
function foundNothing(what: string, sweptAt: Date | null): string {
  return sweptAt === null
    ? `no sweep has looked yet for anything unmanaged with ${what}`
    : `the last sweep, which began at ${timeOf(sweptAt)}, found nothing unmanaged with ${what}`;
}

function describeRealmGroup({ realm, ids, ldap }: Config): string {
  const ref = entryRef('groups', 'cn', `project-${realm}`);
  const dn = `${readableRef(ref, realm)},${ldap.base}`;
  return `project-${realm} is the realm group, whose members are all realm members: number ${ids.realmGid}, ${dn}.`;
}

function describeUid(uid: number, { range, given, sightings, sweptAt }: Unknown): string[] {
  if (uid === 0 || uid === 65_534 || uid === 65_535 || uid >= 2 ** 31) {
    return [`${uid} is a number that no account may have: it is reserved by the system.`];
  }
  if (given !== undefined) {
    return [
      `${uid} is a number for ${NOUN[given]} that was assigned before or is reserved; it will not be assigned to anybody else.`,
    ];
  }
  if (range === undefined) return [`${uid} is not in any range from which numbers are assigned.`];
  const { kind, first, last, next } = range;
  const found = sightings.some(({ id }) => id === uid)
    ? ''
    : `; ${foundNothing('the number', sweptAt)}`;
  const where = `${uid} is in the range ${first}–${last} for ${NOUN[kind]}`;
  return [
    uid < next
      ? `${where}, and was passed over: it will never be assigned.`
      : `${where}, and was never assigned${found}. The next number there is ${next}.`,
  ];
}
