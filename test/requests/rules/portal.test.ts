/** Portals by request: who may add, change and remove them, what is refused, and what a decided request still counts. */
import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  randomUUID,
} from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { composeConfig, effectiveOf } from '../../../src/configuration/effective.ts';
import { noteListedPortals, removeReplacedPortals } from '../../../src/requests/portals-table.ts';
import { writeEvents } from '../../../src/events/events-table.ts';
import { transact } from '../../../src/database/connection.ts';
import { signToken, verifyCall, signCall } from '../../../src/requests/token.ts';
import { checkJob, giveVerdict, type Verdict } from '../../../src/requests/verdict.ts';
import type { Config } from '../../../src/shared/config.ts';
import { fingerprintOf, lineOf } from '../../../src/ssh-keys/ed25519-key.ts';
import { type BootstrappedRealm, openBootstrappedRealm, type Wish } from '../bootstrapped-realm.ts';

let realm: BootstrappedRealm;
type Rest = Record<string, unknown>;
let made = 0;

const newKey = () => generateKeyPairSync('ed25519').privateKey;
const pub = (key: KeyObject, kid = 'one') => ({ kid, publicKey: lineOf(key) });
const newHash = () => randomBytes(32).toString('hex');
const queue = (redisPasswordSha256: string): Rest => ({ events: 'queue', redisPasswordSha256 });
const newName = () => `bridge${(made += 1)}`;

function ask(kind: string, by: 'steward' | 'second', rest: Rest): Promise<Verdict> {
  return realm.ask({ kind, requestedBy: by, ...rest }, undefined, { as: by });
}
async function must(kind: string, by: 'steward' | 'second', rest: Rest): Promise<void> {
  expect([kind, rest, await ask(kind, by, rest)]).toEqual([kind, rest, { verdict: 'accepted' }]);
}

/** What waits, by the portal that it is about. */
async function waiting(about: string): Promise<{ request: string; why: string }> {
  const { rows } = await realm.owner.query<{ request: string; why: string }>(
    `SELECT request, why FROM approvals WHERE state = 'open' AND about = $1`,
    [about],
  );
  expect(rows).toHaveLength(1);
  return rows[0]!;
}
const isWaiting = async (about: string): Promise<boolean> => {
  const { rowCount } = await realm.owner.query(
    `SELECT FROM approvals WHERE state = 'open' AND about = $1`,
    [about],
  );
  return rowCount !== 0;
};

async function approve(name: string): Promise<void> {
  await must('request.approve', 'second', { request: (await waiting(name)).request });
}

function wish(name: string, key: KeyObject, rest: Rest = {}): Rest {
  return { name, keys: [pub(key)], kinds: ['person.create'], ...rest };
}

async function add(name: string, key: KeyObject, rest: Rest = {}): Promise<void> {
  await must('portal.add', 'steward', wish(name, key, rest));
  await approve(name);
}

const current = (): Promise<Config> => effectiveOf(realm.world.config, realm.intake);

/** Checks what a portal has signed by that configuration, and returns what decides on it. */
async function sign(config: Config, name: string, key: KeyObject, request: Wish, kid = 'one') {
  const of = { portal: name, realm: config.realm, kid, jti: randomUUID(), request };
  const token = await signToken(key, { ...of, sub: request.requestedBy, now: new Date() });
  const job = await checkJob(config, name, { token }, new Date());
  if (!('signed' in job)) throw new Error(`no request: ${job.sentence}`);
  return () =>
    transact(realm.intake, async () => {
      const { verdict, events } = await giveVerdict(realm.intake, config, job, {
        ...{ urgentQueue: false, now: new Date() },
      });
      await writeEvents(realm.intake, events);
      return verdict;
    });
}
const person = (): Wish => {
  const shellName = newName();
  const email = `${shellName}@example.org`;
  return {
    kind: 'person.create',
    requestedBy: shellName,
    shellName,
    displayName: shellName,
    email,
  };
};

