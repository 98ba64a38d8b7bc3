/**
 * An LDAP directory that is there already. Setup compares it with deploy/ldap, shows what it lacks, and adds exactly
 * that when it runs again. What others have there is never changed or deleted.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parse } from 'yaml';
import {
  adminDn,
  DIRECTORY_ACCOUNTS,
  directoryRealm,
  directoryRules,
  renderDirectory,
} from '../../deploy/ldap/render.ts';
import { namesOf } from '../backends/ldap/directory-names.ts';
import {
  addTo,
  EXTERNAL_ROOT,
  type Login,
  readNumbered,
  readServerConfig,
  readText,
  type Values,
  withLogin,
} from '../backends/ldap/directory-login.ts';
import { type LdapConnection, resultCodeOf } from '../backends/ldap/ldap.ts';
import { CONFIG_FILE } from '../cli/command.ts';
import { lookAtAccount } from '../doctor/directory.ts';
import { checkConfig, type Config, readSecret } from '../shared/config.ts';
import { readIfThere, replaceFile } from '../shared/durable-file.ts';
import { ChamberlainError, describeRootCause } from '../shared/errors.ts';
import { ROOT } from '../shared/root.ts';
import type { Answers, DirectoryLogin, NamedDirectory } from './answers.ts';
import { renderConfig } from './config-text.ts';
import {
  type Addition,
  additionsTo,
  countAdditions,
  foldDn,
  parseLdif,
  showAddition,
  valuesOf,
  type WantedDirectory,
} from './directory-additions.ts';
import { readPassword } from './named.ts';
import { FOR_ADMINISTRATORS, readConfig } from './places.ts';
import { faultIn } from './programs.ts';
import type { Differs, Piece } from './setup.ts';

const SHOWN = `${FOR_ADMINISTRATORS}/directory.ldif`;
const SCHEMAS = ['rfc2307bis', 'openssh-lpk', 'sudo', 'chamberlain'];
const ACCOUNTS = [...DIRECTORY_ACCOUNTS, 'admin'] as const;

/** Of a directory that setup does not make, with the login of its administrator. */
type Named = NamedDirectory & { administrator: DirectoryLogin };

/**
 * Shows what would be added, before anything is made. If the directory has changed since, it shows that anew. None
 * without a login: then everything was added, or nothing can be.
 */
export function shownPieces({ ldap, ...answers }: Answers, path = SHOWN): Piece[] {
  if (ldap?.administrator === undefined) return [];
  const { administrator } = ldap;
  const plan = async () => {
    const config = existsSync(CONFIG_FILE)
      ? readConfig()
      : checkConfig(parse(renderConfig({ ldap, ...answers })), 'reading the answers');
    // nothing that is shown depends on a secret, and there may be none yet
    return await planAdditions(config, { ...ldap, administrator }, () => 'not made yet');
  };
  return [
    {
      name: `what setup adds to the directory at ${ldap.uri}`,
      does: `writes it into ${path}, and stops, so that you can read it; run setup again to have it added`,
      async check() {
        const additions = await plan().catch(differsBy);
        if (typeof additions === 'string') return additions;
        if (areShown(additions, readIfThere(path))) return undefined;
        return `was not shown yet: ${countAdditions(additions)}`;
      },
      async make() {
        const additions = await plan();
        mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
        const head = `# For the directory at ${ldap.uri}: ${countAdditions(additions)}.\n# Nothing that is there is changed or deleted.\n`;
        const texts = [head, ...additions.map(showAddition)];
        replaceFile(path, texts.join('\n'), { mode: 0o600 }, true);
        throw new ChamberlainError(
          'STEP_FAILED',
          `nothing was added yet: ${path} says what will be added`,
          { action: 'Read that file, and run setup again: it then adds what the file says.' },
        );
      },
    },
  ];
}

/** Adds what was shown. Without a login, it looks only whether our accounts can do what they must. */
export function addedPieces({ ldap }: Answers, needs: readonly Piece[]): Piece[] {
  if (ldap === undefined) return [];
  const { administrator } = ldap;
  return [
    {
      name: `what Chamberlain needs in the directory at ${ldap.uri}`,
      ...{ does: 'adds what was shown', needs },
      check: () => faultOfDirectory(readConfig(), ldap).catch(differsBy),
      async make() {
        if (administrator === undefined)
          throw new Error(
            'give the login of its olcRootDN as `administrator` of `ldap` in the answers',
          );
        const its = { ...ldap, administrator };
        await addShown(await planNow(readConfig(), its), its);
      },
    },
  ];
}

