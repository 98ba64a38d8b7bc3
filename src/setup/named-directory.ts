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
  type DirectoryRules,
  directoryRules,
  renderDirectory,
} from '../../deploy/ldap/render.ts';
import { namesOf } from '../backends/ldap/directory-names.ts';
import {
  addTo,
  EXTERNAL_ROOT,
  type Login,
  type Numbered,
  readNumbered,
  readServerConfig,
  readText,
  withLogin,
} from '../backends/ldap/directory-login.ts';
import { resultCodeOf } from '../backends/ldap/ldap.ts';
import { CONFIG_FILE } from '../cli/command.ts';
import { lookAtAccount } from '../doctor/directory.ts';
import { checkConfig, type Config, readSecret } from '../shared/config.ts';
import { readIfThere, replaceFile } from '../shared/durable-file.ts';
import { ROOT } from '../shared/root.ts';
import type { Answers, DirectoryLogin, NamedDirectory } from './answers.ts';
import { renderConfig } from './config-text.ts';
import {
  type Addition,
  additionsTo,
  countAdditions,
  foldDn,
  type FoundDirectory,
  parseLdif,
  renderAddition,
  showAddition,
  type Values,
  valuesOf,
  type WantedDirectory,
} from './directory-additions.ts';
import { ETC, readConfig } from './places.ts';
import { faultIn } from './programs.ts';
import type { Differs, Piece } from './setup.ts';

export const FOR_ADMINISTRATORS = `${ETC}/for-administrators`;
const FILE = 'directory.ldif';
const SCHEMAS = ['rfc2307bis', 'openssh-lpk', 'sudo', 'chamberlain'];
const ACCOUNTS = [...DIRECTORY_ACCOUNTS, 'admin'] as const;

interface Plan {
  additions: readonly Addition[];
  /** why nothing may be added */
  conflicts: readonly string[];
  /** what an operator should know */
  notes: readonly string[];
}

/**
 * Shows what would be added, before anything is made. If the directory has changed since, it shows that anew. None
 * without a login: then the file for the administrator shows it.
 */
export function shownPieces(
  { ldap, ...answers }: Answers,
  path = `${FOR_ADMINISTRATORS}/${FILE}`,
): Piece[] {
  if (ldap?.administrator === undefined) return [];
  // nothing that is shown depends on a secret, and there may be none yet
  const plan = () => {
    const config = existsSync(CONFIG_FILE)
      ? readConfig()
      : checkConfig(parse(renderConfig({ ldap, ...answers })), 'reading the answers');
    return planAdditions(config, ldap, () => 'not made yet');
  };
  return [
    {
      name: `what setup adds to the directory at ${ldap.uri}`,
      does: `writes it into ${path}, and stops, so that you can read it; run setup again to have it added`,
      async check() {
        const found = await plan();
        if (found.conflicts.length > 0) return describeConflicts(found);
        if (areShown(found, readIfThere(path))) return undefined;
        return `was not shown yet: ${[countAdditions(found.additions), ...found.notes].join('; ')}`;
      },
      async make() {
        const found = await plan();
        if (found.conflicts.length > 0) throw new Error(describeConflicts(found));
        mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
        replaceFile(path, renderPlan(found, ldap, showAddition), { mode: 0o600 }, true);
        throw new Error(`read ${path}, which says what will be added, then run setup again`);
      },
    },
  ];
}

const isConfig = ({ dn }: Addition): boolean => /(?:^|,)cn=config$/iu.test(dn);

/** The directory as two servers that setup has not made: mostly, cn=config and the entries need a login each. */
export const namedDirectory = (ldap: NamedDirectory) => [
  namedPart(ldap, 'cn=config', 'one who may write cn=config'),
  namedPart(ldap, 'entries', 'the olcRootDN'),
];

