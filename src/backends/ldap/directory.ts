/**
 * The directory: a reader and a writer over LDAP, each bound as an account of its own.
 *
 * The reader reads in bulk: every answer is complete, or it throws BACKEND_UNREADABLE. The writer runs the
 * `ldap.*` verbs. It throws STEP_STALE if the entry is not as it was seen, STEP_FAILED if the server refuses,
 * and BACKEND_UNAVAILABLE if it writes nothing for now, or does not answer (then the step may or may not have been
 * done: the next survey shows it).
 */
import { type Config, sealKeyReader, secretReader } from '../../shared/config.ts';
import { ChamberlainError, type Code, doing } from '../../shared/errors.ts';
import type { Action, EntryRef, Place } from '../../reconcile/action.ts';
import {
  PLACES,
  readableRef,
  type DirectoryEntry,
  type DirectoryReader,
  type DirectoryQuery,
  type AnyRef,
} from '../../targets/directory-reader.ts';
import type { Throttle } from '../../targets/everything.ts';
import { signPayload, type SealKey } from '../../seals/seal.ts';
import type { Secret } from '../../secrets/secret.ts';
import { ATTRIBUTE as SEAL } from '../../targets/seal.ts';
import { generalizedTime, parseGeneralizedTime } from '../../shared/time.ts';
import { JUDGED_ATTRIBUTES, type JudgedEntry } from '../../unmanaged/unmanaged-things.ts';
import {
  openWalk,
  type Ours,
  WALKED_ATTRIBUTES,
  type WalkedDirectory,
} from './directory-everything.ts';
import { namesOf, type Names } from './directory-names.ts';
import {
  cannotWrite,
  type LdapSearch,
  openLdapPool,
  type LdapPool,
  readEntry,
  RESULT,
  resultCodeOf,
  type LdapChange,
  type LdapConnection,
  type LdapEntry,
} from './ldap.ts';

export interface DirectorySettings {
  /** `ldapi://…`, `ldaps://…`, or `ldap://` to this machine */
  uri: string;
  /** the suffix, e.g. `dc=example,dc=org` */
  base: string;
  realm: string;
  /** of `cn=directory-reader` or `cn=directory` below `ou=chamberlain` */
  password: Secret;
  caFile?: string | undefined;
}

/** By the configuration, how the directory is reached as one of the role's two accounts. */
export function directorySettings(
  config: Config,
  account: 'directory' | 'directory-reader',
): DirectorySettings {
  return {
    uri: config.ldap.uri,
    base: config.ldap.base,
    realm: config.realm,
    caFile: config.ldap.caFile,
    password: secretReader(config, 'ldap', account),
  };
}

/** The settings of the writer: they include the key that it signs with. */
export function writerSettings(config: Config) {
  return { ...directorySettings(config, 'directory'), sealKey: sealKeyReader(config) };
}

/**
 * Values in one OR filter. slapd tests every candidate against every value, with its access rules: measured for
 * 1,000 tools, 0.6 s by 16 or 24 values, 1.0 s by 50, 1.6 s by 100.
 */
const CHUNK = 16;
/** Above this number, reading all members of a group (30,000: 60 ms) is cheaper than asking for each. */
const ASK_EACH_UP_TO = 200;

// ---------------------------------------------------------------- reader

/** An entry with what the directory itself records of it. */
export interface TracedEntry extends JudgedEntry {
  /** of a group, as references */
  members: AnyRef[];
  createdBy: string | undefined;
  createdAt: Date | undefined;
  /** undefined if it was the directory role */
  changedBy: string | undefined;
  changedAt: Date | undefined;
  uuid: string | undefined;
}

/**
 * The directory's reader. `heartbeats` reads the texts of the heartbeat, `readEverything` everything below the
 * base.
 */
