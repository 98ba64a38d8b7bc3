/** What a recovery writes, on a database alone. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Taking } from '../../src/model/taking.ts';
import { findPerson } from '../../src/store/people.ts';
import { recover, type Recovery } from '../../src/store/recovery.ts';
import { openPool, type Pool, withClient } from '../../src/store/postgres.ts';
import { runCli } from '../bin/run-cli.ts';
import { wantTool } from '../laws-world.ts';
import { query } from '../scenarios/outside.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let steward: number;
let tool: { uid: number; name: string };

beforeAll(async () => {
  world = await openWorld('recovery', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  await runCli(['found', 'steward'], { config: world.configFile });
  tool = await wantTool(owner, world, []);
  const [row] = await query<{ uid: number }>(world, 'SELECT uid FROM people');
  steward = row?.uid ?? 0;
});
afterAll(async () => {
  await owner.end();
  await world.close();
});

/** Returns since when the realm is frozen. */
async function freeze(): Promise<Date> {
  const { rows } = await owner.query(
    'UPDATE frozen SET frozen_at = now() RETURNING frozen_at AS at',
  );
  return (rows as { at: Date }[])[0]?.at ?? new Date(0);
}

const SAW_NOTHING = {
  ...{ strangers: [], strangePasswords: [], erased: [], deletions: [], given: [] },
  isOlder: false,
};
const NOTHING = { takings: [], open: [] };
const TERMS = {
  ...{ by: 'a test', portals: ['portal'], realm: 'tools', admin: 'admin', keepDays: 1 },
  ...{ tell: () => [], tellTaken: () => [], tellDeleted: () => [], commit: () => {} },
};

async function recovered(takings: Taking[] = []): Promise<Recovery> {
  const seen = { ...SAW_NOTHING, frozenAt: await freeze() };
  return withClient(owner, (client) => recover(client, seen, { ...NOTHING, takings }, TERMS));
}

test('the same backup restored twice gives no number of an event or a seal twice', async () => {
  const numbers = async () => {
    const [row] = await query<{ event: number; seal: number }>(
      world,
      `SELECT (SELECT last::float8 FROM event_sequences WHERE portal = 'portal') AS event,
              (SELECT min(number)::float8 FROM login_seals) AS seal`,
    );
    return row ?? { event: 0, seal: 0 };
  };
  await recovered();
  const first = await numbers();
  // what was told since, and then the backup again
  await owner.query(`UPDATE event_sequences SET last = 7`);
  await owner.query('UPDATE login_seals SET number = 3');
  await recovered();
  const second = await numbers();
  expect(second.event).toBeGreaterThan(first.event);
  expect(second.seal).toBeGreaterThan(first.seal);
  // a clock that stands still, or went back, gives none twice either
  await recovered();
  expect((await numbers()).event).toBeGreaterThan(second.event + 999_999);
});

test('where nothing shows who was made since, no number is given twice: the range in use goes on', async () => {
  const nextOf = () =>
    query<{ kind: string; first: number; next: number }>(
      world,
      'SELECT kind, first, next FROM id_ranges ORDER BY kind, first',
    );
  const [inUse, later, ofTools] = await nextOf();
  const { ranges } = await recovered();
  expect(ranges.map(({ kind, from, to }) => [kind, to - from])).toEqual([
    ['person', 100],
    ['tool', 100],
  ]);
  expect(await nextOf()).toEqual([
    { ...inUse, next: (inUse?.next ?? 0) + 100 },
    later,
    { ...ofTools, next: (ofTools?.next ?? 0) + 100 },
  ]);
});

test('no date of the backup acts: whoever leaves is held, and a hold keeps its reason', async () => {
  await owner.query(
    `UPDATE tools SET state = 'disabled', delete_after = now() - interval '1 day', delete_requested_at = now(), days_told = 1, told_at = now()
     WHERE uid = $1`,
    [tool.uid],
  );
  await owner.query(
    `INSERT INTO holds (subject, held_by, held_at, reason, until) VALUES ($1, 'steward', now(), 'a trial', now())`,
    [tool.uid],
  );
  const { open } = await recovered();
  expect(open).toEqual([
    {
      account: `tools.${tool.name}`,
      sentence: expect.stringMatching(/ was to be deleted after .*; it is held$/),
      command: `submit subject.release --tool ${tool.name}`,
    },
  ]);
  const holds = await query(
    world,
    'SELECT held_by, reason, extract(year FROM until)::int AS year FROM holds',
  );
  expect(holds).toEqual([{ held_by: 'steward', reason: 'a trial', year: 9999 }]);
  const [told] = await query(world, 'SELECT days_told FROM tools WHERE uid = $1', [tool.uid]);
  expect(told).toEqual({ days_told: null });
});

test('where no admin would be left nothing is done, and it says whom to keep', async () => {
  const taking: Taking = {
    ...{ subject: steward, account: 'steward', kind: 'person', state: 'suspended' },
    by: ['u1 on replica'],
  };
  await expect(recovered([taking])).rejects.toMatchObject({
    code: 'ADMIN_TOOL',
    message: expect.stringContaining('the evidence closes steward'),
    action: 'Nothing was done; the realm stays frozen.',
  });
  expect(await query(world, 'SELECT state FROM people')).toEqual([{ state: 'active' }]);
  expect(await query(world, 'SELECT FROM frozen WHERE frozen_at IS NOT NULL')).toHaveLength(1);
});

test('a realm that was thawed meanwhile is left as it is, though it is frozen again', async () => {
  const confirm = (frozenAt: Date) =>
    withClient(owner, (client) => recover(client, { ...SAW_NOTHING, frozenAt }, NOTHING, TERMS));
  const asked = await freeze();
  await owner.query('UPDATE frozen SET frozen_at = NULL');
  await expect(confirm(asked)).rejects.toMatchObject({ code: 'PLAN_MOVED' });
  const again = await freeze();
  await expect(confirm(asked)).rejects.toMatchObject({ code: 'PLAN_MOVED' });
  expect(await query(world, 'SELECT frozen_at AS at FROM frozen')).toEqual([{ at: again }]);
});

test('who is suspended in the backup is listed, and nobody withdraws a deletion that they asked for', async () => {
  await owner.query(
    `UPDATE people SET state = 'suspended', suspended_by = shell_name, suspended_at = now(), suspension_reason = 'x',
       delete_after = now() + interval '9 days', delete_requested_by = shell_name WHERE uid = $1`,
    [steward],
  );
  const isOwn = async () =>
    (await withClient(owner, (client) => findPerson(client, 'steward', 'admin')))?.ownDeletion;
  expect(await isOwn()).toBe(true);
  const { open } = await recovered();
  expect(await isOwn()).toBe(false);
  expect(open.map(({ sentence }) => sentence)).toEqual(
    expect.arrayContaining([
      expect.stringMatching(/^steward was to be deleted after /),
      expect.stringMatching(/^suspended in the backup: steward; which keys and tools were taken /),
    ]),
  );
});
