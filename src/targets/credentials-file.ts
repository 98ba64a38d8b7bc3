/** The file with an account's database user and password, in its home. */
import { CREDENTIALS_NAME } from '../credentials/credentials.ts';
import { databaseUser } from '../identity/posix-id.ts';
import type { WantedCredentials } from '../reconcile/wanted.ts';
import type { Effect, HomePath } from '../reconcile/action.ts';
import { NOTHING_TO_DO, type DraftStep } from '../reconcile/plan.ts';
import type { CredentialsFileHave, CredentialsHave, FilesReader } from './files-reader.ts';
import { layAnswers } from './files-reader.ts';
import { effectOfMode, formatMode, homeOf } from './home-directory.ts';
import type { Target } from './target.ts';

export interface CredentialsWant {
  home: HomePath;
  /** for people: `/data/project/bridgebot/replica.my.cnf` */
  path: string;
  user: string;
  uid: number;
  credentials: WantedCredentials;
  /** names of the database servers that receive the new verifier afterwards */
  servers: readonly string[];
}

/** Owner and group may read it; only the owner can make it writable. */
const CREDENTIALS_MODE = 0o440;

/**
 * Wanted: a file of the account whose password hashes to the recorded verifier, at the wanted epoch.
 *
 * | seen                                                     | step              | finding      |
 * | -------------------------------------------------------- | ----------------- | ------------ |
 * | no credentials wanted; home not ours (that is a finding) |                   |              |
 * | home absent (an earlier step creates it), no file        | credentials.write |              |
 * | a directory, or something that cannot be read            |                   | PATH_FOREIGN |
 * | link, FIFO, device, another's, empty, unparsable, large  | credentials.write |              |
 * | no verifier recorded, or one of another epoch            | credentials.write |              |
 * | another user or password in it                           | credentials.write |              |
 * | a password that works, and others or another group may   | credentials.write, a revoke |    |
 * | read it                                                  |                   |              |
 * | right, wrong owner, group or mode, with other links      | credentials.write |              |
 * | right, wrong owner, group or mode                        | credentials.own   |              |
 * | right, with other links                                  |                   |              |
 *
 * If others could read a password, they may know it: so the account gets a new password, not only a new mode,
 * and the old one stops working at once. Another link lets nobody read more than the file's own mode does, and
 * backups create such links, so it is no reason to replace a password. But owner and mode are never changed
 * under another's name.
 *
 * A rotation creates a new password for a higher epoch, first here and then on the servers. In a routine
 * rotation the previous one also works for a time (src/credentials/credentials-table.ts), so that at every
 * moment a server accepts what programs have read or what they will read.
 */
