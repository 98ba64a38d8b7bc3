/** Every portal, of the configuration file and of requests, without admins' own keys. */
import type { Client } from '../database/connection.ts';
import { adminOfPortal, type Config, type Portal } from '../shared/config.ts';
import {
  type AddedPortal,
  fingerprintsOf,
  listAddedPortals,
  shownDigits,
} from './portals-table.ts';

/** A portal, as it is listed. */
export type ListedPortal = Omit<Portal, 'keys' | 'byRequest' | 'redisPasswordSha256'> & {
  keys: { kid: string; fingerprint: string }[];
  /** of one that was added by request: the first digits of the SHA-256 of its password of Redis */
  redisPassword: string | null;
} & {
  /** null: the configuration file lists it, and the same goes for the rest */
  [K in keyof Omit<AddedPortal, 'name' | 'settings' | 'fingerprints'>]: AddedPortal[K] | null;
};

/** By name. Those of the file come before one of the same name that was added by request, which then does not count. */
export async function readPortals(
  client: Client,
  { portals }: Pick<Config, 'portals'>,
): Promise<ListedPortal[]> {
  const listed = portals
    .filter(({ name, byRequest }) => byRequest !== true && adminOfPortal(name) === undefined)
    .map((portal) => ({
      ...{
        ...portal,
        keys: keysOf(portal),
        redisPassword: null,
        addedBy: null,
        approvedBy: null,
        addedAt: null,
      },
      ...{ changedBy: null, changedAt: null, removedBy: null, removedWhy: null, removedAt: null },
    }));
  const rows = await listAddedPortals(client);
  const added = rows.map(({ settings, fingerprints: _fingerprints, ...row }) => {
    const { redisPasswordSha256: hash, ...rest } = settings;
    const redisPassword = hash === undefined ? null : shownDigits(hash);
    return { ...{ ...rest, ...row, redisPassword }, keys: keysOf(settings) };
  });
  return [...listed, ...added].toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

function keysOf({ keys }: Pick<Portal, 'keys'>): ListedPortal['keys'] {
  const fingerprints = fingerprintsOf({ keys });
  return keys.map(({ kid }, n) => ({ kid, fingerprint: fingerprints[n] ?? '' }));
}
