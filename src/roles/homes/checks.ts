/** What `chamberlain doctor` looks at for the role `homes`. */
import { lookAtArchives } from '../../doctor/archives.ts';
import { lookAtAreas } from '../../doctor/areas.ts';
import type { RoleChecks } from '../../doctor/role-checks.ts';

export const checksOf: RoleChecks['checksOf'] = ({ config, at }) => [
  at('this host', 'the areas of homes', 'Look at the file server.', () => lookAtAreas(config)),
  at('this host', 'the archives of homes', 'Look at the file server.', () =>
    lookAtArchives(config, 'homes'),
  ),
];
