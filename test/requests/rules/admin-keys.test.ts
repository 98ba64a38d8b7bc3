/** Admins' own keys: who may add and revoke them, when they are dead, and who counts as another admin. */
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { DAY_MS } from '../../../src/shared/time.ts';
import { fingerprintOf, lineOf } from '../../../src/ssh-keys/ed25519-key.ts';
import {
  type AskOptions,
  type BootstrappedRealm,
  openBootstrappedRealm,
} from '../bootstrapped-realm.ts';

let realm: BootstrappedRealm;
type Rest = Record<string, unknown>;

/** The keys of the admins whom the configuration does not know. */
const keys = new Map<string, KeyObject>();

/** Sends a request of an admin, signed with their own key. Returns the verdict. */
async function ask(kind: string, by: string, rest: Rest, options: AskOptions = {}) {
  const own = keys.get(by);
  const signing =
    by === 'steward' || by === 'second' ? { as: by } : { own: { admin: by, key: own! } };
  return await realm.ask({ kind, requestedBy: by, ...rest }, undefined, { ...signing, ...options });
}

async function must(kind: string, by: string, rest: Rest, options?: AskOptions) {
  const verdict = await ask(kind, by, rest, options);
  expect([kind, by, rest, verdict]).toEqual([kind, by, rest, { verdict: 'accepted' }]);
}

const newKey = () => generateKeyPairSync('ed25519').privateKey;
const inDays = (days: number) => new Date(Date.now() + days * DAY_MS);

function wish(key: KeyObject, rest: Rest = {}): Rest {
  return {
    publicKey: lineOf(key),
    label: 'laptop',
    expiresAt: inDays(300).toISOString(),
    ...rest,
  };
}

/** The id of the only request that waits. */
async function waiting(): Promise<string> {
  const { rows } = await realm.owner.query(`SELECT request FROM approvals WHERE state = 'open'`);
  expect(rows).toHaveLength(1);
  return (rows[0] as { request: string }).request;
}

let people = 0;
/** A new admin with a key, whom `by` has made one; the key was approved by `approver`. */
async function newAdmin(by: string, approver: string): Promise<string> {
  const name = `admin${(people += 1)}`;
  await must('person.create', by, {
    ...{ shellName: name, displayName: name, email: `${name}@example.org` },
  });
  await must('access.grant', by, { person: name });
  await must('maintainer.add', by, { tool: 'admin', person: name });
  keys.set(name, newKey());
  await must('admin-key.add', by, wish(keys.get(name)!, { person: name }));
  await must('request.approve', approver, { request: await waiting() });
  return name;
}

/** Lets a request of one admin wait, and has another approve it. Returns the code of the refusal. */
async function decides(approver: string, requester: string, options?: AskOptions) {
  await must('admin-key.add', requester, wish(newKey()));
  const request = await waiting();
  const { code } = await ask('request.approve', approver, { request }, options);
  await realm.owner.query(
    `UPDATE approvals SET state = 'rejected', body = NULL, decided_at = now(), decided_by = 'test' WHERE state = 'open'`,
  );
  return code;
}

beforeAll(async () => {
  realm = await openBootstrappedRealm('admin-keys');
  await must('person.create', 'steward', {
    ...{ shellName: 'second', displayName: 'Second', email: 'second@example.org' },
  });
  await must('access.grant', 'steward', { person: 'second' });
  await must('maintainer.add', 'steward', { tool: 'admin', person: 'second' });
  await realm.ageAdmins();
});
afterAll(() => realm.close());
beforeEach(() => realm.ageAdmins());

test('the audit says whom an admin made an admin, in the history of both', async () => {
  await must('maintainer.remove', 'steward', { tool: 'admin', person: 'second' });
  await must('maintainer.add', 'steward', { tool: 'admin', person: 'second' });
  const { rows } = await realm.owner.query(
    `SELECT kind, requested_by AS by, account, fields FROM audit
     WHERE subject IN (SELECT uid FROM people WHERE shell_name = 'second') AND kind LIKE 'maintainer.%' ORDER BY id DESC LIMIT 2`,
  );
  const ofBoth = { by: 'steward', account: 'second', fields: ['maintainers of tools.admin'] };
  expect(rows).toEqual([
    { kind: 'maintainer.add', ...ofBoth },
    { kind: 'maintainer.remove', ...ofBoth },
  ]);
  const ofTool = await realm.owner.query(
    `SELECT fields FROM audit WHERE account = 'tools.admin' AND kind = 'maintainer.remove'`,
  );
  expect(ofTool.rows).toEqual([{ fields: ['maintainers of tools.admin'] }]);
});

