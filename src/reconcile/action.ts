/**
 * The verbs: everything that writer can do to the outside world. A union of plain JSON, role by role
 * (src/roles/<role>/verbs.ts); never a secret; each carries what was seen, so that writer refuse a step that is stale.
 */

/**
 * An entry of the directory as targets speak of it: its place, its naming attribute, its name.
 * Text form `<place>/<attribute>=<name>`, e.g. `toolGroups/cn=tools.bridgebot`. Only the LDAP edge
 * turns it into a DN and back. DN-valued attributes (member, pwdPolicySubentry) hold this text form
 * for entries inside the realm's places, and `dn:<DN>` for any other.
 */
export type EntryRef = `${Place}/${string}=${string}`;

/**
 * people `ou=people` · toolAccounts `ou=people,ou=servicegroups` · toolGroups `ou=servicegroups` ·
 * groups `ou=groups` · sudoRules `ou=sudoers,cn=<realm>,ou=projects` · policies `ou=ppolicies` ·
 * base (the marker `cn=chamberlain`), each below the base DN.
 */
export type Place =
  'people' | 'toolAccounts' | 'toolGroups' | 'groups' | 'sudoRules' | 'policies' | 'base';

/** Attribute values by name; every value a string, each attribute sorted and without doubles. */
export type Attributes = Record<string, string[]>;

/** A path on the file server: the area and the home's name; edges know where areas lie. */
export interface HomePath {
  area: 'toolHomes' | 'personHomes';
  name: string;
}

/** What `lstat` and an open descriptor said of a path when it was surveyed. */
export interface SeenPath {
  ino: number;
  uid: number;
  gid: number;
  /** permission bits, with setuid, setgid and sticky: `st_mode & 0o7777` */
  mode: number;
}

/**
 * The actions of each role. Each role adds its verbs in its own folder, by declaration merging.
 *
 * @public
 */
export interface RoleActions {}

export type Action = RoleActions[keyof RoleActions];

/** create · change · revoke (access goes, data stays) · destroy */
export type Effect = 'create' | 'change' | 'revoke' | 'destroy';
