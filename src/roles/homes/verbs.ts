/** The verbs of the role `homes`: what its writer can do. Pure. */
import type { Erasure } from '../../lifecycle/erased-person.ts';
import type { HomePath, SeenPath } from '../../reconcile/action.ts';
import type { VerbsOf } from '../descriptor.ts';

export type HomesAction =
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
      /** Packs what was withdrawn, reads all of it back, and records the manifest. */
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
      /** Adds the erasure to the list beside the archives, then removes what was withdrawn, which is in no archive. */
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
      /** Removes the parts of an archive that is no longer wanted and was never recorded. */
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
    };

declare module '../../reconcile/action.ts' {
  interface RoleActions {
    homes: HomesAction;
  }
}

const ofFolder = ({ folder }: { folder?: string }): string =>
  folder === undefined ? '' : ` of ${folder}`;
const theHome = () => 'the home of a leaving account';
const theArchive = () => 'the archive of the home';

export const HOMES_VERBS: VerbsOf<HomesAction> = {
  'dir.create': { part: () => 'the home' },
  'folder.create': { part: ({ folder }) => `the folder ${folder}` },
  'path.chmod': { part: (action) => `mode${ofFolder(action)}` },
  'path.chgrp': { part: (action) => `group${ofFolder(action)}` },
  'path.setAcl': { part: (action) => `default ACL${ofFolder(action)}` },
  'credentials.write': { part: () => 'the password' },
  'credentials.own': { part: () => 'owner, group or mode' },
  'home.withdraw': { part: theHome },
  'home.return': { part: theHome },
  'home.restore': { part: theHome, takesHours: true },
  'home.destroy': { part: theHome, takesHours: true },
  'home.erase': { part: theHome },
  'home.archive': { part: theArchive, takesHours: true },
  'home.removePart': { part: theArchive },
  'home.removeArchive': { part: theArchive },
};