/** What can be said after the name of a piece. */
class Impossible extends Error {}

function differsBy(error: unknown): string {
  if (error instanceof Impossible) return error.message;
  return `cannot be looked at: ${describeRootCause(error)}`;
}

const planNow = (config: Config, ldap: Named) =>
  planAdditions(config, ldap, (account) => readSecret(config, 'ldap', account));

/** What it lacks, or what our accounts cannot do there. */
export async function faultOfDirectory(
  config: Config,
  { administrator, ...ldap }: NamedDirectory,
): Promise<Differs> {
  if (administrator !== undefined) {
    const additions = await planNow(config, { ...ldap, administrator });
    if (additions.length > 0) return `is not all there yet: ${countAdditions(additions)}`;
  }
  const lines = await Promise.all(DIRECTORY_ACCOUNTS.map((name) => lookAtAccount(config, name)));
  return faultIn(lines.flat());
}

/** Adds what the file shows, and nothing else; one operation after another, so that it can be interrupted. */
export async function addShown(
  additions: readonly Addition[],
  ldap: Named,
  shown = readIfThere(SHOWN),
): Promise<void> {
  if (!areShown(additions, shown))
    throw new Error('the directory has changed since its additions were shown: run setup again');
  const isConfig = ({ dn }: Addition): boolean => /,cn=config$/iu.test(dn);
  const logins = [
    { login: configLogin(ldap), its: additions.filter(isConfig) },
    { login: ldap.administrator, its: additions.filter((each) => !isConfig(each)) },
  ];
  for (const { login, its } of logins) {
    if (its.length === 0) continue;
    await withLogin(ldap, loginOf(login), async (connection) => {
      for (const addition of its) {
        await addTo(connection, addition).catch((cause: unknown) => {
          throw new Error(`adding to ${addition.dn}`, { cause });
        });
      }
    });
  }
}

/** Whether a text that was shown contains each of the additions. */
function areShown(additions: readonly Addition[], shown = ''): boolean {
  const has = new Set(shown.trimEnd().split('\n\n'));
  return additions.every((each) => has.has(showAddition(each).trimEnd()));
}

/** What the directory lacks. Throws if something would have to be changed instead. */
export async function planAdditions(
  config: Config,
  ldap: Named,
  passwordOf: (account: string) => string,
): Promise<readonly Addition[]> {
  const { administrator } = ldap;
  const wanted = wantedDirectory(config, passwordOf);
  const server = await withLogin(ldap, loginOf(configLogin(ldap)), readServerConfig).catch(
    (error: unknown) => {
      if (resultCodeOf(error) === undefined) throw error;
      return undefined;
    },
  );
  const isSeen = server?.config.some(({ attributes }) => valuesOf(attributes, 'olcSuffix')[0]);
  if (server === undefined || isSeen !== true || server.schema.length === 0) {
    throw new Impossible(
      'cannot be found out, because cn=config cannot be read: name a login that may read it, as `config` in `ldap`',
    );
  }
  const found = await withLogin(ldap, loginOf(administrator), async (connection) => ({
    entries: await readEntries(connection, wanted),
    numbered: await refuseNumbers(connection, config),
  }));
  const login = administrator === 'EXTERNAL' ? EXTERNAL_ROOT : administrator.user;
  const compared = additionsTo({ ...server, login, entries: found.entries }, wanted);
  const conflicts = [...compared.conflicts, ...found.numbered];
  if (conflicts.length > 0) throw new Impossible(`is not possible there: ${conflicts.join('; ')}`);
  return compared.additions;
}

const configLogin = ({ uri, administrator, config }: Named): DirectoryLogin =>
  config ?? (/^ldapi:/iu.test(uri) ? 'EXTERNAL' : administrator);

function loginOf(login: DirectoryLogin): Login {
  if (login === 'EXTERNAL') return login;
  return { bindDn: login.user, password: readPassword(login) };
}