function namedPart(ldap: NamedDirectory, part: 'cn=config' | 'entries', who: string) {
  const planNow = async (config: Config): Promise<Plan> => {
    const accountsWork = (await faultOfAccounts(config)) === undefined;
    const passwordOf = (account: string) => readSecret(config, 'ldap', account);
    const plan = await planAdditions(config, ldap, passwordOf, accountsWork);
    const its = plan.additions.filter((each) => isConfig(each) === (part === 'cn=config'));
    return { ...plan, additions: its };
  };
  return {
    name: `${part} of the directory at ${ldap.uri}`,
    async check(config: Config): Promise<Differs> {
      const plan = await planNow(config);
      if (plan.conflicts.length > 0) return describeConflicts(plan);
      if (plan.additions.length > 0) return `lacks ${countAdditions(plan.additions)}`;
      return part === 'entries' ? faultOfAccounts(config) : undefined;
    },
    file: `directory-${part.replace('cn=', '')}.ldif`,
    async contents(config: Config): Promise<string> {
      const plan = await planNow(config);
      if (plan.conflicts.length > 0) throw new Error(describeConflicts(plan));
      return renderPlan(plan, ldap, renderAddition);
    },
    how: `read it, leave out what that server has already, and run it there as ${who}, with \`ldapmodify -f\``,
    ...(ldap.administrator === undefined
      ? {}
      : { run: async () => addShown(await planNow(readConfig()), ldap) }),
  };
}

/** Adds what the file shows, and nothing else; one operation after another, so that it can be interrupted. */
export async function addShown(
  { additions, conflicts }: Plan,
  ldap: NamedDirectory,
  shown = readIfThere(`${FOR_ADMINISTRATORS}/${FILE}`),
): Promise<void> {
  if (conflicts.length > 0) throw new Error(describeConflicts({ conflicts }));
  if (!areShown({ additions }, shown)) {
    throw new Error('the directory has changed since its additions were shown: run setup again');
  }
  const addAll = async (its: readonly Addition[], login: DirectoryLogin | undefined) => {
    if (its.length === 0) return;
    await withLogin(ldap, loginOf(login), async (connection) => {
      for (const addition of its) {
        await addTo(connection, addition).catch((cause: unknown) => {
          throw new Error(`adding to ${addition.dn}`, { cause });
        });
      }
    });
  };
  await addAll(additions.filter(isConfig), configLogin(ldap));
  await addAll(
    additions.filter((each) => !isConfig(each)),
    ldap.administrator,
  );
}

/** Whether a text that was shown contains each of the additions. */
function areShown({ additions }: Pick<Plan, 'additions'>, shown = ''): boolean {
  const has = new Set(shown.trimEnd().split('\n\n'));
  return additions.every((each) => has.has(showAddition(each).trimEnd()));
}

function renderPlan(
  { additions, notes }: Plan,
  { uri }: NamedDirectory,
  render: (addition: Addition) => string,
): string {
  const head = [
    `What the directory at ${uri} gets in addition: ${countAdditions(additions)}.`,
    'Nothing that is there is changed or deleted.',
    ...notes,
  ];
  return `${head.map((line) => `# ${line}\n`).join('')}\n${additions.map(render).join('\n')}\n`;
}

const describeConflicts = ({ conflicts }: Pick<Plan, 'conflicts'>): string =>
  `cannot be added to: ${conflicts.join('; ')}`;

async function faultOfAccounts(config: Config): Promise<Differs> {
  const lines = await Promise.all(DIRECTORY_ACCOUNTS.map((name) => lookAtAccount(config, name)));
  return faultIn(lines.flat());
}

/**
 * What the directory lacks.
 *
 * @param accountsWork whether our accounts are known to see and write what they must: without a login of the
 *   administrator, nobody else can see them
 */
export async function planAdditions(
  config: Config,
  ldap: NamedDirectory,
  passwordOf: (account: string) => string,
  accountsWork = false,
): Promise<Plan> {
  const wanted = wantedDirectory(config, passwordOf);
  const conflicts: string[] = [];
  const server = await readServer(ldap);
  const login = ldap.administrator;
  if (server === undefined && login !== undefined) {
    conflicts.push('cn=config cannot be read: name a login that may, as `config` in `ldap`');
  }
  if (server === undefined && accountsWork) return { additions: [], conflicts, notes: [] };
  const byDn = (entries: readonly Values[]) =>
    new Map(entries.map((entry) => [foldDn(entry.dn), entry]));
  const data =
    accountsWork && login === undefined
      ? { entries: wanted.entries, numbered: [] }
      : await readData(ldap, wanted);
  const found: FoundDirectory = {
    ...(server ?? unknownServer(wanted)),
    entries: byDn(data.entries),
  };
  if (server !== undefined && login !== undefined) {
    conflicts.push(...refuseLogin(found, login, wanted.base));
  }
  const compared = additionsTo(found, wanted);
  const isNew = !found.entries.has(foldDn(`ou=chamberlain,${wanted.base}`));
  const numbers = lookAtNumbers(config, data.numbered, isNew);
  return {
    additions: compared.additions,
    conflicts: [...conflicts, ...compared.conflicts, ...numbers.conflicts],
    notes: [...numbers.notes, ...(addsContentRule(compared.additions) ? [CONTENT_NOTE] : [])],
  };
}

