/** What PostgreSQL knows of the roles: the table `roles`, and a lease for each reader. */
import { describedRole, isArchiving, ROLES } from '../roles/index.ts';
import { type Client, LOCK_CLASS, readerOf } from './connection.ts';

/** As many as two whole `chamberlain work` open for a role (src/reconcile/role.ts), and a few for `doctor`. */
const CONNECTIONS = 28;

/** Writes the roles of src/roles/index.ts. As the owner. */
export async function writeRoles(client: Pick<Client, 'query'>): Promise<void> {
  await client.query(
    `INSERT INTO roles (name, lock_class, archives, connections)
     SELECT * FROM unnest($1::text[], $2::int[], $3::boolean[], $4::int[])
     ON CONFLICT (name) DO UPDATE SET lock_class = excluded.lock_class, archives = excluded.archives,
       connections = excluded.connections`,
    [
      ROLES,
      ROLES.map((role) => LOCK_CLASS[role]),
      ROLES.map(isArchiving),
      ROLES.map((role) => describedRole(role).connections ?? CONNECTIONS),
    ],
  );
  // a look for unmanaged things comes every 20 s, and may take some time
  await client.query(
    `INSERT INTO leases (name, lasts) SELECT *, '90 s' FROM unnest($1::text[]) ON CONFLICT DO NOTHING`,
    [ROLES.map(readerOf)],
  );
}
