/** What `chamberlain doctor` looks at for the role `directory`. */
import { DIRECTORY_ACCOUNTS } from '../../../deploy/ldap/render.ts';
import { lookAtAccount, lookAtAnonymous, lookAtSlapd } from '../../doctor/directory.ts';
import type { RoleChecks } from '../../doctor/role-checks.ts';

export const checksOf: RoleChecks['checksOf'] = ({ config, at, server }) => {
  const directory = server('directory', `the directory ${config.ldap.uri}`, 'ldap');
  const { todo } = directory;
  return [
    ...DIRECTORY_ACCOUNTS.map((account) =>
      at('directory', `the directory, as ${account}`, todo, () => lookAtAccount(config, account), [
        directory,
      ]),
    ),
    at('directory', 'the directory', todo, () => lookAtAnonymous(config), [directory]),
    at('directory', "the directory's own rules", todo, () => lookAtSlapd(config), [directory]),
  ];
};