beforeAll(async () => {
  realm = await openBootstrappedRealm('portals');
  await must('person.create', 'steward', {
    ...{ shellName: 'second', displayName: 'Second', email: 'second@example.org' },
  });
  await must('access.grant', 'steward', { person: 'second' });
  await must('maintainer.add', 'steward', { tool: 'admin', person: 'second' });
});
afterAll(() => realm.close());
beforeEach(() => realm.ageAdmins());

describe('portal.add', () => {
  test('waits for another admin, who reads what the portal gets; two may wait at once', async () => {
    const [one, other] = [newName(), newName()];
    const key = newKey();
    await must('portal.add', 'steward', wish(one, key, { reads: ['own'], speaksForAdmins: true }));
    await must('portal.add', 'steward', wish(other, newKey()));
    expect((await waiting(one)).why).toBe(
      `Another admin must approve the new portal ${one}: key ${fingerprintOf(key)}; kinds person.create; reads own; speaksForAdmins.`,
    );
    expect(await ask('portal.add', 'steward', wish(one, newKey()))).toMatchObject({
      code: 'WAITS_ALREADY',
    });
    const { request } = await waiting(one);
    expect(await ask('request.approve', 'steward', { request })).toMatchObject({
      code: 'OWN_REQUEST',
    });
    expect((await current()).portals.map(({ name }) => name)).not.toContain(one);
    await approve(one);
    await approve(other);
    expect((await current()).portals.find(({ name }) => name === one)).toMatchObject({
      ...{ byRequest: true, events: 'http', reads: ['own'], subjectEvents: false },
    });
    const { rows } = await realm.owner.query(
      `SELECT kind, account, fields FROM audit WHERE $1 = ANY (fields) ORDER BY id`,
      [`portal ${one}`],
    );
    const fields = [
      ...[`portal ${one}`, 'keys', 'kinds', 'reads', 'speaksForAdmins'],
      `+${fingerprintOf(key)}`,
    ];
    expect(rows).toEqual([
      { kind: 'portal.add', account: 'steward', fields: [...fields, 'approval'] },
      { kind: 'request.approve', account: 'steward', fields },
    ]);
    const { rows: shown } = await realm.owner.query(
      'SELECT kind FROM request_progress WHERE account = $1 ORDER BY number',
      [one],
    );
    expect(shown).toEqual([{ kind: 'portal.add' }, { kind: 'request.approve' }]);
  });

  test('is refused to a puppet who approves it', async () => {
    const name = newName();
    await must('maintainer.remove', 'steward', { tool: 'admin', person: 'second' });
    await must('maintainer.add', 'steward', { tool: 'admin', person: 'second' });
    await must('portal.add', 'steward', wish(name, newKey()));
    const { request } = await waiting(name);
    expect(await ask('request.approve', 'second', { request })).toMatchObject({
      code: 'NOT_ANOTHER_ADMIN',
    });
  });

  test('is refused to a portal, also to one that speaks for admins', async () => {
    const rests = { 'portal.remove': { name: 'x' }, 'portal.hand-over': { name: 'x', to: 'y' } };
    for (const kind of ['portal.add', 'portal.update', ...Object.keys(rests)]) {
      const rest = (rests as Record<string, Rest>)[kind] ?? wish('x', newKey());
      expect(await realm.ask({ kind, requestedBy: 'steward', ...rest })).toMatchObject({
        code: 'NOT_ALLOWED',
        sentence: expect.stringMatching(/No portal may send it\.$/u),
      });
    }
  });

  test('what is refused', async () => {
    const [taken, removed] = [newName(), newName()];
    const [used, gone, key] = [newKey(), newKey(), newKey()];
    const usedHash = newHash();
    await add(taken, used, queue(usedHash));
    await add(removed, gone);
    await must('portal.remove', 'steward', { name: removed });
    const listed = (of: string) =>
      realm.world.config.portals.find(({ name }) => name === of)!.keys[0]!.publicKey;
    const server = realm.world.config.databases.servers[0]!.name;
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
    const pem = rsa.export({ type: 'spki', format: 'pem' }).toString();
    const secret = key.export({ type: 'pkcs8', format: 'pem' }).toString();
    const refusals: [Rest, string][] = [
      [{ name: 'admin.x' }, 'REQUEST_INVALID'],
      [{ name: 'admin._' }, 'REQUEST_INVALID'],
      [{ name: 'urgent.x' }, 'REQUEST_INVALID'],
      [{ name: 'Bridge' }, 'REQUEST_INVALID'],
      [{ name: 'portal' }, 'PORTAL_LISTED'],
      [{ name: taken }, 'PORTAL_TAKEN'],
      [{ name: server }, 'PORTAL_TAKEN'],
      [{ keys: [] }, 'REQUEST_INVALID'],
      [{ keys: [pub(key), pub(newKey())] }, 'REQUEST_INVALID'],
      [{ keys: [pub(key, 'one'), pub(key, 'two')] }, 'REQUEST_INVALID'],
      [{ keys: [{ kid: 'one', publicKey: pem }] }, 'REQUEST_INVALID'],
      [{ keys: [{ kid: 'one', publicKey: secret }] }, 'REQUEST_INVALID'],
      [{ keys: [pub(used)] }, 'PORTAL_KEY_TAKEN'],
      [{ keys: [pub(gone)] }, 'PORTAL_KEY_TAKEN'],
      [{ keys: [{ kid: 'one', publicKey: listed('portal') }] }, 'PORTAL_KEY_TAKEN'],
      [{ keys: [{ kid: 'one', publicKey: listed('admin.steward') }] }, 'PORTAL_KEY_TAKEN'],
      [{ kinds: [] }, 'REQUEST_INVALID'],
      [{ kinds: ['no.kind'] }, 'REQUEST_INVALID'],
      [{ reads: ['everything'] }, 'REQUEST_INVALID'],
      [{ events: 'queue' }, 'REQUEST_INVALID'],
      [{ redisPasswordSha256: newHash() }, 'REQUEST_INVALID'],
      [{ events: 'http', redisPasswordSha256: newHash() }, 'REQUEST_INVALID'],
      [queue('x'), 'REQUEST_INVALID'],
      [queue(newHash().toUpperCase()), 'REQUEST_INVALID'],
      [queue(createHash('sha256').update('').digest('hex')), 'REQUEST_INVALID'],
      [queue(usedHash), 'PORTAL_KEY_TAKEN'],
      [{ byRequest: false }, 'REQUEST_INVALID'],
    ];
    for (const [rest, code] of refusals) {
      const verdict = await ask('portal.add', 'steward', { ...wish(newName(), key), ...rest });
      expect([rest, verdict]).toEqual([rest, expect.objectContaining({ code })]);
    }
  });

  test('a removed name can come again, with another key', async () => {
    const [name, old, key] = [newName(), newKey(), newKey()];
    await add(name, old);
    await must('portal.remove', 'steward', { name });
    expect(await ask('portal.add', 'steward', wish(name, old))).toMatchObject({
      code: 'PORTAL_KEY_TAKEN',
    });
    await add(name, key);
    const config = await current();
    expect(await (await sign(config, name, key, person()))()).toEqual({ verdict: 'accepted' });
    await expect(sign(config, name, old, person())).rejects.toThrow('is not signed with a key');
  });

  test('a key of an admin is none of a portal, and the other way round', async () => {
    const key = newKey();
    await must('admin-key.add', 'steward', {
      ...{ publicKey: lineOf(key), label: 'x', expiresAt: '2100-01-01T00:00:00Z' },
    });
    const { rows } = await realm.owner.query(
      `SELECT request FROM approvals WHERE state = 'open' AND kind = 'admin-key.add'`,
    );
    await must('request.approve', 'second', rows[0] as Rest);
    await realm.ageAdmins();
    expect(await ask('portal.add', 'steward', wish(newName(), key))).toMatchObject({
      code: 'PORTAL_KEY_TAKEN',
    });
    // and the other way round
    const [name, ofPortal] = [newName(), newKey()];
    await add(name, ofPortal);
    const { code } = await realm.ask(
      {
        ...{ kind: 'admin-key.add', requestedBy: 'steward', publicKey: lineOf(ofPortal) },
        ...{ label: 'x', expiresAt: '2100-01-01T00:00:00Z' },
      },
      undefined,
      { as: 'steward' },
    );
    expect(code).toBe('ADMIN_KEY_TAKEN');
  });
});

