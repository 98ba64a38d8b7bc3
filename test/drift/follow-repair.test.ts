/** What a repair says of parts that no role has ended. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { followRepair } from '../../src/drift/follow-repair.ts';
import { recordRepair } from '../../src/drift/repairs-table.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
beforeAll(async () => {
  world = await openWorld('follow-repair', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  await owner.query(`INSERT INTO posix_ids (id, kind) VALUES (1, 'tool')`);
});
afterAll(async () => {
  await owner.end();
  await world?.close();
});

/** Asks for one part, which nobody takes, and waits in vain. */
async function follow() {
  const id = randomUUID();
  const parts = [
    { subject: 1, role: 'homes' as const, account: 'tools.t1', sideConditions: [], steps: [] },
  ];
  const of = { id, by: 'a test', destroy: false, target: undefined, parts, acts: [] };
  await withClient(owner, (client) => recordRepair(client, of));
  const ended = await followRepair(world.config, 'admin', {
    ...{ id, parts, timeoutMs: 100, say: () => {} },
  });
  const { rows } = await owner.query(
    'SELECT waited_until > now() AS "mayBegin" FROM repairs WHERE id = $1',
    [id],
  );
  return { ...ended.parts[0], ...(rows[0] as { mayBegin: boolean }) };
}

test('a part that nobody has taken is not begun later; if that cannot be ensured, it is said', async () => {
  const unanswered = { state: 'asked', code: 'BACKEND_UNAVAILABLE' };
  const sentence = expect.stringMatching(/^no answer within 0\.1 s; are /u);
  expect(await follow()).toMatchObject({ ...unanswered, sentence, mayBegin: false });
  await owner.query(
    `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       IF NEW.waited_until <= now() THEN RAISE 'the disk is full' USING ERRCODE = '53100'; END IF;
       RETURN NEW; END $$`,
  );
  await owner.query(
    'CREATE TRIGGER refuse BEFORE UPDATE ON repairs FOR EACH ROW EXECUTE FUNCTION refuse()',
  );
  const warned = expect.stringMatching(/^no answer within 0\.1 s, .* may begin it within 10 s$/u);
  expect(await follow()).toMatchObject({ ...unanswered, sentence: warned, mayBegin: true });
});