const addsContentRule = (additions: readonly Addition[]): boolean =>
  additions.some(({ attributes }) => valuesOf(attributes, 'olcAddContentAcl').length > 0);
const CONTENT_NOTE =
  'from then on, whoever adds an entry there needs the right to write each of its attributes (olcAddContentAcl)';

const configLogin = ({ uri, administrator, config }: NamedDirectory): DirectoryLogin | undefined =>
  config ?? (/^ldapi:/iu.test(uri) ? 'EXTERNAL' : administrator);

function loginOf(login: DirectoryLogin | undefined): Login {
  if (login === undefined || login === 'EXTERNAL') return 'EXTERNAL';
  const password = readFileSync(login.passwordFile, 'utf8').replace(/\r?\n$/u, '');
  return { bindDn: login.user, password };
}

/** Undefined if nobody may read it with what setup has. */
async function readServer(
  ldap: NamedDirectory,
): Promise<Omit<FoundDirectory, 'entries'> | undefined> {
  const login = configLogin(ldap);
  if (login === undefined) return undefined;
  const found = await withLogin(ldap, loginOf(login), readServerConfig).catch((error: unknown) => {
    if (resultCodeOf(error) === undefined) throw error;
    return undefined;
  });
  const isSeen = found?.config.some(
    ({ attributes }) => valuesOf(attributes, 'olcSuffix').length > 0,
  );
  return isSeen === true && found?.schema.length !== 0 ? found : undefined;
}

/** What every server has: its administrator leaves out of the file what theirs has besides. */
const unknownServer = ({ base }: WantedDirectory): Omit<FoundDirectory, 'entries'> => ({
  schema: [],
  config: [
    { dn: 'cn=module{0},cn=config', attributes: [['olcModuleLoad', 'back_mdb']] },
    {
      dn: 'olcDatabase={1}mdb,cn=config',
      attributes: [
        ...[['objectClass', 'olcMdbConfig'] as const, ['olcSuffix', base] as const],
        ...[['olcAccess', '{0}to * by * read'] as const],
      ],
    },
  ],
});

/** Without the administrator's login, what others see: that the base is there is then taken for granted. */
async function readData(ldap: NamedDirectory, wanted: WantedDirectory) {
  const base = wanted.entries.slice(0, 1);
  const login = ldap.administrator ?? configLogin(ldap);
  if (login === undefined) return { entries: base, numbered: [] };
  return withLogin(ldap, loginOf(login), async (connection) => {
    const entries = ldap.administrator === undefined ? [...base] : [];
    for (const { dn, attributes } of wanted.entries) {
      const names = [...new Set(attributes.map(([name]) => name))];
      const found = await readText(connection, dn, names);
      if (found !== undefined) entries.push(found);
    }
    const hasBase = entries.some(({ dn }) => foldDn(dn) === foldDn(wanted.base));
    return { entries, numbered: hasBase ? await readNumbered(connection, wanted.base) : [] };
  });
}

/** Only the root DN of a database sees our accounts through the access rules, and may add all that is missing. */
function refuseLogin({ config }: FoundDirectory, login: DirectoryLogin, base: string): string[] {
  const dn = login === 'EXTERNAL' ? EXTERNAL_ROOT : login.user;
  const database = config.find(({ attributes }) =>
    valuesOf(attributes, 'olcSuffix').some((suffix) => foldDn(suffix) === foldDn(base)),
  );
  const [root] = valuesOf(database?.attributes ?? [], 'olcRootDN');
  if (database === undefined || (root !== undefined && foldDn(root) === foldDn(dn))) return [];
  return [
    `only the olcRootDN of ${base} may add everything: it is ${root ?? 'not set'}, and not ${dn}`,
  ];
}

