/** Overdue moves of the calendar in `status` and `doctor`, on a real PostgreSQL. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { lookAtWork } from '../../src/doctor/work.ts';
import { readOverdue } from '../../src/lifecycle/calendar-queries.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { wantPerson, wantTool } from '../laws-world.ts';
import { openWorld, type World } from '../stack.ts';
import { pretendWork } from './pretend-work.ts';
import { runCli } from './run-cli.ts';

let world: World;
let owner: Pool;
let admin: Pool;
let person: { uid: number; name: string };
let tool: { uid: number; name: string };
const now = new Date();
const MINUTE = 60_000;
const ago = (minutes: number) => new Date(now.getTime() - minutes * MINUTE);

beforeAll(async () => {
  world = await openWorld('overdue', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  admin = openPool(world.config, 'admin', { max: 1, durable: false });
});
afterAll(async () => {
  await Promise.all([owner.end(), admin.end()]);
  await world.close();
});
beforeEach(async () => {
  person = await wantPerson(owner, world);
  tool = await wantTool(owner, world, [person.uid]);
});
afterEach(async () => {
  await owner.query(
    `UPDATE people SET suspended_until = NULL, delete_after = NULL, days_warned = NULL, warned_at = NULL,
       state = 'active'`,
  );
  await owner.query(
    `UPDATE tools SET delete_after = NULL, days_warned = NULL, warned_at = NULL, state = 'active'`,
  );
  await owner.query('DELETE FROM archives');
  await owner.query('DELETE FROM archivals');
  await owner.query('DELETE FROM database_verifiers');
  await owner.query('DELETE FROM convergence');
  await owner.query('UPDATE credentials SET again_at = NULL, again_by = NULL');
});

const DEPARTED = `
  INSERT INTO archivals (subject, archival, began_at, returning_at)
  VALUES ($2, 1, $1::timestamptz - interval '1 day', CASE WHEN $3 THEN $1::timestamptz - interval '1 hour' END)`;

/** the statement that makes the move of the person or tool $2 due at $1 */
const MOVES: [
  move: string,
  of: 'person' | 'tool' | 'nobody',
  make: (at: Date) => Promise<unknown>,
][] = [
  [
    'person.reinstate',
    'person',
    (at) =>
      owner.query(`UPDATE people SET state = 'suspended', suspended_until = $1 WHERE uid = $2`, [
        at,
        person.uid,
      ]),
  ],
  [
    'person.warn',
    'person',
    (at) =>
      owner.query(
        `UPDATE people SET state = 'suspended', delete_after = $1::timestamptz + interval '720 hours'
         WHERE uid = $2`,
        [at, person.uid],
      ),
  ],
  [
    'person.archive',
    'person',
    (at) =>
      owner.query(
        `UPDATE people SET state = 'suspended', delete_after = $1, days_warned = 0, warned_at = $1
         WHERE uid = $2`,
        [at, person.uid],
      ),
  ],
  [
    'tool.warn',
    'tool',
    (at) =>
      owner.query(
        `UPDATE tools SET state = 'disabled', delete_requested_at = $1,
           delete_after = $1::timestamptz + interval '720 hours' WHERE uid = $2`,
        [at, tool.uid],
      ),
  ],
  [
    'tool.archive',
    'tool',
    (at) =>
      owner.query(
        `UPDATE tools SET state = 'disabled', delete_requested_at = $1,
           delete_after = $1::timestamptz - interval '1 day', days_warned = 1, warned_at = $1::timestamptz - interval '24 hours' WHERE uid = $2`,
        [at, tool.uid],
      ),
  ],
  [
    'tool.delete',
    'tool',
    async (at) => {
      await owner.query(`UPDATE tools SET state = 'archived' WHERE uid = $1`, [tool.uid]);
      await owner.query(DEPARTED, [at, tool.uid, false]);
      await owner.query(
        `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes, made_at)
         SELECT $2, 1, role, repeat('a', 64), '/a', 1, $1 FROM unnest(ARRAY['homes', 'databases']) AS role`,
        [at, tool.uid],
      );
    },
  ],
  [
    'tool.restore',
    'tool',
    async (at) => {
      await owner.query(`UPDATE tools SET state = 'archived' WHERE uid = $1`, [tool.uid]);
      await owner.query(DEPARTED, [at, tool.uid, true]);
      await owner.query(
        `INSERT INTO convergence (subject, role, wanted, applied, state, next_try_at)
         SELECT $2, role, 1, 1, 'applied', $1 FROM unnest(ARRAY['homes', 'databases']) AS role`,
        [at, tool.uid],
      );
    },
  ],
  [
    'person.restore',
    'person',
    async (at) => {
      await owner.query(`UPDATE people SET state = 'archived' WHERE uid = $1`, [person.uid]);
      await owner.query(DEPARTED, [at, person.uid, true]);
      await owner.query(
        `INSERT INTO convergence (subject, role, wanted, applied, state, next_try_at)
         SELECT $2, role, 1, 1, 'applied', $1 FROM unnest(ARRAY['homes', 'databases']) AS role`,
        [at, person.uid],
      );
    },
  ],
  [
    'archives.expire',
    'tool',
    async (at) => {
      await owner.query(DEPARTED, [at, tool.uid, true]);
      await owner.query(
        `UPDATE archivals SET back_at = $1::timestamptz - interval '1 min', keep_until = $1
         WHERE subject = $2`,
        [at, tool.uid],
      );
    },
  ],
  [
    'overlaps.end',
    'nobody',
    (at) =>
      owner.query(
        `INSERT INTO database_verifiers (account, epoch, verifier, previous_verifier, previous_until)
         VALUES ($2, 1, '*' || repeat('A', 40), '*' || repeat('B', 40), $1)`,
        [at, tool.uid],
      ),
  ],
  [
    'credentials.again',
    'tool',
    (at) =>
      owner.query('UPDATE credentials SET again_at = $1, again_by = $1 WHERE account = $2', [
        at,
        tool.uid,
      ]),
  ],
];

