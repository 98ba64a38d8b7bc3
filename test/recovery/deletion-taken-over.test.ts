/** Deletions that archives show, applied to an older database: each case of the table, on a real database. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { SeenDeletion } from '../../src/archives/deletion.ts';
import { type TakenOver, takeOverDeletion } from '../../src/recovery/deletion-taken-over.ts';
import { openPool, type Pool, transact, withClient } from '../../src/database/connection.ts';
import { wantPerson, wantTool } from '../laws-world.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;

beforeAll(async () => {
  world = await openWorld('deletion taken over', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
});
afterAll(async () => {
  await owner.end();
  await world.close();
});

interface Subject {
  uid: number;
  account: string;
  kind: 'person' | 'tool';
}
type Back = NonNullable<SeenDeletion['back']>;

/** The archives of an archival: of both roles, or of the given ones. */
function archivesOf(
  { uid, account, kind }: Subject,
  archival: number,
  backs: { homes?: Back; databases?: Back },
): SeenDeletion[] {
  return Object.entries(backs).map(([role, back]) => ({
    ...{ role: role as 'homes' | 'databases', uid, account, kind, archival, back },
    deletedAt: '2026-11-01T00:00:00.000Z',
    fingerprints: kind === 'person' ? [`SHA256:of ${uid}`] : [],
    ...{ archive: `/${role}/${account}.${archival}`, manifest: 'a'.repeat(64), bytes: 7 },
  }));
}
const GONE = { homes: 'no', databases: 'no' } as const;
const THERE = { homes: 'yes', databases: 'yes' } as const;

const takeOver = (seen: readonly SeenDeletion[], admin = 'nobody'): Promise<TakenOver> =>
  withClient(owner, (client) =>
    transact(client, () =>
      takeOverDeletion(client, seen, { by: 'a test', admin, keepDays: 30, eventsOf: () => [] }),
    ),
  );

async function stateOf({ uid }: Subject): Promise<string> {
  const { rows } = await owner.query(
    `SELECT concat_ws(' ', s.state, CASE WHEN EXISTS (SELECT FROM holds WHERE subject = $1) THEN 'held' END) AS state
     FROM (SELECT state FROM people WHERE uid = $1 UNION ALL SELECT state FROM tools WHERE uid = $1) AS s`,
    [uid],
  );
  return (rows as { state: string }[])[0]?.state ?? 'nobody';
}

/** `1 over: databases homes`, `2 away: homes` */
async function archivalsOf({ uid }: Subject): Promise<string[]> {
  const { rows } = await owner.query(
    `SELECT d.archival || CASE WHEN back_at IS NULL THEN ' away:' ELSE ' over:' END
       || coalesce(' ' || string_agg(a.role, ' ' ORDER BY a.role), '') AS line
     FROM archivals d LEFT JOIN archives a USING (subject, archival)
     WHERE d.subject = $1 GROUP BY d.archival, d.back_at ORDER BY d.archival`,
    [uid],
  );
  return (rows as { line: string }[]).map(({ line }) => line);
}

async function make(kind: Subject['kind']): Promise<Subject> {
  const { uid, name } = await (kind === 'tool'
    ? wantTool(owner, world, [])
    : wantPerson(owner, world));
  return { uid, kind, account: kind === 'tool' ? `tools.${name}` : name };
}

/** The state in the backup. */
const BACKUP: Record<string, (subject: Subject) => Promise<unknown>> = {
  live: async () => {},
  archived: async ({ uid }) => {
    await owner.query('INSERT INTO archivals (subject, archival) VALUES ($1, 1)', [uid]);
    for (const table of ['people', 'tools'])
      await owner.query(`UPDATE ${table} SET state = 'archived' WHERE uid = $1`, [uid]);
  },
  deleted: async (subject) => {
    await takeOver(archivesOf(subject, 1, GONE));
  },
};