export interface OpenDirectoryReader extends DirectoryReader {
  heartbeats(): Promise<string[]>;
  /** @param ours decides which entries are not ours */
  readEverything(throttle: Throttle, realmGid: number, ours?: Ours): Promise<WalkedDirectory>;
  /**
   * Entries that were last changed by an account other than the directory role, without their members, since a
   * change sequence number or ever, page by page. The first time, this may be the whole tree.
   */
  changedByOthers(since?: string): AsyncGenerator<TracedEntry[]>;
  /** The change sequence number from which the next look must start; undefined if the server reports none. */
  readNextCsn(): Promise<string | undefined>;
  /** Those of these entries that exist. */
  trace(dns: readonly string[]): Promise<TracedEntry[]>;
  /** The change sequence number of an entry; undefined if there is no entry. */
  readCsn(ref: EntryRef): Promise<string | undefined>;
  /** The DN of a reference. */
  dnOf(ref: AnyRef): string;
  close(): Promise<void>;
}

/** What the directory itself records of each entry (RFC 4512, section 3.4; RFC 4530). */
const TRACED_ATTRIBUTES = [
  ...JUDGED_ATTRIBUTES,
  ...['creatorsName', 'createTimestamp', 'modifiersName', 'modifyTimestamp', 'entryUUID'],
];
const LOOKING_FOR_CHANGES = 'looking for changes by other accounts';
/** Before every change. */
const FIRST_CSN = '19700101000000.000000Z#000000#000#000000';
/**
 * A change may become visible this much later than its number says: clocks differ, and transactions take time.
 */
const CSN_MARGIN_MS = 60_000;
/** Above this number, reading everything that others have changed is cheaper than asking for each entry. */
const TRACE_EACH_UP_TO = 200;

/** Reads as `cn=directory-reader,ou=chamberlain`. */
export function openDirectoryReader(settings: DirectorySettings): OpenDirectoryReader {
  const { uri, caFile, password, realm } = settings;
  const names = namesOf(settings.base, realm);
  const bindDn = names.account('directory-reader');
  const check = (connection: LdapConnection) => seeTree(connection, names);
  const pool = openLdapPool({ uri, caFile, bindDn, password, check });
  const of: Reading = { pool, names, own: names.account('directory').toLowerCase() };
  return {
    find: (query) =>
      readable(`searching ${names.place(query.place ?? 'base')}`, () => findEntries(of, query)),
    async *list(place, attributes) {
      const base = names.place(place);
      const pages = pool.stream((ldap) => ldap.pages({ base, scope: 'one', attributes }));
      for await (const page of readablePages(`listing ${base}`, pages)) {
        yield page.map((entry) => toEntry(names, entry, attributes));
      }
    },
    membersOf: (group, members) =>
      readable(`reading the members of ${readableRef(group, realm)}`, () =>
        readMembers(of, group, members),
      ),
    async readEverything({ piece, yieldTurn }, realmGid, ours) {
      const base = names.place('base');
      const walk = openWalk(names, { realm, realmGid }, NO_MEMBER, ours);
      const search = {
        base,
        scope: 'sub',
        attributes: WALKED_ATTRIBUTES,
        pageSize: piece,
      } as const;
      for await (const page of readablePages(`reading all of ${base}`, pool.walk(search))) {
        walk.add(page);
        await yieldTurn();
      }
      return walk.end();
    },
    changedByOthers: (since) => readablePages(LOOKING_FOR_CHANGES, readChanges(of, since)),
    readNextCsn: () =>
      readable(LOOKING_FOR_CHANGES, () => pool.run((ldap) => readNextCsn(ldap, names))),
    trace: (dns) =>
      readable('reading entries that other accounts have changed', () => traceEntries(of, dns)),
    readCsn: (ref) =>
      readable(`reading ${readableRef(ref, realm)}`, async () => {
        const entry = await pool.run((ldap) => readEntry(ldap, names.dn(ref), ['entryCSN']));
        return entry === undefined ? undefined : valuesOf(entry, 'entryCSN', names)[0];
      }),
    dnOf: (ref) => names.dn(ref),
    heartbeats: () =>
      readable('reading the heartbeat', () => pool.run((ldap) => readHeartbeats(ldap, names))),
    close: pool.close,
  };
}

interface Reading {
  pool: LdapPool;
  names: Names;
  /** the DN of the account that writes, in lower case */
  own: string;
}

