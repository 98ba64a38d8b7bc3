/** Drift by hand, in every target, each on a subject of its own. */
import { chmodSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../dev/servers/daemon.ts';
import { administer } from '../../dev/servers/mariadb.ts';
import {
  maintainersOf,
  personName,
  TOOLS_FIRST,
  toolName,
} from '../population/population-names.ts';
import type { Population } from '../population/population.ts';
import type { MeasuredRealm } from '../realm.ts';
import { personDn } from '../tools/shapes.ts';

/** Damages `count` subjects or a few less, equally many for each target; returns how many. */
export async function damage(
  realm: MeasuredRealm,
  population: Population,
  count: number,
): Promise<number> {
  const { stack, config } = realm;
  const { base } = config.ldap;
  const each = Math.floor(count / 9);
  let taken = 0;
  const next = () => {
    taken += each;
    return Array.from({ length: each }, (_, n) => taken - each + n);
  };
  const account = (n: number) => `${config.realm}.${toolName(n)}`;
  const modify = (dn: string, ...lines: string[]) =>
    [`dn: ${dn}`, 'changetype: modify', ...lines, '-', '', ''].join('\n');
  const group = `cn=project-${config.realm},ou=groups,${base}`;
  const ldif = [
    ...next().map((n) => {
      const [maintainer = 0] = maintainersOf(n, population);
      const member = personDn(personName(maintainer), realm);
      return modify(
        `cn=${account(n)},ou=servicegroups,${base}`,
        'delete: member',
        `member: ${member}`,
      );
    }),
    ...next().map((n) =>
      modify(
        `uid=${account(n)},ou=people,ou=servicegroups,${base}`,
        'replace: loginShell',
        'loginShell: /bin/false',
      ),
    ),
    ...next().map((n) => modify(personDn(personName(n), realm), 'delete: sshPublicKey')),
    ...next().map((n) => modify(personDn(personName(n), realm), 'delete: chamberlainSeal')),
    ...next().map(
      (n) =>
        `dn: cn=runas-${account(n)},ou=sudoers,cn=${config.realm},ou=projects,${base}\nchangetype: delete\n\n`,
    ),
    modify(
      group,
      'delete: member',
      ...next().map((n) => `member: ${personDn(personName(n), realm)}`),
    ),
  ].join('');
  const { root, toolHomes, personHomes } = config.files;
  for (const n of next()) chmodSync(`${root}${toolHomes}/${toolName(n)}`, 0o777);
  for (const n of next()) unlinkSync(`${root}${personHomes}/${personName(n)}/replica.my.cnf`);
  const users = next().map((n) => `'s${TOOLS_FIRST + n}'`);
  const tables = ['global_priv', 'roles_mapping'];
  const sql = tables.map(
    (table) => `DELETE FROM mysql.${table} WHERE User IN (${users.join(', ')});`,
  );
  const admin = `cn=directory,ou=chamberlain,${base}`;
  const password = join(config.secrets, 'ldap-directory');
  await Promise.all([
    run('/usr/bin/ldapmodify', ['-x', '-H', stack.slapd.uri, '-D', admin, '-y', password], {
      input: ldif,
    }),
    administer(stack.replica.socket, `${sql.join('\n')} FLUSH PRIVILEGES;`),
  ]);
  return taken;
}
