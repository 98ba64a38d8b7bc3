/**
 * A portal for tests, written like one by an outsider who has only the format: it signs with nothing but
 * node:crypto, sends by BullMQ, and receives its events one at a time.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomUUID,
  sign,
  verify,
  type KeyObject,
} from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Queue, Worker } from 'bullmq';
import { Redis, type RedisOptions } from 'ioredis';
import type { World } from '../stack.ts';
import { eventually } from './eventually.ts';

const URGENT = new Set(['access.revoke', 'key.remove', 'maintainer.remove', 'tool.delete']);

/** An event as the portal receives it. */
export interface HeardEvent {
  seq: number;
  id: string;
  at: string;
  event: string;
  subject?: number;
  request?: string;
  code?: string;
  data: Record<string, unknown>;
}

/** A request as a person would write it down; `requestedBy` is the requester. */
export type Wish = { kind: string; requestedBy: string } & Record<string, unknown>;

export interface SendOptions {
  /** the request's id; a new one by default */
  id?: string;
  /** the approver; by default the requester */
  approvedBy?: string;
  /** the queue, without the name of the portal; by the kind by default */
  queue?: 'requests' | 'requests.urgent' | undefined;
  /** more claims, or other ones */
  claims?: Record<string, unknown>;
  header?: Record<string, unknown>;
  /** signs with another key than the portal's */
  key?: KeyObject;
}

/** The name of a portal, and the key that it signs with. */
export interface PortalIdentity {
  name: string;
  kid: string;
  key: KeyObject;
}