describe('the password of Redis of a portal with a queue', () => {
  /** Somebody may have written into its queues, in which our programs work with their own rights without a user. */
  const requireNotOverHttp = async (name: string) => {
    for (const [rest, sentence] of [
      [{}, / has or had a user of Redis.* events: queue, or choose another name/u],
      [{ events: 'queue' }, / needs `redisPasswordSha256`/u],
    ] as const) {
      expect(await ask('portal.add', 'steward', wish(name, newKey(), rest))).toMatchObject({
        ...{ code: 'REQUEST_INVALID', sentence: expect.stringMatching(sentence) },
      });
    }
  };
  const fieldsOf = async (name: string) => {
    const { rows } = await realm.owner.query<{ fields: string[] }>(
      `SELECT fields FROM audit WHERE $1 = ANY (fields) AND NOT 'approval' = ANY (fields) ORDER BY id`,
      [`portal ${name}`],
    );
    return rows.map(({ fields }) => fields.filter((each) => /redis|removed/u.test(each)));
  };

  test('is approved by another admin, each new one too; nobody reads more than its first digits', async () => {
    const [name, key] = [newName(), newKey()];
    const [first, next, third] = [newHash(), newHash(), newHash()];
    await must('portal.add', 'steward', wish(name, key, queue(first)));
    expect((await waiting(name)).why).toContain(
      `; password of Redis with the SHA-256 ${first.slice(0, 20)}…; kinds`,
    );
    await approve(name);
    await must('portal.update', 'steward', { name, redisPasswordSha256: next });
    expect((await waiting(name)).why).toBe(
      `Another admin must approve what the portal ${name} gets in addition: password of Redis with the SHA-256 ${next.slice(0, 20)}….`,
    );
    await approve(name);
    expect((await current()).portals.find((each) => each.name === name)).toMatchObject({
      ...{ events: 'queue', redisPasswordSha256: next },
    });
    // one that was replaced never counts again, and without a change nothing is asked for
    for (const [hash, code] of [
      [first, 'PORTAL_KEY_TAKEN'],
      [next, 'REQUEST_INVALID'],
    ]) {
      const again = { name, redisPasswordSha256: hash };
      expect(await ask('portal.update', 'steward', again)).toMatchObject({ code });
    }
    await must('portal.update', 'steward', { name, subjectEvents: true, kinds: 'all' });
    await approve(name);
    await must('portal.remove', 'second', { name });
    const digits = (hash: string) => `redis:${hash.slice(0, 20)}`;
    expect(await fieldsOf(name)).toEqual([
      [`+${digits(first)}`],
      ['redisPasswordSha256', `+${digits(next)}`, `-${digits(first)}`],
      [],
      ['removed', `-${digits(next)}`],
    ]);
    await requireNotOverHttp(name);
    await add(name, newKey(), queue(third));
  });

  test('is needed under the name of every portal that the file has listed', async () => {
    const [name, key] = [newName(), newKey()];
    await add(name, key);
    const file = { ...realm.world.config, portals: [{ ...realm.world.config.portals[0]!, name }] };
    await noteListedPortals(realm.intake, file);
    await removeReplacedPortals(realm.intake, file);
    const { rows } = await realm.owner.query(
      `SELECT fields[1:2] AS fields FROM audit WHERE requested_by = 'the configuration file'`,
    );
    expect(rows).toEqual([{ fields: [`portal ${name}`, 'removed'] }]);
    // it does not count again when the file no longer lists the name
    expect((await current()).portals.map((each) => each.name)).not.toContain(name);
    await requireNotOverHttp(name);
    await add(name, newKey(), queue(newHash()));
    await noteListedPortals(realm.intake, file);
    await removeReplacedPortals(realm.intake, file);
    expect((await current()).portals.map((each) => each.name)).toContain(name);
  });

  test('is for a portal with a queue only, and how it gets events does not change', async () => {
    const [ofHttp, ofQueue] = [newName(), newName()];
    await add(ofHttp, newKey());
    await add(ofQueue, newKey(), queue(newHash()));
    for (const rest of [
      { name: ofHttp, redisPasswordSha256: newHash() },
      { name: ofHttp, events: 'queue', redisPasswordSha256: newHash() },
      { name: ofQueue, events: 'http' },
      { name: ofQueue, redisPasswordSha256: null },
    ]) {
      expect(await ask('portal.update', 'steward', rest)).toMatchObject({
        code: 'REQUEST_INVALID',
      });
    }
    // nobody else has written into its queues
    await must('portal.remove', 'steward', { name: ofHttp });
    await add(ofHttp, newKey(), queue(newHash()));
  });
});

