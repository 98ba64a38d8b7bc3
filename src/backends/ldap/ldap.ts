/**
 * LDAP: the only file that speaks it. It holds a few bound connections, and the operations that are needed on
 * them. Only this file builds filters and DNs, with the library's classes. src/backends/ldap/directory.ts knows
 * what the directory's entries mean.
 *
 * URIs: `ldapi://%2Fpath%2Fto%2Fsocket` and `ldaps://host[:port]`. Plain `ldap://` is allowed only to this
 * machine (127.0.0.1, ::1, localhost), for development, because passwords and keys would be sent in the clear.
 *
 * ldapts silently reconnects a lost connection, which is then *anonymous*: a search would see nothing, and
 * nothing would be read as "absent". So a client gets one socket, once (`connectOnce`): a second connection
 * throws. One client is one connection; any error of one ends both.
 *
 * This file is longer than most, so that nothing else imports ldapts.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import * as ldapts from 'ldapts';
import { cutMessages } from './ldap-messages.ts';
import { type Secret, secretNow } from '../../secrets/secret.ts';
import { hostOf, isThisMachine, tlsOptions } from '../../shared/tls.ts';
import { readPages, type SentEntry } from './ldap-pages.ts';

/** slapd drops a connection with more than 1,000 pending operations. */
const MAX_IN_FLIGHT = 32;
const CONNECTIONS = 4;
/** For the connection, its bind and its first check. */
const OPEN_TIMEOUT_MS = 3000;
const OPERATION_TIMEOUT_MS = 5000;
const PAGE = 100;

export interface LdapSettings {
  uri: string;
  /** PEM file of the authority that signs the server's certificate, for ldaps */
  caFile?: string | undefined;
  bindDn: string;
  password: Secret;
  /** checks whether the connection can be trusted, before anything else is done on it */
  check(connection: LdapConnection): Promise<void>;
}

export interface LdapSearch {
  base: string;
  scope: 'base' | 'one' | 'sub';
  /** the entry has one of these values; if absent, every entry matches */
  any?: readonly (readonly [attribute: string, value: Buffer])[];
  /** without `any`: the entry was written at or after this change sequence number */
  since?: string;
  /** with `since`: not last changed by this DN */
  notBy?: string;
  /** without `any` and `since`: the entry has this attribute, by default objectClass, which all have */
  present?: string;
  attributes: readonly string[];
  /** entries of a page, if it is read page by page; by default 100 */
  pageSize?: number;
}

export interface LdapEntry {
  dn: string;
  /** The values of an attribute, `[]` if it has none; a Buffer for a value that is not UTF-8. */
  values(attribute: string): (string | Buffer)[];
}

export interface LdapChange {
  operation: 'add' | 'delete' | 'replace';
  attribute: string;
  values: Buffer[];
}

/** What an entry must have for a change to be done (RFC 4528, the assertion control). */
type LdapExpectation = readonly (readonly [attribute: string, value: Buffer])[];

/** Operations on one connection. Each answer is complete, or the operation throws. */
export interface LdapConnection {
  /**
   * Not paged (slapd allows only one paged search on each connection): exceeding the server's size limit is an
   * error here, code 4.
   */
  search(search: LdapSearch): Promise<LdapEntry[]>;
  /** Page by page; one at a time on a connection. */
  pages(search: LdapSearch): AsyncGenerator<LdapEntry[]>;
  add(dn: string, attributes: readonly (readonly [string, Buffer[]])[]): Promise<void>;
  modify(dn: string, changes: readonly LdapChange[], expect: LdapExpectation): Promise<void>;
  delete(dn: string, expect: LdapExpectation): Promise<void>;
}

export interface LdapPool {
  /** Runs one operation on a bound connection. If the connection fails, it is closed. */
  run<T>(operation: (connection: LdapConnection) => Promise<T>): Promise<T>;
  /** Runs something longer on a connection of its own, and ends it. */
  stream<T>(operation: (connection: LdapConnection) => AsyncGenerator<T>): AsyncGenerator<T>;
  /** Like `pages` on a connection of its own, for very many entries: they are read by `readPages`. */
  walk(search: LdapSearch): AsyncGenerator<SentEntry[]>;
  close: () => Promise<void>;
}

