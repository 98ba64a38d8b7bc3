/**
 * Bad jobs, and what becomes of each: a stable code and a sentence in `requests`, `events` and the audit,
 * nothing else changed, and the next job unaffected. Of what is no request of its portal a count is kept, and
 * nothing else. The table of cases is the test, hence its length.
 */
import { createHmac, createPrivateKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import type { World } from '../stack.ts';
import { eventually } from './eventually.ts';
import { dumpTables, query, readDirectory, settled } from './outside.ts';
import {
  newPortalKey,
  openPortal,
  signClaims,
  type Portal,
  type SendOptions,
  type Wish,
} from './portal.ts';
import { admit, openRunning, type Running } from './running.ts';

const wikiKey = newPortalKey('wiki');
const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIND0k9UN/Drd9ADbQRf/x4MAWO3WcOIkixt20iCch4JR';
const KEY_OF_BOB =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDqI+EbVReF1a4vqu1oF6Ra5yQ9hKH3rKk7uxg0sS8Pv';
const DAY = 24 * 3600;

let running: Running;
let world: World;
let portal: Portal;
/** may send person.create and access.request alone */
let wiki: Portal;
let admin: Portal;

beforeAll(async () => {
  running = await openRunning('refusals', {
    adjust: (config) => ({
      ...config,
      reservedNames: ['keeper'],
      portals: [
        ...config.portals,
        {
          name: 'wiki',
          keys: [{ kid: wikiKey.kid, publicKey: wikiKey.publicKey }],
          kinds: ['person.create', 'access.request'],
          subjectEvents: false,
          speaksForAdmins: false,
        },
      ],
    }),
  });
  ({ world, portal } = running);
  wiki = openPortal(world, wikiKey);
  admin = openPortal(world, {
    name: 'admin.steward',
    kid: world.config.portals.find(({ name }) => name === 'admin.steward')?.keys[0]?.kid ?? '',
    key: createPrivateKey(readFileSync(world.adminKey)),
  });
  await admit(portal, 'alice', 'bob', 'sleepy');
  await portal.get({
    kind: 'person.create',
    requestedBy: 'outsider',
    shellName: 'outsider',
    displayName: 'An Outsider',
    email: 'outsider@example.org',
  });
  await portal.get({ kind: 'key.add', requestedBy: 'bob', person: 'bob', key: KEY_OF_BOB });
  await portal.get({
    kind: 'tool.create',
    requestedBy: 'alice',
    name: 'bridgebot',
    title: 'Bridges',
  });
  await portal.get({
    kind: 'tool.create',
    requestedBy: 'steward',
    name: 'helper',
    title: 'Helps',
    maintainers: ['tools.bridgebot', 'sleepy'],
  });
  // suspension is decided elsewhere; here it only has to be heeded
  await query(
    world,
    `WITH asleep AS (UPDATE people SET state = 'suspended' WHERE shell_name = 'sleepy')
     SELECT touch_generation(subject, role) FROM convergence`,
  );
  await settled(world);
});

afterAll(async () => {
  await Promise.all([wiki, admin].map((each) => each?.close()));
  await running?.close();
});

interface Case {
  what: string;
  code: string;
  send: () => Promise<unknown>;
  /** the portal that is told; null where none could be */
  told?: string | null;
  /** whether the event names the request */
  named?: boolean;
}

const LIFE = () => Math.floor(Date.now() / 1000);
const CREATE: Wish = {
  kind: 'person.create',
  requestedBy: 'newcomer',
  shellName: 'newcomer',
  displayName: 'A Newcomer',
  email: 'newcomer@example.org',
};
const TOOL: Wish = { kind: 'tool.create', requestedBy: 'alice', name: 'newtool', title: 'New' };

/** A wish that a portal signs as it should, and that is refused for what it says. */
function wish(what: string, code: string, request: Wish, options?: SendOptions): Case {
  return { what, code, send: () => portal.send(request, options), told: 'portal', named: true };
}

/** A job that is no request of the portal in whose queue it lies. */
interface JunkCase {
  what: string;
  code: string;
  /** what the portal finds: the code, or that the job is removed */
  found: string;
  send: () => Promise<string>;
}

function junk(what: string, code: string, data: () => unknown): JunkCase {
  return { what, code, found: code, send: () => portal.refusal(data()) };
}

/** A job that is removed unread: written past BullMQ, which would not write it. */
function raw(what: string, fields: Record<string, string | Buffer>): JunkCase {
  return { what, code: 'REQUEST_MALFORMED', found: 'removed', send: () => sendRaw(fields) };
}

async function sendRaw(fields: Record<string, string | Buffer>): Promise<string> {
  const redis = new Redis(world.config.redis.url);
  const key = `bull:requests.portal:raw-${randomUUID()}`;
  await redis
    .multi()
    .hset(key, { ...BARE, ...fields })
    .lpush('bull:requests.portal:wait', key.slice('bull:requests.portal:'.length))
    .zadd('bull:requests.portal:marker', 0, '0')
    .exec();
  const found = await eventually('a job to be removed, or refused', async () =>
    (await redis.exists(key)) === 0
      ? 'removed'
      : (await redis.hget(key, 'failedReason'))?.split(':')[0],
  );
  redis.disconnect();
  return found;
}

const BARE = { name: 'request', data: '{}', opts: '{}', timestamp: '1', delay: '0', priority: '0' };

const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;

/** Puts a token that somebody has signed into the portal's queue. */
async function sendToken(token: string): Promise<void> {
  const redis = new Redis(world.config.redis.url);
  const queue = new Queue('requests.portal', { connection: redis });
  await queue.add('request', { token });
  await queue.close();
  redis.disconnect();
}

/** What JSON.stringify cannot write any more, in a token that is rightly signed. */
function deepToken(): string {
  const { iat, exp } = { iat: LIFE(), exp: LIFE() + 100 };
  const claims = { iss: 'portal', aud: 'tools', jti: randomUUID(), iat, exp, sub: 'alice' };
  const request = `{"kind":"tool.create","requestedBy":"alice","name":"x","title":${nested(15_000)}}`;
  const text = `${JSON.stringify(claims).slice(0, -1)},"request":${request}}`;
  return signClaims(portal.key, { alg: 'EdDSA', kid: portal.kid }, text);
}

const JUNK: JunkCase[] = [
  raw('not JSON', { data: '{"token": ' }),
  raw('no bytes at all', { data: '' }),
  raw('bytes that are no UTF-8', { data: Buffer.from([0xff, 0xfe, 0x00, 0x80]) }),
  raw('a NUL', { data: '\0' }),
  raw('options that are not JSON', { opts: 'neither' }),
  raw('options that are a list', { opts: '[]' }),
  raw('a parent in the queue of another portal', { parentKey: 'bull:requests.wiki:1' }),
  raw('a schedule', { rjk: 'every-second' }),
  junk('JSON, but a text', 'REQUEST_MALFORMED', () => 'tool.create'),
  junk('JSON, but null', 'REQUEST_MALFORMED', () => null),
  junk('JSON, but a list', 'REQUEST_MALFORMED', () => [{ token: 'x' }]),
  junk('no token', 'REQUEST_MALFORMED', () => ({ request: TOOL })),
  junk('a token that is no text', 'REQUEST_MALFORMED', () => ({ token: { toString: 1 } })),
  {
    ...raw('lists in lists, thirty thousand deep', { data: `{"token": ${nested(30_000)}}` }),
    found: 'REQUEST_MALFORMED',
  },
  junk('a token of one part', 'REQUEST_MALFORMED', () => ({ token: 'hello' })),
  junk('claims that are no JSON', 'REQUEST_MALFORMED', () => ({ token: 'e30.e30x.AAAA' })),
  junk('more than 64 KiB', 'REQUEST_TOO_LARGE', () => ({ token: 'x'.repeat(64 * 1024) })),
  {
    ...junk('much more than 64 KiB', 'REQUEST_TOO_LARGE', () => ({
      token: 'y'.repeat(1000 << 10),
    })),
    found: 'removed',
  },
  junk('no portal of ours', 'REQUEST_PORTAL_UNKNOWN', () => ({
    token: portal.token(TOOL, { claims: { iss: 'elsewhere' } }),
  })),
  junk('a good request of another portal', 'REQUEST_PORTAL_UNKNOWN', () => ({
    token: wiki.token(CREATE),
  })),
  junk('not signed (alg none)', 'REQUEST_SIGNATURE', () => {
    const [, claims] = portal.token(TOOL).split('.');
    const header = Buffer.from('{"alg":"none"}').toString('base64url');
    return { token: `${header}.${claims}.AAAA` };
  }),
  junk("signed by another portal's key", 'REQUEST_SIGNATURE', () => ({
    token: portal.token(TOOL, { key: wikiKey.key }),
  })),
  junk("signed by another portal's key, and says so", 'REQUEST_SIGNATURE', () => ({
    token: portal.token(TOOL, { key: wikiKey.key, header: { kid: wikiKey.kid } }),
  })),
  junk('signed with the public key as a password (HS256)', 'REQUEST_SIGNATURE', () => {
    const claims = portal.token(TOOL).split('.')[1];
    const header = Buffer.from('{"alg":"HS256","kid":"portal-1"}').toString('base64url');
    const secret = world.config.portals[0]?.keys[0]?.publicKey ?? '';
    const mac = createHmac('sha256', secret).update(`${header}.${claims}`).digest('base64url');
    return { token: `${header}.${claims}.${mac}` };
  }),
  junk('changed after it was signed', 'REQUEST_SIGNATURE', () => {
    const [header, , signature] = portal.token(TOOL).split('.');
    const claims = portal.token({ ...TOOL, name: 'other' }).split('.')[1];
    return { token: `${header}.${claims}.${signature}` };
  }),
  junk('a critical extension that nobody knows', 'REQUEST_SIGNATURE', () => ({
    token: portal.token(TOOL, { header: { crit: ['b64'], b64: false } }),
  })),
  junk('an id that is no UUID', 'REQUEST_MALFORMED', () => ({
    token: portal.token(TOOL, { claims: { jti: '../../1' } }),
  })),
  junk('no end', 'REQUEST_MALFORMED', () => ({
    token: portal.token(TOOL, { claims: { exp: undefined } }),
  })),
  junk('no name of who approved', 'REQUEST_MALFORMED', () => ({
    token: portal.token(TOOL, { claims: { sub: 'a\nb' } }),
  })),
];

const TIMES: Case[] = [
  { name: 'expired', iat: -2 * DAY, exp: -DAY },
  { name: 'not valid yet', iat: 3600, exp: 7200 },
  { name: 'valid for more than 7 days', iat: -10, exp: 7 * DAY + 10 },
  { name: 'an end before any clock', iat: -10, exp: -Number.MAX_SAFE_INTEGER + 2_000_000_000 },
].map(({ name, iat, exp }) => ({
  what: name,
  code: 'REQUEST_EXPIRED',
  send: () => portal.send(TOOL, { claims: { iat: LIFE() + iat, exp: LIFE() + exp } }),
  told: 'portal',
  named: true,
}));

const SHAPES: Case[] = [
  wish('for another realm', 'REQUEST_AUDIENCE', TOOL, { claims: { aud: 'paws' } }),
  wish('a kind that there is not', 'REQUEST_KIND_UNKNOWN', { ...TOOL, kind: 'tool.paint' }),
  wish('a kind of every object', 'REQUEST_KIND_UNKNOWN', { ...TOOL, kind: 'constructor' }),
  wish('a kind with a NUL', 'REQUEST_KIND_UNKNOWN', { ...TOOL, kind: 'tool\0create' }),
  wish('half a character for a kind', 'REQUEST_KIND_UNKNOWN', { ...TOOL, kind: '\ud800' }),
  wish('no kind', 'REQUEST_KIND_UNKNOWN', { ...TOOL, kind: undefined } as unknown as Wish),
  wish('a field that there is not', 'REQUEST_INVALID', { ...TOOL, uid: 0 }),
  wish('a field too few', 'REQUEST_INVALID', { kind: 'tool.create', requestedBy: 'alice' }),
  wish('a number for a text', 'REQUEST_INVALID', { ...TOOL, name: 7 }),
  wish('an object for a text', 'REQUEST_INVALID', {
    ...TOOL,
    name: { toString: 'x' },
  }),
  wish(
    'someone who asks, with a NUL',
    'REQUEST_INVALID',
    { ...TOOL, requestedBy: 'al\0ice' },
    {
      approvedBy: 'alice',
    },
  ),
  {
    ...wish('a request nested fifteen thousand deep', 'REQUEST_INVALID', TOOL),
    send: () => sendToken(deepToken()),
  },
  {
    ...wish('a kind that this portal may not ask', 'REQUEST_KIND_FORBIDDEN', TOOL),
    send: () => wiki.send(TOOL),
    told: 'wiki',
  },
  wish('what is not urgent on the urgent queue', 'REQUEST_NOT_URGENT', TOOL, {
    queue: 'requests.urgent',
  }),
];

const NAMES: Case[] = [
  ...['root', 'www-data', 'docker', 'sudo', 'adm', 'lxd', 'systemd-network', '_apt', 'nogroup'].map(
    (name) => shellName(name, 'NAME_RESERVED'),
  ),
  shellName('chamberlain-intake', 'NAME_RESERVED'),
  shellName('keeper', 'NAME_RESERVED'), // by the configuration
  shellName('ROOT', 'NAME_RESERVED'),
  shellName('ｒｏｏｔ', 'NAME_RESERVED'),
  shellName('root\n', 'NAME_RESERVED'),
  shellName('alice', 'NAME_TAKEN'),
  shellName('Alice', 'NAME_TAKEN'),
  shellName('ａlice', 'NAME_TAKEN'),
  shellName('alice ', 'NAME_TAKEN'),
  shellName('\u2029alice\u2028', 'NAME_TAKEN'),
  ...[
    'x\ny',
    'x\0y',
    '../x',
    '-rf',
    '\u202eecila',
    '👍',
    '1000',
    'a.b',
    'a_b',
    'a b',
    'x*',
    'a,b',
    'a+b',
    'é',
    'x'.repeat(32),
  ].map((name) => shellName(name, 'NAME_INVALID')),
  shellName('x'.repeat(300), 'REQUEST_INVALID'),
  shellName('', 'REQUEST_INVALID'),
  toolName('bridgebot', 'NAME_TAKEN'),
  toolName('BridgeBot', 'NAME_TAKEN'),
  toolName('root', 'NAME_RESERVED'),
  toolName('sudo', 'NAME_RESERVED'),
  ...[
    'x\ny',
    'x\0y',
    '../x',
    '-rf',
    'x-',
    '\u202etob',
    '🤖',
    '42',
    'a.b',
    'tools.x',
    'x'.repeat(27),
  ].map((name) => toolName(name, 'NAME_INVALID')),
  wish('a display name that is taken', 'NAME_TAKEN', { ...CREATE, displayName: 'the ALICE' }),
  ...['a\nb', 'a\0b', '\u202egnp.exe', ' a', 'a  b', '', 'x'.repeat(300), 'a\u200db', '\ud800'].map(
    (displayName) =>
      wish(`the display name ${show(displayName)}`, 'REQUEST_INVALID', { ...CREATE, displayName }),
  ),
  ...['nobody', 'a@b\nBcc: c@d', 'a b@c', '<a@b>', 'a@b,c@d', 'a\0@b', `${'x'.repeat(300)}@b`].map(
    (email) => wish(`the address ${show(email)}`, 'REQUEST_INVALID', { ...CREATE, email }),
  ),
  ...['a\nb', 'a\0b', '\u202etxet', 'x'.repeat(300), '   '].map((title) =>
    wish(`the title ${show(title)}`, 'REQUEST_INVALID', { ...TOOL, title }),
  ),
  wish('a reason with a NUL', 'REQUEST_INVALID', {
    kind: 'access.request',
    requestedBy: 'outsider',
    reason: 'because\0',
  }),
];

function show(text: string): string {
  return text.length > 40 ? `of ${text.length} characters` : JSON.stringify(text);
}
function shellName(name: string, code: string): Case {
  return wish(`the shell name ${show(name)}`, code, {
    ...CREATE,
    requestedBy: 'steward',
    shellName: name,
  });
}
function toolName(name: string, code: string): Case {
  return wish(`the tool name ${show(name)}`, code, { ...TOOL, name });
}

const as = (requestedBy: string, kind: string, rest: Record<string, unknown> = {}): Wish => ({
  kind,
  requestedBy,
  ...rest,
});

const RIGHTS: Case[] = [
  wish('someone who is nobody', 'PERSON_UNKNOWN', { ...TOOL, requestedBy: 'nobody-here' }),
  wish('someone suspended', 'PERSON_SUSPENDED', { ...TOOL, requestedBy: 'sleepy' }),
  wish('a tool that asks', 'PERSON_UNKNOWN', { ...TOOL, requestedBy: 'tools.bridgebot' }),
  wish('someone in another case', 'PERSON_UNKNOWN', { ...TOOL, requestedBy: 'Alice' }),
  wish('tool.create by no realm member', 'PERSON_NOT_REALM_MEMBER', {
    ...TOOL,
    requestedBy: 'outsider',
  }),
  wish('a maintainer who is nobody', 'PERSON_UNKNOWN', { ...TOOL, maintainers: ['nobody-here'] }),
  wish('a maintainer who is no realm member', 'PERSON_NOT_REALM_MEMBER', {
    ...TOOL,
    maintainers: ['outsider'],
  }),
  wish('a maintainer who is suspended', 'PERSON_SUSPENDED', { ...TOOL, maintainers: ['sleepy'] }),
  wish('a person made by another', 'NOT_ALLOWED', { ...CREATE, requestedBy: 'alice' }),
  wish(
    'access asked for another',
    'NOT_ALLOWED',
    as('alice', 'access.request', { person: 'outsider' }),
  ),
  wish(
    "another's display name",
    'NOT_ALLOWED',
    as('alice', 'person.update', { person: 'bob', displayName: 'Robert' }),
  ),
  wish("another's key", 'NOT_ALLOWED', as('alice', 'key.add', { person: 'bob', key: KEY })),
  wish(
    "another's key removed",
    'NOT_ALLOWED',
    as('alice', 'key.remove', { person: 'bob', key: KEY_OF_BOB }),
  ),
  wish(
    "another's credentials",
    'NOT_ALLOWED',
    as('alice', 'credentials.rotate', { person: 'bob' }),
  ),
  ...['access.grant', 'access.refuse', 'access.revoke'].map((kind) =>
    wish(`${kind} by no admin`, 'NOT_ALLOWED', as('alice', kind, { person: 'bob', reason: 'x' })),
  ),
  ...(
    [
      ['tool.update', { title: 'x' }],
      ['maintainer.add', { person: 'bob' }],
      ['maintainer.remove', { person: 'alice' }],
      ['credentials.rotate', {}],
    ] as const
  ).flatMap(([kind, rest]) => [
    wish(
      `${kind} by no maintainer`,
      'NOT_ALLOWED',
      as('bob', kind, { tool: 'bridgebot', ...rest }),
    ),
    wish(
      `${kind} by a maintainer of a tool that is a maintainer`,
      'NOT_ALLOWED',
      as('alice', kind, { tool: 'helper', ...rest }),
    ),
    wish(`${kind} of no tool`, 'TOOL_UNKNOWN', as('alice', kind, { tool: 'nothing', ...rest })),
    wish(
      `${kind} of the admin tool by no admin`,
      'ADMIN_TOOL',
      as('alice', kind, { tool: 'admin', ...rest }),
    ),
  ]),
  wish(
    'a tool as an admin',
    'ADMIN_TOOL',
    as('steward', 'maintainer.add', { tool: 'admin', person: 'tools.bridgebot' }),
  ),
  wish(
    'the last admin gone',
    'ADMIN_TOOL',
    as('steward', 'maintainer.remove', { tool: 'admin', person: 'steward' }),
  ),
  wish(
    'the last admin revoked',
    'ADMIN_TOOL',
    as('steward', 'access.revoke', { person: 'steward' }),
  ),
  wish(
    'a tool as its own maintainer',
    'NOT_ALLOWED',
    as('alice', 'maintainer.add', { tool: 'bridgebot', person: 'tools.bridgebot' }),
  ),
  wish(
    'a maintainer already',
    'MAINTAINER_ALREADY',
    as('alice', 'maintainer.add', { tool: 'bridgebot', person: 'alice' }),
  ),
  wish(
    'no maintainer',
    'MAINTAINER_UNKNOWN',
    as('alice', 'maintainer.remove', { tool: 'bridgebot', person: 'bob' }),
  ),
  wish(
    'access twice',
    'PERSON_ALREADY_REALM_MEMBER',
    as('steward', 'access.grant', { person: 'bob' }),
  ),
  wish('access of one who has it', 'PERSON_ALREADY_REALM_MEMBER', as('bob', 'access.request')),
  wish(
    'a refusal of what nobody asked',
    'ACCESS_NOT_REQUESTED',
    as('steward', 'access.refuse', { person: 'outsider', reason: 'no' }),
  ),
  wish(
    'access of one who has none',
    'PERSON_NOT_REALM_MEMBER',
    as('steward', 'access.revoke', { person: 'outsider' }),
  ),
  wish(
    'access for nobody',
    'PERSON_UNKNOWN',
    as('steward', 'access.grant', { person: 'nobody-here' }),
  ),
  wish(
    'credentials of one who has none',
    'CREDENTIALS_NONE',
    as('outsider', 'credentials.rotate', { person: 'outsider' }),
  ),
  {
    what: "an admin's own key in another's name",
    code: 'NOT_ALLOWED',
    send: () => admin.send({ ...TOOL, requestedBy: 'alice' }),
    told: null,
    named: true,
  },
  {
    what: "an admin's own key, approved by another",
    code: 'NOT_ALLOWED',
    send: () =>
      admin.send(as('steward', 'access.grant', { person: 'outsider' }), { approvedBy: 'alice' }),
    told: null,
    named: true,
  },
];

const PRIVATE = generateKeyPairSync('ed25519')
  .privateKey.export({ type: 'pkcs8', format: 'pem' })
  .toString();
const KEYS: Case[] = (
  [
    ['a private key', 'KEY_PRIVATE', PRIVATE],
    ['a private key on one line', 'KEY_PRIVATE', PRIVATE.replaceAll('\n', ' ')],
    ['a key held by another', 'KEY_TAKEN', KEY_OF_BOB],
    ['two keys', 'KEY_MALFORMED', `${KEY}\n${KEY_OF_BOB}`],
    ['a second key behind a comment', 'KEY_MALFORMED', `${KEY} me\r${KEY_OF_BOB}`],
    ['a NUL in a key', 'KEY_MALFORMED', `${KEY}\0`],
    ['a command before a key', 'KEY_OPTION', `command="/bin/sh" ${KEY}`],
    ['no key', 'KEY_MALFORMED', 'my key'],
    ['a key of a kind that is not taken', 'KEY_TYPE', `ssh-dss AAAAB3NzaC1kc3MAAACBAP`],
  ] as const
).map(([what, code, key]) => wish(what, code, as('alice', 'key.add', { person: 'alice', key })));

const NEXT = () => as('alice', 'tool.update', { tool: 'bridgebot', title: 'Bridges' });

/** The last rows of what a refusal writes to. */
interface Last {
  requests: string;
  audit: string;
  events: string;
}

async function readLast(): Promise<Last> {
  const rows = await query<Last>(
    world,
    `SELECT (SELECT coalesce(max(id), 0) FROM requests) AS requests,
       (SELECT coalesce(max(id), 0) FROM audit) AS audit,
       (SELECT coalesce(max(row_id), 0) FROM events) AS events`,
  );
  return rows[0] as Last;
}

/** What the case before has left: a dump takes longer than a case. */
let left: Awaited<ReturnType<typeof dumpTables>> | undefined;

/** What stands in all other tables before a case. */
async function dumpBefore(): Promise<NonNullable<typeof left>> {
  const before = left ?? (await dumpTables(world));
  left = undefined; // until this case has ended well
  return before;
}

describe('a job that is no request of its portal', () => {
  const counted = async (code: string) =>
    (
      await query<{ count: string }>(
        world,
        `SELECT count FROM junk WHERE portal = 'portal' AND code = $1`,
        [code],
      )
    )[0]?.count ?? '0';

  test.each(JUNK)('$what: $code', async ({ code, found, send }) => {
    const before = await dumpBefore();
    const last = await readLast();
    const count = Number(await counted(code));
    expect(await send()).toBe(found);
    await eventually('its count', async () => Number(await counted(code)) === count + 1);
    expect(await readLast()).toEqual(last);
    // the next job, and that nothing else has changed
    expect(await portal.ask(NEXT())).toMatchObject({ verdict: 'accepted' });
    const after = await dumpTables(world);
    expect(after).toEqual(before);
    left = after;
  });
});

describe.each([
  ['the times', TIMES],
  ['the shape', SHAPES],
  ['names and texts', NAMES],
  ['who may', RIGHTS],
  ['keys', KEYS],
])('%s', (_title, cases) => {
  test.each(cases)('$what: $code', async ({ code, send, told = null, named = false }) => {
    const before = await dumpBefore();
    const last = await readLast();
    await send();
    const rows = await eventually('its row', async () => {
      const found = await query(world, 'SELECT * FROM requests WHERE id > $1', [last.requests]);
      return found.length > 0 && found;
    });
    expect(rows).toEqual([
      expect.objectContaining({
        verdict: 'refused',
        code,
        sentence: expect.stringMatching(/^\S.+\.$/u),
      }),
    ]);
    const [row] = rows;
    expect(row?.['sentence']).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    expect(await query(world, 'SELECT * FROM audit WHERE id > $1', [last.audit])).toEqual([
      expect.objectContaining({ request: row?.['id'], verdict: 'refused', code }),
    ]);
    expect(await query(world, 'SELECT * FROM events WHERE row_id > $1', [last.events])).toEqual([
      expect.objectContaining({
        portal: told,
        event: 'request.refused',
        code,
        request: named ? row?.['jti'] : null,
        data: expect.objectContaining({ sentence: row?.['sentence'] }),
      }),
    ]);
    expect((row?.['jti'] ?? null) !== null).toBe(named);
    // the next job, and that nothing else has changed
    expect(await portal.ask(NEXT())).toMatchObject({ verdict: 'accepted' });
    const after = await dumpTables(world);
    expect(after).toEqual(before);
    left = after;
  });
});

describe('doubled and replayed', () => {
  test('a job that comes twice has one verdict and one event of each kind', async () => {
    const id = randomUUID();
    const token = portal.token({ ...TOOL, name: 'doubled' }, { id });
    await Promise.all([1, 2, 3].map(() => sendToken(token)));
    await portal.hear('request.done', id);
    await portal.ask(NEXT()); // all three have been through
    expect(portal.told(id)).toEqual(['request.accepted', 'tool.ready', 'request.done']);
    expect(await query(world, 'SELECT verdict FROM requests WHERE jti = $1', [id])).toEqual([
      { verdict: 'accepted' },
    ]);
  });

  test('signed anew, and with its fields in another order, it is the same request', async () => {
    const id = randomUUID();
    const first = { ...NEXT() };
    await portal.get(first, { id });
    const before = portal.heard.length;
    await portal.send(Object.fromEntries(Object.entries(first).reverse()) as Wish, {
      id: id.toUpperCase(),
      claims: { iat: LIFE() + 1, exp: LIFE() + 100 },
    });
    await portal.ask(NEXT());
    expect(portal.heard.slice(before).filter(({ request }) => request === id)).toEqual([]);
  });

  test.each([
    ['another body', { ...TOOL, name: 'replay-2' }, {}],
    ['another one who approved', { ...TOOL, name: 'replay-1' }, { approvedBy: 'bob' }],
    [
      'another one who asks',
      { ...TOOL, name: 'replay-1', requestedBy: 'bob' },
      { approvedBy: 'alice' },
    ],
  ])(
    'the same id with %s is refused, and the first verdict stays',
    async (_what, wishes, options) => {
      const id = randomUUID();
      await portal.ask({ ...TOOL, name: 'replay-1', title: randomUUID() }, { id }).catch(() => {});
      await settled(world);
      const before = await dumpTables(world);
      const last = await readLast();
      await portal.send(wishes, { id, ...options });
      const rows = await eventually('its row', async () => {
        const found = await query(world, 'SELECT * FROM requests WHERE id > $1', [last.requests]);
        return found.length > 0 && found;
      });
      expect(rows).toEqual([
        expect.objectContaining({ verdict: 'refused', code: 'REQUEST_REPLAYED' }),
      ]);
      expect(await dumpTables(world)).toEqual(before);
      expect(
        await query(world, 'SELECT code FROM requests WHERE portal = $1 AND jti = $2', [
          'portal',
          id,
        ]),
      ).toHaveLength(1);
    },
  );

  test('another portal may use the same id for a request of its own', async () => {
    const id = randomUUID();
    await portal.ask(NEXT(), { id });
    const answer = await wiki.ask(as('outsider', 'access.request', { reason: 'mine' }), { id });
    expect(answer.verdict).toBe('accepted');
  });
});

describe('what looks hostile and is allowed', () => {
  const NAMES_OF_PEOPLE = [
    '*)(uid=*',
    'cn=admin,dc=example,dc=org',
    '#hash+plus;semi"quote\\slash<less>',
    "Robert'); DROP TABLE people;--",
    '${HOME} `id` $(id) %s %n',
    'Zoë Å. 山田太郎 👍',
    '\u0645\u062d\u0645\u062f',
    '<script>alert(1)</script>',
    '=1+1',
  ];

  test('display names arrive in the directory as they are', async () => {
    const names = NAMES_OF_PEOPLE.map((displayName, index) => ({
      shellName: `odd-${index}`,
      displayName,
    }));
    await Promise.all(
      names.map(({ shellName: name, displayName }) =>
        portal.get({
          kind: 'person.create',
          requestedBy: name,
          shellName: name,
          displayName,
          email: `o'neil+${name}*{x}@example.org`,
        }),
      ),
    );
    const directory = await readDirectory(world);
    for (const { shellName: name, displayName } of names) {
      expect(directory.get(`uid=${name},ou=people,${world.config.ldap.base}`)).toMatchObject({
        cn: [displayName],
        sn: [displayName],
        mail: [`o'neil+${name}*{x}@example.org`],
      });
    }
    await expect(world.chamberlain('plan', '--all')).resolves.toBeDefined();
  });

  test('a title is kept as it is', async () => {
    const title = `rm -rf / ; $(reboot) \`id\` "q" 'q' \\ *)(cn=* 👍 ${'x'.repeat(100)}`;
    await portal.get({ ...TOOL, name: 'odd-title', title });
    expect(await query(world, `SELECT title FROM tools WHERE name = 'odd-title'`)).toEqual([
      { title },
    ]);
  });
});

test('what takes PostgreSQL too long each time is refused, and what comes with it is done', async () => {
  // as a statement ends that takes longer than it may
  await query(
    world,
    `CREATE FUNCTION take_too_long() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = 'query_canceled'; END $$`,
  );
  await query(
    world,
    `CREATE TRIGGER too_long BEFORE UPDATE ON people FOR EACH ROW
     WHEN (NEW.suspension_reason = 'too much') EXECUTE FUNCTION take_too_long()`,
  );
  const people = ['reaching', 'reaching-too'];
  for (const person of people) await admit(portal, person);
  const suspend = { kind: 'person.suspend', requestedBy: 'steward', reason: 'too much' };
  const few = portal.ask({ ...suspend, people });
  const [refused, done] = await Promise.all([
    // only how many names there are counts
    portal.ask({ ...suspend, people: [...people, ...Array<string>(99).fill('reaching')] }),
    portal.ask({ ...TOOL, name: 'beside', title: 'Beside' }),
  ]);
  expect([refused.code, done.verdict]).toEqual(['TOO_MUCH_AT_ONCE', 'accepted']);
  const states = `SELECT state FROM people WHERE shell_name LIKE 'reaching%' ORDER BY shell_name`;
  expect(await query(world, states)).toEqual([{ state: 'active' }, { state: 'active' }]);
  // a few people are not too much: the request waits until PostgreSQL is quick again
  await query(world, 'DROP FUNCTION take_too_long CASCADE');
  expect((await few).verdict).toBe('accepted');
});

test('nothing of a private key that was sent is kept anywhere', async () => {
  const lines = PRIVATE.split('\n').filter((line) => line.length > 30 && !line.startsWith('-'));
  const rows = JSON.stringify(await dumpTables(world, []));
  for (const line of lines) {
    expect(rows).not.toContain(line);
    expect(running.log.join('\n')).not.toContain(line);
  }
});