describe('portal.update', () => {
  test('one admin takes away; another must approve what adds', async () => {
    const [name, key, next] = [newName(), newKey(), newKey()];
    await add(name, key, { kinds: ['person.create', 'tool.create'], subjectEvents: true });
    const changes: [Rest, boolean][] = [
      [{ kinds: ['person.create'] }, false],
      [{ subjectEvents: false }, false],
      [{ keys: [pub(key, 'renamed')] }, false],
      [{ kinds: ['person.create', 'key.add'] }, true],
      [{ kinds: 'all' }, true],
      [{ kinds: ['tool.create'] }, false],
      [{ reads: ['own'] }, true],
      [{ reads: [] }, false],
      [{ subjectEvents: true }, true],
      [{ speaksForAdmins: true }, true],
      [{ verifiesMail: true }, true],
      [{ mostCallsPerMinute: 7000 }, true],
      [{ mostCallsPerMinute: 100 }, false],
      [{ mostCallsPerMinute: 200 }, true],
      [{ speaksForAdmins: false, kinds: 'all' }, true],
      [{ keys: [pub(key, 'one'), pub(next, 'two')] }, true],
      [{ keys: [pub(next, 'two')] }, false],
    ];
    for (const [rest, waits] of changes) {
      await must('portal.update', 'steward', { name, ...rest });
      expect([rest, await isWaiting(name)]).toEqual([rest, waits]);
      if (waits) await approve(name);
      expect((await current()).portals.find((each) => each.name === name)).toMatchObject(
        'keys' in rest ? { keys: [{}, {}].slice(0, (rest['keys'] as []).length) } : rest,
      );
    }
    const refusals: [Rest, string][] = [
      [{ name }, 'REQUEST_INVALID'],
      [{ name, kinds: 'all' }, 'REQUEST_INVALID'],
      [{ name, keys: [pub(key)] }, 'PORTAL_KEY_TAKEN'],
      [{ name, keys: [pub(next, 'two'), pub(next, 'three')] }, 'REQUEST_INVALID'],
      [{ name, events: 'queue' }, 'REQUEST_INVALID'],
      [{ name: 'portal', kinds: 'all' }, 'PORTAL_LISTED'],
      [{ name: 'nobody', kinds: 'all' }, 'PORTAL_UNKNOWN'],
    ];
    for (const [rest, code] of refusals) {
      const verdict = await ask('portal.update', 'steward', rest);
      expect([rest, verdict]).toEqual([rest, expect.objectContaining({ code })]);
    }
  });

  test('is not approved once the portal has changed', async () => {
    const [name, key] = [newName(), newKey()];
    await add(name, key, { kinds: ['person.create', 'tool.create'] });
    await must('portal.update', 'steward', {
      ...{ name, kinds: ['person.create', 'tool.create', 'key.add'] },
    });
    await must('portal.update', 'second', { name, kinds: ['person.create'] });
    const { request } = await waiting(name);
    expect(await ask('request.approve', 'second', { request })).toMatchObject({
      ...{
        code: 'PORTAL_CHANGED',
        sentence: expect.stringMatching(/^second has changed the portal/u),
      },
    });
    await must('portal.remove', 'second', { name });
    expect(await ask('request.approve', 'second', { request })).toMatchObject({
      code: 'PORTAL_UNKNOWN',
    });
  });
});

