/**
 * Reads a large search page by page, with a decoder of its own: the library creates some fifty objects for each
 * entry, which takes four times as long for a whole tree. An entry is kept as the server sent it, and read when
 * it is asked for.
 *
 * Formats: RFC 4511, section 4.5.2 (SearchResultEntry) and 5.1 (BER); RFC 2696 (pages).
 */
import type { Socket } from 'node:net';
import { BerCursor, cutMessages, malformed, TAG } from './ldap-messages.ts';

const PAGED_RESULTS = '1.2.840.113556.1.4.319';

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

  /** The values of an attribute, as `LdapEntry` returns them. */
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

  /** The values of each attribute that `nameOf` has a name for; `type` is as the server writes it. */
  attributes(nameOf: (type: string) => string | undefined): [string, (string | Buffer)[]][] {
    const found: [string, (string | Buffer)[]][] = [];
    this.readEach(nameOf, (name, values) => found.push([name, values]));
    return found;
  }

  /** Passes on the values of each such attribute, and keeps none. */
  readEach(
    nameOf: (type: string) => string | undefined,
    take: (name: string, values: (string | Buffer)[]) => void,
  ): void {
    const cursor = new BerCursor(this.#bytes, this.#start, this.#end);
    cursor.skip();
    const end = cursor.enter(TAG.sequence);
    while (cursor.at < end) {
      const endOfAttribute = cursor.enter(TAG.sequence);
      const name = nameOf(cursor.text());
      if (name !== undefined) take(name, cursor.valuesOfSet());
      cursor.at = endOfAttribute;
    }
  }
}

/**
 * Yields page after page; while one is being read, the next is already requested. Throws if the server refuses,
 * hangs up, or sends nothing for `timeoutMs`: so either everything is yielded, or it throws.
 *
 * @param socket bound, and from now on used by nobody else
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
    page.catch(() => {}); // the loop below throws its error, if it gets to this page
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
  /** of the next page; empty if this is the last */
  cookie: Buffer;
}

/** Assembles what the socket brings. */
function receivePages(
  socket: Socket,
  timeoutMs: number,
): { next(id: number): Promise<Page>; end(): void } {
  let waiting:
    { id: number; settle: PromiseWithResolvers<Page>; timer: NodeJS.Timeout } | undefined;
  let failed: Error | undefined;
  let entries: SentEntry[] = [];

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

  const cut = cutMessages(take);
  function onData(part: Buffer): void {
    waiting?.timer.refresh();
    try {
      cut(part);
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
      const timer = setTimeout(
        () => fail(new Error(`no answer within ${timeoutMs} ms`)),
        timeoutMs,
      );
      waiting = { id, settle, timer };
      if (failed !== undefined) fail(failed);
      return settle.promise;
    },
    end: () => fail(new Error('the search is over')),
  };
}

/** The cookie of the page that ends with this message; throws the server's refusal, with its `code`. */
function readDone(cursor: BerCursor): Buffer {
  const end = cursor.enter(TAG.done);
  const code = cursor.integer(TAG.enumerated);
  cursor.skip(); // the DN that matched
  const said = cursor.text();
  if (code !== 0) {
    throw Object.assign(new Error(`the server returned ${code}${said === '' ? '' : `: ${said}`}`), {
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
