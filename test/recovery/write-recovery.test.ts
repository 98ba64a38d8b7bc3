/** What a recovery writes, on only a database. */
import { mock } from 'node:test';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Taking } from '../../src/recovery/taking.ts';
import type { AccountName } from '../../src/identity/names.ts';
import { findPerson } from '../../src/identity/people-table.ts';
import { type Recovery, type SeenSince, writeRecovery } from '../../src/recovery/write-recovery.ts';
import {
  type Client,
  openPool,
  type Pool,
  transact,
  withClient,
} from '../../src/database/connection.ts';
import { runCli } from '../cli/run-cli.ts';
import { wantTool } from '../laws-world.ts';
import { query } from '../scenarios/outside.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let steward: number;
let tool: { uid: number; name: string };
let people = 0;

beforeAll(async () => {
  world = await openWorld('recovery', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  await runCli(['bootstrap', 'steward'], { config: world.configFile });
  tool = await wantTool(owner, world, []);
  const [row] = await query<{ uid: number }>(world, 'SELECT uid FROM people');
  steward = row?.uid ?? 0;
});
afterAll(async () => {
  await owner.end();
  await world.close();
});

/**
 * Returns since when the realm is frozen.
 *
 * @param laterMs after now; two freezes within one millisecond cannot be told apart
 */
async function freeze(laterMs = 0): Promise<Date> {
  const { rows } = await owner.query(
    `UPDATE frozen SET frozen_at = now() + $1 * interval '1 ms' RETURNING frozen_at AS at`,
    [laterMs],
  );
  return (rows as { at: Date }[])[0]?.at ?? new Date(0);
}

const SAW_NOTHING = {
  ...{
    unmanagedNumbers: [],
    remembered: [],
    strangePasswords: [],
    erased: [],
    deletions: [],
    given: [],
  },
  isOlder: false,
};
const NOTHING = { takings: [], open: [], seenKeys: [] };
const TERMS = {
  ...{ by: 'a test', portals: ['portal'], realm: 'tools', admin: 'admin', keepDays: 1 },
  ...{
    eventsOfErased: () => [],
    eventsOfTaking: () => [],
    eventsOfDeleted: () => [],
  },
};

async function recovered(
  takings: Taking[] = [],
  more: Partial<SeenSince> = {},
  watch: (client: Client) => void = () => {},
): Promise<Recovery> {
  const seen = { ...SAW_NOTHING, frozenAt: await freeze(), ...more };
  return withClient(owner, (client) => {
    watch(client);
    return transact(client, () => writeRecovery(client, seen, { ...NOTHING, takings }, TERMS));
  });
}

async function wantPerson(shellName: string): Promise<number> {
  const uid = (world.config.ids.people[0]?.first ?? 0) + 1000 + (people += 1);
  await owner.query(
    `WITH id AS (INSERT INTO posix_ids (id, kind) VALUES ($1, 'person')),
          name AS (INSERT INTO names (name, subject) VALUES ($2, $1)),
          person AS (INSERT INTO people (uid, shell_name, display_name, display_name_key, email)
                     VALUES ($1, $2, $2, $2, '')),
          member AS (INSERT INTO realm_members (person) VALUES ($1))
     INSERT INTO credentials (account) VALUES ($1)`,
    [uid, shellName],
  );
  return uid;
}

test('the same backup restored twice uses no number of an event or a seal twice', async () => {
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
  // later events, and then the backup again
  await owner.query(`UPDATE event_sequences SET last = 7`);
  await owner.query('UPDATE login_seals SET number = 3');
  await recovered();
  const second = await numbers();
  expect(second.event).toBeGreaterThan(first.event);
  expect(second.seal).toBeGreaterThan(first.seal);
  // a clock that stands still or went back causes no number twice either
  await recovered();
  expect((await numbers()).event).toBeGreaterThan(second.event + 999_999);
});

test('numbers continue even if no later account is seen, and beyond the accounts that login hosts remember', async () => {
  const { ids } = world.config;
  const last = ids.tools.at(-1)?.last ?? 0;
  const read = () =>
    query<{ kind: string; first: number; next: number }>(
      world,
      'SELECT kind, first, next FROM id_ranges ORDER BY first',
    );
  const before = await read();
  await recovered();
  const nextOf = (of: typeof before) => of.map(({ next }) => next);
  // the range in use of each kind
  const [first = 0, second = 0, third = 0] = nextOf(before);
  expect(nextOf(await read())).toEqual([first + 100, second, third + 100]);

  const remembered = [{ uid: last - 500, account: 'tools.lost' }];
  expect((await recovered([], { remembered })).names).toEqual(['tools.lost']);
  expect(nextOf(await read())).toEqual([first + 200, second, last - 500 + 101]);
  const { names } = await recovered([], {
    remembered: [{ uid: ids.people[0]?.first ?? 0, account: 'steward' }],
  });
  expect(names).not.toContain('steward');
  await owner.query('UPDATE id_ranges SET next = $1 WHERE first = $2', [
    third,
    ids.tools[0]?.first,
  ]);
});

test('no date in the backup takes effect: leaving subjects are held, and a hold keeps its reason', async () => {
  await owner.query(
    `UPDATE tools SET state = 'disabled', delete_after = now() - interval '1 day', delete_requested_at = now(), days_warned = 1, warned_at = now()
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
      sentence: expect.stringMatching(/ was to be deleted after .*; the account is held$/),
      command: `submit subject.release --tool ${tool.name}`,
    },
  ]);
  const holds = await query(
    world,
    'SELECT held_by, reason, extract(year FROM until)::int AS year FROM holds',
  );
  expect(holds).toEqual([{ held_by: 'steward', reason: 'a trial', year: 9999 }]);
  const [told] = await query(world, 'SELECT days_warned FROM tools WHERE uid = $1', [tool.uid]);
  expect(told).toEqual({ days_warned: null });
});

test('subjects that are being archived or restored, or have archives past their time, are held, each for its reason', async () => {
  const [leaving, returning, kept, back] = [
    await wantTool(owner, world, []),
    await wantTool(owner, world, []),
    await wantTool(owner, world, []),
    await wantTool(owner, world, []),
  ];
  const uids = [leaving, returning, kept, back].map(({ uid }) => uid);
  await owner.query(
    `INSERT INTO archivals (subject, archival, began_at, left_at, keep_until, returning_at, back_at) VALUES
       ($1, 1, '2026-01-01Z', NULL, NULL, NULL, NULL), ($2, 1, '2026-01-01Z', '2026-01-02Z', '2026-03-01Z', '2026-02-01Z', NULL),
       ($3, 1, '2026-01-01Z', '2026-01-02Z', '2026-03-01Z', NULL, NULL),
       ($4, 1, '2026-01-01Z', '2026-01-02Z', now() + interval '1 day', '2026-02-01Z', '2026-02-02Z')`,
    uids,
  );
  await owner.query(`UPDATE tools SET state = 'archived' WHERE uid = ANY ($1)`, [uids.slice(0, 2)]);
  const { open } = await recovered();
  const sentences = open.map(({ sentence }) => sentence);
  expect(sentences.filter((each) => !each.startsWith(`tools.${tool.name} `))).toEqual([
    `tools.${leaving.name} began to be archived at 2026-01-01 00:00:00Z; the account is held`,
    `tools.${returning.name} began to be restored at 2026-02-01 00:00:00Z; the account is held`,
    `tools.${kept.name} has archives that were to be removed at 2026-03-01 00:00:00Z; the account is held`,
  ]);
  await owner.query('UPDATE archivals SET back_at = now(), expired_at = now()');
});

test('any number of takings needs the same number of statements, and each has its own reason', async () => {
  const statements: number[] = [];
  let tools: { uid: number; name: string }[] = [];
  for (const count of [1, 20]) {
    const names = Array.from({ length: count }, (_, n) => `many-${count}-${n}`);
    const uids: number[] = [];
    for (const name of names) uids.push(await wantPerson(name));
    tools = [];
    for (let n = 0; n < count; n += 1) tools.push(await wantTool(owner, world, uids));
    const takings = [
      ...names.map((account, n): Taking => {
        const subject = uids[n] ?? 0;
        return { subject, account, kind: 'person', state: 'suspended', by: [`u${subject}`] };
      }),
      ...tools.map(({ uid, name }): Taking => {
        return {
          ...{ subject: uid, account: `tools.${name}`, kind: 'tool', state: 'disabled' },
          by: [`s${uid}`],
        };
      }),
    ];
    let asked: { mock: { calls: readonly unknown[] } } = { mock: { calls: [] } };
    await recovered(takings, {}, (client) => {
      asked = mock.method(client, 'query');
    });
    statements.push(asked.mock.calls.length);
    mock.restoreAll();
  }
  expect(statements[1]).toBe(statements[0]);
  const closed = await query<{ state: string; isOwn: boolean; epochs: number }>(
    world,
    `SELECT t.state, t.disabled_reason = 'after a recovery, according to s' || t.uid AS "isOwn", wanted_epoch AS epochs
     FROM tools t JOIN credentials c ON c.account = t.uid WHERE t.uid = ANY ($1)`,
    [tools.map(({ uid }) => uid)],
  );
  // one new password, although several people knew the old one
  expect(new Set(closed.map((each) => JSON.stringify(each)))).toEqual(
    new Set([JSON.stringify({ state: 'disabled', isOwn: true, epochs: 2 })]),
  );
  const suspended = await query<{ isOwn: boolean }>(
    world,
    `SELECT suspension_reason = 'after a recovery, according to u' || uid AS "isOwn" FROM people
     WHERE state = 'suspended' AND shell_name LIKE 'many-20-%'`,
  );
  expect(suspended.filter(({ isOwn }) => isOwn)).toHaveLength(20);
});

test('if no admin would be left, nothing is done, and the error says whom to keep', async () => {
  const taking: Taking = {
    ...{ subject: steward, account: 'steward', kind: 'person', state: 'suspended' },
    by: ['u1 on replica'],
  };
  const other = await wantPerson('no-admin');
  const ofOther: Taking = { ...taking, subject: other, account: 'no-admin' };
  const [adminTool] = await query<{ uid: number }>(
    world,
    `SELECT uid FROM tools WHERE name = 'admin'`,
  );
  const ofTool: Taking = {
    ...{ subject: adminTool?.uid ?? 0, account: 'tools.admin', kind: 'tool', by: ['its seal 9'] },
    membersRemoved: [{ kind: 'person', account: 'steward' as AccountName, uid: steward }],
  };
  for (const takings of [[taking, ofOther], [ofTool]]) {
    await expect(recovered(takings)).rejects.toMatchObject({
      code: 'ADMIN_TOOL',
      message: expect.stringMatching(/ takes the rights of an admin from steward$/u),
      action: expect.stringMatching(/ stays frozen\. Name one of them with --keep: /u),
    });
  }
  expect(await query(world, `SELECT state FROM people WHERE shell_name = 'steward'`)).toEqual([
    { state: 'active' },
  ]);
  expect(await query(world, 'SELECT FROM frozen WHERE frozen_at IS NOT NULL')).toHaveLength(1);
});

test('a realm that was thawed meanwhile is left as it is, even if it is frozen again', async () => {
  const confirm = (frozenAt: Date) =>
    withClient(owner, (client) =>
      transact(client, () => writeRecovery(client, { ...SAW_NOTHING, frozenAt }, NOTHING, TERMS)),
    );
  const asked = await freeze();
  await owner.query('UPDATE frozen SET frozen_at = NULL');
  await expect(confirm(asked)).rejects.toMatchObject({
    code: 'PLAN_MOVED',
    action: 'Run `chamberlain recover` again.',
  });
  const again = await freeze(1000);
  await expect(confirm(asked)).rejects.toMatchObject({ code: 'PLAN_MOVED' });
  expect(await query(world, 'SELECT frozen_at AS at FROM frozen')).toEqual([{ at: again }]);
});

test('people who are suspended in the backup are listed, and nobody can cancel their own deletion', async () => {
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
      expect.stringMatching(
        /^suspended in the backup: .+, and \d+ more; nothing shows which keys and tools were taken /,
      ),
    ]),
  );
});
