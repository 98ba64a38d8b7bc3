/** The role `databases`: accounts on every configured MariaDB server, and the databases of subjects that leave. */
import { databaseAccount } from '../../targets/database-account.ts';
import { databaseArchive } from '../../targets/database-archive.ts';
import { accountColumns } from '../account-columns.ts';
import type { RoleDescriptor } from '../descriptor.ts';
import { DATABASES_VERBS } from './verbs.ts';

export const DATABASES_TARGETS = [databaseArchive, databaseAccount] as const;

export const databases: RoleDescriptor<'databases'> = {
  name: 'databases',
  targets: DATABASES_TARGETS,
  verbs: DATABASES_VERBS,
  wanted: accountColumns('databases'),
  // for a password: homes makes it first, and the trigger on its verifier touches this role
  touchedBy: { credentials: { waits: true }, databaseAccess: {}, archives: {} },
  archives: 'databases',
  rights: `
    GRANT SELECT ON credentials, database_verifiers TO chamberlain_databases, chamberlain_databases_reader;
    GRANT EXECUTE ON FUNCTION look_at_passwords(integer[], integer[]) TO chamberlain_databases_reader;
    -- the markers of the servers
    GRANT SELECT (marker, key) ON directory_heartbeat TO chamberlain_databases;
    GRANT DELETE, INSERT (role, place, publishing_at), UPDATE (publishing_at, published_at, doubt, older, doubted_at)
      ON place_markers TO chamberlain_databases;
    GRANT EXECUTE ON FUNCTION freeze_older_than(text, text, timestamptz), take_away(text, integer[], text[])
      TO chamberlain_databases;`,
  places: (config) => [
    ...config.databases.servers.map(({ name }) => [name, name] as const),
    ['archives', config.archives.databases],
  ],
  server: (_, place) => (place === 'archives' ? undefined : place),
  stops: (place) => `no account on ${place} is created, changed or locked`,
  loadParts: async () => (await import('./worker.ts')).DATABASES,
  loadChecks: () => import('./checks.ts'),
};
