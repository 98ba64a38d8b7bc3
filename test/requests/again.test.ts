/** What somebody who lost access could read before the doors were closed dies as well. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { turnCalendar } from '../../src/requests/calendar.ts';
import { wantPerson, wantTool } from '../laws-world.ts';
import { type FoundedRealm, openFoundedRealm } from './founded-realm.ts';

let realm: FoundedRealm;
beforeAll(async () => {
  realm = await openFoundedRealm('again');
});
afterAll(() => realm.close());

test('a tool that a suspended person could come to has a second password, when the directory has closed all doors', async () => {
  const { owner, world, intake } = realm;
  const alice = await wantPerson(owner, world, { keys: 0 });
  const tool = await wantTool(owner, world, [alice.uid]);
  const now = new Date();
  const at = (seconds: number) => new Date(now.getTime() + seconds * 1000);
  const turn = async (seconds: number) =>
    (await turnCalendar(intake, world.config, at(seconds), { orphans: false })).did.map(
      ({ move }) => move,
    );
  const epoch = async () =>
    (await owner.query('SELECT wanted_epoch AS n FROM credentials WHERE account = $1', [tool.uid]))
      .rows[0].n as number;
  const before = await epoch();
  await realm.ask(
    { kind: 'person.suspend', requestedBy: 'steward', person: alice.name, reason: 'x' },
    undefined,
    { now },
  );
  expect(await epoch()).toBe(before + 1);
  expect(await turn(60)).toEqual([]);
  // put off while the directory has doors left to close
  expect(await turn(91)).toEqual(['credentials.again']);
  expect(await epoch()).toBe(before + 1);
  await owner.query(`UPDATE convergence SET applied = wanted, urgent = false`);
  expect(await turn(92)).toEqual([]);
  expect(await turn(182)).toEqual(['credentials.again']);
  expect(await epoch()).toBe(before + 2);
  const { rows } = await owner.query(
    'SELECT role, urgent FROM convergence WHERE subject = $1 AND applied < wanted ORDER BY role',
    [tool.uid],
  );
  expect(rows).toEqual([
    { role: 'databases', urgent: true },
    { role: 'homes', urgent: true },
  ]);
  expect(await turn(10_000)).toEqual([]);
});
