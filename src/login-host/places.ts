/**
 * The paths of a login host. They are not configurable: authorized-keys, the units, the files of PAM and sudo
 * name the same paths.
 */
export interface Places {
  /** one key file for each person: root:chamberlain-lookup 2750, files 0640 */
  keys: string;
  /** the helper's own, root 0755: `seals` and `state.json` (0600), `status.json` and `closed` (0644) */
  login: string;
  /** the files of libnss-extrausers: passwd, group (0644), shadow (0640 root:shadow) */
  extrausers: string;
  /** one file of sudoers(5), 0440; its name must not contain a dot, or sudo skips it */
  sudoers: string;
  /** the agent writes to it: root:chamberlain-keys 0660, in a folder 0750 */
  socket: string;
  /** the local accounts: none of ours may have their names or numbers */
  passwd: string;
  group: string;
}

export const PLACES: Places = {
  keys: '/var/lib/chamberlain/keys',
  login: '/var/lib/chamberlain/login',
  extrausers: '/var/lib/extrausers',
  sudoers: '/etc/sudoers.d/chamberlain-tools',
  socket: '/run/chamberlain/login-helper.sock',
  passwd: '/etc/passwd',
  group: '/etc/group',
};