describe('what a portal has signed is decided by its row as it is then,', () => {
  test('by whatever configuration it was taken', async () => {
    const [name, key, next] = [newName(), newKey(), newKey()];
    await add(name, key, { kinds: ['person.create', 'access.request'] });
    const config = await current();
    const decide = () => sign(config, name, key, person());
    expect(await (await decide())()).toEqual({ verdict: 'accepted' });
    const [kind, old, removed] = [await decide(), await decide(), await decide()];
    await must('portal.update', 'steward', { name, kinds: ['access.request'] });
    expect(await kind()).toMatchObject({ code: 'REQUEST_KIND_FORBIDDEN' });
    await must('portal.update', 'steward', {
      ...{ name, keys: [pub(next, 'two')], kinds: ['person.create'] },
    });
    await approve(name);
    expect(await old()).toMatchObject({ code: 'PORTAL_DEAD' });
    const now = await current();
    const decideNow = await sign(now, name, next, person(), 'two');
    const late = await sign(now, name, next, person(), 'two');
    expect(await decideNow()).toEqual({ verdict: 'accepted' });
    await must('portal.remove', 'second', { name, reason: 'Stolen.' });
    expect(await removed()).toMatchObject({ code: 'PORTAL_DEAD' });
    expect(await late()).toMatchObject({ code: 'PORTAL_DEAD' });
    await expect(sign(await current(), name, next, person(), 'two')).rejects.toThrow(
      'This realm has no portal',
    );
    expect(await ask('portal.remove', 'second', { name })).toMatchObject({
      code: 'PORTAL_UNKNOWN',
    });
  });
});

