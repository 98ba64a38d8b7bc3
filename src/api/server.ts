/**
 * The HTTP server of the API. For each call, in this order: its size and its time, who makes it, whether they may, how
 * often they call, its schema; then its handler. Nothing of the body is read before the caller is known to have the
 * right.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import type { Server as TlsServer } from 'node:tls';
import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod';
import type { CallCounts } from '../backends/redis/call-counts.ts';
import { cannotRead } from '../shared/errors.ts';
import type { Config } from '../shared/config.ts';
import { findCaller, namesAdminKey, unsigned } from './caller.ts';
import { describeRoutes, documentOf } from './document.ts';
import {
  away,
  notFound,
  Problem,
  problemOf,
  PROBLEM_TYPE,
  renderProblem,
  unknownRoute,
  unreadable,
  wrongMethod,
} from './problem.ts';
import { type Caller, mayCall } from './rights.ts';
import type { Api, Route, Serving } from './route.ts';

/** The section `api` of the configuration. */
export type ApiConfig = NonNullable<Config['api']>;

const MOST_BODY_BYTES = 64 * 1024;
const MOST_HEADER_BYTES = 16 * 1024;
/** Enough for a thousand listeners and all who call meanwhile. */
const MOST_CONNECTIONS = 4096;
/** How long a client may take to agree on TLS, to send the header of a call, and to send the whole call. */
const SENT_WITHIN_MS = { header: 5000, whole: 15_000 };
/** A proxy keeps its connections for a minute. */
const KEPT_OPEN_MS = 75_000;

/** A call that may be answered. */
interface Admitted {
  /** with the configuration of its beginning */
  api: Api;
  caller: Caller | undefined;
}