async function findEntries(of: Reading, query: DirectoryQuery): Promise<DirectoryEntry[]> {
  const pairs = query.any.flatMap(({ attribute, values }) =>
    [...new Set(values)].map(
      (value) => [attribute, of.names.toDirectory(attribute, value)] as const,
    ),
  );
  const chunks = Array.from({ length: Math.ceil(pairs.length / CHUNK) }, (_, i) =>
    pairs.slice(i * CHUNK, (i + 1) * CHUNK),
  );
  const found = await Promise.all(chunks.map((chunk) => findChunk(of, query, chunk)));
  return [...new Map(found.flat().map((entry) => [entry.ref, entry])).values()];
}

async function findChunk(
  of: Reading,
  { place, attributes }: Pick<DirectoryQuery, 'place' | 'attributes'>,
  any: readonly (readonly [attribute: string, value: Buffer])[],
): Promise<DirectoryEntry[]> {
  const { pool, names } = of;
  const base = names.place(place ?? 'base');
  const scope = place === undefined ? 'sub' : 'one';
  try {
    const found = await pool.run((ldap) => ldap.search({ base, scope, any, attributes }));
    return found.map((entry) => toEntry(names, entry, attributes));
  } catch (error) {
    if (resultCodeOf(error) !== RESULT.sizeLimitExceeded || any.length === 1) throw error;
    const half = Math.ceil(any.length / 2);
    const parts = [any.slice(0, half), any.slice(half)];
    const found = await Promise.all(
      parts.map((part) => findChunk(of, { ...(place && { place }), attributes }, part)),
    );
    return found.flat();
  }
}

function toEntry(names: Names, entry: LdapEntry, attributes: readonly string[]): DirectoryEntry {
  return {
    ref: names.entry(entry.dn),
    attributes: Object.fromEntries(
      attributes.map((attribute) => [attribute, valuesOf(entry, attribute, names)]),
    ),
  };
}

async function readMembers(
  { pool, names }: Reading,
  group: EntryRef,
  members: readonly EntryRef[],
): Promise<Set<EntryRef>> {
  const read = { base: names.dn(group), scope: 'base' } as const;
  if (members.length > ASK_EACH_UP_TO) {
    const found = await pool.run((ldap) => ldap.search({ ...read, attributes: ['member'] }));
    if (found[0] === undefined) throw new Error('it is not visible');
    const all = new Set(valuesOf(found[0], 'member', names));
    if (all.size === 0) throw new Error(NO_MEMBER);
    return new Set(members.filter((member) => all.has(names.value(names.dn(member)))));
  }
  const isFound = async (what: Partial<LdapSearch>) => {
    const search = { ...read, ...what, attributes: ['1.1'] };
    return (await pool.run((ldap) => ldap.search(search))).length > 0;
  };
  const [hasAny, ...asked] = await Promise.all([
    isFound({ present: 'member' }),
    ...members.map((member) => isFound({ any: [['member', names.toDirectory('member', member)]] })),
  ]);
  if (!hasAny) throw new Error(NO_MEMBER);
  return new Set(members.filter((_, i) => asked[i]));
}

async function* readChanges(of: Reading, since: string = FIRST_CSN): AsyncGenerator<TracedEntry[]> {
  const { pool, names } = of;
  const search = {
    ...{ base: names.place('base'), since, notBy: names.account('directory') },
    ...({ scope: 'sub', attributes: TRACED_ATTRIBUTES } as const),
  };
  for await (const page of pool.walk(search)) yield page.map((entry) => toTraced(of, entry));
}

async function traceEntries(of: Reading, dns: readonly string[]): Promise<TracedEntry[]> {
  if (dns.length <= TRACE_EACH_UP_TO) {
    const attributes = [...TRACED_ATTRIBUTES, 'member'];
    const found = dns.map((dn) => of.pool.run((ldap) => readEntry(ldap, dn, attributes)));
    return (await Promise.all(found)).flatMap((entry) => (entry ? toTraced(of, entry) : []));
  }
  const asked = new Set(dns);
  const found: TracedEntry[] = [];
  for await (const page of readChanges(of)) found.push(...page.filter(({ dn }) => asked.has(dn)));
  return found;
}