describe('admin-key.add', () => {
  test('a key counts once another admin has approved it, as PEM and as a line', async () => {
    for (const form of ['line', 'pem'] as const) {
      const key = newKey();
      const publicKey = form === 'line' ? undefined : { publicKey: publicOf(key) };
      await must('admin-key.add', 'steward', wish(key, publicKey));
      const own = { own: { admin: 'steward', key } };
      await expect(ask('tool.create', 'steward', {}, own)).rejects.toThrow('has no key');
      const request = await waiting();
      expect(await ask('request.approve', 'steward', { request })).toMatchObject({
        code: 'OWN_REQUEST',
      });
      await must('request.approve', 'second', { request });
      const name = `by${form}`;
      await must('tool.create', 'steward', { name, title: 'T' }, own);
      const { rows } = await realm.owner.query(
        `SELECT key FROM audit WHERE kind = 'tool.create' AND account = $1`,
        [`tools.${name}`],
      );
      expect(rows).toEqual([{ key: fingerprintOf(key) }]);
    } // nobody depends on anybody by a key that its owner has asked for
  });

  test('what is refused', async () => {
    const key = newKey();
    const refusals: [Rest, string][] = [
      [{ publicKey: 'ssh-ed25519 AAAA' }, 'KEY_MALFORMED'],
      [{ publicKey: '-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----' }, 'KEY_MALFORMED'],
      [{ publicKey: rsa() }, 'KEY_TYPE'],
      [{ publicKey: `restrict ${lineOf(key)}` }, 'KEY_OPTION'],
      [{ expiresAt: inDays(-1).toISOString() }, 'REQUEST_INVALID'],
      [{ person: 'nobody' }, 'PERSON_UNKNOWN'],
      [{ publicKey: listed('steward') }, 'ADMIN_KEY_TAKEN'],
      [{ publicKey: listed('portal') }, 'ADMIN_KEY_TAKEN'],
    ];
    for (const [rest, code] of refusals) {
      expect([rest, await ask('admin-key.add', 'steward', wish(key, rest))]).toEqual([
        rest,
        expect.objectContaining({ code }),
      ]);
    }
  });

  test('the key of an admin signs only in their name', async () => {
    const admin = await newAdmin('steward', 'second');
    const own = { own: { admin: 'second', key: keys.get(admin)! } };
    await expect(ask('tool.create', 'second', {}, own)).rejects.toThrow('has no key');
  });

  test('what was asked with a key that has been revoked since is not approved', async () => {
    const admin = await newAdmin('steward', 'second');
    await realm.ageAdmins();
    await must('admin-key.add', admin, wish(newKey()));
    const request = await waiting();
    await must('admin-key.revoke', 'second', { fingerprint: fingerprintOf(keys.get(admin)!) });
    expect(await ask('request.approve', 'second', { request })).toMatchObject({
      code: 'ADMIN_KEY_DEAD',
    });
    await must('request.reject', 'second', { request, reason: 'Stolen.' });
  });
});

