/**
 * A client of Chamberlain's HTTP API, for portals. docs/api.md of Chamberlain describes the API itself.
 *
 *     const client = new Client({ url: 'http://127.0.0.1:8466', realm: 'tools', portal: 'portal', kid: 'portal-1', key });
 *     const request = client.sign('tool.create', { requestedBy: 'alice', name: 'newbot', title: 'A new bot' });
 *     await save(request); // before it is sent: sent again, it counts once
 *     const outcome = await client.send(request, { wait: 'done' });
 *
 * Nothing is kept here but the keys. What takes a signal rejects with its reason if it is aborted.
 */
import { createPrivateKey, createPublicKey, type KeyObject, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Attempts, EventsGone, parsed, Problem, problemOf, Unreachable } from './problems.ts';
import { signCall, type Signer, signRequest, verifyEvents } from './tokens.ts';

export { EventsGone, Problem, Unreachable };

/** How long an answer may take beyond the time for which the API was asked to wait, in seconds. */
const ANSWER_SECONDS = 15;
/** The longest time that one call may wait for an outcome or for events, in seconds. */
const MOST_WAIT_SECONDS = 60;

export interface ClientOptions {
  /** of the API, such as "https://chamberlain.example.org" */
  url: string;
  /** realm, portal, kid: as in the configuration of the realm; an admin's own key is of the portal "admin.NAME" */
  realm: string;
  portal: string;
  kid: string;
  /** the portal's Ed25519 key, PKCS #8 in PEM */
  key: string | Buffer;
  /** the realm's public key for events, in PEM; only `events` needs it */
  eventsKey?: string | Buffer;
  /** told why a call is tried again; by default it is a line on stderr */
  warn?: (line: string) => void;
}

/** A signed request. Keep it until it has its verdict, to send it again. */
export interface Request {
  id: string;
  token: string;
}

/** What has become of a request. */
export interface Outcome {
  id: string;
  /** null if it has none yet */
  verdict: 'accepted' | 'refused' | null;
  /** every role has applied what the request changed */
  done: boolean;
  /** an admin must approve it */
  waiting: boolean;
  /** an admin has rejected it */
  rejected: boolean;
  /** why it was refused, or why a role has given up */
  code?: string;
  /** for people: why it was refused or given up; if `waiting`, why it waits; if `rejected`, the admin's reason */
  sentence?: string;
}

/** What has happened, as docs/portals.md lists it. */
export interface Event {
  seq: number;
  id: string;
  at: string;
  event: string;
  request?: string;
  subject?: number;
  code?: string;
  data: Record<string, unknown>;
}

/** Whether a name is free. `sentence` says why it is not. */
export interface NameState {
  name: string;
  of: 'person' | 'tool' | null;
  state: 'free' | 'taken' | 'reserved' | 'invalid';
  sentence?: string;
}

/** The fields of a kind of request, which docs/portals.md lists, and the person who asks. */
export interface Fields {
  requestedBy: string;
  [field: string]: unknown;
}

type Json = Record<string, unknown>;
type Query = Record<string, string | number | boolean | undefined>;
/** Ends a call before its answer has come. */
interface Abortable {
  signal?: AbortSignal | undefined;
}
interface CallOptions extends Abortable {
  query?: Query;
  body?: string;
  type?: string;
  /** how long the API was asked to wait, in seconds */
  waits?: number;
}

/** Speaks to one realm for one portal. */
export class Client {
  readonly #base: string;
  readonly #signer: Signer;
  readonly #eventsKey: KeyObject | undefined;
  readonly #warn: (line: string) => void;

  constructor({ url, realm, portal, kid, key, eventsKey, warn = console.warn }: ClientOptions) {
    if (!/^https?:\/\//u.test(url) || !URL.canParse(url)) {
      throw new TypeError(`not the address of an API: ${url}`);
    }
    this.#base = url.replace(/\/+$/u, '');
    this.#signer = { realm, portal, kid, key: ed25519(createPrivateKey(key)) };
    this.#eventsKey = eventsKey === undefined ? undefined : ed25519(createPublicKey(eventsKey));
    this.#warn = warn;
  }

  // ---- requests --------------------------------------------------------------------------------