describe('portal.hand-over', () => {
  const of = async (name: string) =>
    (
      await realm.owner.query(
        `SELECT event, seq::int FROM events WHERE portal = $1 ORDER BY seq, row_id`,
        [name],
      )
    ).rows as { event: string; seq: number | null }[];
  /** Five events: two are confirmed, two are numbered, one is not. */
  const tell = (name: string) =>
    realm.owner.query(
      `WITH told AS (INSERT INTO events (portal, event, seq)
         SELECT '${name}', 'event ' || n, CASE WHEN n < 5 THEN n END FROM generate_series(1, 5) AS n)
       , numbered AS (INSERT INTO event_sequences VALUES ('${name}', 4))
       INSERT INTO event_deliveries (portal, completed, sent) VALUES ('${name}', 2, 3)`,
    );

  test('gives what a removed portal has not confirmed to another one, when another admin approves', async () => {
    const [old, next] = [newName(), newName()];
    await add(old, newKey());
    await add(next, newKey());
    const wanted = { name: old, to: next };
    const hand = async (rest: Rest = wanted) =>
      await realm.ask(
        { kind: 'portal.hand-over', requestedBy: 'steward', ...rest },
        await current(),
        {
          as: 'steward',
        },
      );
    await tell(old);
    expect(await hand()).toMatchObject({ code: 'PORTAL_TAKEN' });
    await must('portal.remove', 'steward', { name: old });
    for (const [rest, sentence] of [
      [{ to: 'nobody' }, /^There is no portal nobody\./u],
      [{ to: 'admin.steward' }, /^There is no portal admin\.steward\./u],
      [{ to: old }, /^The portal bridge\d+ was removed,/u],
      [{ name: 'nobody' }, /^There was no portal nobody\./u],
    ] as const) {
      expect(await hand({ ...wanted, ...rest })).toMatchObject({
        ...{ code: 'PORTAL_UNKNOWN', sentence: expect.stringMatching(sentence) },
      });
    }
    expect(await hand()).toEqual({ verdict: 'accepted' });
    const { request, why } = await waiting(old);
    expect(why).toBe(
      `Another admin must approve that the portal ${next} gets the events that the removed portal ${old} has not taken, whatever its own rights are: 3 at present.`,
    );
    expect(await of(next)).toEqual([]);
    const approval = { kind: 'request.approve', requestedBy: 'second', request };
    expect(await realm.ask(approval, await current(), { as: 'second' })).toEqual({
      verdict: 'accepted',
    });
    expect((await of(next)).filter(({ seq }) => seq === null).map(({ event }) => event)).toEqual([
      ...['event 3', 'event 4', 'event 5'],
    ]);
    expect(await of(old)).toHaveLength(2);
    const { rows } = await realm.owner.query(
      `SELECT d.removed::int, array_agg(e.seq::int ORDER BY e.seq) AS erased
       FROM event_deliveries d JOIN event_erasures e USING (portal) WHERE portal = $1 GROUP BY 1`,
      [old],
    );
    expect(rows).toEqual([{ removed: 4, erased: [3, 4] }]);
    expect(await hand()).toMatchObject({ code: 'REQUEST_INVALID' });
    await realm.owner.query(
      `INSERT INTO events (portal, event) SELECT $1, 'more' FROM generate_series(1, 5001)`,
      [old],
    );
    expect(await hand()).toEqual({ verdict: 'accepted' });
    expect((await waiting(old)).why).toContain(
      'more than 5000 at present, of which it gets the oldest 5000.',
    );
  });

  test('gives nothing if the portal came back before the approval', async () => {
    const [old, next] = [newName(), newName()];
    await add(old, newKey());
    await add(next, newKey());
    await tell(old);
    await must('portal.remove', 'steward', { name: old });
    const hand = { kind: 'portal.hand-over', requestedBy: 'steward', name: old, to: next };
    expect(await realm.ask(hand, await current(), { as: 'steward' })).toEqual({
      verdict: 'accepted',
    });
    const { request } = await waiting(old);
    await realm.owner.query(`UPDATE approvals SET about = 'hand' WHERE request = $1`, [request]);
    await add(old, newKey());
    const approval = { kind: 'request.approve', requestedBy: 'second', request };
    expect(await realm.ask(approval, await current(), { as: 'second' })).toMatchObject({
      code: 'PORTAL_TAKEN',
    });
    expect(await of(next)).toEqual([]);
    await must('portal.remove', 'steward', { name: old });
    expect(await realm.ask(approval, await current(), { as: 'second' })).toMatchObject({
      code: 'PORTAL_CHANGED',
    });
  });
});

