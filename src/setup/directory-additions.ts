/**
 * What a directory that is there already lacks of deploy/ldap, by comparison. Pure. It only ever adds: whatever would
 * have to be changed or deleted is a conflict, in words for people.
 */
import { plainRule } from '../doctor/access-rules.ts';

/** An entry, or a part of one: attributes with their values, in order. */
export interface Values {
  dn: string;
  attributes: readonly (readonly [name: string, value: string])[];
}

export interface FoundDirectory {
  /** of cn=config: modules, databases and overlays */
  config: readonly Values[];
  /** the definitions of all attribute types and object classes */
  schema: readonly string[];
  /** what is there of the entries that are wanted, by `foldDn` */
  entries: ReadonlyMap<string, Values>;
}

export interface WantedDirectory {
  base: string;
  schemas: readonly Values[];
  modules: readonly string[];
  modulePath: string;
  indexes: readonly string[];
  limits: string;
  access: readonly string[];
  overlays: readonly Values[];
  /** the tree and the accounts, parents first; the first is the base */
  entries: readonly Values[];
}

/** One operation: a new entry, or values that an entry gets in addition. */
export interface Addition extends Values {
  kind: 'schema' | 'module' | 'rules' | 'overlay' | 'entry';
  isNew: boolean;
}

export interface Additions {
  additions: readonly Addition[];
  conflicts: readonly string[];
}

const NAMES = /\bNAME\s+(?:'([^']+)'|\(\s*([^)]*)\))/u;

export function additionsTo(found: FoundDirectory, wanted: WantedDirectory): Additions {
  const conflicts: string[] = [];
  const say = (text: string) => void conflicts.push(text);
  const { base } = wanted;
  const databases = found.config.filter(({ attributes }) => valuesOf(attributes, 'olcSuffix')[0]);
  const database = databases.find(({ attributes }) =>
    valuesOf(attributes, 'olcSuffix').some((suffix) => foldDn(suffix) === foldDn(base)),
  );
  if (database === undefined) {
    const suffixes = databases.flatMap(({ attributes }) => valuesOf(attributes, 'olcSuffix'));
    return {
      additions: [],
      conflicts: [
        `no database there has the suffix ${base}; the suffixes are: ${suffixes.join('; ') || 'none'}`,
      ],
    };
  }
  const additions = [
    ...schemasTo(found, wanted, say),
    ...modulesTo(found, wanted),
    ...rulesTo(database, wanted, say),
    ...overlaysTo(found, wanted, database.dn, say),
    ...entriesTo(found, wanted, say),
  ];
  return { additions, conflicts };
}

type Say = (conflict: string) => void;

const ALIKE = ['EQUALITY', 'SYNTAX'] as const;
const NIS = `posixGroup is structural there (the schema nis), but the groups of tools are groupOfNames as well, which only the schema rfc2307bis allows; see "An LDAP directory" in docs/install.md`;

/** Definitions that are there under another schema's name count. */
function schemasTo(found: FoundDirectory, wanted: WantedDirectory, say: Say): Addition[] {
  const known = new Map(found.schema.flatMap((text) => namesOf(text).map((name) => [name, text])));
  const taken = new Set(
    found.config.map(({ dn }) => /^cn=(?:\{\d+\})?([^,]+),cn=schema,/iu.exec(dn)?.[1]),
  );
  const isNis = /\bposixGroup\b(?!.*\bAUXILIARY\b)/su.test(known.get('posixgroup') ?? '');
  if (isNis) {
    say(NIS);
    return [];
  }
  return wanted.schemas.flatMap(({ dn, attributes }) => {
    const missing = attributes.filter(([name, text]) => {
      if (!/^olc(?:AttributeTypes|ObjectClasses)$/u.test(name)) return false;
      const [first = ''] = namesOf(text);
      const has = known.get(first);
      const differs = has === undefined ? undefined : definitionDiffers(text, has);
      if (differs !== undefined) say(`${first} is defined otherwise there: ${differs}`);
      return has === undefined;
    });
    if (missing.length === 0) return [];
    const [, cn = ''] = /^cn=([^,]+),/u.exec(dn) ?? [];
    const free = taken.has(cn) ? `chamberlain-${cn}` : cn;
    return [
      {
        ...({ kind: 'schema', isNew: true, dn: `cn=${free},cn=schema,cn=config` } as const),
        attributes: [['objectClass', 'olcSchemaConfig'], ['cn', free], ...missing] as const,
      },
    ];
  });
}

