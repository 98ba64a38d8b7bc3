/**
 * Acts as a portal: signs requests, adds them to the queue, and receives their events in a BullMQ worker of its
 * own on `events.portal`. It uses none of Chamberlain's own queue code.
 */
import { randomUUID } from 'node:crypto';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { readSigningKey, signToken } from '../src/requests/token.ts';
import { now } from './tools/figure.ts';
import type { MeasuredRealm } from './realm.ts';

/** The portal that sends requests, unless another is named. */
const PORTAL = 'portal';
const PATIENCE_MS = 60_000;

/** A request, signed and not sent yet. */
export interface Signed {
  jti: string;
  token: string;
}

/** An event as the portal's worker received it; all times in milliseconds since 1970. */
export interface Heard {
  event: string;
  jti: string | undefined;
  /** when the transaction that wrote it began */
  writtenAt: number;
  /** when it was put into Redis */
  queuedAt: number;
  /** when the portal's worker received it */
  heardAt: number;
}

export interface Portal {
  sign(requestedBy: string, request: Record<string, unknown>): Promise<Signed>;
  send(requests: readonly Signed[], options?: { urgent?: boolean }): Promise<void>;
  /** Waits for an event about a request, from this call on; throws if the request is refused or stuck. */
  until(jti: string, event: string): Promise<Heard>;
  /** Sends, and waits until everything that the request touched is applied. */
  settle(requestedBy: string, request: Record<string, unknown>): Promise<void>;
  /** Takes no events until `resume`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Is called with each event as it comes. */
  onHeard(listener: (heard: Heard) => void): void;
  close(): Promise<void>;
}

/** @param name one of the realm's portals */
export async function openPortal(realm: MeasuredRealm, name = PORTAL): Promise<Portal> {
  const { config, stack } = realm;
  const key = readSigningKey(realm.keyOf(name));
  const redisUrl = stack.redis.urlOf(`portal.${name}`);
  const producer = new Redis(redisUrl, { maxRetriesPerRequest: 1 });
  const consumer = new Redis(redisUrl, { maxRetriesPerRequest: null });
  const queues = new Map(
    ['requests', 'requests.urgent'].map((queue) => [
      queue,
      new Queue(`${queue}.${name}`, { connection: producer }),
    ]),
  );
  const waiting = new Map<
    string,
    { resolve: (heard: Heard) => void; reject: (error: Error) => void }
  >();
  const listeners: ((heard: Heard) => void)[] = [];
  let last = 0;
  const hear = (heard: Heard, data: unknown): void => {
    for (const listener of listeners) listener(heard);
    if (heard.jti === undefined) return;
    if (heard.event === 'request.refused' || heard.event === 'request.stuck') {
      const failure = new Error(`${heard.event}: ${JSON.stringify(data)}`);
      for (const [awaited, waiter] of waiting) {
        if (awaited.startsWith(`${heard.jti} `)) waiter.reject(failure);
      }
    }
    waiting.get(`${heard.jti} ${heard.event}`)?.resolve(heard);
  };
  const worker = new Worker(
    `events.${name}`,
    async (job) => {
      const heardAt = now();
      const claims = (job.data as { token: string }).token.split('.')[1] ?? '';
      const { after, events } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as {
        after: number;
        events: { seq: number; event: string; at: string; request?: string; data?: unknown }[];
      };
      for (const data of after <= last ? events : []) {
        if (data.seq <= last) continue;
        last = data.seq;
        hear(
          {
            event: data.event,
            jti: data.request,
            writtenAt: parseMoment(data.at),
            queuedAt: job.timestamp,
            heardAt,
          },
          data,
        );
      }
      return Promise.resolve({ have: last });
    },
    { connection: consumer, concurrency: 1 },
  );
  worker.on('error', () => {});
  await worker.waitUntilReady();

  const portal: Portal = {
    async sign(requestedBy, request) {
      const jti = randomUUID();
      const token = await signToken(key, {
        portal: name,
        realm: config.realm,
        kid: `${name}-1`,
        jti,
        sub: requestedBy,
        request: { ...request, requestedBy },
        now: new Date(),
      });
      return { jti, token };
    },
    async send(requests, { urgent = false } = {}) {
      const jobs = requests.map(({ token }) => ({
        name: 'request',
        data: { token },
        opts: { attempts: 1 },
      }));
      const queue = queues.get(urgent ? 'requests.urgent' : 'requests') as Queue;
      const [only, ...others] = jobs;
      if (only !== undefined && others.length === 0)
        await queue.add(only.name, only.data, only.opts);
      else await queue.addBulk(jobs);
    },
    until(jti, event) {
      const awaited = `${jti} ${event}`;
      return new Promise<Heard>((resolve, reject) => {
        const timer = setTimeout(
          () => end(() => reject(new Error(`no ${event} within ${PATIENCE_MS / 1000} s`))),
          PATIENCE_MS,
        ).unref();
        const end = (act: () => void) => {
          clearTimeout(timer);
          waiting.delete(awaited);
          act();
        };
        waiting.set(awaited, {
          resolve: (heard) => end(() => resolve(heard)),
          reject: (error) => end(() => reject(error)),
        });
      });
    },
    async settle(requestedBy, request) {
      const signed = await portal.sign(requestedBy, request);
      const done = portal.until(signed.jti, 'request.done');
      await portal.send([signed]);
      await done;
    },
    pause: () => worker.pause(),
    resume: async () => await worker.resume(),
    onHeard: (listener) => void listeners.push(listener),
    async close() {
      await worker.close();
      for (const queue of queues.values()) await queue.close();
      producer.disconnect();
      consumer.disconnect();
    },
  };
  return portal;
}

/** PostgreSQL's microseconds, which Date truncates. */
function parseMoment(text: string): number {
  const micros = /\.\d{3}(\d{1,3})/.exec(text)?.[1] ?? '0';
  return Date.parse(text) + Number(`0.${micros}`);
}
