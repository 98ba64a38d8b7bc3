/**
 * A route of the API: one value that says how it is called, which right it needs, and what it answers. The same schemas
 * check a call, check the answer, and are shown in /openapi.json. src/api/routes has the routes; its index lists them.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type * as z from 'zod';
import type { EventInbox } from '../backends/redis/event-inbox.ts';
import type { Queues } from '../backends/redis/queue.ts';
import type { Pool } from '../database/connection.ts';
import type { ConfigInUse } from '../configuration/config-in-use.ts';
import type { gatherReads } from '../database/gathering.ts';
import type { Config } from '../shared/config.ts';
import type { Log } from '../shared/log.ts';
import type { Outcomes } from './outcomes.ts';
import type { Caller, Right } from './rights.ts';

/** What handlers work with. */
export interface Api extends Serving {
  /** of this call: taken once, when it came */
  config: Config;
}

/** What the API serves with. */
export interface Serving {
  inUse: ConfigInUse;
  /** of the role `api`, which may read views */
  pool: Pool;
  /** runs short reads by a key, those of the same moment together (src/database/gathering.ts) */
  gathered: ReturnType<typeof gatherReads>;
  queues: Queues;
  outcomes: Outcomes;
  events: EventInbox;
  log: Log;
  now(): Date;
}

/** One call, as its handler sees it: checked. */
interface ApiCall<W extends Right, P, Q, B> {
  /** undefined only where no right is needed, and nobody gave a token */
  caller: W extends 'none' ? Caller | undefined : Caller;
  params: P;
  query: Q;
  body: B;
  /** aborts when the client has gone, or the API ends */
  signal: AbortSignal;
  /** for what the schemas do not cover, such as the header `Last-Event-ID` */
  request: FastifyRequest;
  /** to take the connection over (`reply.hijack()`); the handler then returns undefined */
  reply: FastifyReply;
}

type Schema = z.ZodType;
/** By status. A text in HTML or another format has the schema of a string, and a content type in `types`. */
type Replies = Readonly<Record<number, Schema>>;

type Answer<R extends Replies> = {
  [S in keyof R & number]: {
    status: S;
    body: z.output<R[S]>;
    headers?: Record<string, string>;
  };
}[keyof R & number];

interface Definition<
  W extends Right,
  P extends Schema,
  Q extends Schema,
  B extends Schema,
  R extends Replies,
> {
  method: 'GET' | 'POST';
  /** with parameters as `:name` */
  path: `/${string}`;
  /** one line, for the document */
  summary: string;
  /** more, for the document */
  description?: string;
  right: W;
  params?: P;
  /** a strict object: each value is a text, or a list if it is given twice */
  query?: Q;
  /** by content type; the handler gets the value of the one that was sent */
  bodies?: Readonly<Record<string, B>>;
  /** of the body, in bytes; 64 KiB by default */
  mostBytes?: number;
  replies: R;
  /** content types of answers that are not JSON, by status */
  types?: Readonly<Record<number, string>>;
  /** counts no calls: for what only says that the API is there */
  uncounted?: boolean;
}

type Handler<
  W extends Right,
  P extends Schema,
  Q extends Schema,
  B extends Schema,
  R extends Replies,
> = (
  api: Api,
  call: ApiCall<W, z.output<P>, z.output<Q>, z.output<B>>,
) => Promise<Answer<R> | undefined>;

/** A route of any kind. */
export type Route = Definition<Right, Schema, Schema, Schema, Replies> & {
  handle: Handler<Right, Schema, Schema, Schema, Replies>;
};

/**
 * Says what a route is; `handle` then says what it does. The handler knows the types of what it gets and of what it must
 * answer. What it throws becomes a problem document: src/api/problem.ts has those that a handler may mean.
 */
export function route<
  W extends Right,
  const R extends Replies,
  P extends Schema = z.ZodNever,
  Q extends Schema = z.ZodNever,
  B extends Schema = z.ZodNever,
>(definition: Definition<W, P, Q, B, R>): { handle(by: Handler<W, P, Q, B, R>): Route } {
  return { handle: (by) => ({ ...definition, handle: by }) as unknown as Route };
}
