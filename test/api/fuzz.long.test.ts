/**
 * Tens of thousands of calls of every route, by every kind of caller, made from the API's own document: values that fit,
 * values that nearly fit, and hostile ones. Whatever is sent, nothing fails, nothing is betrayed, and no right is crossed.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { join } from 'node:path';
import fc from 'fast-check';
import { PROBLEM_TYPE } from '../../src/api/problem.ts';
import { mayCall, type Right } from '../../src/api/rights.ts';
import { ROUTES } from '../../src/api/routes/index.ts';
import { type ApiWorld, openApiWorld, PORTALS, type PortalName } from './api-world.ts';

const CALLS = Number(process.env['CHAMBERLAIN_ROUNDS'] ?? 20_000);
const AT_ONCE = 32;
/** A call that waits for events or an outcome is given up after this time, as by a client that goes away. */
const PATIENCE_MS = 500;
/** Any other call has its answer by then, also from a busy machine. */
const ANSWERED_WITHIN_MS = 30_000;
const ID = '5ec2e7ed-0000-4000-8000-000000000001';

/** What only some callers may see: put in beforehand, and in no call. */
const publicKey = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'der' });
const sshString = (bytes: Buffer) => Buffer.concat([Buffer.from([0, 0, 0, bytes.length]), bytes]);
const MARKS = {
  mail: 'hidden-mail-of-wilma',
  reason: 'hidden-reason-of-wilma',
  key: Buffer.concat([
    sshString(Buffer.from('ssh-ed25519')),
    sshString(publicKey.subarray(-32)),
  ]).toString('base64'),
};

let api: ApiWorld;
let secrets: string[];
let document: { paths: Record<string, Record<string, Operation>> };
let kinds: Schema[];

interface Operation {
  parameters?: { name: string; in: string; schema: Schema }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
}
type Schema = Record<string, any>;

beforeAll(async () => {
  api = await openApiWorld('api fuzz', { roles: ['intake', 'relay'] });
  await prepare();
  secrets = readSecrets();
  document = (await api.get('/openapi.json')).body;
  const listed: { kind: string }[] = (await api.get('/v1/kinds')).body.kinds;
  const schemas = listed.map(({ kind }) => api.get(`/v1/kinds/${kind}/schema`));
  kinds = (await Promise.all(schemas)).map(({ body }) => body);
});
afterAll(() => api.close());

/** People with marks. Their requests come from the portal `portal`, which has no right to read. */
async function prepare(): Promise<void> {
  const person = (shellName: string, email: string) => ({
    ...{ kind: 'person.create', requestedBy: shellName, shellName, email },
    displayName: `The ${shellName}`,
  });
  const give = async (request: Record<string, unknown>, claims = {}) => {
    const sent = await api.call('POST', '/v1/requests?wait=verdict', {
      ...{ as: 'portal', type: 'application/jwt' },
      body: api.requestToken('portal', request, claims),
    });
    expect(sent.body).toMatchObject({ verdict: 'accepted' });
  };
  await give(person('wilma', `${MARKS.mail}@example.org`));
  await give(person('alice', 'alice@example.org'));
  await give({ kind: 'access.request', requestedBy: 'wilma', reason: MARKS.reason }, { jti: ID });
  await give({
    kind: 'key.add',
    requestedBy: 'wilma',
    person: 'wilma',
    key: `ssh-ed25519 ${MARKS.key} wilma`,
  });
}

/** Every password and private key of this realm, and the folders in which they are. */
function readSecrets(): string[] {
  const { dir, config } = api.world;
  const files = [dir, config.secrets].flatMap((folder) =>
    readdirSync(folder, { withFileTypes: true })
      .filter((each) => each.isFile() && !each.name.startsWith('config'))
      .map(({ name }) => readFileSync(join(folder, name), 'utf8').trim()),
  );
  const texts = files.map((text) => text.replace(/-----[^-]+-----|\n/gu, ''));
  return [...texts.filter((text) => text.length >= 12), dir, config.secrets, process.cwd()];
}

// --- what is sent

