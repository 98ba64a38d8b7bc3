/**
 * The directory as a login host follows it, as an account of its own, or as `cn=keys-agent,ou=chamberlain`: the
 * heartbeat, and the names and seals of people and tools. Each answer is complete, or it throws BACKEND_UNREADABLE.
 *
 * ldapts has no persistent search. So changes are followed by change sequence numbers (CSNs,
 * draft-ietf-ldup-model): the suffix's `contextCSN`, one for each server that writes, shows in one small read
 * whether there is anything new; `entryCSN >= …` finds it. Deleted entries appear in neither: they are found by
 * comparing names.
 */
import { createHash } from 'node:crypto';
import { doing } from '../../shared/errors.ts';
import type { Secret } from '../../secrets/secret.ts';
import { namesOf, type Names } from './directory-names.ts';
import {
  openLdapPool,
  readEntry,
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
  /** the account of the host; without it, keys-agent's */
  hostAccount?: string | undefined;
  password: Secret;
}

/** The entry of a person, or of a tool's account, as it was read. */
export interface SeenEntry {
  dn: string;
  /** the name in reports: see `reportName` */
  name: string;
  /** '' if it may not be read */
  csn: string;
  /**
   * undefined if it has none, or none was asked for. A seal that is not text becomes one, and neither can be
   * verified
   */
  seal: string | undefined;
}

export interface LoginDirectory {
  /** The suffix's contextCSN values. */
  contextCsns(): Promise<string[]>;
  /** The heartbeat's text; '' if there is none. */
  heartbeat(): Promise<string>;
  /** Every person and tool, page by page. */
  everything(): AsyncGenerator<SeenEntry[]>;
  /** The same without seals. */
  names(): AsyncGenerator<SeenEntry[]>;
  /** People and tools that were written at or after a CSN. */
  changedSince(csn: string): AsyncGenerator<SeenEntry[]>;
  /** Those of these entries that exist. */
  entries(dns: readonly string[]): Promise<SeenEntry[]>;
  close(): Promise<void>;
}

type AccountPlace = 'people' | 'toolAccounts';
const PLACES: readonly AccountPlace[] = ['people', 'toolAccounts'];
const SEAL = 'chamberlainSeal';
const WHOLE = ['entryCSN', SEAL];
const NAMES = ['entryCSN'];
const PAGE = 500;
/**
 * What is read of an entry is garbage at once, but survives two scavenges: if Node runs with --expose-gc, it is
 * collected after this many pages.
 */
const GC_EVERY_PAGES = { whole: 8, names: 60 };
/** None of our names is longer: a longer one is reported by this much of it, and its hash. */
const MAX_NAME = 200;
/** None of our seals is longer: of a longer one only this much is reported, which cannot be verified either. */
const MAX_SEAL = 2 ** 18;

interface Reading {
  pool: LdapPool;
  names: Names;
  realm: string;
}

/** Opens nothing yet. */
export function openLoginDirectory(settings: LoginDirectorySettings): LoginDirectory {
  const { base, realm } = settings;
  const names = namesOf(base, realm);
  const pool = openAgentPool(settings, names);
  const of: Reading = { pool, names, realm };
  return {
    async contextCsns() {
      const suffix = names.place('base');
      const attributes = ['contextCSN'];
      const [entry] = await readable(suffix, () =>
        pool.run((ldap) => ldap.search({ base: suffix, scope: 'base', attributes })),
      );
      return (entry?.values('contextCSN') ?? []).map(String);
    },

    async heartbeat() {
      const entry = await readable(names.marker, () =>
        pool.run((ldap) => readEntry(ldap, names.marker, ['description'])),
      );
      return String(entry?.values('description')[0] ?? '');
    },

    everything: () => walkAll(of, WHOLE),
    names: () => walkAll(of, NAMES),

    async *changedSince(since) {
      for (const place of PLACES) {
        const asked = searchOf(of, place, { since });
        const few = await readable(asked.base, () => pool.run((ldap) => onlyPage(ldap, asked)));
        if (few === undefined) yield* walk(of, place, { since });
        else yield seen(of, place, few);
      }
    },

    async entries(dns) {
      const read = await Promise.all(
        dns.map((dn) => readable(dn, () => pool.run((ldap) => readEntry(ldap, dn, WHOLE)))),
      );
      return read.flatMap((entry) => {
        const place = entry && names.placeOf(entry.dn);
        return place === 'people' || place === 'toolAccounts' ? seen(of, place, [entry!]) : [];
      });
    },

    close: pool.close,
  };
}

