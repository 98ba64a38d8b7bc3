/** Changes the passwords of the accounts that bind to the directory, as the directory's own admin. */
import { ChamberlainError, CORRECT_AND_RUN_AGAIN } from '../../shared/errors.ts';
import type { DirectoryPlace } from './directory-health.ts';
import { namesOf } from './directory-names.ts';
import { type LdapChange, openLdapPool, resultCodeOf, withoutPassword } from './ldap.ts';

/**
 * Gives an account an additional password, or replaces all of them by one; existing sessions stay bound.
 *
 * @param kept what slapd stores of the password
 * @param adminPassword of `cn=admin`, the only account that may write a password
 */
export async function changePassword(
  { uri, caFile, base, realm, isShared }: DirectoryPlace,
  adminPassword: string,
  { account, operation, kept }: { account: string; operation: 'add' | 'replace'; kept: string },
): Promise<void> {
  const names = namesOf(base, realm, isShared);
  const bindDn = names.admin;
  const pool = openLdapPool({
    uri,
    caFile,
    bindDn,
    password: adminPassword,
    check: async () => {},
  });
  try {
    await pool.run((ldap) =>
      ldap.modify(names.account(account), [passwordChange(operation, 'userPassword', kept)], []),
    );
  } catch (cause) {
    throw failed(`changing the password of cn=${account} in the directory`, cause);
  } finally {
    await pool.close();
  }
}

/** Gives the directory's admin another password, as root of its machine, by ldapi. */
export async function changeAdminPassword(
  { uri, base }: DirectoryPlace,
  kept: string,
): Promise<void> {
  const act = "changing the password of the directory's admin";
  if (!/^ldapi:/iu.test(uri)) {
    throw new ChamberlainError('STEP_FAILED', `${act}: only root of the directory's machine may`, {
      action: 'Run the command there, with an ldapi:// URI in the configuration.',
    });
  }
  try {
    await withoutPassword({ uri }, 'peer', async (ldap) => {
      const databases = await ldap.search({
        ...{ base: 'cn=config', scope: 'one', present: 'olcSuffix' },
        attributes: ['olcSuffix'],
      });
      const its = databases.find((entry) =>
        entry
          .values('olcSuffix')
          .some((suffix) => String(suffix).toLowerCase() === base.toLowerCase()),
      );
      if (its === undefined) throw new Error(`cn=config shows no database of ${base}`);
      await ldap.modify(its.dn, [passwordChange('replace', 'olcRootPW', kept)], []);
    });
  } catch (cause) {
    throw failed(act, cause);
  }
}

function passwordChange(operation: 'add' | 'replace', attribute: string, kept: string): LdapChange {
  return { operation, attribute, values: [Buffer.from(kept)] };
}

function failed(act: string, cause: unknown): ChamberlainError {
  if (resultCodeOf(cause) === undefined) {
    return new ChamberlainError('BACKEND_UNAVAILABLE', act, { cause });
  }
  return new ChamberlainError('STEP_FAILED', act, { cause, action: CORRECT_AND_RUN_AGAIN });
}