const NAMES = ['wilma', 'alice', 'steward', 'tools.admin', 'admin', 'newbot', 'portal', 'may-all'];
const HOSTILE = fc.constantFrom(
  ...[
    '',
    ' ',
    '\0',
    'a\0b',
    '.',
    '..',
    '../../etc/passwd',
    '/',
    '\\',
    '%',
    '%00',
    '%2e%2e%2f',
    '*',
  ],
  ...[
    "' OR 1=1 --",
    '"',
    ';',
    '<script>',
    '${7*7}',
    '__proto__',
    'constructor',
    'toString',
    'null',
  ],
  ...['NaN', 'Infinity', '1e309', '-0', '-1', '0x10', '1.5', '9'.repeat(19), '9'.repeat(400)],
  ...['\r\nset-cookie: a=b', '\u202e', 'ﬀ', '\u0130', '𝒳', 'x'.repeat(300), 'a.b.c', ID],
);
const STRANGE = fc.constantFrom<unknown[]>(
  ...[null, true, 0, -1, 2 ** 53, 1e308, -1e-300, [], {}, [[]], { __proto__: null, a: 1 }],
);
const text = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...NAMES) },
  { weight: 2, arbitrary: HOSTILE },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }) },
);

/** A value that fits a JSON Schema, as far as it can be read off. */
function fitting(schema: Schema, root: Schema = schema): fc.Arbitrary<unknown> {
  if ('$ref' in schema) {
    const path = String(schema['$ref']).split('/').slice(1);
    return fitting(
      path.reduce((at, part) => at[part], root),
      root,
    );
  }
  if ('const' in schema) return fc.constant(schema['const']);
  if ('enum' in schema) return fc.constantFrom(...schema['enum']);
  const several: Schema[] | undefined = schema['anyOf'] ?? schema['oneOf'];
  if (several !== undefined) return fc.oneof(...several.map((each) => fitting(each, root)));
  switch ([schema['type']].flat()[0]) {
    case 'integer':
    case 'number':
      return fc.integer({
        min: schema['minimum'] ?? 0,
        max: Math.min(schema['maximum'] ?? 9, 1e9),
      });
    case 'boolean':
      return fc.boolean();
    case 'array': {
      const [minLength, maxLength] = [schema['minItems'] ?? 0, (schema['minItems'] ?? 0) + 3];
      return fc.array(fitting(schema['items'] ?? {}, root), { minLength, maxLength });
    }
    case 'object': {
      const fields = Object.entries((schema['properties'] ?? {}) as Record<string, Schema>);
      return fc.record(Object.fromEntries(fields.map(([key, of]) => [key, nearly(of, root)])), {
        requiredKeys: schema['required'] ?? [],
      });
    }
    case 'string':
      if (schema['format'] === 'uuid') return fc.oneof(fc.uuid(), fc.constant(ID));
      if (schema['format'] === 'date-time') return fc.constant(new Date().toISOString());
      return schema['pattern'] === undefined ? text : fc.oneof(matching(schema['pattern']), text);
    default:
      return fc.oneof(text, STRANGE);
  }
}

function matching(pattern: string): fc.Arbitrary<string> {
  try {
    return fc.stringMatching(new RegExp(pattern, 'u'), { maxLength: 64 });
  } catch {
    return text; // a look-ahead
  }
}

/** A value that fits in nine cases of ten. */
const nearly = (schema: Schema, root?: Schema): fc.Arbitrary<unknown> =>
  fc.oneof(
    { weight: 18, arbitrary: fitting(schema, root) },
    { weight: 1, arbitrary: text },
    { weight: 1, arbitrary: STRANGE },
  );

type As = PortalName | 'nobody' | 'a wrong key' | 'a token of another call' | 'garbage';
const CALLERS: As[] = [
  ...(Object.keys(PORTALS) as PortalName[]),
  ...(['admin.steward', 'admin.leaver', 'nobody'] as const),
  ...(['a wrong key', 'a token of another call', 'garbage'] as const),
];

interface Sent {
  method: string;
  /** of the document */
  path: string;
  params: Record<string, string>;
  query: [string, string][];
  as: As;
  headers: Record<string, string>;
  body: { type?: string; text?: string | Uint8Array; request?: unknown; check?: boolean };
}

