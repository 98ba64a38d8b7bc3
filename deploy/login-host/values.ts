/**
 * The values that the installation of a login host receives: its configuration, the password, the CA, the keys
 * of seals.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { parse, stringify } from 'yaml';
import {
  LOGIN_HOST_CONFIG,
  loadLoginHostConfig,
  type LoginHostConfig,
} from '../../src/login-host/config.ts';
import { printable } from '../../src/shared/printable.ts';

/** Command-line options that describe the host. */
export interface GivenValues {
  readonly ldapUris: readonly string[] | undefined;
  readonly base: string | undefined;
  readonly caFile: string | undefined;
  readonly agentPasswordFile: string | undefined;
  readonly sealKeyFiles: readonly string[] | undefined;
  /** A login-host.yaml to begin with; the installed one by default. */
  readonly configFile: string | undefined;
}

/** What the answer to a join request says of this host. */
export interface JoinedValues {
  readonly config: Readonly<Record<string, unknown>>;
  readonly password: string;
  readonly ca: string | undefined;
}

export interface Values {
  readonly config: LoginHostConfig;
  /** The text of login-host.yaml: the present text if it says the same, so that comments stay. */
  readonly configText: string;
  readonly agentPassword: string;
  /** The certificates, if `--ca` names them; they are then kept in CA_FILE. */
  readonly ca?: Buffer;
}

export const CA_FILE = '/etc/chamberlain/ldap-ca.pem';

const HEADER =
  '# The configuration of this login host. After a change, run `chamberlain-login-host` (from a clone: deploy/login-host/install).\n';

/** As in Chamberlain's own example: a realm with other numbers needs a file. */
const DEFAULTS = {
  realm: 'tools',
  realmGid: 500,
  ids: {
    people: [
      { first: 1000, last: 49_999 },
      { first: 100_000, last: 499_999 },
    ],
    tools: [{ first: 50_000, last: 59_999 }],
  },
  homes: { people: '/home', tools: '/data/project' },
  offlineLimitSeconds: 86_400,
  knownBadKeys: [],
};

/**
 * Combines the given values, the installed ones and the defaults. Throws an error that says what is missing or
 * wrong.
 */
export function readValues(given: GivenValues): Values {
  const installed = existsSync(LOGIN_HOST_CONFIG) ? LOGIN_HOST_CONFIG : undefined;
  const from = given.configFile ?? installed;
  const present = from === undefined ? undefined : readFileSync(from, 'utf8');
  const begun = readMapping(from);
  const before = readMapping(installed);
  const document = {
    ...DEFAULTS,
    ...begun,
    // if another file gives the rest, the installed servers and keys still count
    ldap: {
      ...asMapping(before['ldap'] ?? {}, installed),
      ...asMapping(begun['ldap'] ?? {}, from),
      // the option names the password of the account that hosts share
      ...(given.agentPasswordFile === undefined ? {} : { hostAccount: undefined }),
      ...(given.ldapUris === undefined ? {} : { uris: given.ldapUris }),
      ...(given.base === undefined ? {} : { base: given.base }),
      ...(given.caFile === undefined ? {} : { caFile: CA_FILE }),
    },
    sealKeys: given.sealKeyFiles?.map(readSealKey) ?? begun['sealKeys'] ?? before['sealKeys'],
  };
  for (const [option, value] of [
    ['--ldap-uri', document.ldap['uris']],
    ['--base', document.ldap['base']],
    ['--seal-key', document.sealKeys],
  ] as const) {
    if (value === undefined) throw new Error(`${option} is missing`);
  }
  const config = checkDocument(document);
  return {
    config,
    configText: textOf(document, present),
    agentPassword: readPassword(given.agentPasswordFile, config.ldap.passwordFile),
    ...(given.caFile === undefined ? {} : { ca: readCertificates(given.caFile) }),
  };
}

/** Combines what the realm has answered with the installed values that it does not name, and the defaults. */
export function joinedValues({ config: answered, password, ca }: JoinedValues): Values {
  const installed = existsSync(LOGIN_HOST_CONFIG) ? LOGIN_HOST_CONFIG : undefined;
  const present = installed === undefined ? undefined : readFileSync(installed, 'utf8');
  const document = { ...DEFAULTS, ...readMapping(installed), ...answered };
  return {
    config: checkDocument(document),
    configText: textOf(document, present),
    agentPassword: password,
    ...(ca === undefined ? {} : { ca: Buffer.from(ca) }),
  };
}

function checkDocument(document: unknown): LoginHostConfig {
  const config = checkConfig(document);
  checkNumbers(config);
  const { base } = config.ldap;
  if (/^\w+=[\w. -]+(,\w+=[\w. -]+)*$/.test(base)) return config;
  throw new Error(
    `the base must consist of plain names, such as dc=example,dc=org: ${printable(base)}`,
  );
}

/** The text of login-host.yaml. */
function textOf(document: unknown, present: string | undefined): string {
  const plain: unknown = JSON.parse(JSON.stringify(document)); // without what is undefined
  const isAsItStands = present !== undefined && isDeepStrictEqual(plain, parse(present) as unknown);
  return isAsItStands ? present : HEADER + stringify(plain);
}

function readMapping(file: string | undefined): Record<string, unknown> {
  return file === undefined ? {} : asMapping(parse(readFileSync(file, 'utf8')), file);
}

function asMapping(value: unknown, file = 'the configuration'): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new Error(`${file} is not a login-host.yaml`);
}

/** Uses the only reader, which reads files. */
function checkConfig(document: unknown): LoginHostConfig {
  const folder = mkdtempSync(join(tmpdir(), 'chamberlain-install-'));
  try {
    const file = join(folder, 'login-host.yaml');
    writeFileSync(file, stringify(document));
    return loadLoginHostConfig(file);
  } catch (cause) {
    const text = (cause as Error).message.replace(
      /^reading the configuration [^:]*/,
      'the configuration',
    );
    throw new Error(text, { cause });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** One line of printable ASCII, which needs no quotes in any of the files that it is written to. */
function readPassword(given: string | undefined, kept: string): string {
  const file = given ?? kept;
  let password: string;
  try {
    password = readFileSync(file, 'utf8').replace(/\n$/, '');
  } catch (cause) {
    const missing = given === undefined ? '--agent-password-file is missing, and ' : '';
    throw new Error(`${missing}${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  if (/^[!-~]+$/.test(password)) return password;
  throw new Error(`${file} must contain a password: one line of letters, digits and signs`);
}

/** libnss-extrausers ignores lower numbers. */
const LOWEST = 500;

function checkNumbers({ realmGid, ids }: LoginHostConfig): void {
  const lowest = Math.min(realmGid, ...[...ids.people, ...ids.tools].map(({ first }) => first));
  if (lowest >= LOWEST) return;
  throw new Error(`realmGid and ids must be ${LOWEST} or higher on a login host: ${lowest}`);
}

function readSealKey(file: string): string {
  const text = readFileSync(file, 'utf8');
  if (/^\s*-----BEGIN PUBLIC KEY-----/.test(text)) return text;
  if (text.includes('PRIVATE KEY')) {
    throw new Error(
      `${file} contains a private key, which must not be on a login host: remove it, and give the public key`,
    );
  }
  throw new Error(`${file} contains no public key (PEM)`);
}

function readCertificates(file: string): Buffer {
  const certificates = readFileSync(file);
  if (certificates.includes('-----BEGIN CERTIFICATE-----')) return certificates;
  throw new Error(`${file} contains no certificate (PEM)`);
}
