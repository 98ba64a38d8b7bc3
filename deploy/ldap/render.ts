/**
 * Fills in the templates of this folder from Chamberlain's config.
 *
 *     node deploy/ldap/render.ts --out FOLDER --admin-password-file FILE [--config FILE]
 *         [--database /var/lib/ldap] [--schema FOLDER] [--pid-file FILE]
 *
 * The default of --config is $CHAMBERLAIN_CONFIG, or /etc/chamberlain/config.yaml. The program writes
 * config.ldif, access.ldif, tree.ldif and accounts.ldif (mode 0600, because they contain password hashes; the
 * passwords are read from the config's folder of secrets). The top of config.ldif says how to load them.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { runProgram } from '../../src/cli/exit.ts';
import type { IdRange } from '../../src/shared/config-values.ts';
import { type Config, loadConfig, readSecret } from '../../src/shared/config.ts';
import { configPath } from '../../src/cli/command.ts';
import { cannotRead, ChamberlainError } from '../../src/shared/errors.ts';
import { idPattern } from '../../src/identity/id-pattern.ts';
import { ROOT } from '../../src/shared/root.ts';
import { saltedSha1 } from '../../src/secrets/secret.ts';

export { idPattern, type IdRange };

/** What the rules need to know of a deployment. */
export interface DirectoryRealm {
  readonly base: string;
  readonly realm: string;
  readonly peopleIds: readonly IdRange[];
  readonly toolIds: readonly IdRange[];
  readonly realmGid: number;
}

/** What the templates need to know of a deployment. */
export interface Directory extends DirectoryRealm {
  readonly databaseFolder: string;
  /** The path of deploy/ldap/schema on slapd's host; this clone's by default. */
  readonly schemaFolder?: string;
  readonly pidFile: string;
  readonly passwords: Readonly<Record<DirectoryAccount | 'admin', string>>;
}

export const DIRECTORY_ACCOUNTS = [
  'directory',
  'directory-reader',
  'keys-agent',
  'sssd',
  'reader',
  'mail-reader',
] as const;
export type DirectoryAccount = (typeof DIRECTORY_ACCOUNTS)[number];

export const TEMPLATES = ['config.ldif', 'access.ldif', 'tree.ldif', 'accounts.ldif'] as const;
export type Template = (typeof TEMPLATES)[number];

const FOLDER = join(ROOT, 'deploy/ldap');

/**
 * The attributes of a person that keys-agent, sssd and readers may all see. `entry` is the right to see that
 * the entry exists; the last line is how sssd and the agent follow changes.
 */
const NSS_ATTRIBUTES = [
  'entry',
  'objectClass',
  'uid',
  'cn',
  'uidNumber',
  'gidNumber',
  'gecos',
  'homeDirectory',
  'loginShell',
  'memberOf',
  'pwdAccountLockedTime',
  'pwdPolicySubentry',
  'entryCSN',
  'entryUUID',
  'modifyTimestamp',
].join(',');

/** Renders every template: the texts by file name. Each call salts the password hashes anew. */
export function renderDirectory(directory: Directory): Record<Template, string> {
  const values = { ...realmValues(directory), ...serverValues(directory) };
  return Object.fromEntries(
    TEMPLATES.map((name) => [name, fill(readTemplate(name), values)]),
  ) as Record<Template, string>;
}

/** Renders every template for a configuration, with the passwords in its folder of secrets. */
export function renderForConfig(
  config: Config,
  {
    adminPassword: admin,
    ...places
  }: Pick<Directory, 'databaseFolder' | 'schemaFolder' | 'pidFile'> & { adminPassword: string },
): Record<Template, string> {
  const passwords = Object.fromEntries(
    DIRECTORY_ACCOUNTS.map((account) => [account, readSecret(config, 'ldap', account)]),
  ) as Record<DirectoryAccount, string>;
  return renderDirectory({
    ...directoryRealm(config),
    ...places,
    passwords: { ...passwords, admin },
  });
}

/** The realm that a configuration describes. */
export function directoryRealm({
  realm,
  ldap,
  ids,
}: Pick<Config, 'realm' | 'ldap' | 'ids'>): DirectoryRealm {
  const { base } = ldap;
  return { base, realm, peopleIds: ids.people, toolIds: ids.tools, realmGid: ids.realmGid };
}

