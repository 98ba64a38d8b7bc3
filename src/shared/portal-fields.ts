/** What is said of a portal: in the configuration, and in the requests that add and change portals. */
import { createPublicKey } from 'node:crypto';
import * as z from 'zod/mini';
import { REQUEST_KINDS } from '../requests/kinds.ts';
import { fingerprintOf } from '../ssh-keys/ed25519-key.ts';
import { ed25519PublicKey } from '../ssh-keys/ed25519-value.ts';

const someOf = <T extends z.core.SomeType>(element: T) => z.array(element).check(z.minLength(1));

/** With a description, for the JSON Schema and the command line. */
function described<T extends z.ZodMiniType>(schema: T, description: string): T {
  z.globalRegistry.add(schema, { description });
  return schema;
}

const keyId = z
  .string()
  .check(z.regex(/^[^\p{C}]+$/u, 'must not be empty or have control characters'));

/** What a portal has, without defaults. */
export const portalParts = {
  /** the portal of an admin's own key is called `admin.<shell name>` */
  name: described(
    z.string().check(
      z.regex(
        /^[a-z][a-z0-9.-]{0,62}$/,
        'must begin with one of a-z, and have at most 63 of the characters a-z 0-9 . -',
      ),
      z.refine(
        (name) => !name.startsWith('urgent.'),
        'must not begin with `urgent.`: its queue would be the urgent one of another portal',
      ),
    ),
    'the name of the portal',
  ),
  keys: described(
    someOf(
      z
        .strictObject({ kid: keyId, publicKey: ed25519PublicKey })
        .check(
          z.refine(
            ({ kid, publicKey }) =>
              !kid.startsWith('SHA256:') || kid === fingerprintOf(createPublicKey(publicKey)),
            'the kid begins with SHA256: but is not the fingerprint of the key. Name the key in another way',
          ),
        ),
    ).check(
      z.refine(
        (keys) => new Set(keys.map(({ kid }) => kid)).size === keys.length,
        'two of them have the same kid',
      ),
    ),
    'the keys that the portal has then: `kid` and `publicKey` (Ed25519, PEM or a line as in a .pub file); give them in a file (`submit --file`)',
  ),
  kinds: described(
    z.union(
      [z.literal('all'), someOf(z.enum(REQUEST_KINDS))],
      `must be all, or a list of these: ${REQUEST_KINDS.join(', ')}`,
    ),
    'what it may send: all, or a list of kinds, as `chamberlain schema` lists them',
  ),
  /** whether it gets events about every subject, not only about its own requests */
  subjectEvents: described(
    z.boolean(),
    'it gets events about every subject, not only about its own requests',
  ),
  /**
   * whether it may send requests of an admin that only admins may send, or that change the admin tool. Otherwise
   * these need the admin's own key.
   */
  speaksForAdmins: described(
    z.boolean(),
    'it may send requests that only admins may send, in the name of an admin',
  ),
  /** whether it may say that a person's mail address is verified */
  verifiesMail: described(z.boolean(), 'it may say that a mail address is verified'),
  /** what it may read through the API (src/api/rights.ts) */
  reads: described(
    z.array(z.enum(['public', 'own', 'mail', 'all'])),
    'what it may read through the API',
  ),
  /** instead of `api.mostCallsPerMinute.portal` */
  mostCallsPerMinute: described(
    z.int().check(z.minimum(1), z.maximum(10_000_000)),
    'how many calls of the API it may make in a minute; by default as many as every portal (`api.mostCallsPerMinute.portal`)',
  ),
  /** whether it takes its events from its queue, or over HTTP from the API */
  events: described(
    z.enum(['queue', 'http']),
    'how it gets events; with `queue`, also `redisPasswordSha256`',
  ),
};

/** The fields of a portal. */
export const portalFields = {
  ...portalParts,
  subjectEvents: z.prefault(portalParts.subjectEvents, false),
  speaksForAdmins: z.prefault(portalParts.speaksForAdmins, false),
  verifiesMail: z.prefault(portalParts.verifiesMail, false),
  events: z.prefault(portalParts.events, 'queue'),
  reads: z.prefault(portalParts.reads, []),
  mostCallsPerMinute: z.optional(portalParts.mostCallsPerMinute),
};

const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** By which Redis knows the password of a portal that was added by request. The password itself stays with the portal. */
export const redisPasswordSha256 = described(
  z.string().check(
    z.regex(/^[0-9a-f]{64}$/, 'must be a SHA-256: 64 digits 0-9 a-f'),
    z.refine((hash) => hash !== EMPTY_SHA256, 'is the SHA-256 of an empty password'),
  ),
  'the SHA-256 of the password of Redis that the portal has made for itself, of 32 random bytes',
);

/** The fields of a portal that was added by request. */
export const addedPortalFields = {
  ...portalFields,
  redisPasswordSha256: z.optional(redisPasswordSha256),
};
