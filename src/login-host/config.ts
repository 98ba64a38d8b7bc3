/**
 * The configuration of a login host, `/etc/chamberlain/login-host.yaml`: what the keys agent, the root
 * helper, `take` and `whoami` need. It holds no secret. Unknown keys are refused.
 */
import { createPublicKey } from 'node:crypto';
import * as z from 'zod/mini';
import {
  absolutePath,
  filled,
  fingerprints,
  hostAccount,
  idRange,
  intOf,
  ldapUri,
  loadYaml,
  someOf,
  unixName,
} from '../shared/config-values.ts';
import { ed25519PublicKey } from '../ssh-keys/ed25519-value.ts';
import { sealKeyId, type SealKeys } from '../seals/seal.ts';

/**
 * Where `install` puts the file. The programs of a login host read it there unless `--config` names another.
 */
export const LOGIN_HOST_CONFIG = '/etc/chamberlain/login-host.yaml';

const schema = z.strictObject({
  realm: unixName,
  /** the gid of the realm group, which is also the primary group of every person */
  realmGid: z.prefault(intOf(1, 65_533), 500),
  ids: z.strictObject({ people: someOf(idRange), tools: someOf(idRange) }),
  ldap: z.strictObject({
    /** tried in this order; the first that answers is used */
    uris: someOf(ldapUri),
    base: filled,
    caFile: z.optional(absolutePath),
    /** binds as `cn=<hostAccount>,ou=hosts,ou=chamberlain,<base>`; by default as `cn=keys-agent,ou=chamberlain,<base>` */
    hostAccount: z.optional(hostAccount),
    /** of that account, readable only by the agent */
    passwordFile: z.prefault(absolutePath, '/etc/chamberlain/secrets/ldap-keys-agent'),
  }),
  /** how long a key is accepted while the directory cannot be read */
  offlineLimitSeconds: z.prefault(z.int().check(z.minimum(4)), 86_400),
  /** the folders in which homes in the directory must lie */
  homes: z.prefault(
    z.strictObject({
      people: z.prefault(absolutePath, '/home'),
      tools: z.prefault(absolutePath, '/data/project'),
    }),
    {},
  ),
  /** fingerprints that are refused in addition to the built-in list */
  knownBadKeys: fingerprints,
  /** PEM, Ed25519: this host accepts seals signed by these keys; two during a change of the key */
  sealKeys: z.array(ed25519PublicKey).check(z.minLength(1), z.maxLength(2)),
});

export type LoginHostConfig = z.infer<typeof schema>;

/** Reads and checks the file. Throws CONFIG_INVALID, naming each wrong line. */
export function loadLoginHostConfig(path: string): LoginHostConfig {
  return loadYaml(path, schema);
}

/** The keys with which this host verifies what the directory role has signed. */
export function sealKeysOf({ sealKeys }: Pick<LoginHostConfig, 'sealKeys'>): SealKeys {
  const keys = sealKeys.map((pem) => createPublicKey(pem));
  return new Map(keys.map((key) => [sealKeyId(key), key]));
}
