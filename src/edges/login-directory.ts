/**
 * The directory as a login host reads it, as `cn=keys-agent,ou=chamberlain`: whole, and by what has
 * changed. Each answer is complete or it throws BACKEND_UNREADABLE.
 *
 * There is no persistent search in ldapts, so changes are followed by change sequence numbers (CSNs,
 * draft-ietf-ldup-model): the suffix's `contextCSN`, one for each server that writes, says in one
 * small read whether there is anything new; `entryCSN >= …` finds it. Deleted entries show in
 * neither: they are found by comparing names.
 */
import { ChamberlainError } from '../errors.ts';
import { splitRef, type AnyRef } from '../targets/directory-eyes.ts';
import type { EntryRef, Place } from '../plan/action.ts';
import { namesOf, type Names } from './directory-names.ts';
import {
  openLdapPool,
  resultCodeOf,
  type LdapConnection,
  type LdapEntry,
  type LdapPool,
  type LdapSearch,
} from './ldap.ts';

export interface LoginDirectorySettings {
  uri: string;
  base: string;
  realm: string;
  caFile?: string | undefined;
  password: string;
}

/** An entry as it was read. */
export interface SeenEntry {
  dn: string;
  /** its own name, exact bytes; undefined where it is not named as entries of this place are */
  name: string | undefined;
  values(attribute: string): (string | Buffer)[];
}

export interface LoginDirectory {
  /** The suffix's contextCSN values. */
  contextCsns(): Promise<string[]>;
  /** The marker's text, if it has one. */
  marker(): Promise<string | undefined>;
  /** Every person, page by page. */
  people(): AsyncGenerator<SeenEntry[]>;
  /** Only the names and entryCSN of every person. */
  namesOfPeople(): AsyncGenerator<SeenEntry[]>;
  /** These people, those that there are. */
  peopleNamed(names: readonly string[]): Promise<SeenEntry[]>;
  /** The shell names of the realm group's members. */
  realmMembers(): Promise<Set<string>>;
  /** Every tool's account and group, page by page. */
  tools(): AsyncGenerator<ToolEntries>;
  /** What was written at or after a CSN. */
  changedSince(csn: string): Promise<{
    people: SeenEntry[];
    realmGroup: boolean;
    tools: ToolEntries;
    sudoRules: SeenEntry[];
  }>;
  close(): Promise<void>;
}

export interface ToolEntries {
  accounts: SeenEntry[];
  /** `memberNames`: people's shell names and tools' accounts */
  groups: (SeenEntry & { memberNames: string[] })[];
}

/** RFC 4511, appendix A */
const NO_SUCH_OBJECT = 32;
const NSS = ['uid', 'uidNumber', 'gidNumber', 'homeDirectory', 'loginShell'];
// operational: told only where they are asked for by name
const LOCK = ['pwdAccountLockedTime', 'pwdPolicySubentry'];
const PERSON = [...NSS, ...LOCK, 'sshPublicKey', 'entryCSN'];
const GROUP = ['cn', 'gidNumber', 'member'];
/** Names in one filter: slapd tests every candidate against each. */
const CHUNK = 16;
/**
 * What is read of an entry is garbage at once, 7 KB of it, but survives two scavenges: left alone, 50,000
 * entries made the process 240 MiB large, and so, where it has --expose-gc, 130. 15 ms each time.
 */
const GC_EVERY_PAGES = { whole: 25, names: 75 };

