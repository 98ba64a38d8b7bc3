/**
 * The accounts of hosts that have joined: `cn=HOST.FINGERPRINT,ou=hosts,ou=chamberlain`, written as the directory's own
 * admin.
 *
 * An account has the rights of a login host while the group `cn=login-hosts` has it as a member, which slapd looks up
 * for each operation. Connections outlive the account that they were bound as. So each machine has an account of its
 * own, whose name contains the fingerprint of its join request: another machine of the same name does not give an old
 * connection its rights back. The record of the joining is in the account itself, so that no account is without one.
 */
import * as z from 'zod/mini';
import { doing } from '../../shared/errors.ts';
import type { DirectoryPlace } from './directory-health.ts';
import { namesOf } from './directory-names.ts';
import {
  type LdapChange,
  type LdapConnection,
  openLdapPool,
  readEntry,
  RESULT,
  resultCodeOf,
} from './ldap.ts';

const record = z.object({
  kind: z.string(),
  key: z.string(),
  fingerprint: z.string(),
  joinedAt: z.string(),
  by: z.string(),
});

/** When and by whom a host was joined, and by which join request. */
export type HostRecord = z.infer<typeof record>;

/** A host that has an account or the rights of one. */
export interface Host {
  /** its name; of a member of the group that is no host's account, its DN */
  name: string;
  dn: string;
  /** the name of its account; undefined if it is no host's */
  account: string | undefined;
  /** whether the directory shows it what a login host may see */
  hasAccess: boolean;
  /** undefined if `chamberlain join` has not written it */
  record: HostRecord | undefined;
  /** the record as the directory has it */
  text: string | undefined;
}

/** `changed`: the account was changed or removed meanwhile; `taken`: another machine has joined under that name. */
type Written = 'done' | 'changed' | 'taken';

export interface Hosts {
  list(): Promise<Host[]>;
  /**
   * Makes the account of a machine, or gives it another password instead of the present one. Of two machines that join
   * under one name at once, at most one does. Nothing that another command has done meanwhile is undone.
   *
   * @param before what `list` has found of the account; undefined for a new one
   * @param verifier what slapd stores of the password
   */
  put(name: string, of: HostRecord, verifier: string, before?: Host): Promise<Written>;
  /** Ends the access of the account at once, also on open connections, and then removes it. */
  remove(host: Host): Promise<void>;
}

/**
 * Runs `act` as the directory's own admin. What fails is BACKEND_UNAVAILABLE.
 *
 * @param password of `cn=admin`
 */
export async function withHosts<T>(
  { uri, caFile, base, realm, isShared }: DirectoryPlace,
  password: string,
  act: (hosts: Hosts) => Promise<T>,
): Promise<T> {
  const names = namesOf(base, realm, isShared);
  const pool = openLdapPool({ uri, caFile, bindDn: names.admin, password, check: async () => {} });
  const run = <R>(what: string, operation: (ldap: LdapConnection) => Promise<R>): Promise<R> =>
    doing('BACKEND_UNAVAILABLE', what, () => pool.run(operation));
  const member = (operation: 'add' | 'delete', dn: string): LdapChange[] => [
    { operation, attribute: 'member', values: [bytes(dn)] },
  ];
  const dropMember = (ldap: LdapConnection, dn: string) =>
    unless([RESULT.noSuchAttribute, RESULT.noSuchObject], undefined, () =>
      ldap.modify(names.loginHosts, member('delete', dn), []),
    );
  try {
    return await act({
      list: () => run('reading the accounts of hosts', (ldap) => readHosts(ldap, names)),

      put: (name, of, verifier, before) =>
        run(`writing the account of ${name}`, async (ldap) => {
          await addAbove(ldap, names);
          const account = accountOf(name, of.fingerprint);
          const dn = names.host(account);
          const text = bytes(JSON.stringify(of));
          const written = { userPassword: [bytes(verifier)], description: [text] };
          if (before === undefined) {
            const isNew = await addEntry(ldap, dn, {
              ...{ objectClass: ['top', 'applicationProcess', 'simpleSecurityObject'].map(bytes) },
              ...{ cn: [bytes(account)], ...written },
            });
            if (!isNew) return 'changed';
            // of two that are added at once, the later one sees the other
            const found = await readHosts(ldap, names);
            if (found.some((host) => host.name === name && host.account !== account)) {
              await ldap.delete(dn, [['description', text]]);
              return 'taken';
            }
          } else {
            const replace = Object.entries(written).map(([attribute, values]): LdapChange => ({
              ...{ operation: 'replace', attribute, values },
            }));
            const seen = [['description', bytes(before.text ?? '')]] as const;
            const isOurs = await unless([RESULT.assertionFailed, RESULT.noSuchObject], false, () =>
              ldap.modify(dn, replace, seen).then(() => true),
            );
            if (!isOurs) return 'changed';
          }
          await unless([RESULT.attributeOrValueExists], undefined, () =>
            ldap.modify(names.loginHosts, member('add', dn), []),
          );
          if ((await readEntry(ldap, dn, ['1.1'])) !== undefined) return 'done';
          await dropMember(ldap, dn); // it was removed meanwhile
          return 'changed';
        }),

      remove: ({ name, dn }) =>
        run(`removing the account of ${name}`, async (ldap) => {
          await dropMember(ldap, dn);
          if (!foldDn(dn).endsWith(foldDn(`,${names.hosts}`))) return; // of somebody else
          await unless([RESULT.noSuchObject], undefined, () =>
            ldap.delete(dn, [['objectClass', bytes('applicationProcess')]]),
          );
          await dropMember(ldap, dn); // which a machine that joins has added meanwhile
        }),
    });
  } finally {
    await pool.close();
  }
}

