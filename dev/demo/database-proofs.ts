/** Proves with mariadb, using only the files in the homes, who may do what on the database servers. */
import { join } from 'node:path';
import type { Numbers } from './numbers.ts';
import { queryAs, type DatabaseServer, type Ran, type StackEnvironment } from './outside.ts';
import { attempt, chapter, check, checkSame } from './output.ts';

/** Logs in with the credentials files on both servers, and tries what must and must not work. */
export async function proveDatabases(
  env: StackEnvironment,
  numbers: Numbers,
  oldCredentials: string | undefined,
): Promise<void> {
  chapter(
    'The databases, with only the file in the home',
    'mariadb --defaults-file=…/replica.my.cnf',
  );
  const file = (path: string) => join(env['DATA_ROOT'] ?? '', path, 'replica.my.cnf');
  const bridgebot = file('data/project/bridgebot');
  const archivebot = file('data/project/archivebot');
  const [owner, other] = [`s${numbers.bridgebot}`, `s${numbers.archivebot}`];
  const own = `${owner}__x`;

  for (const [name, credentials, user] of [
    ['bridgebot', bridgebot, owner],
    ['archivebot', archivebot, other],
    ['alice', file('home/alice'), `u${numbers.alice}`],
  ] as const) {
    for (const server of ['replica', 'toolsdb'] as const) {
      await works(
        env,
        `${name} logs in on ${server}`,
        credentials,
        server,
        'SELECT current_user()',
        `${user}@%`,
      );
    }
  }
  await works(
    env,
    'bridgebot reads the published views',
    bridgebot,
    'replica',
    'SELECT count(*) FROM enwiki_p.page',
    '2',
  );
  await fails(
    env,
    'but not the tables behind them',
    bridgebot,
    'replica',
    'SELECT * FROM enwiki.page',
  );
  await works(
    env,
    'it creates a database of its own',
    bridgebot,
    'toolsdb',
    `CREATE DATABASE IF NOT EXISTS ${own}; CREATE OR REPLACE TABLE ${own}.t (a INT);
     INSERT INTO ${own}.t VALUES (42); SELECT a FROM ${own}.t`,
    '42',
    `CREATE DATABASE ${own}`,
  );
  await fails(env, 'archivebot cannot read it', archivebot, 'toolsdb', `SELECT a FROM ${own}.t`);
  await fails(env, 'nor drop it', archivebot, 'toolsdb', `DROP DATABASE ${own}`);
  await fails(
    env,
    'nor create one with that prefix',
    archivebot,
    'toolsdb',
    `CREATE DATABASE ${owner}__y`,
  );
  await fails(env, 'nor one without a prefix', archivebot, 'toolsdb', 'CREATE DATABASE mine');
  await fails(
    env,
    'nor read the accounts',
    archivebot,
    'toolsdb',
    'SELECT * FROM mysql.global_priv',
  );
  await fails(env, 'dave, who has left, cannot log in', file('home/dave'), 'toolsdb', 'SELECT 1');
  await fails(env, 'nor on the other server', file('home/dave'), 'replica', 'SELECT 1');
  if (oldCredentials !== undefined) {
    for (const server of ['replica', 'toolsdb'] as const) {
      await fails(
        env,
        `bridgebot's old password no longer works on ${server}`,
        oldCredentials,
        server,
        'SELECT 1',
      );
    }
  }
}

async function works(
  env: StackEnvironment,
  what: string,
  file: string,
  server: DatabaseServer,
  sql: string,
  wanted: string,
  saying = '',
): Promise<void> {
  await attempt(what, async () => {
    const { code, stdout, stderr, ms } = await queryAs(env, file, server, sql);
    const got = code === 0 ? stdout.trim() : errorOf({ stderr });
    if (got === wanted && saying !== '') check(what, true, saying, ms);
    else checkSame(what, got, wanted, ms);
  });
}

/** Access denied: 1044 to a database, 1045 to the server, 1142 to a table, 4151 the account is locked. */
const DENIED = /^ERROR (1044|1045|1142|4151)\b/;

async function fails(
  env: StackEnvironment,
  what: string,
  file: string,
  server: DatabaseServer,
  sql: string,
): Promise<void> {
  await attempt(what, async () => {
    const ran = await queryAs(env, file, server, sql);
    const seen = ran.code === 0 ? 'it worked' : errorOf(ran);
    check(what, ran.code !== 0 && DENIED.test(seen), seen.slice(0, 76), ran.ms);
  });
}

/** The client repeats the statement before it says what is wrong with it. */
function errorOf({ stderr }: Pick<Ran, 'stderr'>): string {
  const error = stderr.split('\n').find((line) => line.startsWith('ERROR ')) ?? stderr;
  return error.trim().replace(/ at line \d+/, '');
}