/** The text of a DN, innermost first, escaped. */
export function formatDn(path: readonly (readonly [attribute: string, value: string])[]): string {
  const dn = new ldapts.DN();
  for (const [attribute, value] of path) dn.addPairRDN(attribute, value);
  return dn.toString();
}

/** The result codes of the server that mean something to us (RFC 4511, appendix A; for the last, RFC 4528). */
export const RESULT = {
  sizeLimitExceeded: 4,
  noSuchAttribute: 16,
  attributeOrValueExists: 20,
  noSuchObject: 32,
  invalidCredentials: 49,
  insufficientAccessRights: 50,
  busy: 51,
  unavailable: 52,
  entryAlreadyExists: 68,
  assertionFailed: 122,
} as const;

/** The result code of the server; undefined if the connection is at fault. */
export function resultCodeOf(error: unknown): number | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  const isAway = code === RESULT.busy || code === RESULT.unavailable || code === NO_RESULT;
  return typeof code !== 'number' || isAway ? undefined : code;
}

/**
 * The server answers, but writes nothing for now, whichever entry it is. The code alone does not say so, because overlays
 * also answer with it (of one entry, for example "unique_search failed", LDAP result 80); slapd's text does. (Measured:
 * OpenLDAP 2.6.)
 *
 * | result | text                                | when                                                           |
 * | ------ | ----------------------------------- | -------------------------------------------------------------- |
 * | 53     | operation restricted                | `olcReadOnly: TRUE`, and `olcRestrict` for what it names       |
 * | 53     | shadow context; no update referral  | a copy, until it becomes the main server                       |
 * | 80     | txn_commit failed, commit failed    | the disk or the database (`olcDbMaxSize`) is full, and the     |
 * |        |                                     | entry was accepted before                                      |
 *
 * A database that is full may also answer "index generation failed" or "entry update failed": an entry of its own could be
 * the cause of those, so they count as refusals.
 */
