/**
 * Surveys, repairs and ignored findings through the API: real roles and servers, and the process that sweeps. What the
 * API shows is what the roles saw.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { chmodSync, chownSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { sendOverHttp } from '../../src/cli/own-key/api-client.ts';
import { ownSigner } from '../../src/cli/own-key/submitter.ts';
import { readSigningKey } from '../../src/requests/token.ts';
import { runCli } from '../cli/run-cli.ts';
import { type ApiWorld, openApiWorld } from './api-world.ts';

let api: ApiWorld;
let owner: Pool;
let home: string;
let uid: number;
const ACCOUNT = 'tools.bridgebot';
const by = { requestedBy: 'steward' };

beforeAll(async () => {
  api = await openApiWorld('api_surveys', {
    roles: ['intake', 'relay', 'directory', 'homes', 'databases', 'sweep'],
  });
  owner = openPool(api.world.config, 'owner', { max: 2, durable: false });
  const made = await ask({ kind: 'tool.create', name: 'bridgebot', title: 'A bridge' });
  expect(made).toMatchObject({ verdict: 'accepted', done: true });
  ({ uid } = (await get('/v1/tools/bridgebot')).body);
  home = join(api.world.dataRoot, 'data/project/bridgebot');
});
afterAll(async () => {
  await owner.end();
  await api.close();
});

const get = (path: string, headers = {}) => api.get(path, { as: 'admin.steward', headers });
const tokenOf = (fields: Record<string, unknown>, id: string) =>
  api.requestToken('admin.steward', { ...by, ...fields }, { jti: id });
async function send(token: string) {
  const call = { as: 'admin.steward', type: 'application/jwt', body: token } as const;
  return (await api.call('POST', '/v1/requests?wait=done', call)).body;
}
/** Sends an admin's request, and waits until it has ended. */
const ask = (fields: Record<string, unknown>, id: string = randomUUID()) =>
  send(tokenOf(fields, id));

async function survey(fields: Record<string, unknown> = { subjects: [ACCOUNT] }) {
  const id = randomUUID();
  const outcome = await ask({ kind: 'survey.run', ...fields }, id);
  expect(outcome).toMatchObject({ id, verdict: 'accepted', done: true });
  const { items } = (await get(`/v1/surveys/${id}/plan`)).body;
  return { id, outcome, items } as { id: string; outcome: any; items: any[] };
}
const modeOf = () => statSync(home).mode & 0o7777;
const cli = (...args: string[]) => runCli(args, { config: api.world.configFile });

test('a survey of everything is done when the roles have looked; its digest is that of `plan`', async () => {
  const { id, outcome, items } = await survey({});
  const plan = JSON.parse((await cli('plan', '--json')).out);
  expect(outcome.data).toMatchObject({ digest: plan.digest, totals: plan.totals });
  expect(items).toEqual([]);
  const read = await get(`/v1/surveys/${id}`);
  expect(read.body).toMatchObject({
    ...{ id, kind: 'survey.run', by: 'steward', subjects: null, expected: null, state: 'done' },
    ...{ digest: plan.digest, summary: { totals: plan.totals, groups: [] } },
  });
  const again = await get(`/v1/surveys/${id}`, { 'if-none-match': read.headers['etag']! });
  expect([again.status, again.text]).toEqual([304, '']);
  expect((await get(`/v1/requests/${id}?portal=admin.steward`)).body).toMatchObject({
    kind: 'survey.run',
    result: outcome.data,
  });
}, 60_000);

