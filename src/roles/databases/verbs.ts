/** The verbs of the role `databases`: what its writer can do. Pure. */
import type { VerbsOf } from '../descriptor.ts';

export type DatabasesAction =
  | {
      /** refused if the user already exists */
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
      /** Dumps the user's own databases on every server of tools, reads all dumps back, and records the manifest. */
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
      /** Drops a database that is in no archive: an erasure. */
      verb: 'databases.erase';
      server: string;
      user: string;
      account: string;
      database: string;
      archival: number;
    }
  | {
      /** Removes every archive of the account, recorded or not: an erasure. */
      verb: 'databases.eraseArchives';
      user: string;
      account: string;
      archival: number;
    }
  | {
      /** Loads from the archive with this manifest the databases that are missing or incomplete. */
      verb: 'databases.restore';
      server: string;
      user: string;
      account: string;
      archival: number;
      manifest: string;
    }
  | {
      /** Removes the parts of an archive that is no longer wanted and was never recorded. */
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
      /** whether the previous password also works; refused if that is no longer so */
      overlaps: boolean;
      /** a password stops working: the user's connections end, and this is their limit afterwards */
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
      /** Revokes everything, ends the user's connections, and grants `keep` again. */
      verb: 'db.revoke';
      server: string;
      user: string;
      /** what is too much */
      grants: string[];
      keep: string[];
      /** whether the account stays locked afterwards; it is locked meanwhile */
      locked: boolean;
    }
  | {
      /** Locking ends the user's connections too, and what its events do. */
      verb: 'db.setLocked';
      server: string;
      user: string;
      locked: boolean;
      maxUserConnections: number;
      /** the patterns of databases on which the EVENT right goes with it */
      withoutEventsOn: string[];
    }
  | { verb: 'db.dropUser'; server: string; user: string };

declare module '../../reconcile/action.ts' {
  interface RoleActions {
    databases: DatabasesAction;
  }
}

const theArchive = () => 'the archive of the databases';
const databasesOn = ({ server }: { server: string }) => `databases on ${server}`;
const accountOn = ({ server }: { server: string }) => `the account on ${server}`;
const grantsOn = ({ server }: { server: string }) => `grants on ${server}`;

export const DATABASES_VERBS: VerbsOf<DatabasesAction> = {
  'databases.archive': { part: theArchive, takesHours: true },
  'databases.eraseArchives': { part: theArchive },
  'databases.removePart': { part: theArchive },
  'databases.removeArchive': { part: theArchive },
  'databases.drop': { part: databasesOn, takesHours: true },
  'databases.erase': { part: databasesOn },
  'databases.restore': { part: databasesOn, takesHours: true },
  'db.createUser': { part: accountOn },
  'db.dropUser': { part: accountOn, losesNothing: true },
  'db.setVerifier': { part: ({ server }) => `the verifier on ${server}` },
  'db.setLimit': { part: ({ server }) => `the connection limit on ${server}` },
  'db.grant': { part: grantsOn },
  'db.revoke': { part: grantsOn },
  'db.setLocked': { part: ({ server }) => `the lock on ${server}` },
};
