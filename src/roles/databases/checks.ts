/** What `chamberlain doctor` looks at for the role `databases`. */
import { lookAtArchives } from '../../doctor/archives.ts';
import { lookAsReader, lookAsWriter } from '../../doctor/databases.ts';
import type { RoleChecks } from '../../doctor/role-checks.ts';

export const checksOf: RoleChecks['checksOf'] = ({ config, root, at, server }) => [
  ...config.databases.servers.flatMap((each) => {
    const its = server(each.name, each.name, 'databases.servers');
    return [lookAsReader, lookAsWriter].map((lookAs) =>
      at('databases', each.name, its.todo, () => lookAs(config, each, root), [its]),
    );
  }),
  at(
    'this host',
    'the archives of databases',
    'Look at the disk or the server that the folder is on.',
    () => lookAtArchives(config, 'databases'),
  ),
];
