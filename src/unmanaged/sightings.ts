/** What stands in the directory under a name or a number that a request could want, and is not ours. */
import { normalName } from '../identity/names.ts';
import type { Place } from '../reconcile/action.ts';
import type { Finding } from '../reconcile/plan.ts';
import type { DirectoryEntry } from '../targets/directory-reader.ts';

/** An account or group that was seen: a name in normal form, a number, or both. */
export interface Sighting {
  name: string | undefined;
  id: number | undefined;
}

/** Where accounts and groups lie, and by what they are known there. */
const ACCOUNTS: Partial<Record<Place, readonly [name: string, number: string]>> = {
  people: ['uid', 'uidNumber'],
  toolAccounts: ['uid', 'uidNumber'],
  toolGroups: ['cn', 'gidNumber'],
  groups: ['cn', 'gidNumber'],
};

/** The names of an entry of that place, each with its number; the store knows which of them are ours. */
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

/** The one class that an entry is read with which is larger than is read (src/backends/ldap/ldap-messages.ts). */
export const OVERSIZED = 'oversized';

/**
 * What an entry is that holds no account or group: an alias (RFC 4512, section 2.6), a referral (RFC 3296), or
 * one too large to be read; undefined for any other.
 */
export function oddityOf({
  attributes,
}: Pick<DirectoryEntry, 'attributes'>): 'alias' | 'referral' | 'oversized' | undefined {
  const classes = (attributes['objectClass'] ?? []).map((name) => name.toLowerCase());
  return (['alias', 'referral', OVERSIZED] as const).find((name) => classes.includes(name));
}

/** What findings about one subject tell: its own name, or number, is another's there. */
export function unmanagedOf(findings: readonly Finding[]): Sighting[] {
  return findings
    .filter(({ code }) => code === 'NAME_FOREIGN' || code === 'ID_FOREIGN')
    .map(({ code, account, subject }) =>
      code === 'NAME_FOREIGN' ? { name: account, id: undefined } : { name: undefined, id: subject },
    );
}
