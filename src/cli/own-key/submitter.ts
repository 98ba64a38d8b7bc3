/** Who signs what `submit` sends: a portal, or an admin with a key that the configuration or a request has made known. */
import { findAdminKeys } from '../../requests/admin-keys-table.ts';
import { findSigner } from '../../requests/token.ts';
import { ADMINS_QUEUE, type Config } from '../../shared/config.ts';
import { fingerprintOf } from '../../ssh-keys/ed25519-key.ts';
import { withAdmin } from '../admin.ts';
import {
  listedSigner,
  ownKeyPath,
  portalSigner,
  portalsOfAdmins,
  type Signer,
  usage,
} from '../submission.ts';
import { openOwnKey, type OwnKey } from './own-key.ts';

/** Opens the key that signs. An admin's own may have a passphrase, or be in an ssh-agent. */
export async function openSubmitter(
  config: Config,
  portalName: string | undefined,
  keyFile: string | undefined,
): Promise<Signer> {
  if (portalName !== undefined) return portalSigner(config, portalName, keyFile);
  const path = keyFile ?? ownKeyPath(config);
  const { publicKey, signing } = await openOwnKey(path);
  const listed = findSigner(portalsOfAdmins(config), publicKey);
  if (listed !== undefined) return { ...listedSigner(listed), key: signing };
  const kid = fingerprintOf(publicKey);
  const added = await withAdmin(config, (client) => findAdminKeys(client, [kid]));
  const owner = added.get(kid);
  if (owner === undefined) {
    throw usage(
      `neither the configuration nor an accepted admin-key.add has the key ${path} (${kid}) for any admin`,
    );
  }
  return ownSigner(owner.admin, kid, signing);
}

/**
 * Opens the admin's own key for signing what must be proved without PostgreSQL, where the keys are that were added by
 * request. Throws USAGE unless the configuration lists it.
 */
export async function openListedKey(config: Config): Promise<OwnKey & { portal: string }> {
  const path = ownKeyPath(config);
  const own = await openOwnKey(path);
  const listed = findSigner(portalsOfAdmins(config), own.publicKey);
  if (listed !== undefined) return { ...own, portal: listed.portal.name };
  throw usage(`the configuration does not list the key ${path} for any admin`);
}

/** An admin who signs with a key that a request has made known. */
export function ownSigner(admin: string, kid: string, key: Signer['key']): Signer {
  return { portal: `admin.${admin}`, queue: ADMINS_QUEUE, kid, key, admin };
}
