/**
 * The directory in a set of backups. It is read as `cn=directory-reader`, so it can be read from any machine, with an
 * account that can change nothing.
 *
 * That account does not see the accounts of our programs, which deploy/ldap creates from the secrets, or what others
 * keep for themselves in the same directory.
 */
import { namesOf } from '../backends/ldap/directory-names.ts';
import { parseDn } from '../backends/ldap/dn.ts';
import { openLdapPool } from '../backends/ldap/ldap.ts';
import type { SentEntry } from '../backends/ldap/ldap-pages.ts';
import { ChamberlainError } from '../shared/errors.ts';
import type { Secret } from '../secrets/secret.ts';
import { OVERSIZED } from '../unmanaged/sightings.ts';
import { compareDns, renderEntry, type LdifAttribute } from './ldif.ts';

export interface DirectoryPlace {
  uri: string;
  base: string;
  caFile?: string | undefined;
  realm: string;
  /** the password of `cn=directory-reader` */
  password: Secret;
}

/**
 * Reads all entries, parents before their children. Throws BACKEND_UNREADABLE if an entry is not complete, or if the
 * heartbeat or the people are not visible.
 */
export async function readLdif(
  { uri, base, caFile, realm, password }: DirectoryPlace,
  onEntries: (count: number) => void = () => {},
): Promise<string[]> {
  const names = namesOf(base, realm);
  const suffix = names.place('base');
  const bindDn = names.account('directory-reader');
  const pool = openLdapPool({ uri, caFile, bindDn, password, check: async () => {} });
  const entries = new Map<string, string>();
  try {
    const search = { base, scope: 'sub', attributes: ['*', '+'], pageSize: 1000 } as const;
    for await (const page of pool.walk(search)) {
      for (const sent of page) entries.set(sent.dn, renderSent(sent, suffix));
      onEntries(entries.size);
    }
    const seen = new Set(entries.keys().map((dn) => dn.toLowerCase()));
    for (const dn of [names.marker, names.place('people')]) {
      if (!seen.has(dn.toLowerCase())) throw new Error(`${dn} does not exist or may not be read`);
    }
  } catch (cause) {
    throw new ChamberlainError('BACKEND_UNREADABLE', 'reading the directory', { cause });
  } finally {
    await pool.close();
  }
  const accounts = `ou=chamberlain,${suffix}`;
  entries.set(
    accounts,
    renderEntry(accounts, [
      ['objectClass', ['top', 'organizationalUnit']],
      ['ou', ['chamberlain']],
    ]),
  );
  return [...entries].sort(([a], [b]) => compareDns(a, b)).map(([, text]) => text);
}

function renderSent(sent: SentEntry, suffix: string): string {
  const attributes = sent.attributes((type) => type);
  const classes = sent.values('objectClass').map((name) => String(name).toLowerCase());
  if (classes.includes(OVERSIZED)) throw new Error(`${sent.dn} is too large to be read`);
  const isSuffix = sent.dn.toLowerCase() === suffix.toLowerCase();
  return renderEntry(sent.dn, isSuffix ? [...attributes, ...ofSuffix(sent, classes)] : attributes);
}

/** The attributes that the suffix must have and only the administrator sees, as in deploy/ldap/tree.ldif. */
function ofSuffix(sent: SentEntry, classes: readonly string[]): LdifAttribute[] {
  const { attribute = '', value = '' } = parseDn(sent.dn)?.[0] ?? {};
  const wanted = new Set(classes.includes('organization') ? [attribute, 'o'] : [attribute]);
  return [...wanted]
    .filter((type) => sent.values(type).length === 0)
    .map((type): LdifAttribute => [type, [value]]);
}