async function* walkAll(of: Reading, attributes: readonly string[]): AsyncGenerator<SeenEntry[]> {
  for (const place of PLACES) yield* walk(of, place, { attributes });
}

async function* walk(
  of: Reading,
  place: AccountPlace,
  what: Partial<LdapSearch>,
): AsyncGenerator<SeenEntry[]> {
  const asked = searchOf(of, place, what);
  const gcEvery = asked.attributes === NAMES ? GC_EVERY_PAGES.names : GC_EVERY_PAGES.whole;
  const pages = of.pool.walk(asked);
  try {
    for (let count = 1; ; count += 1) {
      const page = await readable(asked.base, () => pages.next());
      if (page.done === true) return;
      yield seen(of, place, page.value, asked.attributes === WHOLE);
      if (count % gcEvery === 0) globalThis.gc?.();
    }
  } finally {
    await pages.return(undefined);
  }
}

function searchOf({ names }: Reading, place: AccountPlace, what: Partial<LdapSearch>): LdapSearch {
  const base = names.place(place);
  return { base, scope: 'one', attributes: WHOLE, pageSize: PAGE, ...what };
}

/**
 * The entries as they are reported, without those whose name no account there may have, such as another
 * realm's.
 */
function seen(
  { realm }: Reading,
  place: AccountPlace,
  entries: readonly LdapEntry[],
  areWhole = true,
): SeenEntry[] {
  const toolPrefix = `uid=${realm}.`;
  const found: SeenEntry[] = [];
  for (const entry of entries) {
    const { dn } = entry;
    const start = dn.slice(0, toolPrefix.length).toLowerCase();
    const isAccount = place === 'people' ? start.startsWith('uid=') : start === toolPrefix;
    if (!isAccount) continue;
    const csn = String(entry.values('entryCSN')[0] ?? '');
    const seal = areWhole ? sealOf(entry) : undefined;
    found.push({ dn, name: reportName(place, dn), csn, seal });
  }
  return found;
}

function sealOf(entry: LdapEntry): string | undefined {
  const seals = entry.values(SEAL);
  return seals.length === 0 ? undefined : seals.map(String).join('\n').slice(0, MAX_SEAL);
}

const OWN_NAME = { people: /^uid=([a-z0-9_-]+),/i, toolAccounts: /^uid=([a-z0-9._-]+),/i };

/**
 * The entry's own name, exact bytes; its DN if no account there may have that name, so that an entry among
 * people can neither pass for a tool nor end what is known of one.
 */
function reportName(place: AccountPlace, dn: string): string {
  const name = OWN_NAME[place].exec(dn)?.[1] ?? dn;
  if (name.length <= MAX_NAME) return name;
  return `${name.slice(0, MAX_NAME)}… ${createHash('sha256').update(name).digest('hex')}`;
}

/** Everything that a search finds, if it fits into one page; undefined if it does not. */
async function onlyPage(
  ldap: LdapConnection,
  search: LdapSearch,
): Promise<LdapEntry[] | undefined> {
  const pages = ldap.pages(search);
  const first = await pages.next();
  if (first.done === true) return [];
  const { done } = await pages.next();
  await pages.return(undefined);
  return done === true ? first.value : undefined;
}

/** Connections of the login host's account, each of which has seen the heartbeat's entry. */
function openAgentPool(
  { uri, caFile, hostAccount, password }: LoginDirectorySettings,
  names: Names,
): LdapPool {
  return openLdapPool({
    uri,
    caFile,
    bindDn: hostAccount === undefined ? names.account('keys-agent') : names.host(hostAccount),
    password,
    // an account that may not read finds nothing, without an error
    check: async (ldap) => {
      if ((await readEntry(ldap, names.marker, ['1.1'])) === undefined) {
        throw new Error(`${names.marker} does not exist, or may not be read`);
      }
    },
  });
}

async function readable<T>(base: string, read: () => Promise<T>): Promise<T> {
  return await doing('BACKEND_UNREADABLE', `reading ${base}`, read);
}
