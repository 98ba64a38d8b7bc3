/** Everything that the demo could have changed, as text: two equal snapshots show that nothing was changed. */
import { output, queryAsRoot, searchDirectory, type StackEnvironment } from './outside.ts';

export const SNAPSHOT_PARTS = ['directory', 'files', 'databases', 'PostgreSQL'] as const;
export type Snapshot = Record<(typeof SNAPSHOT_PARTS)[number], string[]>;

/** Accounts, their rights, and all databases. */
const MARIADB_SQL = `
  SELECT Host, User, Priv FROM mysql.global_priv ORDER BY 1, 2;
  SELECT * FROM mysql.db ORDER BY 1, 2, 3;
  SELECT * FROM mysql.roles_mapping ORDER BY 1, 2, 3;
  SHOW DATABASES`;

/** The wanted state, without anything that only records progress. */
const WANTED_TABLES =
  'posix_ids names people tools realm_members maintainers ssh_keys access_requests credentials database_verifiers'.split(
    ' ',
  );

/**
 * Takes everything: each entry with its operational attributes (any write changes entryCSN), each path with its
 * inode, owner, mode and times of change, each account of the database servers, and each row of the wanted
 * state.
 */
export async function takeSnapshot(env: StackEnvironment): Promise<Snapshot> {
  const [directory, files, replica, tools, rows] = await Promise.all([
    searchDirectory(env, '(objectClass=*)', '*', '+'),
    // Chamberlain works in the folder in which homes are built
    output('find', [
      env['DATA_ROOT'] ?? '',
      ...'-name .chamberlain -prune -o -printf'.split(' '),
      String.raw`%P %y %i %m %U:%G %n %s %T@ %C@ %l\n`,
    ]),
    queryAsRoot(env['MARIADB_REPLICA_SOCKET'], MARIADB_SQL),
    queryAsRoot(env['MARIADB_TOOLS_SOCKET'], MARIADB_SQL),
    output(
      'psql',
      [
        '-X',
        '-q',
        '-A',
        '-t',
        ...WANTED_TABLES.flatMap((table) => [
          '-c',
          `SELECT '${table}', t FROM ${table} t ORDER BY t::text`,
        ]),
      ],
      { env },
    ),
  ]);
  return {
    directory: directory
      // the heartbeat is rewritten all the time; the suffix counts every write, including the heartbeat's
      .filter(({ dn }) => dn !== env['LDAP_BASE'] && dn !== `cn=chamberlain,${env['LDAP_BASE']}`)
      .map(({ dn, lines }) => [dn, ...lines.toSorted()].join(' | '))
      .toSorted(),
    files: files.split('\n').toSorted(),
    databases: [...replica.split('\n'), ...tools.split('\n')],
    PostgreSQL: rows.split('\n'),
  };
}

/** The lines of a part that only one of the two snapshots has. */
export function difference(part: keyof Snapshot, before: Snapshot, after: Snapshot): string[] {
  const [old, now] = [new Set(before[part]), new Set(after[part])];
  return [...old.symmetricDifference(now)];
}