function toTraced({ names, own }: Reading, entry: LdapEntry): TracedEntry {
  const [createdBy, created, changedBy, changed, uuid] = TRACED_ATTRIBUTES.slice(
    JUDGED_ATTRIBUTES.length,
  ).map((attribute) => valuesOf(entry, attribute, names)[0]);
  return {
    ...toEntry(names, entry, JUDGED_ATTRIBUTES),
    ...{ dn: entry.dn, within: names.within(entry.dn) },
    members: valuesOf(entry, 'member', names) as AnyRef[],
    ...{ createdBy, uuid },
    changedBy: changedBy?.toLowerCase() === own ? undefined : changedBy,
    createdAt: parseGeneralizedTime(created ?? ''),
    changedAt: parseGeneralizedTime(changed ?? ''),
  };
}

/** A groupOfNames always has a member (RFC 4519, section 3.5), so access rules hide them. */
const NO_MEMBER = 'none of its members may be read';

/**
 * Checks that every place is visible: an account that may not read finds nothing, without an error, and in a
 * tree that was never seeded everything would seem to be absent.
 */
async function seeTree(ldap: LdapConnection, names: Names): Promise<void> {
  const look = async (place: Place) => {
    const base = names.place(place);
    try {
      const found = await ldap.search({ base, scope: 'base', attributes: ['1.1'] });
      if (found.length === 1) return;
    } catch (error) {
      if (resultCodeOf(error) === undefined) throw error;
    }
    throw new Error(
      `${base} does not exist, or may not be read: load the rules of the directory again (docs/install.md, step 7), or, if data was lost, see docs/recovery.md`,
    );
  };
  await Promise.all(PLACES.map(look));
}

/**
 * The change from which the next look must start: the server's own latest, less a margin; undefined if it
 * reports none.
 */
async function readNextCsn(ldap: LdapConnection, names: Names): Promise<string | undefined> {
  const read = { base: names.place('base'), scope: 'base', attributes: ['contextCSN'] } as const;
  const latest = (await ldap.search(read)).flatMap((entry) => valuesOf(entry, 'contextCSN', names));
  const at = parseGeneralizedTime(latest.toSorted().at(-1)?.split('#')[0] ?? '');
  if (at === undefined) return undefined;
  const stamp = generalizedTime(new Date(at.getTime() - CSN_MARGIN_MS)).replace('Z', '.000000Z');
  return `${stamp}#000000#000#000000`;
}

/** The heartbeat's texts: empty if it was never published, or is gone. */
async function readHeartbeats(ldap: LdapConnection, names: Names): Promise<string[]> {
  const entry = await readEntry(ldap, names.marker, ['description']);
  return entry === undefined ? [] : valuesOf(entry, 'description', names);
}

function valuesOf(entry: LdapEntry, attribute: string, names: Names): string[] {
  return entry
    .values(attribute)
    .map((value) => names.fromDirectory(attribute, value))
    .toSorted();
}

async function readable<T>(act: string, read: () => Promise<T>): Promise<T> {
  return await doing('BACKEND_UNREADABLE', act, read);
}

async function* readablePages<T>(act: string, pages: AsyncGenerator<T>): AsyncGenerator<T> {
  try {
    yield* pages;
  } catch (cause) {
    throw new ChamberlainError('BACKEND_UNREADABLE', act, { cause });
  }
}

// ---------------------------------------------------------------- writer

/** For each verb, the name of the act, and the result that means that the step is stale. */
const VERBS = {
  'ldap.add': { act: 'adding', stale: [RESULT.entryAlreadyExists] },
  'ldap.modify': {
    act: 'changing',
    stale: [
      RESULT.noSuchAttribute,
      RESULT.attributeOrValueExists,
      RESULT.noSuchObject,
      RESULT.assertionFailed,
    ],
  },
  'ldap.delete': { act: 'deleting', stale: [RESULT.noSuchObject, RESULT.assertionFailed] },
} as const satisfies Record<string, { act: string; stale: readonly number[] }>;

type DirectoryAction = Extract<Action, { verb: keyof typeof VERBS }>;

