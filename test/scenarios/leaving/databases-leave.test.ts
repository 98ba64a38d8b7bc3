/**
 * The databases of a tool that leaves, by the role's own reader and writer, on real servers: archived, dropped,
 * restored, removed. Each move is cut at each of its steps, and a second run does nothing.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Step } from '../../../src/reconcile/plan.ts';
import { dyingWriter, type LawsWorld, openLawsWorld, wantTool } from '../../laws-world.ts';
import { administer, startServer, stopServer } from '../../stack.ts';

let laws: LawsWorld;
beforeAll(async () => {
  laws = await openLawsWorld('databases leave', { own: true });
});
afterAll(async () => laws.close());

const sql = (text: string, ...values: unknown[]) => laws.owner.query(text, values);
const tools = (text: string) => administer(laws.world.tools.socket, text);

/** A tool with two databases, disabled. */
async function settledTool(): Promise<{ uid: number; name: string }> {
  const tool = await wantTool(laws.owner, laws.world, []);
  for (const role of ['homes', 'databases'] as const) await laws.run(role, tool.uid);
  await tools(
    ['one', 'two']
      .map((name) => `s${tool.uid}__${name}`)
      .map((name) => `CREATE DATABASE ${name}; CREATE TABLE ${name}.t AS SELECT '${name}' AS a;`)
      .join('\n'),
  );
  await sql(`UPDATE tools SET state = 'disabled' WHERE uid = $1`, tool.uid);
  await run(tool.uid);
  return tool;
}

async function archiveAll(uid: number): Promise<void> {
  await sql('INSERT INTO archivals (subject, archival) VALUES ($1, 1)', uid);
  await sql(`UPDATE tools SET state = 'archived' WHERE uid = $1`, uid);
}

/** As the calendar does, when both archives are recorded. */
async function left(uid: number): Promise<void> {
  await sql(
    `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
     VALUES ($1, 1, 'homes', repeat('0', 64), '/nowhere', 0) ON CONFLICT DO NOTHING`,
    uid,
  );
  await sql('UPDATE archivals SET left_at = now() WHERE subject = $1', uid);
  await sql(`UPDATE tools SET state = 'deleted' WHERE uid = $1`, uid);
}

async function comeBack(uid: number): Promise<void> {
  await sql('UPDATE archivals SET returning_at = now() WHERE subject = $1', uid);
  await sql(`UPDATE tools SET state = 'archived' WHERE uid = $1`, uid);
}

const expire = (uid: number) =>
  sql('UPDATE archivals SET expired_at = now() WHERE subject = $1', uid);

async function steps(uid: number): Promise<string[]> {
  const [seen] = await laws.look('databases', [uid]);
  expect(seen!.findings).toEqual([]);
  return seen!.steps.map(said(uid));
}

const said =
  (uid: number) =>
  ({ effect, action, object }: Step): string =>
    `${effect} ${action.verb} ${object}`.replaceAll(`s${uid}`, 'USER');

async function run(uid: number): Promise<void> {
  await laws.run('databases', uid);
}

/** Databases with their content, and whether there is an account. */
async function standing(uid: number): Promise<string[]> {
  const names = (await tools(`SHOW DATABASES LIKE 's${uid}\\\\_\\\\_%'`))
    .split('\n')
    .filter(Boolean);
  const rows = await Promise.all(names.map((name) => tools(`SELECT a FROM ${name}.t`)));
  const account = await tools(
    `SELECT JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv WHERE User = 's${uid}'`,
  );
  const door = account === '' ? 'no account' : account.trim() === '1' ? 'locked' : 'open';
  return [...rows.map((row) => row.trim().replace(`s${uid}__`, '')), door];
}

const recordedOf = async (uid: number) =>
  (
    await sql(
      `SELECT manifest_sha256, path, bytes FROM archives WHERE subject = $1 AND role = 'databases'`,
      uid,
    )
  ).rows as { path: string }[];

/** name · what comes before · what is wanted then · the steps · the state afterwards */
const MOVES: [string, ((uid: number) => Promise<unknown>)[], string[], string[]][] = [
  [
    'archived',
    [archiveAll],
    ['create databases.archive archive 1 of the databases of USER'],
    ['one', 'two', 'locked'],
  ],
  [
    'dropped',
    [archiveAll, run, left],
    [
      'destroy databases.drop USER__one on toolsdb',
      'destroy databases.drop USER__two on toolsdb',
      'destroy db.dropUser USER on replica',
      'destroy db.dropUser USER on toolsdb',
    ],
    ['no account'],
  ],
  [
    'restored',
    [archiveAll, run, left, run, comeBack],
    [
      'create databases.restore databases of USER on toolsdb',
      'create db.createUser USER on replica',
      'create db.createUser USER on toolsdb',
    ],
    ['one', 'two', 'locked'],
  ],
  [
    'removed',
    [archiveAll, run, left, run, expire],
    ['destroy databases.removeArchive archive 1 of the databases of USER'],
    ['no account'],
  ],
];

