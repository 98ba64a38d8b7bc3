/**
 * What a directory that is there already lacks of deploy/ldap, by comparison. Pure. It only ever adds: whatever would
 * have to be changed or deleted is a conflict, in words for people.
 */
import type { Values } from '../backends/ldap/directory-login.ts';
import { plainRule } from '../doctor/access-rules.ts';
import { count } from '../shared/printable.ts';

export interface FoundDirectory {
  /** of cn=config: modules, databases and overlays */
  config: readonly Values[];
  /** the definitions of all attribute types and object classes */
  schema: readonly string[];
  /** what is there of the entries that are wanted, by `foldDn` */
  entries: ReadonlyMap<string, Values>;
  /** the DN that is to add entries */
  login: string;
}

export interface WantedDirectory {
  base: string;
  schemas: readonly Values[];
  modules: readonly string[];
  indexes: readonly string[];
  limits: string;
  access: readonly string[];
  overlays: readonly Values[];
  /** the tree and the accounts, parents first; the first is the base */
  entries: readonly Values[];
}

/** One operation: a new entry, or values that an entry gets in addition. */
export interface Addition extends Values {
  isNew: boolean;
}

interface Additions {
  additions: readonly Addition[];
  /** why nothing may be added */
  conflicts: readonly string[];
}

type Say = (conflict: string) => void;

export function additionsTo(found: FoundDirectory, wanted: WantedDirectory): Additions {
  const conflicts: string[] = [];
  const say = (text: string) => void conflicts.push(text);
  const suffixesOf = ({ attributes }: Values) => valuesOf(attributes, 'olcSuffix').map(foldDn);
  const database = found.config.find((entry) => suffixesOf(entry).includes(foldDn(wanted.base)));
  if (database === undefined) {
    const suffixes = found.config.flatMap(suffixesOf).join('; ') || 'none';
    say(`no database there has the suffix ${wanted.base}; the suffixes are: ${suffixes}`);
    return { additions: [], conflicts };
  }
  refuseDatabase(database, found.login, say);
  const additions = [
    ...schemasTo(found, wanted, say),
    ...modulesTo(found, wanted),
    ...rulesTo(database, wanted, say),
    ...overlaysTo(found, wanted, database.dn, say),
    ...entriesTo(found, wanted, say),
  ];
  return { additions, conflicts };
}

function refuseDatabase({ dn, attributes }: Values, login: string, say: Say): void {
  const its = (name: string) => valuesOf(attributes, name);
  const [root = 'not set'] = its('olcRootDN');
  // through the access rules, nobody else sees our accounts
  if (foldDn(root) !== foldDn(login))
    say(`only the olcRootDN may add everything: it is ${root}, and not ${login}`);
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
}

const NIS = `posixGroup is structural there (the schema nis), but the groups of tools are groupOfNames as well, which only the schema rfc2307bis allows; see "An LDAP directory" in docs/install.md`;

/** Definitions count under whatever name their schema has. slapd numbers schemas: a second one may have the same name. */
function schemasTo(found: FoundDirectory, wanted: WantedDirectory, say: Say): Addition[] {
  const known = new Map(found.schema.flatMap((text) => namesOf(text).map((name) => [name, text])));
  if (/\bposixGroup\b(?!.*\bAUXILIARY\b)/su.test(known.get('posixgroup') ?? '')) {
    say(NIS);
    return [];
  }
  return wanted.schemas.flatMap(({ dn, attributes }): Addition[] => {
    const isDefinition = (name: string) => /^olc(?:AttributeTypes|ObjectClasses)$/u.test(name);
    const missing = attributes.filter(([attribute, text]) => {
      const [name = ''] = namesOf(text);
      const has = known.get(name);
      if (has === undefined || !isDefinition(attribute)) return isDefinition(attribute);
      const differs = definitionDiffers(text, has);
      if (differs !== undefined) say(`${name} is defined otherwise there: ${differs}`);
      return false;
    });
    const head = attributes.filter(([name]) => name === 'objectClass' || name === 'cn');
    return missing.length === 0 ? [] : [{ isNew: true, dn, attributes: [...head, ...missing] }];
  });
}

function namesOf(definition: string): string[] {
  const [, names = ''] = /\bNAME\s+('[^']+'|\([^)]*\))/u.exec(definition) ?? [];
  return names.toLowerCase().match(/[\w.-]+/gu) ?? [];
}

/** How it differs in what matters: what is compared how, what must be there, and whether it may be written. */
function definitionDiffers(wanted: string, has: string): string | undefined {
  if (/\bNO-USER-MODIFICATION\b/u.test(has))
    return 'the server writes it itself, as the overlay memberof or dynlist does';
  const isAlike = / SUP /u.test(has) === / SUP /u.test(wanted);
  const wordsOf = (text: string, key: string) =>
    (new RegExp(String.raw`\b${key}\s+(\([^)]*\)|\S+)`, 'u').exec(text)?.[1] ?? '')
      .toLowerCase()
      .replace(/\{\d+\}/u, '')
      .match(/[\w.-]+/gu)
      ?.toSorted()
      .join(' ');
  const other = [...(isAlike ? ['EQUALITY', 'SYNTAX'] : []), 'MUST'].find(
    (key) => wordsOf(has, key) !== wordsOf(wanted, key),
  );
  return other === undefined ? undefined : `${other} ${wordsOf(has, other) ?? 'is missing'}`;
}

