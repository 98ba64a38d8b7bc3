/** Entries as text for slapadd (LDIF, RFC 2849). */

/** An attribute of an entry, with its values as they are in the directory. */
export type LdifAttribute = readonly [type: string, values: readonly (string | Buffer)[]];

/** Attributes that slapd computes when they are requested, and does not store (RFC 4512, 4.2; RFC 5020; X.501). */
const NOT_KEPT = new Set(['entrydn', 'subschemasubentry', 'hassubordinates']);
/** The last change of the whole server. The entries contain it too. */
const OF_THE_SERVER = new Set(['contextcsn']);

/** Renders an entry. The same attributes always give the same bytes. */
export function renderEntry(dn: string, attributes: readonly LdifAttribute[]): string {
  const lines = attributes
    .filter(([type]) => !NOT_KEPT.has(type.toLowerCase()) && !OF_THE_SERVER.has(type.toLowerCase()))
    .flatMap(([type, values]) => values.map((value) => renderLine(type, value)))
    .sort();
  return `${renderLine('dn', dn)}\n${lines.join('\n')}\n\n`;
}

/** Printable ASCII that does not begin with a special character or end with a blank. */
const SAFE = /^(?![ :<])[ -~]*(?<! )$/;

function renderLine(type: string, value: string | Buffer): string {
  if (typeof value === 'string' && SAFE.test(value)) return `${type}: ${value}`;
  return `${type}:: ${Buffer.from(value as string).toString('base64')}`;
}

/** Orders DNs so that an entry comes after its parents. slapd writes a comma in a value as `\2C`. */
export function compareDns(a: string, b: string): number {
  const depth = a.split(',').length - b.split(',').length;
  if (depth !== 0) return depth;
  const [left, right] = [a.toLowerCase(), b.toLowerCase()];
  return left < right ? -1 : left > right ? 1 : 0;
}
