/** How the targets of the role `homes` read the file server. A backend implements it. */
import { ChamberlainError } from '../shared/errors.ts';
import type { Erasure } from '../lifecycle/erased-person.ts';
import type { HomePath, SeenPath } from '../reconcile/action.ts';

/** What to read: a home, its expected owner, and the folders in it that matter. */
export interface AskedHome {
  home: HomePath;
  uid: number;
  folders: readonly string[];
}

/**
 * Whether a folder's default ACL keeps group write for what is created in it. `unknown` if the area keeps no
 * default ACLs (homes of people, or a file system without them), or if the folder was removed meanwhile.
 */
export type GroupWrite = 'kept' | 'lost' | 'unknown';

/** A path that should be a directory; `what` names what it is instead, such as `a symbolic link`. */
export type FolderHave =
  | { kind: 'absent' }
  | { kind: 'irregular'; what: string }
  | { kind: 'directory'; seen: SeenPath; groupWrite: GroupWrite };

/** A home. Its folders are read only if it belongs to the uid that was asked for. */
export type HomeHave =
  | Exclude<FolderHave, { kind: 'directory' }>
  | {
      kind: 'directory';
      seen: SeenPath;
      groupWrite: GroupWrite;
      folders: Record<string, FolderHave>;
    };

/**
 * The credentials file in a home. `blocked`: what is there cannot be replaced by a rename, or cannot be read.
 * `irregular`: it can be replaced. The password itself never leaves the backend.
 */
export type CredentialsFileHave =
  | { kind: 'absent' }
  | { kind: 'blocked'; what: string }
  | { kind: 'irregular'; what: string }
  | { kind: 'regular'; seen: SeenPath; links: number; user: string; verifier: string };

/** `unmanaged`: the home is not a directory, or is another's; nothing in it was read. */
export type CredentialsHave =
  | { home: 'absent' }
  | { home: 'unmanaged' }
  | { home: 'ours'; seen: SeenPath; file: CredentialsFileHave };

/** What to read of an archived home: its place, what was withdrawn, and its archive. */
export interface AskedArchive {
  home: HomePath;
  account: string;
  uid: number;
  archival: number;
  /** SHA-256 of the recorded manifest */
  manifest: string | undefined;
  /** the person is erased: whether the list next to the archives says so is read, too */
  erasure?: Erasure | undefined;
}

export interface ArchiveHave {
  /** what is at the home's place */
  place:
    | { kind: 'absent' }
    | { kind: 'irregular'; what: string }
    | { kind: 'directory'; seen: SeenPath };
  /** what was withdrawn is there, complete */
  left: boolean;
  /** its removal has begun */
  going: boolean;
  /**
   * If a manifest is recorded, what the archive with exactly that manifest holds. `other`: another archive is
   * there. `emptied`: its folder is there, but empty, because its removal was interrupted. `unrecorded`: no
   * manifest is recorded, but something is there, complete or not. `absent`: nothing is there.
   */
  archive: 'absent' | 'emptied' | 'unrecorded' | 'other' | 'nothing' | 'home';
  /** read only for an erased person */
  isListed?: boolean;
  /** likewise: something that was withdrawn at any time, or belongs to any archive, recorded or not */
  leftovers?: boolean;
}

/**
 * Each returns one answer for each question, in order, and throws BACKEND_UNREADABLE if an area cannot be read,
 * for example because it is not mounted.
 */
export interface FilesReader {
  readHomes(asked: readonly AskedHome[]): Promise<HomeHave[]>;
  readCredentials(asked: readonly AskedHome[]): Promise<CredentialsHave[]>;
  readArchives(asked: readonly AskedArchive[]): Promise<ArchiveHave[]>;
}

/**
 * Pairs the answers with the wants: `notWanted` if nothing is wanted, so nothing was asked. Fewer answers than
 * questions are BACKEND_UNREADABLE: what was not read must not be taken for absent.
 */
export function layAnswers<Have>(
  wants: readonly unknown[],
  answers: readonly Have[],
  notWanted: Have,
): Have[] {
  let next = 0;
  const laid = wants.map((want) => (want === undefined ? notWanted : answers[next++]));
  const whole = laid.filter((have) => have !== undefined);
  if (whole.length !== wants.length || next !== answers.length) {
    throw new ChamberlainError('BACKEND_UNREADABLE', 'reading homes', {
      context: { asked: next, answered: answers.length },
    });
  }
  return whole;
}
