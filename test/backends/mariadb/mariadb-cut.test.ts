/** A change of an account that is interrupted at any statement: the next run sees it, and completes it. */
import { createConnection, type Connection } from 'mariadb';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { join } from 'node:path';
import { readSecret, realmOf } from '../../../src/shared/config.ts';
import { openDatabasesReader, openDatabasesWriter } from '../../../src/backends/mariadb/mariadb.ts';
import { verifierOf } from '../../../src/credentials/credentials.ts';
import type { AccountName, ToolName } from '../../../src/identity/names.ts';
import type { Realm, WantedTool } from '../../../src/reconcile/wanted.ts';
import { apply, survey, type Writer } from '../../../src/reconcile/engine.ts';
import { databaseAccount } from '../../../src/targets/database-account.ts';
import { administer, openWorld, type World } from '../../stack.ts';
import { openStatementCutter, type StatementCutter } from './statement-cutter.ts';

const UID = 51235;
const USER = `s${UID}`;
/** More statements than any change needs. */
const MANY = 40;

interface Recorded {
  verifier: string;
  previous?: string;
}
/** What is recorded, by epoch. */
const MADE: Record<number, Recorded> = {
  1: { verifier: verifierOf('old') },
  2: { verifier: verifierOf('new'), previous: verifierOf('old') },
  3: { verifier: verifierOf('new') },
  4: { verifier: verifierOf('newest'), previous: verifierOf('new') },
};
const readVerifier = async (uid: number, epoch: number) => (uid === UID ? MADE[epoch] : undefined);

let world: World;
let realm: Realm;
let cutter: StatementCutter;
let reader: ReturnType<typeof openDatabasesReader>;
let writer: ReturnType<typeof openDatabasesWriter>;
const opened: Connection[] = [];

beforeAll(async () => {
  world = await openWorld('mariadb cut', { needs: ['mariadb'] });
  // one server is enough, because each is changed independently
  const { config } = world;
  realm = { ...realmOf(config), databaseServers: [{ name: 'toolsdb', kind: 'toolsdb' }] };
  cutter = await openStatementCutter(join(world.dir, 'cut'), world.tools.socket);
  reader = openDatabasesReader(config.databases.servers, login('databases-reader'));
  writer = openDatabasesWriter(config.databases.servers, login('databases'), readVerifier);
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((connection) => connection.end().catch(() => undefined)));
  await administer(world.tools.socket, `DROP USER IF EXISTS ${USER}`);
});
afterAll(async () => {
  await Promise.all([reader.close(), writer.close(), cutter.close()]);
  await world.close();
});

test('an account is created with all its rights by one statement', async () => {
  const through = openDatabasesWriter(
    [{ name: 'toolsdb', socket: cutter.socket }],
    login('databases'),
    readVerifier,
  );
  cutter.cutAt(MANY, 'before');
  expect(await converge(tool(1), through)).toEqual([]);
  expect(cutter.came).toEqual(['BEGIN NOT']);
  await through.close();
  expect(await stepsOf(tool(1))).toEqual([]);
});

const CHANGES: { what: string; from: number; to: number; ends: boolean; locked?: true }[] = [
  { what: 'a password that comes beside the old one', from: 1, to: 2, ends: false },
  { what: 'an old password whose time has ended', from: 2, to: 3, ends: true },
  { what: 'another password at once', from: 1, to: 3, ends: true },
  { what: 'a third password, where the oldest of two goes', from: 2, to: 4, ends: true },
  {
    what: 'another password at once, of a locked account',
    from: 1,
    to: 3,
    ends: true,
    locked: true,
  },
];

describe.each(CHANGES)('$what', ({ from, to, ends, locked }) => {
  test('ends the same, whichever statement it was interrupted at', async () => {
    const statements = await changeCutAt(MANY, 'before');
    expect(statements.length).toBeGreaterThan(0);
    const right = await accountRow();
    for (let n = 0; n < statements.length; n += 1) {
      for (const when of ['before', 'after'] as const) {
        await administer(world.tools.socket, `DROP USER ${USER}`);
        await changeCutAt(n, when);
        expect({ n, when, row: await accountRow() }).toEqual({ n, when, row: right });
      }
    }
  });

  /**
   * Creates the account, and changes it first by a writer that dies at a statement, and then by others; returns
   * the statements.
   */
  async function changeCutAt(n: number, when: 'before' | 'after'): Promise<string[]> {
    await converge(tool(from), writer);
    const connection = locked ? undefined : await connect(await passwordThatWorks());
    if (locked) await converge(tool(from, 'disabled'), writer);
    const wanted = tool(to, locked ? 'disabled' : 'active');
    const dying = openDatabasesWriter(
      [{ name: 'toolsdb', socket: cutter.socket }],
      login('databases'),
      readVerifier,
    );
    cutter.cutAt(n, when);
    const troubles = await converge(wanted, dying);
    const statements = [...cutter.came];
    expect({ n, when, isCut: troubles.length > 0 }).toEqual({ n, when, isCut: n < MANY });
    await dying.close();
    // whatever has been done, one of the passwords that are, or were, recorded lets in
    if (!locked) await connect(await passwordThatWorks());

    expect(await converge(wanted, writer)).toEqual([]);
    expect(await stepsOf(wanted)).toEqual([]);
    const isOpen = await connection?.query('SELECT 1').then(
      () => true,
      () => false,
    );
    expect({ n, when, isOpen }).toEqual({ n, when, isOpen: locked ? undefined : !ends });
    return statements;
  }
});

