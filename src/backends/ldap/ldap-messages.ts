/**
 * Splits what a directory server sends into messages, for the library and for src/backends/ldap/ldap-pages.ts
 * alike, so that no entry takes all memory or time, however large it is. It also reads BER.
 *
 * Formats: RFC 4511, sections 4.1.1 (LDAPMessage), 4.5.2 (SearchResultEntry) and 5.1 (BER).
 */
import { isUtf8 } from 'node:buffer';
import { OVERSIZED } from '../../unmanaged/sightings.ts';

export const TAG = {
  integer: 0x02,
  octets: 0x04,
  enumerated: 0x0a,
  sequence: 0x30,
  set: 0x31,
  entry: 0x64,
  done: 0x65,
  reference: 0x73,
  controls: 0xa0,
} as const;

/** A larger entry is not read completely. A group with 250,000 members has this size. */
const MAX_ENTRY_BYTES = 16 * 2 ** 20;
/** Of an oversized entry, an attribute is kept up to this size. */
const MAX_ATTRIBUTE_BYTES = 2 ** 16;
/** slapd accepts no longer DN. When twice that many bytes of an entry have arrived, its DN is complete. */
const MAX_DN_BYTES = 8192;
const HEAD_BYTES = 2 * MAX_DN_BYTES;

/** An oversized entry while it arrives. */
interface Oversized {
  id: Buffer;
  dn: Buffer;
  kept: Buffer[];
  keptBytes: number;
  /** bytes of its attributes that have not been examined */
  left: number;
  /** bytes of those that must be skipped */
  skip: number;
}

/**
 * Returns a function that takes the parts that a socket brings, and calls `take` with each whole message, which
 * is in `bytes` from `at` to `end`. An entry of more than 16 MiB is passed on without its attributes of more
 * than 64 KiB, and with `oversized` as its only class. Throws if the parts are not LDAP.
 */
export function cutMessages(
  take: (bytes: Buffer, at: number, end: number) => void,
): (part: Buffer) => void {
  let parts: Buffer[] = [];
  let [held, needed] = [0, 2];
  let oversized: Oversized | undefined;

  /** Takes one message or attribute; returns where it ends, or -1 if more of it must come first. */
  function step(bytes: Buffer, at: number): number {
    const there = bytes.length - at;
    if (oversized !== undefined) {
      const { kept, left } = oversized;
      const end = left === 0 ? at : stepInto(oversized, bytes, at);
      if (left > 0) return end;
      const message = messageOf(oversized.id, oversized.dn, kept);
      oversized = undefined;
      take(message, 0, message.length);
      return at;
    }
    if (there > 0 && bytes[at] !== TAG.sequence) throw malformed();
    const end = there > 0 ? endOfElement(bytes, at) : undefined;
    needed = end === undefined ? there + 1 : end - at;
    if (end === undefined) return -1;
    if (end - at > MAX_ENTRY_BYTES) {
      needed = HEAD_BYTES;
      if (there < needed) return -1;
      const cursor = new BerCursor(bytes, at, end);
      oversized = beginOversized(cursor, end);
      return cursor.at;
    }
    if (end > bytes.length) return -1;
    take(bytes, at, end);
    return end;
  }

  function stepInto(entry: Oversized, bytes: Buffer, at: number): number {
    const there = bytes.length - at;
    needed = there + 1;
    if (there === 0) return -1;
    if (entry.skip > 0) {
      const passed = Math.min(entry.skip, there);
      entry.skip -= passed;
      entry.left -= passed;
      return at + passed;
    }
    const end = endOfElement(bytes, at);
    if (end === undefined) return -1;
    const size = end - at;
    if (bytes[at] !== TAG.sequence || size > entry.left) throw malformed();
    if (size > MAX_ATTRIBUTE_BYTES || entry.keptBytes + size > MAX_ENTRY_BYTES) {
      entry.skip = size;
      return at;
    }
    needed = size;
    if (there < size) return -1;
    // a copy, so that the rest of the part that it came in is not kept
    entry.kept.push(Buffer.from(bytes.subarray(at, end)));
    entry.keptBytes += size;
    entry.left -= size;
    return end;
  }

  return (part) => {
    parts.push(part);
    held += part.length;
    // a message of a megabyte comes in many parts: they are joined once
    if (held < needed) return;
    const bytes = parts.length === 1 ? part : Buffer.concat(parts);
    let at = 0;
    for (let next = 0; next >= 0; next = step(bytes, at)) at = next;
    parts = at < bytes.length ? [bytes.subarray(at)] : [];
    held = bytes.length - at;
  };
}

/** Goes to an entry's attributes, which must be the rest of its message. */
function beginOversized(cursor: BerCursor, end: number): Oversized {
  cursor.enter(TAG.sequence);
  const id = cursor.octets(TAG.integer);
  const endOfEntry = cursor.enter(TAG.entry);
  const dn = cursor.octets();
  if (endOfEntry !== end || dn.length > MAX_DN_BYTES || cursor.enter(TAG.sequence) !== end) {
    throw malformed();
  }
  return {
    id: Buffer.from(id),
    dn: Buffer.from(dn),
    kept: [],
    keptBytes: 0,
    left: end - cursor.at,
    skip: 0,
  };
}

