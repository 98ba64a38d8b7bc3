/** MariaDB: a server of its own. Its unit and settings are in deploy/servers. */
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { folder } from '../../deploy/login-host/pieces.ts';
import { verifierOf } from '../credentials/credentials.ts';
import { lookAsReader, lookAsWriter } from '../doctor/databases.ts';
import { type Config, readSecret } from '../shared/config.ts';
import { ROOT } from '../shared/root.ts';
import type { Answers } from './answers.ts';
import { shownPieces } from './certificates.ts';
import { filesOf, listeningPiece, mariadbListens } from './listening.ts';
import { LISTENERS, MARIADB, mariadbSocket, mariadbUnit, readConfig } from './places.ts';
import { faultIn, run, service, together } from './programs.ts';
import type { Differs, Piece } from './setup.ts';

export function mariadbPieces(answers: Answers, needs: readonly Piece[]): Piece[] {
  const { name, kind } = answers.database;
  const data = join(MARIADB, name);
  const place = together(
    `the folder ${MARIADB}`,
    'makes it',
    [folder(MARIADB, { owner: 'mysql', group: 'mysql', mode: 0o750 })],
    needs,
  );
  const installed: Piece = {
    name: `the data of the MariaDB server ${name}`,
    does: `mariadb-install-db in ${data}`,
    needs: [place],
    check: () => (existsSync(data) ? undefined : 'are missing'),
    async make() {
      const unfinished = `${data}.new`;
      await run('rm', ['-rf', unfinished]);
      await run('mariadb-install-db', [
        ...['--no-defaults', '--user=mysql', `--datadir=${unfinished}`, '--skip-test-db'],
        ...['--skip-name-resolve', '--auth-root-authentication-method=socket'],
        '--auth-root-socket-user=root',
      ]);
      renameSync(unfinished, data);
    },
  };
  const listens = mariadbListens(name);
  const listening = listeningPiece(listens, answers, [installed]);
  const running = service(mariadbUnit(name), [listening], filesOf(listens));
  const accounts: Piece = {
    name: `the accounts of the role databases on the MariaDB server ${name}`,
    does: `deploy/mariadb/${kind}.sql; gives each the verifier of its secret`,
    needs: [running],
    check: () => checkAccounts(name),
    make: () => makeAccounts(name, kind),
  };
  const shows = mariadbShows(answers, [running]);
  return [place, installed, listening, running, accounts, ...shows];
}

export const mariadbShows = (answers: Answers, needs: readonly Piece[]): Piece[] =>
  shownPieces(
    LISTENERS.mariadb,
    answers,
    async () => void (await asRoot(answers.database.name, 'FLUSH SSL')),
    needs,
  );

export async function checkAccounts(name: string): Promise<Differs> {
  const config = readConfig();
  const server = config.databases.servers.find((each) => each.name === name);
  if (server === undefined) return 'are not in the configuration';
  const lines = [
    ...(await lookAsWriter(config, server, ROOT)),
    ...(await lookAsReader(config, server, ROOT)),
  ];
  return faultIn(lines);
}

async function makeAccounts(name: string, kind: Answers['database']['kind']): Promise<void> {
  await asRoot(name, accountStatements(readConfig(), kind));
}

/** What an administrator of the server must run there. It contains verifiers, no passwords. */
export function accountStatements(config: Config, kind: Answers['database']['kind']): string {
  const statements = ['databases', 'databases-reader'].map((account) => {
    const verifier = verifierOf(readSecret(config, 'mariadb', account));
    const user = `chamberlain_${account.replace('-', '_')}`;
    return `ALTER USER '${user}'@'%' IDENTIFIED BY PASSWORD '${verifier}' ACCOUNT UNLOCK;\n`;
  });
  const sql = readFileSync(join(ROOT, `deploy/mariadb/${kind}.sql`), 'utf8');
  return `${sql}\n${statements.join('')}`;
}

/** Without TLS, because the client would want to verify the certificate on a socket, too. */
function asRoot(name: string, sql: string): Promise<string> {
  const socket = `--socket=${mariadbSocket(name)}`;
  return run('mariadb', ['--no-defaults', '--skip-ssl', socket, '--user=root'], sql);
}
