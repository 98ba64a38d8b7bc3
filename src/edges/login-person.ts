/**
 * One account of the directory as a login host reads it, as `cn=keys-agent,ou=chamberlain`: for the
 * person, or the tool, that asks about itself.
 */
import { ChamberlainError, describeError } from '../errors.ts';
import type { EntryRef } from '../plan/action.ts';
import { entryRef, splitRef, type AnyRef } from '../targets/directory-eyes.ts';
import { namesOf, type Names } from './directory-names.ts';
import type { LdapConnection, LdapEntry } from './ldap.ts';
import { openAgentPool, readEntry } from './login-directory.ts';

export interface LoginPersonSettings {
  /** asked in this order: the first that answers */
  uris: readonly string[];
  base: string;
  realm: string;
  caFile?: string | undefined;
  password: string;
  /** for all of them together; each may take its share */
  timeoutMs: number;
}

export interface LoginPerson {
  kind: 'person' | 'tool';
  locked: boolean;
  /** of the realm's group; people only */
  realmMember: boolean;
  /** the tools whose groups hold the account directly, without the realm's prefix; its own is left out */
  tools: string[];
  /** the accounts that a tool's group holds, but for its own; people have none */
  maintainers: string[];
  /** as they stand there: not checked */
  keys: string[];
  descriptions: string[];
}

// operational: told only where they are asked for by name
const LOCK = ['pwdAccountLockedTime', 'pwdPolicySubentry'];
const ATTRIBUTES = ['uidNumber', 'sshPublicKey', 'description', ...LOCK];
/** Another policy locks nobody. */
const DISABLED_POLICY = entryRef('policies', 'cn', 'disabled');

/**
 * Reads the account with this name *and* this number; undefined where there is none. Throws
 * BACKEND_UNREADABLE where no server answers in time, or none lets us read.
 */
export async function readLoginPerson(
  settings: LoginPersonSettings,
  account: { name: string; uid: number },
): Promise<LoginPerson | undefined> {
  const { uris, base, realm, caFile, password, timeoutMs } = settings;
  const names = namesOf(base, realm);
  const failures: unknown[] = [];
  for (const uri of uris) {
    const pool = openAgentPool({ uri, caFile, password }, names);
    try {
      const reading = pool.run((ldap) => readAccount(ldap, names, realm, account));
      return await within(timeoutMs / uris.length, reading);
    } catch (error) {
      failures.push(error);
    } finally {
      // waits for a connection that is being opened, so it is not waited for
      void pool.close();
    }
  }
  const cause = new AggregateError(failures, failures.map(describeError).join('; '));
  throw new ChamberlainError('BACKEND_UNREADABLE', 'asking the directory', { cause });
}

async function readAccount(
  ldap: LdapConnection,
  names: Names,
  realm: string,
  { name, uid }: { name: string; uid: number },
): Promise<LoginPerson | undefined> {
  const prefix = `${realm}.`;
  const kind = name.startsWith(prefix) ? 'tool' : 'person';
  const ref = entryRef(kind === 'tool' ? 'toolAccounts' : 'people', 'uid', name);
  const dn = names.dn(ref);
  const entry = await readEntry(ldap, dn, ATTRIBUTES);
  if (entry === undefined || names.entry(entry.dn) !== ref) return undefined;
  if (!textsOf(entry, 'uidNumber').includes(String(uid))) return undefined;

  const any = [['member', Buffer.from(dn)] as const];
  const realmGroup = names.dn(entryRef('groups', 'cn', `project-${realm}`));
  const ownGroup = names.dn(entryRef('toolGroups', 'cn', name));
  const [holding, membership, group] = await Promise.all([
    ldap.search({ base: names.place('toolGroups'), scope: 'one', any, attributes: ['1.1'] }),
    ldap.search({ base: realmGroup, scope: 'base', any, attributes: ['1.1'] }),
    kind === 'tool' ? readEntry(ldap, ownGroup, ['member']) : undefined,
  ]);
  const tools = holding
    .flatMap((each) => nameOf(names.entry(each.dn)) ?? [])
    .filter((cn) => cn.startsWith(prefix) && cn !== name)
    .map((cn) => cn.slice(prefix.length));
  const maintainers = (group === undefined ? [] : textsOf(group, 'member'))
    .flatMap((member) => nameOf(names.value(member)) ?? [])
    .filter((member) => member !== name);
  return {
    kind,
    locked:
      entry.values('pwdAccountLockedTime').length > 0 ||
      textsOf(entry, 'pwdPolicySubentry').some((policy) => names.value(policy) === DISABLED_POLICY),
    realmMember: membership.length > 0,
    tools: tools.toSorted(),
    maintainers: maintainers.toSorted(),
    keys: textsOf(entry, 'sshPublicKey'),
    descriptions: textsOf(entry, 'description'),
  };
}

function textsOf(entry: LdapEntry, attribute: string): string[] {
  return entry.values(attribute).filter((value) => typeof value === 'string');
}

function nameOf(ref: AnyRef): string | undefined {
  return ref.startsWith('dn:') ? undefined : splitRef(ref as EntryRef).name;
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${Math.round(ms)} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
