/** What the realm answers to a machine that is to run roles: its configuration, authorities and secrets. */
import * as z from 'zod/mini';
import { secretsOfRole } from '../doctor/files.ts';
import { MOVABLE_ROLES } from '../roles/index.ts';
import { checkConfig, type Config } from '../shared/config.ts';
import { hostName, someOf } from '../shared/config-values.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { isCertificates, parseAnswer } from './join-answer.ts';

/** Where a machine of roles has the certificates of an authority. Its name says which server they are for. */
export const authorityFile = (name: string): string => `/etc/chamberlain/tls/${name}.pem`;
export const SECRETS_FOLDER = '/etc/chamberlain/secrets';

const roleSchema = z.strictObject({
  version: z.literal(1),
  kind: z.literal('role'),
  name: hostName,
  fingerprint: z.string(),
  roles: someOf(z.enum(MOVABLE_ROLES)),
  /** as the file on the new machine is to say */
  config: z.unknown(),
  authorities: z.record(
    z.string().check(z.regex(/^ca-[a-z0-9-]{1,40}$/)),
    z.string().check(z.refine(isCertificates, 'is no certificate in PEM')),
  ),
  /** exactly those of the roles, by their names */
  secrets: z.record(z.string(), z.string().check(z.minLength(1), z.maxLength(2000))),
});

/** The answer to a machine that is to run roles. */
export type RoleAnswer = Omit<z.infer<typeof roleSchema>, 'config'> & { config: Config };

/** Throws JOIN_INVALID without a part of the text, which may be a secret. */
export function parseRoleAnswer(text: string): RoleAnswer {
  const { config: value, ...rest } = parseAnswer(text, roleSchema);
  const config = checkConfig(value, 'reading the configuration in the join answer');
  const { authorities, secrets, roles } = rest;
  const files = [config.postgres, config.redis, config.ldap, ...config.databases.servers].flatMap(
    ({ caFile }) => caFile ?? [],
  );
  const wanted = roles.flatMap(secretsOfRole);
  const isWhole =
    config.secrets === SECRETS_FOLDER &&
    files.every((path) => Object.keys(authorities).map(authorityFile).includes(path)) &&
    String(Object.keys(secrets).toSorted()) === String(wanted.toSorted());
  if (isWhole) return { ...rest, config };
  throw new ChamberlainError(
    'JOIN_INVALID',
    'this is not a join answer: its secrets or authorities are not those of its roles and servers',
  );
}