export function cannotWrite(error: unknown): boolean {
  const { code, message } = error as { code?: unknown; message?: string };
  return typeof code === 'number' && WRITES_NOTHING.test(`${code} ${message}`);
}
const WRITES_NOTHING =
  /^(?:53 (?:operation restricted|shadow context; no update referral)|80 (?:txn_)?commit failed) \(LDAP result /u;

/** The code of ldapts for a message without a result. */
const NO_RESULT = 248;

/** One entry; undefined if it does not exist, or is not visible. */
export async function readEntry(
  ldap: LdapConnection,
  base: string,
  attributes: readonly string[],
): Promise<LdapEntry | undefined> {
  try {
    return (await ldap.search({ base, scope: 'base', attributes }))[0];
  } catch (error) {
    if (resultCodeOf(error) === RESULT.noSuchObject) return undefined;
    throw error;
  }
}

/** For answers without a text. */
const VERDICTS: Record<number, string> = {
  [RESULT.noSuchObject]: 'there is no such entry',
  [RESULT.invalidCredentials]: 'the password is wrong, or the account does not exist',
  [RESULT.insufficientAccessRights]: 'this account does not have the right to do that',
  [RESULT.busy]: 'the server is busy',
  [RESULT.unavailable]: 'the server is shutting down',
};

/**
 * Puts an error of the library into words for people: the library names its messages and codes. Any other error
 * stays as it is.
 */
function inWords(error: unknown): Error {
  const { message, code } = error as Error & { code?: unknown };
  if (typeof code === 'number') {
    const said = message.replace(/\s*Code: 0x[0-9a-f]+$/u, '');
    const words = `${said || VERDICTS[code] || 'it refuses'} (LDAP result ${code})`;
    return Object.assign(new Error(words), { code });
  }
  if (message.endsWith(': Operation timed out')) {
    return new Error(`no answer within ${OPERATION_TIMEOUT_MS} ms`);
  }
  const words = /^Socket error\. Message type: .*\n(.*)/u.exec(message)?.[1];
  if (/ECONNRESET|EPIPE/u.test(words ?? '') || message.startsWith('Connection closed before')) {
    return new Error('the connection was lost');
  }
  return words === undefined ? (error as Error) : new Error(words);
}

/**
 * If the server refuses a bind, that is not its answer to the operation that waits for it: the error has no
 * code of its own.
 */
function failedBind({ bindDn, uri }: LdapSettings, error: unknown): Error {
  return new Error(`binding as ${bindDn} at ${uri}`, { cause: inWords(error) });
}

/** The same for what failed on a connection, with the server's name if the connection is at fault. */
function ofServer(uri: string, error: unknown): Error {
  const words = inWords(error);
  const isItsFault = resultCodeOf(error) === undefined && (words !== error || 'syscall' in words);
  return isItsFault ? new Error(`asking ${uri}`, { cause: words }) : words;
}

// ---------------------------------------------------------------- one connection

interface OpenConnection {
  connection: LdapConnection;
  isBound: () => boolean;
  /** Gives the socket away: no operation can be done here any more. */
  takeSocket: () => Socket;
  destroy: () => void;
}

/** Opens a connection, binds and checks it, all within OPEN_TIMEOUT_MS; otherwise it throws. */
async function openConnection(settings: LdapSettings): Promise<OpenConnection> {
  const password = secretNow(settings.password);
  if (password === '') throw new Error('an empty password would bind anonymously');
  let socket: Socket | undefined;
  const connectOnce = (make: () => Socket) => () => {
    if (socket !== undefined) throw new Error('the connection was lost');
    socket = make();
    return socket;
  };
  const client = clientFor(settings, connectOnce);
  const destroy = () => void socket?.destroy();
  const timer = setTimeout(
    () => socket?.destroy(new Error(`no answer within ${OPEN_TIMEOUT_MS} ms`)),
    OPEN_TIMEOUT_MS,
  );
  try {
    await client.bind(settings.bindDn, password);
    if (socket !== undefined) deliverWhole(socket);
    const connection = operationsOn(client);
    await settings.check(connection);
    const takeSocket = () => {
      if (socket === undefined || !client.isBound) throw new Error('the connection was lost');
      return socket.removeAllListeners('data');
    };
    return { connection, isBound: () => client.isBound, takeSocket, destroy };
  } catch (error) {
    destroy();
    throw failedBind(settings, error);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Passes whole messages to the library. It would join the parts of a large message again with each new part (an
 * entry of 60 MB takes longer than OPERATION_TIMEOUT_MS), and would keep all of it.
 */
function deliverWhole(socket: Socket): void {
  const listeners = socket.listeners('data') as ((data: Buffer) => void)[];
  socket.removeAllListeners('data');
  const cut = cutMessages((bytes, at, end) => {
    for (const listener of listeners) listener(bytes.subarray(at, end));
  });
  socket.on('data', (part: Buffer) => {
    try {
      cut(part);
    } catch (error) {
      socket.destroy(error as Error);
    }
  });
}

/**
 * Runs `act` on a connection without a password: `nobody` does not bind at all; `peer` is the unix user of this
 * process (SASL EXTERNAL, RFC 4422; only by ldapi). Ends the connection.
 */
export async function withoutPassword<T>(
  place: Pick<LdapSettings, 'uri' | 'caFile'>,
  as: 'nobody' | 'peer',
  act: (connection: LdapConnection) => Promise<T>,
): Promise<T> {
  let socket: Socket | undefined;
  const client = clientFor(place, (make) => () => {
    if (socket !== undefined) throw new Error('the connection was lost');
    socket = make();
    return socket;
  });
  try {
    if (as === 'peer') await client.bind('EXTERNAL');
    return await act(operationsOn(client));
  } catch (error) {
    throw ofServer(place.uri, error);
  } finally {
    socket?.destroy();
  }
}

function clientFor(
  { uri, caFile }: Pick<LdapSettings, 'uri' | 'caFile'>,
  connectOnce: (make: () => Socket) => () => Socket,
): ldapts.Client {
  const timeout = OPERATION_TIMEOUT_MS;
  const socketPath = /^ldapi:\/\/([^/?]+)\/?$/.exec(uri)?.[1];
  if (socketPath !== undefined) {
    const path = decodeURIComponent(socketPath);
    const createConnection = connectOnce(() => connectTcp({ path })) as typeof connectTcp;
    return new ldapts.Client({ url: 'ldap://localhost', timeout, createConnection });
  }
  const url = URL.canParse(uri) ? new URL(uri) : undefined;
  const host = url === undefined ? '' : hostOf(url);
  if (url?.protocol === 'ldaps:' && host) {
    const port = Number(url.port || 636);
    const secure = connectOnce(() => connectTls({ port, ...tlsOptions({ host, caFile }) }));
    const createSecureConnection = secure as unknown as typeof connectTls;
    return new ldapts.Client({ url: uri, timeout, createSecureConnection });
  }
  if (url?.protocol === 'ldap:' && host && isThisMachine(host)) {
    const port = Number(url.port || 389);
    const createConnection = connectOnce(() => connectTcp({ host, port })) as typeof connectTcp;
    return new ldapts.Client({ url: uri, timeout, createConnection });
  }
  throw new Error(`${uri} must be ldapi:// or ldaps://, or ldap:// to this machine`);
}

function operationsOn(client: ldapts.Client): LdapConnection {
  return {
    search: async (search) =>
      entriesOf(await client.search(search.base, optionsOf(search), new ManageDsaItControl())),
    async *pages(search) {
      const options = { ...optionsOf(search), paged: { pageSize: search.pageSize ?? PAGE } };
      const control = new ManageDsaItControl();
      for await (const page of client.searchPaginated(search.base, options, control)) {
        yield entriesOf(page);
      }
    },
    add: (dn, attributes) =>
      client.add(
        dn,
        attributes.map(([type, values]) => new ldapts.Attribute({ type, values })),
      ),
    modify: (dn, changes, expect) =>
      client.modify(
        dn,
        changes.map(({ operation, attribute: type, values }) => {
          const modification = new ldapts.Attribute({ type, values });
          return new ldapts.Change({ operation, modification });
        }),
        expect.length === 0 ? [] : new AssertionControl(expect),
      ),
    delete: (dn, expect) => client.del(dn, new AssertionControl(expect)),
  };
}

function optionsOf(search: LdapSearch): ldapts.SearchOptions {
  const { scope, attributes } = search;
  return { scope, filter: filterOf(search), attributes: [...attributes] };
}

function filterOf({ any, since, notBy, present = 'objectClass' }: LdapSearch): ldapts.Filter {
  if (any !== undefined) return new ldapts.OrFilter({ filters: equalities(any) });
  if (since === undefined) return new ldapts.PresenceFilter({ attribute: present });
  const changed = new ldapts.GreaterThanEqualsFilter({ attribute: 'entryCSN', value: since });
  if (notBy === undefined) return changed;
  const by = new ldapts.EqualityFilter({ attribute: 'modifiersName', value: notBy });
  return new ldapts.AndFilter({ filters: [changed, new ldapts.NotFilter({ filter: by })] });
}

function equalities(pairs: LdapExpectation): ldapts.EqualityFilter[] {
  return pairs.map(([attribute, value]) => new ldapts.EqualityFilter({ attribute, value }));
}

/**
 * A search for one page, as a message (RFC 4511, sections 4.1.1 and 4.5.1); with no limits but the server's.
 */
function pageRequest(search: LdapSearch, id: number, cookie: Buffer): Buffer {
  const { base, scope, attributes, pageSize = PAGE } = search;
  const writer = new ldapts.BerWriter();
  writer.startSequence();
  writer.writeInt(id);
  writer.startSequence(0x63);
  writer.writeString(base);
  writer.writeEnumeration(['base', 'one', 'sub'].indexOf(scope));
  writer.writeEnumeration(0); // aliases stay
  writer.writeInt(0);
  writer.writeInt(0);
  writer.writeBoolean(false); // values too
  filterOf(search).write(writer);
  writer.startSequence();
  for (const attribute of attributes) writer.writeString(attribute);
  writer.endSequence();
  writer.endSequence();
  writer.startSequence(0xa0);
  const value = { size: pageSize, cookie };
  new ldapts.PagedResultsControl({ value, critical: true }).write(writer);
  new ManageDsaItControl().write(writer);
  writer.endSequence();
  writer.endSequence();
  return writer.buffer;
}

function entriesOf({ searchEntries, searchReferences }: ldapts.SearchResult): LdapEntry[] {
  if (searchReferences.length > 0) throw new Error('a part of the tree is on another server');
  return searchEntries.map((entry) => ({
    dn: entry.dn,
    values: (attribute) => {
      const values = entry[nameIn(entry, attribute)];
      if (values === undefined) return [];
      return Array.isArray(values) ? values : [values];
    },
  }));
}

/** The name of an attribute as the server wrote it: nearly always as it was asked for. */
function nameIn(entry: ldapts.Entry, attribute: string): string {
  if (Object.hasOwn(entry, attribute)) return attribute;
  const name = attribute.toLowerCase();
  return Object.keys(entry).find((key) => key !== 'dn' && key.toLowerCase() === name) ?? '';
}

/**
 * A referral is read as the entry that it is. RFC 3296. Otherwise, a referral anywhere below the base is in the
 * answer to each search there, whatever the search looks for, and an answer with a part elsewhere is not
 * complete.
 */
class ManageDsaItControl extends ldapts.Control {
  constructor() {
    super('2.16.840.1.113730.3.4.2', { critical: true });
  }
}

/** The operation is done only if the entry has all these values. RFC 4528. */
class AssertionControl extends ldapts.Control {
  readonly #filter: ldapts.Filter;
  constructor(expect: LdapExpectation) {
    super('1.3.6.1.1.12', { critical: true });
    this.#filter = new ldapts.AndFilter({ filters: equalities(expect) });
  }
  protected override writeControl(writer: ldapts.BerWriter): void {
    const value = new ldapts.BerWriter();
    this.#filter.write(value);
    writer.writeBuffer(value.buffer, ldapts.Ber.OctetString);
  }
}

// ---------------------------------------------------------------- the pool

interface Slot {
  connection: Promise<OpenConnection> | undefined;
  inFlight: number;
}

/** Opens nothing yet: each connection is opened when it is first needed, and again after it was lost. */
export function openLdapPool(settings: LdapSettings): LdapPool {
  const open = () => openConnection(settings);
  const slots: Slot[] = Array.from({ length: CONNECTIONS }, () => ({
    connection: undefined,
    inFlight: 0,
  }));
  const waiting: (() => void)[] = [];
  let closed = false;
  const leastBusy = () =>
    slots.reduce((best, slot) => (slot.inFlight < best.inFlight ? slot : best));
  return {
    async run(operation) {
      while (leastBusy().inFlight >= MAX_IN_FLIGHT) {
        await new Promise<void>((resolve) => void waiting.push(resolve));
      }
      if (closed) throw new Error('the connection is closed');
      const slot = leastBusy();
      slot.inFlight++;
      try {
        const [opening, connection] = await connectionOf(slot, open);
        try {
          return await operation(connection.connection);
        } catch (error) {
          if (resultCodeOf(error) === undefined) {
            forget(slot, opening);
            connection.destroy();
          }
          throw ofServer(settings.uri, error);
        }
      } finally {
        slot.inFlight--;
        waiting.shift()?.();
      }
    },
    async *stream(operation) {
      const { connection, destroy } = await open();
      try {
        yield* operation(connection);
      } catch (error) {
        throw ofServer(settings.uri, error);
      } finally {
        destroy();
      }
    },
    async *walk(search) {
      const { takeSocket, destroy } = await open();
      try {
        const requestOf = (id: number, cookie: Buffer) => pageRequest(search, id, cookie);
        yield* readPages(takeSocket(), requestOf, OPERATION_TIMEOUT_MS);
      } catch (cause) {
        throw resultCodeOf(cause) === undefined
          ? new Error(`asking ${settings.uri}`, { cause })
          : cause;
      } finally {
        destroy();
      }
    },
    close: async () => {
      closed = true;
      const opened = slots.flatMap(({ connection }) => connection ?? []);
      for (const connection of opened) {
        await connection.then(
          ({ destroy }) => destroy(),
          () => undefined,
        );
      }
    },
  };
}

/** The slot's connection; a new one if there is none, or if it was lost while idle. */
async function connectionOf(
  slot: Slot,
  open: () => Promise<OpenConnection>,
): Promise<[Promise<OpenConnection>, OpenConnection]> {
  for (let tries = 0; tries < 2; tries++) {
    const opening = (slot.connection ??= open());
    try {
      const connection = await opening;
      if (connection.isBound()) return [opening, connection];
      connection.destroy();
      forget(slot, opening);
    } catch (error) {
      forget(slot, opening);
      throw error;
    }
  }
  throw new Error('the connection was lost');
}

function forget(slot: Slot, connection: Promise<OpenConnection>): void {
  if (slot.connection === connection) slot.connection = undefined;
}
