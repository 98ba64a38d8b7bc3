/** The reads of the API: what each caller sees, what nobody sees, pages, hostile names, and the log of reads. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { readPeople, readTools } from '../../src/api/subjects-queries.ts';
import { runCli } from '../cli/run-cli.ts';
import { wantPerson, wantTool } from '../laws-world.ts';
import { type ApiWorld, openApiWorld, type PortalName } from './api-world.ts';

let api: ApiWorld;
let owner: Pool;
/** A suspended person with a key, an approval and a request for access. */
let person: { uid: number; name: string };
let tool: { uid: number; name: string };
/** Deleted, and erased as the law says. */
let gone: { uid: number; name: string };
let fingerprint: string;
/** Enough for pages, and for PostgreSQL to choose an index. */
const MANY = 2500;

const SECRET = {
  mail: 'hidden.mail@example.org',
  verified: '2026-02-03T04:05:06.000Z',
  reason: 'HIDDEN-SUSPENSION',
  access: 'HIDDEN-ACCESS',
  why: 'HIDDEN-APPROVAL',
  toolReason: 'HIDDEN-DISABLED',
  ignored: 'HIDDEN-IGNORED',
};

beforeAll(async () => {
  api = await openApiWorld('api_reads', { needs: ['postgres', 'redis'] });
  owner = openPool(api.world.config, 'owner', { max: 2, durable: false });
  person = await wantPerson(owner, api.world);
  gone = await wantPerson(owner, api.world);
  tool = await wantTool(owner, api.world, [person.uid]);
  await owner.query(
    `UPDATE people SET email = $2, display_name = 'Ärger & Söhne', display_name_key = 'ärger & söhne',
       state = 'suspended', suspended_at = now(), suspended_by = 'steward', suspension_reason = $3 WHERE uid = $1`,
    [person.uid, SECRET.mail, SECRET.reason],
  );
  await owner.query('UPDATE people SET mail_verified_at = $2 WHERE uid = ANY ($1)', [
    [person.uid, gone.uid],
    SECRET.verified,
  ]);
  await owner.query(
    `UPDATE tools SET title = 'Counts Bridges', state = 'disabled', disabled_at = now(), disabled_by = 'steward',
       disabled_reason = $2 WHERE uid = $1`,
    [tool.uid, SECRET.toolReason],
  );
  await owner.query(
    `INSERT INTO access_requests (person, reason, portal) VALUES ($1, $2, 'portal')`,
    [person.uid, SECRET.access],
  );
  await insertSurvey();
  await owner.query(`ALTER TABLE people DISABLE TRIGGER USER`);
  await owner.query(`UPDATE people SET state = 'deleted' WHERE uid = $1`, [gone.uid]);
  await owner.query(`ALTER TABLE people ENABLE TRIGGER USER`);
  await owner.query('SELECT erase_person($1)', [gone.uid]);
  const key = await owner.query('SELECT fingerprint FROM ssh_keys WHERE person = $1', [person.uid]);
  ({ fingerprint } = key.rows[0] as { fingerprint: string });
  const { first } = api.world.config.ids.people[0]!;
  await owner.query(
    `WITH id AS (INSERT INTO posix_ids SELECT $1 + n, 'person' FROM generate_series(1000, 999 + $2::int) AS n)
     INSERT INTO people (uid, shell_name, display_name, display_name_key, email)
     SELECT $1 + n, 'many' || n, 'Many ' || n, 'many ' || n, 'x@example.org' FROM generate_series(1000, 999 + $2::int) AS n`,
    [first, MANY],
  );
  await insertRequests();
  await owner.query('ANALYZE people, tools, requests');
});
afterAll(async () => {
  await owner.end();
  await api.close();
});

const ids: Record<string, string> = {};

