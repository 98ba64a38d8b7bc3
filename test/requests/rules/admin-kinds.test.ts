/** survey.run, repair.run, sweep.release and finding.ignore: who may ask, and what intake decides without any server. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { beginSweep, endSweep } from '../../../src/drift/sweeps-table.ts';
import { openPool, type Pool, withClient } from '../../../src/database/connection.ts';
import type { Config } from '../../../src/shared/config.ts';
import { type BootstrappedRealm, openBootstrappedRealm, type Wish } from '../bootstrapped-realm.ts';

let realm: BootstrappedRealm;
let sweep: Pool;
let tool: number;
const by = { requestedBy: 'steward' };
const DIGEST = 'ab'.repeat(32);
const OTHER = 'cd'.repeat(32);
const own = { as: 'steward' };

beforeAll(async () => {
  realm = await openBootstrappedRealm('admin_kinds');
  sweep = openPool(realm.world.config, 'sweep', { max: 1, durable: false });
  await realm.ask({ ...by, kind: 'tool.create', name: 'bot', title: 'T' });
  const { rows } = await realm.owner.query(`SELECT uid FROM tools WHERE name = 'bot'`);
  tool = (rows[0] as { uid: number }).uid;
});
afterAll(async () => {
  await sweep.end();
  await realm.close();
});

const FINDING = {
  kind: 'finding.ignore',
  tool: 'bot',
  target: 'home-directory',
  code: 'PATH_FOREIGN',
};
const WISHES: Record<string, Wish> = {
  'survey.run': { ...by, kind: 'survey.run' },
  'repair.run': { ...by, kind: 'repair.run', digest: DIGEST },
  'sweep.release': { ...by, kind: 'sweep.release', digest: DIGEST },
  'finding.ignore': { ...by, ...FINDING, reason: 'known' },
};

describe.each(Object.keys(WISHES))('%s', (kind) => {
  const wish = WISHES[kind]!;
  const speaking = (config: Config): Config => ({
    ...config,
    portals: config.portals.map((portal) => ({ ...portal, speaksForAdmins: true })),
  });

  test('no portal may send it, not even one that speaks for admins', async () => {
    for (const config of [realm.world.config, speaking(realm.world.config)]) {
      const verdict = await realm.ask(wish, config);
      expect(verdict).toMatchObject({ verdict: 'refused', code: 'NOT_ALLOWED' });
      expect(verdict.sentence).toMatch(/own key/u);
    }
  });

  test('nor the own key of somebody who is not an admin, in any name', async () => {
    await realm.ask({
      ...{ kind: 'person.create', requestedBy: 'second', shellName: 'second' },
      ...{ displayName: 'S', email: 's@example.org' },
    });
    for (const requestedBy of ['second', 'steward']) {
      const verdict = await realm.ask({ ...wish, requestedBy }, undefined, { as: 'second' });
      expect(verdict).toMatchObject({ verdict: 'refused', code: 'NOT_ALLOWED' });
    }
  });
});

test('a survey is written down for the process that sweeps; a check of it, and the same again, write nothing', async () => {
  const count = async () =>
    (await realm.owner.query('SELECT FROM kept_surveys')).rowCount as number;
  const wish = { ...by, kind: 'survey.run', subjects: ['tools.bot', 'steward'] };
  expect(await realm.ask(wish, undefined, { ...own, check: true })).toMatchObject({
    verdict: 'accepted',
  });
  expect(await count()).toBe(0);
  const jti = randomUUID();
  for (let times = 0; times < 2; times += 1) {
    expect(await realm.ask(wish, undefined, { ...own, jti })).toMatchObject({
      verdict: 'accepted',
    });
  }
  expect(await count()).toBe(1);
  const { rows } = await realm.owner.query(
    `SELECT s.subjects, s.asked_by, q.done_at FROM kept_surveys s JOIN requests q ON q.jti = s.id`,
  );
  expect(rows).toEqual([
    { subjects: expect.arrayContaining([tool]), asked_by: 'steward', done_at: null },
  ]);
});

test.each<[string, Record<string, unknown>, string]>([
  ['a subject that does not exist', { subjects: ['nobody'] }, 'PERSON_UNKNOWN'],
  ['a role that does not exist', { role: 'intake' }, 'REQUEST_INVALID'],
  ['a target that does not exist', { target: 'nothing' }, 'REQUEST_INVALID'],
  ['a target of another role', { role: 'homes', target: 'seal' }, 'REQUEST_INVALID'],
  [
    'a target that none can have',
    { subjects: ['steward'], target: 'sudo-rule' },
    'REQUEST_INVALID',
  ],
  ['no subject at all', { subjects: [] }, 'REQUEST_INVALID'],
])('a survey of %s is refused', async (_, fields, code) => {
  const verdict = await realm.ask({ ...by, kind: 'survey.run', ...fields }, undefined, own);
  expect(verdict).toMatchObject({ verdict: 'refused', code });
});

test('a repair needs a digest that is one', async () => {
  for (const digest of [undefined, '', 'x', DIGEST.toUpperCase()]) {
    const wish = { ...by, kind: 'repair.run', digest };
    expect(await realm.ask(wish, undefined, own)).toMatchObject({ code: 'REQUEST_INVALID' });
  }
});

test('a held sweep is released once, by its digest; the audit says by whom', async () => {
  const release = (digest: string, options = {}) =>
    realm.ask({ ...by, kind: 'sweep.release', digest }, undefined, { ...own, ...options });
  expect(await release(DIGEST)).toMatchObject({ verdict: 'refused', code: 'SWEEP_NOT_HELD' });
  const id = randomUUID();
  const ending = {
    ...{ state: 'held' as const, subjects: 9, drifted: 9, steps: 9, findings: 0, unreadable: 0 },
    ...{ digest: DIGEST, sentence: 'too much' },
  };
  await withClient(sweep, async (client) => {
    await beginSweep(client, id);
    await endSweep(client, id, ending, { used: [], events: [] });
  });
  const other = await release(OTHER);
  expect(other).toMatchObject({ verdict: 'refused', code: 'PLAN_MOVED' });
  expect(other.sentence).toContain(DIGEST);
  expect(await release(DIGEST, { check: true })).toMatchObject({ verdict: 'accepted' });
  const jti = randomUUID();
  expect(await release(DIGEST, { jti })).toEqual({ verdict: 'accepted' });
  expect(await release(DIGEST, { jti })).toEqual({ verdict: 'accepted' });
  expect(await release(DIGEST)).toMatchObject({ verdict: 'refused', code: 'SWEEP_NOT_HELD' });
  const { rows } = await realm.owner.query(
    `SELECT r.digest, r.by, a.requested_by, a.portal FROM sweep_releases r, audit a
     WHERE a.kind = 'sweep.release' AND a.verdict = 'accepted'`,
  );
  expect(rows).toEqual([
    { digest: DIGEST, by: 'steward', requested_by: 'steward', portal: 'admin.steward' },
  ]);
});

describe('finding.ignore', () => {
  const ask = (fields: Record<string, unknown>, options = {}) =>
    realm.ask({ ...by, ...FINDING, ...fields }, undefined, { ...own, ...options });
  const see = (object: string, sentence: string) =>
    realm.owner.query(
      `INSERT INTO drifts (subject, role, target, object, what, sentence)
       VALUES ($1, 'homes', 'home-directory', $2, 'PATH_FOREIGN', $3)`,
      [tool, object, sentence],
    );
  const ignored = async () =>
    (
      await realm.owner.query(
        'SELECT target, object, code, sentence, by, reason, until FROM ignored_findings',
      )
    ).rows;

  test('refuses what nobody has seen, and what has no reason', async () => {
    expect(await ask({ reason: 'known' })).toMatchObject({ code: 'FINDING_UNKNOWN' });
    expect(await ask({ end: true })).toMatchObject({ code: 'FINDING_UNKNOWN' });
    expect(await ask({ reason: ' ' })).toMatchObject({ code: 'REQUEST_INVALID' });
    expect(await ask({ tool: 'none', reason: 'x' })).toMatchObject({ code: 'TOOL_UNKNOWN' });
    expect(await ask({ reason: 'x', target: 'none' })).toMatchObject({ code: 'REQUEST_INVALID' });
    expect(await ignored()).toEqual([]);
  });

  test('notes the finding as it was seen, by whom, why and until when; `end` ends it', async () => {
    await see('/data/project/bot', 'It belongs to 7.');
    const until = new Date(Date.now() + 3_600_000).toISOString();
    const past = new Date(0).toISOString();
    expect(await ask({ reason: 'x', until: past })).toMatchObject({ code: 'REQUEST_INVALID' });
    expect(await ask({ reason: 'known', until }, { check: true })).toMatchObject({
      verdict: 'accepted',
    });
    expect(await ignored()).toEqual([]);
    expect(await ask({ reason: 'known', until })).toEqual({ verdict: 'accepted' });
    expect(await ignored()).toEqual([
      {
        ...{ target: 'home-directory', object: '/data/project/bot', code: 'PATH_FOREIGN' },
        ...{ sentence: 'It belongs to 7.', by: 'steward', reason: 'known', until: new Date(until) },
      },
    ]);
    expect(await ask({ end: true })).toEqual({ verdict: 'accepted' });
    expect(await ignored()).toEqual([]);
  });

  test('of several with that code, one must be named', async () => {
    await see('/data/project/bot/other', 'It is a file.');
    expect(await ask({ reason: 'x' })).toMatchObject({ code: 'FINDING_UNKNOWN' });
    expect(await ask({ reason: 'x', object: '/data/project/bot/other' })).toEqual({
      verdict: 'accepted',
    });
    await ask({ end: true });
  });

  test('refuses whatever may concern access that was revoked', async () => {
    await realm.ask({ ...by, kind: 'tool.disable', tool: 'bot', reason: 'x' }, undefined, own);
    const verdict = await ask({ reason: 'x', object: '/data/project/bot' });
    expect(verdict).toMatchObject({ verdict: 'refused', code: 'FINDING_CLOSED' });
    await realm.ask({ ...by, kind: 'tool.enable', tool: 'bot' }, undefined, own);
    // a person without access to the realm
    const person = { tool: undefined, person: 'second', target: 'unix-account', reason: 'x' };
    expect(await ask(person)).toMatchObject({ verdict: 'refused', code: 'FINDING_CLOSED' });
  });
});

test('an admin may have ten surveys that have not ended, and each that ends makes room', async () => {
  const ask = () => realm.ask({ ...by, kind: 'survey.run' }, undefined, own);
  await realm.owner.query(`UPDATE kept_surveys SET state = 'done'`);
  for (let n = 0; n < 10; n += 1) expect(await ask()).toMatchObject({ verdict: 'accepted' });
  expect(await ask()).toMatchObject({ verdict: 'refused', code: 'SURVEYS_WAIT' });
  const repair = { ...by, kind: 'repair.run', digest: DIGEST };
  expect(await realm.ask(repair, undefined, own)).toMatchObject({ code: 'SURVEYS_WAIT' });
  await realm.owner.query(
    `UPDATE kept_surveys SET state = 'done' WHERE id IN (SELECT id FROM kept_surveys WHERE state <> 'done' LIMIT 1)`,
  );
  expect(await ask()).toMatchObject({ verdict: 'accepted' });
});