/** The rules of the server, in their order. */
export interface DirectoryRules {
  overlays: string[];
  unique: string[];
  constraints: string[];
  access: string[];
}

/**
 * The rules that the templates contain, for that realm. They contain no secret.
 *
 * @param isShared whether others have entries in the directory, too
 */
export function directoryRules(directory: DirectoryRealm, isShared = false): DirectoryRules {
  const values = realmValues(directory);
  const rulesOf = (name: Template, attribute: string): string[] =>
    [...readTemplate(name).matchAll(new RegExp(`^${attribute}: (?:\\{\\d+\\})?(.*)$`, 'gm'))].map(
      ([, rule = '']) => fill(rule, values),
    );
  const rules = {
    overlays: rulesOf('config.ldif', 'olcOverlay'),
    unique: rulesOf('config.ldif', 'olcUniqueURI'),
    constraints: rulesOf('config.ldif', 'olcConstraintAttribute'),
    access: rulesOf('access.ldif', 'olcAccess'),
  };
  return isShared ? besideOthers(rules, parseBase(directory.base), directory.realm) : rules;
}

/**
 * The same rules, so that they come before those of others and change nothing for them: what is not one of our
 * accounts continues with the next rule, and overlays look only at our own entries. Nobody else sees or writes these.
 * An account is ours if it has a seal, and a group by its name. What the role has made is ours, too, but an overlay
 * does not know yet who makes a new entry.
 */
