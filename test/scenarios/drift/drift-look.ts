/** Reads one subject's things from outside, so that the repaired state can be compared with the earlier one. */
import { execFileSync } from 'node:child_process';
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { verifierOf } from '../../../src/credentials/credentials.ts';
import { administer, type World } from '../../stack.ts';
import type { Subject } from './drift-case.ts';
import { readAccounts, readCredentials, readDirectory, type Entry } from '../outside.ts';

/** Everything outside, by what it is: entries by DN, paths, accounts as `<server> <user>`. */
export type Outside = Map<string, unknown>;

/** The outside state of these subjects, without what changes with every password and every write. */
export async function lookOutside(world: World, subjects: Iterable<Subject>): Promise<Outside> {
  const seen: Outside = new Map<string, unknown>();
  for (const [dn, entry] of await readDirectory(world, { operational: true })) {
    seen.set(dn, ofEntry(entry));
  }
  const directories: string[] = [];
  for (const { home, kind } of subjects) {
    const folders = kind === 'tool' ? ['public_html', 'logs'] : [];
    for (const path of [home, ...[...folders, 'replica.my.cnf'].map((name) => join(home, name))]) {
      const stats = lstatSync(path, { throwIfNoEntry: false });
      seen.set(path, stats && [stats.uid, stats.gid, stats.mode.toString(8)]);
      if (stats?.isDirectory()) directories.push(path);
    }
  }
  const acls = execFileSync('getfacl', ['-np', ...directories], { encoding: 'utf8' });
  for (const block of acls.trim().split('\n\n')) {
    const [name = '', ...lines] = block.split('\n');
    seen.set(`${name.replace('# file: ', '')}/ ACL`, lines);
  }
  for (const server of ['replica', 'tools'] as const) {
    const rows = await administer(world[server].socket, ACCOUNTS_SQL);
    for (const line of rows.split('\n').filter((row) => row !== '')) {
      const [user = '', ...rest] = line.split('\t');
      seen.set(`${server} ${user}`, [seen.get(`${server} ${user}`) ?? [], rest.join(' ')].flat());
    }
  }
  return seen;
}

/**
 * Everything that the servers know of an account except its password, and when that was changed; without
 * the forms that mean nothing: one way to log in as a list of it, the lifetime that is the server's, that it is
 * not locked, that TLS is not required, and no limit of queries.
 */
const ACCOUNTS_SQL = `
  SELECT * FROM (
    SELECT User, Host, REGEXP_REPLACE(
      JSON_REMOVE(Priv, '$.authentication_string', '$.password_last_changed', '$.version_id'),
      ', "(auth_or": [[][{][}][]]|password_lifetime": -1|account_locked": false|(ssl_type|max_questions)": 0|(ssl_cipher|x509_issuer|x509_subject)": "")',
      '') AS row FROM mysql.global_priv
    UNION SELECT User, Host, CONCAT_WS(' ', Db, Select_priv, Insert_priv, Drop_priv, Grant_priv,
                                       Show_view_priv) FROM mysql.db
    UNION SELECT User, Host, CONCAT_WS(' ', Role, Admin_option) FROM mysql.roles_mapping
    UNION SELECT User, Host, CONCAT_WS(' ', Db, Table_name, Table_priv, Column_priv) FROM mysql.tables_priv
    UNION SELECT User, Host, CONCAT_WS(' ', Db, Routine_name, Proc_priv) FROM mysql.procs_priv
    UNION SELECT User, Host, CONCAT_WS(' ', Proxied_user, Proxied_host) FROM mysql.proxies_priv
  ) AS everything WHERE User REGEXP '^[su][0-9]+$' ORDER BY 1, 2, 3;`;

/** What slapd itself writes with every change. */
const OF_SLAPD = ['entryCSN', 'entryUUID', 'createTimestamp', 'creatorsName', 'modifyTimestamp'];

function ofEntry(entry: Entry): Entry {
  return Object.fromEntries(
    Object.entries(entry)
      .filter(([attribute]) => ![...OF_SLAPD, 'modifiersName'].includes(attribute))
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
}

/** The part of it that belongs to this subject. */
export function ownIn(seen: Outside, { account, dn, home, user }: Subject): Outside {
  return new Map(
    [...seen].filter(
      ([what]) =>
        what === dn ||
        what.startsWith(`cn=${account},`) ||
        what.startsWith(`cn=runas-${account},`) ||
        what === home ||
        what.startsWith(`${home}/`) ||
        what.endsWith(` ${user}`),
    ),
  );
}

/** For each subject: whether both servers know the password in its file. */
export async function passwordFaults(
  world: World,
  subjects: Iterable<Subject>,
): Promise<Map<Subject, string>> {
  const accounts = [await readAccounts(world, 'replica'), await readAccounts(world, 'tools')];
  const faults = new Map<Subject, string>();
  for (const subject of subjects) {
    const { kind, name, user } = subject;
    const file = readCredentials(world, kind === 'tool' ? { tool: name } : { person: name });
    const verifiers = accounts.map((all) => all.get(user)?.verifier);
    if (file.user !== user) faults.set(subject, `the file names ${file.user}`);
    else if (verifiers.some((each) => each !== verifierOf(file.password)))
      faults.set(subject, 'file and servers differ');
  }
  return faults;
}