function namesOf(definition: string): string[] {
  const [, one, several = ''] = NAMES.exec(definition) ?? [];
  return (one === undefined ? (several.match(/[\w.-]+/gu) ?? []) : [one]).map((name) =>
    name.toLowerCase(),
  );
}

/** How it differs in what matters: what is compared how, what must be there, and whether it may be written. */
function definitionDiffers(wanted: string, has: string): string | undefined {
  const word = (text: string, key: string) =>
    new RegExp(String.raw`\b${key}\s+'?([\w.-]+)`, 'u').exec(text)?.[1]?.toLowerCase();
  const other = ALIKE.find(
    (key) => word(has, key) !== word(wanted, key) && / SUP /u.test(has) === / SUP /u.test(wanted),
  );
  if (other !== undefined) return `${other} ${word(has, other) ?? 'is missing'}`;
  if (/\bNO-USER-MODIFICATION\b/u.test(has))
    return 'the server writes it itself, as the overlay memberof or dynlist does';
  const required = (text: string) =>
    (/\bMUST\s+(?:\(([^)]*)\)|([\w.-]+))/u.exec(text)?.slice(1).join('') ?? '')
      .toLowerCase()
      .match(/[\w.-]+/gu)
      ?.toSorted()
      .join(' ') ?? '';
  if (required(has) !== required(wanted)) return `MUST ${required(has)}`;
  return undefined;
}

function modulesTo({ config }: FoundDirectory, wanted: WantedDirectory): Addition[] {
  const loaded = config.flatMap(({ attributes }) =>
    valuesOf(attributes, 'olcModuleLoad').map(plainModule),
  );
  const missing = wanted.modules.filter((name) => !loaded.includes(name));
  if (missing.length === 0) return [];
  const load = missing.map((name) => ['olcModuleLoad', name] as const);
  const list = config.find(({ dn }) => /^cn=module(?:\{\d+\})?,cn=config$/iu.test(dn));
  if (list !== undefined) return [{ kind: 'module', isNew: false, dn: list.dn, attributes: load }];
  const entry = [
    ['objectClass', 'olcModuleList'],
    ['cn', 'module'],
    ['olcModulePath', wanted.modulePath],
  ] as const;
  return [
    { kind: 'module', isNew: true, dn: 'cn=module,cn=config', attributes: [...entry, ...load] },
  ];
}