  /**
   * Signs a request of a person.
   *
   * @param options.approvedBy the person who approved it in the portal, if that was somebody else
   * @param options.id a UUID of your own; a new one by default
   */
  sign(
    kind: string,
    fields: Fields,
    { approvedBy, id = randomUUID() }: { approvedBy?: string; id?: string } = {},
  ): Request {
    const sub = approvedBy ?? fields.requestedBy;
    const jti = id.toLowerCase(); // as the API names it
    return {
      id: jti,
      token: signRequest(this.#signer, { jti, sub, request: { kind, ...fields } }),
    };
  }

  /**
   * Sends a request. The same one may be sent again and again: it counts once.
   *
   * @param options.wait for the verdict; or until everything is applied, or nothing more comes by itself
   * @param options.seconds the longest wait; then the outcome is what is known by then
   */
  async send(
    request: Request,
    {
      wait,
      seconds = 30,
      signal,
    }: { wait?: 'verdict' | 'done'; seconds?: number } & Abortable = {},
  ): Promise<Outcome> {
    const query = wait === undefined ? {} : { wait, seconds: waitable(seconds) };
    return this.#ask('/v1/requests', request, {
      query,
      waits: wait === undefined ? 0 : seconds,
      signal,
    });
  }

  /**
   * Sends a request, again and again, until it is done, refused, rejected, given up or waits for an admin.
   *
   * Tries again while the API is away. After the seconds it returns what is known. Throws Problem for what the API
   * refuses.
   */
  async wait(
    request: Request,
    { seconds = 300, signal }: { seconds?: number } & Abortable = {},
  ): Promise<Outcome> {
    const end = performance.now() + seconds * 1000;
    const left = () => (end - performance.now()) / 1000;
    const attempts = new Attempts();
    let outcome: Outcome = { id: request.id, ...NOTHING_YET };
    while (left() > 0) {
      try {
        const most = Math.min(left(), MOST_WAIT_SECONDS);
        outcome = await this.send(request, { wait: 'done', seconds: most, signal });
        if (isOver(outcome)) break;
        attempts.succeeded();
      } catch (error) {
        const pause = attempts.pauseAfter(error);
        this.#warn(`no outcome for now: ${String(error)}`);
        await sleep(Math.max(0, Math.min(pause, left())) * 1000, undefined, { signal });
      }
    }
    return outcome;
  }

  /** Says what the verdict on a request would be now. Nothing is done, and nothing recorded. */
  async check(kind: string, fields: Fields, { signal }: Abortable = {}): Promise<Outcome> {
    const question = {
      sub: fields.requestedBy,
      request: { kind, ...fields },
      check: true,
    } as const;
    const id = randomUUID();
    const token = signRequest(this.#signer, { jti: id, ...question });
    return this.#ask('/v1/checks', { id, token }, { waits: ANSWER_SECONDS, signal });
  }

  // ---- reading ---------------------------------------------------------------------------------

  /** What the API says at that path, such as "/v1/kinds". See docs/api.md for the paths. */
  async read<Answer = unknown>(
    path: string,
    query: Query = {},
    { signal }: Abortable = {},
  ): Promise<Answer> {
    return this.#json('GET', path, { query, signal });
  }

  /** A person; null if there is none, or the portal may not see them. */
  person(name: string, options: Abortable = {}): Promise<Json | null> {
    return this.#find('/v1/people/', name, options);
  }

  /** A tool; null if there is none. */
  tool(name: string, options: Abortable = {}): Promise<Json | null> {
    return this.#find('/v1/tools/', name, options);
  }

  /** Whether a name is free, for a person or for a tool. */
  async name(
    name: string,
    { of, signal }: { of?: 'person' | 'tool' } & Abortable = {},
  ): Promise<NameState> {
    if (isDots(name)) return { name, of: of ?? null, state: 'invalid' }; // no path can hold it
    return this.read(`/v1/names/${encodeURIComponent(name)}`, { of }, { signal });
  }

  /** What the parser says of a pasted SSH key. */
  async checkKey(key: string, { signal }: Abortable = {}): Promise<Json> {
    const body = JSON.stringify({ key });
    return this.#json('POST', '/v1/keys/check', { body, type: 'application/json', signal });
  }

  /** The items of a list, of all its pages. */
  async *pages(path: string, query: Query = {}, options: Abortable = {}): AsyncGenerator<Json> {
    let after: Query = {};
    while (true) {
      const page = await this.read<{ items: Json[]; next?: string | null }>(
        path,
        { ...query, ...after },
        options,
      );
      yield* page.items;
      if (typeof page.next !== 'string') return;
      after = { after: page.next };
    }
  }

  // ---- events ----------------------------------------------------------------------------------

  /**
   * The events after that number, in order, for as long as the caller takes them, or until the signal is aborted.
   *
   * An event counts as received as soon as the next one is asked for. So store its number where you store what it
   * changed, before that, and begin there after an interruption: an event may come again, but none is lost. While the
   * API is away, it is asked again. Throws EventsGone: go on after `removed`.
   *
   * @param options.seconds how long one call waits for events
   */
  async *events(
    after: number,
    { seconds = 30, signal }: { seconds?: number } & Abortable = {},
  ): AsyncGenerator<Event> {
    if (this.#eventsKey === undefined) throw new TypeError('give eventsKey to receive events');
    const attempts = new Attempts();
    const isStopped = () => signal?.aborted === true;
    let last = after;
    while (!isStopped()) {
      let token: string;
      try {
        token = await this.#nextEvents(last, seconds, signal);
        attempts.succeeded();
      } catch (error) {
        if (isStopped()) return;
        const pause = attempts.pauseAfter(error);
        this.#warn(`no events for now: ${String(error)}`);
        await sleep(pause * 1000, undefined, { signal }).catch(() => {}); // aborted
        continue;
      }
      if (token === '') continue; // nothing has happened
      const batch = verifyEvents(token, this.#signer.portal, this.#eventsKey) as Batch;
      if (batch.removed !== undefined && batch.after <= last && last < batch.removed) {
        throw new EventsGone(last, batch.removed);
      }
      if (batch.after > last) continue; // they are not the next ones: the API goes back to `last`
      for (const event of batch.events) {
        if (event.seq <= last) continue;
        yield event;
        last = event.seq;
      }
    }
  }

  // ---- inside ----------------------------------------------------------------------------------

  async #nextEvents(after: number, seconds: number, signal?: AbortSignal): Promise<string> {
    const query = { after, seconds: waitable(seconds) };
    const call = { query, waits: seconds, signal };
    const { status, text } = await this.#call('GET', '/v1/events', call, JWT);
    return status === 204 ? '' : text;
  }

  async #json<Answer>(method: string, path: string, options: CallOptions): Promise<Answer> {
    const { text } = await this.#call(method, path, options, 'application/json');
    const answer = parsed(text);
    if (answer !== undefined) return answer as Answer;
    throw new Unreachable(`${method} ${this.#base}${path}: the answer is cut off`);
  }

  async #ask(path: string, { id, token }: Request, options: CallOptions): Promise<Outcome> {
    const call = { ...options, body: token, type: JWT };
    const outcome = await this.#json<Outcome | null>('POST', path, call);
    if (outcome?.id === id.toLowerCase()) return { ...NOTHING_YET, ...outcome };
    throw new Unreachable(`POST ${this.#base}${path}: the answer does not name the request`);
  }

  async #find(path: string, name: string, options: Abortable): Promise<Json | null> {
    if (isDots(name)) return null; // a path would lose it, and be another one
    try {
      return await this.read<Json>(path + encodeURIComponent(name), {}, options);
    } catch (error) {
      if (error instanceof Problem && error.code === 'NOT_FOUND') return null;
      throw error;
    }
  }

  /**
   * What the API answers. A proxy may answer in its place, for example while the API restarts or after a change of its
   * address: that says nothing about what was asked.
   */
  async #call(
    method: string,
    path: string,
    { query = {}, body, type, waits = 0, signal }: CallOptions,
    expected: string,
  ): Promise<{ status: number; text: string }> {
    const target = targetOf(path, query);
    const headers = {
      authorization: `Chamberlain ${signCall(this.#signer, method, target)}`,
      ...(type === undefined ? {} : { 'content-type': type }),
    };
    const late = AbortSignal.timeout(Math.ceil(waitable(waits) + ANSWER_SECONDS) * 1000);
    const ends = signal === undefined ? late : AbortSignal.any([signal, late]);
    let answer: Response;
    let text: string;
    try {
      const init = { method, headers, redirect: 'manual', signal: ends } as const;
      answer = await fetch(this.#base + target, body === undefined ? init : { ...init, body });
      text = await answer.text();
    } catch (error) {
      signal?.throwIfAborted();
      const reason = networkFault(error);
      if (reason === undefined) throw error;
      // without the cause, which may hold the whole query
      // oxlint-disable-next-line preserve-caught-error
      throw new Unreachable(`${method} ${this.#base}${path}: ${reason}`);
    }
    const { status, headers: given } = answer;
    const [found = ''] = (given.get('content-type') ?? '').toLowerCase().split(/[ ;]/u);
    if (status === 204 || (status < 300 && found === expected)) return { status, text };
    const problem =
      status >= 300 && found === 'application/problem+json'
        ? problemOf(status, given.get('retry-after'), text)
        : undefined;
    const stated = `status ${status}, content type ${found || 'none'}`;
    throw (
      problem ??
      new Unreachable(`${method} ${this.#base}${path}: the answer is not from the API: ${stated}`)
    );
  }
}