test('the file counts where it lists the same name, and the row can then only be removed', async () => {
  const [name, key, ofFile] = [newName(), newKey(), newKey()];
  await add(name, key);
  const publicKey = createPublicKey(ofFile).export({ type: 'spki', format: 'pem' }).toString();
  const file = {
    ...realm.world.config,
    portals: [
      ...realm.world.config.portals,
      { ...realm.world.config.portals[0]!, name, keys: [{ kid: 'one', publicKey }] },
    ],
  };
  const config = await effectiveOf(file, realm.intake);
  expect(config.portals.filter((each) => each.name === name)).toEqual([file.portals.at(-1)]);
  const call = { method: 'GET', target: '/v1/status' };
  const of = { portal: name, realm: config.realm, kid: 'one', jti: 'x', now: new Date() };
  const token = await signCall(key, { ...of, ...call });
  expect(verifyCall(token, call, config, new Date())).toHaveProperty('sentence');
  const own = { as: 'steward' };
  const update = { kind: 'portal.update', requestedBy: 'steward', name, kinds: 'all' };
  expect(await realm.ask(update, config, own)).toMatchObject({ code: 'PORTAL_LISTED' });
  const removal = { kind: 'portal.remove', requestedBy: 'steward', name };
  expect(await realm.ask(removal, config, own)).toEqual({ verdict: 'accepted' });
  expect(await realm.ask(removal, config, own)).toMatchObject({ code: 'PORTAL_LISTED' });
});

test('a row that is wrong stops the reload, and says what is wrong', () => {
  const rows = { portals: [{ name: 'bridge', keys: [], kinds: 'all' }] };
  expect(() => composeConfig(realm.world.config, rows)).toThrow(
    /^reading the portal bridge, which was added by request: keys: /u,
  );
});