/** Makes the server; it does not listen yet. */
export async function makeServer(
  serving: Serving,
  settings: ApiConfig,
  routes: readonly Route[],
  counts: CallCounts,
): Promise<FastifyInstance> {
  const server = openServer(settings);
  const ending = new AbortController();
  const calls = new WeakMap<FastifyRequest, Admitted>();
  const { log, inUse } = serving;
  const admit = admission(serving, settings, counts);

  server.addHook('preClose', (done) => {
    ending.abort();
    done();
  });
  server.addHook('onSend', (request, reply, payload, done) => {
    // otherwise the client would keep the connection, and the server would wait for it
    if (ending.signal.aborted) reply.header('connection', 'close');
    done(null, finish(request, reply, payload));
  });
  server.setErrorHandler((error, request, reply) => {
    const problem = problemOf(error);
    if (problem.status === 500)
      log.error({ error, path: request.routeOptions.url }, 'a call failed');
    return sendProblem(reply, problem);
  });
  const allowedAt = methodsOf(routes);
  server.setNotFoundHandler((request, reply) => {
    const allowed = allowedAt(request.url.replace(/[?#;].*$/su, ''));
    return sendProblem(reply, allowed.length === 0 ? unknownRoute() : wrongMethod(allowed));
  });
  parseBodies(server);
  await describeRoutes(server, inUse.current().realm);
  const all = [
    ...routes.map((of) => ({ of, method: of.method, schema: documentOf(of) })),
    ...routes
      .filter(hasHead)
      .map((of) => ({ of, method: 'HEAD', schema: { ...documentOf(of), hide: true } })),
  ];
  for (const { of, method, schema } of all) {
    server.route({
      method,
      url: of.path,
      bodyLimit: of.mostBytes ?? MOST_BODY_BYTES,
      schema,
      onRequest: async (request) => void calls.set(request, await admit(of, request)),
      handler: (request, reply) =>
        answer(of, calls.get(request) as Admitted, { request, reply, ending: ending.signal }),
    });
  }
  await server.ready();
  return server;
}

/** Returns a function that counts a call and finds its caller. It throws the Problem with which a call is refused. */
function admission(
  serving: Serving,
  settings: ApiConfig,
  counts: CallCounts,
): (of: Route, request: FastifyRequest) => Promise<Admitted> {
  const { inUse } = serving;
  return async (of, request) => {
    const api = { ...serving, config: inUse.current() };
    const count = (caller?: Caller) =>
      countCall(api.config.api ?? settings, counts, request, caller);
    const isLookedUp = of.uncounted !== true && namesAdminKey(request.raw);
    // whoever invents keys does not make PostgreSQL look for all of them
    if (isLookedUp) await count();
    let fault: unknown;
    const caller = await findCaller(api, request.raw, api.now()).catch((error: unknown) => {
      fault = error;
      return undefined;
    });
    // whoever guesses is counted, too
    if (of.uncounted !== true && (caller !== undefined || !isLookedUp)) await count(caller);
    // the caller may be a portal of PostgreSQL
    if (fault !== undefined) throw inUse.isComplete() ? fault : away();
    if (caller === undefined && of.right !== 'none') throw unsigned();
    if (!mayCall(caller, of.right)) throw notFound();
    requireReadable(of, request);
    return { api, caller };
  };
}

/** Has the route handle the call, which is told if its client has gone or the server ends. */
async function answer(
  of: Route,
  { api, caller }: Admitted,
  { request, reply, ending }: { request: FastifyRequest; reply: FastifyReply; ending: AbortSignal },
): Promise<FastifyReply> {
  const { socket } = request.raw;
  let gone: AbortController | undefined;
  const onGone = () => gone?.abort();
  try {
    const answered = await of.handle(api, {
      caller,
      params: request.params,
      query: request.query,
      body: request.body,
      // most calls wait for nothing, and making one costs a part of a read
      get signal() {
        gone ??= new AbortController();
        // it may have gone while its token was checked
        if (socket.destroyed || ending.aborted) onGone();
        socket.once('close', onGone);
        ending.addEventListener('abort', onGone);
        return gone.signal;
      },
      request,
      reply,
    });
    if (answered === undefined) return reply;
    const type = of.types?.[answered.status];
    if (type !== undefined) void reply.type(type);
    return await reply
      .code(answered.status)
      .headers(answered.headers ?? {})
      .send(answered.body);
  } finally {
    socket.off('close', onGone);
    ending.removeEventListener('abort', onGone);
  }
}

/** Monitoring asks with HEAD (RFC 9110, 9.3.2), and has no token. */
const hasHead = ({ method, right }: Route): boolean => method === 'GET' && right === 'none';

/** Returns a function that says which methods the routes of a path have. */
function methodsOf(routes: readonly Route[]): (path: string) => string[] {
  const all = routes.map((of) => ({
    pattern: new RegExp(`^${of.path.replaceAll('.', '\\.').replaceAll(/:\w+/gu, '[^/]+')}$`, 'u'),
    methods: hasHead(of) ? [of.method, 'HEAD'] : [of.method],
  }));
  return (path) =>
    all.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods);
}

/** Throws the problem for a body of a type that the route has no schema for: nothing would check it. */
function requireReadable({ bodies }: Route, request: FastifyRequest): void {
  const [type = ''] = (request.headers['content-type'] ?? '').toLowerCase().split(/[ ;]/u);
  if (bodies === undefined || Object.hasOwn(bodies, type)) return;
  throw unreadable(Object.keys(bodies));
}

function openServer(settings: ApiConfig): FastifyInstance {
  const { certificateFile, keyFile } = settings;
  const tls =
    certificateFile === undefined || keyFile === undefined
      ? undefined
      : () => readTls(certificateFile, keyFile);
  const limits = {
    maxHeaderSize: MOST_HEADER_BYTES,
    headersTimeout: SENT_WITHIN_MS.header,
    connectionsCheckingInterval: 1000,
    keepAliveTimeout: KEPT_OPEN_MS,
  };
  const options = {
    requestTimeout: SENT_WITHIN_MS.whole,
    keepAliveTimeout: KEPT_OPEN_MS,
    bodyLimit: MOST_BODY_BYTES,
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle' as const,
    return503OnClosing: false,
    trustProxy: trustOf(settings.trustedProxies),
    routerOptions: { maxParamLength: 256 },
    // nothing has so long a name; any other path here cannot be decoded
    frameworkErrors: ({ code }: { code: string }, _request: unknown, reply: unknown) => {
      const isName = code === 'FST_ERR_MAX_PARAM_LENGTH';
      sendProblem(reply as FastifyReply, isName ? notFound() : unknownRoute());
    },
    clientErrorHandler: refuseConnection,
  };
  const server = (
    tls === undefined
      ? fastify({ ...options, http: limits })
      : fastify({
          ...options,
          https: { ...limits, handshakeTimeout: SENT_WITHIN_MS.header, ...tls() },
        })
  ) as FastifyInstance;
  server.server.maxConnections = MOST_CONNECTIONS;
  if (tls !== undefined) renewTls(server, tls);
  server.setValidatorCompiler(validatorCompiler);
  server.setSerializerCompiler(serializerCompiler);
  return server;
}

/** Counts a call for its portal, or without a token for its address. Throws the problem if there are too many. */
async function countCall(
  { mostCallsPerMinute: most }: ApiConfig,
  counts: CallCounts,
  request: FastifyRequest,
  caller: Caller | undefined,
): Promise<void> {
  const [who, key, mostPerMinute] =
    caller === undefined
      ? ['This address', `address:${networkOf(request.ip)}`, most.address]
      : [
          `The portal ${caller.name}`,
          `portal:${caller.name}`,
          caller.mostCallsPerMinute ?? most.portal,
        ];
  const seconds = await counts.count(key, mostPerMinute);
  if (seconds === 0) return;
  throw new Problem(
    429,
    'CALL_TOO_OFTEN',
    `${who} may make ${mostPerMinute} calls in a minute, and a sixth of that in 10 s. Wait for ${seconds} s.`,
    { headers: { 'retry-after': String(seconds) } },
  );
}

/** Of IPv6 the network of 64 bits, which one client has alone; an address of IPv4 within IPv6 is that of IPv4. */
function networkOf(given: string | undefined): string {
  const address = given?.replace(/^::ffff:(?=[0-9.]+$)/iu, '');
  if (address === undefined || isIP(address) !== 6) return address ?? 'unix';
  const [head = '', tail] = address.replace(/%.*$/u, '').split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: Math.max(0, 8 - front.length - back.length) }, () => '0');
  return [...front, ...zeros, ...back].slice(0, 4).join(':');
}