describe.each(MOVES)('databases are %s', (_name, moves, expected, after) => {
  async function ready(): Promise<number> {
    const { uid } = await settledTool();
    for (const move of moves) await move(uid);
    return uid;
  }

  test('by the steps that the survey lists, and a second run does nothing', async () => {
    const uid = await ready();
    expect(await steps(uid)).toEqual(expected);
    await run(uid);
    expect(await steps(uid)).toEqual([]);
    expect(await standing(uid)).toEqual(after);
    const [archive, ...more] = await recordedOf(uid);
    expect(more).toEqual([]);
    expect(existsSync(archive!.path)).toBe(!moves.includes(expire));
    expect((await sql('SELECT * FROM archive_progress WHERE subject = $1', uid)).rows).toEqual([]);
  });

  test.each(expected.map((step, n) => [step, n] as const))(
    'even if that was cut at %s, before or after it',
    async (_, n) => {
      // before a later one: as after the one before it
      for (const when of n === 0 ? (['before', 'after'] as const) : (['after'] as const)) {
        const uid = await ready();
        await laws.run('databases', uid, (own) => dyingWriter(own, n, when));
        await run(uid);
        expect(await steps(uid)).toEqual([]);
        expect(await standing(uid)).toEqual(after);
      }
    },
  );
});

test.each([
  ['made', (name: string) => `.tools.${name}.1.part`],
  ['recorded', (name: string) => `tools.${name}.1`],
])(
  'a tool that is enabled again before its archive was %s loses nothing, nothing is loaded, and nothing stays',
  async (_before, folderOf) => {
    const { uid, name } = await settledTool();
    await archiveAll(uid);
    // cut in the middle
    const part = join(laws.world.config.archives.databases, folderOf(name));
    mkdirSync(part);
    writeFileSync(join(part, 'toolsdb.1.sql.zst'), 'half');
    await comeBack(uid);
    const expected = ['change databases.removePart archive 1 of the databases of USER'];
    expect(await steps(uid)).toEqual(expected);
    await run(uid);
    expect(existsSync(part)).toBe(false);
    expect(await steps(uid)).toEqual([]);
    await sql('UPDATE archivals SET back_at = now() WHERE subject = $1', uid);
    await sql(`UPDATE tools SET state = 'active' WHERE uid = $1`, uid);
    await run(uid);
    expect(await standing(uid)).toEqual(['one', 'two', 'open']);
  },
);

test('a replica that is down delays neither the archive nor the drop; the tools’ own server does', async () => {
  const { uid } = await settledTool();
  await archiveAll(uid);
  const { replica, tools: own } = laws.world;
  await stopServer(replica);
  try {
    await laws.run('databases', uid);
    expect(await recordedOf(uid)).toHaveLength(1);
    await left(uid);
    await laws.run('databases', uid);
    expect(await standing(uid)).toEqual(['no account']);
  } finally {
    await startServer(replica);
  }
  const another = await settledTool();
  await archiveAll(another.uid);
  await stopServer(own);
  try {
    const [seen] = await laws.look('databases', [another.uid]);
    expect(seen!.steps).toEqual([]);
    expect(seen!.unreadable.map(({ target }) => target)).toEqual([
      'database-archive',
      'database-account',
    ]);
  } finally {
    await startServer(own);
  }
  await run(another.uid);
  expect(await recordedOf(another.uid)).toHaveLength(1);
  expect(await laws.run('databases', uid)).toHaveLength(1); // the account on the replica was still to be dropped
});

test('a database newer than the archive is reported, and stays; the others are dropped', async () => {
  const { uid } = await settledTool();
  await archiveAll(uid);
  await run(uid);
  await left(uid);
  await tools(
    `CREATE DATABASE s${uid}__later; CREATE TABLE s${uid}__later.t AS SELECT 'later' AS a`,
  );
  const [seen] = await laws.look('databases', [uid]);
  expect(seen!.findings.map(({ code, object }) => `${code} ${object}`)).toEqual([
    `ARCHIVE_DIFFERS s${uid}__later on toolsdb`,
  ]);
  await run(uid);
  expect(await standing(uid)).toEqual(['later', 'no account']);
});

test('no archive, no deletion: our own database refuses it', async () => {
  const { uid } = await settledTool();
  await archiveAll(uid);
  await expect(left(uid)).rejects.toThrow('is not archived');
});
