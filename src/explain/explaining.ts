/** Collects all that is known about a word: from the tables, and from what the roles see now. */
import { randomUUID } from 'node:crypto';
import type { Config } from '../shared/config.ts';
import { realmOf } from '../shared/config.ts';
import { parseDn, readDnsOf } from '../backends/ldap/dn.ts';
import { nearest } from '../shared/nearest.ts';
import { statPaths } from '../shared/path-stat.ts';
import { KNOWN_BAD_KEYS } from '../ssh-keys/known-bad-keys.ts';
import { normalName } from '../identity/names.ts';
import { isUndecided, thingsNamed, type UnmanagedThing } from '../unmanaged/unmanaged.ts';
import { REGISTRY, ROLES } from '../roles/index.ts';
import { classifyWord, type Word } from './word.ts';
import type { EntryRef } from '../reconcile/action.ts';
import type { Explanation, KeyPage, SubjectPage } from './explanation.ts';
import { describeThing } from '../unmanaged/render-unmanaged.ts';
import { type Looking, type Sought, withLooking } from './explain-queries.ts';
import { type Facts, readFacts } from './explain-facts.ts';
import { readUnknown } from './explain-unknown.ts';
import { readNamesLike } from '../database/overview.ts';
import type { Client } from '../database/connection.ts';
import { readUnmanaged } from '../unmanaged/unmanaged-table.ts';
import type { Wanted } from '../reconcile/wanted.ts';
import { readWanted } from '../reconcile/wanted-queries.ts';
import { splitRef } from '../targets/directory-reader.ts';
import { describeFound, describeUnknown, type OwnedPath } from './explain-known.ts';
import { withAdmin } from '../cli/admin.ts';
import { keyFacts, subjectPage } from './explain-pages.ts';

/** The longest wait for a file server that hangs. */
const OWNER_LIMIT_MS = 200;

export interface ExplainOptions {
  /** how long the roles may take, counted from the moment of the question */
  timeoutMs: number;
  now: Date;
}

/**
 * Explains one word. The tables are read while the roles look. A role that takes longer is shown as one that
 * did not answer.
 */
export async function explain(
  config: Config,
  text: string,
  { timeoutMs, now }: ExplainOptions,
): Promise<Explanation> {
  const word = await readWord(config, text);
  const about = { word: text, at: now.toISOString() };
  const owned = await ownerOf(config, text.trim(), word);
  const listedOf = async (client: Client) =>
    thingsOf(await readUnmanaged(client), text, config).map((thing) => `${describeListed(thing)}.`);
  if (word.kind === 'nothing' && owned === undefined) {
    const listed = await withAdmin(config, listedOf);
    const known = listed.length > 0 ? listed : [`This names nothing: ${word.because}.`];
    return { ...about, known, key: null, subjects: [] };
  }
  const sought = { ...soughtBy(word), ...(owned === undefined ? {} : { uid: owned.uid }) };
  return await withLooking(config, randomUUID(), sought, async (looking) => {
    if (looking.found.length === 0) {
      const listed = await listedOf(looking.client);
      const { names, uid } = namesOf(config, word);
      const unknown = await readUnknown(looking.client, names, owned?.uid ?? uid);
      const known = [
        ...listed,
        ...describeUnknown(word, unknown, config, owned),
        ...(await meantBy(word, looking.client)),
      ];
      return { ...about, known, key: null, subjects: [] };
    }
    const [listed, { subjects, facts }] = await Promise.all([
      listedOf(looking.client),
      readPages(config, looking, { timeoutMs, now }),
    ]);
    const known = [...listed, ...describeFound(word, subjects, realmOf(config), owned)];
    return { ...about, known, key: keyOf(config, word, facts, now), subjects };
  });
}

