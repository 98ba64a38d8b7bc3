/** A directory of others, as its administrators log in: what setup reads there, and what it adds. */
import {
  type LdapConnection,
  type LdapEntry,
  openLdapPool,
  readEntry,
  withoutPassword,
} from './ldap.ts';

/** The DN and the password to bind with; or the unix user of this process, by ldapi (SASL EXTERNAL). */
export type Login = 'EXTERNAL' | { bindDn: string; password: string };

/** What slapd calls root of its machine. */
export const EXTERNAL_ROOT = 'gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth';

/** An entry, or a part of one: attributes with their values, in order. */
export interface Values {
  dn: string;
  attributes: readonly (readonly [name: string, value: string])[];
}

/** Runs `act` on a connection with that login. */
export async function withLogin<T>(
  place: { uri: string; caFile?: string | undefined },
  login: Login,
  act: (ldap: LdapConnection) => Promise<T>,
): Promise<T> {
  if (login === 'EXTERNAL') return withoutPassword(place, 'peer', act);
  const pool = openLdapPool({ ...place, ...login, check: async () => {} });
  try {
    return await pool.run(act);
  } finally {
    await pool.close();
  }
}

/** What matters of cn=config: none of its secrets. */
const CONFIG = [
  ...['objectClass', 'olcSuffix', 'olcRootDN', 'olcModuleLoad', 'olcOverlay', 'olcAccess'],
  ...['olcLimits', 'olcDbIndex', 'olcAddContentAcl', 'olcReadOnly', 'olcSyncrepl'],
  ...['olcMultiProvider', 'olcUniqueURI', 'olcUniqueBase', 'olcConstraintAttribute'],
];

/** cn=config without its secrets, and every definition of the schema, those of modules included. */
export async function readServerConfig(
  ldap: LdapConnection,
): Promise<{ config: Values[]; schema: string[] }> {
  const found = await ldap.search({ base: 'cn=config', scope: 'sub', attributes: CONFIG });
  const names = ['attributeTypes', 'objectClasses'];
  const schema = await readEntry(ldap, 'cn=Subschema', names);
  return {
    config: found.map((entry) => textOf(entry, CONFIG)),
    schema: names.flatMap((name) => schema?.values(name).map(String) ?? []),
  };
}

/** The entry, with those attributes; undefined if it does not exist, or is not visible. */
export async function readText(
  ldap: LdapConnection,
  dn: string,
  names: readonly string[],
): Promise<Values | undefined> {
  const found = await readEntry(ldap, dn, names);
  return found && textOf(found, names);
}

const textOf = (entry: LdapEntry, names: readonly string[]): Values => ({
  dn: entry.dn,
  attributes: names.flatMap((name) =>
    entry.values(name).map((value) => [name, String(value)] as const),
  ),
});

/** Adds an entry, or values to one: each in one operation. */
export async function addTo(
  ldap: LdapConnection,
  { dn, isNew, attributes }: Values & { isNew: boolean },
): Promise<void> {
  const byName = Map.groupBy(attributes, ([name]) => name);
  const values = [...byName].map(
    ([name, of]) => [name, of.map(([, value]) => Buffer.from(value))] as const,
  );
  if (isNew) return ldap.add(dn, values);
  const changes = values.map(
    ([attribute, of]) => ({ operation: 'add', attribute, values: of }) as const,
  );
  return ldap.modify(dn, changes, []);
}

/** Accounts and groups with a number, wherever they are. */
export async function readNumbered(
  ldap: LdapConnection,
  base: string,
): Promise<{ dn: string; number: number }[]> {
  const all: { dn: string; number: number }[] = [];
  for (const number of ['uidNumber', 'gidNumber']) {
    const search = { base, scope: 'sub', present: number, pageSize: 500 } as const;
    for await (const page of ldap.pages({ ...search, attributes: ['objectClass', number] })) {
      for (const entry of page) {
        const classes = entry.values('objectClass').map((name) => String(name).toLowerCase());
        // the gidNumber of an account is that of a group
        if (number === 'gidNumber' && !classes.includes('posixgroup')) continue;
        all.push({ dn: entry.dn, number: Number(entry.values(number)[0]) });
      }
    }
  }
  return all;
}