/** `{1}/usr/lib/ldap/back_mdb.la` is back_mdb. */
const plainModule = (text: string): string =>
  text
    .replace(/^\{\d+\}/u, '')
    .replace(/^.*\//u, '')
    .replace(/\.(?:la|so)$/u, '');

/** The access rules, the limits and the indexes of the database: one operation. */
function rulesTo({ dn, attributes }: Values, wanted: WantedDirectory, say: Say): Addition[] {
  const its = (name: string) => valuesOf(attributes, name);
  if (!its('objectClass').some((name) => /^olcMdbConfig$/iu.test(name)))
    say(`${dn} is no database of the kind mdb`);
  if (its('olcSyncrepl').length > 0 && its('olcMultiProvider').join() !== 'TRUE')
    say(`${dn} is a copy (olcSyncrepl): name the server that it copies`);
  if (its('olcReadOnly').join() === 'TRUE') say(`${dn} is read-only`);
  if (its('olcAddContentAcl').join() === 'FALSE')
    say(`${dn} has \`olcAddContentAcl: FALSE\`, but new entries must be checked, too`);
  if (its('olcAccess').length === 0)
    say(
      `${dn} has no access rules, and any rule would end what everybody may read: first write down what holds now, such as \`olcAccess: to * by * read\``,
    );
  const values = [
    ...accessTo(its('olcAccess'), wanted, dn, say),
    ...(its('olcLimits').some((each) => plainRule(each) === plainRule(wanted.limits))
      ? []
      : [['olcLimits', `{0}${wanted.limits}`] as const]),
    ...(its('olcAddContentAcl').length > 0 ? [] : [['olcAddContentAcl', 'TRUE'] as const]),
    ...indexesTo(its('olcDbIndex'), wanted.indexes, say),
  ];
  return values.length === 0 ? [] : [{ kind: 'rules', isNew: false, dn, attributes: values }];
}

/** Ours come first, or after the last of ours that is there: each value is inserted where its number says. */
function accessTo(
  has: readonly string[],
  { access, base }: WantedDirectory,
  dn: string,
  say: Say,
): [string, string][] {
  const ours = new Set(access.map(plainRule));
  const old = has.find(
    (rule) => rule.toLowerCase().includes(`ou=chamberlain,${base}`) && !ours.has(plainRule(rule)),
  );
  if (old !== undefined)
    say(
      `${dn} has a rule about our accounts that is not ours, or of another version: remove \`olcAccess: ${old}\``,
    );
  const there = has.map(plainRule);
  let at = 0;
  return access.flatMap((rule): [string, string][] => {
    const found = there.indexOf(plainRule(rule));
    if (found < 0) there.splice(at, 0, plainRule(rule));
    const value = `{${at}}${rule}`;
    at = found < 0 ? at + 1 : found + 1;
    return found < 0 ? [['olcAccess', value]] : [];
  });
}

function indexesTo(
  has: readonly string[],
  wanted: readonly string[],
  say: Say,
): [string, string][] {
  const kinds = new Map<string, string[]>();
  for (const each of has) {
    const [names = '', kind = ''] = each.split(/\s+/u);
    for (const name of names.split(',')) kinds.set(name.toLowerCase(), kind.split(','));
  }
  return wanted.flatMap((each): [string, string][] => {
    const [names = '', kind = ''] = each.split(/\s+/u);
    const missing = names.split(',').filter((name) => {
      const its = kinds.get(name.toLowerCase());
      if (its !== undefined && !its.includes(kind))
        say(`the index of ${name} there lacks \`${kind}\`: add it`);
      return its === undefined;
    });
    return missing.length === 0 ? [] : [['olcDbIndex', `${missing.join(',')} ${kind}`]];
  });
}

const RULES = /^olc(?:UniqueURI|ConstraintAttribute)$/u;

/** A database has an overlay at most once: if others have it, it gets our rules in addition. */
function overlaysTo(
  { config }: FoundDirectory,
  wanted: WantedDirectory,
  database: string,
  say: Say,
): Addition[] {
  const own = config.filter(({ dn }) => foldDn(dn).endsWith(`,${foldDn(database)}`));
  return wanted.overlays.flatMap(({ attributes }): Addition[] => {
    const [name = ''] = valuesOf(attributes, 'olcOverlay');
    const found = own.find((entry) =>
      valuesOf(entry.attributes, 'olcOverlay').map(plainModule).includes(name),
    );
    if (found === undefined) {
      const dn = `olcOverlay=${name},${database}`;
      return [{ kind: 'overlay', isNew: true, dn, attributes }];
    }
    const rules = attributes.filter(([key]) => RULES.test(key));
    const has = found.attributes.filter(([key]) => RULES.test(key)).map(([, rule]) => rule);
    const ours = new Set(rules.map(([, rule]) => plainRule(rule)));
    const subjects = new Set(rules.map(([, rule]) => subjectOf(rule)));
    const old = has.find((rule) => !ours.has(plainRule(rule)) && subjects.has(subjectOf(rule)));
    if (old !== undefined) {
      say(`${found.dn} has a rule about our entries of another version: remove \`${old}\``);
    }
    const there = has.map(plainRule);
    const missing = rules.filter(([, rule]) => !there.includes(plainRule(rule)));
    if (missing.length === 0) return [];
    if (missing.length < rules.length || valuesOf(found.attributes, 'olcUniqueBase').length === 0) {
      return [{ kind: 'overlay', isNew: false, dn: found.dn, attributes: missing }];
    }
    say(
      `${found.dn} has olcUniqueBase, which cannot be combined with olcUniqueURI: write its rules as olcUniqueURI`,
    );
    return [];
  });
}

/** The attributes and the entries that a rule of an overlay is about. */
function subjectOf(rule: string): string {
  const [, names = '', restrict = ''] = /^(\S+) .*?( restrict=.*)$/u.exec(plainRule(rule)) ?? [];
  return names + restrict || plainRule(rule);
}

/** Of an entry that is there, everything but the password must be as it would be written; the base may be anything. */
function entriesTo({ entries }: FoundDirectory, wanted: WantedDirectory, say: Say): Addition[] {
  return wanted.entries.flatMap(({ dn, attributes }): Addition[] => {
    const found = entries.get(foldDn(dn));
    if (found === undefined) return [{ kind: 'entry', isNew: true, dn, attributes }];
    if (foldDn(dn) === foldDn(wanted.base)) return [];
    const lacks = attributes.find(
      ([name, value]) =>
        !/^(?:userPassword)$/u.test(name) &&
        value !== 'top' &&
        !valuesOf(found.attributes, name).some((each) => foldDn(each) === foldDn(value)),
    );
    if (lacks !== undefined) say(`${dn} is there, but without \`${lacks.join(': ')}\``);
    return [];
  });
}

export function valuesOf(attributes: Values['attributes'], wanted: string): string[] {
  return attributes
    .filter(([name]) => name.toLowerCase() === wanted.toLowerCase())
    .map(([, value]) => value);
}

/** A DN, or another value, as it is compared. */
export const foldDn = (dn: string): string => dn.toLowerCase().replace(/\s*([,=])\s*/gu, '$1');

/** Entries of LDIF (RFC 2849) as deploy/ldap has them: no base64, and no changes. */
export function parseLdif(text: string): Values[] {
  const lines = text.replaceAll(/^#.*\n/gmu, '').replaceAll('\n ', '');
  return lines.split(/\n{2,}/u).flatMap((record) => {
    const pairs = [...record.matchAll(/^([\w;]+): (.*)$/gmu)].map(
      ([, name = '', value = '']) => [name, value] as const,
    );
    const [[, dn] = []] = pairs.filter(([name]) => name === 'dn');
    return dn === undefined ? [] : [{ dn, attributes: pairs.filter(([name]) => name !== 'dn') }];
  });
}

/** An addition as LDIF of ldapmodify(1). */
export function renderAddition({ dn, isNew, attributes }: Addition): string {
  const line = ([name, value]: readonly [string, string]) => `${name}: ${value}\n`;
  if (isNew) return `dn: ${dn}\nchangetype: add\n${attributes.map(line).join('')}`;
  const names = [...new Set(attributes.map(([name]) => name))];
  const changes = names.map(
    (name) =>
      `add: ${name}\n${attributes
        .filter((each) => each[0] === name)
        .map(line)
        .join('')}-\n`,
  );
  return `dn: ${dn}\nchangetype: modify\n${changes.join('')}`;
}

/** The same as people are shown it. */
export function showAddition(addition: Addition): string {
  return renderAddition(addition).replaceAll(
    /^(userPassword): .*$/gmu,
    '$1: (the hash of a secret)',
  );
}

const COUNTED: readonly [attribute: string, one: string, several: string][] = [
  ['olcModuleLoad', 'module', 'modules'],
  ['olcAccess', 'access rule', 'access rules'],
  ['olcLimits', 'limit', 'limits'],
  ['olcAddContentAcl', 'setting', 'settings'],
  ['olcDbIndex', 'index', 'indexes'],
];

/** How many of each kind, such as `4 schemas, 51 access rules`. */
export function countAdditions(additions: readonly Addition[]): string {
  const values = additions.flatMap(({ attributes }) => attributes);
  const ofKind = (kind: Addition['kind']) => additions.filter((each) => each.kind === kind).length;
  const accounts = additions.filter(
    ({ attributes }) => valuesOf(attributes, 'userPassword').length > 0,
  ).length;
  const counts: [count: number, one: string, several: string][] = [
    [ofKind('schema'), 'schema', 'schemas'],
    ...COUNTED.map(([name, one, several]): [number, string, string] => [
      values.filter(([key]) => key === name).length,
      one,
      several,
    ]),
    [ofKind('overlay'), 'overlay', 'overlays'],
    [ofKind('entry') - accounts, 'entry', 'entries'],
    [accounts, 'account', 'accounts'],
  ];
  return counts
    .filter(([count]) => count > 0)
    .map(([count, one, several]) => `${count} ${count === 1 ? one : several}`)
    .join(', ');
}