/** Whether an address is that of a trusted proxy. Whoever connects by a unix socket has none: see docs/api.md. */
function trustOf(proxies: readonly string[]): (address: string | undefined) => boolean {
  const trusted = new BlockList();
  for (const proxy of proxies.filter((each) => each !== 'unix')) {
    const [address = '', bits] = proxy.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    trusted.addSubnet(address, Number(bits ?? (family === 'ipv6' ? 128 : 32)), family);
  }
  return (address) =>
    address === undefined
      ? proxies.includes('unix')
      : isIP(address) !== 0 && trusted.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}

function readTls(certificateFile: string, keyFile: string): { cert: Buffer; key: Buffer } {
  const read = (what: string, path: string): Buffer => {
    try {
      return readFileSync(path);
    } catch (cause) {
      throw cannotRead(what, path, cause);
    }
  };
  return { cert: read('certificate', certificateFile), key: read('key', keyFile) };
}

const RENEWED_MS = 60_000;

/** Takes a renewed certificate without a restart. One that cannot be used yet is tried again. */
function renewTls(server: FastifyInstance, read: () => { cert: Buffer; key: Buffer }): void {
  let last = read();
  const timer = setInterval(() => {
    try {
      const now = read();
      if (now.cert.equals(last.cert) && now.key.equals(last.key)) return;
      (server.server as unknown as TlsServer).setSecureContext(now);
      last = now;
    } catch {
      // it is being replaced
    }
  }, RENEWED_MS).unref();
  server.addHook('onClose', () => clearInterval(timer));
}

/** Bodies are UTF-8. */
function parseBodies(server: FastifyInstance): void {
  const decode = (bytes: Buffer): string => {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new Problem(400, 'CALL_INVALID', 'The body is not UTF-8.');
    }
  };
  const parse = (text: string): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      throw new Problem(400, 'CALL_INVALID', 'The body is not JSON.');
    }
  };
  server.removeAllContentTypeParsers();
  server.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async (_: unknown, bytes: Buffer) => parse(decode(bytes)),
  );
  for (const type of ['application/jwt', 'text/plain']) {
    server.addContentTypeParser(type, { parseAs: 'buffer' }, async (_: unknown, bytes: Buffer) =>
      decode(bytes),
    );
  }
}

const SAFE = { 'x-content-type-options': 'nosniff' } as const;

/** What every answer has; and 304 for a caller who has it already. */
function finish(request: FastifyRequest, reply: FastifyReply, payload: unknown): unknown {
  reply.headers(SAFE);
  const isRead = request.method === 'GET' && reply.statusCode === 200;
  if (!isRead || typeof payload !== 'string') {
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store');
    return payload;
  }
  const tag = `"${createHash('sha256').update(payload).digest('base64url').slice(0, 27)}"`;
  reply.headers({ etag: tag, 'cache-control': 'private, no-cache', vary: 'authorization' });
  const known = request.headers['if-none-match'];
  if (known === undefined || !isNamed(known, tag)) return payload;
  reply.code(304).removeHeader('content-type').removeHeader('content-length');
  return null;
}

/** Whether `If-None-Match` names a tag (RFC 9110, 13.1.2). */
function isNamed(header: string, tag: string): boolean {
  return header.split(',').some((each) => ['*', tag].includes(each.trim().replace(/^W\//u, '')));
}

function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  return reply
    .code(problem.status)
    .headers({
      ...problem.headers,
      ...SAFE,
      'cache-control': 'no-store',
      'content-type': PROBLEM_TYPE,
    })
    .serializer((text: unknown) => text as string)
    .send(renderProblem(problem));
}

/** What is no HTTP, or comes too slowly or too long. */
function refuseConnection(
  { code }: { code?: string },
  socket: { writable: boolean; end(text: string): void; destroy(): void },
): void {
  if (code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, words, problem]: [number, string, Problem] =
    code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? [
          408,
          'Request Timeout',
          new Problem(408, 'CALL_INVALID', 'The call took too long to arrive.'),
        ]
      : code === 'HPE_HEADER_OVERFLOW'
        ? [431, 'Request Header Fields Too Large', new Problem(431, 'CALL_TOO_LARGE')]
        : [400, 'Bad Request', new Problem(400, 'CALL_INVALID', 'That is not HTTP.')];
  const body = renderProblem(problem);
  const head = [
    `HTTP/1.1 ${status} ${words}`,
    `content-type: ${PROBLEM_TYPE}`,
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}