/** Unmanaged things with this name, number or path; for a path, also the thing that contains it. */
function thingsOf(
  things: readonly UnmanagedThing[],
  text: string,
  { ldap, files }: Config,
): UnmanagedThing[] {
  const word = text.trim();
  const named = thingsNamed(things, word, ldap.base);
  if (named.length > 0 || !word.startsWith('/')) return named;
  const root = files.root.replace(/\/+$/u, '');
  const paths = [word, ...(word.startsWith(`${root}/`) ? [word.slice(root.length)] : [])];
  return things.filter(({ object }) =>
    paths.some((path) => path === object || path.startsWith(`${object}/`)),
  );
}

function describeListed(thing: UnmanagedThing): string {
  const what = isUndecided(thing)
    ? thing.kind === 'member'
      ? 'an admin must decide on it: a request (maintainer.add, access.grant) keeps it'
      : 'an admin must decide on it: `chamberlain adopt` or `chamberlain ignore`'
    : 'an admin has decided';
  return `Unmanaged: ${describeThing(thing)}; ${what}`;
}

/**
 * The owner of a path on this machine, if it exists: nothing else identifies a file of somebody who has left.
 * Undefined for root, which would say nothing.
 */
async function ownerOf(config: Config, text: string, word: Word): Promise<OwnedPath | undefined> {
  if (!text.startsWith('/') || (word.kind !== 'path' && word.kind !== 'nothing')) return undefined;
  const path = word.kind === 'path' ? `${config.files.root}${word.path}` : text;
  // an error of `stat`, such as a name that is too long, counts as no answer
  const seen = await statPaths([path], OWNER_LIMIT_MS).catch(() => 'no answer' as const);
  const uid = typeof seen === 'string' ? undefined : seen[0]?.uid;
  return uid === undefined || uid === 0
    ? undefined
    : { path: word.kind === 'path' ? word.path : text, uid };
}

/** A whole key line counts as its fingerprint. The strict parser is loaded only for that. */
async function readWord(config: Config, text: string): Promise<Word> {
  const { root, toolHomes, personHomes } = config.files;
  const word = classifyWord(text, { root, toolHomes, personHomes });
  if (word.kind === 'name') return entryOf(word.name, config) ?? word;
  if (word.kind === 'uid' && word.uid === config.ids.realmGid) return { kind: 'realm group' };
  if (word.kind !== 'key') return word;
  const { parseSshKey } = await import('../ssh-keys/ssh-key.ts');
  const verdict = parseSshKey(word.text);
  if (verdict.ok) return { kind: 'fingerprint', fingerprint: verdict.key.fingerprint };
  return { kind: 'nothing', because: `${verdict.code}: ${verdict.sentence.replace(/\.$/u, '')}` };
}

/** What a DN names, with or without the base of the directory, and the name of the realm group. */
function entryOf(text: string, { ldap, realm }: Config): Word | undefined {
  if (text === `project-${realm}`) return { kind: 'realm group' };
  const rdns = parseDn(text);
  if (rdns === undefined) return undefined;
  const dns = readDnsOf(parseDn(ldap.base) ?? [], realm);
  for (const dn of [text, `${text},${ldap.base}`]) {
    const ref = dns.value(dn);
    if (ref.startsWith('dn:')) continue;
    const { place, attribute, name } = splitRef(ref as EntryRef);
    const tool = name.replace(/^runas-/u, '');
    switch (`${place}/${attribute}`) {
      case 'people/uid':
        return { kind: 'entry', owner: 'person', name, dn };
      case 'toolAccounts/uid':
      case 'toolGroups/cn':
        if (name.startsWith(`${realm}.`)) return { kind: 'entry', owner: 'tool', name, dn };
        break;
      case 'sudoRules/cn':
        if (tool.startsWith(`${realm}.`)) return { kind: 'entry', owner: 'tool', name: tool, dn };
        break;
      case 'groups/cn':
        if (name === `project-${realm}`) return { kind: 'realm group' };
    }
  }
  return rdns.length > 1
    ? { kind: 'nothing', because: 'no managed entry has such a DN' }
    : undefined;
}