const ODD_HEADERS = fc.oneof(
  { weight: 6, arbitrary: fc.constant({}) },
  {
    weight: 4,
    arbitrary: fc.constantFrom<Record<string, string>[]>(
      { 'if-none-match': '*' },
      { 'if-none-match': '"x", W/"y", , "' },
      { 'last-event-id': '0' },
      { 'last-event-id': '9'.repeat(30) },
      { 'last-event-id': '-1' },
      { 'x-forwarded-for': '::1, 127.0.0.1, %, 999.1.1.1' },
      { forwarded: 'for="[::1]";proto=https' },
      { 'x-http-method-override': 'DELETE' },
      { 'content-encoding': 'gzip' },
      { 'accept-encoding': 'br;q=9', accept: 'text/html;q=x,*/*' },
      { host: '@:99999/' },
      { range: 'bytes=0-1,5-' },
      { cookie: '__proto__=1; a=eyJ' },
      { connection: 'upgrade', upgrade: 'h2c' },
      { 'x-odd': '\u00e4\u00ff'.repeat(500) },
    ),
  },
);

const TYPES = fc.constantFrom(
  ...['application/json', 'application/jwt', 'text/plain', 'application/json; charset=utf-16'],
  ...[
    'image/png',
    'multipart/form-data; boundary=x',
    'application/x-www-form-urlencoded',
    '/',
    ';',
  ],
);
const BAD_BODIES = fc.constantFrom<(string | Uint8Array)[]>(
  ...[
    '',
    '{',
    '[]',
    '[[]]',
    'null',
    '"x"',
    '1e999',
    '{"key":"\\ud800"}',
    '{"__proto__":{"key":"x"}}',
  ],
  ...['['.repeat(3000), '{"key":'.repeat(2000), 'x'.repeat(70_000), '\ufeff{"key":"x"}', 'a.b.c'],
  ...[Buffer.from([0xff, 0xfe]), Buffer.from([0x22, 0xc0, 0x80, 0x22]), Buffer.alloc(300)],
);

const textOf = (value: unknown): string =>
  typeof value === 'string' ? value : JSON.stringify(value);

/** The body of an operation: of its schema, the token of a request, or a bad one. */
function bodyOf({ requestBody }: Operation): fc.Arbitrary<Sent['body']> {
  const bad = fc.record({ type: TYPES, text: BAD_BODIES });
  if (requestBody === undefined) {
    return fc.oneof({ weight: 9, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: bad });
  }
  const types = Object.entries(requestBody.content);
  const fits = types.map(([type, { schema }]) =>
    nearly(schema).map((value) => ({
      type,
      text: type.includes('json') ? JSON.stringify(value) : textOf(value),
    })),
  );
  if (!types.some(([type]) => type === 'application/jwt'))
    return fc.oneof(...fits, ...fits, bad, fc.constant({}));
  const requests = fc
    .tuple(fc.oneof(...kinds.map((schema) => nearly(schema))), fc.boolean())
    .map(([request, check]) => ({ type: 'application/jwt', request, check }));
  return fc.oneof({ weight: 6, arbitrary: requests }, ...fits, bad, fc.constant({}));
}

function callArbitrary(): fc.Arbitrary<Sent> {
  const operations = Object.entries(document.paths).flatMap(([path, of]) =>
    Object.entries(of).map(([method, operation]) => ({ method, path, operation })),
  );
  const calls = operations.map(({ method, path, operation }) => {
    const parameters = operation.parameters ?? [];
    const params = parameters.filter((each) => each.in === 'path');
    const query = parameters.filter((each) => each.in === 'query');
    const asText = (schema: Schema) => nearly(schema).map(textOf);
    const entries = query.map(({ name, schema }) =>
      fc.tuple(fc.constant(name), shortened(name, asText(schema))),
    );
    return fc.record({
      method: fc.oneof(
        { weight: 30, arbitrary: fc.constant(method.toUpperCase()) },
        { weight: 1, arbitrary: fc.constantFrom('HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PATCH') },
      ),
      path: fc.constant(path),
      params: fc.record(Object.fromEntries(params.map((of) => [of.name, asText(of.schema)]))),
      // also twice, and also such as the route does not know
      query: fc.array(fc.oneof(...entries, ...entries, fc.tuple(text, text)), {
        maxLength: query.length === 0 ? 1 : 4,
      }),
      as: fc.constantFrom(...CALLERS),
      headers: ODD_HEADERS,
      body: bodyOf(operation),
    });
  });
  return fc.oneof(...calls);
}