/** Which of the wanted entries are there, by `foldDn`. */
async function readEntries(connection: LdapConnection, wanted: WantedDirectory) {
  const found = new Map<string, Values>();
  for (const { dn, attributes } of wanted.entries) {
    const names = [...new Set(attributes.map(([name]) => name))];
    const entry = await readText(connection, dn, names);
    if (entry !== undefined) found.set(foldDn(dn), entry);
  }
  return found;
}

/** Surveys look in these places for accounts and groups of others, whose numbers nobody gets. */
const PLACES = new Set<string>(['people', 'toolAccounts', 'toolGroups', 'groups']);

/** Until something of ours is there: numbers of the realm's ranges in other places, which somebody would get. */
async function refuseNumbers(connection: LdapConnection, config: Config): Promise<string[]> {
  const { base } = config.ldap;
  const names = namesOf(base, config.realm);
  const isThere = async (dn: string) => (await readText(connection, dn, ['ou'])) !== undefined;
  if (!(await isThere(base)) || (await isThere(`ou=chamberlain,${base}`))) return [];
  const ranges = [...config.ids.people, ...config.ids.tools];
  const elsewhere = (await readNumbered(connection, base)).filter(
    ({ dn, number }) =>
      ranges.some(({ first, last }) => number >= first && number <= last) &&
      !PLACES.has(names.placeOf(dn) ?? ''),
  );
  const [one] = elsewhere;
  if (one === undefined) return [];
  return [
    `numbers from the realm's ranges are in use elsewhere in the directory (${elsewhere.length}), such as ${one.number} of ${one.dn}: choose other ranges for \`ids\``,
  ];
}

function wantedDirectory(config: Config, passwordOf: (account: string) => string): WantedDirectory {
  const realm = directoryRealm(config);
  const { base } = realm;
  const passwords = Object.fromEntries(ACCOUNTS.map((name) => [name, passwordOf(name)]));
  const texts = renderDirectory({
    ...{ ...realm, databaseFolder: '/', pidFile: '/' },
    passwords: passwords as Record<(typeof ACCOUNTS)[number], string>,
  });
  const [alone, beside] = [directoryRules(realm), directoryRules(realm, true)];
  const instead = new Map([
    ...alone.unique.map((rule, at) => [rule, beside.unique[at] ?? ''] as const),
    ...alone.constraints.map((rule, at) => [rule, beside.constraints[at] ?? ''] as const),
  ]);
  const server = parseLdif(texts['config.ldif']);
  const all = (name: string) => server.flatMap(({ attributes }) => valuesOf(attributes, name));
  const unnumbered = (text: string) => text.replace(/^\{\d+\}/u, '');
  return {
    ...{ base, access: beside.access, modules: all('olcModuleLoad'), indexes: all('olcDbIndex') },
    limits: unnumbered(all('olcLimits').join()),
    schemas: SCHEMAS.flatMap((name) => parseLdif(readSchema(name))),
    overlays: server
      .filter(({ dn }) => dn.startsWith('olcOverlay='))
      .map(({ dn, attributes }) => ({
        dn,
        attributes: attributes.map(
          ([name, value]) => [name, instead.get(value) ?? unnumbered(value)] as const,
        ),
      })),
    entries: [
      ...parseLdif(texts['tree.ldif']),
      ...parseLdif(texts['accounts.ldif']),
      ...parseLdif(ownAdmin(base, all('olcRootPW').join())),
    ],
  };
}

/** The account that may write our accounts, instead of the root DN of a directory of our own. */
const ownAdmin = (base: string, hash: string): string => `dn: ${adminDn(base, true)}
objectClass: top
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: admin
userPassword: ${hash}
`;

/** With each number of its own in full, so that its parts can be added by themselves. */
function readSchema(name: string): string {
  const text = readFileSync(join(ROOT, 'deploy/ldap/schema', `${name}.ldif`), 'utf8');
  const [, macro, number] = /^olcObjectIdentifier: (\S+) (\S+)$/mu.exec(text) ?? [];
  return macro === undefined ? text : text.replaceAll(`( ${macro}:`, `( ${number}.`);
}