/** The name of a machine's account. */
export function accountOf(name: string, fingerprint: string): string {
  return `${name}.${fingerprint}`;
}

/** The name of the host, without the fingerprint. */
function nameOf(account: string): string {
  return account.replace(/\.[0-9a-z]{4}(?:-[0-9a-z]{4}){3}$/u, '');
}

async function readHosts(ldap: LdapConnection, names: ReturnType<typeof namesOf>): Promise<Host[]> {
  const attributes = ['cn', 'description'];
  const found = await unless([RESULT.noSuchObject], [], () =>
    ldap.search({ base: names.hosts, scope: 'one', attributes }),
  );
  const group = await readEntry(ldap, names.loginHosts, ['member']);
  const members = new Set((group?.values('member') ?? []).map((dn) => foldDn(String(dn))));
  members.delete(foldDn(names.marker));
  const hosts = found.map((entry): Host => {
    const hasAccess = members.delete(foldDn(entry.dn));
    const [account = entry.dn] = entry.values('cn').map(String);
    const [text] = entry.values('description').map(String);
    const { dn } = entry;
    return { name: nameOf(account), account, dn, hasAccess, record: parseRecord(text), text };
  });
  const others = [...members].map((dn) => ({
    ...{ name: dn, account: undefined, dn, hasAccess: true, record: undefined, text: undefined },
  }));
  return [...hosts, ...others].sort((a, b) => (a.name < b.name ? -1 : 1));
}

const bytes = (text: string): Buffer => Buffer.from(text);
const foldDn = (dn: string): string => dn.toLowerCase();

function parseRecord(text: string | undefined): HostRecord | undefined {
  try {
    return record.safeParse(JSON.parse(String(text)), { jitless: true }).data;
  } catch {
    return undefined;
  }
}

/**
 * The entry above the accounts, and the group. A group of this class must have a member: it is the heartbeat's entry,
 * as in the realm group, and nobody can bind as that.
 */
async function addAbove(
  ldap: LdapConnection,
  { hosts, loginHosts, marker }: ReturnType<typeof namesOf>,
): Promise<void> {
  await addEntry(ldap, hosts, {
    objectClass: ['top', 'organizationalUnit'].map(bytes),
    ou: [bytes('hosts')],
  });
  await addEntry(ldap, loginHosts, {
    objectClass: ['top', 'groupOfNames'].map(bytes),
    ...{ cn: [bytes('login-hosts')], member: [bytes(marker)] },
  });
}

/** False if there is such an entry already. */
async function addEntry(
  ldap: LdapConnection,
  dn: string,
  attributes: Record<string, Buffer[]>,
): Promise<boolean> {
  return unless([RESULT.entryAlreadyExists], false, async () => {
    await ldap.add(dn, Object.entries(attributes));
    return true;
  });
}

/** What `act` resolves to; `instead`, if the server answers with one of these result codes. */
async function unless<T>(codes: readonly number[], instead: T, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (codes.includes(resultCodeOf(error) ?? -1)) return instead;
    throw error;
  }
}