/** Numbers of others in the realm's ranges: where Chamberlain looks, nobody gets them; elsewhere, somebody would. */
function lookAtNumbers(
  config: Config,
  numbered: readonly Numbered[],
  isNew: boolean,
): Pick<Plan, 'conflicts' | 'notes'> {
  const { base } = config.ldap;
  const names = namesOf(base, config.realm);
  const ranges = [...config.ids.people, ...config.ids.tools];
  const theirs = numbered.filter(
    ({ number, creator, isSealed }) =>
      ranges.some(({ first, last }) => number >= first && number <= last) &&
      !isSealed &&
      foldDn(creator) !== foldDn(names.account('directory')),
  );
  const isLookedAt = ({ dn }: Numbered) => PLACES.has(names.placeOf(dn) ?? '');
  const elsewhere = isNew ? theirs.filter((each) => !isLookedAt(each)) : [];
  const here = theirs.filter(isLookedAt).length;
  return {
    conflicts: elsewhere
      .slice(0, 1)
      .map(
        ({ dn, number }) =>
          `${elsewhere.length} accounts or groups in places of others have numbers of the realm's ranges, such as ${dn} (${number}): name other \`ids\``,
      ),
    notes:
      here === 0
        ? []
        : [
            `accounts and groups of others with numbers of the realm's ranges, which nobody gets: ${here}`,
          ],
  };
}

/** Where surveys look for accounts and groups of others. */
const PLACES = new Set<string>(['people', 'toolAccounts', 'toolGroups', 'groups']);

function wantedDirectory(config: Config, passwordOf: (account: string) => string): WantedDirectory {
  const realm = directoryRealm(config);
  const { base } = realm;
  const texts = renderDirectory({
    ...{ ...realm, databaseFolder: '/', pidFile: '/' },
    passwords: Object.fromEntries(ACCOUNTS.map((name) => [name, passwordOf(name)])) as Record<
      (typeof ACCOUNTS)[number],
      string
    >,
  });
  const rules = directoryRules(realm, true);
  const server = parseLdif(texts['config.ldif']);
  const all = (name: string) => server.flatMap(({ attributes }) => valuesOf(attributes, name));
  const accounts = parseLdif(texts['accounts.ldif']);
  return {
    ...{ base, access: rules.access, modulePath: all('olcModulePath').join() },
    schemas: SCHEMAS.flatMap((name) => parseLdif(readSchema(name))),
    modules: all('olcModuleLoad'),
    indexes: all('olcDbIndex'),
    limits: all('olcLimits')
      .join()
      .replace(/^\{\d+\}/u, ''),
    overlays: server
      .filter(({ dn }) => dn.startsWith('olcOverlay='))
      .map(({ dn, attributes }) => ({ dn, attributes: withRules(attributes, rules) })),
    entries: [
      ...parseLdif(texts['tree.ldif']),
      ...accounts,
      adminEntry(base, texts['config.ldif']),
    ],
  };
}

/** The attributes of an overlay, with the rules of a directory that others use, too. */
function withRules(
  attributes: Values['attributes'],
  { unique, constraints }: DirectoryRules,
): Values['attributes'] {
  const rules: Record<string, readonly string[]> = {
    olcUniqueURI: unique,
    olcConstraintAttribute: constraints,
  };
  const names = new Set(attributes.map(([name]) => name));
  return [...names].flatMap((name) =>
    (rules[name] ?? valuesOf(attributes, name)).map(
      (value) => [name, name === 'olcOverlay' ? value.replace(/^\{\d+\}/u, '') : value] as const,
    ),
  );
}

/** The account that may write our accounts, instead of the root DN of a directory of our own. */
const adminEntry = (base: string, config: string): Values => ({
  dn: adminDn(base, true),
  attributes: [
    ...['top', 'applicationProcess', 'simpleSecurityObject'].map(
      (name) => ['objectClass', name] as const,
    ),
    ['cn', 'admin'],
    ['userPassword', /^olcRootPW: (.*)$/mu.exec(config)?.[1] ?? ''],
  ],
});

/** With each number of its own in full, so that its parts can be added by themselves. */
function readSchema(name: string): string {
  const text = readFileSync(join(ROOT, 'deploy/ldap/schema', `${name}.ldif`), 'utf8');
  const [, macro, number] = /^olcObjectIdentifier: (\S+) (\S+)$/mu.exec(text) ?? [];
  return macro === undefined ? text : text.replaceAll(`( ${macro}:`, `( ${number}.`);
}