function modulesTo({ config }: FoundDirectory, wanted: WantedDirectory): Addition[] {
  const loaded = config.flatMap(({ attributes }) =>
    valuesOf(attributes, 'olcModuleLoad').map(plainModule),
  );
  const load = wanted.modules
    .filter((name) => !loaded.includes(name))
    .map((name) => ['olcModuleLoad', name] as const);
  const head = [['objectClass', 'olcModuleList'] as const, ['cn', 'module'] as const];
  if (load.length === 0) return [];
  return [{ isNew: true, dn: 'cn=module,cn=config', attributes: [...head, ...load] }];
}

/** `{1}/usr/lib/ldap/back_mdb.la` is back_mdb. */
const plainModule = (text: string): string =>
  text.replace(/^\{\d+\}/u, '').replaceAll(/^.*\/|\.(?:la|so)$/gu, '');

/** The access rules, the limits and the indexes of the database: one operation. */
function rulesTo({ dn, attributes }: Values, wanted: WantedDirectory, say: Say): Addition[] {
  const its = (name: string) => valuesOf(attributes, name);
  const hasLimits = its('olcLimits').some((each) => plainRule(each) === plainRule(wanted.limits));
  const values: Values['attributes'] = [
    ...accessTo(its('olcAccess'), wanted, dn, say),
    ...(hasLimits ? [] : [['olcLimits', `{0}${wanted.limits}`] as const]),
    ...(its('olcAddContentAcl').length > 0 ? [] : [['olcAddContentAcl', 'TRUE'] as const]),
    ...indexesTo(its('olcDbIndex'), wanted.indexes),
  ];
  return values.length === 0 ? [] : [{ isNew: false, dn, attributes: values }];
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
      `${dn} has a rule about Chamberlain's accounts that this version of Chamberlain does not have: remove \`olcAccess: ${old}\``,
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

/** An attribute has one index, of whatever kinds. */
function indexesTo(has: readonly string[], wanted: readonly string[]): [string, string][] {
  const namesIn = (index: string) => index.split(/\s+/u)[0]?.split(',') ?? [];
  const indexed = new Set(has.flatMap(namesIn).map((name) => name.toLowerCase()));
  return wanted.flatMap((each): [string, string][] => {
    const missing = namesIn(each).filter((name) => !indexed.has(name.toLowerCase()));
    return missing.length === 0 ? [] : [['olcDbIndex', `${missing.join(',')} eq`]];
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
    if (found === undefined)
      return [{ isNew: true, dn: `olcOverlay=${name},${database}`, attributes }];
    const rules = attributes.filter(([key]) => RULES.test(key));
    const has = found.attributes.filter(([key]) => RULES.test(key)).map(([, rule]) => rule);
    const ours = new Set(rules.map(([, rule]) => plainRule(rule)));
    const subjects = new Set(rules.map(([, rule]) => subjectOf(rule)));
    const old = has.find((rule) => !ours.has(plainRule(rule)) && subjects.has(subjectOf(rule)));
    if (old !== undefined)
      say(
        `${found.dn} has a rule of another version of Chamberlain about its entries: remove \`${old}\``,
      );
    const there = new Set(has.map(plainRule));
    const missing = rules.filter(([, rule]) => !there.has(plainRule(rule)));
    if (missing.length > 0 && valuesOf(found.attributes, 'olcUniqueBase').length > 0)
      say(
        `${found.dn} has olcUniqueBase, which excludes olcUniqueURI: write its rules as olcUniqueURI`,
      );
    return missing.length === 0 ? [] : [{ isNew: false, dn: found.dn, attributes: missing }];
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
    if (found === undefined) return [{ isNew: true, dn, attributes }];
    if (foldDn(dn) === foldDn(wanted.base)) return [];
    const lacks = attributes.find(
      ([name, value]) =>
        name !== 'userPassword' &&
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

/** An addition as LDIF of ldapmodify(1), as people are shown it. */
export function showAddition({ dn, isNew, attributes }: Addition): string {
  const line = ([name, value]: readonly [string, string]) =>
    `${name}: ${name === 'userPassword' ? '(the hash of a secret)' : value}\n`;
  if (isNew) return `dn: ${dn}\nchangetype: add\n${attributes.map(line).join('')}`;
  const changes = [...Map.groupBy(attributes, ([name]) => name)].map(
    ([name, of]) => `add: ${name}\n${of.map(line).join('')}-\n`,
  );
  return `dn: ${dn}\nchangetype: modify\n${changes.join('')}`;
}

const COUNTED: Record<string, RegExp> = {
  schemas: /^objectClass: olcSchemaConfig$/gmu,
  modules: /^olcModuleLoad: /gmu,
  'access rules': /^olcAccess: /gmu,
  indexes: /^olcDbIndex: /gmu,
  overlays: /^olcOverlay: /gmu,
  entries: /^dn: (?!.*,cn=config$)/gmu,
};

/** How many of each kind, such as `21 additions (schemas: 4, access rules: 51)`. */
export function countAdditions(additions: readonly Addition[]): string {
  const text = additions.map(showAddition).join('\n');
  const counts = Object.entries(COUNTED).flatMap(([what, one]) => {
    const found = text.match(one)?.length ?? 0;
    return found === 0 ? [] : [`${what}: ${found}`];
  });
  return `${count(additions.length, 'addition')} (${counts.join(', ')})`;
}