/** What the relay has signed. */
interface Batch {
  after: number;
  removed?: number;
  events: Event[];
}

const JWT = 'application/jwt';

const NOTHING_YET = { verdict: null, done: false, waiting: false, rejected: false } as const;

function ed25519(key: KeyObject): KeyObject {
  if (key.asymmetricKeyType === 'ed25519') return key;
  throw new TypeError(`the key must be an Ed25519 key, and is ${key.asymmetricKeyType}`);
}

/** The path with the query as fetch sends it, because that is what is signed (WHATWG URL). */
function targetOf(path: string, query: Query): string {
  const url = new URL(path, 'http://api.invalid');
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) url.searchParams.set(name, String(value));
  }
  return url.pathname + url.search;
}

/** What fetch says of the network or of the time; undefined for a fault of the program, such as a port that is barred. */
function networkFault(error: unknown): string | undefined {
  const { name, cause } = error as { name?: string; cause?: { code?: string } };
  return name === 'TimeoutError' ? name : cause?.code;
}

/** Whether nothing more comes by itself. */
function isOver({ verdict, done, waiting, rejected, code }: Outcome): boolean {
  if (verdict === null) return false;
  return done || verdict === 'refused' || waiting || rejected || code !== undefined;
}

const waitable = (seconds: number): number => Math.min(Math.max(seconds, 0), MOST_WAIT_SECONDS);

const isDots = (name: string): boolean => /^\.*$/u.test(name);