test('a repair takes the steps of the plan that was seen, once, and none of another', async () => {
  const mode = modeOf();
  chmodSync(home, 0o2777);
  const { id, outcome, items } = await survey();
  expect(items).toEqual([
    {
      list: 'steps',
      item: expect.objectContaining({ account: ACCOUNT, target: 'home-directory' }),
    },
  ]);
  expect(items[0].item).not.toHaveProperty('action');
  const other = await ask({ kind: 'repair.run', subjects: [ACCOUNT], digest: 'ab'.repeat(32) });
  expect(other).toMatchObject({ verdict: 'accepted', done: false, code: 'PLAN_MOVED' });
  expect(other.sentence).toContain(outcome.data.digest);
  expect(modeOf()).toBe(0o2777);
  const request = randomUUID();
  const wish = { kind: 'repair.run', subjects: [ACCOUNT], digest: outcome.data.digest };
  const token = tokenOf(wish, request);
  const done = await send(token);
  expect(done).toMatchObject({
    ...{ verdict: 'accepted', done: true },
    data: { digest: outcome.data.digest, outcome: { done: 1, refused: 0, failed: 0, withheld: 0 } },
  });
  expect(modeOf()).toBe(mode);
  expect(await send(token)).toEqual(done);
  const parts = await get(`/v1/surveys/${request}/plan?list=parts`);
  expect(parts.body.items).toEqual([
    {
      list: 'parts',
      item: {
        ...{ subject: uid, account: ACCOUNT, role: 'homes', state: 'done', steps: 1 },
        ...{ code: null, sentence: null },
      },
    },
  ]);
  const audit = await get(`/v1/audit?subject=${ACCOUNT}`);
  expect(audit.body.items[0]).toMatchObject({
    ...{ kind: 'repair', requestedBy: 'steward', portal: 'admin.steward', account: ACCOUNT },
    fields: ['home-directory'],
  });
  // the plan has changed since
  expect(await ask(wish)).toMatchObject({ done: false, code: 'PLAN_MOVED' });
  const list = await get('/v1/surveys?limit=2');
  expect(list.body.items).toHaveLength(2);
  const next = await get(`/v1/surveys?limit=2&after=${list.body.next}`);
  const ids = [...list.body.items, ...next.body.items].map((each: { id: string }) => each.id);
  expect(ids).toContain(id);
  expect(new Set(ids).size).toBe(4);
}, 60_000);

test('an ignored finding is shown, and does not count until it changes, or somebody ends that', async () => {
  const wish = { kind: 'finding.ignore', tool: 'bridgebot', target: 'home-directory' };
  const named = { ...wish, code: 'PATH_FOREIGN' };
  chownSync(home, 4242, 4242);
  // the role gives up on it
  const rotate = { kind: 'credentials.rotate', tool: 'bridgebot' };
  expect(await ask(rotate)).toMatchObject({ done: false, code: 'PATH_FOREIGN' });
  const { items } = await survey();
  const [found] = items.filter(({ list }) => list === 'findings');
  expect(found.item).toMatchObject({ code: 'PATH_FOREIGN' });
  const troubles = async () => {
    const { totals, behind } = (await get('/v1/status')).body;
    const parked = totals.filter((each: any) => each.role === 'homes' && each.state === 'parked');
    return [parked.length > 0, behind.some((each: any) => each.role === 'homes')];
  };
  expect(await troubles()).toEqual([true, true]);
  expect((await cli('survey', ACCOUNT)).exit).toBe(3);

  expect(await ask({ ...named, reason: 'moved by hand' })).toMatchObject({ done: true });
  await untilSettled();
  expect(await troubles()).toEqual([false, false]);
  const ignored = await survey();
  const [known] = ignored.items.filter(({ list }) => list === 'findings');
  expect(known.item.ignored).toMatchObject({ by: 'steward', reason: 'moved by hand', until: null });
  expect(ignored.outcome.data.totals).toMatchObject({ ignored: 1, findings: 0 });
  const shown = await cli('survey', ACCOUNT);
  expect(shown.out).toContain('ignored by steward: moved by hand');
  const explained = await cli('explain', ACCOUNT);
  expect(explained.out).toContain('ignored by steward: moved by hand');
  // nothing was done that was not done: the request still waits
  const { body } = await get('/v1/requests?portal=admin.steward&state=stuck');
  expect(body.items.map((each: any) => each.kind)).toContain('credentials.rotate');

  // another finding of the same code
  chownSync(home, 4343, 4343);
  const changed = await survey();
  expect(changed.outcome.data.totals).toMatchObject({ ignored: 0, findings: 1 });
  chownSync(home, 4242, 4242);
  expect((await survey()).outcome.data.totals).toMatchObject({ ignored: 1 });

  expect(await ask({ ...named, end: true })).toMatchObject({ done: true });
  await untilSettled();
  expect(await troubles()).toEqual([true, true]);
  expect((await survey()).outcome.data.totals).toMatchObject({ ignored: 0, findings: 1 });
  chownSync(home, uid, uid);
  await cli('repair', ACCOUNT, '--yes');
});

