/** Entries as text that slapadd takes (LDIF, RFC 2849). */

/** An attribute of an entry, with its values as the directory has them. */
export type LdifAttribute = readonly [type: string, values: readonly (string | Buffer)[]];

/** What slapd makes of other things when it is asked, and does not keep (RFC 4512, 4.2; RFC 5020; X.501). */
const NOT_KEPT = new Set(['entrydn', 'subschemasubentry', 'hassubordinates']);
/** The last change of all is told again by the entries themselves. */
const OF_THE_SERVER = new Set(['contextcsn']);

/** An entry, in one form: the same attributes give the same bytes. */
export function renderEntry(dn: string, attributes: readonly LdifAttribute[]): string {
  const lines = attributes
    .filter(([type]) => !NOT_KEPT.has(type.toLowerCase()) && !OF_THE_SERVER.has(type.toLowerCase()))
    .flatMap(([type, values]) => values.map((value) => renderLine(type, value)))
    .sort();
  return `${renderLine('dn', dn)}\n${lines.join('\n')}\n\n`;
}

/** Printable ASCII that does not begin as something else would, nor end with a blank. */
const SAFE = /^(?![ :<])[ -~]*(?<! )$/;

function renderLine(type: string, value: string | Buffer): string {
  if (typeof value === 'string' && SAFE.test(value)) return `${type}: ${value}`;
  return `${type}:: ${Buffer.from(value as string).toString('base64')}`;
}

/** Orders DNs so that an entry comes after those that it lies below. slapd writes a comma in a value as `\2C`. */
export function compareDns(a: string, b: string): number {
  const depth = a.split(',').length - b.split(',').length;
  if (depth !== 0) return depth;
  const [left, right] = [a.toLowerCase(), b.toLowerCase()];
  return left < right ? -1 : left > right ? 1 : 0;
}