/** Opens nothing yet. */
export function openLoginDirectory(settings: LoginDirectorySettings): LoginDirectory {
  const { base, realm } = settings;
  const names = namesOf(base, realm);
  const pool = openAgentPool(settings, names);
  const people: LdapSearch = { base: names.place('people'), scope: 'one', attributes: PERSON };
  const realmGroup: LdapSearch = {
    base: names.dn(`groups/cn=project-${realm}`),
    scope: 'base',
    attributes: ['member'],
  };
  const read = (search: LdapSearch) => readable(pool, search);

  const nameOf = (ref: AnyRef, place: Place, attribute: string): string | undefined => {
    if (ref.startsWith('dn:')) return undefined;
    const split = splitRef(ref as EntryRef);
    return split.place === place && split.attribute === attribute ? split.name : undefined;
  };
  const seen =
    (place: Place, attribute: string) =>
    (entry: LdapEntry): SeenEntry => ({
      dn: entry.dn,
      name: nameOf(names.entry(entry.dn), place, attribute),
      values: (name) => entry.values(name),
    });
  const person = seen('people', 'uid');

  const PERSON_DN = dnReader(`,${people.base}`);
  const TOOL_DN = dnReader(`,${names.place('toolAccounts')}`);
  /** Most members are written as we write them: a look at the ends is far cheaper than parsing. */
  const memberName = (value: string | Buffer): string[] => {
    const dn = String(value);
    const quick = PERSON_DN(dn) ?? TOOL_DN(dn);
    if (quick !== undefined) return [quick];
    const ref = names.value(dn); // two texts of one DN are the same member
    const name = nameOf(ref, 'people', 'uid') ?? nameOf(ref, 'toolAccounts', 'uid');
    return name === undefined ? [] : [name];
  };
  const toolsOf = (found: readonly LdapEntry[]): ToolEntries => {
    const accounts = found.map(seen('toolAccounts', 'uid')).filter(({ name }) => name);
    const groups = found
      .map((entry) => ({
        ...seen('toolGroups', 'cn')(entry),
        memberNames: entry.values('member').flatMap(memberName),
      }))
      .filter(({ name }) => name);
    return { accounts, groups };
  };
  const services: LdapSearch = {
    base: names.place('toolGroups'),
    scope: 'sub',
    attributes: [...NSS, ...LOCK, ...GROUP, 'gecos'],
  };

  return {
    async contextCsns() {
      const suffixDn = names.place('base');
      const [suffix] = await read({ base: suffixDn, scope: 'base', attributes: ['contextCSN'] });
      return (suffix?.values('contextCSN') ?? []).map(String);
    },
    async marker() {
      const search = { base: names.marker, scope: 'base', attributes: ['description'] } as const;
      const [marker] = await read(search);
      const text = marker?.values('description')[0];
      return text === undefined ? undefined : String(text);
    },
    people: () => readablePages(pool, people, (page) => page.map(person)),
    namesOfPeople: () =>
      readablePages(pool, { ...people, attributes: ['entryCSN'] }, (page) => page.map(person)),
    async peopleNamed(wanted) {
      const chunks = Array.from({ length: Math.ceil(wanted.length / CHUNK) }, (_, i) =>
        wanted.slice(i * CHUNK, (i + 1) * CHUNK),
      );
      const found = await Promise.all(
        chunks.map((chunk) =>
          read({ ...people, any: chunk.map((name) => ['uid', Buffer.from(name)]) }),
        ),
      );
      return found.flat().map(person);
    },
    async realmMembers() {
      const [group] = await read(realmGroup);
      const members = group?.values('member') ?? [];
      // groupOfNames always has one (RFC 4519, section 3.5), so access rules hide them
      if (members.length === 0) {
        throw unreadable(realmGroup.base, new Error('none of its members may be read'));
      }
      return new Set(members.flatMap(memberName));
    },
    tools: () => readablePages(pool, services, toolsOf),
    async changedSince(since) {
      const [changedPeople, group, changedTools, sudoRules] = await Promise.all([
        read({ ...people, since }),
        read({ ...realmGroup, since, attributes: ['1.1'] }),
        read({ ...services, since }),
        read({ base: names.place('sudoRules'), scope: 'one', since, attributes: ['cn'] }),
      ]);
      return {
        people: changedPeople.map(person),
        realmGroup: group.length > 0,
        tools: toolsOf(changedTools),
        sudoRules: sudoRules.map(seen('sudoRules', 'cn')),
      };
    },
    close: pool.close,
  };
}

/** Connections of the login host's account, each of which has seen the marker. */
export function openAgentPool(
  { uri, caFile, password }: Pick<LoginDirectorySettings, 'uri' | 'caFile' | 'password'>,
  names: Names,
): LdapPool {
  return openLdapPool({
    uri,
    caFile,
    bindDn: names.account('keys-agent'),
    password,
    // an account that may not read finds nothing, without an error
    check: async (ldap) => {
      if ((await readEntry(ldap, names.marker, ['1.1'])) === undefined) {
        throw new Error(`${names.marker} is not there, or may not be read`);
      }
    },
  });
}

/** One entry; undefined where it is not there, or may not be seen. */
export async function readEntry(
  ldap: LdapConnection,
  base: string,
  attributes: readonly string[],
): Promise<LdapEntry | undefined> {
  try {
    return (await ldap.search({ base, scope: 'base', attributes }))[0];
  } catch (error) {
    if (resultCodeOf(error) === NO_SUCH_OBJECT) return undefined;
    throw error;
  }
}

/** Reads `uid=<plain name><ending>`; undefined for any other form. */
function dnReader(ending: string): (dn: string) => string | undefined {
  return (dn) => {
    if (!dn.startsWith('uid=') || !dn.endsWith(ending)) return undefined;
    const name = dn.slice(4, -ending.length);
    return /^[a-z0-9._-]+$/.test(name) ? name : undefined;
  };
}

function unreadable(base: string, cause: unknown): ChamberlainError {
  return new ChamberlainError('BACKEND_UNREADABLE', `reading ${base}`, { cause });
}

async function readable(pool: LdapPool, search: LdapSearch): Promise<LdapEntry[]> {
  try {
    return await pool.run((ldap) => ldap.search(search));
  } catch (cause) {
    throw unreadable(search.base, cause);
  }
}

async function* readablePages<T>(
  pool: LdapPool,
  search: LdapSearch,
  read: (page: LdapEntry[]) => T,
): AsyncGenerator<T> {
  const gcEvery = search.attributes.length > 1 ? GC_EVERY_PAGES.whole : GC_EVERY_PAGES.names;
  const pages = pool.stream((ldap) => ldap.pages(search));
  try {
    for (let count = 0; ; count += 1) {
      let page;
      try {
        page = await pages.next();
      } catch (cause) {
        throw unreadable(search.base, cause);
      }
      if (page.done === true) return;
      yield read(page.value);
      if (count % gcEvery === gcEvery - 1) globalThis.gc?.();
    }
  } finally {
    await pages.return(undefined);
  }
}
