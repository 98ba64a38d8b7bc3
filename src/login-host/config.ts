/**
 * The configuration of a login host, `/etc/chamberlain/login-host.yaml`: what the keys agent, the root
 * helper, `take` and `whoami` need. It holds no secret. Unknown keys are refused.
 */
import { createPublicKey } from 'node:crypto';
import { z } from 'zod';
import {
  absolutePath,
  ed25519PublicKey,
  fingerprints,
  idRange,
  ldapUri,
  loadYaml,
  unixName,
} from '../shared/config-values.ts';
import { sealKeyId, type SealKeys } from '../seals/seal.ts';

/** Where `install` puts it; the programs of a login host read it there unless `--config` says otherwise. */
export const LOGIN_HOST_CONFIG = '/etc/chamberlain/login-host.yaml';

const schema = z.strictObject({
  realm: unixName,
  /** the realm group's gid, and every person's */
  realmGid: z.int().min(1).max(65_533).default(500),
  ids: z.strictObject({ people: z.array(idRange).min(1), tools: z.array(idRange).min(1) }),
  ldap: z.strictObject({
    /** asked in this order: the first that answers */
    uris: z.array(ldapUri).min(1),
    base: z.string().min(1),
    caFile: absolutePath.optional(),
    /** of `cn=keys-agent,ou=chamberlain,<base>`, readable by the agent alone */
    passwordFile: absolutePath.default('/etc/chamberlain/secrets/ldap-keys-agent'),
  }),
  /** how long a key goes on being accepted while nothing can be heard of the directory */
  offlineLimitSeconds: z.int().min(4).default(86_400),
  /** what homes in the directory must lie in */
  homes: z
    .strictObject({
      people: absolutePath.default('/home'),
      tools: absolutePath.default('/data/project'),
    })
    .prefault({}),
  /** fingerprints that are refused beyond those that are shipped */
  knownBadKeys: fingerprints,
  /** PEM, Ed25519: whose seals this host takes; two while one is being replaced by the other */
  sealKeys: z.array(ed25519PublicKey).min(1).max(2),
});

export type LoginHostConfig = z.infer<typeof schema>;

/** Reads and checks the file. Throws CONFIG_INVALID, naming each line that is wrong. */
export function loadLoginHostConfig(path: string): LoginHostConfig {
  return loadYaml(path, schema);
}

/** The keys by which this host knows what the directory role has signed. */
export function sealKeysOf({ sealKeys }: Pick<LoginHostConfig, 'sealKeys'>): SealKeys {
  const keys = sealKeys.map((pem) => createPublicKey(pem));
  return new Map(keys.map((key) => [sealKeyId(key), key]));
}