/** A wait is seldom long, so that the calls are many. */
const shortened = (name: string, of: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  name === 'seconds'
    ? fc.oneof(
        { weight: 9, arbitrary: fc.constantFrom('0', '0.02', '0.1') },
        { weight: 1, arbitrary: of },
      )
    : of;

// --- sending it

const encode = (value: string): string =>
  encodeURIComponent(value.toWellFormed()).replace(/^\.+$/u, (dots) => '%2e'.repeat(dots.length));
const strangeKey = generateKeyPairSync('ed25519').privateKey;

function targetOf({ path, params, query }: Sent): string {
  const at = path.replace(/\{(\w+)\}/gu, (_, name: string) => encode(params[name] ?? ''));
  const pairs = query.map(([name, value]) => `${encode(name)}=${encode(value)}`);
  return pairs.length === 0 ? at : `${at}?${pairs.join('&')}`;
}

function authorizationOf({ as, method }: Sent, target: string): string | undefined {
  if (as === 'nobody') return undefined;
  if (as === 'garbage') return 'Chamberlain eyJhbGciOiJub25lIn0.e30.x';
  if (as === 'a wrong key') return api.tokenFor('may-all', method, target, { key: strangeKey });
  if (as === 'a token of another call') return api.tokenFor('may-all', method, `${target}&x`);
  return api.tokenFor(as, method, target);
}

function renderBody({ as, body }: Sent): string | Uint8Array | undefined {
  if (body.request === undefined) return body.text;
  const signer = as in PORTALS || as === 'admin.steward' ? (as as PortalName) : 'portal';
  const request = body.request as Record<string, unknown>;
  const claims = { sub: request?.['requestedBy'] ?? 'alice' };
  return api.requestToken(signer, request ?? {}, {
    ...(typeof claims.sub === 'string' ? claims : { sub: 'alice' }),
    ...(body.check === true ? { check: true } : {}),
  });
}

interface Heard {
  /** undefined: it was given up */
  status: number | undefined;
  headers: IncomingMessage['headers'];
  text: string;
}

function send(sent: Sent, target: string): Promise<Heard> {
  const authorization = authorizationOf(sent, target);
  const body = renderBody(sent);
  const headers = {
    ...sent.headers,
    ...(authorization === undefined ? {} : { authorization }),
    ...(sent.body.type === undefined ? {} : { 'content-type': sent.body.type }),
    ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }),
  };
  return new Promise((resolve, reject) => {
    const given = { host: '127.0.0.1', port: api.port, method: sent.method, path: target, headers };
    const asking = httpRequest(given, (response) => {
      const chunks: Buffer[] = [];
      const { statusCode: status, headers: heard } = response;
      const end = () => {
        clearTimeout(timer);
        resolve({ status, headers: heard, text: Buffer.concat(chunks).toString() });
      };
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', end);
      response.on('error', end);
      if (heard['content-type'] === 'text/event-stream')
        response.once('data', () => asking.destroy());
    });
    const mayWait = /^\/v1\/(events|requests|checks)/u.test(sent.path);
    const timer = setTimeout(
      () => {
        resolve({ status: mayWait ? undefined : 599, headers: {}, text: 'no answer' });
        asking.destroy();
      },
      mayWait ? PATIENCE_MS : ANSWERED_WITHIN_MS,
    );
    asking.on('error', (error: NodeJS.ErrnoException) => {
      // the server may answer and close before it has read a body that is too long
      clearTimeout(timer);
      if (error.code === 'EPIPE' || error.code === 'ECONNRESET') {
        resolve({ status: undefined, headers: {}, text: '' });
      } else reject(error);
    });
    asking.end(body);
  });
}

// --- what must not be heard

const rightOf = new Map<string, Right>(
  ROUTES.map(({ method, path, right }) => [`${method} ${path.replace(/:(\w+)/gu, '{$1}')}`, right]),
);

