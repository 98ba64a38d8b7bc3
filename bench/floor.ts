/**
 * The floor of the load: the time that directory, disk and database servers themselves take for N tools. The
 * same entries, folders, files, accounts and grants, on the same servers, made by plain loops in parallel that
 * read nothing, record nothing and ask nobody.
 */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { run } from '../dev/servers/daemon.ts';
import { administer } from '../dev/servers/mariadb.ts';
import { verifierOf } from '../src/credentials/credentials.ts';
import type { FloorFiles } from './floor-files.ts';
import { readSealKey } from '../src/shared/config.ts';
import { MAKER } from './idle.ts';
import { sealsUntil } from './population/population-names.ts';
import { FLOOR_IDS, type MeasuredRealm } from './realm.ts';
import { accountStatement, type ShapedTool, toolEntries } from './tools/shapes.ts';

/** How long each loop took for all tools, in milliseconds. */
export type Floor = Record<'directory' | 'homes' | 'replica' | 'toolsdb', number>;

/** Runs the loops in parallel; the slowest is the floor. */
export async function measureFloor(realm: MeasuredRealm, count: number): Promise<Floor> {
  const tools = Array.from({ length: count }, (_, n): ShapedTool => ({
    name: `floor-${n}`,
    uid: FLOOR_IDS.last - n,
    maintainers: [MAKER],
  }));
  const sealing = { key: readSealKey(realm.config), until: sealsUntil() };
  const ldif = tools.map((tool) => toolEntries(tool, realm, sealing)).join('');
  const { replica, tools: toolsdb } = realm.stack;
  const sqlFor = (kind: 'replica' | 'toolsdb') =>
    tools.map(({ uid }) => accountStatement(`s${uid}`, kind, verifierOf('floor'))).join('');
  const [replicaSql, toolsdbSql] = [sqlFor('replica'), sqlFor('toolsdb')];
  const [directory, homes, onReplica, onToolsdb] = await Promise.all([
    timed(() => addEntries(realm, ldif)),
    makeHomes(realm, tools),
    timed(() => administer(replica.socket, replicaSql)),
    timed(() => administer(toolsdb.socket, toolsdbSql)),
  ]);
  await Promise.all([forgetAccounts(replica.socket), forgetAccounts(toolsdb.socket)]);
  return { directory, homes, replica: onReplica, toolsdb: onToolsdb };
}

/**
 * A server goes through all accounts when it creates one, so 2,000 additional accounts make each of the next
 * ones slower: without them, the next measurement starts from the same state as the floor.
 */
async function forgetAccounts(socket: string): Promise<void> {
  const ours = `User REGEXP '^s[0-9]+$' AND CAST(SUBSTR(User, 2) AS UNSIGNED)
    BETWEEN ${FLOOR_IDS.first} AND ${FLOOR_IDS.last}`;
  const tables = ['global_priv', 'db'];
  await administer(
    socket,
    `${tables.map((table) => `DELETE FROM mysql.${table} WHERE ${ours};`).join('\n')} FLUSH PRIVILEGES;`,
  );
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await act();
  return performance.now() - begin;
}

/** Binds as the role itself does; ldapadd is faster than the npm client, one operation after another. */
async function addEntries({ stack, config }: MeasuredRealm, ldif: string): Promise<void> {
  const account = `cn=directory,ou=chamberlain,${config.ldap.base}`;
  const password = join(config.secrets, 'ldap-directory');
  const words = ['-x', '-H', stack.slapd.uri, '-D', account, '-y', password];
  await run('/usr/bin/ldapadd', words, { input: ldif });
}

function makeHomes({ config }: MeasuredRealm, tools: readonly ShapedTool[]): Promise<number> {
  const workerData: FloorFiles = { area: config.files.root + config.files.toolHomes, tools };
  const thread = new Worker(new URL('floor-files.ts', import.meta.url), { workerData });
  return new Promise((resolve, reject) => {
    thread.once('message', resolve);
    thread.once('error', reject);
  });
}