export const credentialsFile: Target<FilesReader, CredentialsWant | undefined, CredentialsHave> = {
  name: 'credentials-file',
  of: ['person', 'tool'],
  needs: ['home-directory'],

  want(wanted, realm) {
    const place = homeOf(wanted, realm);
    if (place === undefined || wanted.credentials === undefined) return undefined;
    return {
      home: place.home,
      path: `${place.path}/${CREDENTIALS_NAME}`,
      user: databaseUser(wanted.kind, wanted.uid),
      uid: wanted.uid,
      credentials: wanted.credentials,
      servers: realm.databaseServers.map((server) => server.name),
    };
  },

  describe(want) {
    if (want === undefined) return 'none';
    const { path, uid, user, credentials } = want;
    const owned = describeOwner({ uid, gid: uid, mode: CREDENTIALS_MODE });
    return `${path}, ${owned}, user ${user}, password number ${credentials.wantedEpoch}`;
  },

  async observe(reader, wanted, realm) {
    const wants = wanted.map((one) => credentialsFile.want(one, realm));
    const asked = wants.filter((want) => want !== undefined);
    const haves = await reader.readCredentials(
      asked.map(({ home, uid }) => ({ home, uid, folders: [] })),
    );
    return layAnswers(wants, haves, { home: 'absent' });
  },

  plan(want, have) {
    if (want === undefined || have.home === 'unmanaged') return NOTHING_TO_DO;
    const { home, uid, user, path: object } = want;
    const file: CredentialsFileHave = have.home === 'absent' ? { kind: 'absent' } : have.file;
    if (file.kind === 'blocked') {
      const sentence = `There is ${file.what} where a file should be. Move it away.`;
      return { steps: [], findings: [{ object, code: 'PATH_FOREIGN', sentence }] };
    }
    const because = whyNew(want, file);
    if (because !== undefined) {
      const epoch = want.credentials.wantedEpoch;
      const known = isKnown(want, file);
      const step: DraftStep = {
        object,
        effect: effectOf(file, known),
        change: `${file.kind === 'absent' ? 'absent' : 'present'} → new password${describeServers(want)}`,
        because,
        action: {
          verb: 'credentials.write',
          home,
          ...(have.home === 'ours' ? { seen: have.seen } : {}),
          user,
          uid,
          epoch,
          ...(known ? { known } : {}),
        },
      };
      return { steps: [step], findings: [] };
    }
    if (have.home !== 'ours' || file.kind !== 'regular' || isOwn(file, uid)) return NOTHING_TO_DO;
    const { seen } = file;
    const step: DraftStep = {
      object,
      effect: effectOfMode(seen.mode, CREDENTIALS_MODE),
      change: `${describeOwner(seen)} → ${describeOwner({ uid, gid: uid, mode: CREDENTIALS_MODE })}`,
      because: 'its owner, group or mode is wrong',
      action: {
        verb: 'credentials.own',
        home,
        seen: have.seen,
        file: seen,
        uid,
        mode: CREDENTIALS_MODE,
      },
    };
    return { steps: [step], findings: [] };
  },
};

/** Why the account must get a new password; undefined if its password is right. */
function whyNew(want: CredentialsWant, file: CredentialsFileHave): string | undefined {
  const { recorded, wantedEpoch } = want.credentials;
  if (file.kind === 'absent') return 'it does not exist';
  if (file.kind === 'irregular') return `instead of the credentials file there is ${file.what}`;
  if (recorded === undefined) return 'no verifier is recorded';
  if (recorded.epoch !== wantedEpoch) {
    return `password number ${wantedEpoch} is wanted, ${recorded.epoch} is recorded`;
  }
  if (file.kind !== 'regular') return undefined;
  if (file.user !== want.user) return 'it names another user';
  if (file.verifier !== recorded.verifier) return 'its password is not the recorded one';
  const known = whoElse(want, file);
  if (known !== undefined) return known;
  if (!isOwn(file, want.uid) && file.links !== 1) {
    return 'its owner, group or mode is wrong, and it has another hard link';
  }
  return undefined;
}

/** Who may know the password besides the account, as a sentence. */
function whoElse({ uid }: CredentialsWant, file: CredentialsFileHave): string | undefined {
  if (file.kind !== 'regular') return undefined;
  const { mode, gid } = file.seen;
  if ((mode & 0o007) !== 0) return 'others can read or change the file';
  if (gid !== uid && (mode & 0o070) !== 0) return `group ${gid} can read or change the file`;
  return undefined;
}

/** Whether others may know a password that opens something. */
function isKnown(want: CredentialsWant, file: CredentialsFileHave): boolean {
  if (whoElse(want, file) === undefined || file.kind !== 'regular') return false;
  const { recorded } = want.credentials;
  return file.verifier === recorded?.verifier || file.verifier === recorded?.previous;
}

/** If others may know the password, the step revokes what it gives access to. */
function effectOf({ kind }: CredentialsFileHave, known: boolean): Effect {
  if (kind === 'absent') return 'create';
  return known ? 'revoke' : 'change';
}

function isOwn(file: { seen: { uid: number; gid: number; mode: number } }, uid: number): boolean {
  const { seen } = file;
  return seen.uid === uid && seen.gid === uid && seen.mode === CREDENTIALS_MODE;
}

function describeOwner(path: { uid: number; gid: number; mode: number }): string {
  return `${path.uid}:${path.gid} ${formatMode(path.mode)}`;
}

/** What the role `databases` does after new credentials. */
function describeServers(want: CredentialsWant): string {
  if (want.servers.length === 0) return '';
  return `; then its verifier for ${want.user} on ${want.servers.join(', ')}`;
}
