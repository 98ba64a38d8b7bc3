/** Servers that are there already: what their administrators must run there, and what setup then does itself. */
import { mkdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { usersForConfig } from '../../deploy/redis/render.ts';
import { LOGIN_ARGUMENT, placeArguments, withLogin } from '../backends/mariadb/mariadb-programs.ts';
import { withConnection } from '../backup/postgres-programs.ts';
import { linesOnLogins, lookAtLogins } from '../doctor/postgres/postgres.ts';
import { lookAtRedisUsers } from '../doctor/redis-users.ts';
import type { Config } from '../shared/config.ts';
import { replaceFile } from '../shared/durable-file.ts';
import { describeRootCause } from '../shared/errors.ts';
import type { Administrator, Answers } from './answers.ts';
import { accountStatements, checkAccounts } from './mariadb.ts';
import { FOR_ADMINISTRATORS, readConfig } from './places.ts';
import { schemaPiece } from './postgres.ts';
import {
  administratorStatements,
  countOpenFunctionsAsOwner,
  setPasswordsAsOwner,
} from './postgres-queries.ts';
import { faultIn, run } from './programs.ts';
import type { Differs, Piece } from './setup.ts';

/** A server, and what its administrator must do until `check` finds nothing. */
interface Named {
  name: string;
  check: (config: Config) => Promise<Differs>;
  file: string;
  contents: (config: Config) => string;
  /** with the file, such as `run it with psql` */
  how: string;
  /** Does so with an administrator's login, if there is one. */
  run?: (contents: string) => Promise<unknown>;
}

/** One piece for all servers, so that nobody must wait for another. None if setup makes every server. */
export function namedPieces(answers: Answers, needs: readonly Piece[]): Piece[] {
  const named = namedServers(answers);
  if (named.length === 0) return [];
  const faults = async () => {
    const found = await Promise.all(
      named.map(async (server) => ({ server, fault: await faultOf(server) })),
    );
    return found.filter(({ fault }) => fault !== undefined);
  };
  return [
    {
      name: 'what the administrators of other servers make',
      does: `runs it, if there is a login; otherwise writes into ${FOR_ADMINISTRATORS} what each must run, before setup is run again`,
      needs,
      async check() {
        const found = await faults();
        const texts = found.map(({ server, fault }) => `${server.name}: ${fault}`);
        return texts.length === 0 ? undefined : `differs: ${texts.join('; ')}`;
      },
      async make() {
        mkdirSync(FOR_ADMINISTRATORS, { recursive: true, mode: 0o700 });
        const todo: string[] = [];
        for (const { server } of await faults()) {
          const { name, file, contents, how, run: runThere } = server;
          const text = contents(readConfig());
          if (runThere !== undefined) await runThere(text);
          else {
            const path = `${FOR_ADMINISTRATORS}/${file}`;
            replaceFile(path, text, { mode: 0o600 }, true);
            todo.push(`${path} is for ${name}: ${how}`);
          }
        }
        if (todo.length > 0) throw new Error(todo.join('; '));
      },
    },
  ];
}

function namedServers({ postgres, redis, database }: Answers): Named[] {
  const { name, kind, host } = database;
  return [
    ...(postgres === undefined
      ? []
      : [
          {
            name: `PostgreSQL at ${postgres.host}`,
            check: checkPostgres,
            ...{ file: 'postgresql.sql', contents: administratorStatements },
            how: 'run it there as the superuser, with `psql -X -d postgres -f`',
            ...withLoginOf(
              postgres.administrator,
              (login) => (text: string) => runOnPostgres(postgres, login, text),
            ),
          },
        ]),
    ...(redis === undefined
      ? []
      : [
          {
            name: `Redis at ${new URL(redis.url).host}`,
            // users of portals that were added by request are made by `chamberlain redis-users`
            check: async (config: Config) => faultIn(await lookAtRedisUsers(config, false)),
            ...{ file: 'redis-users.acl', contents: usersForConfig },
            how: 'make it the file of its `aclfile`, with the settings of deploy/redis/redis.conf',
          },
        ]),
    ...(host === undefined
      ? []
      : [
          {
            name: `the MariaDB server ${name}`,
            check: () => checkAccounts(name),
            file: `mariadb-${name}.sql`,
            contents: (config: Config) => accountStatements(config, kind),
            how: 'run it there as an administrator, with `mariadb`',
            ...withLoginOf(
              database.administrator,
              (login) => (text: string) => runOnMariadb(database, login, text),
            ),
          },
        ]),
  ];
}

const withLoginOf = (
  login: Administrator | undefined,
  runOf: (login: Administrator) => NonNullable<Named['run']>,
): Pick<Named, 'run'> => (login === undefined ? {} : { run: runOf(login) });

/** The password of an administrator's login, without the end of its line. */
export const readPassword = ({ passwordFile }: Administrator): string =>
  readFileSync(passwordFile, 'utf8').replace(/\r?\n$/u, '');

/** Runs a script of psql as the superuser. Errors do not quote the statement. */
export async function runOnPostgres(
  place: Config['postgres'],
  login: Administrator,
  script: string,
): Promise<void> {
  const { user } = login;
  const { host, port, caFile } = place;
  const as = {
    ...{ host, port, caFile, user },
    database: 'postgres',
    password: readPassword(login),
  };
  await withConnection(as, (to, fd) =>
    run('psql', ['-X', '-q', '-v', 'VERBOSITY=terse', '-d', to], script, [fd]),
  );
}

/** Runs statements as an administrator. */
export async function runOnMariadb(
  place: Answers['database'],
  login: Administrator,
  sql: string,
): Promise<void> {
  const as = { user: login.user, password: readPassword(login) };
  await withLogin(tmpdir(), as, (fd) =>
    run('mariadb', [LOGIN_ARGUMENT, ...placeArguments(place)], sql, [fd]),
  );
}

async function faultOf({ check }: Named): Promise<Differs> {
  try {
    return await check(readConfig());
  } catch (error) {
    return describeRootCause(error);
  }
}

async function checkPostgres(config: Config): Promise<Differs> {
  const count = await countOpenFunctionsAsOwner(config);
  return count === 0 ? undefined : 'everybody may take the locks of the workers';
}

/** The tables and roles of a PostgreSQL that setup has not made. Its owner gives roles their passwords. */
export function namedPostgresPieces(needs: readonly Piece[]): Piece[] {
  const schema = schemaPiece(needs);
  const passwords: Piece = {
    name: 'the passwords of the roles in PostgreSQL',
    does: 'gives each role the verifier of its secret',
    needs: [schema],
    check: async () => faultIn(await linesOnLogins(lookAtLogins(readConfig()))),
    make: () => setPasswordsAsOwner(readConfig()),
  };
  return [schema, passwords];
}
