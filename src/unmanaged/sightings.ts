/** Unmanaged entries of the directory with a name or a number that a request could want. */
import { normalName } from '../identity/names.ts';
import type { Place } from '../reconcile/action.ts';
import type { Finding } from '../reconcile/plan.ts';
import type { DirectoryEntry } from '../targets/directory-reader.ts';

/** An account or group that was seen: a name in normal form, a number, or both. */
export interface Sighting {
  name: string | undefined;
  id: number | undefined;
}

/** The places of accounts and groups, with the attributes of their names and numbers. */
const ACCOUNTS: Partial<Record<Place, readonly [name: string, number: string]>> = {
  people: ['uid', 'uidNumber'],
  toolAccounts: ['uid', 'uidNumber'],
  toolGroups: ['cn', 'gidNumber'],
  groups: ['cn', 'gidNumber'],
};

/** The names of an entry in that place, each with its number. Only the database knows which of them are ours. */
export function sightingsOf(
  place: Place,
  { attributes }: Pick<DirectoryEntry, 'attributes'>,
  realmGid: number,
): Sighting[] {
  const account = ACCOUNTS[place];
  if (account === undefined) return [];
  const [name, number] = account;
  const id = Number(attributes[number]?.[0]);
  const known = Number.isSafeInteger(id) && id > 0 && id < 2 ** 31 && id !== realmGid;
  return (attributes[name] ?? []).map((each) => ({
    name: normalName(each),
    id: known ? id : undefined,
  }));
}

/** The only class of an entry that is too large to be read (src/backends/ldap/ldap-messages.ts). */
export const OVERSIZED = 'oversized';

/**
 * The kind of an entry that cannot be an account or group: an alias (RFC 4512, section 2.6), a referral (RFC 3296), or
 * an entry too large to be read; undefined for any other.
 */
export function oddityOf({
  attributes,
}: Pick<DirectoryEntry, 'attributes'>): 'alias' | 'referral' | 'oversized' | undefined {
  const classes = (attributes['objectClass'] ?? []).map((name) => name.toLowerCase());
  return (['alias', 'referral', OVERSIZED] as const).find((name) => classes.includes(name));
}

/** What findings about one subject show: its own name, or its number, is in use by something unmanaged. */
export function unmanagedOf(findings: readonly Finding[]): Sighting[] {
  return findings
    .filter(({ code }) => code === 'NAME_FOREIGN' || code === 'ID_FOREIGN')
    .map(({ code, account, subject }) =>
      code === 'NAME_FOREIGN' ? { name: account, id: undefined } : { name: undefined, id: subject },
    );
}