export interface Portal extends PortalIdentity {
  /** every event in the order in which it came, each number once */
  readonly heard: readonly HeardEvent[];
  /** what must not happen: a number that came before a lower one, or that was left out */
  readonly disorder: readonly string[];
  /** Signs a request: the compact JWS. */
  token(wish: Wish, options?: SendOptions): string;
  /** Sends a request; returns its id. */
  send(wish: Wish, options?: SendOptions): Promise<string>;
  /** Puts a job that is no request into a queue, and waits until it is refused: with which code; or `removed`. */
  refusal(data: unknown, queue?: SendOptions['queue']): Promise<string>;
  /** Sends a request, and waits for its verdict: accepted, or refused with code and sentence. */
  ask(wish: Wish, options?: SendOptions): Promise<Answer>;
  /** Sends a request, and waits until all that it touched is applied. Fails if it is refused or stuck. */
  get(wish: Wish, options?: SendOptions): Promise<string>;
  /** Waits until all that a request touched is applied. Fails where it is refused or stuck. */
  finish(id: string): Promise<void>;
  /** The names of the events about a request, so far. */
  told(id: string): string[];
  /** Waits for an event of that name, about that request (any, where none is named). */
  hear(event: string, id?: string): Promise<HeardEvent>;
  /** Fetches no events until `resume`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  close(): Promise<void>;
}

interface Answer {
  id: string;
  verdict: 'accepted' | 'refused';
  code?: string | undefined;
  sentence?: string | undefined;
}

/** The key of a portal that a test adds to the configuration. */
export function newPortalKey(name: string): PortalIdentity & { publicKey: string } {
  const { privateKey } = generateKeyPairSync('ed25519');
  return { name, kid: `${name}-1`, key: privateKey, publicKey: publicPem(privateKey) };
}

function publicPem(key: KeyObject): string {
  return createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();
}

/** A token with any header and claims (or their JSON): RFC 7515 section 5.1, RFC 8037 section 3.1. */
export function signClaims(
  key: KeyObject,
  header: Record<string, unknown>,
  claims: Record<string, unknown> | string,
): string {
  const part = (text: string) => Buffer.from(text).toString('base64url');
  const claimsText = typeof claims === 'string' ? claims : JSON.stringify(claims);
  const text = `${part(JSON.stringify(header))}.${part(claimsText)}`;
  return `${text}.${sign(null, Buffer.from(text), key).toString('base64url')}`;
}

/** What a job for that portal says: a compact JWS by the relay's key. Throws for any other. */
function readEvents(
  world: Pick<World, 'eventsKey'>,
  portal: string,
  token: string,
): { after: number; events: HeardEvent[] } {
  const [header = '', claims = '', signature = ''] = token.split('.');
  const bytes = Buffer.from(`${header}.${claims}`);
  if (!verify(null, bytes, world.eventsKey, Buffer.from(signature, 'base64url'))) {
    throw new Error('not signed by the relay');
  }
  const told = JSON.parse(Buffer.from(claims, 'base64url').toString()) as {
    aud: string;
    after: number;
    events: HeardEvent[];
  };
  if (told.aud !== portal) throw new Error(`for ${told.aud}`);
  return told;
}

/** Opens the portal `portal` of a world, or another that the world's configuration lists. */
export function openPortal(world: World, identity?: PortalIdentity): Portal {
  const { name, kid, key } = identity ?? {
    name: 'portal',
    kid: 'portal-1',
    key: createPrivateKey(readFileSync(world.portalKey)),
  };
  const connect = () => {
    // an admin's own key has no user in Redis
    const user = name.startsWith('admin.') ? 'owner' : (`portal.${name}` as const);
    const redis = new Redis(world.redis.urlOf(user), {
      maxRetriesPerRequest: null,
      // of this connection, or of one that BullMQ has copied from it: its password may have been changed
      retryStrategy(this: RedisOptions) {
        this.password = new URL(world.redis.urlOf(user)).password;
        return 100;
      },
    });
    redis.on('error', () => {});
    return redis;
  };
  const producer = connect();
  const consumer = connect();
  const queues = {
    requests: new Queue(`requests.${name}`, { connection: producer }),
    'requests.urgent': new Queue(`requests.urgent.${name}`, { connection: producer }),
  };
  const heard: HeardEvent[] = [];
  const disorder: string[] = [];
  const worker = new Worker(
    `events.${name}`,
    (job) => {
      const { after, events } = readEvents(world, name, (job.data as { token: string }).token);
      const last = () => heard.at(-1)?.seq ?? 0;
      if (after > last()) return Promise.resolve({ have: last() });
      for (const event of events) {
        if (event.seq <= last()) {
          // already received: a crash may repeat an event, but it must be the same event
          const before = heard.find(({ seq }) => seq === event.seq);
          if (JSON.stringify(before) !== JSON.stringify(event)) {
            disorder.push(`${event.seq} came again as another event`);
          }
          continue;
        }
        if (event.seq !== last() + 1) disorder.push(`${event.seq} came after ${last()}`);
        heard.push(event);
      }
      return Promise.resolve({ have: last() });
    },
    // an event that a restart of Redis left "active" is to come again soon
    {
      connection: consumer,
      concurrency: 1,
      lockDuration: 3000,
      stalledInterval: 1000,
      maxStalledCount: 100,
    },
  );
  for (const queue of Object.values(queues)) queue.on('error', () => {});
  worker.on('error', () => {});

  const token: Portal['token'] = (wish, options = {}) => {
    const now = Math.floor(Date.now() / 1000);
    return signClaims(
      options.key ?? key,
      { alg: 'EdDSA', kid, ...options.header },
      {
        iss: name,
        aud: world.config.realm,
        jti: options.id ?? randomUUID(),
        iat: now,
        exp: now + 3600,
        sub: options.approvedBy ?? wish.requestedBy,
        request: wish,
        ...options.claims,
      },
    );
  };
  const add = (data: unknown, queue: SendOptions['queue'] = 'requests') =>
    queues[queue].add('request', data);
  const queueOf = (wish: Wish, { queue }: SendOptions) =>
    queue ?? (URGENT.has(wish.kind) ? 'requests.urgent' : 'requests');
  const portal: Portal = {
    name,
    kid,
    key,
    heard,
    disorder,
    token,
    refusal: async (data, queue) => {
      const job = await add(data, queue);
      const reason = await eventually('a job to be refused', async () => {
        const [state, failed] = await Promise.all([
          job.getState(),
          producer.hget(queues[queue ?? 'requests'].toKey(job.id as string), 'failedReason'),
        ]);
        // removed unread: nobody is told
        return state === 'unknown' ? 'removed' : (failed ?? undefined);
      });
      return reason.split(':')[0] as string;
    },
    async send(wish, options = {}) {
      const id = options.id ?? randomUUID();
      await add({ token: token(wish, { ...options, id }) }, queueOf(wish, options));
      return id;
    },
    async ask(wish, options = {}) {
      const id = options.id ?? randomUUID();
      const queue = queueOf(wish, options);
      const job = await add({ token: token(wish, { ...options, id }) }, queue);
      const jobKey = queues[queue].toKey(job.id as string);
      return eventually(`a verdict on ${wish.kind}`, async () => {
        const reason = await producer.hget(jobKey, 'failedReason');
        if (reason !== null) {
          const [, code, sentence] = /^([A-Z_]+): (.*)$/su.exec(reason) ?? [];
          return { id, verdict: 'refused', code, sentence } as const;
        }
        const told = heard.find(
          (each) => each.request === id && /^request\.(accepted|refused)$/.test(each.event),
        );
        if (told === undefined) return undefined;
        const { event, code, data } = told;
        return event === 'request.accepted'
          ? ({ id, verdict: 'accepted' } as const)
          : ({ id, verdict: 'refused', code, sentence: data['sentence'] as string } as const);
      });
    },
    async get(wish, options) {
      const id = await portal.send(wish, options);
      await portal.finish(id);
      return id;
    },
    async finish(id) {
      const { event, code, data } = await eventually('the end of a request', () =>
        heard.find(
          (each) => each.request === id && /^request\.(done|stuck|refused)$/.test(each.event),
        ),
      );
      if (event !== 'request.done') {
        throw new Error(`${String(data['kind'])}: ${event}: ${code}: ${String(data['sentence'])}`);
      }
    },
    told: (id) => heard.filter(({ request }) => request === id).map(({ event }) => event),
    hear: (event, id) =>
      eventually(`the event ${event}`, () =>
        heard.find((each) => each.event === event && (id === undefined || each.request === id)),
      ),
    pause: () => worker.pause(),
    resume: async () => await worker.resume(),
    async close() {
      await worker.close();
      await Promise.all(Object.values(queues).map((queue) => queue.close()));
      producer.disconnect();
      consumer.disconnect();
    },
  };
  return portal;
}
