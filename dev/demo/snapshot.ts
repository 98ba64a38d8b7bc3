/** Everything that the demo could have changed, as text: two that are the same say that nothing was. */
import { output, queryAsRoot, searchDirectory, type StackEnvironment } from './outside.ts';

export const SNAPSHOT_PARTS = ['directory', 'files', 'databases', 'PostgreSQL'] as const;
export type Snapshot = Record<(typeof SNAPSHOT_PARTS)[number], string[]>;

/** Accounts, their rights, and the databases that there are. */
const MARIADB_SQL = `
  SELECT Host, User, Priv FROM mysql.global_priv ORDER BY 1, 2;
  SELECT * FROM mysql.db ORDER BY 1, 2, 3;
  SELECT * FROM mysql.roles_mapping ORDER BY 1, 2, 3;
  SHOW DATABASES`;

/** The wanted state, and nothing that only says how far something is. */
const WANTED_TABLES =
  'posix_ids names people tools realm_members maintainers ssh_keys access_requests credentials database_verifiers'.split(
    ' ',
  );

/**
 * Looks at all of it: each entry with its operational attributes (entryCSN moves with any write), each
 * path with its inode, owner, mode and times of change, each account of the database servers, and each
 * row of the wanted state.
 */
export async function takeSnapshot(env: StackEnvironment): Promise<Snapshot> {
  const [directory, files, replica, tools, rows] = await Promise.all([
    searchDirectory(env, '(objectClass=*)', '*', '+'),
    // the folder in which homes are built is the product's own workshop
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
      // the marker is rewritten as a sign of life; the suffix counts every write, the marker's too
      .filter(({ dn }) => dn !== env['LDAP_BASE'] && dn !== `cn=chamberlain,${env['LDAP_BASE']}`)
      .map(({ dn, lines }) => [dn, ...lines.toSorted()].join(' | '))
      .toSorted(),
    files: files.split('\n').toSorted(),
    databases: [...replica.split('\n'), ...tools.split('\n')],
    PostgreSQL: rows.split('\n'),
  };
}

/** The lines of a part that are in one of the two snapshots alone. */
export function difference(part: keyof Snapshot, before: Snapshot, after: Snapshot): string[] {
  const [old, now] = [new Set(before[part]), new Set(after[part])];
  return [...old.symmetricDifference(now)];
}