const CASES: [string, keyof typeof BACKUP, SeenOf, string, string[]][] = [
  [
    'both archives',
    'live',
    (of) => archivesOf(of, 1, GONE),
    'deleted',
    ['1 away: databases homes'],
  ],
  [
    'both archives',
    'archived',
    (of) => archivesOf(of, 1, GONE),
    'deleted',
    ['1 away: databases homes'],
  ],
  [
    'one archive',
    'live',
    (of) => archivesOf(of, 1, { homes: 'no' }),
    'archived',
    ['1 away: homes'],
  ],
  [
    'all of it back',
    'live',
    (of) => archivesOf(of, 1, THERE),
    'active',
    ['1 over: databases homes'],
  ],
  [
    'all of it back',
    'archived',
    (of) => archivesOf(of, 1, THERE),
    'archived held',
    ['1 away: databases homes'],
  ],
  [
    'a part of it back',
    'live',
    (of) => archivesOf(of, 1, { homes: 'yes', databases: 'no' }),
    'archived held',
    ['1 away: databases homes'],
  ],
  [
    'two archivals, and the second is not back',
    'live',
    (of) => [...archivesOf(of, 2, GONE), ...archivesOf(of, 1, THERE)],
    'deleted',
    ['1 over: databases homes', '2 away: databases homes'],
  ],
  [
    'a second archival',
    'deleted',
    (of) => archivesOf(of, 2, GONE),
    'deleted',
    ['1 over: databases homes', '2 away: databases homes'],
  ],
  [
    'a second archival, all of it back',
    'deleted',
    (of) => archivesOf(of, 2, THERE),
    'archived held',
    ['1 over: databases homes', '2 away: databases homes'],
  ],
];
type SeenOf = (subject: Subject) => SeenDeletion[];

describe.each(['tool', 'person'] as const)('of a %s', (kind) => {
  test.each(CASES)('%s, if the backup has it as %s', async (_, backup, seen, state, archivals) => {
    const subject = await make(kind);
    await BACKUP[backup]?.(subject);
    await takeOver(seen(subject));
    const after = [await stateOf(subject), await archivalsOf(subject)];
    expect(after).toEqual([state, archivals]);
    // a second run changes nothing, and lists no known deletion
    const again = await takeOver(seen(subject));
    expect([await stateOf(subject), await archivalsOf(subject)]).toEqual(after);
    if (state === 'deleted') expect(again).toEqual({ deleted: [], undecided: [] });
  });

  test.each([
    [GONE, 'deleted'],
    [THERE, 'archived held'],
  ])('that the backup does not know: %o', async (backs, state) => {
    const { uid } = await make(kind);
    const unknown = {
      ...{ uid: uid + 5000, kind },
      account: `${kind === 'tool' ? 'tools.' : ''}late${uid}`,
    };
    await takeOver(archivesOf(unknown, 1, backs));
    expect([await stateOf(unknown), await archivalsOf(unknown)]).toEqual([
      state,
      ['1 away: databases homes'],
    ]);
    const { rows } = await owner.query(
      `SELECT n.name, k.fingerprint FROM names n LEFT JOIN ssh_keys k ON k.person = n.subject WHERE n.subject = $1`,
      [unknown.uid],
    );
    const fingerprint = kind === 'tool' ? null : `SHA256:of ${unknown.uid}`;
    expect(rows).toEqual([{ name: unknown.account, fingerprint }]);
  });

  test('whose number belongs to another subject by now is left to an admin, like that other subject', async () => {
    const other = await make(kind);
    const account = `${kind === 'tool' ? 'tools.' : ''}older${other.uid}`;
    const { deleted, undecided } = await takeOver(archivesOf({ ...other, account }, 1, GONE));
    expect(deleted).toEqual([]);
    expect(undecided).toEqual([
      { account, uid: other.uid, sentence: expect.stringContaining(`/homes/${account}.1`) },
    ]);
    expect([await stateOf(other), await archivalsOf(other)]).toEqual(['active', []]);
  });
});

test('the last admin is not deleted', async () => {
  const person = await make('person');
  const { name } = await wantTool(owner, world, [person.uid]);
  await expect(takeOver(archivesOf(person, 1, GONE), name)).rejects.toMatchObject({
    code: 'ADMIN_TOOL',
    message: expect.stringContaining(
      `archives show the deletion of ${person.account} after the backup`,
    ),
    action: expect.stringMatching(/ stays frozen\. Restore PostgreSQL from a newer backup, /),
  });
  expect(await stateOf(person)).toBe('active');
});
