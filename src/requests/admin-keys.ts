/** Every admin's own key, of the configuration and of requests. */
import type { Client } from '../database/connection.ts';
import { type Config, listedAdminKeys } from '../shared/config.ts';
import { type ListedAdminKey, listAdminKeys } from './admin-keys-table.ts';

/** By owner; those that only the configuration lists come first. */
export async function readAdminKeys(
  client: Client,
  config: Pick<Config, 'portals'>,
): Promise<ListedAdminKey[]> {
  const rows = await listAdminKeys(client);
  const known = new Set(rows.map(({ fingerprint }) => fingerprint));
  const listed = [...listedAdminKeys(config)]
    .filter(([fingerprint]) => !known.has(fingerprint))
    .map(([fingerprint, { admin }]) => ({
      ...{ admin, fingerprint, label: '', expiresAt: null, addedBy: null, approvedBy: null },
      ...{ addedAt: null, revokedAt: null, revokedBy: null, revokedWhy: null },
    }));
  return [...listed, ...rows].toSorted((a, b) =>
    a.admin < b.admin ? -1 : a.admin > b.admin ? 1 : 0,
  );
}