/** A survey that an admin has requested, with a step and an ignored finding on the person, and on who is erased later. */
async function insertSurvey(): Promise<void> {
  ids['survey'] = randomUUID();
  await owner.query(
    `INSERT INTO kept_surveys (id, portal, kind, asked_by, subjects, state, ended_at, digest, summary)
     VALUES ($1, 'admin.steward', 'survey.run', 'steward', $2, 'done', now(), 'abc', '{"totals": {"steps": 2}}')`,
    [ids['survey'], [person.uid, gone.uid]],
  );
  const step = { target: 'unix-account', change: `mail ${SECRET.mail}` };
  const finding = { target: 'home-directory', code: 'X', ignored: { reason: SECRET.ignored } };
  for (const [n, of] of [person, gone].entries()) {
    for (const [list, item] of Object.entries({ steps: step, findings: finding })) {
      await owner.query('INSERT INTO kept_survey_items VALUES ($1, $2, $3, $4, $5)', [
        ...[ids['survey'], list, n, of.uid],
        { account: of.name, ...item },
      ]);
    }
    await owner.query(
      `INSERT INTO ignored_findings (subject, target, object, code, sentence, by, reason)
       VALUES ($1, 't', 'o', 'X', 's', 'steward', $2)`,
      [of.uid, SECRET.ignored],
    );
  }
}

/** One request in each state of the portal `may-own`, and one of another portal. */
async function insertRequests(): Promise<void> {
  const rows: [name: string, columns: Record<string, unknown>][] = [
    ['done', { done_at: new Date() }],
    ['refused', { verdict: 'refused', code: 'NAME_TAKEN', sentence: 'The name is taken.' }],
    ['stuck', { stuck_at: new Date() }],
    ['accepted', {}],
    ['waiting', { kind: 'person.delete', subject: person.uid }],
    ['rejected', { kind: 'person.delete', subject: person.uid, done_at: new Date() }],
    ['other', { portal: 'other' }],
  ];
  for (const [name, columns] of rows) {
    ids[name] = randomUUID();
    const all = {
      ...{ portal: 'may-own', jti: ids[name], body_sha256: Buffer.from(name) },
      ...{ kind: 'tool.create', requested_by: 'steward', approved_by: 'steward' },
      ...{ verdict: 'accepted', ...columns },
    };
    await owner.query(
      `INSERT INTO requests (${Object.keys(all).join()})
       VALUES (${Object.keys(all)
         .map((_, index) => `$${index + 1}`)
         .join()})`,
      Object.values(all),
    );
  }
  for (const state of ['waiting', 'rejected']) {
    await owner.query(
      `INSERT INTO approvals (request, portal, kind, subject, requested_by, body, why, state)
       VALUES ($1, 'may-own', 'person.delete', $2, 'steward', $3, $4, $5)`,
      [
        ids[state],
        person.uid,
        JSON.stringify({ reason: SECRET.why, other: 'HIDDEN-BODY' }),
        SECRET.why,
        state === 'waiting' ? 'open' : 'rejected',
      ],
    );
  }
}

/** Callers, and what each may read. */
const CALLERS: Record<string, readonly string[]> = {
  nobody: [],
  portal: ['token'],
  'may-public': ['token', 'public'],
  'may-own': ['token', 'own'],
  'may-mail': ['token', 'mail'],
  'may-public-mail': ['token', 'public', 'mail'],
  'may-all': ['token', 'public', 'own', 'mail', 'all'],
  'admin.steward': ['token', 'public', 'own', 'mail', 'all'],
};
const READS: Record<string, { path: () => string; right: string }> = {
  person: { path: () => `/v1/people/${person.name}`, right: 'public' },
  people: { path: () => `/v1/people?after=${after('many9999')}`, right: 'public' },
  tool: { path: () => `/v1/tools/${tool.name}`, right: 'none' },
  account: { path: () => `/v1/tools/tools.${tool.name}`, right: 'none' },
  tools: { path: () => '/v1/tools', right: 'public' },
  number: { path: () => `/v1/subjects/${person.uid}`, right: 'public' },
  'number of a tool': { path: () => `/v1/subjects/${tool.uid}`, right: 'public' },
  requests: { path: () => '/v1/requests', right: 'own' },
  waiting: { path: () => '/v1/waiting', right: 'all' },
  status: { path: () => '/v1/status', right: 'all' },
  sweep: { path: () => '/v1/sweep', right: 'all' },
  audit: { path: () => '/v1/audit', right: 'all' },
  unmanaged: { path: () => '/v1/unmanaged', right: 'all' },
  surveys: { path: () => '/v1/surveys', right: 'all' },
  survey: { path: () => `/v1/surveys/${ids['survey']}`, right: 'all' },
  plan: { path: () => `/v1/surveys/${ids['survey']}/plan`, right: 'all' },
  explain: { path: () => `/v1/explain/${person.name}`, right: 'all' },
  'explain of a tool': { path: () => `/v1/explain/${tool.uid}`, right: 'all' },
  reads: { path: () => '/v1/reads', right: 'all' },
};
/** The cursor after a name or a number. */
const after = (key: unknown) => Buffer.from(JSON.stringify(key)).toString('base64url');
const get = (path: string, of: string) =>
  api.get(path, of === 'nobody' ? {} : { as: of as PortalName });
