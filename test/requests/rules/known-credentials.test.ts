/** Passwords known to a former maintainer of a tool whose access is revoked later. */
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { turnCalendar } from '../../../src/lifecycle/calendar.ts';
import { wantPerson, wantTool } from '../../laws-world.ts';
import { type BootstrappedRealm, openBootstrappedRealm } from '../bootstrapped-realm.ts';

let realm: BootstrappedRealm;
beforeAll(async () => {
  realm = await openBootstrappedRealm('known');
});
afterAll(() => realm.close());

type Made = { uid: number; name: string };
let alice: Made;
let bob: Made;
let tool: Made;
/** Maintained by `tool`. */
let behind: Made;
beforeEach(async () => {
  const { owner, world } = realm;
  [alice, bob] = [await wantPerson(owner, world), await wantPerson(owner, world)];
  tool = await wantTool(owner, world, [alice.uid, bob.uid]);
  behind = await wantTool(owner, world, [tool.uid]);
  for (const { uid } of [tool, behind]) await record(uid, 1);
});

/** Does what the homes role does when it has made a password. */
async function record(account: number, epoch: number): Promise<void> {
  await realm.owner.query(
    `INSERT INTO database_verifiers AS v (account, epoch, verifier) VALUES ($1, $2, '*' || repeat('A', 40))
     ON CONFLICT (account) DO UPDATE SET epoch = $2`,
    [account, epoch],
  );
}

async function must(kind: string, requestedBy: string, more: object): Promise<void> {
  const verdict = await realm.ask({ kind, requestedBy, ...more });
  expect(verdict).toEqual({ verdict: 'accepted' });
}
const remove = (person: Made, from: Made, by = 'steward') =>
  must('maintainer.remove', by, { tool: from.name, person: person.name });
const suspend = (person: Made) =>
  must('person.suspend', 'steward', { person: person.name, reason: 'x' });
const epochs = async (...of: Made[]) => {
  const found = of.map(({ uid }) =>
    realm.owner.query('SELECT wanted_epoch AS epoch FROM credentials WHERE account = $1', [uid]),
  );
  return (await Promise.all(found)).map(({ rows }) => rows[0].epoch as number);
};
const known = async () => {
  const { rows } = await realm.owner.query(
    'SELECT person, tool FROM known_credentials WHERE person IN ($1, $2) ORDER BY 1, 2',
    [alice.uid, bob.uid],
  );
  return rows.map((row) => [row.person, row.tool]);
};

test('the passwords known to a removed maintainer, even one who left by herself, are changed when she is suspended later', async () => {
  await remove(alice, tool, alice.name);
  // other people's programs go on until then
  expect(await epochs(tool, behind)).toEqual([1, 1]);
  expect(await known()).toEqual([
    [alice.uid, tool.uid],
    [alice.uid, behind.uid],
  ]);
  await suspend(alice);
  expect(await epochs(tool, behind)).toEqual([2, 2]);
  expect(await known()).toEqual([]);
});

test('the passwords that she reached through a tool that was removed, disabled or deleted are changed', async () => {
  const { owner, world, intake } = realm;
  const gone = await wantTool(owner, world, [alice.uid]);
  const removed = await wantTool(owner, world, [alice.uid]);
  const closed = await wantTool(owner, world, [alice.uid]);
  const last = await wantTool(owner, world, [gone.uid]);
  const other = await wantTool(owner, world, [removed.uid, bob.uid]);
  const third = await wantTool(owner, world, [closed.uid]);
  await must('tool.disable', 'steward', { tool: closed.name, reason: 'x' });
  const maintainers = [`tools.${removed.name}`];
  await must('maintainer.remove', 'steward', { tool: other.name, maintainers });
  // the calendar deletes it, as if it were archived
  await owner.query(`UPDATE tools SET state = 'archived', disabled_at = now() WHERE uid = $1`, [
    gone.uid,
  ]);
  await owner.query('INSERT INTO archivals (subject, archival) VALUES ($1, 1)', [gone.uid]);
  for (const role of ['homes', 'databases']) {
    await owner.query(
      `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
       VALUES ($1, 1, $2, repeat('a', 64), '/a', 1)`,
      [gone.uid, role],
    );
  }
  const turn = await turnCalendar(intake, world.config, new Date(), { orphans: false });
  expect(turn.did).toMatchObject([{ move: 'tool.delete', subject: gone.uid }]);
  await suspend(alice);
  expect(await epochs(last, other, third)).toEqual([2, 2, 2]);
});

test('a password that was changed since and no longer works is not changed again', async () => {
  await remove(alice, tool);
  await must('credentials.rotate', 'steward', { tool: tool.name, atOnce: true });
  await record(tool.uid, 2);
  await suspend(alice);
  expect(await epochs(tool, behind)).toEqual([2, 2]);
});

test('a password that was changed since but still works beside the new one is changed at once', async () => {
  await remove(alice, tool);
  await must('credentials.rotate', 'steward', { tool: tool.name });
  await record(tool.uid, 2);
  await realm.owner.query(
    `UPDATE database_verifiers SET previous_verifier = verifier, previous_until = now() + interval '1 hour'
     WHERE account = $1`,
    [tool.uid],
  );
  await suspend(alice);
  expect(await epochs(tool)).toEqual([3]);
});

test('records that are no longer needed are removed when the next maintainer leaves', async () => {
  await remove(alice, tool);
  await must('credentials.rotate', 'steward', { tool: tool.name, atOnce: true });
  await record(tool.uid, 2);
  await remove(bob, tool);
  expect(await known()).toEqual([
    [alice.uid, behind.uid],
    [bob.uid, tool.uid],
    [bob.uid, behind.uid],
  ]);
});

test('a person who never had access to the realm knows no password', async () => {
  const carol = await wantPerson(realm.owner, realm.world, { realmMember: false });
  await realm.owner.query('INSERT INTO maintainers VALUES ($1, $2)', [tool.uid, carol.uid]);
  await remove(carol, tool);
  const { rows } = await realm.owner.query('SELECT FROM known_credentials WHERE person = $1', [
    carol.uid,
  ]);
  expect(rows).toEqual([]);
});