/** Suggestions for a name that no subject has. */
async function meantBy(word: Word, client: Client): Promise<string[]> {
  const name = word.kind === 'path' ? word.home : 'name' in word ? word.name : undefined;
  if (name === undefined) return [];
  const names = nearest(name, await readNamesLike(client, name));
  return names.length === 0 ? [] : [`Did you mean ${names.join(' or ')}?`];
}

function soughtBy(word: Word): Sought {
  switch (word.kind) {
    case 'name': {
      const { name, databaseUser } = word;
      return {
        shellName: name,
        tool: name,
        displayName: normalName(name),
        ...(name.includes('@') ? { email: name } : {}),
        ...(databaseUser === undefined ? {} : { [`${databaseUser.kind}Uid`]: databaseUser.uid }),
      };
    }
    case 'uid':
      return word.uid > 0 && word.uid < 2 ** 31 ? { uid: word.uid } : {};
    case 'database':
      return { [`${word.owner.kind}Uid`]: word.owner.uid };
    case 'path':
      return word.area === 'toolHomes' ? { tool: word.home } : { shellName: word.home };
    case 'entry':
      return word.owner === 'person' ? { shellName: word.name } : { tool: word.name };
    case 'fingerprint':
      return { fingerprint: word.fingerprint };
    default:
      return {};
  }
}

/** The names and the number under which something unmanaged may be known. */
function namesOf(config: Config, word: Word): { names: string[]; uid: number } {
  const both = (name: string) => [name, `${config.realm}.${name}`];
  switch (word.kind) {
    case 'name':
      return { names: both(word.name), uid: word.databaseUser?.uid ?? 0 };
    case 'path':
      return {
        names: word.area === 'toolHomes' ? [`${config.realm}.${word.home}`] : [word.home],
        uid: 0,
      };
    case 'uid':
      return { names: [], uid: word.uid < 2 ** 31 ? word.uid : 0 };
    case 'entry':
      return { names: [word.name], uid: 0 };
    case 'database':
      return { names: [], uid: word.owner.uid };
    default:
      return { names: [], uid: 0 };
  }
}

async function readPages(
  config: Config,
  { client, found, reports }: Looking,
  { timeoutMs, now }: ExplainOptions,
): Promise<{ subjects: SubjectPage[]; facts: Facts }> {
  const uids = found.map(({ uid }) => uid);
  const [facts, wanted] = await Promise.all([readFacts(client, uids), readOpenWants(client, uids)]);
  const answers = await reports(ROLES, timeoutMs);
  const subjects = uids.map((uid) =>
    subjectPage(uid, {
      ...{ facts, wanted, answers, timeoutMs, now },
      ...{ realm: realmOf(config), base: config.ldap.base },
    }),
  );
  return { subjects, facts };
}

/** All that is wanted, but for what is a role's own: credentials, and archives, are known from elsewhere. */
async function readOpenWants(client: Client, uids: readonly number[]): Promise<Wanted[]> {
  const open = REGISTRY.filter(({ wanted }) => wanted !== undefined && wanted.own !== true);
  const wants = await Promise.all(open.map(({ name }) => readWanted(client, name, uids)));
  const bySubject = Map.groupBy(wants.flat(), ({ uid }) => uid);
  return [...bySubject.values()].map((parts): Wanted => Object.assign({}, ...parts));
}

function keyOf(config: Config, word: Word, facts: Facts, now: Date): KeyPage | null {
  if (word.kind !== 'fingerprint') return null;
  const { fingerprint } = word;
  for (const { account, keys } of facts.nodes) {
    const key = keyFacts(keys, now).find((each) => each.fingerprint === fingerprint);
    if (key !== undefined) {
      return { ...key, holder: account, knownBad: knownBad(config, fingerprint) };
    }
  }
  return null;
}

/** Why nobody may add a key, or null. */
function knownBad(config: Config, fingerprint: string): string | null {
  const shipped = KNOWN_BAD_KEYS.get(fingerprint);
  if (shipped !== undefined) return shipped;
  return config.keys.knownBad.includes(fingerprint)
    ? 'the configuration refuses it as a new key; a login host refuses it only if its own knownBadKeys has it'
    : null;
}