test('a repair whose process ended in the middle ends with what the roles have said, and begins nothing', async () => {
  const id = randomUUID();
  await owner.query(
    `INSERT INTO requests (portal, jti, body_sha256, kind, requested_by, verdict)
     VALUES ('admin.steward', $1::uuid, sha256('x'), 'repair.run', 'steward', 'accepted')`,
    [id],
  );
  await owner.query(
    `WITH r AS (INSERT INTO repairs (id, asked_by, waited_until) VALUES ($1, 'steward', now()) RETURNING id),
       p AS (INSERT INTO repair_parts (repair, subject, role, digest, state, ended_at)
             SELECT id, $2, role, '', CASE role WHEN 'homes' THEN 'done' ELSE 'asked' END, now()
             FROM r, unnest('{homes,databases}'::text[]) AS role)
     INSERT INTO kept_surveys (id, portal, kind, asked_by, subjects, expected, state, tries)
     VALUES ($1, 'admin.steward', 'repair.run', 'steward', ARRAY[$2::int], 'abc', 'running', 1)`,
    [id, uid],
  );
  const path = `/v1/surveys/${id}`;
  let read = await get(path);
  while (read.body.state !== 'done') read = await get(path);
  expect((await get(`/v1/requests/${id}?portal=admin.steward`)).body).toMatchObject({
    ...{ code: 'BACKEND_UNAVAILABLE', doneAt: null, stuckAt: expect.any(String) },
  });
  const parts = (await get(`${path}/plan?list=parts`)).body.items;
  expect(parts).toMatchObject([{ item: { role: 'homes', state: 'done' } }]);
  const { rows } = await owner.query('SELECT state FROM repair_parts WHERE repair = $1', [id]);
  expect(rows.map(({ state }: { state: string }) => state).sort()).toEqual(['asked', 'done']);
}, 60_000);

test('`submit --wait` waits for the survey, and prints what it came to', async () => {
  const { exit, out } = await cli(
    ...['submit', 'survey.run', '--subjects', ACCOUNT, '--wait', '--json'],
  );
  const line = JSON.parse(out);
  const data = { totals: { subjects: 1 } };
  expect([exit, line]).toMatchObject([0, { done: true, data }]);
  const { config, adminKey } = api.world;
  const sent = await sendOverHttp(
    {
      ...{ realm: config.realm, person: 'steward', key: adminKey },
      api: `http://127.0.0.1:${api.port}`,
    },
    ownSigner('steward', 'steward-1', readSigningKey(adminKey)),
    {
      ...{ id: randomUUID(), kind: 'survey.run', requestedBy: 'steward', approvedBy: 'steward' },
      fields: { subjects: [ACCOUNT] },
    },
    60,
  );
  expect(sent).toMatchObject({ done: true, data });
  const digest = 'ab'.repeat(32);
  const moved = await cli(
    ...['submit', 'repair.run', '--subjects', ACCOUNT, '--digest', digest, '--wait'],
  );
  expect(moved.exit).toBe(1);
  expect(moved.err).toContain('PLAN_MOVED');
}, 60_000);

test('explain says what PostgreSQL knows, and what the roles last saw', async () => {
  chmodSync(home, 0o2777);
  const { id } = await survey();
  const { status, body } = await get(`/v1/explain/${ACCOUNT}`);
  expect(status).toBe(200);
  expect(body.subjects).toHaveLength(1);
  expect(body.subjects[0]).toMatchObject({
    ...{ uid, kind: 'tool', account: ACCOUNT, state: 'active', maintainers: ['steward'] },
    roles: expect.arrayContaining([expect.objectContaining({ role: 'homes' })]),
    seen: {
      survey: { id, items: [{ list: 'steps', item: { target: 'home-directory' } }] },
    },
  });
  for (const word of ['bridgebot', String(uid)]) {
    expect((await get(`/v1/explain/${word}`)).body.subjects).toEqual(body.subjects);
  }
  const person = await get('/v1/explain/steward');
  expect(person.body.subjects[0]).toMatchObject({
    ...{ kind: 'person', account: 'steward', email: expect.any(String) },
    becomes: expect.arrayContaining([expect.objectContaining({ account: ACCOUNT })]),
  });
  // all that the command shows, but for what only the roles know at this moment
  const page = JSON.parse((await cli('explain', 'steward', '--json')).out);
  const { targets: _, ...shown } = page.subjects[0];
  expect(Object.keys(person.body.subjects[0])).toEqual(expect.arrayContaining(Object.keys(shown)));
  const reads = await get('/v1/reads?person=steward&limit=1');
  expect(reads.body.items[0]).toMatchObject({
    ...{ caller: 'admin.steward', person: 'steward', what: ['mail', 'keys', 'reasons'] },
  });
}, 60_000);

/** Until no role has anything to do for the tool. */
async function untilSettled(): Promise<void> {
  for (;;) {
    const { rowCount } = await owner.query(
      `SELECT FROM convergence WHERE subject = $1 AND applied < wanted AND state NOT IN ('parked', 'waiting')`,
      [uid],
    );
    if (rowCount === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