describe.each<[string, WantedTool['state'] | undefined, WantedTool['state']]>([
  ['a lock, which stops its events', 'active', 'disabled'],
  ['an unlock', 'disabled', 'active'],
  ['an account that is created locked', undefined, 'disabled'],
])('%s', (_, from, to) => {
  test('ends the same, whichever statement it was interrupted at', async () => {
    const cutAt = async (n: number, when: 'before' | 'after') => {
      if (from !== undefined) await converge(tool(1, from), writer);
      const connection = from === 'active' ? await connect('old') : undefined;
      const dying = openDatabasesWriter(
        [{ name: 'toolsdb', socket: cutter.socket }],
        login('databases'),
        readVerifier,
      );
      cutter.cutAt(n, when);
      await converge(tool(1, to), dying);
      const statements = [...cutter.came];
      await dying.close();
      expect(await converge(tool(1, to), writer)).toEqual([]);
      expect(await stepsOf(tool(1, to))).toEqual([]);
      const ended = connection?.query('SELECT 1').then(
        () => 'open',
        () => 'ended',
      );
      expect({ n, when, is: await ended }).toEqual({ n, when, is: connection && 'ended' });
      const row = await accountRow();
      await administer(world.tools.socket, `DROP USER ${USER}`);
      return { row, statements };
    };
    const { row: right, statements } = await cutAt(MANY, 'before');
    expect(right.includes('ALL PRIVILEGES')).toBe(to === 'active');
    expect(right).not.toMatch(/\bEVENT\b/);
    for (const n of statements.keys()) {
      for (const when of ['before', 'after'] as const) {
        expect({ n, when, row: (await cutAt(n, when)).row }).toEqual({ n, when, row: right });
      }
    }
  });
});

function tool(epoch: number, state: WantedTool['state'] = 'active'): WantedTool {
  return {
    kind: 'tool',
    uid: UID,
    account: 'tools.bot' as AccountName,
    name: 'bot' as ToolName,
    state,
    credentials: { wantedEpoch: epoch, recorded: { epoch, ...MADE[epoch]! } },
  };
}

async function converge(wanted: WantedTool, by: Writer): Promise<string[]> {
  const [found] = await survey([databaseAccount], [wanted], realm, reader);
  const troubles = await apply([databaseAccount], found!, by);
  return troubles.map(({ code, sentence }) => `${code} ${sentence}`);
}

async function stepsOf(wanted: WantedTool): Promise<string[]> {
  const [found] = await survey([databaseAccount], [wanted], realm, reader);
  return found!.steps.map(({ effect, change }) => `${effect} ${change}`);
}

/** One of the passwords that lets in. Fails if none does. */
async function passwordThatWorks(): Promise<string> {
  for (const password of ['old', 'new', 'newest']) {
    const connection = await createConnection({
      ...{ socketPath: world.tools.socket, user: USER, password },
    }).catch(() => undefined);
    if (connection === undefined) continue;
    await connection.end();
    return password;
  }
  throw new Error('no password lets in');
}

async function connect(password: string): Promise<Connection> {
  const at = { socketPath: world.tools.socket, user: USER, password };
  const connection = await createConnection(at);
  connection.on('error', () => undefined);
  opened.push(connection);
  return connection;
}

/** The account as the server stores it, without the times. */
async function accountRow(): Promise<string> {
  const sql = `SELECT Priv FROM mysql.global_priv WHERE User = '${USER}'; SHOW GRANTS FOR ${USER}`;
  const row = await administer(world.tools.socket, sql);
  return row.replaceAll(/"password_last_changed":\d+/g, '');
}

function login(account: string) {
  const user = `chamberlain_${account.replaceAll('-', '_')}`;
  return { user, password: readSecret(world.config, 'mariadb', account) };
}