describe('a dead key', () => {
  const tool = () => ({ name: `dead${(people += 1)}`, title: 'T' });

  test('revoked: by its owner or another admin; for good', async () => {
    for (const by of ['itself', 'second']) {
      const admin = await newAdmin('steward', 'second');
      const fingerprint = fingerprintOf(keys.get(admin)!);
      await must('tool.create', admin, tool());
      await must('admin-key.revoke', by === 'itself' ? admin : by, {
        fingerprint,
        reason: 'Lost.',
      });
      expect(await ask('tool.create', admin, tool())).toMatchObject({ code: 'ADMIN_KEY_DEAD' });
      expect(await ask('admin-key.revoke', 'second', { fingerprint })).toMatchObject({
        code: 'ADMIN_KEY_DEAD',
      });
      const again = wish(keys.get(admin)!, { person: admin });
      expect(await ask('admin-key.add', 'second', again)).toMatchObject({
        code: 'ADMIN_KEY_TAKEN',
      });
    }
  });

  test('expired', async () => {
    const admin = await newAdmin('steward', 'second');
    const later = { now: inDays(301) };
    expect(await ask('tool.create', admin, tool(), later)).toMatchObject({
      code: 'ADMIN_KEY_DEAD',
      sentence: expect.stringMatching(/has expired: it was valid until/u),
    });
  });

  test('its owner is suspended, is no admin any more, or has no access', async () => {
    const ends: [string, Rest, string, Rest][] = [
      ['person.suspend', { reason: 'Away.' }, 'person.reinstate', {}],
      ['maintainer.remove', { tool: 'admin' }, 'maintainer.add', { tool: 'admin' }],
      ['access.revoke', {}, 'access.grant', {}],
    ];
    const admin = await newAdmin('steward', 'second');
    for (const [end, endRest, begin, beginRest] of ends) {
      await must(end, 'second', { person: admin, ...endRest });
      expect([end, await ask('tool.create', admin, tool())]).toEqual([
        end,
        expect.objectContaining({ code: 'NOT_ALLOWED' }),
      ]);
      await must(begin, 'second', { person: admin, ...beginRest });
    }
  });

  test('a key of the configuration is revoked in the same way', async () => {
    const fingerprint = fingerprintOf(createPublicKey(listed('second')));
    await must('admin-key.revoke', 'steward', { fingerprint, reason: 'Old.' });
    expect(await ask('tool.create', 'second', tool())).toMatchObject({ code: 'ADMIN_KEY_DEAD' });
    await realm.owner.query('DELETE FROM admin_keys WHERE fingerprint = $1', [fingerprint]);
    expect(
      await ask('admin-key.revoke', 'steward', { fingerprint: fingerprintOf(newKey()) }),
    ).toMatchObject({ code: 'ADMIN_KEY_UNKNOWN' });
  });
});

test('with a person, their keys are erased: of each only the fingerprint stays, revoked', async () => {
  const admin = await newAdmin('steward', 'second');
  const fingerprint = fingerprintOf(keys.get(admin)!);
  const { rows } = await realm.owner.query('SELECT uid FROM people WHERE shell_name = $1', [admin]);
  const { uid } = rows[0] as { uid: number };
  // what the calendar and the roles do
  await realm.owner.query(`
    UPDATE people SET state = 'archived' WHERE uid = ${uid};
    INSERT INTO archivals (subject, archival, left_at) VALUES (${uid}, 1, now());
    INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
      SELECT ${uid}, 1, r, repeat('0', 64), '/', 0 FROM unnest(ARRAY['homes', 'databases']) AS r;
    UPDATE people SET state = 'deleted' WHERE uid = ${uid}`);
  await realm.intake.query('SELECT erase_person($1)', [uid]);
  const left = await realm.owner.query(
    'SELECT line, label, revoked_at FROM admin_keys WHERE fingerprint = $1',
    [fingerprint],
  );
  expect(left.rows).toEqual([{ line: '', label: '', revoked_at: expect.any(Date) }]);
});