/**
 * Runs the `ldap.*` verbs as `cn=directory,ou=chamberlain`; any other verb is a fault. `heartbeats` reads the
 * texts of the heartbeat, which login hosts read (src/seals/heartbeat.ts). `tell` publishes a new one in place
 * of those that were read, and returns false if another process has done so meanwhile. The writer signs the
 * seals.
 */
export function openDirectoryWriter(settings: DirectorySettings & { sealKey: () => SealKey }): {
  do(action: Action): Promise<void>;
  heartbeats(): Promise<string[]>;
  tell(marker: string, instead: readonly string[]): Promise<boolean>;
  close(): Promise<void>;
} {
  const { uri, caFile, password, realm, sealKey } = settings;
  const names = namesOf(settings.base, realm);
  const bindDn = names.account('directory');
  const pool = openLdapPool({ uri, caFile, bindDn, password, check: async () => {} });
  return {
    async do(action) {
      if (!isDirectoryAction(action)) {
        throw new ChamberlainError('INTERNAL', `${action.verb} is not a verb of the directory`);
      }
      try {
        await pool.run((ldap) => perform(ldap, action, names, sealKey));
      } catch (cause) {
        const message = `${VERBS[action.verb].act} ${readableRef(action.entry, realm)}`;
        throw new ChamberlainError(failureOf(action, cause), message, { cause });
      }
    },
    heartbeats: () => pool.run((ldap) => readHeartbeats(ldap, names)),
    async tell(marker, instead) {
      const attribute = 'description';
      const old = instead.map((text) => names.toDirectory(attribute, text));
      const changes: LdapChange[] = [
        ...(old.length === 0 ? [] : [{ operation: 'delete', attribute, values: old } as const]),
        { operation: 'add', attribute, values: [Buffer.from(marker)] },
      ];
      try {
        await pool.run((ldap) =>
          ldap.modify(names.marker, changes, [['cn', Buffer.from('chamberlain')]]),
        );
        return true;
      } catch (error) {
        if (resultCodeOf(error) === RESULT.noSuchAttribute) return false;
        throw error;
      }
    },
    close: pool.close,
  };
}

function isDirectoryAction(action: Action): action is DirectoryAction {
  return Object.hasOwn(VERBS, action.verb);
}

async function perform(
  ldap: LdapConnection,
  action: DirectoryAction,
  names: Names,
  sealKey: () => SealKey,
): Promise<void> {
  const dn = names.dn(action.entry);
  const signed = (attribute: string, values: readonly string[]) =>
    attribute === SEAL ? values.map((payload) => signPayload(payload, sealKey())) : values;
  const bytes = (attribute: string, values: readonly string[]) =>
    values.map((value) => names.toDirectory(attribute, value));
  const expectation = (expect: Record<string, string>) =>
    Object.entries(expect).map(
      ([attribute, value]) => [attribute, names.toDirectory(attribute, value)] as const,
    );
  switch (action.verb) {
    case 'ldap.add': {
      const attributes = Object.entries(action.attributes);
      return ldap.add(
        dn,
        attributes.map(([attribute, values]) => [
          attribute,
          bytes(attribute, signed(attribute, values)),
        ]),
      );
    }
    case 'ldap.modify': {
      const changes = action.changes.flatMap(({ attribute, remove, add }): LdapChange[] => [
        { operation: 'delete', attribute, values: bytes(attribute, remove) },
        { operation: 'add', attribute, values: bytes(attribute, signed(attribute, add)) },
      ]);
      // a delete without values would remove all values
      const full = changes.filter(({ values }) => values.length > 0);
      return ldap.modify(dn, full, expectation(action.expect));
    }
    case 'ldap.delete':
      return ldap.delete(dn, expectation(action.expect));
  }
}

function failureOf(action: DirectoryAction, error: unknown): Code {
  const code = resultCodeOf(error);
  if (code === undefined || cannotWrite(error)) return 'BACKEND_UNAVAILABLE';
  const stale: readonly number[] = VERBS[action.verb].stale;
  return stale.includes(code) ? 'STEP_STALE' : 'STEP_FAILED';
}
