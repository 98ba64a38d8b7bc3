/** The directory's names and values: DNs from references and back, for whoever reads or writes it. */
import { isUtf8 } from 'node:buffer';
import { ChamberlainError } from '../../shared/errors.ts';
import type { EntryRef, Place } from '../../reconcile/action.ts';
import { placePath, splitRef, type AnyRef } from '../../targets/directory-reader.ts';
import { parseDn, readDnsOf } from './dn.ts';
import { formatDn } from './ldap.ts';

/** Attributes whose values are DNs; targets know them as references. */
const DN_VALUED = new Set(['member', 'memberOf', 'pwdPolicySubentry']);
/** How a value that is no UTF-8 stands in `Attributes` (and text that begins like this): in hex. */
const BYTES = 'bytes:';

/** The names of one realm's directory. */
export interface Names {
  /** What a worker or login host binds as. */
  account(name: string): string;
  /** What may write everything. Nothing of ours binds as it but to change passwords. */
  admin: string;
  /** The entry by which the directory role tells login hosts how things stand. */
  marker: string;
  place(place: Place): string;
  dn(ref: AnyRef): string;
  /** The reference of an entry, and of a DN as a value. */
  entry(dn: string): AnyRef;
  value(dn: string): AnyRef;
  /** The place that an entry lies right below, whatever its own name is. */
  placeOf(dn: string): Place | undefined;
  /** The innermost place that an entry lies in, however deep. */
  within(dn: string): Place | undefined;
  toDirectory(attribute: string, value: string): Buffer;
  fromDirectory(attribute: string, value: string | Buffer): string;
}

/** Throws CONFIG_INVALID where the base is no DN. */
export function namesOf(base: string, realm: string): Names {
  const suffix = parseDn(base);
  if (suffix === undefined)
    throw new ChamberlainError('CONFIG_INVALID', `reading ldap.base ${base}`);
  const above = suffix.map(({ attribute, value }) => [attribute, value] as const);
  const below = (path: readonly (readonly [string, string])[]) => formatDn([...path, ...above]);
  const { entry, value: readValue, placeOf, within } = readDnsOf(suffix, realm);
  const dnOf = (ref: AnyRef): string => {
    if (ref.startsWith('dn:')) return ref.slice('dn:'.length);
    const { place, attribute, name } = splitRef(ref as EntryRef);
    return below([[attribute, name], ...placePath(place, realm)]);
  };
  return {
    account: (name) =>
      below([
        ['cn', name],
        ['ou', 'chamberlain'],
      ]),
    admin: below([['cn', 'admin']]),
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
      // One value that is no UTF-8, and the library gives all of its attribute as bytes.
      const text = typeof value === 'string' || !isUtf8(value) ? value : value.toString('utf8');
      if (typeof text !== 'string' || text.startsWith(BYTES)) {
        return BYTES + Buffer.from(text).toString('hex');
      }
      return DN_VALUED.has(attribute) ? readValue(text) : text;
    },
  };
}
