/**
 * Reads distinguished names (RFC 4514) as the directory returns them, and finds the place of the realm that
 * they are in. This file does not build DNs: ldap.ts does, with its library.
 */
import { entryRef, placePath, PLACES, type AnyRef } from '../../targets/directory-reader.ts';
import type { Place } from '../../reconcile/action.ts';

export interface Rdn {
  /** lower case */
  attribute: string;
  /** unescaped */
  value: string;
}

// An attribute type, `=`, a string with escapes, then `,` or the end. Not accepted: several values in one RDN
// (`+`), values in hex (`#…`), quotes.
const RDN =
  /\s*([A-Za-z][A-Za-z0-9-]*|[0-9.]+)\s*=\s*((?:\\[0-9A-Fa-f]{2}|\\[ "#+,;<=>\\]|[^\\"+,;<>\0])*?)\s*(,|$)/y;

/** The RDNs of a DN, innermost first; undefined if it has a form that no entry of ours has. */
export function parseDn(text: string): Rdn[] | undefined {
  const rdns: Rdn[] = [];
  RDN.lastIndex = 0;
  for (;;) {
    const match = RDN.exec(text);
    if (match === null) return undefined;
    const [, attribute = '', escaped = '', end] = match;
    if (escaped.startsWith('#')) return undefined;
    rdns.push({ attribute: attribute.toLowerCase(), value: unescape(escaped) });
    if (end !== ',') return rdns;
  }
}

function unescape(text: string): string {
  if (!text.includes('\\')) return text;
  return text.replace(/(?:\\[0-9A-Fa-f]{2})+|\\./gs, (escape) =>
    /^\\[0-9A-Fa-f]{2}/.test(escape)
      ? Buffer.from(escape.replaceAll('\\', ''), 'hex').toString('utf8')
      : escape.slice(1),
  );
}

/** Our names are printable ASCII without leading or trailing blanks; an entry with another name is not ours. */
const PLAIN = /^[!-~](?:[ -~]*[!-~])?$/;

/** Finds the place of a DN. */
export interface DnReader {
  /** An entry's own name: exact bytes. */
  entry: (dn: string) => AnyRef;
  /**
   * A DN as a value, in normal form: lower case, single blanks. Two texts are equal exactly if the directory
   * considers them equal.
   */
  value: (dn: string) => AnyRef;
  /** The place directly above an entry, whatever its own name is. */
  placeOf: (dn: string) => Place | undefined;
  /** The innermost place above an entry, however deep it is. */
  within: (dn: string) => Place | undefined;
}

// the form of the own name in nearly every DN; the rest is the text of a place, which is known after the first time
const SIMPLE = /^[A-Za-z][A-Za-z0-9-]*=[A-Za-z0-9._-]+$/;
// the own name, whatever it contains, up to the first comma that is not escaped
const OWN_NAME = /^(?:\\.|[^\\,])*,/s;

function normal(value: string): string {
  return value.replaceAll(/ +/g, ' ').toLowerCase();
}

function keyOf(rdns: readonly Rdn[]): string {
  return rdns.map(({ attribute, value }) => `${attribute}=${normal(value)}`).join('\n');
}

export function readDnsOf(base: readonly Rdn[], realm: string): DnReader {
  const places = new Map<string, Place>(
    PLACES.map((place) => {
      const path = placePath(place, realm).map(([attribute, value]) => ({ attribute, value }));
      return [keyOf([...path, ...base]), place];
    }),
  );
  const texts = new Map<string, Place>();
  const placeOfText = (parent: string): Place | undefined => {
    const known = texts.get(parent);
    if (known !== undefined) return known;
    const place = places.get(keyOf(parseDn(parent) ?? []));
    // as many as there are ways to write them: spaces, case
    if (place !== undefined && texts.size < 100) texts.set(parent, place);
    return place;
  };
  const read = (dn: string, form: (value: string) => string): AnyRef => {
    const comma = dn.indexOf(',');
    const simple = dn.slice(0, Math.max(0, comma));
    if (SIMPLE.test(simple)) {
      const place = placeOfText(dn.slice(comma + 1));
      if (place === undefined) return `dn:${dn}`;
      const equals = simple.indexOf('=');
      return entryRef(place, simple.slice(0, equals).toLowerCase(), form(simple.slice(equals + 1)));
    }
    const [own, ...above] = parseDn(dn) ?? [];
    const place = own && PLAIN.test(own.value) ? places.get(keyOf(above)) : undefined;
    if (own === undefined || place === undefined) return `dn:${dn}`;
    return entryRef(place, own.attribute, form(own.value));
  };
  const parentOf = (dn: string): string => dn.slice(OWN_NAME.exec(dn)?.[0].length ?? dn.length);
  const placeOf = (dn: string): Place | undefined => placeOfText(parentOf(dn));
  return {
    entry: (dn) => read(dn, (value) => value),
    value: (dn) => read(dn, normal),
    placeOf,
    within(dn) {
      for (let at = dn; at !== ''; at = parentOf(at)) {
        const place = placeOf(at);
        if (place !== undefined) return place;
      }
      return undefined;
    },
  };
}
