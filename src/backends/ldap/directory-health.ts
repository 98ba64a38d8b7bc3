/**
 * What `chamberlain doctor` checks in the directory: what each account sees, who may write, and how the server
 * is configured.
 */
import { type Place } from '../../reconcile/action.ts';
import type { Config } from '../../shared/config.ts';
import { PLACES } from '../../targets/directory-reader.ts';
import { namesOf } from './directory-names.ts';
import {
  type LdapConnection,
  type LdapSearch,
  openLdapPool,
  readEntry,
  RESULT,
  resultCodeOf,
  withoutPassword,
} from './ldap.ts';

export interface DirectoryPlace {
  uri: string;
  base: string;
  realm: string;
  caFile?: string | undefined;
  /** whether others have entries there, too */
  isShared?: boolean | undefined;
}

/** The directory that a configuration names. */
export function directoryPlace({ ldap, realm }: Pick<Config, 'ldap' | 'realm'>): DirectoryPlace {
  const { uri, base, caFile, shared } = ldap;
  return { uri, base, realm, caFile, isShared: shared };
}

/** What an account sees, and whether it may write an entry of each place that has one. */
export interface AccountHealth {
  bindDn: string;
  places: { place: Place; dn: string; isSeen: boolean }[];
  entries: { place: Place; dn: string; mayWrite: boolean }[];
}

/**
 * Binds as an account below `ou=chamberlain`, and checks what it sees and may write.
 *
 * The right to write is tested by adding a value that the entry has: slapd checks the right first
 * (insufficientAccessRights), and then finds that the value exists (attributeOrValueExists). So nothing is
 * changed, whatever the right. A false assertion would not work: slapd checks it before the right, and would
 * give the same answer to an account that may write and one that may not.
 */
export async function readAccountHealth(
  { uri, caFile, base, realm }: DirectoryPlace,
  account: string,
  password: string,
): Promise<AccountHealth> {
  const names = namesOf(base, realm);
  const bindDn = names.account(account);
  const pool = openLdapPool({ uri, caFile, bindDn, password, check: async () => {} });
  try {
    return await pool.run(async (ldap) => {
      const places: AccountHealth['places'] = [];
      for (const place of PLACES) {
        const dn = names.place(place);
        const isSeen = (await readEntry(ldap, dn, ['1.1'])) !== undefined;
        places.push({ place, dn, isSeen });
      }
      const entries: AccountHealth['entries'] = [];
      for (const { place, dn: above, isSeen } of places) {
        if (!isSeen || (place !== 'people' && place !== 'toolAccounts')) continue;
        const dn = await findOne(ldap, above);
        const mayWrite = dn === undefined ? undefined : await mayWriteTo(ldap, dn);
        if (dn !== undefined && mayWrite !== undefined) entries.push({ place, dn, mayWrite });
      }
      return { bindDn, places, entries };
    });
  } finally {
    await pool.close();
  }
}

/** One entry directly below a place; only the first page is read. */
async function findOne(ldap: LdapConnection, base: string): Promise<string | undefined> {
  const search = { base, scope: 'one', attributes: ['1.1'], present: 'uid' } as const;
  for await (const page of ldap.pages(search)) {
    if (page[0] !== undefined) return page[0].dn;
  }
  return undefined;
}

async function mayWriteTo(ldap: LdapConnection, dn: string): Promise<boolean | undefined> {
  const [entry] = await ldap.search({ base: dn, scope: 'base', attributes: ['objectClass'] });
  const value = entry?.values('objectClass')[0];
  if (value === undefined) return undefined;
  const values = [Buffer.from(value)];
  try {
    await ldap.modify(
      dn,
      [{ operation: 'add', attribute: 'objectClass', values }],
      [['objectClass', Buffer.from(value)]],
    );
    return true;
  } catch (error) {
    const code = resultCodeOf(error);
    if (code === RESULT.attributeOrValueExists) return true;
    if (code === RESULT.insufficientAccessRights) return false;
    throw error;
  }
}

/** How many entries anonymous users see: there should be none. Where others have entries, too: how many of ours. */
export async function countSeenByNobody(place: DirectoryPlace): Promise<number> {
  const { uri, caFile, base, realm, isShared } = place;
  const names = namesOf(base, realm);
  const ours = ['people', 'toolAccounts', 'toolGroups'] as const;
  const searches: LdapSearch[] =
    isShared === true
      ? [
          ...[names.marker, names.account('directory')].map((at) => searchOf(at, 'base')),
          ...ours.map((at) => ({ ...searchOf(names.place(at), 'one'), any: SEALED })),
        ]
      : [searchOf(base, 'base'), searchOf(base, 'one'), searchOf('', 'base')];
  return await withoutPassword({ uri, caFile }, 'nobody', async (ldap) => {
    let count = 0;
    for (const search of searches) {
      try {
        count += (await ldap.search(search)).length;
      } catch (error) {
        const code = resultCodeOf(error);
        if (code === undefined) throw error;
        if (code === RESULT.sizeLimitExceeded) count++; // any other refusal shows no entry
      }
    }
    return count;
  });
}

const SEALED = [['objectClass', Buffer.from('chamberlainSealed')]] as const;
const searchOf = (base: string, scope: LdapSearch['scope']): LdapSearch => ({
  ...{ base, scope, attributes: ['1.1'] },
});

/** The server's own configuration, as far as it matters; undefined if this user may not read it. */
export interface SlapdConfig {
  overlays: string[];
  access: string[];
  constraints: string[];
  /** whether the access rules also apply to the values of new entries */
  judgesNewEntries: boolean;
  /** whether connections that are not encrypted are refused */
  refusesPlain: boolean;
}

/** Reads `cn=config`, as root of the directory's own machine. */
export async function readSlapdConfig({
  uri,
  base,
}: DirectoryPlace): Promise<SlapdConfig | undefined> {
  if (!/^ldapi:/iu.test(uri)) return undefined;
  return await withoutPassword({ uri }, 'peer', async (ldap) => {
    const attributes = [
      'olcSuffix',
      'olcOverlay',
      'olcAccess',
      'olcConstraintAttribute',
      'olcAddContentAcl',
      'olcSecurity',
    ];
    const found = await ldap
      .search({ base: 'cn=config', scope: 'sub', attributes })
      .catch((error: unknown) => {
        if (resultCodeOf(error) === undefined) throw error;
        return [];
      });
    const texts = (entry: (typeof found)[number], name: string) => entry.values(name).map(String);
    const database = found.find((entry) =>
      texts(entry, 'olcSuffix').some((suffix) => suffix.toLowerCase() === base.toLowerCase()),
    );
    if (database === undefined) return undefined;
    const own = found.filter(({ dn }) => dn.toLowerCase().endsWith(database.dn.toLowerCase()));
    return {
      overlays: own
        .flatMap((entry) => texts(entry, 'olcOverlay'))
        .map((name) => name.replace(/^\{\d+\}/u, '')),
      access: texts(database, 'olcAccess'),
      constraints: own.flatMap((entry) => texts(entry, 'olcConstraintAttribute')),
      judgesNewEntries: texts(database, 'olcAddContentAcl').join() === 'TRUE',
      refusesPlain: found.some((entry) =>
        texts(entry, 'olcSecurity').some((text) => /\b(?:ssf|tls|simple_bind)=[1-9]/u.test(text)),
      ),
    };
  });
}