const missing = () => get('/v1/people/nobodyhasthisname', 'may-all');
const bytesOf = ({ status, headers, text }: Awaited<ReturnType<typeof get>>) => ({
  ...{ status, text, headers: { ...headers, date: '' } },
});

describe.each(Object.keys(READS))('%s', (read) => {
  test.each(Object.keys(CALLERS))('as %s', async (of) => {
    const { path, right } = READS[read]!;
    const rights = CALLERS[of]!;
    const reply = await get(path(), of);
    if (rights.length === 0 && right !== 'none') {
      expect({ status: reply.status, code: reply.body.code }).toEqual({
        ...{ status: 401, code: 'CALL_UNSIGNED' },
      });
      return;
    }
    if (right !== 'none' && !rights.includes(right)) {
      expect(bytesOf(reply)).toEqual(bytesOf(await missing()));
      return;
    }
    expect(reply.status).toBe(200);
    const again = await api.get(path(), {
      ...(of === 'nobody' ? {} : { as: of as PortalName }),
      headers: { 'if-none-match': reply.headers['etag']! },
    });
    // the log of reads, and when a process last made progress, change with time
    if (!['reads', 'status'].includes(read)) expect([again.status, again.text]).toEqual([304, '']);
    const seesAll = rights.includes('all');
    const shows = (secret: string) => reply.text.includes(secret);
    const showsMail = ['person', 'people', 'plan', 'explain'].includes(read);
    expect(shows(SECRET.mail)).toBe(rights.includes('mail') && showsMail);
    expect(shows(SECRET.reason)).toBe(seesAll && ['person', 'explain'].includes(read));
    expect(shows(SECRET.ignored)).toBe(seesAll && ['plan', 'explain'].includes(read));
    const showsAccess = ['person', 'explain', 'status', 'waiting'].includes(read);
    expect(shows(SECRET.access)).toBe(seesAll && showsAccess);
    // a portal knows why an admin has rejected its own request
    const showsWhy = seesAll && showsAccess;
    expect(shows(SECRET.why)).toBe(showsWhy || read === 'requests');
    const ofTool = ['tool', 'account', 'explain of a tool'];
    expect(shows(SECRET.toolReason)).toBe(seesAll && ofTool.includes(read));
    const showsKeys = ['person', 'explain', 'explain of a tool'];
    expect(shows(fingerprint)).toBe(seesAll && showsKeys.includes(read));
    expect(shows('HIDDEN-BODY')).toBe(false);
    expect(reply.text).not.toMatch(/verifier|sha256"|AAAA/u);
  });
});

test('a portal with `public` alone sees who and what there is; with `mail`, addresses too', async () => {
  const open = {
    ...{ uid: person.uid, name: person.name, displayName: 'Ärger & Söhne', state: 'suspended' },
    ...{
      since: expect.stringMatching(/Z$/u),
      realmMember: true,
      maintains: [`tools.${tool.name}`],
    },
  };
  const path = `/v1/people/${person.name}`;
  expect((await get(path, 'may-public')).body).toEqual(open);
  expect((await get(path, 'may-public-mail')).body).toEqual({
    ...{ ...open, email: SECRET.mail, mailVerifiedAt: SECRET.verified },
  });
  const all = await get(path, 'may-all');
  expect(all.body).toMatchObject({
    ...open,
    email: SECRET.mail,
    mailVerifiedAt: SECRET.verified,
    keys: [{ type: 'ssh-ed25519', fingerprint }],
    access: [{ state: 'open', reason: SECRET.access, portal: 'portal', decidedBy: null }],
    leaving: {
      closed: { by: 'steward', reason: SECRET.reason },
      waiting: [{ request: ids['waiting'], kind: 'person.delete', why: SECRET.why }],
    },
    roles: [],
  });
  expect(all.body.keys).toHaveLength(1);
  const one = {
    ...{ uid: tool.uid, name: tool.name, account: `tools.${tool.name}`, title: 'Counts Bridges' },
    ...{ state: 'disabled', since: expect.any(String), maintainers: [person.name] },
  };
  for (const name of [tool.name, `tools.${tool.name}`]) {
    expect((await get(`/v1/tools/${name}`, 'may-public')).body).toEqual(one);
  }
  expect((await get(`/v1/subjects/${tool.uid}`, 'may-public')).body).toEqual({
    ...{ uid: tool.uid, kind: 'tool', name: tool.name, account: one.account, state: 'disabled' },
  });
});

test('a deleted person stays, without what is erased', async () => {
  for (const caller of ['may-public', 'may-public-mail', 'may-all']) {
    const { status, body } = await get(`/v1/people/${gone.name}`, caller);
    expect([status, body]).toMatchObject([
      200,
      { uid: gone.uid, name: gone.name, displayName: null, state: 'deleted' },
    ]);
    expect([body.email ?? null, body.mailVerifiedAt ?? null]).toEqual([null, null]);
  }
  const list = await get('/v1/people?state=deleted', 'may-public');
  expect(list.body.items.map(({ name }: { name: string }) => name)).toEqual([gone.name]);
});

test('whoever is erased is in no survey, and nothing is ignored of them any more', async () => {
  const { items } = (await get(`/v1/surveys/${ids['survey']}/plan`, 'may-all')).body;
  expect(items.map(({ item }: any) => item.account)).toEqual([person.name, person.name]);
  const { rows } = await owner.query('SELECT subject FROM ignored_findings');
  expect(rows).toEqual([{ subject: person.uid }]);
});

test('what a plan shows of people is logged, and of whom', async () => {
  const read = async () =>
    (await get('/v1/reads?limit=100', 'may-all')).body.items.filter(
      ({ caller }: { caller: string }) => caller === 'may-all',
    );
  await get(`/v1/surveys/${ids['survey']}/plan?limit=1`, 'may-all');
  expect((await read())[0]).toMatchObject({ person: person.name, what: ['mail'] });
  await get(`/v1/surveys/${ids['survey']}/plan?list=findings`, 'may-all');
  expect((await read())[0]).toMatchObject({ person: person.name, what: ['reasons'] });
});

describe('pages', () => {
  /** All items, page by page. */
  async function walk(path: string, of: string): Promise<any[]> {
    const items: any[] = [];
    for (let next: string | null = '', pages = 0; next !== null; pages += 1) {
      const where = next === '' ? '' : `${path.includes('?') ? '&' : '?'}after=${next}`;
      const { status, body }: any = await get(`${path}${where}`, of);
      expect(status).toBe(200);
      expect(pages).toBeLessThan(100);
      items.push(...body.items);
      next = body.next;
    }
    return items;
  }
  const namesOf = (items: { name: string }[]) => items.map(({ name }) => name);

  test('hold everybody once, in order, at most a hundred on each', async () => {
    const { rows } = await owner.query('SELECT shell_name AS name FROM people ORDER BY shell_name');
    expect(namesOf(await walk('/v1/people', 'may-public'))).toEqual(
      namesOf(rows as { name: string }[]),
    );
    expect((await get('/v1/people', 'may-public')).body.items).toHaveLength(50);
    expect((await get('/v1/people?limit=100', 'may-public')).body.items).toHaveLength(100);
    const seven = await get('/v1/people?limit=7', 'may-public');
    expect(seven.body.next).toBe(after(seven.body.items[6].name));
    expect(namesOf(await walk('/v1/tools?limit=1', 'may-public'))).toEqual(['admin', tool.name]);
  });

  test('are searched by a part of a name, or of a display name or a title, in any case', async () => {
    const find = async (path: string, search: string) =>
      namesOf((await get(`${path}?search=${encodeURIComponent(search)}`, 'may-public')).body.items);
    expect(await find('/v1/people', 'any1007')).toEqual(['many1007']);
    expect(await find('/v1/people', 'ÄRGER  &')).toEqual([person.name]);
    expect(await find('/v1/people', 'Many 1007')).toEqual(['many1007']);
    expect(await find('/v1/people', '%')).toEqual([]);
    expect(await find('/v1/people', `'; DROP TABLE people; --`)).toEqual([]);
    expect(await find('/v1/people', 'hidden.mail')).toEqual([]);
    expect(await find('/v1/tools', 'bridges')).toEqual([tool.name]);
    expect(await find('/v1/tools', `tools.${tool.name}`)).toEqual([tool.name]);
    const active = await get('/v1/people?search=many&state=active&limit=2', 'may-public');
    expect(namesOf(active.body.items)).toEqual(['many1000', 'many1001']);
    expect(await walk('/v1/people?search=many100', 'may-public')).toHaveLength(10);
  });

  test('of requests hold those of the portal, the newest first', async () => {
    const order = ['rejected', 'waiting', 'accepted', 'stuck', 'refused', 'done'];
    const mine = await walk('/v1/requests?limit=2', 'may-own');
    expect(mine.map(({ state }) => state)).toEqual(order);
    expect(mine.map(({ id }) => id)).toEqual(order.map((state) => ids[state]));
    for (const state of order) {
      const of = await walk(`/v1/requests?state=${state}&limit=1`, 'may-own');
      expect(of.map(({ id }) => id)).toEqual([ids[state]]);
    }
    for (const state of order) {
      expect((await get(`/v1/requests/${ids[state]}`, 'may-own')).body.state).toBe(state);
    }
    const by = mine[5]?.['requestedBy'];
    expect(await walk(`/v1/requests?requestedBy=${by}&limit=2`, 'may-own')).toEqual(
      mine.filter(({ requestedBy }) => requestedBy === by),
    );
    expect(await walk('/v1/requests?requestedBy=nobody', 'may-own')).toEqual([]);
    expect(mine[4]).toMatchObject({ code: 'NAME_TAKEN', portal: 'may-own', doneAt: null });
    const all = await walk('/v1/requests', 'may-all');
    expect(all.map(({ id }) => id)).toEqual(
      expect.arrayContaining([ids['other'], ...order.map((state) => ids[state])]),
    );
    const other = await walk('/v1/requests?portal=other', 'admin.steward');
    expect(other.map(({ id }) => id)).toEqual([ids['other']]);
    expect(bytesOf(await get('/v1/requests?portal=other', 'may-own'))).toEqual(
      bytesOf(await missing()),
    );
  });

  test('of requests in a rare state are short, and lead to the end', async () => {
    await owner.query(
      `INSERT INTO requests (portal, jti, body_sha256, kind, verdict, done_at)
       SELECT 'may-all', gen_random_uuid(), sha256(n::text::bytea), 'key.add', CASE n WHEN 1 THEN 'refused' ELSE 'accepted' END, now()
       FROM generate_series(1, 4500) AS n`,
    );
    const first = await get('/v1/requests?state=refused&portal=may-all', 'may-all');
    expect(first.body.items).toEqual([]);
    expect(first.body.next).toMatch(/^\S+$/u);
    const found = await walk('/v1/requests?state=refused&portal=may-all', 'may-all');
    expect(found).toHaveLength(1);
  });

  test('of unmanaged things and of the audit hold the same as the commands', async () => {
    await owner.query(
      `INSERT INTO unmanaged (role, place, object, kind)
       SELECT role, 'p' || n % 3, 'cn=' || n || ',dc=x', 'entry' FROM generate_series(1, 5) AS n, unnest('{homes,directory}'::text[]) AS role`,
    );
    await owner.query(
      `INSERT INTO audit (verdict, kind, subject, account)
       SELECT 'accepted', 'k' || n, CASE WHEN n > 3 THEN $1::int END, CASE WHEN n > 3 THEN $2 END FROM generate_series(1, 5) AS n`,
      [person.uid, person.name],
    );
    const commands = await api.world.chamberlain('audit', '--limit', '1000', '--json');
    const audit = await walk('/v1/audit?limit=3', 'may-all');
    expect(audit.toReversed()).toEqual(JSON.parse(commands).rows);
    for (const word of [person.name, person.uid]) {
      const about = await walk(`/v1/audit?subject=${word}&limit=1`, 'may-all');
      expect(about.map(({ kind }) => kind)).toEqual(['k5', 'k4']);
    }
    const things = await walk('/v1/unmanaged?limit=3', 'may-all');
    expect(things).toHaveLength(10);
    const { unseen } = (await get('/v1/unmanaged', 'may-all')).body;
    expect(unseen.map(({ role }: { role: string }) => role)).toContain('homes');
    expect(new Set(things.map(({ role, object }) => `${role} ${object}`)).size).toBe(10);
  });

  test.each([
    ['people', readPeople, 'people_shell_name_key'],
    ['tools', readTools, 'tools_name_key'],
  ])('of %s are read from the index at any place', async (_, read, index) => {
    const pool = openPool(api.world.config, 'api', { max: 1, durable: false });
    const client = await pool.connect();
    try {
      let asked: [string, unknown[]] | undefined;
      const noted = {
        query: async (text: string, values: unknown[]) => ((asked = [text, values]), { rows: [] }),
      };
      await read(noted as never, { search: '', after: 'many3000', limit: 101 });
      await client.query('SET enable_seqscan = off');
      const { rows } = await client.query(`EXPLAIN ${asked![0]}`, asked![1]);
      const plan = rows.map((row: Record<string, string>) => row['QUERY PLAN']).join('\n');
      expect(plan).toContain(`Index Scan using ${index}`);
      expect(plan).not.toMatch(/Sort Key: .*\b(?:shell_name|name)$/mu);
    } finally {
      client.release();
      await pool.end();
    }
  });
});

describe('hostile', () => {
  const NAMES = [
    '%00',
    'a%00b',
    '..',
    '%2e%2e%2fpeople',
    `'--`,
    'Alice',
    '%F0%9F%98%80',
    'a'.repeat(300),
    '*',
    '%25',
    '-a',
    'tools.',
    'tools.tools.admin',
  ];
  test.each(['people', 'tools', 'subjects', 'explain'])(
    'names in /v1/%s are simply not there',
    async (of) => {
      const expected = bytesOf(await missing());
      const hostile =
        of === 'subjects'
          ? [...NAMES, '0', '-1', '0x10', '1e3', '4294967296', '99999999999999999999', '1.0']
          : NAMES;
      for (const name of hostile) {
        expect([name, bytesOf(await get(`/v1/${of}/${name}`, 'may-all'))]).toEqual([
          name,
          expected,
        ]);
      }
    },
  );

  test.each([
    ...['/v1/people?limit=0', '/v1/people?limit=101', '/v1/people?limit=x', '/v1/people?limit=1.5'],
    ...[
      '/v1/people?after=%00',
      '/v1/people?after=',
      '/v1/people?after=A%20b',
      '/v1/people?search=',
    ],
    ...['/v1/people?search=%00', '/v1/people?search=a%0ab', `/v1/people?search=${'a'.repeat(101)}`],
    ...['/v1/people?state=none', '/v1/people?state=disabled', '/v1/people?other=1'],
    ...['/v1/people?search=a&search=b', '/v1/tools?state=suspended', '/v1/tools?after=%27'],
    ...['/v1/requests?after=x', '/v1/requests?after=-1', '/v1/requests?after=9999999999999999999'],
    ...[
      '/v1/requests?state=none',
      '/v1/audit?after=1e3',
      '/v1/audit?subject=%00',
      '/v1/reads?after=0',
    ],
    ...['/v1/unmanaged?after=x', '/v1/unmanaged?after=W10', '/v1/unmanaged?after=bnVsbA'],
    ...[{}, 1, null, 'A', '', "'", 'a\0', ['a'], 'a'.repeat(300)].map(
      (key) => `/v1/people?after=${after(key)}`,
    ),
    ...[{}, 1, null, '0', '-1', '1e3', '9'.repeat(19), 'x'].map(
      (key) => `/v1/requests?after=${after(key)}`,
    ),
    ...[['a', 'b', '\0'], ['a', 'b', {}], ['a', 'b'], 'a'].map(
      (key) => `/v1/unmanaged?after=${after(key)}`,
    ),
    ...[
      '/v1/surveys?after=x',
      `/v1/surveys?after=${after('a')}`,
      '/v1/surveys/x',
      '/v1/surveys/x/plan',
    ],
    ...[['steps'], ['steps', -1], ['steps', 2 ** 31], ['none', 1], ['steps', '1'], 1].map(
      (key) => `/v1/surveys/${randomUUID()}/plan?after=${after(key)}`,
    ),
    `/v1/surveys/${randomUUID()}/plan?list=none`,
    ...['/v1/requests?portal=%00', `/v1/requests/${randomUUID()}?portal=%00`],
  ])('%s is refused', async (path) => {
    const { status, body } = await get(path, 'may-all');
    expect([status, body.code]).toEqual([400, 'CALL_INVALID']);
  });

  test('what a caller may not see is not there, however it is asked for', async () => {
    const expected = bytesOf(await missing());
    for (const path of ['/v1/people?limit=x', '/v1/audit?after=x', `/v1/subjects/${person.uid}`]) {
      expect(bytesOf(await get(path, 'may-mail'))).toEqual(expected);
    }
  });

  test('a cursor past the end has an empty page', async () => {
    const [name, number] = [after('zzz'), after('1')];
    const paths = [
      ...[`/v1/people?after=${name}`, `/v1/tools?after=${name}`, `/v1/requests?after=${number}`],
      ...[`/v1/audit?after=${number}`, `/v1/reads?after=${number}`],
      `/v1/unmanaged?after=${after(['zz', 'z', 'z'])}`,
    ];
    for (const path of paths) {
      expect((await get(path, 'may-all')).body).toMatchObject({ items: [], next: null });
    }
    expect((await get('/v1/audit?subject=nobodyhasthisname', 'may-all')).status).toBe(404);
  });
});

describe('the log of reads', () => {
  const logged = async () =>
    (await owner.query(`SELECT caller, subject, what FROM api_reads ORDER BY id`))
      .rows as unknown[];
  const logOf = async (path: string, of: string) => {
    const before = (await logged()).length;
    await get(path, of);
    return (await logged()).slice(before);
  };

  test('says who has read what of whom', async () => {
    const path = `/v1/people/${person.name}`;
    const row = (caller: string, ...what: string[]) => ({ caller, subject: person.uid, what });
    expect(await logOf(path, 'may-public')).toEqual([]);
    expect(await logOf(path, 'may-public-mail')).toEqual([row('may-public-mail', 'mail')]);
    expect(await logOf(path, 'admin.steward')).toEqual([
      row('admin.steward', 'mail', 'keys', 'reasons'),
    ]);
    expect(await logOf('/v1/people/nobodyhasthisname', 'may-all')).toEqual([]);
    expect(await logOf('/v1/people?limit=9', 'may-public')).toEqual([]);
    expect(await logOf('/v1/people?limit=9', 'may-public-mail')).toHaveLength(9);
    expect(await logOf('/v1/waiting', 'may-all')).toEqual([row('may-all', 'reasons')]);
    expect(await logOf('/v1/status', 'may-all')).toContainEqual(row('may-all', 'reasons'));
    expect(await logOf(`/v1/tools/${tool.name}`, 'may-all')).toEqual([]);
    expect(await logOf('/v1/requests', 'may-own')).toEqual([]);
    expect(await logOf('/v1/requests?portal=other', 'may-all')).toEqual([]);
    for (const each of ['/v1/requests?portal=may-own', `/v1/requests/${ids['rejected']}`]) {
      expect(await logOf(each, 'may-all')).toEqual([row('may-all', 'reasons')]);
    }
    const shown = await get(`/v1/reads?person=${person.name}&limit=1`, 'may-all');
    expect(shown.body.items).toMatchObject([
      { caller: 'may-all', person: person.name, uid: person.uid, what: ['reasons'] },
    ]);
  });

  test('is written, or nothing is shown', async () => {
    await owner.query(
      `REVOKE EXECUTE ON FUNCTION log_api_reads(text, text[], text[]) FROM chamberlain_api`,
    );
    try {
      for (const path of [`/v1/people/${person.name}`, '/v1/people', '/v1/waiting', '/v1/status']) {
        const { status, text } = await get(path, 'may-all');
        expect([path, status]).toEqual([path, 500]);
        expect(text).not.toContain(SECRET.mail);
      }
      expect((await get(`/v1/people/${person.name}`, 'may-public')).status).toBe(200);
    } finally {
      await owner.query(
        `GRANT EXECUTE ON FUNCTION log_api_reads(text, text[], text[]) TO chamberlain_api`,
      );
    }
  });

  test('is all that the API may write, and it reads views alone', async () => {
    const pool = openPool(api.world.config, 'api', { max: 1, durable: false });
    const { rows } = await owner.query(
      `SELECT c.oid::regclass::text AS name, c.relkind, r AS right FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
         unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) AS r
       WHERE n.nspname IN ('public', 'api') AND c.relkind IN ('r', 'p', 'v', 'S', 'm')
         AND (CASE WHEN c.relkind = 'S' THEN r = 'SELECT' AND has_sequence_privilege('chamberlain_api', c.oid, 'USAGE, UPDATE')
              ELSE has_table_privilege('chamberlain_api', c.oid, r) OR
                r IN ('SELECT', 'INSERT', 'UPDATE') AND has_any_column_privilege('chamberlain_api', c.oid, r) END)`,
    );
    expect(rows.length).toBeGreaterThan(30);
    expect(rows.filter(({ relkind, right }: any) => relkind !== 'v' || right !== 'SELECT')).toEqual(
      [],
    );
    const tooMany = Array.from({ length: 1001 }, (__, index) => `p${index}`);
    for (const [sql, values] of [
      ['SELECT log_api_reads($1, $2, $3)', ['x', tooMany, ['mail']]],
      ['SELECT log_api_reads($1, $2, $3)', ['x'.repeat(101), [person.name], ['mail']]],
      ['SELECT log_api_reads($1, $2, $3)', ['x', [person.name], ['other']]],
      ['SELECT log_api_reads($1, $2, $3)', ['x', [person.name], []]],
      [`INSERT INTO api_reads (caller, subject, what) VALUES ('x', 1, '{mail}')`, []],
      [`INSERT INTO public.api_reads (caller, subject, what) VALUES ('x', 1, '{mail}')`, []],
      [`UPDATE people SET state = 'active'`, []],
      ['SELECT verifier FROM database_verifiers', []],
      ['SELECT * FROM public.people', []],
    ] as [string, unknown[]][]) {
      await expect(pool.query(sql, values)).rejects.toMatchObject({
        code: expect.stringMatching(/^(22023|23514|42501|42703|55000)$/u),
      });
    }
    await pool.end();
  });
});

test('status and sweep show what the commands show, as far as PostgreSQL knows it', async () => {
  await owner.query(
    `INSERT INTO sweeps (id, state, began_at, ended_at, digest, sentence) VALUES
       (gen_random_uuid(), 'clean', now() - interval '2 h', now() - interval '2 h', NULL, NULL),
       (gen_random_uuid(), 'held', now() - interval '1 h', now(), 'abc', 'too much')`,
  );
  await owner.query(
    `INSERT INTO holds (subject, held_by, held_at, reason, until) VALUES ($1, 'steward', now(), 'HIDDEN-HOLD', now() + interval '1 day')`,
    [person.uid],
  );
  await owner.query(`SELECT touch_generation($1, 'homes')`, [tool.uid]);
  const command = async (...words: string[]) =>
    JSON.parse((await runCli([...words, '--json'], { config: api.world.configFile })).out);
  const {
    away: _away,
    waiting: _w,
    waitingUnknown: _u,
    left: _l,
    redisUsers: _r,
    ...known
  } = await command('status');
  const { status, body } = await get('/v1/status', 'may-all');
  expect(status).toBe(200);
  for (const each of known['toApprove']) delete each.request;
  expect(body).toEqual(known);
  expect(body.leaving.held).toMatchObject([{ account: person.name, reason: 'HIDDEN-HOLD' }]);
  const { unmanaged: _things, nextAt: _at, ...sweep } = await command('sweep');
  const shown = (await get('/v1/sweep', 'may-all')).body;
  expect(shown).toEqual({ ...sweep, nextAt: expect.any(String) });
  const { everyMinutes } = api.world.config.sweep;
  const next = Date.parse(shown.sweeps[0].beganAt) + everyMinutes * 60_000;
  expect(Date.parse(shown.nextAt)).toBe(next);
  const { waiting, toApprove } = await command('requests');
  for (const each of toApprove) delete each.request;
  expect((await get('/v1/waiting', 'may-all')).body).toEqual({ waiting, toApprove });
});