test.each(MOVES)(
  '%s is overdue two minutes after it was due, and no sooner',
  async (move, of, make) => {
    const account = { person: person.name, tool: `tools.${tool.name}`, nobody: '' }[of];
    await make(ago(1.9));
    expect(await readOverdue(admin, now)).toEqual([]);
    const overdue = await readOverdue(admin, new Date(now.getTime() + MINUTE));
    expect(overdue).toEqual([{ move, account, since: ago(1.9) }]);
  },
);

const status = async (...args: string[]) => {
  const { exit, out } = await runCli(['status', ...args], { config: world.configFile });
  return { exit, out };
};
const doctor = async () => {
  const lines = await withClient(admin, (client) => lookAtWork(client, world.config, new Date()));
  return lines.filter(({ what }) => what.includes('overdue'));
};

test('`status` ends with 3 and names it, and `doctor` does too, unless the realm is frozen', async () => {
  await pretendWork(owner);
  expect(await status()).toMatchObject({ exit: 0, out: expect.not.stringContaining('verdue') });
  expect(await doctor()).toEqual([{ state: 'ok', what: 'no date is overdue' }]);
  await owner.query(`UPDATE people SET state = 'suspended', suspended_until = $1 WHERE uid = $2`, [
    '2026-01-02 03:04:05Z',
    person.uid,
  ]);
  const overdue = `the reinstatement of ${person.name}, since 2026-01-02 03:04:05Z`;
  expect(await status()).toMatchObject({
    exit: 3,
    out: expect.stringContaining(
      `Overdue: ${overdue}. The log of \`chamberlain work intake\` shows why.\n`,
    ),
  });
  expect(JSON.parse((await status('--json')).out)).toMatchObject({
    overdue: [
      { move: 'person.reinstate', account: person.name, since: '2026-01-02T03:04:05.000Z' },
    ],
  });
  expect(await doctor()).toMatchObject([{ state: 'fix', what: `overdue: ${overdue}` }]);
  await owner.query(`UPDATE frozen SET frozen_at = now(), frozen_by = 'test'`);
  expect((await status()).out).not.toContain('verdue');
  expect(await doctor()).toEqual([]);
  await owner.query('UPDATE frozen SET frozen_at = NULL, frozen_by = NULL');
});