/** A message with an entry of these attributes, except its classes. */
function messageOf(id: Buffer, dn: Buffer, attributes: readonly Buffer[]): Buffer {
  const others = attributes.filter((attribute) => {
    const cursor = new BerCursor(attribute);
    cursor.enter(TAG.sequence);
    return cursor.name().toLowerCase() !== 'objectclass';
  });
  const octets = (text: string) => element(TAG.octets, Buffer.from(text));
  const classes = element(TAG.sequence, octets('objectClass'), element(TAG.set, octets(OVERSIZED)));
  const content = element(TAG.sequence, ...others, classes);
  const entry = element(TAG.entry, element(TAG.octets, dn), content);
  return element(TAG.sequence, element(TAG.integer, id), entry);
}

function element(tag: number, ...content: Buffer[]): Buffer {
  const body = Buffer.concat(content);
  const head = Buffer.of(tag, 0x84, 0, 0, 0, 0);
  head.writeUInt32BE(body.length, 2);
  return Buffer.concat([head, body]);
}

/** Goes through BER, one element after another. Throws if it is not BER, or not the expected element. */
export class BerCursor {
  at: number;
  readonly #bytes: Buffer;
  readonly #end: number;

  constructor(bytes: Buffer, at = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.at = at;
    this.#end = end;
  }

  tag(): number | undefined {
    return this.at < this.#end ? this.#bytes[this.at] : undefined;
  }

  /** Goes to the content of an element, and returns where that ends. */
  enter(tag: number): number {
    const end = this.at < this.#end ? endOfElement(this.#bytes, this.at) : undefined;
    if (end === undefined || end > this.#end || this.#bytes[this.at] !== tag) throw malformed();
    const first = this.#bytes[this.at + 1] ?? 0;
    this.at += first < 0x80 ? 2 : 2 + (first & 0x7f);
    return end;
  }

  octets(tag: number = TAG.octets): Buffer {
    const end = this.enter(tag);
    const content = this.#bytes.subarray(this.at, end);
    this.at = end;
    return content;
  }

  text(): string {
    const end = this.enter(TAG.octets);
    const text = textOf(this.#bytes, this.at, end);
    this.at = end;
    return text;
  }

  /** ASCII, in one call: cheaper than `text` if the code is not compiled. */
  name(): string {
    const end = this.enter(TAG.octets);
    const name = this.#bytes.toString('latin1', this.at, end);
    this.at = end;
    return name;
  }

  /** A value as text, or as bytes if it is not UTF-8. Without a byte order mark, as in the library. */
  value(): string | Buffer {
    const end = this.enter(TAG.octets);
    const text = textOf(this.#bytes, this.at, end);
    const bytes = text.includes('\uFFFD') ? this.#bytes.subarray(this.at, end) : undefined;
    this.at = end;
    if (bytes !== undefined && !isUtf8(bytes)) return bytes;
    return text.startsWith('\uFEFF') ? text.slice(1) : text;
  }

  valuesOfSet(): (string | Buffer)[] {
    const values: (string | Buffer)[] = [];
    const end = this.enter(TAG.set);
    while (this.at < end) values.push(this.value());
    return values;
  }

  integer(tag: number = TAG.integer): number {
    const content = this.octets(tag);
    if (content.length === 0 || content.length > 4) throw malformed();
    return content.readIntBE(0, content.length);
  }

  skip(): void {
    this.at = this.enter(this.tag() ?? 0);
  }
}

/** Where the element at an offset ends; undefined if its length has not come yet. */
function endOfElement(bytes: Buffer, at: number): number | undefined {
  const first = bytes[at + 1];
  if (first === undefined || first < 0x80) return first === undefined ? undefined : at + 2 + first;
  const count = first & 0x7f;
  if (count === 0 || count > 4) throw malformed();
  if (at + 2 + count > bytes.length) return undefined;
  return at + 2 + count + bytes.readUIntBE(at + 2, count);
}

/** Short texts as they were last read, by a hash of their bytes: types and classes come with every entry. */
const KNOWN: string[] = Array.from({ length: 1024 }, () => '');
const SHORT = 24;

function textOf(bytes: Buffer, start: number, end: number): string {
  const length = end - start;
  if (length > SHORT) return bytes.toString('utf8', start, end);
  let hash = length;
  for (let i = start; i < end; i++) hash = (Math.imul(hash, 31) + (bytes[i] ?? 0)) | 0;
  const slot = (hash ^ (hash >>> 10)) & 1023;
  const known = KNOWN[slot] ?? '';
  let isKnown = known.length === length;
  for (let i = 0; isKnown && i < length; i++) {
    const byte = bytes[start + i] ?? 0;
    isKnown = byte < 0x80 && known.charCodeAt(i) === byte;
  }
  return isKnown ? known : (KNOWN[slot] = bytes.toString('utf8', start, end));
}

export function malformed(): Error {
  return new Error('the server sent something other than an answer to a search');
}