describe('another admin is one who was not added by the requester within 7 days', () => {
  const DEPENDENT = 'NOT_ANOTHER_ADMIN';

  test('one whom the requester has added, in both directions; until 7 days are over', async () => {
    const third = await newAdmin('steward', 'second');
    expect(await decides(third, 'steward')).toBe(DEPENDENT);
    expect(await decides('steward', third)).toBe(DEPENDENT);
    await must('admin-key.add', 'steward', wish(newKey()));
    const request = await waiting();
    const { sentence } = await ask('request.approve', third, { request });
    expect(sentence).toMatch(
      /does not count as another admin for a request of steward until 20\d\d-\S+Z: steward has made/u,
    );
    const soon = { now: new Date(Date.now() + 6.9 * DAY_MS) };
    expect(await ask('request.approve', third, { request }, soon)).toMatchObject({
      code: DEPENDENT,
    });
    const later = { now: new Date(Date.now() + 7.1 * DAY_MS) };
    await must('request.approve', third, { request }, later);
  });

  test('two admins cannot make a third their puppet', async () => {
    const third = await newAdmin('steward', 'second');
    expect(await decides(third, 'steward')).toBe(DEPENDENT);
    expect(await decides(third, 'second')).toBe(DEPENDENT);
    expect(await decides('second', third)).toBe(DEPENDENT);
    // the two are as independent as before
    expect(await decides('second', 'steward')).toBeUndefined();
  });

  test('whoever a puppet adds is a puppet as well, for 7 days from then on', async () => {
    const steward = await newAdmin('steward', 'second');
    const other = await newAdmin('steward', 'second');
    await realm.ageAdmins();
    // `steward` and `other` stand for two admins who are independent of everybody
    const puppet = await newAdmin(steward, other);
    await realm.owner.query(`UPDATE admin_additions SET at = at - interval '6 days'`);
    const late = await newAdmin(puppet, 'second');
    await realm.owner.query(`UPDATE admin_additions SET at = at - interval '2 days'`);
    // the first addition is over, the second is not
    expect(await decides(puppet, steward)).toBeUndefined();
    await realm.owner.query(`DELETE FROM admin_additions WHERE at > now() - interval '1 hour'`);
    expect(await decides(late, steward)).toBe(DEPENDENT);
    expect(await decides(steward, late)).toBe(DEPENDENT);
    // added by the same one
    expect(await decides(late, puppet)).toBe(DEPENDENT);
  });

  test('two whom the same admin has made admins cannot decide for each other', async () => {
    const one = await newAdmin('steward', 'second');
    const two = await newAdmin('steward', 'second');
    expect(await decides(one, two)).toBe(DEPENDENT);
  });

  test('one who became an admin again by the requester counts as added', async () => {
    const third = await newAdmin('steward', 'second');
    const fourth = await newAdmin('steward', 'second');
    await realm.ageAdmins();
    expect(await decides(third, fourth)).toBeUndefined();
    await realm.ageAdmins();
    for (const [end, begin, rest] of [
      ['person.suspend', 'person.reinstate', { reason: 'Away.' }],
      ['access.revoke', 'access.grant', {}],
      ['maintainer.remove', 'maintainer.add', { tool: 'admin' }],
    ] as const) {
      await must(end, fourth, { person: third, ...rest });
      await must(begin, fourth, { person: third, ...rest });
      expect([begin, await decides(third, fourth)]).toEqual([begin, DEPENDENT]);
      await realm.ageAdmins();
    }
  });

  test('one whom the requester has restored from the archives counts as added', async () => {
    const third = await newAdmin('steward', 'second');
    const fourth = await newAdmin('steward', 'second');
    await realm.ageAdmins();
    const become = (state: string) =>
      realm.owner.query('UPDATE people SET state = $2 WHERE shell_name = $1', [third, state]);
    await become('archived');
    await realm.owner.query(
      'INSERT INTO archivals (subject, archival, began_at) SELECT uid, 1, now() FROM people WHERE shell_name = $1',
      [third],
    );
    await must('person.restore', fourth, { person: third });
    await become('active');
    expect(await decides(third, fourth)).toBe(DEPENDENT);
  });

  test('it holds for every request that waits', async () => {
    const third = await newAdmin('steward', 'second');
    const leaver = await newAdmin('steward', 'second');
    for (const [kind, rest] of [
      ['person.delete', {}],
      ['person.erase', {}],
    ] as const) {
      if (kind === 'person.erase')
        await must('person.suspend', 'steward', { person: leaver, reason: 'Gone.' });
      await must(kind, 'steward', { person: leaver, ...rest });
      const request = await waiting();
      expect([kind, await ask('request.approve', third, { request })]).toEqual([
        kind,
        expect.objectContaining({ code: DEPENDENT }),
      ]);
      await must('request.reject', 'steward', { request, reason: 'A test.' });
    }
  });
});

function publicOf(key: KeyObject): string {
  return createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();
}
function rsa(): string {
  return generateKeyPairSync('rsa', { modulusLength: 2048 })
    .publicKey.export({ type: 'spki', format: 'pem' })
    .toString();
}
function listed(portal: string): string {
  const name = portal === 'portal' ? portal : `admin.${portal}`;
  return realm.world.config.portals.find((each) => each.name === name)!.keys[0]!.publicKey;
}
