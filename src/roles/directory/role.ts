/** The role `directory`: LDAP. */
import { realmMembership } from '../../targets/realm-membership.ts';
import { seal } from '../../targets/seal.ts';
import { sshKeys } from '../../targets/ssh-keys.ts';
import { sudoRule } from '../../targets/sudo-rule.ts';
import { unixAccount } from '../../targets/unix-account.ts';
import { unixGroup } from '../../targets/unix-group.ts';
import type { RoleDescriptor } from '../descriptor.ts';
import { DIRECTORY_COLUMNS } from './columns.ts';
import { DIRECTORY_VERBS } from './verbs.ts';

export const DIRECTORY_TARGETS = [
  unixGroup,
  unixAccount,
  seal,
  sshKeys,
  sudoRule,
  realmMembership,
] as const;

export const directory: RoleDescriptor<'directory'> = {
  name: 'directory',
  targets: DIRECTORY_TARGETS,
  verbs: DIRECTORY_VERBS,
  wanted: DIRECTORY_COLUMNS,
  touchedBy: {
    account: {},
    access: {},
    keys: {},
    members: {},
    memberOf: { target: unixAccount.name },
  },
  countsAll: true,
  connections: 30,
  rights: `
    GRANT SELECT ON tools, realm_members, maintainers, ssh_keys, names, posix_ids, login_seals
      TO chamberlain_directory, chamberlain_directory_reader;
    -- not why and by whom somebody was suspended
    GRANT SELECT (uid, shell_name, display_name, email, state, admitted_at) ON people
      TO chamberlain_directory, chamberlain_directory_reader;
    GRANT SELECT, INSERT ON unmanaged_sightings TO chamberlain_directory;
    -- the marker
    GRANT SELECT ON directory_heartbeat TO chamberlain_directory, chamberlain_directory_reader;
    GRANT UPDATE (doubt, older) ON directory_heartbeat TO chamberlain_directory;
    GRANT EXECUTE ON FUNCTION begin_publishing(timestamptz), end_publishing(timestamptz, text, text),
      freeze_older(text, timestamptz) TO chamberlain_directory;`,
  places: ({ ldap }) => [['directory', ldap.base]],
  server: ({ ldap }) => `the directory ${ldap.uri}`,
  stops: () => 'no account, group or key is changed, and login hosts renew no key',
  loadParts: async () => (await import('./worker.ts')).DIRECTORY,
  loadChecks: () => import('./checks.ts'),
};
