/**
 * Reads a large search page by page, with a decoder of its own: the library makes some fifty objects of
 * each entry, which for a whole tree takes four times as long. An entry is kept as the server sent it, and
 * read when it is asked for.
 *
 * Formats: RFC 4511, section 4.5.2 (SearchResultEntry) and 5.1 (BER); RFC 2696 (pages).
 */
import { isUtf8 } from 'node:buffer';
import type { Socket } from 'node:net';

const TAG = {
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
const PAGED_RESULTS = '1.2.840.113556.1.4.319';

/** Goes through BER, one element after another. Throws where it is none, or not the one expected. */
class BerCursor {
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

  /** ASCII, in one call: cheaper than `text` where the code is not compiled. */
  name(): string {
    const end = this.enter(TAG.octets);
    const name = this.#bytes.toString('latin1', this.at, end);
    this.at = end;
    return name;
  }

  /** A value as text; as bytes where it is no UTF-8. Without a byte order mark, as the library has it. */
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

/** Where the element at an offset ends; undefined where its length has not come yet. */
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

function malformed(): Error {
  return new Error('the server sent what is no answer to a search');
}

/** An entry as the server sent it. */
export class SentEntry {
  readonly #bytes: Buffer;
  readonly #start: number;
  readonly #end: number;

  constructor(bytes: Buffer, start: number, end: number) {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
  }

  get sizeBytes(): number {
    return this.#end - this.#start;
  }

  get dn(): string {
    return new BerCursor(this.#bytes, this.#start, this.#end).text();
  }

  /** The values of an attribute, as `LdapEntry` tells them. */
  values(attribute: string): (string | Buffer)[] {
    const cursor = new BerCursor(this.#bytes, this.#start, this.#end);
    cursor.skip();
    const end = cursor.enter(TAG.sequence);
    while (cursor.at < end) {
      const endOfAttribute = cursor.enter(TAG.sequence);
      const type = cursor.name();
      if (type === attribute || type.toLowerCase() === attribute.toLowerCase()) {
        return cursor.valuesOfSet();
      }
      cursor.at = endOfAttribute;
    }
    return [];
  }

  /** Tells the values of each attribute that `nameOf` has a name for; `type` is as the server writes it. */
  attributes(nameOf: (type: string) => string | undefined): [string, (string | Buffer)[]][] {
    const found: [string, (string | Buffer)[]][] = [];
    const cursor = new BerCursor(this.#bytes, this.#start, this.#end);
    cursor.skip();
    const end = cursor.enter(TAG.sequence);
    while (cursor.at < end) {
      const endOfAttribute = cursor.enter(TAG.sequence);
      const name = nameOf(cursor.text());
      if (name !== undefined) found.push([name, cursor.valuesOfSet()]);
      cursor.at = endOfAttribute;
    }
    return found;
  }
}

/**
 * Yields page after page; while one is being read, the next is asked for already. Throws where the
 * server refuses, hangs up, or sends nothing for `timeoutMs`: so what was yielded is all, or it throws.
 *
 * @param socket bound, and from now on nobody else's
 * @param requestOf the search as a message with that id, for the page after `cookie`
 */
export async function* readPages(
  socket: Socket,
  requestOf: (id: number, cookie: Buffer) => Buffer,
  timeoutMs: number,
): AsyncGenerator<SentEntry[]> {
  const pages = receivePages(socket, timeoutMs);
  // ids of the library's own requests are small
  let id = 1_000_000;
  const ask = (cookie: Buffer) => {
    socket.write(requestOf((id += 1), cookie));
    const page = pages.next(id);
    page.catch(() => {}); // it is heard of when its turn comes, if that comes
    return page;
  };
  try {
    let coming: Promise<Page> | undefined = ask(Buffer.alloc(0));
    while (coming !== undefined) {
      const { entries, cookie }: Page = await coming;
      coming = cookie.length === 0 ? undefined : ask(cookie);
      yield entries;
    }
  } finally {
    pages.end();
  }
}

interface Page {
  entries: SentEntry[];
  /** of the next page; empty where this is the last */
  cookie: Buffer;
}

/** Puts together what the socket brings. */
function receivePages(
  socket: Socket,
  timeoutMs: number,
): { next(id: number): Promise<Page>; end(): void } {
  let waiting:
    { id: number; settle: PromiseWithResolvers<Page>; timer: NodeJS.Timeout } | undefined;
  let failed: Error | undefined;
  let entries: SentEntry[] = [];
  let parts: Buffer[] = [];
  let [held, needed] = [0, 2];

  const fail = (error: Error) => {
    failed ??= error;
    clearTimeout(waiting?.timer);
    waiting?.settle.reject(failed);
    waiting = undefined;
    socket.destroy();
  };

  function take(bytes: Buffer, at: number, end: number): void {
    const cursor = new BerCursor(bytes, at, end);
    cursor.enter(TAG.sequence);
    if (cursor.integer() !== waiting?.id) throw malformed();
    const tag = cursor.tag();
    if (tag === TAG.reference) throw new Error('a part of the tree is on another server');
    if (tag === TAG.entry) {
      const endOfEntry = cursor.enter(TAG.entry);
      entries.push(new SentEntry(bytes, cursor.at, endOfEntry));
      return;
    }
    const cookie = readDone(cursor);
    const { settle, timer } = waiting;
    clearTimeout(timer);
    waiting = undefined;
    settle.resolve({ entries, cookie });
    entries = [];
  }

  function onData(part: Buffer): void {
    waiting?.timer.refresh();
    parts.push(part);
    held += part.length;
    // an entry of a megabyte comes in many parts: they are joined once
    if (held < needed) return;
    const bytes = parts.length === 1 ? part : Buffer.concat(parts);
    try {
      let at = 0;
      for (;;) {
        if (at < bytes.length && bytes[at] !== TAG.sequence) throw malformed();
        const end = at < bytes.length ? endOfElement(bytes, at) : undefined;
        needed = end === undefined ? bytes.length - at + 1 : end - at;
        if (end === undefined || end > bytes.length) break;
        take(bytes, at, end);
        at = end;
      }
      parts = at < bytes.length ? [bytes.subarray(at)] : [];
      held = bytes.length - at;
    } catch (error) {
      fail(error as Error);
    }
  }

  socket.on('data', onData);
  socket.once('error', fail);
  socket.once('close', () => fail(new Error('the connection was lost')));
  return {
    next(id) {
      const settle = Promise.withResolvers<Page>();
      const timer = setTimeout(() => fail(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
      waiting = { id, settle, timer };
      if (failed !== undefined) fail(failed);
      return settle.promise;
    },
    end: () => fail(new Error('the search is over')),
  };
}

/** The cookie of the page that ends with this; throws the server's refusal, with its `code`. */
function readDone(cursor: BerCursor): Buffer {
  const end = cursor.enter(TAG.done);
  const code = cursor.integer(TAG.enumerated);
  cursor.skip(); // the DN that matched
  const said = cursor.text();
  if (code !== 0) {
    throw Object.assign(new Error(`the server says ${code}${said === '' ? '' : `: ${said}`}`), {
      code,
    });
  }
  cursor.at = end;
  if (cursor.tag() !== TAG.controls) return Buffer.alloc(0);
  const endOfControls = cursor.enter(TAG.controls);
  while (cursor.at < endOfControls) {
    const endOfControl = cursor.enter(TAG.sequence);
    if (cursor.text() === PAGED_RESULTS) {
      if (cursor.tag() !== TAG.octets) cursor.skip(); // criticality
      const value = new BerCursor(cursor.octets());
      value.enter(TAG.sequence);
      value.skip(); // an estimate of how many there are
      return value.octets();
    }
    cursor.at = endOfControl;
  }
  return Buffer.alloc(0);
}
