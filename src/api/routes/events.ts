/** Events for portals that take them over HTTP: asked for one after another, or as a stream. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import * as z from 'zod';
import { withClient } from '../../database/connection.ts';
import type { Config } from '../../shared/config.ts';
import { readLastEvent } from '../callers-queries.ts';
import { type NextEvents, takeEvents } from '../portal-events.ts';
import { notFound, Problem } from '../problem.ts';
import type { Caller } from '../rights.ts';
import { type Api, route } from '../route.ts';

const MOST_WAIT_SECONDS = 60;
/** Of one portal. Each gets all events. */
const MOST_LISTENERS = 16;
/** A stream that says nothing for this long might be cut by a proxy, so it says that it is still there. */
const PULSE_MS = 15_000;
const NO_EVENTS = ': no events yet\n\n';

/** `Number('')` is 0, which would mean that a portal has nothing. */
const number = z
  .string()
  .regex(/^[0-9]{1,15}$/u)
  .transform(Number);
const after = number.describe(
  'the number of the last event that the portal has, which confirms it',
);

const listeners = new Map<string, number>();

export const EVENT_ROUTES = [
  route({
    method: 'GET',
    path: '/v1/events',
    summary: 'receive events',
    description:
      'The answer is the token that the relay has signed: docs/portals.md says what is in it. It may contain events that the portal has. Every event comes at least once and in order: ask for those after the last one that you have stored.',
    right: 'token',
    query: z.strictObject({
      after,
      seconds: z.coerce
        .number()
        .min(0)
        .max(MOST_WAIT_SECONDS)
        .default(30)
        .describe('how long to wait for events'),
    }),
    replies: {
      200: z.string().describe('the next events'),
      204: z.undefined().describe('none have come'),
    },
    types: { 200: 'application/jwt' },
  }).handle(async (api, { caller, query, signal }) => {
    const portal = portalOf(api, caller);
    await requireNumber(api, portal, query.after);
    const changed = untilChanged(api, portal);
    const late = AbortSignal.timeout(Math.ceil(query.seconds * 1000));
    const until = AbortSignal.any([signal, changed.signal, late]);
    const next = await takeEvents(api.events, portal, query.after, until).finally(changed.close);
    if (next === undefined) return { status: 204, body: undefined };
    return { status: 200, body: next.token };
  }),
  route({
    method: 'GET',
    path: '/v1/events/stream',
    summary: 'receive events as a stream',
    description:
      'Server-Sent Events. The data of each is a token as /v1/events answers it, and its id is the number of the last event in that token. After an interruption, connect again with the header `Last-Event-ID`. Until then, whatever was sent counts as received. Several streams of one portal each get every event.',
    right: 'token',
    query: z.strictObject({ after: after.optional() }),
    replies: { 200: z.string().describe('the stream') },
    types: { 200: 'text/event-stream' },
  }).handle(async (api, { caller, query, signal, request, reply }) => {
    const portal = portalOf(api, caller);
    const header = request.headers['last-event-id'];
    const from = header === undefined ? query.after : number.safeParse(header).data;
    if (from === undefined) {
      throw new Problem(
        400,
        'CALL_INVALID',
        'Give the number of the last event that the portal has, as `after` or in the header `Last-Event-ID`.',
      );
    }
    await requireNumber(api, portal, from);
    const count = listeners.get(portal) ?? 0;
    if (count >= MOST_LISTENERS) {
      throw new Problem(
        429,
        'CALL_TOO_OFTEN',
        `The portal has ${count} streams already. Close one of them first.`,
        {
          headers: { 'retry-after': '5' },
        },
      );
    }
    listeners.set(portal, count + 1);
    const changed = untilChanged(api, portal);
    try {
      // what may go wrong at once is answered with its status
      const first = await takeEvents(api.events, portal, from, AbortSignal.abort());
      reply.hijack();
      await stream(
        api,
        reply.raw,
        { portal, after: from, first },
        AbortSignal.any([signal, changed.signal]),
      );
    } finally {
      changed.close();
      listeners.set(portal, (listeners.get(portal) ?? 1) - 1);
    }
    return undefined;
  }),
];

/** The portal of the caller, if its events come over HTTP. */
function portalOf({ config }: Api, caller: Caller): string {
  if (caller.admin !== undefined) throw notFound();
  const portal = config.portals.find(({ name }) => name === caller.name);
  if (portal?.events === 'http') return caller.name;
  throw new Problem(
    409,
    'EVENTS_BY_QUEUE',
    `The events of the portal ${caller.name} are in its queue. ${
      portal?.byRequest === true
        ? 'A portal that was added by request cannot change this: for HTTP, add another portal, under another name (portal.add).'
        : 'An operator can set its `events` to `http`, and run `chamberlain reload`.'
    }`,
  );
}

/**
 * Aborts when the portal is removed, or changed in any way: whoever listens by a key that is gone must not go on, and
 * others connect again.
 */
function untilChanged({ inUse, config }: Api, portal: string) {
  const changed = new AbortController();
  const textOf = ({ portals }: Config) =>
    JSON.stringify(portals.find(({ name }) => name === portal));
  const look = () => {
    if (textOf(following.take()) !== textOf(config)) changed.abort();
  };
  const following = inUse.follow(look);
  look(); // it may have changed since the call began
  return { signal: changed.signal, close: () => following.close() };
}

/** Refuses a number that no event of the portal has yet: the relay would wait until the portal names another. */
async function requireNumber({ pool }: Api, portal: string, asked: number): Promise<void> {
  const last = await withClient(pool, (client) => readLastEvent(client, portal)).catch(
    () => asked, // the events themselves come without PostgreSQL
  );
  if (asked <= last) return;
  throw new Problem(
    409,
    'EVENT_UNKNOWN',
    `The portal ${portal} has no event ${asked}: the last one is ${last}.`,
  );
}

interface Listener {
  portal: string;
  after: number;
  first: NextEvents | undefined;
}

/** Sends events until the client has gone or the API ends. */
async function stream(
  { events, log }: Api,
  raw: ServerResponse,
  { portal, after: from, first }: Listener,
  signal: AbortSignal,
): Promise<void> {
  raw.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'x-accel-buffering': 'no', // nginx: pass each event on at once
    connection: 'close', // otherwise the client would keep it when the API ends, and the API would wait for it
  });
  const pulse = setInterval(() => {
    if (!raw.writableNeedDrain) raw.write(NO_EVENTS);
  }, PULSE_MS);
  try {
    if (first === undefined) raw.write(NO_EVENTS);
    for (let [next, position] = [first, from]; !signal.aborted;) {
      if (next !== undefined) {
        position = next.last;
        const text = `id: ${next.last}\nevent: events\ndata: ${next.token}\n\n`;
        if (!raw.write(text)) await once(raw, 'drain', { signal });
      }
      next = await takeEvents(events, portal, position, signal);
    }
  } catch (error) {
    // the client connects again, and then gets the problem
    if (!signal.aborted) log.warn({ error, portal }, 'a stream of events has ended');
  } finally {
    clearInterval(pulse);
    raw.end();
  }
}