function readsOf(as: As): readonly Exclude<Right, 'none' | 'token'>[] | undefined {
  if (as === 'admin.steward') return ['all'];
  return as in PORTALS ? PORTALS[as as keyof typeof PORTALS] : undefined;
}

/** What is wrong with an answer, in words. */
function findFaults(sent: Sent, { status, headers, text: all }: Heard): string[] {
  const faults: string[] = [];
  if (status === undefined) return faults;
  const reads = readsOf(sent.as);
  const caller = reads && { name: sent.as, admin: undefined, reads };
  if (status >= 500) faults.push(`status ${status}`);
  const isProblem = headers['content-type'] === PROBLEM_TYPE;
  if (status >= 400 && sent.method !== 'HEAD' && !isProblem) faults.push('no problem document');
  // whole values of the path alone make sure that the route is found
  const isFound = Object.values(sent.params).every((of) => of.length > 0 && of.length < 64);
  const right = rightOf.get(`${sent.method} ${sent.path}`);
  if (right !== undefined && isFound && !('host' in sent.headers)) {
    const isKnown = caller !== undefined || (sent.as === 'nobody' && right === 'none');
    if (!isKnown && status !== 401) faults.push(`${status} for ${sent.as}, who is not known`);
    if (isKnown && status === 401) faults.push(`401 for ${sent.as}`);
    if (isKnown && !mayCall(caller, right) && status !== 404) faults.push('a right is crossed');
  }
  // areas and folders of archives, which lie in the folder of this realm, are shown to callers with the right `all`
  const hidden = reads?.includes('all')
    ? secrets.filter((each) => each !== api.world.dir)
    : secrets;
  for (const secret of hidden) if (all.includes(secret)) faults.push(`betrays ${secret}`);
  if (/\n\s+at |node_modules|node:internal|\.ts:\d|SELECT /u.test(all))
    faults.push('a stack trace');
  if (all.includes('eyJ') && headers['content-type'] === PROBLEM_TYPE) faults.push('a token');
  if (Object.keys(headers).includes('set-cookie')) faults.push('a header that was sent');
  const sees = {
    mail: mayCall(caller, 'mail'),
    reason: mayCall(caller, 'all'),
    key: mayCall(caller, 'all'),
  };
  for (const [what, mark] of Object.entries(MARKS)) {
    if (all.includes(mark) && !sees[what as keyof typeof MARKS]) faults.push(`shows a ${what}`);
  }
  return faults;
}

test('calls of all routes by all callers', async () => {
  const seed = Number(process.env['CHAMBERLAIN_SEED'] ?? Date.now() % 1_000_000);
  process.stdout.write(`fuzz: CHAMBERLAIN_SEED=${seed}\n`);
  const begun = performance.now();
  const seen = new Map<string, number>();
  const calls = fc.sample(callArbitrary(), { seed, numRuns: CALLS });
  const faults: string[] = [];
  const lane = async (): Promise<void> => {
    for (let sent = calls.pop(); sent !== undefined; sent = calls.pop()) {
      const target = targetOf(sent);
      const heard = await send(sent, target);
      const of = `${heard.status ?? 'given up'}`;
      seen.set(of, (seen.get(of) ?? 0) + 1);
      for (const fault of findFaults(sent, heard)) {
        faults.push(
          `${fault}: ${JSON.stringify({ ...sent, target })}: ${heard.text.slice(0, 500)}`,
        );
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  expect(faults.slice(0, 20)).toEqual([]);
  const rest = [...seen].map(([status, count]) => `${status}: ${count}`);
  const seconds = Math.round((performance.now() - begun) / 1000);
  process.stdout.write(`fuzz: ${CALLS} calls in ${seconds} s; ${rest.join(', ')}\n`);
  expect(api.log.filter((line) => line.includes('a call failed'))).toEqual([]);
  expect(api.log.join('\n')).not.toMatch(/eyJ/u);
  // all is as before: the calls did not use anything up
  for (const as of ['other', 'may-own', 'admin.steward'] as const) {
    expect((await api.get('/v1/names/wilma', { as })).body.state).toBe('taken');
  }
  const own = await api.get(`/v1/requests/${ID}`, { as: 'may-all' });
  expect(own.status).toBe(200);
}, 600_000);
