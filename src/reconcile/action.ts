/**
 * The verbs: everything that writer can do to the outside world. A closed union of plain JSON;
 * never a secret; each carries what was seen, so that writer refuse a step that is stale.
 */

import type { Erasure } from '../lifecycle/erased-person.ts';

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

export type Action =
  | { verb: 'ldap.add'; entry: EntryRef; attributes: Attributes }
  | {
      verb: 'ldap.modify';
      entry: EntryRef;
      /** refused unless the entry (still) has these values */
      expect: Record<string, string>;
      changes: { attribute: string; remove: string[]; add: string[] }[];
    }
  | { verb: 'ldap.delete'; entry: EntryRef; expect: Record<string, string> }
  | {
      verb: 'dir.create';
      home: HomePath;
      uid: number;
      gid: number;
      mode: number;
      /** folders inside it, same owner and mode */
      folders: string[];
      /** fill it from the configured skeleton */
      skeleton: boolean;
    }
  | { verb: 'path.chmod'; home: HomePath; folder?: string; seen: SeenPath; mode: number }
  | { verb: 'path.chgrp'; home: HomePath; folder?: string; seen: SeenPath; gid: number }
  | { verb: 'path.setAcl'; home: HomePath; folder?: string; seen: SeenPath }
  | {
      verb: 'folder.create';
      home: HomePath;
      folder: string;
      uid: number;
      gid: number;
      mode: number;
      /** the home that it goes into */
      seen: SeenPath;
    }
  | {
      /** Makes a new password, records its verifier, and puts the file in place. */
      verb: 'credentials.write';
      home: HomePath;
      /** the home; left out where a step before this one makes it: then its owner alone must fit */
      seen?: SeenPath;
      user: string;
      uid: number;
      epoch: number;
      /** others may know the password that works now: it has no overlap */
      known?: true;
    }
  | {
      verb: 'credentials.own';
      home: HomePath;
      /** the home, then the file in it */
      seen: SeenPath;
      file: SeenPath;
      uid: number;
      mode: number;
    }
  | {
      /** Takes a home out of reach: it is renamed into root's own folder, and stands still from then on. */
      verb: 'home.withdraw';
      home: HomePath;
      uid: number;
      archival: number;
      seen: SeenPath;
    }
  | {
      /** Packs what was withdrawn, reads it back whole, and records the manifest. */
      verb: 'home.archive';
      home: HomePath;
      uid: number;
      archival: number;
    }
  | {
      /** Removes what was withdrawn; refused unless this is the manifest of its archive. */
      verb: 'home.destroy';
      home: HomePath;
      uid: number;
      archival: number;
      manifest: string;
    }
  | {
      /** Notes an erasure by law in the list beside the archives, then removes what was withdrawn, which no archive has. */
      verb: 'home.erase';
      home: HomePath;
      account: string;
      uid: number;
      archival: number;
      erasure: Erasure;
    }
  | {
      /** Puts what was withdrawn back into its place. */
      verb: 'home.return';
      home: HomePath;
      uid: number;
      archival: number;
    }
  | {
      /** Unpacks the archive with this manifest, compares, and puts it into its place. */
      verb: 'home.restore';
      home: HomePath;
      uid: number;
      archival: number;
      manifest: string;
    }
  | {
      /** Removes what is made of an archive that is wanted no more, and was never recorded. */
      verb: 'home.removePart';
      home: HomePath;
      uid: number;
      archival: number;
    }
  | {
      /** Removes an archive that was kept long enough; refused unless its manifest is this one. */
      verb: 'home.removeArchive';
      home: HomePath;
      uid: number;
      archival: number;
      manifest: string;
    }
  | {
      /** refused where the user is there already */
      verb: 'db.createUser';
      server: string;
      user: string;
      uid: number;
      epoch: number;
      /** as in db.setVerifier */
      overlaps: boolean;
      maxUserConnections: number;
      locked: boolean;
      grants: string[];
    }
  | {
      /** Dumps the user's own databases on every server of tools, reads all back, records the manifest. */
      verb: 'databases.archive';
      user: string;
      account: string;
      uid: number;
      archival: number;
      servers: string[];
    }
  | {
      /** Refused unless the archive with this manifest holds the database. */
      verb: 'databases.drop';
      server: string;
      user: string;
      account: string;
      database: string;
      archival: number;
      manifest: string;
    }
  | {
      /** Drops what no archive has: an erasure by law. */
      verb: 'databases.erase';
      server: string;
      user: string;
      account: string;
      database: string;
      archival: number;
    }
  | {
      /** Removes every archive of the account, recorded or not: an erasure by law. */
      verb: 'databases.eraseArchives';
      user: string;
      account: string;
      archival: number;
    }
  | {
      /** Loads from the archive with this manifest what is not there, or not there whole. */
      verb: 'databases.restore';
      server: string;
      user: string;
      account: string;
      archival: number;
      manifest: string;
    }
  | {
      /** Removes what is made of an archive that is wanted no more, and was never recorded. */
      verb: 'databases.removePart';
      user: string;
      account: string;
      archival: number;
    }
  | {
      /** Removes an archive that was kept long enough; refused unless its manifest is this one. */
      verb: 'databases.removeArchive';
      user: string;
      account: string;
      archival: number;
      manifest: string;
    }
  | {
      /** Makes the passwords recorded for the epoch the only ways in. */
      verb: 'db.setVerifier';
      server: string;
      user: string;
      uid: number;
      epoch: number;
      /** whether the password before works as well; refused where that is no longer so */
      overlaps: boolean;
      /** a way in goes: the user's connections end, and this is their limit afterwards */
      ends?: { maxUserConnections: number };
    }
  | {
      verb: 'db.setLimit';
      server: string;
      user: string;
      maxUserConnections: number;
      /** the user's connections end first: an earlier run was cut before they had */
      ends: boolean;
    }
  | { verb: 'db.grant'; server: string; user: string; grants: string[] }
  | {
      /** Takes everything, ends the user's connections, and gives `keep` again. */
      verb: 'db.revoke';
      server: string;
      user: string;
      /** what is too much */
      grants: string[];
      keep: string[];
      /** whether the account is locked afterwards: it is locked meanwhile */
      locked: boolean;
    }
  | {
      /** Locking ends the user's connections too, and what its events do. */
      verb: 'db.setLocked';
      server: string;
      user: string;
      locked: boolean;
      maxUserConnections: number;
      /** the patterns of databases on which the right EVENT goes with it */
      withoutEventsOn: string[];
    }
  | { verb: 'db.dropUser'; server: string; user: string };

/** create · change · revoke (access goes, data stays) · destroy */
export type Effect = 'create' | 'change' | 'revoke' | 'destroy';
