/** The directory's names and values: converts references to DNs and back, for its reader and writer. */
import { isUtf8 } from 'node:buffer';
import { ChamberlainError } from '../../shared/errors.ts';
import type { EntryRef, Place } from '../../reconcile/action.ts';
import { placePath, splitRef, type AnyRef } from '../../targets/directory-reader.ts';
import { parseDn, readDnsOf } from './dn.ts';
import { formatDn } from './ldap.ts';

/** Attributes whose values are DNs; targets use references instead. */
const DN_VALUED = new Set(['member', 'memberOf', 'pwdPolicySubentry']);
/**
 * Prefix of a value in `Attributes` that is not UTF-8 (or of a text that begins like this): the rest is hex.
 */
const BYTES = 'bytes:';

/** The names of one realm's directory. */
export interface Names {
  /** The DN that a worker binds as, and a login host that has no account of its own. */
  account(name: string): string;
  /** The DN that may write everything, or all our accounts. Our programs bind as it only to change passwords, and for hosts. */
  admin: string;
  /** The entry above the accounts of hosts that have joined. */
  hosts: string;
  /** The DN that such a host binds as. */
  host(account: string): string;
  /** The group whose members have the rights of login hosts. */
  loginHosts: string;
  /** The entry in which the directory role publishes the heartbeat for login hosts. */
  marker: string;
  place(place: Place): string;
  dn(ref: AnyRef): string;
  /** The reference of an entry, and of a DN as a value. */
  entry(dn: string): AnyRef;
  value(dn: string): AnyRef;
  /** The place directly above an entry, whatever its own name is. */
  placeOf(dn: string): Place | undefined;
  /** The innermost place above an entry, however deep it is. */
  within(dn: string): Place | undefined;
  toDirectory(attribute: string, value: string): Buffer;
  fromDirectory(attribute: string, value: string | Buffer): string;
}

/**
 * Throws CONFIG_INVALID if the base is not a DN.
 *
 * @param isShared whether others have entries in the directory, too: its `cn=admin` is then theirs
 */
export function namesOf(base: string, realm: string, isShared = false): Names {
  const suffix = parseDn(base);
  if (suffix === undefined)
    throw new ChamberlainError(
      'CONFIG_INVALID',
      `ldap.base ${base} is not a DN, such as dc=example,dc=org`,
    );
  const above = suffix.map(({ attribute, value }) => [attribute, value] as const);
  const below = (path: readonly (readonly [string, string])[]) => formatDn([...path, ...above]);
  const { entry, value: readValue, placeOf, within } = readDnsOf(suffix, realm);
  const dnOf = (ref: AnyRef): string => {
    if (ref.startsWith('dn:')) return ref.slice('dn:'.length);
    const { place, attribute, name } = splitRef(ref as EntryRef);
    return below([[attribute, name], ...placePath(place, realm)]);
  };
  const ours = ['ou', 'chamberlain'] as const;
  const hosts = ['ou', 'hosts'] as const;
  return {
    account: (name) => below([['cn', name], ours]),
    admin: below(isShared ? [['cn', 'admin'], ours] : [['cn', 'admin']]),
    hosts: below([hosts, ours]),
    host: (account) => below([['cn', account], hosts, ours]),
    loginHosts: below([['cn', 'login-hosts'], ours]),
    marker: below([['cn', 'chamberlain']]),
    place: (place) => below(placePath(place, realm)),
    dn: dnOf,
    entry,
    value: readValue,
    placeOf,
    within,
    toDirectory(attribute, value) {
      if (DN_VALUED.has(attribute)) return Buffer.from(dnOf(value as AnyRef));
      if (value.startsWith(BYTES)) return Buffer.from(value.slice(BYTES.length), 'hex');
      return Buffer.from(value);
    },
    fromDirectory(attribute, value) {
      // if one value is not UTF-8, the library returns all values of the attribute as bytes
      const text = typeof value === 'string' || !isUtf8(value) ? value : value.toString('utf8');
      if (typeof text !== 'string' || text.startsWith(BYTES)) {
        return BYTES + Buffer.from(text).toString('hex');
      }
      return DN_VALUED.has(attribute) ? readValue(text) : text;
    },
  };
}