function besideOthers(rules: DirectoryRules, base: string, realm: string): DirectoryRules {
  const accounts = `ou=chamberlain,${base}`;
  const sealed = '(objectClass=chamberlainSealed)';
  const admin = `by dn.exact="${adminDn(base, true)}" write`;
  const passOn = `by dn.subtree="${accounts}" none by * break`;
  const isOnlyOurs = (rule: string) =>
    /^to (?:dn\.base="cn=chamberlain,|attrs=chamberlainSeal )/u.test(rule);
  const onlyOurs = (rule: string) =>
    rule
      .replace('(objectClass=posixAccount)', sealed)
      .replace(/\(objectClass=posixGroup\)$/u, (filter) => `(&${filter}(cn=${realm}.*))`);
  return {
    ...{ overlays: rules.overlays, unique: rules.unique.map(onlyOurs) },
    constraints: rules.constraints.map(onlyOurs),
    access: [
      `to dn.subtree="${accounts}" attrs=userPassword,pwdHistory ${admin} by anonymous auth by * none`,
      `to dn.subtree="${accounts}" ${admin} by * none`,
      `to attrs=userPassword,pwdHistory ${passOn}`,
      ...rules.access
        .slice(2, -1)
        .map((rule) => (isOnlyOurs(rule) ? rule : rule.replace(/by \* none$/u, passOn))),
      `to dn.subtree="${base}" filter=(|(creatorsName=cn=directory,${accounts})${sealed}) by * none`,
      `to dn.base="cn=project-${realm},ou=groups,${base}" by * none`,
      `to * ${passOn}`,
    ],
  };
}

function readTemplate(name: Template): string {
  return readFileSync(join(FOLDER, name), 'utf8');
}

function fill(template: string, values: Readonly<Record<string, string>>): string {
  return template.replaceAll(/\{\{(\w+)\}\}/g, (_, key: string) => {
    const value = values[key];
    if (value === undefined) throw new Error(`a template uses an unknown value: ${key}`);
    return value;
  });
}

/**
 * The DN that changes the passwords of other accounts, and writes those of hosts; no worker binds as it. It may write
 * everything, except where others have entries: there, it is an account that may write only our accounts.
 */
export function adminDn(base: string, isShared = false): string {
  return isShared ? `cn=admin,ou=chamberlain,${base}` : `cn=admin,${base}`;
}

function realmValues(directory: DirectoryRealm): Record<string, string> {
  const { realm } = directory;
  const base = parseBase(directory.base);
  if (!/^[a-z][a-z0-9-]*$/.test(realm)) throw new Error(`not the name of a realm: ${realm}`);
  const [rdnType = '', rdnValue = ''] = (base.split(',')[0] ?? '').split('=');
  const sudoers = `ou=sudoers,cn=${realm},ou=projects,${base}`;
  return {
    base,
    basePattern: escapePattern(base),
    // the suffix is `dc=…` (a domain that is also an organisation) or `o=…`
    baseClass: rdnType === 'dc' ? 'dcObject\nobjectClass: organization' : 'organization',
    baseAttributes: rdnType === 'dc' ? `dc: ${rdnValue}\no: ${rdnValue}` : `o: ${rdnValue}`,
    realm,
    realmPattern: escapePattern(realm),
    realmGid: String(directory.realmGid),
    peopleIds: idPattern(directory.peopleIds),
    toolIds: idPattern(directory.toolIds),
    sudoers,
    sudoersPattern: escapePattern(sudoers),
    nssAttributes: NSS_ATTRIBUTES,
    adminDn: adminDn(base),
  };
}

function serverValues(directory: Directory): Record<string, string> {
  const { passwords } = directory;
  return {
    databaseFolder: directory.databaseFolder,
    pidFile: directory.pidFile,
    moduleFolder: '/usr/lib/ldap',
    systemSchemaFolder: '/etc/ldap/schema',
    schemaFolder: encodeURI(directory.schemaFolder ?? join(FOLDER, 'schema')),
    ...Object.fromEntries(
      Object.entries(passwords).map(([account, password]) => [
        `${account.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase())}PasswordHash`,
        hashPassword(password),
      ]),
    ),
  };
}

/** Only plain suffixes, so that no value can break out of an LDIF line, a URI or an ACL. */
function parseBase(base: string): string {
  const lower = base.toLowerCase();
  if (!/^(dc|o)=[a-z0-9-]+(,(dc|o|c)=[a-z0-9-]+)*$/.test(lower)) {
    throw new Error(`not a suffix of dc= and o= with plain values: ${base}`);
  }
  return lower;
}

function escapePattern(text: string): string {
  return text.replaceAll(/[.\\+*?()[\]{}|^$]/g, String.raw`\$&`);
}

function hashPassword(password: string): string {
  return saltedSha1(password, randomBytes(16));
}

function main(): void {
  const { values } = parseArgs({
    options: {
      config: { type: 'string' },
      out: { type: 'string' },
      'admin-password-file': { type: 'string' },
      database: { type: 'string', default: '/var/lib/ldap' },
      schema: { type: 'string' },
      'pid-file': { type: 'string', default: '/run/slapd/slapd.pid' },
    },
  });
  const adminPasswordFile = values['admin-password-file'];
  if (!values.out || !adminPasswordFile) {
    throw new ChamberlainError(
      'USAGE',
      '--out FOLDER and --admin-password-file FILE are required',
      {
        action: '',
      },
    );
  }
  const config = loadConfig(configPath(values.config));
  const texts = renderForConfig(config, {
    databaseFolder: values.database,
    ...(values.schema === undefined ? {} : { schemaFolder: values.schema }),
    pidFile: values['pid-file'],
    adminPassword: readPassword(adminPasswordFile),
  });
  const out = resolve(values.out);
  mkdirSync(out, { recursive: true, mode: 0o700 });
  for (const name of TEMPLATES) writeFileSync(join(out, name), texts[name], { mode: 0o600 });
}

function readPassword(path: string): string {
  try {
    return readFileSync(path, 'utf8').trimEnd();
  } catch (cause) {
    throw cannotRead('password', path, cause, 'USAGE');
  }
}

const USAGE = `Usage: node deploy/ldap/render.ts --out FOLDER --admin-password-file FILE [options]

Writes config.ldif, access.ldif, tree.ldif and accounts.ldif. The top of config.ldif says how slapd loads them.

  --out FOLDER                where to write them
  --admin-password-file FILE  the password of cn=admin, for config.ldif
  --config FILE               the configuration (default: $CHAMBERLAIN_CONFIG or /etc/chamberlain/config.yaml)
  --database FOLDER           where slapd keeps its data (default: /var/lib/ldap)
  --schema FOLDER             deploy/ldap/schema on the machine of slapd (default: that of this clone)
  --pid-file FILE             of slapd (default: /run/slapd/slapd.pid)
`;

/** Runs this program. */
export const run = (): void => runProgram(USAGE, main);

if (import.meta.main) run();
