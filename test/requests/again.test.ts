/** A password that a person who lost access could read while access was being closed is replaced as well. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { turnCalendar } from '../../src/lifecycle/calendar.ts';
import { wantPerson, wantTool } from '../laws-world.ts';
import { type BootstrappedRealm, openBootstrappedRealm } from './bootstrapped-realm.ts';

let realm: BootstrappedRealm;
beforeAll(async () => {
  realm = await openBootstrappedRealm('again');
});
afterAll(() => realm.close());

const now = new Date();
const at = (seconds: number) => new Date(now.getTime() + seconds * 1000);
const turn = async (seconds: number) =>
  (await turnCalendar(realm.intake, realm.world.config, at(seconds), { orphans: false })).did.map(
    ({ move, account }) => `${move} ${account}`,
  );
const epochOf = async (account: number) =>
  (
    await realm.owner.query('SELECT wanted_epoch AS n FROM credentials WHERE account = $1', [
      account,
    ])
  ).rows[0].n as number;
const apply = () =>
  realm.owner.query(
    `UPDATE convergence SET applied = wanted, state = 'applied', urgent = false WHERE applied < wanted`,
  );
const suspend = (person: string) =>
  realm.ask({ kind: 'person.suspend', requestedBy: 'steward', person, reason: 'x' }, undefined, {
    now,
  });

/** A person who will be suspended, another person, and a tool that both maintain. */
async function makeShared() {
  const { owner, world } = realm;
  const [alice, bob] = [await wantPerson(owner, world), await wantPerson(owner, world)];
  return { alice, bob, tool: await wantTool(owner, world, [alice.uid, bob.uid]) };
}

test('a tool that a suspended person could reach gets a second new password when the directory has closed all access', async () => {
  const { alice, bob, tool } = await makeShared();
  const before = await epochOf(tool.uid);
  await suspend(alice.name);
  expect(await epochOf(tool.uid)).toBe(before + 1);
  expect(await turn(60)).toEqual([]);
  // delayed while the directory still has access to close
  expect(await turn(91)).toEqual([`credentials.again tools.${tool.name}`]);
  expect(await epochOf(tool.uid)).toBe(before + 1);
  await apply();
  expect(await turn(92)).toEqual([]);
  expect(await turn(182)).toEqual([`credentials.again tools.${tool.name}`]);
  expect(await epochOf(tool.uid)).toBe(before + 2);
  const { rows } = await realm.owner.query(
    'SELECT role, urgent FROM convergence WHERE subject = $1 AND applied < wanted ORDER BY role',
    [tool.uid],
  );
  expect(rows).toEqual([
    { role: 'databases', urgent: true },
    { role: 'homes', urgent: true },
  ]);
  expect(await turn(10_000)).toEqual([]);
  // its maintainers get events about both, and the audit shows both
  const { rows: events } = await realm.owner.query(
    `SELECT data FROM events WHERE subject = $1 AND event = 'credentials.revoked' ORDER BY row_id`,
    [tool.uid],
  );
  const told = { tool: tool.name, account: `tools.${tool.name}`, maintainers: [bob.name] };
  expect(events.map(({ data }) => data)).toEqual([
    { ...told, epoch: before + 1, because: 'person.suspend' },
    { ...told, epoch: before + 2, because: 'credentials.again' },
  ]);
  const { rows: acts } = await realm.owner.query(
    'SELECT kind, requested_by AS by, fields FROM audit WHERE subject = $1 ORDER BY id',
    [tool.uid],
  );
  expect(acts).toEqual([
    {
      kind: 'credentials.rotate',
      by: 'steward',
      fields: ['credentials', 'because of person.suspend'],
    },
    { kind: 'credentials.again', by: 'the calendar', fields: ['credentials'] },
  ]);
  await apply();
});

test('access that stays open delays the second password for ten minutes at the most', async () => {
  const { alice, tool } = await makeShared();
  const before = await epochOf(tool.uid);
  await suspend(alice.name);
  const again = `credentials.again tools.${tool.name}`;
  for (const seconds of [91, 182, 273, 364, 455, 546, 637]) {
    expect(await turn(seconds)).toEqual([again]);
  }
  expect(await epochOf(tool.uid)).toBe(before + 1);
  expect(await turn(689)).toEqual([]);
  expect(await turn(690)).toEqual([again]);
  expect(await epochOf(tool.uid)).toBe(before + 2);
  await apply();
});
